"""The smallest radius at which a perturbation changes the prediction of a sum of trees."""

import time
from dataclasses import dataclass

import numpy as np

from sk_adv.tree._program import build
from sk_adv.tree._reach import Region
from sk_adv.tree._tree_sum import TreeSum
from sk_adv.tree._worst_case import limit_of, points_in_cell, reach_of, rivals_of, worst_case

# The relative difference to which a program knows a distance.
_PRECISION = 1e-6
# A cell beyond a threshold is open: its nearest point is a rounding error further away.
_BEYOND = 1 + 1e-9


@dataclass(frozen=True)
class Radius:
    """A radius, and whether it is exact or, for lack of time, only a lower bound."""

    value: float
    is_exact: bool


def smallest_radius(
    trees: TreeSum,
    sample: np.ndarray,
    scale: np.ndarray,
    label: int,
    norm: float,
    *,
    time_limit: float,
    dtype=np.float64,
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
    """
    deadline = time.monotonic() + time_limit
    entries = _entries(trees, sample, scale)
    low, high, is_exact = 0.0, np.inf, True

    def decide(radius):
        nonlocal low, high, is_exact
        reach = np.where(scale > 0, radius * scale * _BEYOND, 0.0)
        region = Region(sample - reach, sample + reach, sample, reach if norm == 2 else None)
        left = max(deadline - time.monotonic(), 1e-3)
        found = worst_case(trees, region, label, time_limit=left, dtype=dtype)
        if found.is_suspect:
            high = min(high, radius, _length(found.point - sample, scale, norm))
        elif found.is_proved:
            low = radius
        else:
            high, is_exact = radius, False

    if norm == np.inf:
        # The number of entries tried doubles until some point is misclassified.
        tried = 1
        while np.isinf(high) and tried < len(entries):
            decide(entries[tried - 1])
            tried *= 4
        if np.isinf(high) and len(entries):
            decide(entries[-1])
        while True:
            between = entries[(entries > low * _BEYOND) & (entries < high / _BEYOND)]
            if not len(between) or np.isinf(high):
                break
            decide(between[(len(between) - 1) // 2])
    elif len(entries):
        farthest = np.sqrt((scale > 0).sum()) * entries[-1]
        radius = entries[0]
        while np.isinf(high) and low < farthest:
            decide(min(radius, farthest))
            radius *= 2
        # A smaller ball makes a smaller program.
        while is_exact and np.isfinite(high) and low < high / 1.5:
            decide((low + high) / 2)
        if is_exact and np.isfinite(high):
            region = Region(*_ends(sample, high * scale * _BEYOND), sample, high * scale * _BEYOND)
            time_left = deadline - time.monotonic()
            return _nearest(trees, region, label, low, high, time_limit=time_left, dtype=dtype)
    return Radius(high if is_exact else low, is_exact)


def _ends(sample, reach):
    return sample - reach, sample + reach


def _nearest(trees, region, label, low, high, *, time_limit, dtype):
    """The Euclidean distance to the nearest misclassified point, which lies between two radii."""
    deadline = time.monotonic() + time_limit
    radius, least, is_exact = high, high, True
    reached, is_possible = reach_of(trees, region)
    for bound, rival, value in rivals_of(trees, reached, label, is_possible):
        limit = limit_of(trees, label, rival)
        if bound > limit:
            continue
        gap = trees.base[label] - trees.base[rival]
        found = build(reached, value, region, is_possible=is_possible).solve(
            time_limit=max(deadline - time.monotonic(), 1e-3), cutoff=limit - gap, nearest=True
        )
        if found.is_empty:
            continue
        lower = high * max(found.lower, 0.0) ** 0.5
        least = min(least, max(lower, low))
        if found.cell is not None:
            point = points_in_cell(region, found.cell, dtype)[0]
            moves = region.radii > 0
            step = (point - region.center)[moves] / region.radii[moves]
            radius = min(radius, high * float(np.linalg.norm(step[~np.isnan(step)])))
        is_exact &= found.cell is not None and lower > radius * (1 - 10 * _PRECISION)
    return Radius(radius if is_exact else least, is_exact)


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
