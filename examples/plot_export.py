"""
A trained network outside of Python
===================================

A fitted Pipeline is exported as an ONNX graph, a file that onnxruntime reads from C++,
C#, Java, JavaScript or Rust, without Python, scikit-learn or this package. Importing
:mod:`skbgd.onnx` lets skl2onnx convert the classifier.

The graph gives the same labels, and the same probabilities to rounding. It predicts a
single sample many times faster, because it skips Python and scikit-learn's checks. For
many samples at once these take little of the time.

Prints a table and writes ``export.png`` beside this file. Needs
``pip install "skbgd[onnx,examples]" onnxruntime`` and runs in seconds::

    python examples/plot_export.py
"""

# %%
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skbgd.onnx  # noqa: F401
from skbgd import BGDClassifier

# %%
# Train in float32: the graph computes in the precision of the samples it is made for.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype(np.float32), y, random_state=0
)
ours = make_pipeline(
    StandardScaler(),
    BGDClassifier((32,), batch_size=32, max_iter=30, tol=None, random_state=0),
).fit(X_train, y_train)
theirs = make_pipeline(
    StandardScaler(),
    MLPClassifier((32,), batch_size=32, max_iter=100, tol=1e9, n_iter_no_change=30),
).fit(X_train, y_train)

# %%
# Export, and read the file as a service would. One sample tells the number of features
# and their type. Without `zipmap` the probabilities are an array.
graph = to_onnx(ours, X_train[:1], options={"zipmap": False})
with TemporaryDirectory() as folder:
    path = Path(folder, "digits.onnx")
    path.write_bytes(graph.SerializeToString())
    print(f"{path.name}: {path.stat().st_size} bytes, {len(graph.graph.node)} nodes")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

(samples,) = session.get_inputs()
label, P = session.run(None, {samples.name: X_test})
difference = np.abs(P - ours.predict_proba(X_test)).max()
print(f"Labels that differ: {(label != ours.predict(X_test)).sum()} of {len(label)}")
print(f"Largest difference of a probability: {difference:.1e}\n")


# %%
# The time of a prediction, the shortest of many calls: 1 sample, and 10 000.
def shortest_time(function, X, n_calls):
    function(X)
    times = []
    for _ in range(n_calls):
        start = perf_counter()
        function(X)
        times.append(perf_counter() - start)
    return min(times)


many = X_test[np.arange(10_000) % len(X_test)]
ways = {
    "MLPClassifier": theirs.predict_proba,
    "BGDClassifier": ours.predict_proba,
    "BGDClassifier in onnxruntime": lambda X: session.run(None, {samples.name: X}),
}
print(f"{'':30}{'1 sample':>12}{'10 000 samples':>16}")
times = {}
for name, function in ways.items():
    times[name] = [
        shortest_time(function, X_test[:1], 500), shortest_time(function, many, 20)
    ]  # fmt: skip
    one, all_samples = times[name]
    print(f"{name:30}{one * 1e6:9.0f} us{all_samples * 1e3:13.1f} ms")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for k, (ax, title, unit, factor) in enumerate(
    zip(axes, ("1 sample", "10 000 samples"), ("µs", "ms"), (1e6, 1e3), strict=True)
):
    values = [factor * times[name][k] for name in ways]
    bars = ax.barh(list(ways), values, color=["0.6", "#0072B2", "#E69F00"])
    ax.bar_label(bars, fmt="%.3g", padding=3)
    ax.set(title=title, xlabel=f"Time of predict_proba ({unit})")
    ax.margins(x=0.15)
    ax.invert_yaxis()
axes[1].set_yticklabels([])
figure.suptitle("Exporting makes the prediction of single samples much faster")
if "__file__" in globals():  # a notebook shows the figure
    picture = Path(__file__).with_name("export.png")
    figure.savefig(picture, dpi=110)
    print(f"\nPicture: {picture}")
