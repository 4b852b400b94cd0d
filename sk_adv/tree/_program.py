"""The worst margin of a sum of trees over a box or a ball: bounds, and a mixed-integer program.

Sources: Kantchelian, Tygar and Joseph, "Evasion and Hardening of Tree Ensemble Classifiers", ICML
2016, for the program over a box. Here the ball of the Euclidean norm is one more row of it: the
squared distance to the nearest point of a cell is a sum over coordinates, and along each of them a
sum over the thresholds that lie between.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from sk_adv.tree._reach import Reach, Region

# HiGHS finds values that satisfy each row to this much, in units of the largest leaf.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Worst:
    """The least sum of leaves, from below and from above.

    Attributes
    ----------
    lower : float
        No point has a smaller sum.
    cell : tuple of ndarray or None
        The intervals `low < x <= high` of the cell with the smallest sum that was found, by
        coordinate; None if none was looked for or found.
    is_empty : bool
        Whether no sum is as small as the cutoff.
    leaves : ndarray or None
        The leaves of the cell, as `solve` takes them for `excluded`.
    """

    lower: float
    cell: tuple | None
    is_empty: bool = False
    leaves: np.ndarray | None = None


def cheap_bound(reached: Reach, value, is_possible=None):
    """Σ over trees of the least reachable leaf, a lower bound of the least sum."""
    least, _ = reached.extremes(value, is_possible)
    alone = reached.leaf_parent < 0
    return float(value[alone].sum() + least[reached.split_parent < 0].sum())


def solve(
    reached: Reach,
    value,
    region: Region,
    *,
    time_limit: float,
    is_possible=None,
    cutoff: float | None = None,
    slack: float = 0.0,
    nearest: bool = False,
    excluded: tuple | None = None,
) -> Worst:
    """The least sum of leaves over the region.

    Parameters
    ----------
    reached : Reach
    value : ndarray of shape (n_leaves,)
    region : Region
    time_limit : float
        In seconds.
    is_possible : ndarray of bool of shape (n_leaves,), default=None
        Leaves that the ball meets.
    cutoff : float, default=None
        Look for any sum up to this number, and not for the least: that is decided much sooner.
    slack : float, default=0.0
        How much to take off the squared radius of the ball, and off the cutoff in units of the
        largest leaf, if a cell that just satisfied the rows turned out to lie beyond them.
    nearest : bool, default=False
        Look for the sum up to the cutoff that is nearest to the centre of the ball. `lower` is then
        a lower bound of its squared distance, in units of the radii.
    excluded : tuple of ndarray, default=None
        The leaves of cells that are to be left out; an empty tuple if there may be some later.
    """
    least, largest = reached.extremes(value, is_possible)
    base, splits, leaves = _merged(reached, value, least, largest, is_possible)
    if not len(splits.position):
        # A single cell.
        cell = _cell(region, np.zeros(0, int), np.zeros(0), np.zeros(0))
        return Worst(base, None if excluded else cell, is_empty=bool(excluded), leaves=np.zeros(0))
    simple = (
        None
        if nearest or excluded is not None
        else _without_program(reached, splits, leaves, region)
    )
    if simple is not None:
        total, low, high = simple
        lower = base + total
        return Worst(lower, (low, high), is_empty=cutoff is not None and lower > cutoff)
    feature, threshold, split_variable = _thresholds(reached, splits.position)
    n_binaries, n_leaves = len(feature), len(leaves.value)
    n_splits = len(splits.position)

    rows, columns, entries, low, high = [], [], [], [], []
    n_rows = 0

    def add(row, column, entry, lowest, highest):
        nonlocal n_rows
        rows.append(row + n_rows)
        columns.append(column)
        entries.append(entry)
        low.append(lowest)
        high.append(highest)
        n_rows += len(highest)

    # Along a coordinate, x <= t implies x <= t' for every t' > t.
    first = np.flatnonzero(feature[:-1] == feature[1:])
    order = np.arange(len(first))
    add(
        np.concatenate([order, order]),
        np.concatenate([first, first + 1]),
        np.concatenate([np.ones(len(first)), -np.ones(len(first))]),
        np.full(len(first), -np.inf),
        np.zeros(len(first)),
    )
    # Each tree has one leaf.
    trees, tree_row = np.unique(leaves.tree, return_inverse=True)
    add(
        tree_row,
        n_binaries + np.arange(n_leaves),
        np.ones(n_leaves),
        np.ones(len(trees)),
        np.ones(len(trees)),
    )
    # The leaves on the left of a split sum to at most p, those on its right to at most 1 - p.
    leaf, above, side = _ancestors(splits, leaves)
    number = np.arange(n_splits)
    add(
        np.concatenate([2 * above + side, 2 * number, 2 * number + 1]),
        np.concatenate([n_binaries + leaf, split_variable, split_variable]),
        np.concatenate([np.ones(len(leaf)), -np.ones(n_splits), np.ones(n_splits)]),
        np.full(2 * n_splits, -np.inf),
        np.tile([0.0, 1.0], n_splits),
    )
    if region.radii is not None:
        constant, cost = _squared_distance(feature, threshold, region)
        add(
            np.zeros(n_binaries, dtype=int),
            np.arange(n_binaries),
            cost,
            np.array([-np.inf]),
            np.array([1 - slack - constant]),
        )
    scale = max(np.abs(leaves.value).max(), np.finfo(float).tiny)
    objective = np.concatenate([np.zeros(n_binaries), leaves.value / scale])
    if cutoff is not None:
        add(
            np.zeros(n_leaves, dtype=int),
            n_binaries + np.arange(n_leaves),
            leaves.value / scale,
            np.array([-np.inf]),
            np.array([(cutoff - base) / scale + TOLERANCE - slack]),
        )
        objective = np.zeros_like(objective)
    if nearest:
        objective[:n_binaries] = cost
    for together in excluded or ():
        add(
            np.zeros(len(together), dtype=int),
            n_binaries + together,
            np.ones(len(together)),
            np.array([-np.inf]),
            np.array([len(together) - 1.0]),
        )
    matrix = sparse.csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n_rows, n_binaries + n_leaves),
    )
    result = milp(
        objective,
        constraints=LinearConstraint(matrix, np.concatenate(low), np.concatenate(high)),
        integrality=np.repeat([1, 0], [n_binaries, n_leaves]),
        bounds=Bounds(0, 1),
        options={"time_limit": time_limit, "mip_rel_gap": 0.0},
    )
    infeasible = 2
    if result.status == infeasible:
        return Worst(-np.inf if cutoff is None else cutoff, None, is_empty=True)
    dual = result.mip_dual_bound
    lower = -np.inf
    if nearest and dual is not None:
        lower = dual + constant
    elif cutoff is None and dual is not None:
        lower = base + scale * (dual - TOLERANCE)
    cell = together = None
    if result.x is not None:
        is_left = result.x[:n_binaries] > 0.5
        cell = _cell(region, feature, threshold, is_left)
        together = np.flatnonzero(result.x[n_binaries:] > 0.5)
    return Worst(lower, cell, leaves=together)


@dataclass(frozen=True)
class _Splits:
    position: np.ndarray
    parent: np.ndarray
    side: np.ndarray


@dataclass(frozen=True)
class _Leaves:
    value: np.ndarray
    tree: np.ndarray
    parent: np.ndarray
    side: np.ndarray


def _merged(reached, value, least, largest, is_possible):
    """The sum of constant trees; splits and leaves once subtrees of equal leaves are one leaf."""
    is_open = least < largest
    for depth in reached.depths:
        parent = reached.split_parent[depth]
        is_open[depth] &= (parent < 0) | is_open[parent]
    kept = np.flatnonzero(is_open)
    place = np.full(len(is_open) + 1, -1)
    place[kept] = np.arange(len(kept))
    splits = _Splits(kept, place[reached.split_parent[kept]], reached.split_side[kept])

    parent_is_open = np.append(is_open, False)[reached.split_parent]
    closed = np.flatnonzero(~is_open & (parent_is_open | (reached.split_parent < 0)))
    alone = reached.leaf_parent < 0
    leaf_counts = np.append(is_open, False)[reached.leaf_parent] | alone
    closed = closed[np.isfinite(least[closed])]
    if is_possible is not None:
        leaf_counts &= is_possible
    leaf = np.flatnonzero(leaf_counts)
    values = np.concatenate([value[leaf], least[closed]])
    tree = np.concatenate([reached.leaf_tree[leaf], reached.split_tree[closed]])
    parent = np.concatenate([reached.leaf_parent[leaf], reached.split_parent[closed]])
    side = np.concatenate([reached.leaf_side[leaf], reached.split_side[closed]])
    is_constant = parent < 0
    rest = ~is_constant
    leaves = _Leaves(values[rest], tree[rest], place[parent[rest]], side[rest])
    return float(values[is_constant].sum()), splits, leaves


def _without_program(reached, splits, leaves, region):
    """The least sum and its cell where trees don't depend on each other, else None.

    A single tree has the least of its leaves. Trees of one coordinate each, such as boosted stumps,
    over a box: along each coordinate the sum is a step function.
    """
    owner, feature, low_end, high_end = _intervals(reached, splits, leaves)
    # A tree can ask the same question twice: what lies beyond both answers is empty.
    is_met = np.ones(len(leaves.value), dtype=bool)
    is_met[owner[low_end >= high_end]] = False
    low, high = np.full(len(region.low), -np.inf), np.full(len(region.low), np.inf)
    if (leaves.tree == leaves.tree[0]).all():
        best = int(np.where(is_met, leaves.value, np.inf).argmin())
        own = owner == best
        low[feature[own]], high[feature[own]] = low_end[own], high_end[own]
        return float(leaves.value[best]), low, high
    pairs = np.unique(np.stack([leaves.tree[owner], feature]), axis=1)
    if region.radii is not None or pairs.shape[1] > len(np.unique(leaves.tree)):
        return None
    # One interval for each leaf, then.
    kept = is_met[owner]
    value, feature, starts, ends = (
        leaves.value[owner[kept]],
        feature[kept],
        low_end[kept],
        high_end[kept],
    )
    total = 0.0
    for j in np.unique(feature):
        own = feature == j
        limits = np.unique([starts[own], ends[own]])
        limits = limits[np.isfinite(limits)]
        steps = np.zeros(len(limits) + 2)
        np.add.at(steps, np.searchsorted(limits, starts[own], side="right"), value[own])
        np.add.at(steps, np.searchsorted(limits, ends[own]) + 1, -value[own])
        sums = np.cumsum(steps)[:-1]
        best = int(sums.argmin())
        total += sums[best]
        low[j] = limits[best - 1] if best else -np.inf
        high[j] = limits[best] if best < len(limits) else np.inf
    return float(total), low, high


def _intervals(reached, splits, leaves):
    """The interval `low < x <= high` of each leaf along each coordinate of the splits above it."""
    owner, above, side = _ancestors(splits, leaves)
    feature = reached.feature[splits.position][above]
    threshold = reached.threshold[splits.position][above]
    n_coordinates = int(feature.max()) + 1
    keys, place = np.unique(owner * n_coordinates + feature, return_inverse=True)
    low, high = np.full(len(keys), -np.inf), np.full(len(keys), np.inf)
    is_left = side == 0
    np.minimum.at(high, place[is_left], threshold[is_left])
    np.maximum.at(low, place[~is_left], threshold[~is_left])
    return keys // n_coordinates, keys % n_coordinates, low, high


def _thresholds(reached, position):
    """The distinct pairs of coordinate and threshold in order, and the pair of each split."""
    feature, threshold = reached.feature[position], reached.threshold[position]
    order = np.lexsort((threshold, feature))
    feature, threshold = feature[order], threshold[order]
    is_new = np.append(True, (np.diff(feature) != 0) | (np.diff(threshold) != 0))
    variable = np.empty(len(order), dtype=int)
    variable[order] = np.cumsum(is_new) - 1
    return feature[is_new], threshold[is_new], variable


def _ancestors(splits, leaves):
    """All pairs of a leaf and a split above it, with the leaf's side of it."""
    found = []
    leaf = np.arange(len(leaves.value))
    above, side = leaves.parent, leaves.side
    while len(leaf):
        found.append((leaf, above, side))
        next_side, next_above = splits.side[above], splits.parent[above]
        goes_on = next_above >= 0
        leaf, above, side = leaf[goes_on], next_above[goes_on], next_side[goes_on]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def _squared_distance(feature, threshold, region):
    """The constant c and the costs of the binaries with ‖η / r‖² = c + costᵀp for a cell."""
    x, r = region.center[feature], region.radii[feature]
    outward = np.where(threshold < x, threshold - x, np.maximum(threshold - x, 0)) / r
    # At x <= t < x0 the distance is at least (x0 - t) / r; at x > t >= x0 it is (t - x0) / r.
    squared = outward**2
    cost, constant = np.zeros(len(feature)), 0.0
    same_as_next = np.append(feature[1:] == feature[:-1], False)
    same_as_last = np.append(False, feature[1:] == feature[:-1])
    below = threshold < x
    # Below the sample, p = 1 for the thresholds that the cell lies under.
    nearer = np.where(same_as_next & np.append(below[1:], False), np.append(squared[1:], 0), 0)
    cost[below] = (squared - nearer)[below]
    # Above it, p = 0 for those that the cell lies beyond.
    previous = np.where(same_as_last & ~np.append(True, below[:-1]), np.append(0, squared[:-1]), 0)
    step = (squared - previous)[~below]
    cost[~below] = -step
    constant = float(step.sum())
    return constant, cost


def _cell(region, feature, threshold, is_left):
    """The intervals of the cell that the binaries name."""
    low = np.full(len(region.low), -np.inf)
    high = np.full(len(region.high), np.inf)
    is_left = np.asarray(is_left, dtype=bool)
    np.maximum.at(low, feature[~is_left], threshold[~is_left])
    np.minimum.at(high, feature[is_left], threshold[is_left])
    return low, high
