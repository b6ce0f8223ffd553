"""
How the default hyper-parameters were chosen
============================================

Compares `BGDClassifier()` and `BGDClassifier(solver="adam")` with `MLPClassifier()`:
mean accuracy and log-loss over shuffled folds, and the time of a fit, in turns on each
fold, in one process on one thread. Then each rule of the defaults is switched off by
itself. The sets are those that scikit-learn bundles and made ones, behind a
StandardScaler unless the table says otherwise. Prints Markdown, in a quarter of an
hour, or in two minutes without the large sets and with one fold of the small ones::

    python examples/study_defaults.py > examples/study_defaults.md
    python examples/study_defaults.py --quick
"""

import argparse
import time
import warnings
from unittest import mock

import numpy as np
from scipy import sparse
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from skbgd import BGDClassifier, _plan
from skbgd._network import Network

made = datasets.make_classification


def bundled(name):
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def checkerboard(n):
    X = np.random.default_rng(0).uniform(size=(n, 2))
    return X, np.floor(4 * X).sum(axis=1).astype(int) % 2


def spirals(n, n_arms, noise):
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_arms
    r = np.sqrt(rng.uniform(size=n))
    angle = 2 * np.pi * (1.25 * r + y / n_arms)
    X = np.column_stack([r * np.cos(angle), r * np.sin(angle)])
    return X + noise * rng.normal(size=(n, 2)), y


def waveform(n):
    """Breiman's: mixtures of two of three triangles, with noise."""
    rng = np.random.default_rng(0)
    triangles = np.array(
        [np.maximum(6 - abs(np.arange(1, 22) - c), 0) for c in (7, 15, 11)]
    )
    y = rng.integers(3, size=n)
    first, second = np.array([[0, 1], [0, 2], [1, 2]])[y].T
    u = rng.uniform(size=(n, 1))
    X = u * triangles[first] + (1 - u) * triangles[second]
    return X + rng.normal(size=X.shape), y


def parity(n):
    X = np.random.default_rng(0).integers(2, size=(n, 10)).astype(float)
    return X, X[:, :3].sum(axis=1).astype(int) % 2


def one_hot(n):
    """Eight columns of five categories, a rule, 5 % of the labels wrong."""
    rng = np.random.default_rng(0)
    C = rng.integers(5, size=(n, 8))
    y = (C[:, 0] == C[:, 1]) | (C[:, 2] < 2) & (C[:, 3] > 1)
    return np.eye(5)[C].reshape(n, -1), y ^ (rng.uniform(size=n) < 0.05)


def log_normal(n):
    X, y = made(n, 15, n_informative=8, random_state=0)
    return np.exp(X), y


def noisy_digits():
    X, y = bundled("digits")
    return X + np.random.default_rng(0).normal(scale=6, size=X.shape), y


def shifted_digits(n):
    """Digits, twice as large, at random places of 20 x 20 pixels with noise."""
    rng = np.random.default_rng(0)
    X, y = bundled("digits")
    rows = rng.integers(len(X), size=n)
    small = X[rows].reshape(-1, 8, 8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.zeros((n, 20, 20))
    for image, digit, (i, j) in zip(
        images, small, rng.integers(5, size=(n, 2)), strict=True
    ):
        image[i : i + 16, j : j + 16] = digit
    images += rng.normal(scale=2, size=images.shape)
    return images.reshape(n, -1), y[rows]


def diabetes():
    X, target = bundled("diabetes")
    return X, target > np.median(target)


def two_norm(n):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=n)
    return rng.normal(size=(n, 20)) + (2 * y - 1)[:, np.newaxis] * 2 / 20**0.5, y


def cancer_with_noise():
    X, y = bundled("breast_cancer")
    return np.hstack([X, np.random.default_rng(0).normal(size=(len(X), 100))]), y


def patches(n):
    """5 x 5 pixels of one of two photographs."""
    rng = np.random.default_rng(0)
    images = datasets.load_sample_images().images
    y = rng.integers(2, size=n)
    corners = rng.uniform(size=(n, 2))
    X = np.empty((n, 75))
    for row, image, corner in zip(X, y, corners, strict=True):
        i, j = (corner * (np.array(images[image].shape[:2]) - 5)).astype(int)
        row[:] = images[image][i : i + 5, j : j + 5].ravel()
    return X, y


def friedman(n):
    X, target = datasets.make_friedman1(n, noise=1.0, random_state=0)
    return X, target > np.median(target)


def led(n):
    """Seven bars of a display, each wrong in 10 %, and ten random bits."""
    rng = np.random.default_rng(0)
    bars = np.array([119, 36, 93, 109, 46, 107, 123, 37, 127, 111])
    y = rng.integers(10, size=n)
    shown = (bars[y, np.newaxis] >> np.arange(7)) & 1
    shown ^= rng.uniform(size=shown.shape) < 0.1
    return np.hstack([shown, rng.integers(2, size=(n, 10))]).astype(float), y


def factors(n, d, k, seed, noise=0.3):
    """d features that k factors make, which make the class too."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, k))
    X = Z @ rng.normal(size=(k, d)) + noise * rng.normal(size=(n, d))
    H = np.tanh(Z @ rng.normal(size=(k, 8)))
    return X, (H @ rng.normal(size=(8, 2)) + 0.5 * rng.normal(size=(n, 2))).argmax(1)


def normals(n, d, n_classes, n_normals, spread, seed):
    """So many normal distributions for each class, of any shape."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    which = y, rng.integers(n_normals, size=n)
    means = spread * rng.normal(size=(n_classes, n_normals, d))
    roots = rng.normal(size=(n_classes, n_normals, d, d)) / d**0.5 + np.eye(d) / 2
    return means[which] + np.einsum(
        "nij,nj->ni", roots[which], rng.normal(size=(n, d))
    ), y


def relu_network(n, d, n_hidden, n_classes, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    H = np.maximum(X @ rng.normal(size=(d, n_hidden)), 0) / d**0.5
    Z = 4 * (H - H.mean(axis=0)) @ rng.normal(size=(n_hidden, n_classes))
    return X, (Z / n_hidden**0.5 + 1.5 * rng.gumbel(size=Z.shape)).argmax(axis=1)


def tree(n, d, n_leaves, seed, n_classes):
    """A random tree, 10 % of the labels drawn anew."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    clf = DecisionTreeClassifier(
        max_leaf_nodes=n_leaves, splitter="random", random_state=seed
    )
    y = clf.fit(X[:2000], rng.integers(n_classes, size=2000)).predict(X)
    return X, np.where(rng.uniform(size=n) < 0.1, rng.integers(n_classes, size=n), y)


def product(n, d):
    rng = np.random.default_rng(28)
    X = rng.normal(size=(n, d))
    return X, X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=n) > 0


def text(n):
    """Texts of two kinds as counts of 60 words of Zipf's law, hashed, of length 1."""
    rng = np.random.default_rng(0)
    n_words, n_columns = 20_000, 2**18
    weights = 1 / np.arange(5, n_words + 5)
    columns = rng.permutation(n_columns)[:n_words]
    y = rng.integers(2, size=n)
    tilts = np.exp(0.25 * rng.normal(size=(2, n_words)))
    words = np.empty((n, 60), dtype=int)
    for k in (0, 1):
        p = weights * tilts[k]
        words[y == k] = rng.choice(n_words, size=((y == k).sum(), 60), p=p / p.sum())
    data = np.full(words.size, 60**-0.5)
    X = sparse.csr_matrix(
        (data, columns[words.ravel()], np.arange(0, words.size + 1, 60)),
        shape=(n, n_columns),
    )
    X.sum_duplicates()
    norms = np.sqrt(X.multiply(X).sum(axis=1)).A1
    return sparse.csr_matrix(sparse.diags(1 / norms) @ X), y


# The rules were chosen on these; those of HELD_OUT were not used for that.
CHOSEN_ON = {
    "iris": lambda: bundled("iris"),
    "wine": lambda: bundled("wine"),
    "breast cancer": lambda: bundled("breast_cancer"),
    "digits": lambda: bundled("digits"),
    "digits and noise": noisy_digits,
    "shifted digits": lambda: shifted_digits(10_000),
    "moons": lambda: datasets.make_moons(1000, noise=0.2, random_state=0),
    "4 x 4 checkerboard": lambda: checkerboard(1500),
    "two spirals": lambda: spirals(1000, 2, 0.05),
    "blobs": lambda: datasets.make_blobs(
        600, 5, centers=5, cluster_std=4.5, random_state=0
    ),
    "waveform": lambda: waveform(3000),
    "parity of 3 bits of 10": lambda: parity(1500),
    "one-hot categories": lambda: one_hot(3000),
    "log-normal features": lambda: log_normal(2500),
    "10 informative of 20": lambda: made(2000, 20, n_informative=10, random_state=0),
    "100 rows": lambda: made(125, 20, n_informative=5, random_state=0),
    "30 % of labels wrong": lambda: made(
        2000, 20, n_informative=10, flip_y=0.6, random_state=1
    ),
    "20 classes": lambda: made(
        4000, 30, n_informative=15, n_classes=20, n_clusters_per_class=1,
        class_sep=1.5, random_state=0,
    ),
    "5 % in one class": lambda: made(
        5000, 20, n_informative=8, weights=[0.95], random_state=0
    ),
    "200 features": lambda: made(250, 200, n_informative=20, random_state=0),
    "20 000 rows": lambda: made(
        25_000, 10, n_informative=6, n_clusters_per_class=4, flip_y=0.1, random_state=3
    ),
    "60 000 rows": lambda: made(
        70_000, 40, n_informative=20, n_classes=7, n_clusters_per_class=3,
        random_state=0,
    ),
    "diabetes above its median": diabetes,
    "two normals": lambda: two_norm(800),
    "breast cancer, noise": cancer_with_noise,
    "patches of photographs": lambda: patches(8000),
    "Friedman's function": lambda: friedman(4000),
    "LED display": lambda: led(2000),
    "three spirals": lambda: spirals(2500, 3, 0.075),
    "12 classes, 10 % wrong": lambda: made(
        6000, 50, n_informative=20, n_classes=12, flip_y=0.1, random_state=7
    ),
    "30 000 rows, 90 / 7 / 3 %": lambda: made(
        36_000, 60, n_informative=15, n_classes=3, weights=[0.9, 0.07], flip_y=0.02,
        random_state=8,
    ),
    "500 features": lambda: made(150, 500, n_informative=15, random_state=9),
}  # fmt: skip
HELD_OUT = {
    "few factors, 34 features": lambda: factors(351, 34, 8, 21, noise=1.0),
    "few factors, 1000 features": lambda: factors(120, 1000, 10, 30),
    "6 normals, 214 rows": lambda: normals(214, 9, 6, 1, 0.8, 22),
    "7 x 2 normals": lambda: normals(2310, 19, 7, 2, 0.7, 23),
    "2 x 6 normals": lambda: normals(5404, 5, 2, 6, 0.9, 25),
    "a relu network": lambda: relu_network(15_000, 10, 12, 2, 26),
    "a tree": lambda: tree(40_000, 20, 60, 27, 5),
    "signs of a product": lambda: product(1500, 6),
    "10 classes, 800 rows": lambda: made(
        800, 25, n_informative=12, n_classes=10, n_clusters_per_class=1,
        random_state=31,
    ),
    "3 classes, 80 rows": lambda: made(
        80, 6, n_informative=4, n_classes=3, n_clusters_per_class=1, random_state=32
    ),
}  # fmt: skip
RADIAL = {
    "circles": lambda: datasets.make_circles(
        1000, noise=0.1, factor=0.5, random_state=0
    ),
    "Gaussian quantiles": lambda: datasets.make_gaussian_quantiles(
        n_samples=2000, n_features=10, n_classes=3, random_state=0
    ),
    "sum of 10 squares": lambda: datasets.make_hastie_10_2(4000, random_state=0),
}
LARGE = "20 000 rows", "60 000 rows", "30 000 rows, 90 / 7 / 3 %", "a tree"
LAYERED = "iris", "breast cancer", "digits", "moons", "4 x 4 checkerboard"
LAYERED += ("10 informative of 20",)
BUNDLED = "iris", "wine", "breast cancer", "digits"
OURS = {"BGDClassifier()": {}, 'solver="adam"': {"solver": "adam"}}


def glorot(network, random_state, dtype):
    """The first layer starts as the others do."""
    theta = Network.start(network, random_state, dtype)
    if len(network.units) > 2:
        d, k = network.units[:2]
        gain = 4.0 if network.activation == "logistic" else 1.0
        theta[: (d + 1) * k] *= gain * np.sqrt(6 / (d + k)) / abs(theta[: d * k]).max()
    return theta


Network.start = Network.initial_parameters
RULES = {
    "batches of 32 rows": ({"batch_size": 32}, None),
    "batches of 200 rows": ({"batch_size": 200}, None),
    "alpha=1e-4": ({"alpha": 1e-4}, None),
    "no more alpha for few rows": (
        {}, (_plan, {"LEAST_PENALTY": {"sgd": 0, "adam": 0}}),
    ),
    "the steps do not fall": (
        {"learning_rate_schedule": "constant", "n_iter_no_change": 400,
         "max_iter": "planned"}, None,
    ),
    "no plan: steps of one size until the loss stands still, 400 epochs at most": (
        {"learning_rate_schedule": "constant"}, None,
    ),
    "half the epochs": ({}, (_plan, {"AUTO_EPOCHS": 13, "AUTO_STEPS": 50})),
    "twice the epochs": ({}, (_plan, {"AUTO_EPOCHS": 50, "AUTO_STEPS": 200})),
    "25 epochs for all": ({}, (_plan, {"AUTO_STEPS": 0})),
    "a start that thinks of the fan-out": (
        {}, (Network, {"initial_parameters": glorot}),
    ),
    "steps half as large": ({"learning_rate": 0.5}, None),
    "steps twice as large": ({"learning_rate": 2.0}, None),
}  # fmt: skip


def folds(make, quick, scaler=StandardScaler):
    """Seed, training rows and labels, test rows and labels; more folds of few rows."""
    X, y = make()
    n = X.shape[0]
    if n <= 700:
        splits = [
            split
            for seed in range(2)
            for split in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
        ]
    elif n <= 4000:
        splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    else:
        n_splits = 2 if n <= 12_000 else 1
        size = min(n // 5, 10_000)
        splitter = StratifiedShuffleSplit(n_splits, test_size=size, random_state=0)
        splits = list(splitter.split(X, y))
    for seed, (train, test) in enumerate(splits[:1] if quick else splits):
        X_train, X_test = X[train], X[test]
        if scaler is not None:
            fitted = scaler().fit(X_train)
            X_train, X_test = fitted.transform(X_train), fitted.transform(X_test)
        yield seed, X_train, y[train], X_test, y[test]


def evaluate(estimators, sets, quick, scaler=StandardScaler):
    """Per set and estimator: accuracy, log-loss, seconds, epochs, warned, failed."""
    results = {}
    for name, make in sets.items():
        rows = []
        for seed, X, y, X_test, y_test in folds(make, quick, scaler):
            for build in estimators:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", ConvergenceWarning)
                    clf = build(X, y).set_params(random_state=seed)
                    start = time.perf_counter()
                    try:
                        clf.fit(X, y)
                    except ValueError:
                        rows.append((0, np.inf, np.nan, 0, 0, 1))
                        continue
                    seconds = time.perf_counter() - start
                P = clf.predict_proba(X_test)
                accuracy = accuracy_score(y_test, clf.classes_[P.argmax(axis=1)])
                loss = log_loss(y_test, P)
                epochs = np.max(clf.n_iter_)
                rows.append((accuracy, loss, seconds, epochs, len(caught) > 0, 0))
        results[name] = np.reshape(rows, (-1, len(estimators), 6)).mean(axis=0)
    return results


def mlp(**params):
    return lambda X, y: MLPClassifier(**params)


def ours(**params):
    def build(X, y):
        explicit = dict(params)
        if "learning_rate" in explicit:  # a multiple of what "auto" is
            probe = BGDClassifier(**{**params, "learning_rate": "auto"})
            probe.set_params(max_iter=1, tol=None).fit(X[:2000], y[:2000])
            n = X.shape[0]
            m, few = (
                _plan.rows_per_batch(explicit.get("batch_size", "auto"), rows)
                for rows in (n, min(n, 2000))
            )
            eta = probe.learning_rate_init_ * explicit["learning_rate"]
            if explicit.get("solver") != "adam":
                eta *= np.sqrt(min(m, 128) / min(few, 128))
            explicit.update(learning_rate=eta, learning_rate_schedule="cosine")
        if explicit.get("max_iter") == "planned":
            m = _plan.rows_per_batch("auto", X.shape[0])
            explicit["max_iter"] = _plan.planned_epochs(X.shape[0], m)
        return BGDClassifier(**explicit)

    return build


def row(cells):
    print("| " + " | ".join(cells) + " |")


def table(title, sets, quick, mlp_params=None, our_params=None, names=OURS, **kwargs):
    """One row per set; returns the results."""
    our_params = our_params or {}
    mlp_params = mlp_params or {}
    estimators = [mlp(**mlp_params)]
    estimators += [ours(**params, **our_params) for params in names.values()]
    results = evaluate(estimators, sets, quick, **kwargs)
    print(f"\n### {title}\n")
    row(["set", "MLPClassifier", *(f"`{name}`" for name in names)])
    row(["---"] * (2 + len(names)))
    for name, (reference, *others) in results.items():
        cells = [f"{reference[0]:.3f} / {reference[1]:.3f} ({reference[3]:.0f})"]
        for accuracy, loss, seconds, epochs, warned, failed in others:
            cell = f"{accuracy:.3f} / {loss:.3f} ({epochs:.0f}) "
            cell += f"{100 * (accuracy - reference[0]):+.1f}, "
            cell += f"{reference[2] / seconds:.1f}x"
            cell += ", warned" * bool(warned) + ", error" * bool(failed)
            cells.append(cell)
        row([name, *cells])
    return results


def summary(results, column):
    """Points gained (mean, worst), sets of better log-loss, speed, warnings."""
    R = np.array(list(results.values()))
    gain = 100 * (R[:, column, 0] - R[:, 0, 0])
    speed = R[:, 0, 2] / R[:, column, 2]
    stopped = R[:, 0, 3] < 200
    return [
        f"{gain.mean():+.2f}",
        f"{gain.min():+.1f}",
        f"{100 * (R[:, column, 1] < R[:, 0, 1]).mean():.0f} %",
        f"{np.exp(np.log(speed).mean()):.0f}x",
        f"{speed[~stopped].min():.1f}x" if (~stopped).any() else "",
        f"{speed[stopped].min():.1f}x" if stopped.any() else "",
        f"{(R[:, column, 4] > 0).sum()}",
    ]


HEAD = ["mean", "worst", "better log-loss", "speed (geometric mean)",
        "least speed, 200 epochs of MLPClassifier", "least speed, fewer epochs",
        "sets with a warning"]  # fmt: skip


def summaries(title, groups):
    print(f"\n### {title}\n")
    row(["", *HEAD])
    row(["---"] * (1 + len(HEAD)))
    for label, (results, column) in groups.items():
        row([label, *summary(results, column)])


def rules(sets, quick, base):
    """Each rule switched off: what it costs."""
    print("\n### Each rule switched off\n")
    print("The sets that the rules were chosen on, without the large ones.\n")
    row(["", *HEAD])
    row(["---"] * (1 + len(HEAD)))
    for solver, extra in OURS.items():
        column = 1 + list(OURS).index(solver)
        kept = {name: base[name] for name in sets}
        row([f"**{solver}**", *summary(kept, column)])
        for label, (params, patch) in RULES.items():
            build = [ours(**extra, **params)]
            if patch is None:
                found = evaluate(build, sets, quick)
            else:
                target, values = patch
                with mock.patch.multiple(target, **values):
                    found = evaluate(build, sets, quick)
            joined = {name: np.vstack([base[name][:1], found[name]]) for name in found}
            row([f"{solver}: {label}", *summary(joined, 1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="one fold, no large sets")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore", ConvergenceWarning)
    groups = {"chosen on": CHOSEN_ON, "held out": HELD_OUT, "radial": RADIAL}
    if quick:
        groups = {
            label: {k: v for k, v in sets.items() if k not in LARGE}
            for label, sets in groups.items()
        }
    print(
        "Each cell: accuracy / log-loss (epochs); ours: points of accuracy gained on\n"
        "MLPClassifier with default settings, and how many times as fast the fit was.\n"
        "In turns, one thread, behind a StandardScaler unless the title says otherwise."
    )
    done = {
        label: table(f"Defaults: sets {label}", sets, quick)
        for label, sets in groups.items()
    }
    both = {**done["chosen on"], **done["held out"]}
    every = {}
    for k, name in enumerate(OURS, 1):
        for label, results in {**done, "all but radial": both}.items():
            every[f"`{name}`, {label}"] = results, k
    summaries("Summary", every)
    for hidden in ((300,), (100, 100), (50, 50, 50), (5,), ()):
        params = {"hidden_layer_sizes": hidden}
        some = {name: CHOSEN_ON[name] for name in LAYERED}
        table(f"hidden_layer_sizes={hidden}", some, quick, params, params)
    some = {name: CHOSEN_ON[name] for name in BUNDLED}
    table("Features as they are, unscaled", some, quick, scaler=None)
    for activation in ("tanh", "relu", "identity"):
        for hidden in ((50,), (50, 50), (50, 50, 50)):
            params = {"activation": activation, "hidden_layer_sizes": hidden}
            table(f"{activation}, {hidden}", some, quick, params, params)
    table("early_stopping=True", some, quick, {}, {"early_stopping": True})
    table('batch_size="full"', some, quick, {}, {"batch_size": "full"})
    lbfgs = {'solver="lbfgs"': {"solver": "lbfgs"}}
    small = {
        k: v
        for k, v in {**CHOSEN_ON, **HELD_OUT}.items()
        if k not in LARGE and k != "shifted digits"
    }
    title = 'L-BFGS, against MLPClassifier(solver="lbfgs")'
    peers = table(title, small, quick, {"solver": "lbfgs"}, names=lbfgs)
    reference = {k: both[k] for k in small}
    against_default = {k: np.vstack([reference[k][:1], peers[k][1:]]) for k in small}
    summaries(
        "Summary of L-BFGS",
        {
            'against `MLPClassifier(solver="lbfgs")`': (peers, 1),
            "against `MLPClassifier()`": (against_default, 1),
        },
    )
    sparse_rows = {"20 000 texts, 2^18 columns": lambda: text(25_000)}
    print("\n### Sparse rows: accuracy / log-loss, seconds\n")
    estimators = [ours(), lambda X, y: LogisticRegression(max_iter=1000)]
    names = "`BGDClassifier()`", "LogisticRegression"
    for name, found in evaluate(estimators, sparse_rows, True, scaler=None).items():
        for label, (accuracy, loss, seconds, *_) in zip(names, found, strict=True):
            print(f"- {name}, {label}: {accuracy:.3f} / {loss:.3f}, {seconds:.1f} s")
    small = {
        k: v
        for k, v in groups["chosen on"].items()
        if k not in LARGE and k != "shifted digits"
    }
    rules(small, quick, done["chosen on"])


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
