"""Runners: they call a function for each partition of the data, here or on a cluster.

What belongs to the samples of a partition stays where the partition is. A runner knows it by a
*handle*; a list of handles has one for each partition.
"""

import functools
import itertools
import operator
from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

import numpy as np

# Results that are added at once.
_FAN_IN = 8
# Shared arguments with arrays of more bytes are one node of a graph, so that they travel once.
_MANY_BYTES = 2**16
# So many inputs that all blocks share are read by Dask; more would be a shuffle's.
_FEW_INPUTS = 4
# Groups of partitions for each thread of a cluster.
_GROUPS = 4


@dataclass(frozen=True)
class _Task:
    """A call whose arguments are handles; see `_value`."""

    function: object
    values: tuple
    shared: dict


@dataclass(frozen=True)
class _Slot:
    """The place of a value that is passed to `_value`."""

    index: int


def _value(handle, given=()):
    """The value that a handle stands for, with values for its slots."""
    if isinstance(handle, _Slot):
        return given[handle.index]
    if not isinstance(handle, _Task):
        return handle
    values = [_value(value, given) for value in handle.values]
    return handle.function(*values, **_value(handle.shared, given))


class _Runner:
    def lazily(self, function, *handles, **shared):
        """Like `map`, but the values are computed anew whenever they are asked for."""
        return [_Task(function, values, shared) for values in zip(*handles, strict=True)]

    def map(self, function, *handles, **shared):
        """Handles of function(*values, **shared), for the values of each partition."""
        return self.kept(self.lazily(function, *handles, **shared))


class LocalRunner(_Runner):
    """Partitions are parts of one array, taken one after the other."""

    def kept(self, handles):
        """The same handles, with values that are computed now and kept."""
        return [_value(handle) for handle in handles]

    def gather(self, handles):
        """The values of handles."""
        return [_value(handle) for handle in handles]

    def sum(self, function, *handles, **shared):
        """The sum of function(*values, **shared) over the partitions; tuples are added by entry."""
        return _summed(self.lazily(function, *handles, **shared))

    def map_and_sum(self, function, *handles, **shared):
        """Handles of the first results of a function that gives two, and the sum of the others."""
        return _mapped_and_summed(self.lazily(function, *handles, **shared))


class DaskRunner(_Runner):
    """Partitions are Dask's, in groups; each call is a graph of one task a group.

    A task takes the partitions of its group one after the other. What is kept is persisted by
    group, so that a lost worker's is computed again from the data.

    Parameters
    ----------
    n_partitions : int
    grouped : bool
        Whether to put partitions into groups, a few for each thread. Otherwise each is on its own,
        which suits partitions that workers hold already.
    """

    def __init__(self, n_partitions, grouped):
        import dask

        self.dask = dask
        n_groups = min(n_partitions, _GROUPS * _n_threads()) if grouped else n_partitions
        ends = np.linspace(0, n_partitions, n_groups + 1).astype(int).tolist()
        self.groups = [slice(*pair) for pair in itertools.pairwise(ends)]

    def kept(self, handles):
        """See `LocalRunner.kept`."""
        return self._members(self.dask.persist(*self._tasks(_mapped, handles)))

    def gather(self, handles):
        """See `LocalRunner.gather`."""
        return [
            value for group in self.dask.compute(*self._tasks(_mapped, handles)) for value in group
        ]

    def sum(self, function, *handles, **shared):
        """See `LocalRunner.sum`."""
        handles = self.lazily(function, *handles, **shared)
        return self._sum(self._tasks(_summed, handles)).compute()

    def map_and_sum(self, function, *handles, **shared):
        """See `LocalRunner.map_and_sum`."""
        take = self.dask.delayed(operator.getitem, pure=False)
        pairs = self._tasks(_mapped_and_summed, self.lazily(function, *handles, **shared))
        total = self._sum([take(pair, 1) for pair in pairs])
        *firsts, total = self.dask.persist(*(take(pair, 0) for pair in pairs), total)
        return self._members(firsts), total.compute()

    def _members(self, results):
        """Handles of the partitions, of one list for each group."""
        return [
            _Task(operator.getitem, (result, i), {})
            for group, result in zip(self.groups, results, strict=True)
            for i in range(group.stop - group.start)
        ]

    def _sum(self, results):
        add = self.dask.delayed(_add_all, pure=False)
        while len(results) > 1:
            groups = range(0, len(results), _FAN_IN)
            results = [add(results[first : first + _FAN_IN]) for first in groups]
        return results[0]

    def _tasks(self, work, handles):
        """A `Delayed` of work(handles of the group, *values of their slots) for each group."""
        name, nodes, tasks = f"{_name_of(handles[0])}-{uuid4().hex}", {}, []
        for i, group in enumerate(self.groups):
            leaves = {}
            trees = [self._packed(handle, leaves, nodes) for handle in handles[group]]
            # The trees are part of the function, so that Dask does not search them.
            task = self.dask.delayed(functools.partial(work, trees), pure=False)
            slots = [leaf for leaf, _ in leaves.values()]
            tasks.append(task(*slots, dask_key_name=(name, i)))
        return tasks

    def _packed(self, handle, leaves, nodes):
        """A handle with slots in place of what is Dask's, which is added to the leaves."""
        if isinstance(handle, _Task):
            values = tuple(self._packed(value, leaves, nodes) for value in handle.values)
            return _Task(handle.function, values, self._packed_shared(handle.shared, leaves, nodes))
        return _slot(handle, leaves) if hasattr(handle, "__dask_graph__") else handle

    def _packed_shared(self, shared, leaves, nodes):
        """Shared arguments, as a slot if they are large."""
        if id(shared) not in nodes:
            is_large = sum(getattr(value, "nbytes", 0) for value in shared.values()) > _MANY_BYTES
            node = self.dask.delayed(shared, pure=False, traverse=False) if is_large else None
            # The arguments are held too: another object could get the same id.
            nodes[id(shared)] = node, shared
        node, _ = nodes[id(shared)]
        return shared if node is None else _slot(node, leaves)


def _slot(leaf, leaves):
    _, slot = leaves.setdefault(leaf.key, (leaf, _Slot(len(leaves))))
    return slot


def _name_of(handle):
    """A name for dashboards."""
    if not isinstance(handle, _Task):
        return "kept"
    return handle.shared.get("name", handle.function.__name__)


def _n_threads():
    """The number of threads that work on a graph."""
    from dask.config import get
    from dask.system import CPU_COUNT
    from distributed import get_client

    try:
        workers = get_client().scheduler_info(n_workers=-1)["workers"].values()
    except ValueError:
        return get("num_workers", None) or CPU_COUNT
    return max(sum(worker["nthreads"] for worker in workers), 1)


def read_inside(blocks):
    """Handles of dask's blocks, each of which is computed inside of the task that needs it.

    Otherwise Dask would read blocks ahead of the work on them, and run out of memory. Blocks that
    workers hold, or that are made of the same data, as after a shuffle, stay Dask's.

    Parameters
    ----------
    blocks : list of dask.delayed.Delayed

    Returns
    -------
    handles : list
    are_inside : bool
        Whether nothing stayed Dask's.
    """
    from dask.core import get_dependencies
    from dask.delayed import Delayed

    graph = _joint_graph(blocks)
    needed = [_reached(graph, block.key, get_dependencies) for block in blocks]
    counts = Counter(key for keys in needed for key in keys)
    if any(key not in graph or _is_remote(graph[key]) for key in counts):
        return blocks, False
    shared = {key for key, count in counts.items() if count > 1}
    # An open file, or other objects that all blocks are read from.
    common = {
        key for key in shared if counts[key] == len(blocks) and not get_dependencies(graph, key)
    }
    if shared > common or len(common) > _FEW_INPUTS:
        return blocks, False
    inputs = [Delayed(key, {key: graph[key]}) for key in common]
    handles = []
    for block, keys in zip(blocks, needed, strict=True):
        own = {key: graph[key] for key in keys if key not in common}
        names = [node.key for node in inputs if node.key in keys]
        shared = {"graph": own, "key": block.key, "names": names}
        handles.append(_Task(_read, tuple(inputs) if names else (), shared))
    return handles, True


def _joint_graph(blocks):
    layers = {}
    for block in blocks:
        graph = block.__dask_graph__()
        layers.update(getattr(graph, "layers", {id(graph): graph}))
    return {key: task for layer in layers.values() for key, task in dict(layer).items()}


def _reached(graph, key, get_dependencies):
    """The keys that are computed for a key, and it."""
    found, left = set(), [key]
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left.extend(get_dependencies(graph, key) if key in graph else ())
    return found


def _is_remote(node):
    """Whether a worker holds the value; newer versions of Dask leave such a node out instead."""
    from distributed import Future

    return isinstance(node, Future) or isinstance(getattr(node, "value", None), Future)


def _read(*values, graph, key, names):
    """A block, computed here."""
    import dask

    # Calls, as a value might look like a key or a task.
    given = {
        name: (functools.partial(_same, value),) for name, value in zip(names, values, strict=True)
    }
    return dask.get({**graph, **given}, key)


def _same(value):
    return value


def _mapped(handles, *given):
    return [_value(handle, given) for handle in handles]


def _summed(handles, *given):
    return functools.reduce(_add, (_value(handle, given) for handle in handles))


def _mapped_and_summed(handles, *given):
    kept, total = [], None
    for handle in handles:
        first, second = _value(handle, given)
        kept.append(first)
        total = second if total is None else _add(total, second)
    return kept, total


def _add_all(results):
    return functools.reduce(_add, results)


def _add(first, second):
    if isinstance(first, tuple):
        return tuple(map(operator.add, first, second))
    return first + second
