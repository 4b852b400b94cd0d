"""A copy of some standardised features of a dense X, laid out for the solver of two classes.

Where a solver asks for the same few features again and again, such a copy is several times as fast
as X itself.
"""

import torch

from sk_adv.linear_model._array_functions import (
    empty,
    gram,
    take_columns,
    take_transposed,
    thin_product,
    weighted_sum,
)

# Samples of a chunk: some hundred features of them stay in a processor's cache.
_CHUNK = 1024
# Room for more features, as a share of those that there are.
_SPARE = 0.25
# Operations above which a Gram matrix is computed in single precision.
_MANY_OPERATIONS = 2**22


class FeatureCopies:
    """Standardised features; it has the methods of a design.

    The samples are cut into chunks, and within a chunk each feature is contiguous.

    Parameters
    ----------
    store : torch.Tensor of shape (n_chunks, n_rooms, chunk), float64
        The features, followed by empty rooms.
    n_samples, n_features : int
    """

    def __init__(self, store, n_samples, n_features):
        self.store, self.shape = store, (n_samples, n_features)
        self.chunks = store[:, :n_features]

    @classmethod
    def empty(cls, X, n_rooms):
        """A copy without features, and with room for some."""
        return cls(empty((-(-len(X) // _CHUNK), n_rooms, _CHUNK), like=X), len(X), 0)

    def joined(self, X, columns, offset, inverse):
        """These features and (X[:, columns] - offset) * inverse, in the empty rooms if they fit."""
        n_samples, n_before = self.shape
        n_after = n_before + len(columns)
        store = self.store
        if n_after > store.shape[1]:
            store = empty((len(store), int((1 + _SPARE) * n_after), _CHUNK), like=store)
            store[:, :n_before] = self.chunks
        for chunk, part in zip(store[:, n_before:n_after], X.split(_CHUNK), strict=True):
            target = chunk[:, : len(part)]
            torch.sub(take_transposed(part, columns), offset[:, None], out=target)
            target *= inverse[:, None]
        return FeatureCopies(store, n_samples, n_after)

    def product(self, coef, columns=None):
        """X[:, columns] @ coef, for coef of shape (n_columns,)."""
        n_samples, n_features = self.shape
        chunks = self.chunks
        if columns is not None and 2 * len(columns) < n_features:
            chunks = (chunk.index_select(0, columns) for chunk in chunks)
        elif columns is not None:
            coef = coef.new_zeros(n_features).index_copy_(0, columns, coef)
        return torch.cat([weighted_sum(coef, chunk) for chunk in chunks])[:n_samples]

    def transposed_product(self, values):
        """X.T @ values, for values of shape (n_samples,)."""
        result = values.new_zeros(self.shape[1])
        for chunk, part in zip(self.chunks, values.split(_CHUNK), strict=True):
            result += thin_product(part, chunk[:, : len(part)].T)
        return result

    def gram(self, rows, columns, weight, lead, slope):
        """See `DenseDesign.gram`; of much data, it comes in single precision."""
        n_samples, n_features = self.shape
        size = len(columns) + 1
        is_large = len(rows) * size**2 > _MANY_OPERATIONS
        result = torch.zeros(size, size, dtype=torch.float32 if is_large else weight.dtype)
        result = result.to(weight.device)
        root = weight.sqrt()
        starts = torch.arange(0, n_samples + _CHUNK, _CHUNK, device=rows.device)
        cuts = torch.searchsorted(rows, starts).tolist()
        for k, chunk in enumerate(self.chunks):
            part = slice(*cuts[k : k + 2])
            own = rows[part] - k * _CHUNK
            if not len(own):
                continue
            picked = chunk.index_select(0, columns) if len(columns) < n_features else chunk
            change = root.new_ones(size, len(own))
            change[:-1] = picked if len(own) == _CHUNK else take_columns(picked, own)
            change[:-1].addr_(slope, lead[part], alpha=-1)
            change *= root[part]
            result += gram(change.to(result.dtype))
        return result.to(weight.dtype)
