"""Newton's method for three classes and more in the Euclidean norm.

It goes in stages of smaller and smaller rounding of the kinks.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from sk_adv.linear_model._multiclass_pairs import centre
from sk_adv.linear_model._multiclass_problem import MulticlassPoint
from sk_adv.linear_model._newton import Solution, conjugate_gradients, line_search, no_report

# Rounding of the first stage: how far it may lower a pair's penalty ρ_kl, in units of log-odds.
_FIRST_ROUNDING = 0.1
# A first sample is solved to this violation.
_TOL_OF_SAMPLE = 1e-3
# Share of the objective that is lost in the rounding of its sum.
_ROUNDING_OF_SUM = 1e-14


@dataclass(kw_only=True)
class _State:
    """Where the solver stands.

    Attributes
    ----------
    point : MulticlassPoint
    n_iter : int
    gain : float
        Estimate of how much the objective can still fall.
    status : str
        As in `Solution`; empty while no stage has ended.
    """

    point: MulticlassPoint
    n_iter: int = 0
    gain: float = torch.inf
    status: str = ""


def minimise_bound(problem, start, *, tol, max_iter, refine=True, callback=no_report):
    """Minimise a `MulticlassProblem` from a `Start`; returns a `Solution`.

    At the end, the largest entry of the gradient of the rounded bound is at most `tol`: this is the
    violation. The objective can be expected to fall by at most `tol` times the objective, which is
    the exact bound's. `max_iter` counts the iterations of all stages. `refine` and `callback` are
    as in `minimise`; large data is not refined.
    """
    leading = replace(problem, rows=problem.rows.rough())
    stages, n_iter, sketch = _stages(problem, tol), 0, None
    coef, intercept = _better_start(problem, start)
    sample = None if start.coef.any() else problem.rows.first_sample()
    if sample is not None:
        first = replace(problem, rows=sample)
        options = {"max_iter": max_iter, "refine": False, "callback": callback}
        rough = minimise_bound(first, start, tol=max(tol, _TOL_OF_SAMPLE), **options)
        n_iter = rough.n_iter
        if rough.status == "optimal":
            stages, coef, intercept = stages[-1:], rough.coef, rough.intercept
    for rounding in stages:
        is_last = rounding == stages[-1]
        # Early stages need no more accuracy than their rounding has.
        goal = tol if is_last else max(tol, 0.1 * rounding)
        first = MulticlassPoint(problem if is_last else leading, coef, intercept, rounding)
        sketch = leading.rows.sketch(first, 1 if rounding < 1e-2 else 0.25, sketch)
        state = _State(point=first, n_iter=n_iter)
        share = problem.rows.caution * tol if is_last else torch.inf
        _iterate(state, sketch, goal, share, max_iter, callback)
        coef, intercept, n_iter = state.point.coef, state.point.intercept, state.n_iter
        if state.status in ("separable", "max_iter"):
            break
    if refine and state.status == "optimal" and n_iter < max_iter and not problem.rows.is_large:
        _refine(state, sketch, first.violation, tol, callback)
    point = state.point
    exact = point.without_rounding(problem) if point.rounding else point
    return Solution(
        coef=centre(point.coef),
        intercept=centre(point.intercept),
        objective=float(exact.objective),
        violation=point.violation,
        gain=state.gain,
        n_iter=state.n_iter,
        status=state.status,
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
    """Roundings down to `tol`; the last one bounds the error that is left in each ρ."""
    if problem.is_smooth:
        return (0.0,)
    final = min(tol, _FIRST_ROUNDING)
    n_stages = 1 + math.ceil(round(math.log10(_FIRST_ROUNDING / final), 6))
    return np.geomspace(_FIRST_ROUNDING, final, n_stages)


def _iterate(state, sketch, goal, share, max_iter, callback):
    """Newton iterations of one stage; sets the status.

    They end at a violation of `goal`, if the objective promises to fall by no more than a `share`.
    """
    first, hidden_violation = state.point.violation, torch.inf
    while True:
        # 1. Convergence.
        point = state.point
        violation = point.violation
        if point.lacks_minimum():
            state.status = "separable"
            return
        if violation == 0 or (violation <= goal and state.gain <= share * point.objective):
            state.status = "optimal"
            return
        if state.n_iter == max_iter:
            state.status = "max_iter"
            return

        # 2. Newton step; it need not go far past the goal.
        accuracy = max(violation / first, 0.3 * goal / violation)
        step, slope = _step(point, sketch, accuracy)

        # 3. Convergence. While rounding hides the gain, each step must halve the violation.
        if violation <= goal and -slope <= share * point.objective:
            state.status, state.gain = "optimal", -slope
            return
        is_hidden = _is_hidden(point, slope)
        if is_hidden and not violation < hidden_violation / 2:
            state.status = "optimal" if violation <= goal else "stalled"
            return
        hidden_violation = violation if is_hidden else torch.inf

        # 4. Line search.
        moved = _move(point, step, slope)
        if moved is None:
            state.status = "stalled"
            return
        callback(state.n_iter, float(point.objective), violation, point.coef.shape[1])
        sketch.add(point, moved)
        state.n_iter, state.point = state.n_iter + 1, moved
        # The gain that a quadratic still promises, if the gradient falls as the violation does.
        state.gain = -slope * min(1, moved.violation / violation) ** 2


def _refine(state, sketch, first, tol, callback):
    """Take one more step, unless it ends outside the tolerance."""
    point = state.point
    step, slope = _step(point, sketch, point.violation / (first or 1))
    moved = _move(point, step, slope)
    if moved is None or moved.violation > tol:
        return
    callback(state.n_iter, float(point.objective), point.violation, point.coef.shape[1])
    state.n_iter, state.point, state.gain = state.n_iter + 1, moved, -slope
    state.status = "separable" if moved.lacks_minimum() else "optimal"


def _step(point, sketch, accuracy):
    """A Newton step, and the derivative of the objective along it.

    The linear system is solved to the relative residual `accuracy`, or 0.1 if that is less.
    """
    hessian, n_weights = sketch.hessian(point), point.coef.numel()
    step = conjugate_gradients(
        hessian.product,
        -point.gradient,
        hessian.preconditioner(),
        accuracy=min(0.1, accuracy),
        max_iter=10 * n_weights if n_weights < 1000 else 250,
    )
    return step, float((point.gradient * step).sum())


def _is_hidden(point, slope):
    """Whether the rounding of the objective hides what a step gains."""
    return 0 < -slope <= _ROUNDING_OF_SUM * float(point.objective)


def _move(point, step, slope):
    """The next point along a step; None if no step size lowers the objective enough."""
    along = point.line(step)
    return along(1.0) if _is_hidden(point, slope) else line_search(along, point, slope)
