"""
A file larger than the memory that is used
==========================================

`partial_fit` makes one pass over the rows it is given, so a file can be learned from
chunk by chunk. Here a file of half a gigabyte is mapped into memory a chunk at a time:
the rows are used where they lie, without a copy, and the chunk before is released.

What is measured is the largest amount of memory that the process has held so far
(``ru_maxrss``), mapped pages of the file included. The operating system may keep the
file in its own cache as well, as long as nobody needs that memory.

Prints what happened and writes ``streaming.png`` beside this file. The data are written
to a temporary directory and deleted. Needs a Unix (for ``resource``) and runs in
seconds::

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

from skbgd import BGDClassifier, LossCurveDisplay

MB = 1e6
N_CHUNKS, CHUNK_ROWS, N_FEATURES = 100, 20_000, 64
CHUNK_BYTES = 4 * CHUNK_ROWS * N_FEATURES  # float32


def peak_memory():
    """The most that this process has held in memory so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB


# %%
# The data: whether a network of 12 random neurons fires. They are written in pieces
# much smaller than a chunk: the largest memory is not to be that of this preparation.
rng = np.random.default_rng(0)
teacher = rng.normal(size=(N_FEATURES, 12)) / np.sqrt(N_FEATURES), rng.normal(size=12)


def make_rows(n_rows):
    X = rng.standard_normal((n_rows, N_FEATURES), dtype=np.float32)
    return X, np.tanh(3 * X @ teacher[0]) @ teacher[1] > 0


def write(directory, n_rows, piece=1000):
    with (
        open(directory / "X", "wb") as X_file,
        open(directory / "y", "wb") as y_file,
    ):
        for _ in range(n_rows // piece):
            X, y = make_rows(piece)
            X.tofile(X_file)
            y.tofile(y_file)


# %%
# Learning: each chunk is mapped, learned from in mini-batches of 64 rows, and released.
# One map of the whole file would do too, but all pages read would count as held until
# the system wants them back. The accuracy on other rows is taken on the way.
def learn(directory, clf, X_test, y_test):
    memory, accuracy = [], []
    for k in range(N_CHUNKS):
        X = np.memmap(
            directory / "X",
            dtype=np.float32,
            mode="r",
            offset=k * CHUNK_BYTES,
            shape=(CHUNK_ROWS, N_FEATURES),
        )
        y = np.fromfile(
            directory / "y", dtype=bool, count=CHUNK_ROWS, offset=k * CHUNK_ROWS
        )
        clf.partial_fit(X, y, classes=[False, True])
        memory.append(peak_memory())
        accuracy.append(clf.score(X_test, y_test))
    return memory, accuracy


clf = BGDClassifier((32,), batch_size=64, learning_rate=0.2, random_state=0)
with tempfile.TemporaryDirectory() as name:
    directory = Path(name)
    write(directory, n_rows=N_CHUNKS * CHUNK_ROWS)
    file_size = (directory / "X").stat().st_size / MB
    X_test, y_test = make_rows(5000)
    before = peak_memory()
    start = time.perf_counter()
    memory, accuracy = learn(directory, clf, X_test, y_test)
    seconds = time.perf_counter() - start

# %%
# The process needs what Python and its libraries need, and a chunk; all it holds
# together is less than the file, and learning added almost nothing.
print(f"file                                  {file_size:7.0f} MB, {clf.t_:,} rows")
print(f"most memory held before learning      {before:7.0f} MB")
print(f"most memory held after the first chunk{memory[0]:7.0f} MB")
print(f"most memory held in the end           {memory[-1]:7.0f} MB")
print(f"learning, with tests in between       {seconds:7.1f} s")
print(f"learning alone                        {clf.seconds_curve_[-1]:7.1f} s")
print(f"accuracy on new rows, first chunk     {accuracy[0]:7.3f}")
print(f"accuracy on new rows, in the end      {accuracy[-1]:7.3f}")
assert memory[-1] < file_size / 2
assert memory[-1] - memory[0] < 3 * CHUNK_BYTES / MB

# %%
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(13, 4.2), layout="constrained"
)
read = np.arange(1, N_CHUNKS + 1) * CHUNK_BYTES / MB
left.plot(read, read, color="0.4", linestyle="--", label="what was read of the file")
left.plot(read, memory, label="most memory held so far")
left.set(
    xlabel="Read (MB)", ylabel="MB", ylim=(0, None), title="Memory of the whole process"
)
left.legend()
LossCurveDisplay.from_estimator(clf, x="updates", ax=middle)
middle.set(title="Loss of each chunk, as it was learned")
right.plot(read, accuracy)
right.set(xlabel="Read (MB)", ylabel="Accuracy", title="Accuracy on 5000 other rows")
for ax in (left, middle, right):
    ax.grid(alpha=0.3)
path = Path(__file__).with_name("streaming.png")
figure.savefig(path, dpi=100)
print(f"Picture: {path}")
