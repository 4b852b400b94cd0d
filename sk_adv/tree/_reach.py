"""The part of a sum of trees that a set around one sample reaches."""

import functools
from dataclasses import dataclass

import numpy as np

from sk_adv.tree._tree_sum import TreeSum


@dataclass(frozen=True)
class Region:
    """A box around a sample, and for the Euclidean norm the ball within it.

    Attributes
    ----------
    low, high : ndarray of shape (n_coordinates,)
        The ends of the box, equal where a coordinate is held; NaN where a value is missing.
    center : ndarray of shape (n_coordinates,)
        The clean sample, and the centre of the ball.
    radii : ndarray of shape (n_coordinates,) or None
        The radius of the ball along each coordinate. None: the whole box is allowed.
    """

    low: np.ndarray
    high: np.ndarray
    center: np.ndarray
    radii: np.ndarray | None = None


@dataclass(frozen=True)
class Reach:
    """The reachable trees: splits of which both sides are reachable, and leaves.

    Splits stand in the order of their depth, parents before children. A parent of -1 means that
    the split or leaf is what the whole tree has shrunk to.

    Attributes
    ----------
    feature, threshold : ndarray of shape (n_splits,)
    split_parent, split_side : ndarray of shape (n_splits,)
        The split above, and whether this one is on its left (0) or right (1).
    depths : list of slice
        The splits of each depth.
    leaf : ndarray of shape (n_leaves,)
        Nodes of the `TreeSum`.
    leaf_parent, leaf_side, leaf_tree : ndarray of shape (n_leaves,)
    split_tree : ndarray of shape (n_splits,)
    """

    feature: np.ndarray
    threshold: np.ndarray
    split_parent: np.ndarray
    split_side: np.ndarray
    split_tree: np.ndarray
    depths: list
    leaf: np.ndarray
    leaf_parent: np.ndarray
    leaf_side: np.ndarray
    leaf_tree: np.ndarray

    def extremes(self, value, is_possible=None):
        """The least and the largest leaf below each split.

        Parameters
        ----------
        value : ndarray of shape (n_leaves,)
        is_possible : ndarray of bool of shape (n_leaves,), default=None
            Leaves that count; None: all.
        """
        n_splits = len(self.feature)
        least, largest = np.full(n_splits, np.inf), np.full(n_splits, -np.inf)
        below = self.leaf_parent >= 0
        if is_possible is not None:
            below &= is_possible
        np.minimum.at(least, self.leaf_parent[below], value[below])
        np.maximum.at(largest, self.leaf_parent[below], value[below])
        for depth in self.depths[:0:-1]:
            parent = self.split_parent[depth]
            np.minimum.at(least, parent, least[depth])
            np.maximum.at(largest, parent, largest[depth])
        return least, largest


def reach(trees: TreeSum, region: Region) -> Reach:
    """Walk down all trees at once, on both sides wherever the box meets both."""
    low, high = region.low, region.high
    node, tree = trees.roots, np.arange(trees.n_trees)
    parent = np.full(trees.n_trees, -1)
    side = np.zeros(trees.n_trees, dtype=int)
    splits, leaves, depths, n_splits = [], [], [], 0
    while len(node):
        is_leaf = trees.is_leaf[node]
        if is_leaf.any():
            leaves.append(np.stack([node, parent, side, tree])[:, is_leaf])
            inner = ~is_leaf
            node, parent, side, tree = node[inner], parent[inner], side[inner], tree[inner]
        feature, threshold = trees.feature[node], trees.threshold[node]
        lowest, highest = low[feature], high[feature]
        goes_left, goes_right = lowest <= threshold, highest > threshold
        missing = np.isnan(lowest)
        if missing.any():
            to_left = trees.missing_left[node]
            goes_left |= missing & to_left
            goes_right |= missing & ~to_left
        both = np.flatnonzero(goes_left & goes_right)
        place = np.arange(n_splits, n_splits + len(both))
        if len(both):
            found = np.stack([parent[both], side[both], tree[both], node[both]])
            splits.append(found)
            depths.append(slice(n_splits, n_splits + len(both)))
            n_splits += len(both)
        child_parent = [parent.copy(), parent.copy()]
        child_side = [side.copy(), side.copy()]
        for which in (0, 1):
            child_parent[which][both] = place
            child_side[which][both] = which
        ways = (goes_left, goes_right)
        children = (trees.left[node], trees.right[node])
        node = np.concatenate([child[way] for child, way in zip(children, ways, strict=True)])
        parent = np.concatenate([p[way] for p, way in zip(child_parent, ways, strict=True)])
        side = np.concatenate([s[way] for s, way in zip(child_side, ways, strict=True)])
        tree = np.concatenate([tree[way] for way in ways])
    split_parent, split_side, split_tree, split_node = (
        np.concatenate(splits, axis=1) if splits else np.zeros((4, 0), dtype=int)
    )
    leaf, leaf_parent, leaf_side, leaf_tree = np.concatenate(leaves, axis=1)
    return Reach(
        trees.feature[split_node],
        trees.threshold[split_node],
        split_parent,
        split_side,
        split_tree,
        depths,
        leaf,
        leaf_parent,
        leaf_side,
        leaf_tree,
    )


@dataclass(frozen=True, eq=False)
class LeafBoxes:
    """The box of each leaf, as the intervals of the coordinates on its path.

    Attributes
    ----------
    leaf : ndarray of shape (n_leaves,)
        Nodes of the `TreeSum`.
    start : ndarray of shape (n_leaves,)
        The first interval of each leaf; those of leaves without any are empty.
    owner, feature, low, high : ndarray of shape (n_intervals,)
        Leaves by their position; `low < x <= high`.
    """

    leaf: np.ndarray
    owner: np.ndarray
    feature: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def squared_distances(self, region):
        """‖η / r‖² of the least step from the centre to each leaf's box, by node."""
        x, radii = region.center[self.feature], region.radii[self.feature]
        outside = np.maximum(self.low - x, 0) + np.maximum(x - self.high, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Missing values and held coordinates are a matter of reach, not of distance.
            steps = np.where(outside > 0, outside / radii, 0.0)
        steps = np.where(np.isnan(steps), 0.0, steps)
        return np.bincount(self.owner, steps**2, minlength=len(self.leaf))


@functools.lru_cache(maxsize=4)
def leaf_boxes(trees: TreeSum) -> LeafBoxes:
    """The boxes of all leaves of all trees."""
    parent = np.full(len(trees.left), -1)
    is_left = np.zeros(len(trees.left), dtype=bool)
    inner = np.flatnonzero(~trees.is_leaf)
    parent[trees.left[inner]] = parent[trees.right[inner]] = inner
    is_left[trees.left[inner]] = True
    leaf = np.flatnonzero(trees.is_leaf)
    node, owner = leaf, np.arange(len(leaf))
    owners, features, lows, highs = [], [], [], []
    while len(node):
        above = parent[node]
        has_parent = above >= 0
        node, owner, above = node[has_parent], owner[has_parent], above[has_parent]
        owners.append(owner)
        features.append(trees.feature[above])
        highs.append(np.where(is_left[node], trees.threshold[above], np.inf))
        lows.append(np.where(is_left[node], -np.inf, trees.threshold[above]))
        node = above
    owner, feature = np.concatenate(owners), np.concatenate(features)
    low, high = np.concatenate(lows), np.concatenate(highs)
    # One interval for each leaf and coordinate: the intersection.
    key = owner * (int(feature.max(initial=0)) + 1) + feature
    unique, place = np.unique(key, return_inverse=True)
    lowest, highest = np.full(len(unique), -np.inf), np.full(len(unique), np.inf)
    np.maximum.at(lowest, place, low)
    np.minimum.at(highest, place, high)
    n_features = int(feature.max(initial=0)) + 1
    return LeafBoxes(leaf, unique // n_features, unique % n_features, lowest, highest)
