"""Newton's method for two classes."""

from collections import namedtuple
from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._designs import scatter
from sk_adv.linear_model._euclidean_steps import EuclideanSteps
from sk_adv.linear_model._max_norm_steps import MaxNormSteps
from sk_adv.linear_model._newton import Solution, line_search, no_report

# Share of the objective that is lost in the rounding of its sum.
_ROUNDING = 1e-14
# A step that gains this share of what its slope promises is long enough (in a quadratic: 1/2).
_ENOUGH = 1 / 3

# Shares of the targets, violation and gain, within which a step must be foreseen to end. The latter
# costs little, as gains fall with the square of violations.
_SAFE, _SAFE_GAIN = 0.5, 1e-3

# `step` is None if the point needs no further step.
_Iterate = namedtuple("_Iterate", "status n_iter point slopes step", defaults=[None])


@dataclass(kw_only=True)
class Targets:
    """When to stop.

    Attributes
    ----------
    violation : float
        No optimality condition is violated by more than this,
    gain : float
        and the next Newton step is predicted to lower the objective by at most this share of it.
    fall : float, default=0.0
        Or the largest violation has fallen to this share of the first one, but not to that; then
        the status is "loose".
    foresee : bool, default=False
        Or the last step can be foreseen to have reached both, as it would if it did as well as the
        one before; and where both are barely reached, one step more is taken. Then the status is
        "foreseen", and derivatives are those before that step: the caller must compute them anyway.
    max_iter : int
        Or there were so many iterations.
    """

    violation: float
    gain: float
    fall: float = 0.0
    foresee: bool = False
    max_iter: int

    def are_foreseen(self, before, last, point):
        """Whether the last step can be foreseen to have reached the targets at a point.

        `before` and `last` are the violation and the gain before the last two steps.
        """
        violation, gain = (now**2 / first for first, now in zip(before, last, strict=True))
        enough = _SAFE_GAIN * self.gain * float(point.objective)
        return violation <= _SAFE * self.violation and gain <= enough


def minimise(problem, start, targets, *, keep=True, on_path=False, refine=True, callback=no_report):
    """Minimise a `BinaryProblem` from a `Start`; returns a `Solution`.

    `refine` takes one more Newton step at the end, as Newton's method converges quadratically
    there. In the max-norm, `keep` saves Hessians where the last one will do; `on_path` says that
    the start is the solution for a larger radius, or better. After each iteration,
    `callback(n_iter, objective, violation, n_working)` gets the values from before it.
    """
    if problem.norm == 2:
        steps = EuclideanSteps(problem, targets.violation)
    else:
        steps = MaxNormSteps(problem, targets.violation, start.curvature, keep, on_path)
    first = _first_point(problem, start, on_path)
    last = _iterate(problem, steps, first, targets, callback)
    can_move = last.step is not None and last.n_iter < targets.max_iter
    if refine and last.status == "optimal" and can_move:
        last = _refine(problem, last, targets.violation, callback)
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


def _first_point(problem, start, on_path):
    """The start, or a simpler point if that is better, as it can be for a smaller radius."""
    point = problem.evaluate(start.coef, start.intercept, start.margin)
    if on_path or not start.coef.any():
        return point
    candidates = [problem.without_weights(), point]
    if problem.norm == 2:
        candidates.insert(1, problem.at_kink(point))
    return min(candidates, key=lambda candidate: candidate.objective)


def _iterate(problem, steps, point, targets, callback):
    """Newton iterations until one of the targets is met."""
    # The violation before the last step, if rounding hid what that step gained.
    hidden_violation = torch.inf
    n_iter, loose = 0, 0.0
    # Violation and gain before the last step, if there was one.
    last = None
    while True:
        # 1. First derivatives.
        slopes = problem.first_derivatives(point)
        if problem.lacks_minimum(point):
            return _Iterate("separable", n_iter, point, slopes)
        if slopes.vanish:
            return _Iterate("optimal", n_iter, point, slopes)
        if targets.violation < slopes.violation <= loose:
            return _Iterate("loose", n_iter, point, slopes)
        if slopes.violation <= targets.violation and targets.gain == torch.inf:
            return _Iterate("optimal", n_iter, point, slopes)
        loose = loose or targets.fall * slopes.violation

        # 2. Newton step.
        step = steps.propose(point, slopes)

        # 3. Convergence. While rounding hides the gain, each step must halve the violation.
        is_hidden = _is_hidden(point, step)
        if is_hidden and not slopes.violation < hidden_violation / 2:
            return _Iterate("optimal", n_iter, point, slopes)
        is_still = -step.slope <= targets.gain * point.objective
        is_last = slopes.violation <= targets.violation and is_still
        is_safe = -step.slope <= _SAFE_GAIN * targets.gain * point.objective
        if is_last and (is_safe or not targets.foresee):
            return _Iterate("optimal", n_iter, point, slopes, step)
        if n_iter == targets.max_iter:
            return _Iterate("max_iter", n_iter, point, slopes, step)
        hidden_violation = slopes.violation if is_hidden else torch.inf

        # 4. Line search.
        moved = _move(problem, point, step)
        now = None if moved is None else (slopes.violation, -step.slope)
        if moved is None and is_last:
            return _Iterate("optimal", n_iter, point, slopes, step)
        moved = moved or steps.recover(point)
        if moved is None:
            return _Iterate("stalled", n_iter, point, slopes, step)
        callback(n_iter, float(point.objective), slopes.violation, len(step.columns))
        n_iter, point, before, last = n_iter + 1, moved, last, now
        can_foresee = targets.foresee and before and last
        is_foreseen = can_foresee and targets.are_foreseen(before, last, point)
        if (is_last or is_foreseen) and not problem.lacks_minimum(point):
            return _Iterate("foreseen", n_iter, point, slopes)


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
    change = problem.rows.margin(step.coef, step.intercept, step.columns)

    def along(size):
        return problem.evaluate(
            point.coef + size * direction,
            point.intercept + size * step.intercept,
            problem.rows.shifted(point.margin, change, size),
        )

    if _is_hidden(point, step):
        moved = along(1.0)
    else:
        moved = line_search(along, point, step.slope, enough=_ENOUGH)
    return moved and replace(moved, margin=problem.rows.kept(moved.margin))
