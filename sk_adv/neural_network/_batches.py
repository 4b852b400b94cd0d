"""Mini-batches taken by index, from tensors on the device or from a memory map."""

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import Subset

from sk_adv._devices import to_numpy


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
    dtype : torch.dtype, default=torch.float32
        The dtype of batches from a memory map.
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
            X = torch.from_numpy(read_rows(self.X, read)).to(self.dtype)
        y = self.y[rows]
        return X, y if self.weight is None else (y, self.weight[rows])


class TensorBatches:
    """Mini-batches taken by index, from tensors on their device or from a memory map on disk.

    The order of the samples is the same in both cases.

    Parameters
    ----------
    data : WeightedData

    batch_size : int
        Number of samples per batch. The last batch may be smaller.

    shuffle : bool, default=False
        Whether to draw a new order for each epoch, from torch's random state of the CPU.
    """

    def __init__(self, data, batch_size, shuffle=False):
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        """Number of batches."""
        return -(-len(self.data) // self.batch_size)

    def rows(self):
        """Yield the indices of each batch."""
        n_samples = len(self.data)
        order = torch.randperm(n_samples) if self.shuffle else torch.arange(n_samples)
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

    A `numpy.memmap` stays on disk, and its batches have the dtype `dtype`.
    """
    if isinstance(dataset, WeightedData):
        return dataset
    rows = slice(None)
    if isinstance(dataset, Subset):
        dataset, rows = dataset.dataset, np.asarray(dataset.indices)
    if type(dataset) is not Dataset or dataset.transform.__func__ is not Dataset.transform:
        return None
    X, y = dataset.X, dataset.y
    if y is None and isinstance(X, np.memmap):
        # Without labels, in a prediction, they don't matter.
        y = np.zeros(len(X), dtype=np.int64)
    if not _is_numeric(X) or not _is_numeric(y):
        return None
    y = torch.as_tensor(y)[rows].long()
    if isinstance(X, np.memmap):
        kept = None if isinstance(rows, slice) else rows
        return WeightedData(X, y, rows=kept, dtype=dtype)
    return WeightedData(torch.as_tensor(X)[rows].to(device), y.to(device))


def _is_numeric(values):
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiub"
    return isinstance(values, torch.Tensor)
