"""Newton's method for three classes and more in the Euclidean norm.

It goes in stages of smaller and smaller rounding of the kinks.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from sk_adv.linear_model._multiclass_problem import (
    MulticlassHessian,
    MulticlassPoint,
    RowSketch,
    centre,
)
from sk_adv.linear_model._newton import Solution, conjugate_gradients, line_search, no_report

# Rounding of the first stage: how far it may lower a pair's penalty ρ_kl, in units of log-odds.
_FIRST_ROUNDING = 0.1


def minimise_bound(problem, start, *, tol, max_iter, refine=True, callback=no_report):
    """Minimise a `MulticlassProblem` from a `Start`; returns a `Solution`.

    At the end, the largest entry of the gradient of the rounded bound, on standardised features,
    is at most `tol`: this is the violation. The objective is the exact bound. `max_iter` counts the
    iterations of all stages. `refine` and `callback` are as in `minimise`; large data is not
    refined.
    """
    leading = replace(problem, X=problem.X.rough()) if problem.is_large else problem
    coef, intercept = _better_start(problem, start)
    n_iter, stages = 0, _stages(problem, tol)
    for rounding in stages:
        is_last = rounding == stages[-1]
        # Early stages need no more accuracy than their rounding has.
        goal = tol if is_last else max(tol, 0.1 * rounding)
        sketch = RowSketch.draw(leading, 1 if rounding < 1e-2 else 0.25)
        data = problem if is_last else leading
        first = MulticlassPoint(data, coef, intercept, rounding)
        status, n_iter, point = _iterate(first, sketch, goal, n_iter, max_iter, callback)
        coef, intercept = point.coef, point.intercept
        if status in ("separable", "max_iter"):
            break
    if refine and status == "optimal" and n_iter < max_iter and not problem.is_large:
        refined = _move(point, sketch, point.violation / (first.violation or 1))
        if refined is not None and refined.violation <= tol:
            callback(n_iter, float(point.objective), point.violation, point.coef.shape[1])
            n_iter, point = n_iter + 1, refined
            status = "separable" if point.lacks_minimum() else "optimal"
    exact = MulticlassPoint(problem, point.coef, point.intercept) if point.rounding else point
    return Solution(
        coef=centre(point.coef),
        intercept=centre(point.intercept),
        objective=float(exact.objective),
        violation=point.violation,
        n_iter=n_iter,
        status=status,
    )


def _better_start(problem, start):
    """The start, or W = 0 and b = 0 if that is better, as it can be for another radius."""
    coef, intercept = centre(start.coef), centre(start.intercept)
    if coef.any():
        objective = MulticlassPoint(problem, coef, intercept).objective
        if objective > math.log(problem.n_classes):
            return torch.zeros_like(coef), torch.zeros_like(intercept)
    return coef, intercept


def _stages(problem, tol):
    """Roundings down to ten times `tol`; the last one bounds the error that is left in each ρ."""
    if problem.is_smooth:
        return (0.0,)
    final = min(10 * tol, _FIRST_ROUNDING)
    n_stages = 1 + math.ceil(round(math.log10(_FIRST_ROUNDING / final), 6))
    return np.geomspace(_FIRST_ROUNDING, final, n_stages)


def _iterate(point, sketch, goal, n_iter, max_iter, callback):
    """Newton iterations of one stage: the status, the number so far and the last point."""
    first = point.violation
    while True:
        # 1. Convergence.
        if point.lacks_minimum():
            return "separable", n_iter, point
        if point.violation <= goal:
            return "optimal", n_iter, point
        if n_iter == max_iter:
            return "max_iter", n_iter, point

        # 2. Newton step and line search; a step need not go far past the goal.
        accuracy = max(point.violation / first, 0.3 * goal / point.violation)
        moved = _move(point, sketch, accuracy)
        if moved is None:
            return "stalled", n_iter, point
        callback(n_iter, float(point.objective), point.violation, point.coef.shape[1])
        n_iter, point = n_iter + 1, moved


def _move(point, sketch, accuracy):
    """The next point along a Newton step; None if no step size lowers the objective enough.

    The linear system is solved to the relative residual `accuracy`, or 0.1 if that is less.
    """
    hessian, n_weights = MulticlassHessian(point, sketch), point.coef.numel()
    step = conjugate_gradients(
        hessian.product,
        -point.gradient,
        hessian.preconditioner(),
        accuracy=min(0.1, accuracy),
        max_iter=10 * n_weights if n_weights < 1000 else 250,
    )
    coef, intercept = step[:, :-1], step[:, -1]

    def along(size):
        return MulticlassPoint(
            point.problem,
            point.coef + size * coef,
            point.intercept + size * intercept,
            point.rounding,
        )

    return line_search(along, point, float((point.gradient * step).sum()))
