"""Runners: they call a function for each partition of the data, here or on a cluster.

What belongs to the samples of a partition stays where the partition is. A runner knows it by a
*handle*; a list of handles has one for each partition.
"""

import functools
import operator
from dataclasses import dataclass

# Results that are added at once.
_FAN_IN = 8


class LocalRunner:
    """Partitions are parts of one array, taken one after the other."""

    def map(self, function, *handles, **shared):
        """Handles of function(*values, **shared), for the values of each partition."""
        return [_value(task) for task in self.lazily(function, *handles, **shared)]

    def lazily(self, function, *handles, **shared):
        """Like `map`, but the values are computed anew whenever they are asked for."""
        return [_Task(function, values, shared) for values in zip(*handles, strict=True)]

    def kept(self, handles):
        """The same handles, with values that are computed now and kept."""
        return [_value(handle) for handle in handles]

    def gather(self, handles):
        """The values of handles."""
        return [_value(handle) for handle in handles]

    def sum(self, function, *handles, **shared):
        """The sum of function(*values, **shared) over the partitions; tuples are added by entry."""
        return functools.reduce(_add, map(_value, self.lazily(function, *handles, **shared)))

    def map_and_sum(self, function, *handles, **shared):
        """Handles of the first results of a function that gives two, and the sum of the others."""
        kept, total = [], None
        for task in self.lazily(function, *handles, **shared):
            first, second = _value(task)
            kept.append(first)
            total = second if total is None else _add(total, second)
        return kept, total


@dataclass(frozen=True)
class _Task:
    function: object
    values: tuple
    shared: dict


def _value(handle):
    """The value that a handle of a `LocalRunner` stands for."""
    if not isinstance(handle, _Task):
        return handle
    return handle.function(*map(_value, handle.values), **handle.shared)


class DaskRunner:
    """Partitions are Dask's; each call is a graph of one task a partition.

    Handles are persisted, so that a lost worker's are computed again from the data.
    """

    def __init__(self):
        import dask

        self.dask = dask

    def map(self, function, *handles, **shared):
        """See `LocalRunner.map`."""
        return self.kept(self._tasks(function, handles, shared))

    def kept(self, handles):
        """See `LocalRunner.kept`."""
        return list(self.dask.persist(*handles))

    def lazily(self, function, *handles, **shared):
        """See `LocalRunner.lazily`."""
        return self._tasks(function, handles, shared)

    def gather(self, handles):
        """See `LocalRunner.gather`."""
        return list(self.dask.compute(*handles))

    def sum(self, function, *handles, **shared):
        """See `LocalRunner.sum`."""
        return self._sum(self._tasks(function, handles, shared)).compute()

    def map_and_sum(self, function, *handles, **shared):
        """See `LocalRunner.map_and_sum`."""
        take = self.dask.delayed(operator.getitem, pure=False)
        pairs = self._tasks(function, handles, shared)
        firsts = [take(pair, 0) for pair in pairs]
        total = self._sum([take(pair, 1) for pair in pairs])
        *firsts, total = self.dask.persist(*firsts, total)
        return firsts, total.compute()

    def _sum(self, results):
        add = self.dask.delayed(_add_all, pure=False)
        while len(results) > 1:
            groups = range(0, len(results), _FAN_IN)
            results = [add(results[first : first + _FAN_IN]) for first in groups]
        return results[0]

    def _tasks(self, function, handles, shared):
        task = self.dask.delayed(function, pure=False)
        shared = {name: self.dask.delayed(value) for name, value in shared.items()}
        return [task(*values, **shared) for values in zip(*handles, strict=True)]


def _add_all(results):
    return functools.reduce(_add, results)


def _add(first, second):
    if isinstance(first, tuple):
        return tuple(map(operator.add, first, second))
    return first + second
