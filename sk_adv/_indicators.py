"""One-hot columns, which a single radius for all features moves like any other."""

import warnings
from numbers import Real

import numpy as np
from scipy import sparse

from sk_adv._arrays import to_numpy

# Fewer rows may sum to one by chance.
_FEWEST_ROWS = 10
_FIRST_ROWS = 64
_MOST_ROWS = 100_000


def warn_of_indicators(epsilon, X, names=None, stacklevel=5):
    """Warn if one positive radius for all features moves one-hot columns of X too.

    Parameters
    ----------
    epsilon : float, or anything else, which is no such radius
    X : ndarray, sparse matrix or tensor of shape (n_samples, n_features)
        Valid samples.
    names : list or None
        The names of the columns, in place of their positions.
    """
    if not isinstance(epsilon, Real) or not epsilon > 0:
        return
    groups = indicator_groups(X)
    if not groups:
        return
    shown = [[names[j] for j in group] if names is not None else group for group in groups[:3]]
    more = f" and {len(groups) - 3} further groups" if len(groups) > 3 else ""
    warnings.warn(
        f"The one-hot columns {', '.join(map(str, shown))}{more} are moved too by "
        f"epsilon={float(epsilon):g}, which is one radius for all features, so that an adversary "
        "turns a category into part of another. Pass one radius per feature, 0 for these columns, "
        "or name the raw columns that can change in a sk_adv.pipeline.RawUnitsPipeline.",
        UserWarning,
        stacklevel=stacklevel,
    )


def indicator_groups(X):
    """Groups of neighbouring columns that hold 0 and 1 only, and sum to 1 in every row.

    Each column of a group holds both numbers. Of more than 100,000 rows, as many are looked at.

    Returns
    -------
    list of list of int
        The positions of the columns.
    """
    n_rows, n_columns = X.shape if X.ndim == 2 else (0, 0)
    if n_rows < _FEWEST_ROWS:
        return []
    columns = np.arange(n_columns)
    if not sparse.issparse(X):
        # Three rows tell most columns of other numbers.
        few = np.asarray(to_numpy(X[np.linspace(0, n_rows - 1, 3).astype(int)]))
        columns = np.flatnonzero(((few == 0) | (few == 1)).all(axis=0))
    if len(columns) < 2:
        return []
    found, binary = _groups(_rows(X, _FIRST_ROWS, columns), columns)
    if not found:
        return []
    # A column that holds one number in these rows may hold the other in the rest.
    rows = _rows(X, _MOST_ROWS, binary)
    found, _ = _groups(rows, binary)
    counts = dict(zip(binary.tolist(), np.diff(rows.indptr).tolist(), strict=True))
    return [group for group in found if all(0 < counts[j] < rows.shape[0] for j in group)]


def _rows(X, n_rows, columns):
    """Evenly spaced rows of some columns, as a CSC array."""
    if len(range(X.shape[0])) > n_rows:
        X = X[np.linspace(0, X.shape[0] - 1, n_rows).astype(int)]
    X = X[:, columns]
    if not sparse.issparse(X):
        # Only 0 and 1 count, and SciPy knows neither half precision nor a foreign byte order.
        X = np.asarray(to_numpy(X))
        X = (X != 0).astype(np.int8) + ((X != 0) & (X != 1))
    return sparse.csc_array(X)


def _groups(X, columns):
    """Groups among the columns of a CSC array, and those of its columns that are binary.

    The rows of a group's ones are all rows, each once. To find such runs of columns without a look
    at each, every row has a random number, and those of a run must have the sum of all, modulo
    2^64.
    """
    X.eliminate_zeros()
    n_rows, n_columns = X.shape
    counts = np.diff(X.indptr)
    numbers = np.random.default_rng(0).integers(2**63, size=n_rows, dtype=np.uint64)
    is_binary = np.diff(_sums_before(X.data != 1)[X.indptr]) == 0
    sums = _sums_before(numbers[X.indices])[X.indptr]
    # A run must not go past a column of other numbers, or one that is missing here.
    is_break = ~is_binary | (np.diff(columns, prepend=columns[:1] - 1) != 1)
    breaks = np.cumsum(is_break)
    starts = np.flatnonzero(is_binary & (counts > 0) & (counts < n_rows))
    ends = np.searchsorted(X.indptr, X.indptr[starts] + n_rows)
    starts, ends = starts[ends <= n_columns], ends[ends <= n_columns]
    is_group = (
        (X.indptr[ends] - X.indptr[starts] == n_rows)
        & (sums[ends] - sums[starts] == numbers.sum(dtype=np.uint64))
        & (breaks[ends - 1] == breaks[starts])
    )
    return [
        columns[start:end].tolist()
        for start, end in zip(starts[is_group], ends[is_group], strict=True)
    ], columns[is_binary]


def _sums_before(values):
    """The sum of the values before each position, and of all; modulo 2^64."""
    return np.cumsum(np.append(np.uint64(0), values.astype(np.uint64)), dtype=np.uint64)
