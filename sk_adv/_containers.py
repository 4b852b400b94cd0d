"""Results in the container of the input: arrays, tensors, pandas and polars frames."""

import numpy as np

# Entries of a block of rows; 8 MiB in float64.
_BLOCK_ENTRIES = 2**20


def row_blocks(X):
    """Iterate over the positions of blocks of rows, so that a dense copy of each is small."""
    size = max(1, _BLOCK_ENTRIES // max(int(np.prod(X.shape[1:])), 1))
    for start in range(0, X.shape[0], size):
        yield slice(start, start + size)


def dense_blocks(X):
    """Iterate over blocks of rows of a sparse matrix: their positions, and the rows as an array."""
    X = X.tocsr()
    for rows in row_blocks(X):
        yield rows, X[rows].toarray()


def in_container_of(X, copies, free=None):
    """Put the copies into a frame like X, with its columns and index, if X is a frame.

    Parameters
    ----------
    X : array-like, frame or torch.Tensor of shape (n_samples, n_features)
    copies : ndarray or torch.Tensor of shape (n_samples, n_features)
    free : ndarray of bool of shape (n_features,), default=None
        The columns to take from the copies; the others are taken from X. None takes all columns
        from the copies.

    Returns
    -------
    ndarray, frame or torch.Tensor of shape (n_samples, n_features)
    """
    if free is not None and not free.all():
        return _with_columns(X, copies, free)
    if not hasattr(X, "columns"):
        return copies
    if hasattr(X, "iloc"):
        return type(X)(copies, index=X.index, columns=X.columns)
    return type(X)(copies, schema=list(X.columns))


def _with_columns(X, copies, free):
    if not hasattr(X, "columns"):
        X = np.asarray(X, dtype=getattr(X, "dtype", object))
        # An integer array would truncate the copies.
        mixed = X.astype(copies.dtype if X.dtype.kind in "iub" else X.dtype)
        mixed[:, free] = copies[:, free]
        return mixed
    if hasattr(X, "iloc"):
        mixed = X.copy()
        for j in np.flatnonzero(free):
            mixed.isetitem(j, copies[:, j])
        return mixed
    names = [name for name, is_free in zip(X.columns, free, strict=True) if is_free]
    return X.with_columns(type(X)(copies[:, free], schema=names).get_columns())
