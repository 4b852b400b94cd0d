"""The next radius of a path of two classes in the max-norm, from the solution for a larger one."""

import math
from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._binary_solver import Targets
from sk_adv.linear_model._newton import ROUGH_AIM, ROUGH_TOL, Start
from sk_adv.linear_model._screening import Screen, evaluate, near

# A feature above the first share of its threshold may leave zero at the next radius. If it is not
# in the screen, all features above the second share enter, to last for some radii.
_PRESSING, _NEAR = 0.85, 0.6
# Largest share of X that is copied.
_COPIED_SHARE = 1 / 2


@dataclass
class Waypoint:
    """The solution for a radius, with its margins y ∘ (Xw + b)."""

    log_radius: float
    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor

    def towards(self, other, log_radius, rows):
        """The line through this point and another one, at some radius."""
        size = (log_radius - self.log_radius) / (other.log_radius - self.log_radius)
        return Waypoint(
            log_radius,
            torch.lerp(self.coef, other.coef, size),
            torch.lerp(self.intercept, other.intercept, size),
            rows.line(self.margin, other.margin, size),
        )


def minimise_next(problem, start, *, tol, max_iter):
    """Minimise a `BinaryProblem` from the `Solution` for a larger radius, or from zero weights.

    The screen grows until no feature outside violates its optimality condition; nothing is
    refined.
    """
    screen, n_iter, n_missed = start.screen, 0, 0
    if screen is None:
        slopes = problem.first_derivatives(evaluate(problem, start))
        screen = Screen.empty(problem, slopes=slopes, is_rough=tol >= ROUGH_TOL)
    while True:
        screen = _grown(problem, screen, start)
        is_whole = len(screen.columns) == len(problem.epsilon) and not screen.is_rough
        guess = start if n_iter else _extrapolated(problem, screen, start)
        # The last step of a radius is looked at by the gradient of all features only.
        aim, left = ROUGH_AIM * tol if screen.is_rough else tol, max_iter - n_iter
        targets = Targets(violation=aim, gain=tol, foresee=True, max_iter=left)
        screen, solution = screen.solve(problem, guess, targets, on_path=not n_iter, refine=False)
        start, n_iter = solution, n_iter + solution.n_iter
        if is_whole and solution.status != "foreseen":
            break
        screen.slopes = slopes = problem.first_derivatives(evaluate(problem, solution))
        solution = replace(solution, violation=slopes.violation)
        if solution.status == "foreseen" and slopes.violation <= tol:
            solution = replace(solution, status="optimal")
        outside = slopes.violations.index_fill(0, screen.columns, 0).max()
        # A small loss has a small gradient, so the tolerance shrinks with it.
        is_solved = outside <= tol * min(1, slopes.mass)
        # A step that was foreseen may miss once; else rounding may be the reason.
        is_missed = bool(outside <= tol < slopes.violation)
        n_missed += is_missed
        is_blurred = is_missed and (solution.status == "optimal" or n_missed > 1)
        if screen.is_rough and (is_blurred or solution.status == "stalled"):
            screen = screen.precise(problem)
            continue
        if solution.status != "foreseen" and (is_solved or solution.status != "optimal"):
            break
    here = Waypoint(_log_radius(problem), solution.coef, solution.intercept, solution.margin)
    screen = replace(screen, trail=(*screen.trail[-1:], here))
    return replace(solution, n_iter=n_iter, screen=screen)


def _grown(problem, screen, start):
    """The screen, or a larger one if a feature outside is about to leave zero."""
    outside = ~screen.mask(problem)
    pressing = near(problem, start, screen.slopes, _PRESSING) & outside
    if screen.rows is not None and not pressing.any():
        return screen
    return screen.grown(problem, near(problem, start, screen.slopes, _NEAR), _COPIED_SHARE)


def _extrapolated(problem, screen, start):
    """The line through the last two solutions, at the radius that is wanted, if that is better.

    No weight leaves 0 along it or changes its sign.
    """
    radius = _log_radius(problem)
    if len(screen.trail) < 2 or screen.trail[0].log_radius == screen.trail[1].log_radius:
        return start
    before, last = screen.trail
    guess = before.towards(last, radius, problem.rows)
    coef = torch.where(guess.coef.sign() == last.coef.sign(), guess.coef, 0)
    change = (coef - guess.coef)[screen.columns]
    moved = change.nonzero().squeeze(1)
    margin = guess.margin
    if len(moved):
        margin = problem.rows.shifted(margin, screen.rows.margin(change[moved], 0.0, moved), 1.0)
    point = problem.evaluate(coef, guess.intercept, margin)
    if not point.objective < evaluate(problem, start).objective:
        return start
    return Start(coef=coef, intercept=guess.intercept, margin=margin)


def _log_radius(problem):
    return math.log(float(problem.epsilon.max()))
