"""Mini-batches taken by index, from tensors on the device or from a memory map."""

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import Subset

from sk_adv._arrays import to_numpy, to_tensor
from sk_adv._randomness import generator_on


class WeightedData(torch.utils.data.Dataset):
    """Samples with class indices and weights, as whole arrays.

    Parameters
    ----------
    X : torch.Tensor or numpy.memmap of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,), int64
    weight : torch.Tensor of shape (n_samples,) or None
        None means weight 1 for all samples.
    rows : ndarray of shape (n_samples,) or None
        The rows of the memory map X that are used. None means all rows.
    dtype : torch.dtype or None, default=torch.float32
        The dtype of batches from a memory map. None leaves them as they are.
    """

    def __init__(self, X, y, weight=None, rows=None, dtype=torch.float32):
        self.X, self.y, self.weight, self.rows, self.dtype = X, y, weight, rows, dtype

    def __len__(self):
        return len(self.y)

    def __getitem__(self, rows):
        """Return (X, y) of some rows, or (X, (y, weight)) if there are weights."""
        if isinstance(self.X, torch.Tensor):
            X = self.X[rows]
        else:
            read = to_numpy(rows) if self.rows is None else self.rows[to_numpy(rows)]
            X = _with_all_operations(torch.from_numpy(read_rows(self.X, read)))
            X = X if self.dtype is None else X.to(self.dtype)
        y = self.y[rows]
        return X, y if self.weight is None else (y, self.weight[rows])


def some_of(dataset, rows):
    """Some samples of a dataset, in a form that `as_weighted_data` knows."""
    if isinstance(dataset, WeightedSamples):
        return WeightedSamples(some_of(dataset.dataset, rows), dataset.weight[rows])
    if isinstance(dataset, Subset):
        return Subset(dataset.dataset, np.asarray(dataset.indices)[rows])
    return Subset(dataset, rows)


def check_held_out(data):
    """Raise `TypeError` unless held-out samples are None or a dataset with a length."""
    if data is None or (isinstance(data, torch.utils.data.Dataset) and hasattr(data, "__len__")):
        return
    raise TypeError(
        "data must be a torch.utils.data.Dataset of samples and class indices with a length, or "
        f"None for the samples that train_split holds out; got {type(data).__name__}."
    )


class WeightedSamples(torch.utils.data.Dataset):
    """A dataset of pairs (X, y), with weights: of pairs (X, (y, weight)).

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    weight : ndarray of shape (n_samples,)
    """

    def __init__(self, dataset, weight):
        self.dataset, self.weight = dataset, weight

    def __len__(self):
        return len(self.weight)

    def __getitem__(self, row):
        """One sample, its label and its weight."""
        X, y = self.dataset[row]
        return X, (y, self.weight[row])

    @classmethod
    def of(cls, dataset, weight):
        """A dataset, or a part of it, with the weights of the samples of the whole."""
        if isinstance(dataset, Subset) and len(dataset.dataset) == len(weight):
            return cls(dataset, weight[np.asarray(dataset.indices)])
        if len(dataset) == len(weight):
            return cls(dataset, weight)
        raise ValueError(
            f"train_split made a dataset of {len(dataset)} of the {len(weight)} samples, and it "
            "can't be told which of the values of sample_weight belong to them: use "
            "skorch.dataset.ValidSplit, which notes the rows, or train_split=None."
        )


class TensorBatches:
    """Mini-batches taken by index, from tensors on their device or from a memory map on disk.

    The order of the samples is the same in both cases.

    Parameters
    ----------
    data : WeightedData

    batch_size : int
        Number of samples per batch. The last batch may be smaller.

    shuffle : bool, default=False
        Whether to draw a new order for each epoch, by the generator of the CPU.
    """

    def __init__(self, data, batch_size, shuffle=False):
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        """Number of batches."""
        return -(-len(self.data) // self.batch_size)

    def order(self):
        """The order of the samples in an epoch."""
        if not self.shuffle:
            return torch.arange(len(self.data))
        # Named, since torch's default device may be another.
        return torch.randperm(len(self.data), generator=generator_on("cpu"), device="cpu")

    def rows(self):
        """Yield the indices of each batch."""
        order = self.order()
        if isinstance(self.data.X, torch.Tensor):
            order = order.to(self.data.X.device)
        yield from order.split(self.batch_size)

    def __iter__(self):
        """Yield pairs of tensors (X, y), or (X, (y, weight))."""
        for rows in self.rows():
            yield self.data[rows]


def read_rows(X, rows):
    """Read rows of a memory map, in the byte order of this machine."""
    return np.array(X[rows], dtype=X.dtype.newbyteorder("="))


def check_finite(block, start):
    """Raise `ValueError` if rows of a memory map, from row `start` on, hold NaN or infinity."""
    if not np.isfinite(block).all():
        raise ValueError(
            f"Input X contains NaN or infinity in rows {start} to {start + len(block) - 1} of the "
            "memory map: impute or drop these values."
        )


def as_weighted_data(dataset, device, dtype=torch.float32):
    """Move the arrays of a skorch dataset to a device; return None if it holds other data.

    A `numpy.memmap` stays on disk, and its batches have the dtype `dtype` unless it holds integers.
    """
    if isinstance(dataset, WeightedData):
        return dataset
    if isinstance(dataset, WeightedSamples):
        data = as_weighted_data(dataset.dataset, device, dtype)
        if data is not None:
            data.weight = torch.as_tensor(dataset.weight, dtype=dtype, device=device)
        return data
    rows = slice(None)
    if isinstance(dataset, Subset):
        dataset, rows = dataset.dataset, np.asarray(dataset.indices)
    if type(dataset) is not Dataset or dataset.transform.__func__ is not Dataset.transform:
        return None
    X, y = dataset.X, dataset.y
    if y is None and _is_numeric(X):
        # Without labels, in a prediction, they don't matter, and X is moved batch by batch.
        y, device = np.zeros(len(X), dtype=np.int64), None
    if not _is_numeric(X) or not _is_numeric(y):
        return None
    y = _with_all_operations(to_tensor(y))[rows].long()
    if isinstance(X, np.memmap):
        kept = None if isinstance(rows, slice) else rows
        return WeightedData(X, y, rows=kept, dtype=dtype if X.dtype.kind == "f" else None)
    X = _with_all_operations(to_tensor(X))
    return WeightedData(*(part if device is None else part.to(device) for part in (X[rows], y)))


def _is_numeric(values):
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiub"
    return isinstance(values, torch.Tensor)


def _with_all_operations(X):
    """A tensor of a type that torch computes with: it knows little of unsigned integers."""
    wider = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
    return X.to(wider.get(X.dtype, X.dtype))
