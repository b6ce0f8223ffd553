"""
Training on a file larger than the memory used
==============================================

`partial_fit` makes one pass over the samples it is given, so a network can learn from a
file chunk by chunk. Here a file of half a gigabyte is mapped into memory one chunk at a
time. The samples are used where they are, without a copy, and each chunk is released
before the next.

The memory is the largest amount that the process has held so far (``ru_maxrss``), with
the mapped pages of the file. The operating system may keep the file in its own cache as
well, as long as no process needs that memory.

Prints a table and writes ``streaming.png`` beside this file. The data are written to a
temporary directory and deleted. Needs a Unix (for ``resource``) and runs in seconds::

    python examples/plot_streaming.py
"""

# %%
import resource
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skbgd import BGDClassifier

MB = 1e6
N_CHUNKS, CHUNK_SIZE, N_FEATURES = 100, 20_000, 64
CHUNK_BYTES = 4 * CHUNK_SIZE * N_FEATURES  # float32
NETWORK = {
    "hidden_layer_sizes": (32,),
    "activation": "logistic",
    "batch_size": 64,
    "random_state": 0,
}


def peak_memory():
    """The most memory that this process has held so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB


# %%
# The data: a network of 12 random neurons decides the class. They are written in small
# pieces, so that the peak memory is not that of this preparation.
rng = np.random.default_rng(0)
teacher = rng.normal(size=(N_FEATURES, 12)) / np.sqrt(N_FEATURES), rng.normal(size=12)


def make_samples(n_samples):
    X = rng.standard_normal((n_samples, N_FEATURES), dtype=np.float32)
    return X, np.tanh(3 * X @ teacher[0]) @ teacher[1] > 0


def write(directory, n_samples, piece=1000):
    with (
        open(directory / "X", "wb") as X_file,
        open(directory / "y", "wb") as y_file,
    ):
        for _ in range(n_samples // piece):
            X, y = make_samples(piece)
            X.tofile(X_file)
            y.tofile(y_file)


# %%
# Training: map a chunk, train on it in mini-batches, release it. Mapping the whole file
# once would work too, but all pages read would count until the system wants them back.
# After each chunk the accuracy on other samples is measured.
def train(directory, clf, X_test, y_test):
    memory, accuracy = [], []
    for k in range(N_CHUNKS):
        X = np.memmap(
            directory / "X",
            dtype=np.float32,
            mode="r",
            offset=k * CHUNK_BYTES,
            shape=(CHUNK_SIZE, N_FEATURES),
        )
        y = np.fromfile(
            directory / "y", dtype=bool, count=CHUNK_SIZE, offset=k * CHUNK_SIZE
        )
        clf.partial_fit(X, y, classes=[False, True])
        memory.append(peak_memory())
        accuracy.append(clf.score(X_test, y_test))
    return memory, accuracy


clf = BGDClassifier(**NETWORK)
with tempfile.TemporaryDirectory() as name:
    directory = Path(name)
    write(directory, n_samples=N_CHUNKS * CHUNK_SIZE)
    file_size = (directory / "X").stat().st_size / MB
    X_test, y_test = make_samples(5000)
    before = peak_memory()
    start = time.perf_counter()
    memory, accuracy = train(directory, clf, X_test, y_test)
    seconds = time.perf_counter() - start

# %%
# The process needs memory for Python, its libraries and one chunk: less than the file
# in all. Training adds almost nothing.
print(f"file                                 {file_size:7.0f} MB, {clf.t_:,} samples")
print(f"peak memory before training          {before:7.0f} MB")
print(f"peak memory after the first chunk    {memory[0]:7.0f} MB")
print(f"peak memory at the end               {memory[-1]:7.0f} MB")
print(f"training and testing                 {seconds:7.1f} s")
print(f"training alone                       {clf.seconds_curve_[-1]:7.1f} s")
print(f"test accuracy after the first chunk  {accuracy[0]:7.3f}")
print(f"test accuracy at the end             {accuracy[-1]:7.3f}")
assert memory[-1] < file_size / 2
assert memory[-1] - memory[0] < 3 * CHUNK_BYTES / MB

# %%
plt.style.use("seaborn-v0_8-colorblind")
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
read = np.arange(1, N_CHUNKS + 1) * CHUNK_BYTES / MB
left.plot(read, read, color="0.4", linestyle="--", label="read from the file")
left.plot(read, memory, label="peak memory of the process")
left.set(
    xlabel="Read from the file (MB)",
    ylabel="MB",
    ylim=(0, None),
    title="The memory used stays the same",
)
left.legend()
right.plot(read, accuracy)
right.set(
    xlabel="Read from the file (MB)",
    ylabel="Accuracy on 5000 other samples",
    title="The accuracy grows with what was read",
)
for ax in (left, right):
    ax.grid(alpha=0.3)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("streaming.png")
    figure.savefig(path, dpi=100)
    print(f"Picture: {path}")
