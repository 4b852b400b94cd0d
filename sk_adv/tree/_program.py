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
# The status of a result of `milp`.
_OPTIMAL, _INFEASIBLE = 0, 2


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
    """

    lower: float
    cell: tuple | None
    is_empty: bool = False


def cheap_bound(reached: Reach, value, is_possible=None):
    """Σ over trees of the least reachable leaf, a lower bound of the least sum."""
    least, _ = reached.extremes(value, is_possible)
    alone = reached.leaf_parent < 0
    return float(value[alone].sum() + least[reached.split_parent < 0].sum())


@dataclass(frozen=True)
class Program:
    """The rows of the program, in the binaries of thresholds and then the variables of leaves.

    Attributes
    ----------
    region : Region
    base : float
        The sum of the trees that have shrunk to one leaf.
    feature, threshold : ndarray of shape (n_binaries,)
        What each binary stands for: "x_feature <= threshold".
    leaves : ndarray of shape (n_variables,)
        What each variable adds to the sum, in units of the largest leaf.
    scale : float
        The largest leaf.
    matrix : sparse array of shape (n_rows, n_variables)
    low, high : ndarray of shape (n_rows,)
        Rows hold `low <= matrix @ x <= high`. For a ball, the last row is the squared distance.
    cost : ndarray of shape (n_variables,) or None
        The squared distance to the centre of the ball is `constant + cost @ x`.
    constant : float
    """

    region: Region
    base: float
    feature: np.ndarray
    threshold: np.ndarray
    leaves: np.ndarray
    scale: float
    matrix: sparse.csr_array
    low: np.ndarray
    high: np.ndarray
    cost: np.ndarray | None
    constant: float

    def relaxed(self, *, time_limit: float, cutoff: float) -> Worst:
        """A lower bound of the least sum, with all variables in [0, 1], and the cell next to it.

        It takes a fraction of the time of `solve`, and decides nearly all samples: there is no sum
        up to the cutoff, or the rounded variables name a cell with one.
        """
        if not len(self.feature):
            return self._of_no_split(cutoff)
        result = self._run(self.leaves, 0, self.matrix, self.low, self.high, time_limit)
        if result.status == _INFEASIBLE:
            return Worst(cutoff, None, is_empty=True)
        if result.status != _OPTIMAL:
            return Worst(-np.inf, None)
        lower = self.base + self.scale * (result.fun - TOLERANCE)
        return Worst(lower, self._cell(result.x), is_empty=lower > cutoff)

    def solve(
        self,
        *,
        time_limit: float,
        cutoff: float | None = None,
        slack: float = 0.0,
        nearest: bool = False,
    ) -> Worst:
        """The least sum of leaves over the region.

        Parameters
        ----------
        time_limit : float
            In seconds.
        cutoff : float, default=None
            Look for any sum up to this number, and not for the least: that is decided much sooner.
        slack : float, default=0.0
            How much to take off the squared radius of the ball, and off the cutoff in units of the
            largest leaf, if a cell that just satisfied the rows turned out to lie beyond them.
        nearest : bool, default=False
            Look for the sum up to the cutoff that is nearest to the centre of the ball. `lower` is
            then a lower bound of its squared distance, in units of the radii.
        """
        if not len(self.feature):
            return self._of_no_split(cutoff)
        objective, matrix, low, high = self.leaves, self.matrix, self.low, self.high
        if self.cost is not None:
            high = np.append(high[:-1], high[-1] - slack)
        if cutoff is not None:
            objective = np.zeros_like(self.leaves)
            matrix = sparse.vstack([matrix, sparse.csr_array(self.leaves[None])], format="csr")
            low = np.append(low, -np.inf)
            high = np.append(high, (cutoff - self.base) / self.scale + TOLERANCE - slack)
        if nearest:
            objective = self.cost
        integrality = np.arange(len(objective)) < len(self.feature)
        result = self._run(objective, integrality, matrix, low, high, time_limit)
        if result.status == _INFEASIBLE:
            return Worst(-np.inf if cutoff is None else cutoff, None, is_empty=True)
        dual = result.mip_dual_bound
        lower = -np.inf
        if nearest and dual is not None:
            lower = dual + self.constant
        elif cutoff is None and dual is not None:
            lower = self.base + self.scale * (dual - TOLERANCE)
        return Worst(lower, None if result.x is None else self._cell(result.x))

    def _run(self, objective, integrality, matrix, low, high, time_limit):
        return milp(
            objective,
            constraints=LinearConstraint(matrix, low, high),
            integrality=integrality,
            bounds=Bounds(0, 1),
            options={"time_limit": time_limit, "mip_rel_gap": 0.0},
        )

    def _of_no_split(self, cutoff):
        return Worst(self.base, self._cell(np.zeros(0)))

    def _cell(self, x):
        """The intervals of the cell that the binaries name."""
        is_left = x[: len(self.feature)] > 0.5
        low = np.full(len(self.region.low), -np.inf)
        high = np.full(len(self.region.high), np.inf)
        np.maximum.at(low, self.feature[~is_left], self.threshold[~is_left])
        np.minimum.at(high, self.feature[is_left], self.threshold[is_left])
        return low, high


def build(reached: Reach, value, region: Region, *, is_possible=None) -> Program:
    """The program for the least sum of leaves over the region.

    Parameters
    ----------
    reached : Reach
    value : ndarray of shape (n_leaves,)
    region : Region
    is_possible : ndarray of bool of shape (n_leaves,), default=None
        Leaves that the ball meets.
    """
    least, largest = reached.extremes(value, is_possible)
    base, splits, leaves = _merged(reached, value, least, largest, is_possible)
    if not len(splits.position):
        nothing = np.zeros(0)
        return Program(
            region,
            base,
            nothing.astype(int),
            nothing,
            nothing,
            1.0,
            None,
            nothing,
            nothing,
            None,
            0,
        )
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
    constant, cost = 0.0, None
    if region.radii is not None:
        constant, cost = _squared_distance(feature, threshold, region)
        add(
            np.zeros(n_binaries, dtype=int),
            np.arange(n_binaries),
            cost,
            np.array([-np.inf]),
            np.array([1 - constant]),
        )
        cost = np.append(cost, np.zeros(n_leaves))
    scale = max(np.abs(leaves.value).max(), np.finfo(float).tiny)
    matrix = sparse.csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n_rows, n_binaries + n_leaves),
    )
    return Program(
        region,
        base,
        feature,
        threshold,
        np.append(np.zeros(n_binaries), leaves.value / scale),
        scale,
        matrix,
        np.concatenate(low),
        np.concatenate(high),
        cost,
        constant,
    )


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
