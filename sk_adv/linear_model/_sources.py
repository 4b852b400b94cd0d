"""Where training data in partitions comes from: blocks of an array on disk, or Dask."""

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, column_or_1d

from sk_adv import _collections as collections
from sk_adv._arrays import check_unmasked
from sk_adv.linear_model._partitioned_data import EncodedLabels, LabelSummary
from sk_adv.linear_model._runners import DaskRunner, LocalRunner, read_inside

# Arrays on disk with fewer bytes are fitted as others are.
_FEW_BYTES = 2**29
# Bytes of a block of rows.
_BLOCK_BYTES = 2**25
# A cluster keeps data of at most this share of its memory.
_KEPT_SHARE = 0.3
# A collection of at most so many entries, 16 MiB, is fitted in memory.
_FEW_ENTRIES = 2**21


def is_on_disk(X):
    """Whether X is a large array or matrix that maps a file."""
    stored = X.data if sparse.issparse(X) and X.format == "csr" else X
    while isinstance(stored, np.ndarray) and not isinstance(stored, np.memmap):
        stored = stored.base
    return isinstance(stored, np.memmap) and _n_bytes(X) >= _FEW_BYTES


def _n_bytes(X):
    return X.data.nbytes + X.indices.nbytes if sparse.issparse(X) else X.nbytes


def source_of(X, y, sample_weight):
    """The source of data in partitions, or None if X is in memory."""
    kind = DaskSource if collections.is_collection(X) else LocalSource if is_on_disk(X) else None
    if kind is None:
        return None
    if y is None:
        raise ValueError("A fit requires y to be passed, but the target y is None.")
    if sample_weight is not None and np.ndim(sample_weight) == 0:
        raise ValueError(f"sample_weight must have one entry per sample; got {sample_weight!r}.")
    return kind(X, y, sample_weight)


class LocalSource:
    """Blocks of rows of an array or CSR matrix that maps a file.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None
    """

    def __init__(self, X, y, sample_weight):
        if not sparse.issparse(X) and X.ndim != 2:
            raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}.")
        collections.check_in_memory(y, sample_weight)
        check_unmasked(y=y)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y, sample_weight)
        self.runner, self.like = LocalRunner(), np.empty((0, X.shape[1]))
        self.given = X, y, sample_weight
        cuts = _cuts(X)
        self.X = [_view(X, rows) for rows in cuts]
        self.y = [y[rows] for rows in cuts]
        self.sample_weight = [
            None if sample_weight is None else sample_weight[rows] for rows in cuts
        ]

    def gathered_labels(self):
        """All labels."""
        return self.given[1]

    def fold(self, rows):
        """The source of some samples: the others get the weight 0."""
        X, y, sample_weight = self.given
        weight = np.zeros(len(y))
        weight[rows] = 1 if sample_weight is None else np.asarray(sample_weight)[rows]
        return LocalSource(X, y, weight)

    def rows(self, rows):
        """X, y and the weights of some samples, in memory."""
        X, y, sample_weight = self.given
        return X[rows], y[rows], None if sample_weight is None else np.asarray(sample_weight)[rows]

    def label_summaries(self):
        """A `LabelSummary` of each partition."""
        return self.runner.map(LabelSummary.of, self.y, self.sample_weight)

    def encoded(self, **encoding):
        """Handles of `EncodedLabels`."""
        return self.runner.map(EncodedLabels.of, self.y, self.sample_weight, **encoding)

    def is_small(self, n_samples):
        """Whether X is to be gathered."""
        return False

    def kept(self, parts):
        """The parts, kept in memory if that is worth it; the system keeps files itself."""
        return parts

    def parts(self, labels):
        """Handles of `Part`."""
        n_rows = self.X[0].shape[0]
        where = [f"(rows from {i * n_rows} on)" for i in range(len(self.X))]
        return self.runner.lazily(EncodedLabels.part, labels, self.X, where)


def blocks_on_disk(X):
    """Blocks of rows of an array or CSR matrix, without copies."""
    return (_view(X, rows) for rows in _cuts(X))


def _cuts(X):
    n_rows = max(int(X.shape[0] * _BLOCK_BYTES / _n_bytes(X)), 1)
    return [slice(first, first + n_rows) for first in range(0, X.shape[0], n_rows)]


def _view(X, rows):
    """Some rows of an array or CSR matrix, without a copy."""
    if not sparse.issparse(X):
        return X[rows]
    ends = X.indptr[rows.start : rows.stop + 1]
    entries = slice(ends[0], ends[-1])
    parts = X.data[entries], X.indices[entries], ends - ends[0]
    return sparse.csr_array(parts, shape=(len(ends) - 1, X.shape[1]))


class DaskSource:
    """The partitions of a dask array or dataframe.

    Parameters
    ----------
    X : dask array or dataframe of shape (n_samples, n_features)
    y : dask array, dask Series or array-like of shape (n_samples,)
    sample_weight : dask array, dask Series or array-like of shape (n_samples,) or None
    """

    def __init__(self, X, y, sample_weight):
        self.partitions = collections.partitions_of(X, y, sample_weight)
        self.like = self.partitions.like
        self.X, are_inside = read_inside(self.partitions.X)
        self.runner = DaskRunner(len(self.X), grouped=are_inside)
        self.y, _ = read_inside(self.partitions.y)
        self.sample_weight = [None] * len(self.X)
        if self.partitions.sample_weight is not None:
            self.sample_weight, _ = read_inside(self.partitions.sample_weight)

    def gathered_labels(self):
        """See `LocalSource.gathered_labels`."""
        return np.concatenate(self.runner.gather(self.y))

    def fold(self, rows):
        """See `LocalSource.fold`."""
        return DaskSource(*self.rows(rows))

    def rows(self, rows):
        """See `LocalSource.rows`; these are lazy dask collections."""
        return collections.taken(self.partitions, rows)

    def label_summaries(self):
        """See `LocalSource.label_summaries`."""
        tasks = self.runner.lazily(LabelSummary.of, self.y, self.sample_weight)
        return self.runner.gather(tasks)

    def encoded(self, **encoding):
        """See `LocalSource.encoded`."""
        return self.runner.map(EncodedLabels.of, self.y, self.sample_weight, **encoding)

    def is_small(self, n_samples):
        """Whether X takes less time to gather than the passes of a fit."""
        return n_samples * self.like.shape[1] <= _FEW_ENTRIES

    def parts(self, labels):
        """See `LocalSource.parts`."""
        n = len(self.X)
        where = [collections.name_of_partition(i, n) for i in range(n)]
        return self.runner.lazily(_part, self.X, labels, where, like=self.like)

    def kept(self, parts):
        """See `LocalSource.kept`: in a share of the memory that the workers have."""
        X = self.partitions.collection
        # The size of a frame is not known.
        n_bytes = X.nbytes if collections.kind_of(X) == "array" else np.nan
        return self.runner.kept(parts) if n_bytes <= _KEPT_SHARE * _memory() else parts


def _part(X, labels, where, like):
    collections.check_block(X, like, where)
    with collections.errors_named(where):
        return labels.part(X, where)


def _memory():
    """Bytes of memory that the workers have, or this machine where there are none."""
    from distributed import get_client

    try:
        workers = get_client().scheduler_info(n_workers=-1)["workers"].values()
    except ValueError:
        import psutil

        return psutil.virtual_memory().available
    return sum(worker["memory_limit"] for worker in workers)
