"""The design matrix: products with X, and weighted Gram matrices of its columns.

All results are float64 tensors. A design keeps X as it was given, dense or sparse and in its own
precision. It works on blocks of X, so it needs little memory beyond X.
"""

import itertools

import numpy as np
import torch
from scipy import sparse

from sk_adv._arrays import to_tensor
from sk_adv.linear_model._blocks import DenseBlock, SparseBlock, take_columns, thin_product

# Entries of X in a block: 4 MiB in float64, which fits in a processor's cache.
_BLOCK_ENTRIES = 2**19


def as_design(X, device):
    """The design of X, a dense array or a CSR or CSC matrix, on a device."""
    if sparse.issparse(X):
        return SparseDesign(X)
    return DenseDesign(to_tensor(X, device=device))


class DenseDesign:
    """A dense X, on any device.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, n_features)
        Any floating type.

    is_rough : bool, default=False
        Whether to compute products in the precision of X instead of their factor's.
    """

    def __init__(self, X, is_rough=False):
        self.X = X
        self.is_rough = is_rough
        self.shape = tuple(X.shape)

    def rough(self, rows=slice(None)):
        """A design of some rows that computes products in single precision."""
        return DenseDesign(self.X[rows].to(torch.float32), is_rough=True)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,) or (n_columns, n_outputs)."""
        X = self.X
        if columns is not None:
            # A copy pays for few columns only.
            if self._are_few(columns):
                X = take_columns(X, columns)
            else:
                coef = scatter(coef, columns, X.shape[1])
        if X.dtype == coef.dtype or self.is_rough:
            return (X @ coef.to(X.dtype)).to(coef.dtype)
        return torch.cat([block.to(coef.dtype) @ coef for (block,) in _blocks(X)])

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,) or (n_samples, n_outputs)."""
        if self.X.dtype == values.dtype or self.is_rough:
            # The thin matrix goes first: BLAS is slow the other way round.
            factor = values.to(self.X.dtype)
            product = factor @ self.X if values.ndim == 1 else thin_product(factor.T, self.X).T
            return product.to(values.dtype)
        result = values.new_zeros(self.X.shape[1], *values.shape[1:])
        for block, part in _blocks(self.X, values):
            result += block.to(values.dtype).T @ part
        return result

    def moments(self, rows, columns, weight, first, offset):
        """Zᵀ diag(weight) Z and Zᵀ first, where Z = (X[rows][:, columns] - offset, 1).

        Rows must be sorted, and weights at least 0.
        """
        size = len(columns) + 1
        second, cross = weight.new_zeros(size, size), weight.new_zeros(size)
        root = weight.sqrt().unsqueeze(1)
        width = size if self._are_few(columns) else self.shape[1]
        for chunk in torch.arange(len(rows), device=rows.device).split(_block_rows(width)):
            block = weight.new_ones(len(chunk), size)
            torch.sub(self._gather(rows[chunk], columns), offset, out=block[:, :-1])
            cross += block.T @ first[chunk]
            block *= root[chunk]
            second += block.T @ block
        return second, cross

    def mean_square(self, weight, offset=0.0):
        """Σ_i weight_i (x_ij - offset_j)² for each feature j."""
        result = weight.new_zeros(self.shape[1])
        for block, part in _blocks(self.X, weight):
            result += (block.to(weight.dtype) - offset).square_().T @ part
        return result

    def restricted(self, columns):
        """A design of a copy of some columns."""
        return DenseDesign(take_columns(self.X, columns), self.is_rough)

    def joined(self, other):
        """A design of these columns and those of another design."""
        return DenseDesign(torch.cat([self.X, other.X], dim=1), self.is_rough)

    def block(self, rows, columns, offset, inverse, constant):
        """A `DenseBlock` of some rows and columns."""
        return DenseBlock.take(self.X, rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows."""
        return DenseDesign(self.X[rows], self.is_rough)

    def _are_few(self, columns):
        return 8 * len(columns) < self.shape[1]

    def _gather(self, rows, columns):
        """X[rows][:, columns], for rows that are sorted."""
        first, last = int(rows[0]), int(rows[-1]) + 1
        if last - first == len(rows):
            return take_columns(self.X[first:last], columns)
        if 2 * len(columns) * (last - first) < self.shape[1] * len(rows):
            return take_columns(self.X[first:last], columns)[rows - first]
        return take_columns(self.X[rows], columns)


class SparseDesign:
    """A CSR or CSC matrix on the CPU; it is never made dense.

    Parameters
    ----------
    X : scipy.sparse matrix or array of shape (n_samples, n_features)
        In CSR or CSC format.
    """

    def __init__(self, X):
        self.X = X
        self.shape = X.shape

    def rough(self, rows=slice(None)):
        """A design of some rows; sparse products stay in double precision."""
        return self if isinstance(rows, slice) else SparseDesign(self.X.tocsr()[rows.numpy()])

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,) or (n_columns, n_outputs)."""
        if columns is not None:
            coef = scatter(coef, columns, self.shape[1])
        return torch.from_numpy(self.X @ coef.numpy())

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,) or (n_samples, n_outputs)."""
        return torch.from_numpy(self.X.T @ values.numpy())

    def moments(self, rows, columns, weight, first, offset):
        """See `DenseDesign.moments`."""
        rows, columns = rows.numpy(), columns.numpy()
        size = len(columns) + 1
        second, cross = weight.new_zeros(size, size), weight.new_zeros(size)
        # Columns are taken before rows: that leaves a small matrix.
        picked = sparse.csr_array(self.X[:, columns], dtype=float)
        picked = picked if len(rows) == self.shape[0] else picked[rows]
        cross[:-1] = torch.from_numpy(picked.T @ first.numpy())
        cross[-1] = first.sum()
        second[:-1, -1] = second[-1, :-1] = torch.from_numpy(picked.T @ weight.numpy())
        second[-1, -1] = weight.sum()
        weighted = sparse.dia_array((weight.numpy(), 0), shape=(len(weight),) * 2) @ picked
        second[:-1, :-1] = torch.from_numpy((picked.T @ weighted).toarray())
        # Offsets would fill the matrix, so they are subtracted from the products.
        cross[:-1] -= offset * cross[-1]
        second[:-1] -= torch.outer(offset, second[-1])
        second[:, :-1] -= torch.outer(second[:, -1], offset)
        return second, cross

    def mean_square(self, weight, offset=None):
        """Σ_i weight_i (x_ij - offset_j)² for each feature j."""
        offset = np.zeros(self.shape[1]) if offset is None else offset.numpy()
        weight = weight.numpy()
        square = np.zeros(self.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            for block, rows, columns in self._blocks():
                block.data *= block.data
                square[columns] += block.T @ weight[rows]
            if offset.any():
                far = offset**2 * weight.sum()
                spread = square - 2 * offset * (self.X.T @ weight) + far
                # If the offset is large, the difference is mostly rounding.
                cancelled = spread < 1e-3 * (square + far)
                if cancelled.any():
                    spread[cancelled] = self._spread(weight, offset)[cancelled]
                square = spread
        return torch.from_numpy(square)

    def _spread(self, weight, offset):
        """Σ_i weight_i (x_ij - offset_j)² from the differences themselves."""
        square, stored = np.zeros((2, self.shape[1]))
        for block, rows, columns in self._blocks():
            if block.format == "csr":
                block.data -= offset[block.indices]
            else:
                block.data -= np.repeat(offset[columns], np.diff(block.indptr))
            block.data *= block.data
            square[columns] += block.T @ weight[rows]
            block.data[:] = 1
            stored[columns] += block.T @ weight[rows]
        missing = weight.sum() - stored
        # A smaller weight is the rounding of a column without missing entries.
        missing[missing < 1e-12 * weight.sum()] = 0
        return square + missing * offset**2

    def _blocks(self):
        """Yield float64 copies of blocks of rows (CSR) or columns (CSC), with their positions."""
        ends, every = self.X.indptr, slice(None)
        cuts = np.searchsorted(ends, np.arange(0, ends[-1], _BLOCK_ENTRIES), side="right") - 1
        for first, last in itertools.pairwise(np.unique(np.append(cuts, len(ends) - 1))):
            entries = slice(ends[first], ends[last])
            parts = self.X.data[entries].astype(float), self.X.indices[entries]
            parts = *parts, ends[first : last + 1] - ends[first]
            if self.X.format == "csr":
                block = sparse.csr_array(parts, shape=(last - first, self.shape[1]))
                yield block, slice(first, last), every
            else:
                block = sparse.csc_array(parts, shape=(self.shape[0], last - first))
                yield block, every, slice(first, last)

    def restricted(self, columns):
        """A design of a copy of some columns."""
        return SparseDesign(self.X[:, columns.numpy()])

    def block(self, rows, columns, offset, inverse, constant):
        """A `SparseBlock` of some rows and columns."""
        return SparseBlock.take(self.X, rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows."""
        return SparseDesign(self.X.tocsr()[rows.numpy()])

    def joined(self, other):
        """A design of these columns and those of another design."""
        return SparseDesign(sparse.hstack([self.X, other.X], format=self.X.format))


class StandardisedDesign:
    """Another design with each feature replaced by (x_j - offset_j) / scale_j, never formed.

    It makes a solver independent of the units of the features.

    Parameters
    ----------
    design : DenseDesign or SparseDesign
    offset : torch.Tensor of shape (n_features,)
    scale : torch.Tensor of shape (n_features,)
        0 marks a constant feature, which becomes 0.
    """

    def __init__(self, design, offset, scale):
        self.design, self.offset, self.scale = design, offset, scale
        self.inverse = torch.where(scale > 0, 1 / scale, 0)
        self.shape = design.shape

    @classmethod
    def of(cls, design, weight, centred):
        """Standardise by the weighted mean and deviation, or only by the root mean square."""
        offset = design.transposed_product(weight) * centred
        scale = design.mean_square(weight, offset).sqrt()
        if not scale.isfinite().all():
            raise ValueError("X has features too large to be squared; use smaller units.")
        # A smaller deviation is the rounding of a constant.
        return cls(design, offset, torch.where(scale > 1e-14 * offset.abs(), scale, 0))

    def from_raw(self, coef, intercept):
        """Convert weights for X in its own units to weights for the standardised X."""
        return coef * self.scale, intercept + self.offset @ coef

    def to_raw(self, coef, intercept):
        """The inverse of `from_raw`."""
        coef = coef * self.inverse
        return coef, intercept - self.offset @ coef

    def restricted(self, columns):
        """A design of a copy of some columns."""
        return StandardisedDesign(
            self.design.restricted(columns), self.offset[columns], self.scale[columns]
        )

    def joined(self, other):
        """A design of these columns and those of another design."""
        return StandardisedDesign(
            self.design.joined(other.design),
            torch.cat([self.offset, other.offset]),
            torch.cat([self.scale, other.scale]),
        )

    def block(self, rows, columns, constant):
        """A block of some standardised columns; `constant` puts a column of ones before them."""
        offset, inverse = self.offset[columns], self.inverse[columns]
        return self.design.block(rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows, standardised as before."""
        return StandardisedDesign(self.design.taken(rows), self.offset, self.scale)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,)."""
        every = slice(None) if columns is None else columns
        coef = coef * self.inverse[every]
        return self.design.product(coef, columns) - self.offset[every] @ coef

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,)."""
        product = self.design.transposed_product(values)
        return (product - self.offset * values.sum()) * self.inverse

    def gradient(self, values):
        """values @ X, for values of shape (n_classes, n_samples)."""
        product = self.design.transposed_product(values.T).T
        return (product - values.sum(1, keepdim=True) * self.offset) * self.inverse

    def moments(self, rows, columns, weight, first):
        """See `DenseDesign.moments`; the columns are the standardised ones."""
        offset, inverse = self.offset[columns], self.inverse[columns]
        second, cross = self.design.moments(rows, columns, weight, first, offset)
        cross[:-1] *= inverse
        second[:-1] *= inverse[:, None]
        second[:, :-1] *= inverse
        return second, cross

    def mean_square(self, weight):
        """Σ_i weight_i x_ij² for each feature j."""
        return self.design.mean_square(weight, self.offset) * self.inverse**2


def scatter(values, columns, size):
    """A tensor with `size` rows: `values` at the positions `columns`, and zeros."""
    return values.new_zeros(size, *values.shape[1:]).index_copy_(0, columns, values)


def _blocks(X, *others):
    """Blocks of rows of X, and the same rows of other tensors."""
    size = _block_rows(X.shape[1])
    return zip(*(tensor.split(size) for tensor in (X, *others)), strict=True)


def _block_rows(width):
    return max(_BLOCK_ENTRIES // max(width, 1), 1)
