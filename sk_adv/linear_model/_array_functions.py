"""Functions of tensors; most of them NumPy computes faster than torch on the CPU."""

import numpy as np
import torch

# Sums over the rows of so many columns stay in a processor's fastest cache.
_NARROW = 2**10


def empty(shape, like, dtype=torch.float64):
    """An uninitialised tensor; NumPy asks the system for large pages, which come faster."""
    if like.device.type == "cpu":
        return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch.")))
    return like.new_empty(shape, dtype=dtype)


def take_columns(X, columns):
    """A copy of some columns of a tensor; they may repeat."""
    if X.device.type == "cpu":
        return torch.from_numpy(X.numpy().take(columns.numpy(), axis=1))
    return X[:, columns]


def take_rows(X, rows):
    """A copy of some rows of a tensor."""
    if X.device.type == "cpu":
        return torch.from_numpy(X.numpy().take(rows.numpy(), axis=0))
    return X[rows]


def submatrix(matrix, index):
    """A copy of the rows and columns in an index."""
    return take_columns(take_rows(matrix, index), index)


def take_transposed(X, columns):
    """A copy of X[:, columns].T."""
    if X.device.type == "cpu":
        return torch.from_numpy(X.numpy().T[columns.numpy()])
    return X.T[columns]


def thin_product(thin, matrix):
    """thin @ matrix, for a vector or a matrix of few rows and a large matrix."""
    if thin.device.type == "cpu":
        return torch.from_numpy(thin.numpy() @ matrix.numpy())
    return thin @ matrix


def product_with_thin(matrix, thin):
    """matrix @ thin, for a large matrix and a vector or a matrix of few columns."""
    if matrix.device.type == "cpu" and thin.ndim == 2:
        return torch.from_numpy(matrix.numpy() @ thin.numpy())
    return matrix @ thin


def weighted_sum(weight, rows):
    """weight @ rows for a weight of each row, where the rows come from memory, not from a cache."""
    if rows.device.type == "cpu" and rows.shape[1] <= _NARROW:
        # Unlike BLAS, it reads one row after the other.
        return torch.from_numpy(np.einsum("i,ij->j", weight.numpy(), rows.numpy()))
    return weight @ rows


def sum_of_squares(weight, rows, room):
    """weight @ rows², for a weight of each row; `room` has the shape of rows."""
    is_narrow = rows.device.type == "cpu" and rows.shape[1] <= _NARROW
    if is_narrow and (weight == weight[:1]).all():
        rows = rows.numpy()
        return weight[:1].sum() * torch.from_numpy(np.einsum("ij,ij->j", rows, rows))
    return thin_product(weight, torch.mul(rows, rows, out=room))


def gram(matrix):
    """matrix @ matrix.T, of which NumPy computes one half only."""
    if matrix.device.type == "cpu":
        return torch.from_numpy(matrix.numpy() @ matrix.numpy().T)
    return matrix @ matrix.T


def subtract_multiple(moments, multiples, index):
    """Second moments of u, turned in place into those of u_j - multiples_j u_index.

    The multiples belong to the first entries of u, to which the one at `index` does not belong.
    """
    changed = len(multiples)
    moments[:changed] -= torch.outer(multiples, moments[index])
    moments[:, :changed] -= torch.outer(moments[:, index], multiples)
    return moments


def sort(values):
    """The values in rising order."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values
