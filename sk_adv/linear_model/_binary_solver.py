"""Newton's method for two classes."""

from collections import namedtuple

import torch

from sk_adv.linear_model._designs import scatter
from sk_adv.linear_model._euclidean_steps import EuclideanSteps
from sk_adv.linear_model._max_norm_steps import MaxNormSteps
from sk_adv.linear_model._newton import Solution, line_search, no_report

# Share of the objective that is lost in the rounding of its sum.
_ROUNDING = 1e-14
# A step that gains this share of what its slope promises is long enough (in a quadratic: 1/2).
_ENOUGH = 1 / 3

# `step` is None if the point needs no further step.
_Iterate = namedtuple("_Iterate", "status n_iter point slopes step", defaults=[None])


def minimise(problem, start, *, tol, max_iter, refine=True, callback=no_report):
    """Minimise a `BinaryProblem` from a `Start`; returns a `Solution`.

    It stops as optimal when no optimality condition is violated by more than `tol`, and the next
    Newton step is predicted to lower the objective by at most `tol` times the objective; otherwise
    after `max_iter` iterations, as the status of the solution says. `refine` takes one more Newton
    step at the end, as Newton's method converges quadratically there. After each
    iteration, `callback(n_iter, objective, violation, n_working)` gets the values from before it.
    """
    if problem.norm == 2:
        steps = EuclideanSteps(problem, tol)
    else:
        steps = MaxNormSteps(problem, tol, start.curvature)
    last = _iterate(problem, steps, _first_point(problem, start), tol, max_iter, callback)
    if refine and last.status == "optimal" and last.step is not None and last.n_iter < max_iter:
        last = _refine(problem, last, tol, callback)
    return Solution(
        coef=last.point.coef,
        intercept=last.point.intercept,
        margin=last.point.margin,
        curvature=steps.curvature,
        objective=float(last.point.objective),
        violation=last.slopes.violation,
        gain=torch.inf if last.step is None else -last.step.slope,
        n_iter=last.n_iter,
        status=last.status,
    )


def _first_point(problem, start):
    """The start, or a simpler point if that is better, as it can be for another radius."""
    point = problem.evaluate(start.coef, start.intercept, start.margin)
    if not start.coef.any():
        return point
    candidates = [problem.without_weights(), point]
    if problem.norm == 2:
        candidates.insert(1, problem.at_kink(point))
    return min(candidates, key=lambda candidate: candidate.objective)


def _iterate(problem, steps, point, tol, max_iter, callback):
    """Newton iterations until one of the tests is met."""
    # The violation before the last step, if rounding hid what that step gained.
    hidden_violation = torch.inf
    n_iter = 0
    while True:
        # 1. First derivatives.
        slopes = problem.first_derivatives(point)
        if problem.lacks_minimum(point):
            return _Iterate("separable", n_iter, point, slopes)
        if slopes.vanish:
            return _Iterate("optimal", n_iter, point, slopes)

        # 2. Newton step.
        step = steps.propose(point, slopes)

        # 3. Convergence. While rounding hides the gain, each step must halve the violation.
        is_hidden = _is_hidden(point, step)
        if is_hidden and not slopes.violation < hidden_violation / 2:
            return _Iterate("optimal", n_iter, point, slopes)
        if slopes.violation <= tol and -step.slope <= tol * point.objective:
            return _Iterate("optimal", n_iter, point, slopes, step)
        if n_iter == max_iter:
            return _Iterate("max_iter", n_iter, point, slopes, step)
        hidden_violation = slopes.violation if is_hidden else torch.inf

        # 4. Line search.
        moved = _move(problem, point, step) or steps.recover(point)
        if moved is None:
            return _Iterate("stalled", n_iter, point, slopes, step)
        callback(n_iter, float(point.objective), slopes.violation, len(step.columns))
        n_iter, point = n_iter + 1, moved


def _refine(problem, last, tol, callback):
    """Take the step of a converged iterate, unless it ends outside the tolerance."""
    point = _move(problem, last.point, last.step)
    if point is None:
        return last
    slopes = problem.first_derivatives(point)
    if slopes.violation > tol:
        return last
    before, n_working = float(last.point.objective), len(last.step.columns)
    callback(last.n_iter, before, last.slopes.violation, n_working)
    status = "separable" if problem.lacks_minimum(point) else "optimal"
    return _Iterate(status, last.n_iter + 1, point, slopes)


def _is_hidden(point, step):
    """Whether the rounding of the objective hides what the step gains."""
    return 0 < -step.slope <= _ROUNDING * float(point.objective)


def _move(problem, point, step):
    """The next point along a step; None if no step size lowers the objective enough."""
    direction = scatter(step.coef, step.columns, len(point.coef))
    # Margins are linear in the step, so one product with X serves all step sizes.
    change = problem.margin(step.coef, step.intercept, step.columns)

    def along(size):
        return problem.evaluate(
            point.coef + size * direction,
            point.intercept + size * step.intercept,
            point.margin + size * change,
        )

    if _is_hidden(point, step):
        return along(1.0)
    return line_search(along, point, step.slope, enough=_ENOUGH)
