"""The solver of two classes in the max-norm: a rough start, then screens of features.

Large data is first solved on a small part of the samples. That solution tells which features may
get a weight; they are copied once, and the work is done on the copy, until no feature outside of it
violates its optimality condition.
"""

import itertools
import math
from dataclasses import replace

import torch

from sk_adv.linear_model._binary_solver import Targets, minimise
from sk_adv.linear_model._newton import Start, no_report
from sk_adv.linear_model._screening import Screen, evaluate, near

# A single fit of data with fewer entries needs no screens.
_MANY_ENTRIES = 2**20
# The rough start takes at most this share of the samples and so many entries of X, if that is at
# least so many samples. It ends at this violation, or after so many steps.
_ROUGH_SHARE, _ROUGH_ENTRIES, _FEWEST_SAMPLES = 1 / 8, 2**21, 1000
_ROUGH_VIOLATION, _ROUGH_STEPS = 0.01, 12
# Multiples of the rough weights that are compared for the radius that is wanted.
_MULTIPLES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 2.0)
# Features enter the first screen if their gradient on the rough samples exceeds this share of
# their threshold. If one above its threshold is outside later, all above the second share enter.
_FIRST_REACH, _REACH = (0.8, 0.6), 0.9
# Largest share of X that is copied.
_COPIED_SHARE = 1 / 16
# After a rough start for another radius, the first screen is solved until the violation has fallen
# to this share, in so many steps.
_FALL, _LOOSE_ROUNDS, _LOOSE_STEPS = 0.05, 1, 4
# Other screens are solved to this share of the tolerance.
_MARGIN = 0.3


def minimise_in_max_norm(problem, start, *, tol, max_iter, callback=no_report):
    """Minimise a `BinaryProblem` in the max-norm from a `Start`; returns a `Solution`.

    It stops as `minimise` does, and takes one more step at the end.
    """
    n_samples, n_features = problem.shape
    if n_samples * n_features < _MANY_ENTRIES:
        targets = Targets(violation=tol, gain=tol, max_iter=max_iter)
        return minimise(problem, start, targets, keep=False, callback=callback)
    n_iter, n_loose, slopes, screen = 0, _LOOSE_ROUNDS, None, Screen.empty(problem)
    share = min(_ROUGH_SHARE, _ROUGH_ENTRIES / (n_samples * n_features))
    if not start.coef.any() and share * n_samples >= _FEWEST_SAMPLES:
        part = problem.sample(share)
        start, slopes, n_iter, is_raised = _rough_start(part, start, max_iter, callback)
        if slopes is not None:
            n_loose = n_loose * is_raised
            wanted = near(problem, start, slopes, _FIRST_REACH[is_raised])
            screen = screen.grown(problem, wanted, _COPIED_SHARE)
    if slopes is None:
        slopes = problem.first_derivatives(evaluate(problem, start))
    for n_rounds in itertools.count():
        if n_rounds or not len(screen.columns):
            screen = _grown(problem, screen, start, slopes)
        holds_all = len(screen.columns) == n_features
        is_last = holds_all or n_rounds >= n_loose
        left = max_iter - n_iter
        targets = Targets(
            violation=tol if holds_all else _MARGIN * tol,
            gain=tol,
            fall=0.0 if is_last else _FALL,
            max_iter=left if is_last else min(left, _LOOSE_STEPS),
        )
        screen, solution = screen.solve(problem, start, targets, callback=callback)
        start, n_iter = solution, n_iter + solution.n_iter
        if holds_all:
            break
        slopes = problem.first_derivatives(evaluate(problem, solution))
        solution = replace(solution, violation=slopes.violation)
        outside = slopes.violations.index_fill(0, screen.columns, 0).max()
        # A small loss has a small gradient, so the tolerance shrinks with it.
        if solution.status == "optimal" and outside <= tol * min(1, slopes.mass):
            break
        if solution.status == "separable" or (is_last and solution.status != "optimal"):
            break
        if n_iter >= max_iter:
            solution = replace(solution, status="max_iter")
            break
    return replace(solution, n_iter=n_iter)


def _rough_start(part, start, max_iter, callback):
    """The solution on a part of the samples, for a radius at which noise has no weights.

    Returns
    -------
    start : Start
        The weights, scaled to the radius that is wanted, or those given if there is no minimum.
    slopes : Slopes or None
        First derivatives there, on the part of the samples.
    n_iter : int
    is_raised : bool
        Whether the radius of some feature had to be raised.
    """
    n_samples, n_features = part.shape
    # The largest of d correlations with pure noise is about (2 log d / n)^½. Source: Donoho and
    # Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81 (1994).
    noise = math.sqrt(2 * math.log(n_features) / n_samples)
    radius = part.epsilon
    raised = replace(part, epsilon=torch.where(radius > 0, radius.clamp(min=noise), radius))
    targets = Targets(
        violation=_ROUGH_VIOLATION, gain=torch.inf, max_iter=min(max_iter, _ROUGH_STEPS)
    )
    solution = minimise(raised, start, targets, refine=False, callback=callback)
    if solution.status == "separable":
        return start, None, solution.n_iter, True
    is_raised = bool((raised.epsilon > radius).any())
    points = [
        part.evaluate(size * solution.coef, size * solution.intercept, size * solution.margin)
        for size in (_MULTIPLES if is_raised else (1.0,))
    ]
    best = min(points, key=lambda point: point.objective)
    scaled = Start(coef=best.coef, intercept=best.intercept)
    return scaled, part.first_derivatives(best), solution.n_iter, is_raised


def _grown(problem, screen, start, slopes):
    """The screen with violators, and others near them, but not many at once."""
    outside = ~screen.mask(problem)
    violators = near(problem, start, slopes, 1.0) & outside
    if screen.rows is not None and not violators.any():
        return screen
    wanted = violators
    if len(screen.columns):
        wanted = near(problem, start, slopes, _REACH) & outside
    n_samples, n_features = problem.shape
    room = max(len(screen.columns), 64, min(n_features // 100, n_samples // 4))
    if int(wanted.sum()) > room:
        worst = torch.where(wanted, slopes.coef.abs() / (slopes.mass * problem.epsilon), 0)
        wanted = torch.zeros_like(wanted).index_fill(0, worst.topk(room).indices, True)
        wanted |= near(problem, start, slopes, torch.inf)
    return screen.grown(problem, wanted, _COPIED_SHARE)
