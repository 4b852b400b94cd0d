"""The smallest radius at which a perturbation changes the prediction of a sum of trees."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sk_adv.tree._program import Program
from sk_adv.tree._reach import Region
from sk_adv.tree._shrunk import shrink
from sk_adv.tree._tree_sum import TreeSum
from sk_adv.tree._worst_case import (
    case_of,
    limit_of,
    points_in_cell,
    reach_of,
    rivals_of,
    worst_case,
)

# The relative difference to which a program knows a distance.
_PRECISION = 1e-6
# A cell beyond a threshold is open: its nearest point is a rounding error further away.
_BEYOND = 1 + 1e-9


@dataclass(frozen=True)
class Radius:
    """The radius of a sample.

    Attributes
    ----------
    value : float
    is_exact : bool
        If False, for lack of time, the value is only a lower bound.
    is_tied : bool
        Whether classes were as good as equal on the way, and the estimator was not asked.
    upper : float
        The size of `point`, infinite without one.
    point : ndarray of shape (n_coordinates,) or None
        The nearest misclassified point that was found.
    """

    value: float
    is_exact: bool
    is_tied: bool = False
    upper: float = np.inf
    point: np.ndarray | None = None


def smallest_radius(
    trees: TreeSum,
    sample: np.ndarray,
    scale: np.ndarray,
    label: int,
    norm: float,
    *,
    time_limit: float,
    dtype=np.float64,
    bounds: tuple | None = None,
    is_wrong: Callable | None = None,
) -> Radius:
    """The least ‖η / s‖ over the η after which a sample is not in its class.

    In the max-norm the answer is one of finitely many radii, those at which a threshold enters the
    box, and bisection over them finds it. Each step decides whether there is a misclassified
    point, and the nearest one found is an upper end. In the Euclidean norm a few such steps are
    followed by a program that minimises the distance itself.

    Parameters
    ----------
    trees : TreeSum
    sample : ndarray of shape (n_coordinates,)
    scale : ndarray of shape (n_coordinates,)
        0 for a coordinate that is held.
    label : int
        The index of the class.
    norm : {numpy.inf, 2}
    time_limit : float
        Seconds for the sample.
    dtype : dtype, default=numpy.float64
        The floating type of X.
    bounds : tuple (low, high) of ndarray of shape (n_coordinates,), default=None
        The range of all points; the sample is inside.
    is_wrong : callable, default=None
        Whether the estimator misclassifies a point, as in `worst_case`.
    """
    deadline = time.monotonic() + time_limit
    entries = _entries(trees, sample, scale)
    low, high, is_exact, is_tied = 0.0, np.inf, True, False
    nearest = _Nearest(sample, scale, norm)

    def around(radius):
        reach = np.where(scale > 0, radius * scale * _BEYOND, 0.0)
        ends = sample - reach, sample + reach
        if bounds is not None:
            ends = tuple(np.clip(end, *bounds) for end in ends)
        return Region(*ends, sample, reach if norm == 2 else None)

    def decide(radius):
        nonlocal low, high, is_exact, is_tied
        region = around(radius)
        left = max(deadline - time.monotonic(), 1e-3)
        options = {"time_limit": left, "dtype": dtype, "is_wrong": is_wrong}
        found = worst_case(trees, region, label, **options)
        if found.is_misclassified:
            high = min(high, radius, nearest.note(found.point))
        elif found.is_proved:
            low = radius
        else:
            high, is_exact = radius, False
            is_tied |= found.is_suspect and is_wrong is None

    def is_late():
        return time.monotonic() > deadline

    # A misclassified sample has radius 0, also where nothing can change.
    decide(0.0)
    if high == 0:
        return Radius(0.0, is_exact, is_tied, *nearest.found())
    if norm == np.inf:
        # The number of entries tried doubles until some point is misclassified.
        tried = 1
        while np.isinf(high) and tried < len(entries) and not is_late():
            decide(entries[tried - 1])
            tried *= 4
        if np.isinf(high) and len(entries) and not is_late():
            decide(entries[-1])
        if np.isinf(high) and len(entries):
            # Without the time to try the last entry, nothing is known beyond `low`.
            is_exact &= low >= entries[-1]
        while True:
            between = entries[(entries > low * _BEYOND) & (entries < high / _BEYOND)]
            if not len(between) or np.isinf(high):
                break
            if is_late():
                is_exact = False
                break
            decide(between[(len(between) - 1) // 2])
    elif len(entries):
        farthest = np.sqrt((scale > 0).sum()) * entries[-1]
        # A sample can lie on a threshold.
        radius = entries[entries > 0].min(initial=np.inf)
        while np.isinf(high) and low < farthest and np.isfinite(radius):
            decide(min(radius, farthest))
            radius *= 2
        # A smaller ball makes a smaller program.
        while is_exact and np.isfinite(high) and low < high / 1.5:
            decide((low + high) / 2)
        if is_exact and np.isfinite(high):
            time_left = deadline - time.monotonic()
            options = {"time_limit": time_left, "dtype": dtype, "is_wrong": is_wrong}
            return _euclidean(trees, around(high), label, low, high, nearest, **options)
    return Radius(high if is_exact else low, is_exact, is_tied, *nearest.found())


class _Nearest:
    """The nearest misclassified point so far."""

    def __init__(self, sample, scale, norm):
        self.sample, self.scale, self.norm = sample, scale, norm
        self.upper, self.point = np.inf, None

    def note(self, point):
        """Keep the point if it is nearer than the last; return its distance."""
        length = _length(point - self.sample, self.scale, self.norm)
        if length < self.upper:
            self.upper, self.point = length, point
        return length

    def found(self):
        """The distance of the nearest point, and the point."""
        return self.upper, self.point


def _euclidean(trees, region, label, low, high, nearest, *, time_limit, dtype, is_wrong):
    """The Euclidean distance to the nearest misclassified point, which lies between two radii."""
    deadline = time.monotonic() + time_limit
    radius, least, is_exact, is_tied = high, high, True, False
    reached, is_possible = reach_of(trees, region)
    for bound, rival, value in rivals_of(trees, reached, label, is_possible):
        limit = limit_of(trees, label, rival)
        gap = trees.base[label] - trees.base[rival]
        excluded = []
        program = Program(shrink(reached, value, is_possible), region)
        while bound <= limit:
            found = program.solve(
                time_limit=max(deadline - time.monotonic(), 1e-3),
                cutoff=limit - gap,
                nearest=True,
                excluded=tuple(excluded),
            )
            if found.is_empty:
                break
            lower = high * max(found.lower, 0.0) ** 0.5
            if found.cell is None:
                least, is_exact = min(least, max(lower, low)), False
                break
            points = points_in_cell(region, found.cell, dtype)
            case = case_of(trees, points[0], label)
            if not case.is_misclassified and is_wrong is None:
                least, is_exact, is_tied = min(least, max(lower, low)), False, True
                break
            if not case.is_misclassified and not any(map(is_wrong, points)):
                excluded.append(found.leaves)
                continue
            length = nearest.note(points[0])
            radius, least = min(radius, length), min(least, max(lower, low))
            is_exact &= lower > length * (1 - 10 * _PRECISION)
            break
    return Radius(radius if is_exact else least, is_exact, is_tied, *nearest.found())


def _entries(trees, sample, scale):
    """The radii at which a threshold enters the box around a sample, in order."""
    inner = ~trees.is_leaf
    feature, threshold = trees.feature[inner], trees.threshold[inner]
    moves = (scale[feature] > 0) & np.isfinite(threshold) & ~np.isnan(sample[feature])
    feature, threshold = feature[moves], threshold[moves]
    return np.unique(np.abs(threshold - sample[feature]) / scale[feature])


def _length(step, scale, norm):
    moves = (scale > 0) & ~np.isnan(step)
    return float(np.linalg.norm(step[moves] / scale[moves], ord=norm)) if moves.any() else 0.0
