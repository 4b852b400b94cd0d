"""Blocks: copies of some standardised columns of X, with the rows sorted by class.

Products take and give matrices with a row for each class, which keeps the samples of a class side
by side.
"""

import torch
from scipy import sparse

from sk_adv.linear_model._array_functions import take_columns, thin_product

# Entries of X that are copied at once: 4 MiB in float64, which fits in a processor's cache.
_COPIED_ENTRIES = 2**19


class DenseBlock:
    """Columns of a dense X.

    Parameters
    ----------
    Z : torch.Tensor of shape (n_samples, n_columns), float64
        Standardised.
    """

    def __init__(self, Z):
        self.Z = Z

    @classmethod
    def take(cls, X, rows, columns, offset, inverse, constant):
        """Copy X[rows][:, columns] as float64; `constant` puts a column of ones before it."""
        Z = inverse.new_ones(len(rows), len(columns) + constant)
        size = max(_COPIED_ENTRIES // X.shape[1], 1)
        for first in range(0, len(rows), size):
            part = X[rows[first : first + size]]
            part = take_columns(part, columns)
            target = Z[first : first + size, int(constant) :]
            torch.sub(part, offset, out=target)
            target *= inverse
        return cls(Z)

    def product(self, coef):
        """The logits, (n_classes, n_samples), of weights (n_classes, n_columns)."""
        return thin_product(coef, self.Z.T)

    def transposed_product(self, values):
        """The gradient, (n_classes, n_columns), of residuals (n_classes, n_samples)."""
        return thin_product(values, self.Z)

    def dense(self, rows, dtype):
        """A copy of some rows."""
        return self.Z[rows].to(dtype)

    def joined(self, other):
        """These columns and those of another block."""
        return DenseBlock(torch.cat([self.Z, other.Z], dim=1))


class SparseBlock:
    """Columns of a sparse X, which is standardised in products only.

    Parameters
    ----------
    X : scipy.sparse.csr_array of shape (n_samples, n_columns)
    offset, inverse : torch.Tensor of shape (n_columns,)
        The standardised columns are (x_j - offset_j) * inverse_j.
    """

    def __init__(self, X, offset, inverse):
        self.X, self.offset, self.inverse = X, offset, inverse

    @classmethod
    def take(cls, X, rows, columns, offset, inverse, constant):
        """Copy X[rows][:, columns]; `constant` puts a column of ones before it."""
        X = sparse.csr_array(X[:, columns.numpy()], dtype=float)[rows.numpy()]
        if constant:
            X = sparse.hstack([torch.ones(len(rows), 1).numpy(), X], format="csr", dtype=float)
            offset, inverse = (
                torch.cat([first.new_full((1,), value), first])
                for first, value in ((offset, 0.0), (inverse, 1.0))
            )
        return cls(X, offset, inverse)

    def product(self, coef):
        """The logits, (n_classes, n_samples), of weights (n_classes, n_columns)."""
        coef = coef * self.inverse
        product = torch.from_numpy(self.X @ coef.T.numpy()).T
        return (product - (coef @ self.offset)[:, None]).contiguous()

    def transposed_product(self, values):
        """The gradient, (n_classes, n_columns), of residuals (n_classes, n_samples)."""
        product = torch.from_numpy(self.X.T @ values.T.numpy()).T
        return (product - values.sum(1, keepdim=True) * self.offset) * self.inverse

    def dense(self, rows, dtype):
        """A copy of some rows."""
        picked = torch.from_numpy(self.X[rows.numpy()].toarray())
        picked = (picked - self.offset) * self.inverse
        return picked.to(dtype)

    def joined(self, other):
        """These columns and those of another block."""
        return SparseBlock(
            sparse.hstack([self.X, other.X], format="csr"),
            torch.cat([self.offset, other.offset]),
            torch.cat([self.inverse, other.inverse]),
        )
