"""Functions of tensors that NumPy computes faster than torch on the CPU."""

import numpy as np
import torch


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


def transpose_into(target, matrix):
    """Copy matrix.T."""
    if matrix.device.type == "cpu":
        target.numpy()[...] = matrix.numpy().T
    else:
        target.copy_(matrix.T)


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


def gram(matrix):
    """matrix @ matrix.T, of which NumPy computes one half only."""
    if matrix.device.type == "cpu":
        return torch.from_numpy(matrix.numpy() @ matrix.numpy().T)
    return matrix @ matrix.T


def sort(values):
    """The values in rising order."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values
