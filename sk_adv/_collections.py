"""Dask collections: their partitions, with labels and weights aligned, and work on each of them.

X may be larger than memory: nothing here brings its rows to the client. Dask is imported only once
someone else has, as there is no dask collection before.
"""

import sys
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from sklearn.utils import _safe_indexing

# Names of the modules of dask in which the classes of these kinds live.
_KINDS = {"dask.array": "array", "dask.dataframe": "frame"}


def is_collection(X):
    """Whether X is a dask collection of any kind."""
    return kind_of(X) is not None


def kind_of(X):
    """The kind of a dask collection: "array", "frame" (a Series too) or "other"; else None."""
    dask = sys.modules.get("dask")
    if dask is None or not hasattr(X, "__dask_graph__") or isinstance(X, type):
        return None
    module = type(X).__module__
    for prefix, kind in _KINDS.items():
        if module.startswith(prefix):
            return kind
    return "other" if dask.is_dask_collection(X) else None


_OF_ANY = "call this on each partition (map_partitions or map_blocks)"
_OF_TRAINING = (
    "store it in a file and pass a numpy.memmap, or call partial_fit with one part after another"
)


def check_in_memory(*values, for_training=False):
    """Raise `TypeError` for a dask collection, which would be gathered in memory in silence.

    The message for the training of a network says what such data can be instead.
    """
    way = _OF_TRAINING if for_training else _OF_ANY
    for value in filter(is_collection, values):
        raise TypeError(
            f"This takes data in memory, and got a {_name(value)}: pass the result of compute() if "
            f"it fits in memory, or {way}. The page 'Large data and clusters' of the "
            "user guide lists what takes dask collections."
        )


def in_memory(value):
    """A small value, such as one radius per feature, computed if it is a dask collection."""
    if isinstance(value, tuple | list) and any(map(is_collection, value)):
        return [in_memory(part) for part in value]
    return value.compute() if is_collection(value) else value


def check_collection(X):
    """Raise an error unless X is a dask array or dataframe with an axis of samples."""
    if kind_of(X) == "other" or (kind_of(X) == "frame" and X.ndim != 2):
        raise TypeError(
            f"X must be a dask array or a dask dataframe; got a {_name(X)}: take "
            "dask.array.from_delayed, or dask.dataframe.from_delayed, to name its shape."
        )
    if kind_of(X) == "array" and X.ndim < 2:
        raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}.")
    if kind_of(X) == "array" and np.isnan(X.shape[1:]).any():
        raise ValueError(
            f"The number of features of X is unknown, as its shape is {X.shape}: call its "
            "compute_chunk_sizes() first."
        )


def _name(X):
    package = type(X).__module__.partition(".")[0]
    return f"{package} {type(X).__name__}"


@dataclass(frozen=True, eq=False)
class Partitions:
    """A dask collection X as a list of its partitions along the samples, and what goes with them.

    Make it by `partitions_of`.

    Attributes
    ----------
    X : list of dask.delayed.Delayed
        Each gives a block of rows: an array, a SciPy matrix or a frame.
    y, sample_weight : list of dask.delayed.Delayed, or None
        Labels and weights of the same rows, or None if there are none.
    like : ndarray or frame of shape (0, ...)
        The shape of a sample, its dtype, and the columns of a frame.
    collection : dask collection
        X itself.
    """

    X: list
    y: list | None
    sample_weight: list | None
    like: object
    collection: object

    def __len__(self):
        return len(self.X)

    def map(self, function, /, *, each=None, **shared):
        """Call a function on each partition, lazily.

        Parameters
        ----------
        function : callable
            `function(X, y, sample_weight, **shared, **one)`; y and sample_weight may be None. A
            `ValueError` or `TypeError` in it names the partition.
        each : dict of str to list, default=None
            Further arguments of which each partition gets its own entry.
        **shared : dict
            Further arguments that all partitions get. They are one node of the graph.

        Returns
        -------
        list of dask.delayed.Delayed
        """
        from dask import delayed

        none = [None] * len(self)
        call = delayed(_on_partition, pure=False)
        # One node of the graph, which is not searched for collections.
        work = delayed(_Work(function, shared, self.like, len(self)), pure=False, traverse=False)
        each = [
            dict(zip(each or (), values, strict=True))
            for values in (zip(*each.values(), strict=True) if each else [()] * len(self))
        ]
        blocks = zip(self.X, self.y or none, self.sample_weight or none, each, strict=True)
        return [call(work, i, *block) for i, block in enumerate(blocks)]

    @property
    def known_lengths(self):
        """The number of rows of each partition, or None where dask does not know it."""
        return _known_lengths(self.collection)

    @cached_property
    def lengths(self):
        """The number of rows of each partition; computed where dask does not know it."""
        return lengths_of(self.collection, self.X)

    def labels(self):
        """The different labels of all partitions in order, found by one pass.

        Returns
        -------
        ndarray of shape (n_classes,)

        Raises
        ------
        ValueError
            If the labels of two partitions are of types that have no common order.
        """
        return merged_labels([labels for labels in computed(self.map(_labels)) if len(labels)])


def merged_labels(found):
    """The different labels of several partitions, in order; see `Partitions.labels`."""
    if not found:
        raise ValueError("y must hold at least one label; all partitions are empty.")
    kinds = [_kind_of_labels(labels) for labels in found]
    for labels, kind in zip(found, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                "y must hold labels of one type in all partitions; got "
                f"{found[0][:1].tolist()[0]!r} in one and {labels[:1].tolist()[0]!r} in "
                "another."
            )
    return np.unique(np.concatenate(found))


@dataclass(frozen=True, eq=False)
class _Work:
    """A function, its arguments, and the form that a block of X must have."""

    function: object
    shared: dict
    like: object
    n_partitions: int


def _on_partition(work, i, X, y, sample_weight, own):
    where = name_of_partition(i, work.n_partitions)
    check_block(X, work.like, where)
    n_rows = X.shape[0]
    for name, values in (("y", y), ("sample_weight", sample_weight)):
        if values is not None and len(values) != n_rows:
            raise ValueError(
                f"{name} must have one entry per sample of X; got {len(values)} for {n_rows} "
                f"{where}: partition both alike."
            )
    with errors_named(where):
        return work.function(X, y, sample_weight, **work.shared, **own)


def name_of_partition(i, n_partitions):
    """A partition, for messages."""
    return f"(partition {i}, counted from 0, of {n_partitions})"


@contextmanager
def errors_named(where):
    """Lets each `ValueError` and `TypeError` name a partition."""
    try:
        yield
    except (ValueError, TypeError) as error:
        # Subclasses have arguments of their own.
        if type(error) not in (ValueError, TypeError) or where in str(error):
            raise
        raise type(error)(f"{error} {where}") from error


def check_block(X, like, where):
    """Raise `ValueError` unless a block has the columns, or the shape of a sample, of all."""
    if np.ma.is_masked(X):
        raise ValueError(
            f"X must have no masked entries {where}: fill them, or leave out their samples."
        )
    if hasattr(like, "columns"):
        if list(X.columns) != list(like.columns):
            raise ValueError(
                f"All partitions of X must have the columns {_some(like.columns)}; got "
                f"{_some(X.columns)} {where}."
            )
    elif X.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"All partitions of X must have samples of shape {like.shape[1:]}; got "
            f"{X.shape[1:]} {where}."
        )


def _some(names, n=10):
    names = list(names)
    return f"{names[:n]}" + (f" and {len(names) - n} more" if len(names) > n else "")


def _labels(X, y, sample_weight):
    from sklearn.utils import column_or_1d

    y = column_or_1d(y, warn=True)
    try:
        return np.unique(y)
    except TypeError as error:
        raise ValueError("y must hold labels of one type that have an order.") from error


def _kind_of_labels(labels):
    return "text" if isinstance(labels[0], str) else labels.dtype.kind in "mM"


def partitions_of(X, y=None, sample_weight=None):
    """The partitions of a dask collection, with the labels and the weights of the same rows.

    Parameters
    ----------
    X : dask array or dask dataframe of shape (n_samples, ...)
        Chunks of columns are joined; chunk sizes along the samples may be unknown.

    y, sample_weight : dask array, dask Series or array-like of shape (n_samples,), default=None
        In other partitions than X, or in memory, they are cut to the partitions of X, which needs
        one pass over X if its lengths are unknown.

    Returns
    -------
    Partitions

    Raises
    ------
    TypeError
        If X is a dask collection of another kind.
    ValueError
        If X has no axis of features, or another number of rows than y or the weights.
    """
    check_collection(X)
    if kind_of(X) == "array" and any(n > 1 for n in X.numblocks[1:]):
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    blocks = delayed_blocks(X)
    others = {"y": y, "sample_weight": sample_weight}
    aligned = {
        name: None if values is None else _aligned(values, X, blocks, name)
        for name, values in others.items()
    }
    return Partitions(blocks, **aligned, like=like_of(X), collection=X)


def delayed_blocks(X):
    """The partitions of a collection along its first axis, as a list of `Delayed`."""
    blocks = X.to_delayed()
    return list(blocks.ravel()) if isinstance(blocks, np.ndarray) else list(blocks)


def like_of(X):
    """An array or frame without rows, in the shape of a sample, dtype and columns of X."""
    if kind_of(X) == "frame":
        return X._meta
    return np.empty((0, *X.shape[1:]), dtype=X.dtype)


def _known_lengths(X):
    """The numbers of rows of the partitions, or None if dask does not know them."""
    lengths = X.chunks[0] if kind_of(X) == "array" else (np.nan,)
    return None if np.isnan(lengths).any() else list(map(int, lengths))


def lengths_of(X, blocks):
    """The numbers of rows of the partitions of a collection; one pass if they are unknown."""
    known = _known_lengths(X)
    if known is not None:
        return known
    return list(computed(each_of(_n_rows, blocks)))


def _n_rows(block):
    return block.shape[0]


def _aligned(values, X, blocks, name):
    """Labels or weights in the partitions of X, as a list of `Delayed`."""
    from dask import delayed

    if not is_collection(values):
        # The whole is cut here, so that no task carries the rows of another.
        lengths = lengths_of(X, blocks)
        values = values.iloc if hasattr(values, "iloc") else np.atleast_1d(np.asarray(values))
        _check_length(len(values[:]), lengths, name)
        ends = np.cumsum([0, *lengths])
        parts = [values[start:end] for start, end in pairwise(ends)]
        return [delayed(part, pure=False, traverse=False) for part in parts]
    if kind_of(values) == "other":
        raise TypeError(
            f"{name} must be a dask array or Series, or in memory; got {_name(values)}."
        )
    own, known = _known_lengths(values), _known_lengths(X)
    parts = delayed_blocks(values)
    if own is not None and own == known:
        return parts
    if len(parts) == len(blocks) and (own is None or known is None):
        # The partitions of one frame: each pair is checked when it is there.
        return parts
    lengths, own = known or lengths_of(X, blocks), own or lengths_of(values, parts)
    _check_length(sum(own), lengths, name)
    if kind_of(values) == "frame":
        values = values.to_dask_array(lengths=own)
    elif np.isnan(values.chunks[0]).any():
        values = values.copy()
        values._chunks = (tuple(own), *values.chunks[1:])
    return delayed_blocks(values.rechunk({0: tuple(lengths)}))


def _check_length(n, lengths, name):
    if n != sum(lengths):
        raise ValueError(
            f"{name} must have one entry per sample of X; got {n} for {sum(lengths)} samples."
        )


def computed(values):
    """The values of several `Delayed`, by one call of the scheduler that is in use."""
    import dask

    return dask.compute(*values)


def each_of(function, values):
    """A function of each of several `Delayed`, lazily."""
    from dask import delayed

    call = delayed(function, pure=False)
    return [call(value) for value in values]


def persisted(values):
    """The same `Delayed`, computed: on the workers if there is a cluster, else in this process."""
    import dask

    return list(dask.persist(*values))


def sums_of(pairs):
    """The sums over all partitions of lazy pairs (weighted sum, sum of weights)."""
    return tuple(np.sum(computed(pairs), axis=0, dtype=float).tolist())


def mean_of(total, weight):
    """A weighted mean from a weighted sum and the sum of the weights."""
    if not weight:
        raise ValueError("X must hold at least one sample of positive sample_weight.")
    return total / weight


def is_weightless(X, sample_weight):
    """Whether no sample of a partition counts, which is an error for the whole data only."""
    return not X.shape[0] or (sample_weight is not None and not np.any(sample_weight))


def array_of(blocks, like, lengths=None):
    """A lazy dask array of blocks along its first axis.

    Parameters
    ----------
    blocks : list of dask.delayed.Delayed
    like : ndarray of shape (0, ...)
        The shape of a row, and the dtype.
    lengths : list of int, default=None
        The numbers of rows; None: unknown.
    """
    from uuid import uuid4

    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    # dask.array.concatenate would leave out empty partitions.
    name = f"sk-adv-{uuid4().hex}"
    zeros = (0,) * (like.ndim - 1)
    keys = {(name, i, *zeros): block.key for i, block in enumerate(blocks)}
    graph = HighLevelGraph.from_collections(name, keys, dependencies=blocks)
    rows = (np.nan,) * len(blocks) if lengths is None else tuple(lengths)
    return da.Array(graph, name, (rows, *((n,) for n in like.shape[1:])), meta=like)


def collection_of(blocks, like, partitions):
    """A lazy dask collection of the kind of X, with the rows of X.

    Parameters
    ----------
    blocks : list of dask.delayed.Delayed
        One for each partition of X, with as many rows.
    like : ndarray or frame of shape (0, ...)
        The shape of a row, the dtype, and the columns of a frame.
    partitions : Partitions
        Those of X.
    """
    X = partitions.collection
    if kind_of(X) == "frame":
        import dask.dataframe as dd

        return dd.from_delayed(blocks, meta=like, divisions=X.divisions, verify_meta=False)
    return array_of(blocks, like, partitions.known_lengths)


def taken(partitions, rows):
    """Some rows of X, y and the weights, as lazy dask collections.

    Parameters
    ----------
    partitions : Partitions
    rows : ndarray of int of shape (n_taken,)
        In rising order.

    Returns
    -------
    X : dask array or dataframe
    y, sample_weight : dask array or None
    """
    from dask import delayed

    ends = np.cumsum(partitions.lengths)
    cuts = np.searchsorted(rows, ends[:-1])
    parts = np.split(rows, cuts)
    own = [part - first for part, first in zip(parts, [0, *ends[:-1]], strict=True)]
    take, lengths = delayed(_safe_indexing, pure=False), [len(part) for part in parts]

    def of(blocks):
        return [take(block, part) for block, part in zip(blocks, own, strict=True)]

    def vector(blocks):
        if blocks is None:
            return None
        blocks = [delayed(np.asarray)(block) for block in of(blocks)]
        return array_of(blocks, np.empty(0, dtype=blocks[0].dtype.compute()), lengths)

    if kind_of(partitions.collection) == "frame":
        X = partitions.collection.map_partitions(_rows_of_frame, own, meta=partitions.like)
    else:
        X = array_of(of(partitions.X), partitions.like, lengths)
    return X, vector(partitions.y), vector(partitions.sample_weight)


def _rows_of_frame(frame, rows, partition_info=None):
    # Dask also calls it on a frame without rows, to learn the columns.
    return frame.iloc[rows[partition_info["number"]]] if partition_info else frame


def rows_of_results(function, X, like, **shared):
    """A lazy dask array with one row for each sample of X, such as predictions.

    Parameters
    ----------
    function : callable
        `function(X, **shared)` gives an array of the rows of one partition. It is not called for
        an empty partition.
    X : dask array or dask dataframe
    like : ndarray of shape (0, ...)
        The shape of a row, and the dtype.

    Returns
    -------
    dask.array.Array
    """
    partitions = partitions_of(X)
    blocks = partitions.map(_rows, function=function, like=like, options=shared)
    return array_of(blocks, like, partitions.known_lengths)


def _rows(X, y, sample_weight, function, like, options):
    return function(X, **options) if X.shape[0] else like


def answers_of(estimator, method, X):
    """A lazy dask array of the answers of a method, such as `predict`, to each partition of X.

    The estimator stays as it is now for them, even if it is fitted again before they are computed.

    Parameters
    ----------
    estimator : object
        A fitted estimator whose method accepts a row of zeros.
    method : str
    X : dask array or dask dataframe of shape (n_samples, n_features)

    Returns
    -------
    dask.array.Array
    """
    check_collection(X)
    like = like_of(X)
    zeros = np.zeros((1, *like.shape[1:]), getattr(like, "dtype", None))
    if hasattr(like, "columns"):
        zeros = type(like)(zeros, columns=like.columns)
    # It checks the columns, before any partition is read.
    answer = getattr(estimator, method)(zeros)
    shared = {"estimator": copy(estimator), "method": method}
    return rows_of_results(_answer, X, answer[:0], **shared)


def _answer(X, estimator, method):
    return getattr(estimator, method)(X)


def accuracy_of(estimator, X, y, sample_weight=None):
    """The accuracy of a fitted classifier on a dask collection, by partition."""
    partitions = partitions_of(X, y, sample_weight)
    return mean_of(*sums_of(partitions.map(_right, estimator=estimator)))


def _right(X, y, sample_weight, estimator):
    if is_weightless(X, sample_weight):
        return 0.0, 0.0
    total = len(y) if sample_weight is None else np.sum(sample_weight)
    return total * estimator.score(X, y, sample_weight), total
