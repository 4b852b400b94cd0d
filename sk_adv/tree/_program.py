"""The worst margin of a sum of trees over a box or a ball: bounds, and a mixed-integer program.

Sources: Kantchelian, Tygar and Joseph, "Evasion and Hardening of Tree Ensemble Classifiers", ICML
2016, for the program over a box. Here the ball of the Euclidean norm is one more row of it: the
squared distance to the nearest point of a cell is a sum over coordinates, and along each of them a
sum over the thresholds that lie between.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from sk_adv._arrays import in_32_bits
from sk_adv.tree._reach import Reach, Region
from sk_adv.tree._shrunk import Shrunk

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
    leaves : ndarray or None
        The leaves of the cell, as `Program.solve` takes them for `excluded`.
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


@dataclass(frozen=True)
class _Rows:
    """The rows of a program: `low <= matrix @ x <= high`.

    The variables are the binaries of the thresholds, and then those of the leaves.

    Attributes
    ----------
    feature, threshold : ndarray of shape (n_binaries,)
        What each binary stands for: "x_feature <= threshold".
    matrix : sparse array of shape (n_rows, n_variables)
    low, high : ndarray of shape (n_rows,)
        For a ball, the last row is the squared distance.
    cost : ndarray of shape (n_variables,) or None
        The squared distance to the centre of the ball is `constant + cost @ x`.
    constant : float
    """

    feature: np.ndarray
    threshold: np.ndarray
    matrix: sparse.csr_array
    low: np.ndarray
    high: np.ndarray
    cost: np.ndarray | None
    constant: float


@dataclass(frozen=True)
class Program:
    """The least sum of leaves over a region, as a mixed-integer program.

    Attributes
    ----------
    shrunk : Shrunk
    region : Region
    """

    shrunk: Shrunk
    region: Region

    def least_alone(self) -> Worst | None:
        """The least sum itself where no program is needed, else None."""
        if not len(self.shrunk.feature):
            everywhere = np.full(len(self.region.low), np.inf)
            return Worst(self.shrunk.base, (-everywhere, everywhere))
        found = self.shrunk.least_alone(self.region)
        return None if found is None else Worst(found[0], found[1:])

    def relaxed(self, *, time_limit: float, cutoff: float) -> Worst:
        """A lower bound of the least sum, with all variables in [0, 1], and the cell next to it.

        It takes a fraction of the time of `solve`, and decides nearly all samples: there is no sum
        up to the cutoff, or the rounded variables name a cell with one.
        """
        rows = self.rows
        result = self._run(self.leaves, 0, rows.matrix, rows.low, rows.high, time_limit)
        if result.status == _INFEASIBLE:
            return Worst(cutoff, None, is_empty=True)
        if result.status != _OPTIMAL:
            return Worst(-np.inf, None)
        lower = self.shrunk.base + self.scale * (result.fun - TOLERANCE)
        return Worst(lower, self._cell(result.x), is_empty=lower > cutoff)

    def solve(
        self,
        *,
        time_limit: float,
        cutoff: float | None = None,
        slack: float = 0.0,
        nearest: bool = False,
        excluded: tuple = (),
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
        excluded : tuple of ndarray, default=()
            The leaves of cells that are to be left out.
        """
        if not len(self.shrunk.feature):
            # A single cell.
            found = self.least_alone()
            return Worst(found.lower, None if excluded else found.cell, bool(excluded), np.zeros(0))
        rows, n_binaries = self.rows, len(self.rows.feature)
        objective, more = self.leaves, []
        high = rows.high
        if rows.cost is not None:
            high = np.append(high[:-1], high[-1] - slack)
        if cutoff is not None:
            objective = np.zeros_like(self.leaves)
            limit = (cutoff - self.shrunk.base) / self.scale + TOLERANCE - slack
            more.append((self.leaves, limit))
        for together in excluded:
            row = np.zeros_like(self.leaves)
            row[n_binaries + together] = 1.0
            more.append((row, len(together) - 1.0))
        if nearest:
            objective = rows.cost
        matrix, low = rows.matrix, rows.low
        if more:
            added = sparse.csr_array(np.stack([row for row, _ in more]))
            matrix = in_32_bits(sparse.vstack([matrix, added], format="csr"))
            low = np.append(low, np.full(len(more), -np.inf))
            high = np.append(high, [limit for _, limit in more])
        integrality = np.arange(len(objective)) < n_binaries
        result = self._run(objective, integrality, matrix, low, high, time_limit)
        if result.status == _INFEASIBLE:
            return Worst(-np.inf if cutoff is None else cutoff, None, is_empty=True)
        dual = result.mip_dual_bound
        lower = -np.inf
        if nearest and dual is not None:
            lower = dual + rows.constant
        elif cutoff is None and dual is not None:
            lower = self.shrunk.base + self.scale * (dual - TOLERANCE)
        if result.x is None:
            return Worst(lower, None)
        together = np.flatnonzero(result.x[n_binaries:] > 0.5)
        return Worst(lower, self._cell(result.x), leaves=together)

    def _run(self, objective, integrality, matrix, low, high, time_limit):
        return milp(
            objective,
            constraints=LinearConstraint(matrix, low, high),
            integrality=integrality,
            bounds=Bounds(0, 1),
            options={"time_limit": time_limit, "mip_rel_gap": 0.0},
        )

    def _cell(self, x):
        """The intervals of the cell that the binaries name."""
        rows = self.rows
        is_left = x[: len(rows.feature)] > 0.5
        low = np.full(len(self.region.low), -np.inf)
        high = np.full(len(self.region.high), np.inf)
        np.maximum.at(low, rows.feature[~is_left], rows.threshold[~is_left])
        np.minimum.at(high, rows.feature[is_left], rows.threshold[is_left])
        return low, high

    @functools.cached_property
    def scale(self):
        """The largest leaf."""
        return max(np.abs(self.shrunk.value).max(), np.finfo(float).tiny)

    @functools.cached_property
    def leaves(self):
        """What each variable adds to the sum, in units of the largest leaf."""
        return np.append(np.zeros(len(self.rows.feature)), self.shrunk.value / self.scale)

    @functools.cached_property
    def rows(self):
        """The rows, made when they are first needed."""
        return _rows(self.shrunk, self.region)


def _rows(shrunk: Shrunk, region: Region) -> _Rows:
    feature, threshold, split_variable = _thresholds(shrunk)
    n_binaries, n_leaves = len(feature), len(shrunk.value)
    n_splits = len(shrunk.feature)

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
    trees, tree_row = np.unique(shrunk.leaf_tree, return_inverse=True)
    add(
        tree_row,
        n_binaries + np.arange(n_leaves),
        np.ones(n_leaves),
        np.ones(len(trees)),
        np.ones(len(trees)),
    )
    # The leaves on the left of a split sum to at most p, those on its right to at most 1 - p.
    leaf, above, side = shrunk.ancestors
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
    matrix = sparse.csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n_rows, n_binaries + n_leaves),
    )
    low, high = np.concatenate(low), np.concatenate(high)
    return _Rows(feature, threshold, in_32_bits(matrix), low, high, cost, constant)


def _thresholds(shrunk):
    """The distinct pairs of coordinate and threshold in order, and the pair of each split."""
    feature, threshold = shrunk.feature, shrunk.threshold
    order = np.lexsort((threshold, feature))
    feature, threshold = feature[order], threshold[order]
    is_new = np.append(True, (np.diff(feature) != 0) | (np.diff(threshold) != 0))
    variable = np.empty(len(order), dtype=int)
    variable[order] = np.cumsum(is_new) - 1
    return feature[is_new], threshold[is_new], variable


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
