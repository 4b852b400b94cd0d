"""The worst case of one sample in a set: proved safe, a point that is wrong, or neither in time."""

import time
from dataclasses import dataclass, replace

import numpy as np

from sk_adv.tree._program import TOLERANCE, build, cheap_bound
from sk_adv.tree._reach import Region, leaf_boxes, reach
from sk_adv.tree._tree_sum import TreeSum


@dataclass(frozen=True)
class WorstCase:
    """What is known of a sample's least margin over its rivals, y's score less the rival's.

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
    """
    deadline = time.monotonic() + time_limit
    reached, is_possible = reach_of(trees, region)
    rivals = rivals_of(trees, reached, label, is_possible)
    worst = _at(trees, region.center, label)
    if decide and worst.is_misclassified:
        return worst
    lowers, proofs = [], []
    for bound, rival, value in rivals:
        gap = trees.base[label] - trees.base[rival]
        limit = limit_of(trees, label, rival)
        if decide and bound > limit:
            lowers.append(bound)
            proofs.append(True)
            continue
        lower, is_empty = bound, False
        program = build(reached, value, region, is_possible=is_possible)
        cutoff = limit - gap if decide else None
        # The relaxed program decides nearly all signs, in a fraction of the time.
        for is_relaxed, slack in ((True, 0.0), (False, 0.0), (False, 1e-5))[not decide :]:
            left = max(deadline - time.monotonic(), 1e-3)
            if is_relaxed:
                found = program.relaxed(time_limit=left, cutoff=cutoff)
            else:
                found = program.solve(time_limit=left, cutoff=cutoff, slack=slack)
            if slack == 0:
                lower, is_empty = max(lower, _lifted(trees, found.lower + gap)), found.is_empty
            if decide and (is_empty or lower > limit):
                break
            if found.cell is None:
                if is_relaxed:
                    continue
                break
            first, *others = points_in_cell(region, found.cell, dtype)
            case = replace(_at(trees, first, label), others=tuple(others))
            if _is_inside(first, region):
                worst = min(worst, case, key=lambda case: case.upper)
                if case.is_misclassified if is_relaxed else case.is_suspect or not decide:
                    break
        if decide and worst.is_misclassified:
            return worst
        lowers.append(lower)
        proofs.append(is_empty or lower > limit)
    lower = min(min(lowers), worst.upper)
    return replace(worst, lower=lower, is_proved=all(proofs))


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
    if trees.unit:
        return -trees.unit if _is_preferred(trees, label, rival) else 0.0
    return trees.rounding


def _lifted(trees, lower):
    """A lower bound of a sum, up to the next number that the sum can be."""
    if not trees.unit or not np.isfinite(lower):
        return lower
    return np.ceil(lower / trees.unit - 1e-3) * trees.unit


def _at(trees, point, label):
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
