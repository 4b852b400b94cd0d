"""The design matrix: products with X, and weighted Gram matrices of its columns.

All results are float64 tensors. A design keeps X as it was given, dense or sparse and in its own
precision. It works on blocks of X, so it needs little memory beyond X.
"""

import itertools
from functools import partial

import numpy as np
import torch
from scipy import sparse

from sk_adv._arrays import to_tensor
from sk_adv.linear_model._array_functions import (
    gram,
    product_with_thin,
    subtract_multiple,
    sum_of_squares,
    take_columns,
    take_rows,
    thin_product,
    weighted_sum,
)
from sk_adv.linear_model._blocks import DenseBlock, SparseBlock
from sk_adv.linear_model._feature_copies import FeatureCopies, RoughCopies

# Entries of X in a block: 4 MiB in float64, which fits in a processor's cache.
_BLOCK_ENTRIES = 2**19
# Sums over all entries take blocks of 4 MiB, of so many columns at most.
_STATISTICS_ENTRIES, _STATISTICS_COLUMNS = 2**19, 2**13
# Entries of X that a processor's cache may hold, from one product to the next.
_CACHED_ENTRIES = 2**22


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

    def rough(self, offset, scale):
        """A standardised design that computes products in single precision."""
        rough, inverse = torch.empty_like(self.X, dtype=torch.float32), _inverse(scale)
        # Offsets are subtracted before the rounding: they can be far larger than deviations.
        for block, part in _blocks(self.X, rough):
            part.copy_((block.to(offset.dtype) - offset) * inverse)
        design = DenseDesign(rough, is_rough=True)
        return StandardisedDesign(design, torch.zeros_like(offset), torch.ones_like(scale))

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
        products = [product_with_thin(block, coef) for (block,) in _converted(X, coef.dtype)]
        return torch.cat(products)

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,) or (n_samples, n_outputs)."""
        if self.X.dtype == values.dtype or self.is_rough:
            # The thin matrix goes first: BLAS is slow the other way round.
            factor = values.to(self.X.dtype)
            if values.ndim > 1:
                product = thin_product(factor.T, self.X).T
            elif self.X.numel() > _CACHED_ENTRIES:
                product = weighted_sum(factor, self.X)
            else:
                product = thin_product(factor, self.X)
            return product.to(values.dtype)
        result = values.new_zeros(self.X.shape[1], *values.shape[1:])
        for block, part in _converted(self.X, values.dtype, values):
            result += block.T @ part if values.ndim == 1 else thin_product(part.T, block).T
        return result

    def gram(self, rows, columns, weight, lead, slope, offset):
        """Σ_i weight_i u_i u_iᵀ over some rows, with u_i = (x_i - offset - lead_i slope, 1).

        Rows must be sorted, and weights at least 0. Offset and slope belong to the columns.
        """
        n_features, root = len(columns), weight.sqrt()
        # The moments of (x_i - offset, 1, lead_i).
        moments = weight.new_zeros(n_features + 2, n_features + 2)
        width = n_features + 2 if self._are_few(columns) else self.shape[1]
        # Memory that is new costs more time than what is done there.
        room = weight.new_empty(min(_rows_of(_BLOCK_ENTRIES, width), len(rows)), n_features + 2)
        for part in torch.arange(len(rows), device=rows.device).split(max(len(room), 1)):
            block = room[: len(part)]
            block[:, :-2] = self._gather(rows[part], columns)
            block[:, :-2] -= offset
            block[:, -2] = 1
            block[:, -1] = lead[part]
            block *= root[part].unsqueeze(1)
            moments += gram(block.T)
        return subtract_multiple(moments, slope, -1)[:-1, :-1]

    def sums(self, weight):
        """Σ_i weight_i x_ij and Σ_i weight_i x_ij² for each feature j, in one pass over X."""
        first, second = weight.new_zeros(2, self.shape[1])
        room = weight.new_empty(_STATISTICS_ENTRIES)
        for columns in torch.arange(self.shape[1]).split(_STATISTICS_COLUMNS):
            columns = slice(int(columns[0]), int(columns[-1]) + 1)
            X = self.X[:, columns]
            for block, part in _converted(X, weight.dtype, weight, size=_STATISTICS_ENTRIES):
                squares = room[: block.numel()].view(block.shape)
                first[columns] += weighted_sum(part, block)
                second[columns] += sum_of_squares(part, block, squares)
        return first, second

    def mean_square(self, weight, offset=0.0):
        """Σ_i weight_i (x_ij - offset_j)² for each feature j."""
        result = weight.new_zeros(self.shape[1])
        for block, part in _blocks(self.X, weight):
            result += (block.to(weight.dtype) - offset).square_().T @ part
        return result

    def standardised_copy(self, columns, offset, scale, before, is_rough):
        """See `StandardisedDesign.copied`."""
        inverse = torch.where(scale > 0, 1 / scale, 0)
        kind = RoughCopies if is_rough else FeatureCopies
        before = before or kind.empty(self.X, len(columns))
        return before.joined(self.X, columns, offset, inverse)

    def block(self, rows, columns, offset, inverse, constant):
        """A `DenseBlock` of some rows and columns."""
        return DenseBlock.take(self.X, rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows."""
        return DenseDesign(take_rows(self.X, rows), self.is_rough)

    @classmethod
    def joined(cls, parts):
        """The samples of several designs in one piece."""
        return cls(torch.cat([part.X for part in parts]))

    def _are_few(self, columns):
        return 8 * len(columns) < self.shape[1]

    def _gather(self, rows, columns):
        """X[rows][:, columns], for rows that are sorted."""
        if not len(rows):
            return self.X.new_empty(0, len(columns))
        first, last = int(rows[0]), int(rows[-1]) + 1
        is_whole = len(columns) == self.shape[1] and bool((columns.diff() > 0).all())
        if last - first == len(rows):
            X = self.X[first:last]
            return X if is_whole else take_columns(X, columns)
        if 2 * len(columns) * (last - first) < self.shape[1] * len(rows):
            return take_columns(self.X[first:last], columns)[rows - first]
        X = take_rows(self.X, rows)
        return X if is_whole else take_columns(X, columns)


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

    def rough(self, offset, scale):
        """See `DenseDesign.rough`; sparse products stay in double precision."""
        return StandardisedDesign(self, offset, scale)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,) or (n_columns, n_outputs)."""
        if columns is not None:
            coef = scatter(coef, columns, self.shape[1])
        return torch.from_numpy(self.X @ coef.numpy())

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,) or (n_samples, n_outputs)."""
        return torch.from_numpy(self.X.T @ values.numpy())

    def gram(self, rows, columns, weight, lead, slope, offset):
        """See `DenseDesign.gram`."""
        rows, columns = rows.numpy(), columns.numpy()
        # Columns are taken before rows: that leaves a small matrix.
        picked = sparse.csr_array(self.X[:, columns], dtype=float)
        picked = picked if len(rows) == self.shape[0] else picked[rows]
        weighted = sparse.dia_array((weight.numpy(), 0), shape=(len(weight),) * 2) @ picked
        others = torch.stack([torch.ones_like(lead), lead], dim=1)
        # The moments of (x_i, 1, lead_i): offsets and slopes would fill the matrix.
        moments = weight.new_zeros(len(columns) + 2, len(columns) + 2)
        moments[:-2, :-2] = torch.from_numpy((picked.T @ weighted).toarray())
        moments[:-2, -2:] = torch.from_numpy(weighted.T @ others.numpy())
        moments[-2:, :-2] = moments[:-2, -2:].T
        moments[-2:, -2:] = others.T @ (weight[:, None] * others)
        moments = subtract_multiple(moments, offset, -2)
        return subtract_multiple(moments, slope, -1)[:-1, :-1]

    def sums(self, weight):
        """See `DenseDesign.sums`."""
        return self.transposed_product(weight), self.mean_square(weight)

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

    def standardised_copy(self, columns, offset, scale, before, is_rough):
        """See `StandardisedDesign.copied`; it is never rough."""
        X = self.X[:, columns.numpy()]
        if before is not None:
            X = sparse.hstack([before.design.X, X], format=X.format)
            offset = torch.cat([before.offset, offset])
            scale = torch.cat([before.scale, scale])
        return StandardisedDesign(SparseDesign(X), offset, scale)

    def block(self, rows, columns, offset, inverse, constant):
        """A `SparseBlock` of some rows and columns."""
        return SparseBlock.take(self.X, rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows."""
        return SparseDesign(self.X.tocsr()[rows.numpy()])

    @classmethod
    def joined(cls, parts):
        """The samples of several designs in one piece."""
        return cls(sparse.vstack([part.X for part in parts], format="csr"))


class StandardisedDesign:
    """Another design with each feature replaced by (x_j - offset_j) / scale_j, never formed.

    It makes a solver independent of the units of the features.

    Parameters
    ----------
    design : DenseDesign or SparseDesign
    offset : torch.Tensor of shape (n_features,)
    scale : torch.Tensor of shape (n_features,)
        0 marks a constant feature, which becomes 0, and so does the rounding of a constant.
    """

    def __init__(self, design, offset, scale):
        self.design, self.offset = design, offset
        self.scale = torch.where(scale > 1e-14 * offset.abs(), scale, 0)
        self.inverse = _inverse(self.scale)
        self.shape = design.shape

    @classmethod
    def of(cls, design, weight, centred):
        """Standardise by the weighted mean and deviation, or only by the root mean square."""
        sums = design.sums(weight)
        statistics = centre_and_scale(*sums, partial(design.mean_square, weight), centred)
        return cls(design, *statistics)

    @classmethod
    def joined(cls, parts):
        """The samples of several designs with the same offset and scale, in one piece."""
        first = parts[0]
        design = type(first.design).joined([part.design for part in parts])
        return cls(design, first.offset, first.scale)

    def from_raw(self, coef, intercept):
        """Convert weights for X in its own units to weights for the standardised X."""
        return coef * self.scale, intercept + self.offset @ coef

    def to_raw(self, coef, intercept):
        """The inverse of `from_raw`."""
        coef = coef * self.inverse
        return coef, intercept - self.offset @ coef

    def copied(self, columns, before=None, is_rough=False):
        """A design of a copy of some columns, which come after those of an earlier copy.

        In a rough one of a dense X, sums over samples are in single precision.
        """
        offset, scale = self.offset[columns], self.scale[columns]
        return self.design.standardised_copy(columns, offset, scale, before, is_rough)

    def block(self, rows, columns, constant):
        """A block of some standardised columns; `constant` puts a column of ones before them."""
        offset, inverse = self.offset[columns], self.inverse[columns]
        return self.design.block(rows, columns, offset, inverse, constant)

    def taken(self, rows):
        """A design of a copy of some rows, standardised as before."""
        return StandardisedDesign(self.design.taken(rows), self.offset, self.scale)

    def rough(self):
        """A copy whose products are in single precision, if X is dense."""
        return self.design.rough(self.offset, self.scale)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,)."""
        every = slice(None) if columns is None else columns
        coef = coef * self.inverse[every]
        return self.design.product(coef, columns) - self.offset[every] @ coef

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,)."""
        product = self.design.transposed_product(values)
        return (product - self.offset * values.sum()) * self.inverse

    def logits(self, coef, columns=None):
        """X[:, columns] @ coef.T, for coef of shape (n_classes, n_columns)."""
        every = slice(None) if columns is None else columns
        coef = coef * self.inverse[every]
        return self.design.product(coef.T, columns) - coef @ self.offset[every]

    def gradient(self, values):
        """values @ X, for values of shape (n_classes, n_samples)."""
        product = self.design.transposed_product(values.T).T
        return (product - values.sum(1, keepdim=True) * self.offset) * self.inverse

    def gram(self, rows, columns, weight, lead, slope):
        """See `DenseDesign.gram`; the columns are the standardised ones."""
        offset, inverse = self.offset[columns], self.inverse[columns]
        slope = slope * self.scale[columns]
        result = self.design.gram(rows, columns, weight, lead, slope, offset)
        result[:-1] *= inverse[:, None]
        result[:, :-1] *= inverse
        return result

    def mean_square(self, weight):
        """Σ_i weight_i x_ij² for each feature j."""
        return self.design.mean_square(weight, self.offset) * self.inverse**2


def centre_and_scale(first, second, mean_square, is_centred):
    """Means and standard deviations from `sums`, or zeros and root mean squares.

    The weights sum to 1. Where a deviation is much smaller than the mean, it comes from
    `mean_square`, a function of the means.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, or values too large to be squared.
    """
    if not second.isfinite().all():
        raise ValueError("X has features too large to be squared; use smaller units.")
    if not is_centred:
        return torch.zeros_like(first), second.sqrt()
    variance = second - first.square()
    cancelled = variance < 1e-3 * second
    if cancelled.any():
        variance = torch.where(cancelled, mean_square(first), variance)
    return first, variance.sqrt()


def scatter(values, columns, size):
    """A tensor with `size` rows: `values` at the positions `columns`, and zeros."""
    return values.new_zeros(size, *values.shape[1:]).index_copy_(0, columns, values)


def _inverse(scale):
    """1 / scale, and 0 for constant features."""
    return torch.where(scale > 0, 1 / scale, 0)


def _blocks(X, *others, size=_BLOCK_ENTRIES):
    """Blocks of rows of X, and the same rows of other tensors."""
    size = _rows_of(size, X.shape[1])
    return zip(*(tensor.split(size) for tensor in (X, *others)), strict=True)


def _converted(X, dtype, *others, size=_BLOCK_ENTRIES):
    """The same with blocks in another precision, each of which takes the place of the last one."""
    if X.dtype == dtype:
        yield from _blocks(X, *others, size=size)
        return
    # Memory that is new costs more time than the conversion.
    room = X.new_empty(min(_rows_of(size, X.shape[1]), len(X)), X.shape[1], dtype=dtype)
    for block, *parts in _blocks(X, *others, size=size):
        yield room[: len(block)].copy_(block), *parts


def _rows_of(n_entries, width):
    return max(n_entries // max(width, 1), 1)
