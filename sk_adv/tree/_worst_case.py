"""The worst case of one sample in a set: proved safe, a point that is wrong, or neither in time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sk_adv.tree._program import TOLERANCE, Program, cheap_bound
from sk_adv.tree._reach import Region, leaf_boxes, reach
from sk_adv.tree._shrunk import shrink
from sk_adv.tree._tree_sum import TreeSum


@dataclass(frozen=True)
class WorstCase:
    """Bounds of a sample's least margin over its rivals, y's score less the rival's.

    Attributes
    ----------
    lower : float
        No point of the region has a smaller margin; -inf if nothing is known.
    upper : float
        The margin at `point`.
    point : ndarray of shape (n_coordinates,)
        The worst point that was found.
    is_proved : bool
        Whether no point of the region is misclassified.
    is_misclassified : bool
        Whether the trees misclassify `point`, whatever the estimator's rounding of sums.
    is_suspect : bool
        Whether the estimator may misclassify `point`.
    others : tuple of ndarray
        Other points of the cell of `point`, for an estimator that does not misclassify it.
    """

    lower: float
    upper: float
    point: np.ndarray
    is_proved: bool
    is_misclassified: bool
    is_suspect: bool = False
    others: tuple = ()


def worst_case(
    trees: TreeSum,
    region: Region,
    label: int,
    *,
    time_limit: float,
    dtype=np.float64,
    decide: bool = True,
    is_wrong: Callable | None = None,
) -> WorstCase:
    """The least margin of a class over a region, or its sign alone.

    Parameters
    ----------
    trees : TreeSum
    region : Region
    label : int
        The index of the true class.
    time_limit : float
        Seconds for the sample.
    dtype : dtype, default=numpy.float64
        The floating type of X, in which the point is a number.
    decide : bool, default=True
        Whether to stop as soon as the sample is proved safe or a misclassified point is found.
    is_wrong : callable, default=None
        Whether the estimator misclassifies a point. Where two classes are as good as equal, its
        rounding of sums decides, and all such cells are tried in turn. Without the function such
        a sample is left open.
    """
    search = _Search(trees, region, label, time_limit, dtype, decide, is_wrong)
    reached, is_possible = reach_of(trees, region)
    worst = case_of(trees, region.center, label)
    if decide and worst.is_misclassified:
        return worst
    lowers, proofs = [], []
    for bound, rival, value in rivals_of(trees, reached, label, is_possible):
        if decide and bound > limit_of(trees, label, rival):
            lowers.append(bound)
            proofs.append(True)
            continue
        lower, is_proved, found = search.against(rival, value, bound, reached, is_possible)
        worst = min([worst, *found], key=lambda case: (not case.is_misclassified, case.upper))
        if decide and worst.is_misclassified:
            return worst
        lowers.append(lower)
        proofs.append(is_proved)
    lower = min(min(lowers), worst.upper)
    return replace(worst, lower=lower, is_proved=all(proofs))


class _Search:
    """The search around one sample."""

    def __init__(self, trees, region, label, time_limit, dtype, decide, is_wrong):
        self.trees, self.region, self.label = trees, region, label
        self.dtype, self.decide, self.is_wrong = dtype, decide, is_wrong
        self.deadline = time.monotonic() + time_limit

    def against(self, rival, value, bound, reached, is_possible):
        """A lower bound of the margin over a rival, whether it proves safety, and cases found."""
        trees, region = self.trees, self.region
        gap = trees.base[self.label] - trees.base[rival]
        limit = limit_of(trees, self.label, rival)
        cutoff = limit - gap if self.decide else None
        program = Program(shrink(reached, value, is_possible), region)
        cases, lower = [], bound
        found = program.least_alone()
        if found is not None:
            lower = max(bound, found.lower + gap)
        elif self.decide:
            # The relaxed program decides nearly all signs, in a fraction of the time.
            found = program.relaxed(time_limit=self._time_left(), cutoff=cutoff)
            lower = max(bound, _lifted(trees, found.lower + gap))
        if found is not None:
            if self.decide and (lower > limit or found.is_empty):
                return lower, True, cases
            case = self._case(found.cell)
            # Where the least sum is as good as the limit, the estimator decides, below.
            if case is not None and (case.is_misclassified or not self.decide):
                return lower, lower > limit, [case]
        excluded, slack = [], 0.0
        while True:
            found = program.solve(
                time_limit=self._time_left(),
                cutoff=cutoff,
                slack=slack,
                excluded=tuple(excluded),
            )
            if not slack and not excluded:
                lower = max(lower, _lifted(trees, found.lower + gap))
            if found.cell is None:
                # A sum within the slack is neither found nor excluded.
                return lower, (found.is_empty and not slack) or lower > limit, cases
            case = self._case(found.cell)
            if case is not None:
                cases.append(case)
                if case.is_misclassified or not self.decide:
                    return lower, lower > limit, cases
            if case is None or not case.is_suspect:
                # Just satisfied, within the tolerance: look further inside.
                if slack:
                    return lower, lower > limit, cases
                slack = 10 * TOLERANCE
            elif self.is_wrong is None:
                return lower, False, cases
            else:
                for point in (case.point, *case.others):
                    if self.is_wrong(point):
                        cases.append(replace(case, point=point, is_misclassified=True))
                        return lower, False, cases
                excluded.append(found.leaves)

    def _time_left(self):
        return max(self.deadline - time.monotonic(), 1e-3)

    def _case(self, cell):
        """The case of a point of the cell, or None if there is no cell or it is not inside."""
        if cell is None:
            return None
        first, *others = points_in_cell(self.region, cell, self.dtype)
        if not _is_inside(first, self.region):
            return None
        return replace(case_of(self.trees, first, self.label), others=tuple(others))


def reach_of(trees: TreeSum, region: Region):
    """The reachable trees, and for a ball which of their leaves it meets."""
    reached = reach(trees, region)
    if region.radii is None:
        return reached, None
    distances = np.zeros(len(trees.left))
    boxes = leaf_boxes(trees)
    distances[boxes.leaf] = boxes.squared_distances(region)
    return reached, distances[reached.leaf] <= 1 + TOLERANCE


def rivals_of(trees, reached, label, is_possible):
    """The rival classes by their cheap bound, the most dangerous first."""
    found = []
    for rival in range(trees.n_classes):
        if rival != label:
            value = trees.value[reached.leaf, label] - trees.value[reached.leaf, rival]
            bound = cheap_bound(reached, value, is_possible)
            found.append((bound + trees.base[label] - trees.base[rival], rival, value))
    return sorted(found, key=lambda item: item[0])


def _is_preferred(trees, first, second):
    """Whether the estimator predicts the first class where both have the same score."""
    return trees.preferred.index(first) < trees.preferred.index(second)


def limit_of(trees, label, rival):
    """The largest margin at which the estimator may predict the rival."""
    if label == rival:
        return -np.inf
    if trees.rounding:
        return trees.rounding
    # Sums are exact, and so are ties.
    return -(trees.unit or np.finfo(float).tiny) if _is_preferred(trees, label, rival) else 0.0


def _lifted(trees, lower):
    """A lower bound of a sum, up to the next number that the sum can be."""
    if not trees.unit or not np.isfinite(lower):
        return lower
    return np.ceil(lower / trees.unit - 1e-3) * trees.unit


def case_of(trees, point, label):
    """The case of a single point."""
    scores = trees.base + trees.value[trees.leaves(point[None])[0]].sum(0)
    margins = scores[label] - scores
    margins[label] = np.inf
    upper = margins.min()
    limits = np.array([limit_of(trees, label, rival) for rival in range(trees.n_classes)])
    return WorstCase(
        -np.inf,
        float(upper),
        point,
        is_proved=False,
        is_misclassified=bool((margins <= np.where(limits > 0, -limits, limits)).any()),
        is_suspect=bool((margins <= limits).any()),
    )


def points_in_cell(region: Region, cell, dtype) -> list:
    """Points of a cell within the box: next to the clean sample, and in the max-norm the middle."""
    low, high = cell
    # x > t holds from the next number of X's own type on.
    after = np.where(
        np.isneginf(low), low, np.nextafter(low.astype(dtype), dtype(np.inf)).astype(np.float64)
    )
    low, high = np.maximum(after, region.low), np.minimum(high, region.high)
    near = np.clip(region.center, low, high)
    points = [near]
    if region.radii is None:
        moved = near != region.center
        middle = (low / 2 + high / 2).astype(dtype).astype(np.float64)
        points.append(np.where(moved, np.clip(middle, low, high), near))
    return points


def _is_inside(point, region):
    """Whether a point lies in the region."""
    known = ~np.isnan(region.center)
    inside = (region.low <= point) & (point <= region.high)
    if not inside[known].all():
        return False
    if region.radii is None:
        return True
    step = (point - region.center)[known & (region.radii > 0)]
    return np.linalg.norm(step / region.radii[known & (region.radii > 0)]) <= 1
