"""The rest of reachable trees: splits and leaves, once subtrees of equal leaves are leaves."""

import functools
from dataclasses import dataclass

import numpy as np

from sk_adv.tree._reach import Reach, Region


@dataclass(frozen=True)
class Shrunk:
    """Trees without the splits that make no difference to a sum.

    Attributes
    ----------
    base : float
        The sum of the trees that have shrunk to one leaf.
    feature, threshold : ndarray of shape (n_splits,)
    split_parent, split_side : ndarray of shape (n_splits,)
        The split above, -1 for none, and whether this one is on its left (0) or right (1).
    value : ndarray of shape (n_leaves,)
    leaf_tree, leaf_parent, leaf_side : ndarray of shape (n_leaves,)
    """

    base: float
    feature: np.ndarray
    threshold: np.ndarray
    split_parent: np.ndarray
    split_side: np.ndarray
    value: np.ndarray
    leaf_tree: np.ndarray
    leaf_parent: np.ndarray
    leaf_side: np.ndarray

    @functools.cached_property
    def ancestors(self):
        """All pairs of a leaf and a split above it, with the leaf's side of it."""
        found = []
        leaf = np.arange(len(self.value))
        above, side = self.leaf_parent, self.leaf_side
        while len(leaf):
            found.append((leaf, above, side))
            next_side, next_above = self.split_side[above], self.split_parent[above]
            goes_on = next_above >= 0
            leaf, above, side = leaf[goes_on], next_above[goes_on], next_side[goes_on]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))

    def intervals(self):
        """The interval `low < x <= high` of each leaf along each coordinate of the splits above.

        Returns
        -------
        leaf, feature, low, high : ndarray of shape (n_intervals,)
        """
        leaf, above, side = self.ancestors
        feature, threshold = self.feature[above], self.threshold[above]
        n_coordinates = int(feature.max()) + 1
        keys, place = np.unique(leaf * n_coordinates + feature, return_inverse=True)
        low, high = np.full(len(keys), -np.inf), np.full(len(keys), np.inf)
        is_left = side == 0
        np.minimum.at(high, place[is_left], threshold[is_left])
        np.maximum.at(low, place[~is_left], threshold[~is_left])
        return keys // n_coordinates, keys % n_coordinates, low, high

    def least_alone(self, region: Region):
        """The least sum and its cell where trees don't depend on each other, else None.

        A single tree has the least of its leaves. Trees of one coordinate each, such as boosted
        stumps, over a box: along each coordinate the sum is a step function.
        """
        is_single = (self.leaf_tree == self.leaf_tree[0]).all()
        if not is_single and (region.radii is not None or not self._asks_one_coordinate_a_tree()):
            return None
        leaf, feature, low_end, high_end = self.intervals()
        # A tree can ask the same question twice: what lies beyond both answers is empty.
        is_met = np.ones(len(self.value), dtype=bool)
        is_met[leaf[low_end >= high_end]] = False
        low, high = np.full(len(region.low), -np.inf), np.full(len(region.low), np.inf)
        if is_single:
            best = int(np.where(is_met, self.value, np.inf).argmin())
            own = leaf == best
            low[feature[own]], high[feature[own]] = low_end[own], high_end[own]
            return self.base + float(self.value[best]), low, high
        # One interval for each leaf, then.
        kept = is_met[leaf]
        value, feature = self.value[leaf[kept]], feature[kept]
        starts, ends = low_end[kept], high_end[kept]
        total = self.base
        for j in np.unique(feature):
            own = feature == j
            limits = np.unique([starts[own], ends[own]])
            limits = limits[np.isfinite(limits)]
            steps = np.zeros(len(limits) + 2)
            np.add.at(steps, np.searchsorted(limits, starts[own], side="right"), value[own])
            np.add.at(steps, np.searchsorted(limits, ends[own]) + 1, -value[own])
            sums = np.cumsum(steps)[:-1]
            best = int(sums.argmin())
            total += float(sums[best])
            low[j] = limits[best - 1] if best else -np.inf
            high[j] = limits[best] if best < len(limits) else np.inf
        return total, low, high

    def _asks_one_coordinate_a_tree(self):
        leaf, above, _ = self.ancestors
        pairs = np.unique(np.stack([self.leaf_tree[leaf], self.feature[above]]), axis=1)
        return pairs.shape[1] == len(np.unique(self.leaf_tree))


def shrink(reached: Reach, value, is_possible=None) -> Shrunk:
    """Make a leaf of each subtree whose leaves are equal.

    Parameters
    ----------
    reached : Reach
    value : ndarray of shape (n_leaves,)
    is_possible : ndarray of bool of shape (n_leaves,), default=None
        Leaves that count; None: all.
    """
    least, largest = reached.extremes(value, is_possible)
    is_open = least < largest
    for depth in reached.depths:
        parent = reached.split_parent[depth]
        is_open[depth] &= (parent < 0) | is_open[parent]
    kept = np.flatnonzero(is_open)
    place = np.full(len(is_open) + 1, -1)
    place[kept] = np.arange(len(kept))

    parent_is_open = np.append(is_open, False)[reached.split_parent]
    closed = np.flatnonzero(~is_open & (parent_is_open | (reached.split_parent < 0)))
    closed = closed[np.isfinite(least[closed])]
    leaf_counts = np.append(is_open, False)[reached.leaf_parent] | (reached.leaf_parent < 0)
    if is_possible is not None:
        leaf_counts &= is_possible
    leaf = np.flatnonzero(leaf_counts)
    values = np.concatenate([value[leaf], least[closed]])
    tree = np.concatenate([reached.leaf_tree[leaf], reached.split_tree[closed]])
    parent = np.concatenate([reached.leaf_parent[leaf], reached.split_parent[closed]])
    side = np.concatenate([reached.leaf_side[leaf], reached.split_side[closed]])
    rest = parent >= 0
    return Shrunk(
        float(values[~rest].sum()),
        reached.feature[kept],
        reached.threshold[kept],
        place[reached.split_parent[kept]],
        reached.split_side[kept],
        values[rest],
        tree[rest],
        place[parent[rest]],
        side[rest],
    )
