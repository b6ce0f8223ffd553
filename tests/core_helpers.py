"""Both cores, problems for them, and fits in threads, on NumPy or with Ctrl-C."""

import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from helpers import PATIENCE

from skbgd import _dataset, _moments, _network, _objective, _trainer
from skbgd._core import COMPILED, _numpy, backprop, threads
from skbgd._network import Network

FLOATS = [np.float32, np.float64]
# Tolerance of results that differ by rounding.
RTOL = {np.float32: 2e-5, np.float64: 1e-11}
CORES = {"numpy": _numpy} | ({"compiled": backprop} if COMPILED else {})


def make_problem(
    hidden=(7,),
    n=40,
    d=5,
    K=3,
    activation="logistic",
    output="logistic",
    dtype=np.float64,
    weighted=False,
    multilabel=False,
    seed=0,
):
    """Return a network, theta, X, Y as the core takes it, one-hot Y, and weights."""
    rng = np.random.default_rng(seed)
    network = Network((d, *hidden, K), activation, output)
    theta = rng.uniform(-1, 1, size=network.n_parameters).astype(dtype)
    X = rng.normal(size=(n, d)).astype(dtype)
    if multilabel:
        Y = rng.integers(2, size=(n, K)).astype(np.intc)
        one_hot = Y.astype(float)
    else:
        Y = rng.integers(max(K, 2), size=(n, 1)).astype(np.intc)
        one_hot = (Y == np.arange(K)).astype(float) if K > 1 else Y.astype(float)
    weights = None
    if weighted:
        weights = rng.uniform(size=n)
        weights[::5] = 0
        weights = (weights / weights.mean()).astype(dtype)
    return network, theta, X, Y, one_hot, weights


def read_only(array):
    array.setflags(write=False)
    return array


def unaligned(array):
    """A copy whose memory begins at an odd address."""
    room = np.empty(array.nbytes + 1, dtype=np.uint8)
    result = room[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


@contextmanager
def instruction_set(name):
    """Use an instruction set of the installed core."""
    before = backprop.use_instruction_set(name)
    try:
        yield
    finally:
        backprop.use_instruction_set(before)


def eager_threads(n_cpus=2):
    """A patch that lets the smallest fit use threads, as on a machine of `n_cpus`."""
    return patch.multiple(
        threads,
        MIN_ROWS_PER_THREAD=1,
        MIN_MULTIPLICATIONS_PER_THREAD=1,
        MIN_MULTIPLICATIONS=0,
        _n_cpus=lambda: n_cpus,
    )


@contextmanager
def numpy_core():
    """Use the core in NumPy."""
    with ExitStack() as stack:
        for module in (_dataset, _moments, _network, _objective, _trainer):
            stack.enter_context(patch.object(module, "backprop", _numpy))
        yield


@contextmanager
def replaced_method(name, replacement):
    """Let the core's trainers call replacement(original, *args) for this method."""
    original = getattr(backprop.Trainer, name)

    def method(*args):
        return replacement(original, *args)

    cls = type("Trainer", (backprop.Trainer,), {name: method})
    with patch.object(backprop, "Trainer", cls):
        yield


@contextmanager
def ctrl_c_during(name, call=1):
    """Expect a KeyboardInterrupt that ends a call of a method of the core's trainer.

    The signal comes 50 ms after the start of call number `call` of the method of this
    name, which must take much longer.
    """
    running, n_calls = threading.Event(), 0

    def counted(original, *args):
        nonlocal n_calls
        n_calls += 1
        if n_calls == call:
            running.set()
        return original(*args)

    def press():
        running.wait()
        time.sleep(0.05)  # some steps
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    with (
        replaced_method(name, counted),
        pytest.raises(KeyboardInterrupt) as raised,
    ):
        yield raised
        thread.join(PATIENCE)
    names = [entry.name.split(".")[-1] for entry in raised.traceback]
    assert name in names, "the interrupt came before or after the call"
