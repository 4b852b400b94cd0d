"""Arrays, tensors and frames: from one to another, and results in the kind of the input."""

import warnings
from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_features

from sk_adv._collections import check_in_memory
from sk_adv._warnings import about_names_once

# Entries of a block of rows; 8 MiB in float64.
_BLOCK_ENTRIES = 2**20


def to_numpy(X):
    """Convert a tensor to a NumPy array on the host; return anything else as it is.

    NumPy has no bfloat16, so such a tensor becomes float32.

    Raises
    ------
    TypeError
        If X is a sparse tensor, a dict, or a dask collection.
    """
    _check_no_mapping(X)
    check_in_memory(X)
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse tensors are not supported; got one of layout {X.layout}. Pass a SciPy CSR or "
            "CSC matrix, or X.to_dense()."
        )
    X = X.detach().cpu()
    return np.asarray(X.float() if X.dtype == torch.bfloat16 else X)


def is_dispatched(X):
    """Whether X is a tensor that scikit-learn handles itself (`array_api_dispatch=True`)."""
    return isinstance(X, torch.Tensor) and bool(get_config()["array_api_dispatch"])


def _check_no_mapping(X):
    """Raise `TypeError` if X is a dict."""
    # Some sparse matrices of SciPy are mappings.
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        raise TypeError(
            f"An array, a frame or a tensor is needed; got a {type(X).__name__}. If it holds "
            "columns by name, pass pandas.DataFrame(X)."
        )


def readable(estimator, X):
    """X as any estimator reads it, whose own code may turn tensors into arrays.

    A tensor leaves its graph, and bfloat16, which NumPy lacks, becomes float32. The nets of skorch,
    whose modules may need bfloat16, take tensors as they are.
    """
    if isinstance(X, np.ndarray) and X.dtype == np.longdouble:
        # SciPy has many functions in float64 only.
        return X.astype(np.float64)
    if not isinstance(X, torch.Tensor) or hasattr(estimator, "module_"):
        return X
    X = X.detach()
    return X.float() if X.dtype == torch.bfloat16 else X


def predicted_by(estimator, X):
    """The predictions of any estimator as an array."""
    with about_names_once(estimator, X):
        return np.asarray(to_numpy(estimator.predict(readable(estimator, X))))


def check_unmasked(**arguments):
    """Raise `ValueError` if an argument is an array with masked entries.

    Other libraries would take what is behind the mask.
    """
    for name, values in arguments.items():
        if np.ma.is_masked(values):
            raise ValueError(
                f"{name} must have no masked entries: fill them, or leave out their samples."
            )


def check_samples_kind(X):
    """Raise `TypeError` if X is a dict or a dask collection, or holds times.

    scikit-learn takes times in `fit` only. Masked entries are a `ValueError`.
    """
    _check_no_mapping(X)
    check_in_memory(X)
    check_unmasked(X=X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "mM":
        raise TypeError(
            f"X must hold numbers; got times of dtype {X.dtype}: pass X.astype('float64')."
        )


def for_sklearn(X):
    """Convert a tensor to an array for scikit-learn, unless array API dispatch is on."""
    check_samples_kind(X)
    return X if is_dispatched(X) else to_numpy(X)


def floating_types(X):
    """The floating-point dtypes that an estimator accepts for X, the widest first."""
    return [torch.float64, torch.float32] if is_dispatched(X) else [np.float64, np.float32]


def in_kind_of(X, tensor):
    """Convert a result to X's device and dtype if X is dispatched, else to an array."""
    if is_dispatched(X):
        return tensor.to(X.device, X.dtype if X.is_floating_point() else torch.float64)
    return to_numpy(tensor)


def labels_in_kind_of(X, labels):
    """Labels, or weights, as a tensor if X is dispatched and they are numbers, else as they are."""
    if is_dispatched(X) and labels.dtype.kind in "biuf":
        return torch.as_tensor(labels, device=X.device)
    return labels


def to_tensor(X, **options):
    """Convert an array to a tensor that shares its memory where torch allows it."""
    # torch warns about read-only arrays, which data frames return, and rejects negative strides and
    # the byte order of other machines.
    if isinstance(X, np.ndarray) and not X.dtype.isnative:
        X = X.astype(X.dtype.newbyteorder("="))
    if isinstance(X, np.ndarray) and (not X.flags.writeable or min(X.strides, default=0) < 0):
        X = X.copy()
    if isinstance(X, np.ndarray) and X.dtype == np.longdouble:
        # torch has no wider floating type than float64.
        X = X.astype(np.float64)
    return torch.as_tensor(X, **options)


def as_read_only_tensor(X):
    """A tensor on the memory of an array, to which nothing may be written."""
    if not X.dtype.isnative or min(X.strides, default=0) < 0:
        return to_tensor(X)
    with warnings.catch_warnings():
        # torch warns about read-only arrays, such as those that map a file or come from Dask.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(X)


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


def blocks_of(X):
    """Blocks of rows of a sparse matrix, as `dense_blocks`; any other X as one block."""
    return dense_blocks(X) if sparse.issparse(X) else [(slice(0, None), X)]


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


def column_as_numbers(column):
    """A column as floating point numbers, or None if it is of another kind."""
    kind = getattr(getattr(column, "dtype", None), "kind", None)
    if isinstance(kind, str) and kind in "fiub" and hasattr(column.dtype, "na_value"):
        # A type of pandas that knows missing values, such as Int64.
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    array = np.asarray(column)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    try:
        # A column of an array of mixed types, or numbers with missing values.
        kinds = {type(value) for value in array if value is not None}
        if kinds and all(issubclass(kind, Real) for kind in kinds):
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    return None


def numeric_columns(X):
    """The columns of X in float64, those that are not numbers as NaN.

    Parameters
    ----------
    X : array-like or frame of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub":
        return X.astype(np.float64)
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    columns = [column_as_numbers(_safe_indexing(X, j, axis=1)) for j in range(_num_features(X))]
    missing = np.full(len(X), np.nan)
    return np.column_stack([missing if column is None else column for column in columns])


def in_32_bits(matrix):
    """A CSR matrix with indices of 32 bits, as HiGHS takes them; early SciPy does not convert."""
    matrix.indices = matrix.indices.astype(np.int32)
    matrix.indptr = matrix.indptr.astype(np.int32)
    return matrix
