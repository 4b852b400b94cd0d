"""Minimiser of the two-class worst-case logistic loss plus ‖w‖₂² ridge / 2.

Both norms share the outline of a Newton method: gradient, test of optimality, exact curvature,
a step that touches no data, a line search on the true objective. Data enters as sums over rows.
"""

from dataclasses import dataclass

import torch

from sk_adv.linear_model._binary_problem import (
    Point,
    at_kink,
    evaluate,
    first_derivatives,
    without_weights,
)
from sk_adv.linear_model._euclidean_steps import EuclideanSteps
from sk_adv.linear_model._max_norm_steps import Curvature, OrthantSteps

# A share of the objective that is lost in the rounding of its sum.
_ROUNDING = 1e-14


@dataclass(kw_only=True)
class Start:
    """Where a solver starts.

    Attributes
    ----------
    coef : torch.Tensor of shape (n_features,) or (n_classes, n_features)
    intercept : torch.Tensor of shape () or (n_classes,)
    margin : torch.Tensor of shape (n_samples,), default=None
        The margins there, if they are known.
    curvature : Curvature, default=None
        The last Hessian of the same problem at another radius.
    screen : Screen, default=None
        The features that were looked at for a larger radius.
    """

    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor | None = None
    curvature: Curvature | None = None
    screen: object = None


@dataclass(kw_only=True)
class Solution(Start):
    """What a solver returns, from which the next radius of a path can start.

    Attributes
    ----------
    objective : float
    violation : float
        Largest violation of the optimality conditions.
    gain : float
        By how much the objective may still fall, where that was estimated; else infinite.
    n_iter : int
    status : {"optimal", "separable", "max_iter", "stalled"}
    """

    objective: float
    violation: float
    gain: float = torch.inf
    n_iter: int
    status: str


def minimise(problem, start, *, tol, max_iter, refine=True, callback=None):
    """Minimise until no optimality condition is violated by more than `tol`, nor much to gain.

    What is left to gain is what the next step promises, the Newton decrement. It must be less than
    the share `tol` of the objective.

    Parameters
    ----------
    problem : Problem
    start : Start
    tol : float
    max_iter : int
    refine : bool, default=True
        Whether to take one step past the tolerance, which squares the remaining error.
    callback : callable, default=None
        Called as `callback(n_iter, objective, violation, n_working)` once an iteration.

    Returns
    -------
    Solution
    """
    point = evaluate(problem, start.coef, start.intercept, start.margin)
    if start.coef.any():
        # The solution for another radius can be worse than no weights at all.
        point = min(without_weights(problem), point, key=lambda at: at.objective)
    if problem.norm == 2:
        steps = EuclideanSteps(problem, tol)
        if point.penalty > 0:
            kink = at_kink(problem, point)
            point = kink if kink.objective <= point.objective else point
    else:
        steps = OrthantSteps(problem, tol, start.curvature)
    status, hidden = "max_iter", torch.inf
    for n_iter in range(max_iter + 1):
        slopes = first_derivatives(problem, point)
        is_near, gain = slopes.violation <= tol, torch.inf
        if problem.may_lack_minimum and problem.loss.is_separating(point.margin, point.penalty):
            status = "separable"
            break
        if is_near and (status == "optimal" or slopes.vanish):
            status = "optimal"
            break
        step = None
        if is_near or n_iter < max_iter:
            step = steps.propose(point, slopes)
            gain = -float(step.slope)
        # Where rounding hides what a step gains, steps are taken as long as the violation falls.
        is_hidden = 0 < gain <= _ROUNDING * float(point.objective)
        if is_hidden and not slopes.violation < hidden / 2:
            status = "optimal"
            break
        hidden = slopes.violation if is_hidden else torch.inf
        status = "optimal" if is_near and gain <= tol * point.objective else "max_iter"
        if n_iter == max_iter or (status == "optimal" and not refine):
            break
        if callback is not None:
            callback(n_iter, float(point.objective), slopes.violation, len(step.columns))
        moved = _line(problem, point, step)(1.0) if is_hidden else _search(problem, point, step)
        if moved is None:
            if steps.forget():
                continue
            status = status if status == "optimal" else "stalled"
            break
        point = moved
    return Solution(
        coef=point.coef,
        intercept=point.intercept,
        margin=point.margin,
        curvature=steps.curvature,
        objective=float(point.objective),
        violation=slopes.violation,
        gain=gain,
        n_iter=n_iter,
        status=status,
    )


def _search(problem, point, step):
    """The next point along a step, or at the kink; None if there is no better one."""
    moved = _line_search(problem, point, step) if step.slope < 0 else None
    if moved is None and problem.norm == 2 and point.penalty > 0:
        # Newton's method creeps towards a minimum at the kink, and never gets there.
        kink = at_kink(problem, point)
        moved = kink if kink.objective <= point.objective else None
    return moved


def _line_search(problem, point, step):
    """Backtracking on the true objective, on to the best of the halved steps.

    A step that gains at least a third of what its slope promises is taken as it is (the quadratic
    model gains half); shorter ones are tried as long as they gain more.
    """
    along = _line(problem, point, step)
    best, size = None, 1.0
    while size > 1e-10:
        trial = along(size)
        if best is not None and not trial.objective < best.objective:
            break
        gain = point.objective - trial.objective
        if gain >= -1e-4 * size * step.slope:
            best = trial
            if gain >= -size * step.slope / 3:
                break
        size /= 2
    return best


def _line(problem, point, step):
    """The points along a step as a function of its size; the data is looked at once."""
    direction = torch.zeros_like(point.coef)
    direction[step.columns] = step.coef
    change = problem.margin(step.coef, step.intercept, step.columns)

    def along(size):
        coef = point.coef + size * direction
        margin, penalty = point.margin + size * change, problem.penalty(coef)
        intercept = point.intercept + size * step.intercept
        return Point(coef, intercept, margin, penalty, problem.objective(coef, margin, penalty))

    return along
