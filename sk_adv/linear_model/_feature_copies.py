"""Copies of some standardised features of a dense X, laid out for the solver of two classes.

Where a solver asks for the same few features again and again, such a copy is several times as fast
as X itself.
"""

import torch

from sk_adv.linear_model._array_functions import (
    empty,
    gram,
    subtract_multiple,
    take_transposed,
    thin_product,
)

# Samples of a chunk: some hundred features of them stay in a processor's cache.
_CHUNK = 1024
# Room for more features, as a share of those that there are. On a path more of them come at every
# few radii, and a copy that has to move to a larger place costs more than room.
_SPARE, _SPARE_ON_PATH = 0.25, 2.0
# Operations above which a Gram matrix is computed in single precision.
_MANY_OPERATIONS = 2**22


class FeatureCopies:
    """Standardised features; it has the methods of a design.

    The samples are cut into chunks, and within a chunk each feature is contiguous.

    Parameters
    ----------
    store : torch.Tensor of shape (n_chunks, n_rooms, chunk)
        The features, followed by empty rooms, in the precision of all products.
    n_samples, n_features : int
    spare : float
        Room to add for more features where it runs out, as a share of those that there are.
    """

    def __init__(self, store, n_samples, n_features, spare):
        self.store, self.shape, self.spare = store, (n_samples, n_features), spare
        self.chunks = store[:, :n_features]

    @classmethod
    def empty(cls, X, n_rooms, dtype=torch.float64, spare=_SPARE):
        """A copy without features, and with room for some."""
        return cls(empty((-(-len(X) // _CHUNK), n_rooms, _CHUNK), X, dtype), len(X), 0, spare)

    def joined(self, X, columns, offset, inverse):
        """These features and (X[:, columns] - offset) * inverse, in the empty rooms if they fit."""
        n_samples, n_before = self.shape
        n_after = n_before + len(columns)
        store = self.store
        if n_after > store.shape[1]:
            n_rooms = min(int((1 + self.spare) * n_after), X.shape[1])
            store = empty((len(store), n_rooms, _CHUNK), store, store.dtype)
            store[:, :n_before] = self.chunks
        offset, inverse = offset[:, None], inverse[:, None]
        for chunk, part in zip(store[:, n_before:n_after], X.split(_CHUNK), strict=True):
            # Offsets are subtracted before the rounding: they can be far larger than deviations.
            deviation = take_transposed(part, columns).to(offset.dtype).sub_(offset)
            torch.mul(deviation, inverse, out=chunk[:, : len(part)])
        store[-1, n_before:n_after, n_samples - (len(store) - 1) * _CHUNK :] = 0
        return FeatureCopies(store, n_samples, n_after, self.spare)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,)."""
        n_samples, n_features = self.shape
        if columns is not None and 4 * len(columns) < n_features:
            parts = (chunk.index_select(0, columns) for chunk in self.chunks)
            return torch.cat([thin_product(coef, part) for part in parts])[:n_samples]
        if columns is not None:
            coef = coef.new_zeros(n_features).index_copy_(0, columns, coef)
        return thin_product(coef, self.chunks).flatten()[:n_samples]

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,)."""
        n_chunks, _, size = self.chunks.shape
        padded = self.chunks.new_zeros(n_chunks, 1, size)
        padded.view(-1)[: len(values)] = values
        return thin_product(padded, self.chunks.mT).to(values.dtype).sum(0).squeeze(0)

    def gram(self, rows, columns, weight, lead, slope):
        """See `DenseDesign.gram`; of much data, it comes in single precision."""
        n_samples, n_features = self.shape
        size = len(columns) + 2
        is_large = len(rows) * size**2 > _MANY_OPERATIONS
        dtype = torch.float32 if is_large else weight.dtype
        # The moments of (x_i, 1, lead_i).
        moments = torch.zeros(size, size, dtype=dtype, device=weight.device)
        root = weight.sqrt().to(dtype)
        others = torch.stack([root, root * lead.to(dtype)])
        starts = torch.arange(0, n_samples + _CHUNK, _CHUNK, device=rows.device)
        cuts = torch.searchsorted(rows, starts).tolist()
        for k, chunk in enumerate(self.chunks):
            part = slice(*cuts[k : k + 2])
            own = rows[part] - k * _CHUNK
            if not len(own):
                continue
            picked = chunk.index_select(0, columns) if len(columns) < n_features else chunk
            if len(own) < _CHUNK:
                picked = picked.to(dtype).index_select(1, own)
            block = root.new_empty(size, len(own))
            torch.mul(picked, root[part], out=block[:-2])
            block[-2:] = others[:, part]
            moments += gram(block)
        return subtract_multiple(moments.to(weight.dtype), slope, -1)[:-1, :-1]


class RoughCopies:
    """Standardised features for sums over samples in single precision; it has the same methods.

    Paths are solved on them. They take half the memory and half the time. Products with weights are
    in double precision: a feature is copied once more, the first time that it has a weight.

    Parameters
    ----------
    X : torch.Tensor of shape (n_samples, n_all_features)
    columns, offset, inverse : torch.Tensor of shape (n_features,)
        The feature x becomes (x - offset) * inverse.
    rough : FeatureCopies
        All the features, in single precision.
    exact : FeatureCopies
        Some of them, in double precision,
    places : torch.Tensor of shape (n_features,)
        and where they are; -1 marks the others.
    """

    def __init__(self, X, columns, offset, inverse, rough, exact, places):
        self.X, self.columns, self.offset, self.inverse = X, columns, offset, inverse
        self.rough, self.exact, self.places = rough, exact, places
        self.shape = rough.shape

    @classmethod
    def empty(cls, X, n_rooms):
        """A copy without features, and with room for some."""
        none = torch.empty(0, dtype=torch.long, device=X.device)
        rough = FeatureCopies.empty(X, n_rooms, torch.float32, _SPARE_ON_PATH)
        exact = FeatureCopies.empty(X, n_rooms, spare=_SPARE_ON_PATH)
        return cls(X, none, none.double(), none.double(), rough, exact, none)

    def joined(self, X, columns, offset, inverse):
        """These features and (X[:, columns] - offset) * inverse."""
        return RoughCopies(
            X,
            torch.cat([self.columns, columns]),
            torch.cat([self.offset, offset]),
            torch.cat([self.inverse, inverse]),
            self.rough.joined(X, columns, offset, inverse),
            self.exact,
            torch.cat([self.places, torch.full_like(columns, -1)]),
        )

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,)."""
        if columns is None:
            columns = coef.nonzero().squeeze(1)
            coef = coef[columns]
        is_new = self.places[columns] < 0
        if coef[is_new].any():
            # All at once, since each copy reads much of X.
            self._copy(columns[is_new])
        elif is_new.any():
            columns, coef = columns[~is_new], coef[~is_new]
        return self.exact.product(coef, self.places[columns])

    def _copy(self, new):
        n_before, columns = self.exact.shape[1], self.columns[new]
        self.exact = self.exact.joined(self.X, columns, self.offset[new], self.inverse[new])
        self.places[new] = torch.arange(n_before, self.exact.shape[1], device=new.device)

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,)."""
        return self.rough.transposed_product(values)

    def gram(self, rows, columns, weight, lead, slope):
        """See `DenseDesign.gram`."""
        return self.rough.gram(rows, columns, weight, lead, slope)
