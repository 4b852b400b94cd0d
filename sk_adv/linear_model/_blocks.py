"""Blocks: copies of some standardised columns of X, with the rows sorted by class.

Products take and give matrices with a row for each class, which keeps the samples of a class side
by side.
"""

import torch
from scipy import sparse

from sk_adv.linear_model._array_functions import take_columns, thin_product

# Entries of X that are copied at once: 4 MiB in float64, which fits in a processor's cache.
_COPIED_ENTRIES = 2**19
# So many samples are summed in single precision.
_SUMMED_SAMPLES = 2**13


class DenseBlock:
    """Columns of a dense X.

    Parameters
    ----------
    Z : torch.Tensor of shape (n_samples, n_columns), float64
        Standardised.
    constant : bool
        Whether the first column is 1 everywhere.
    rough : torch.Tensor of shape (n_samples, n_columns), float32, default=None
        A copy in single precision, for gradients.
    """

    def __init__(self, Z, constant, rough=None):
        self.Z, self.constant, self.rough = Z, constant, rough

    @property
    def is_rough(self):
        """Whether gradients are in single precision."""
        return self.rough is not None

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
        return cls(Z, constant)

    def roughened(self):
        """The same columns, of which gradients are in single precision, in half the time."""
        return DenseBlock(self.Z, self.constant, self.Z.float())

    def precise(self):
        """The same columns, with all products in double precision."""
        return DenseBlock(self.Z, self.constant)

    def product(self, coef):
        """The logits, (n_classes, n_samples), of weights (n_classes, n_columns)."""
        return thin_product(coef, self.Z.T)

    def transposed_product(self, values):
        """The gradient, (n_classes, n_columns), of residuals (n_classes, n_samples)."""
        if not self.is_rough:
            return thin_product(values, self.Z)
        result = values.new_zeros(len(values), self.Z.shape[1])
        rough = values.float().split(_SUMMED_SAMPLES, dim=1)
        for part, rows in zip(rough, self.rough.split(_SUMMED_SAMPLES), strict=True):
            result += thin_product(part, rows)
        if self.constant:
            # Residuals have no signs that cancel errors.
            result[:, 0] = values.sum(1)
        return result

    def dense(self, rows, dtype):
        """A copy of some rows."""
        if self.is_rough and dtype == torch.float32:
            return self.rough[rows]
        return self.Z[rows].to(dtype)

    def joined(self, other):
        """These columns and those of another block."""
        rough = None
        if self.is_rough:
            rough = torch.cat([self.rough, other.Z.float()], dim=1)
        return DenseBlock(torch.cat([self.Z, other.Z], dim=1), self.constant, rough)


class SparseBlock:
    """Columns of a sparse X, which is standardised in products only.

    Parameters
    ----------
    X : scipy.sparse.csr_array of shape (n_samples, n_columns)
    offset, inverse : torch.Tensor of shape (n_columns,)
        The standardised columns are (x_j - offset_j) * inverse_j.
    """

    is_rough = False

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

    def roughened(self):
        """See `DenseBlock.roughened`; sparse products stay in double precision."""
        return self

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
