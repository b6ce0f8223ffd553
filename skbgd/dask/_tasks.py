"""Functions of blocks of rows, which run on a worker."""

from typing import NamedTuple

import numpy as np
from dask.sizeof import sizeof
from scipy.sparse import issparse
from sklearn.utils import check_array

from .._array_layout import check_core_layout, explain_bad_columns
from .._core import backprop
from .._core.arguments import quiet
from .._dataset import count_weighted, mean_squared_row_norm, sample_rows
from .._moments import Moments
from .._targets import as_label_array, check_sample_weight, divided_by_max, encode
from .._trainer import sum_of_losses

# Rows of a mini-batch that are gathered from a block at once.
GATHER_CHUNK = 4096


class BlockSummary(NamedTuple):
    """Facts about a block that the client needs."""

    n_bytes: int
    is_core_layout: bool  # whether dtype and memory layout are those of the core
    sparse: bool
    labels: np.ndarray  # distinct labels, or distinct values of indicators
    # Sums of weights / max_weight, for each label; (1,) for all rows of indicators
    label_totals: np.ndarray
    max_weight: float


def aligned(array):
    """The array, copied if it is not aligned in memory, as after a message."""
    if issparse(array):
        members = array.data, array.indices, array.indptr
        is_aligned = all(member.flags.aligned for member in members)
        return array if is_aligned else check_core_layout(array)
    return None if array is None else np.require(array, requirements="A")


def add(terms):
    """The sum of tuples (number, array or None)."""
    total, vector = terms[0]
    for number, array in terms[1:]:
        total = total + number
        vector = None if vector is None else vector + array
    return total, vector


def identity(value):
    return value


def block_loss_gradient(network, theta, X, Y, weights, with_gradient=True):
    """sum_i w_i l_i over rows, and its gradient or None."""
    gradient = np.empty(theta.shape, theta.dtype) if with_gradient else None
    arrays = map(aligned, (theta, X, Y, weights))
    return sum_of_losses(network, *arrays, gradient), gradient


def sum_gradients(theta, network, blocks, targets, orders, bounds):
    """Loss and gradient of a shard, or of the rows of its blocks within `bounds`."""
    terms = []
    for i, (X, target) in enumerate(zip(blocks, targets, strict=True)):
        for rows in [None] if bounds is None else _index_chunks(i, orders, *bounds[i]):
            arrays = [take(array, rows) for array in (X, *target)]
            terms = [add([*terms, block_loss_gradient(network, theta, *arrays)])]
    return terms[0]


def _index_chunks(i, orders, first, last):
    """Selections of the rows of block i from `first` to `last`.

    Shuffled rows are gathered in chunks, which stay in the cache.
    """
    if first == last:
        return []
    if orders is None:
        return [slice(first, last)]
    rows = orders[i][first:last]
    return np.split(rows, range(GATHER_CHUNK, len(rows), GATHER_CHUNK))


def take(array, rows):
    """array[rows], where rows is a slice, indices, or None for all rows."""
    if array is None or rows is None:
        return array
    if isinstance(rows, slice) or issparse(array):
        return array[rows]
    return array.take(rows, axis=0)  # faster than array[rows]


def sum_losses(theta, network, blocks, targets, orders, bounds):
    """Loss of a shard."""
    return add(
        [
            block_loss_gradient(network, theta, X, Y, weights, with_gradient=False)
            for X, (Y, weights) in zip(blocks, targets, strict=True)
        ]
    )


def sum_squared_weights(theta, network, blocks, targets, orders, bounds):
    """sum_i w_i^2 of a shard."""
    squares = [np.square(weights, dtype=float).sum() for _, weights in targets]
    return sum(squares), None


def sum_moments(theta, network, blocks, targets, orders, bounds):
    """Moments of the features of a shard of dense rows, and [number with w_i > 0]."""
    terms = []
    for X, (_, weights) in zip(blocks, targets, strict=True):
        moments = Moments.from_rows(aligned(X), aligned(weights))
        terms.append((moments, np.array([count_weighted(X, weights)], dtype=float)))
    return add(terms)


@quiet
def sum_squared_row_norms(theta, network, blocks, targets, orders, bounds):
    """sum_i w_i ||x_i||^2 and [sum_i w_i] of a shard."""
    terms = []
    for X, (_, weights) in zip(blocks, targets, strict=True):
        total = X.shape[0] if weights is None else weights.sum(dtype=float)
        norm = mean_squared_row_norm(aligned(X), aligned(weights)) if total > 0 else 0.0
        terms.append((norm * total, np.array([total], dtype=float)))
    return add(terms)


def random_orders(lengths, states):
    """A random order of the rows of each block."""
    orders = [np.empty(n, dtype=np.intp) for n in lengths]
    for order, state in zip(orders, states, strict=True):
        backprop.shuffle(order, state)
    return orders


def convert_block(block, dtype):
    """A block of X in the dtype and memory layout of the core."""
    with explain_bad_columns(block):
        rows = check_array(
            block,
            dtype=dtype,
            order="C",
            accept_sparse="csr",
            ensure_min_samples=0,
            input_name="X",
        )
    return check_core_layout(rows)


@quiet
def summarize_block(X, y, weights, dtype):
    """Check a block and summarize it for the client."""
    rows = convert_block(X, dtype)
    y = as_label_array(y, "y")
    if len(y) != X.shape[0]:
        raise ValueError(
            f"A block of X has {X.shape[0]} rows, the same block of y {len(y)}."
        )
    weights = check_sample_weight(weights, len(y))
    max_weight = 1.0
    if weights is not None:
        max_weight = float(weights.max())
        weights = divided_by_max(weights)
    labels = np.unique(check_array(y, ensure_2d=False, dtype=None, input_name="y"))
    if y.ndim == 2:
        encoded = np.zeros(len(y), dtype=int)
    else:
        encoded = np.searchsorted(labels, y)
    label_totals = np.bincount(encoded, weights=weights).astype(float)
    is_core_layout = X.dtype == dtype and (
        X.format == "csr" if issparse(X) else X.flags.c_contiguous
    )
    return BlockSummary(
        n_bytes=sizeof(rows),
        is_core_layout=is_core_layout,
        sparse=issparse(X),
        labels=labels,
        label_totals=label_totals,
        max_weight=max_weight,
    )


@quiet
def encode_block(y, weights, classes, multilabel, factors, max_weight, dtype):
    """Encoded labels and final weights of a block."""
    Y = encode(as_label_array(y, "y"), classes, multilabel)
    if factors is None:
        return Y, None
    factor = factors if multilabel else factors[Y[:, 0]]
    relative = 1.0
    if weights is not None:
        relative = np.asarray(weights, float) / (max_weight or 1)
    return Y, np.broadcast_to(relative * factor, len(Y)).astype(dtype)


def sample_block(X, targets):
    """About a thousand evenly spaced rows of a block."""
    return sample_rows(X, *targets)


def predict_block(X, model, method, like):
    """Predictions for a block, which may have no rows."""
    if X.shape[0] == 0:
        return like
    return getattr(model, method)(X)
