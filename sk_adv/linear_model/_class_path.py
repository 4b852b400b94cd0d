"""Three classes and more in the max-norm, on a path of radii."""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._class_curvature import ClassCurvature
from sk_adv.linear_model._class_problem import Block, ClassPoint
from sk_adv.linear_model._class_sets import worst_sets
from sk_adv.linear_model._class_solver import ClassSolver, State, solution_of
from sk_adv.linear_model._newton import ROUGH_AIM, ROUGH_TOL

# A feature that would leave 0 at this share of the radius may leave it at the next radius.
_PRESSING = 0.85
# When the block grows, it takes in all features that would leave 0 at this share of the radius.
_NEAR = 0.7


@dataclass
class ClassScreen:
    """Where the solver stood at the last radius.

    Attributes
    ----------
    point : ClassPoint
        The solution, on a block of the features that may soon leave 0.
    gradient : torch.Tensor of shape (n_classes, n_features)
        The gradient in all features.
    curvature : ClassCurvature, default=None
        The last Hessian.
    """

    point: ClassPoint
    gradient: torch.Tensor
    curvature: ClassCurvature | None = None

    @classmethod
    def at(cls, problem, coef, intercept, is_rough):
        """A screen that holds the features which have weights, or no radius."""
        used = (problem.epsilon == 0) | (coef != coef[0]).any(0)
        block = Block.of(problem, used.nonzero().squeeze(1))
        block = block.roughened() if is_rough else block
        point = ClassPoint(block, block.gather(coef, intercept))
        return cls(point, point.full_gradient())

    def next_point(self, problem):
        """The same weights in a problem of another radius, on a block that may have grown."""
        point = self.point
        if problem is not point.problem:
            point = point.in_problem(problem)
        new = self._entering(problem)
        return point.joined(new) if len(new) else point

    def _entering(self, problem):
        """Features that join the block; none as long as no feature outside is about to leave 0."""

        def leaves(share):
            price, _ = worst_sets(self.gradient, self.point.mass, share * problem.epsilon)
            price[self.point.block.features] = torch.inf
            return price < 0

        if not leaves(_PRESSING).any():
            return self.point.block.features[:0]
        return leaves(_NEAR).nonzero().squeeze(1)


def minimise_classes_on_path(problem, start, *, tol, max_iter, callback):
    """Solve the next radius of a path, from the `Solution` for a larger radius.

    The block grows until no feature outside violates its optimality condition; nothing is refined.
    Source: Tibshirani and others, "Strong rules for discarding predictors in lasso-type problems",
    J. Royal Statistical Society B 74 (2012).
    """
    is_rough = tol >= ROUGH_TOL
    screen = start.screen or ClassScreen.at(problem, start.coef, start.intercept, is_rough)
    solver = ClassSolver(problem, tol, max_iter, callback)
    state = State(point=screen.next_point(problem), curvature=screen.curvature)
    while True:
        is_rough = state.point.block.columns.is_rough
        state.goal = ROUGH_AIM * tol if is_rough else tol
        solver.iterate(state)
        gradient = state.point.full_gradient()
        outside = solver.violation_outside(state.point, gradient)
        precise = state.point.precise(gradient)
        inside = solver.violation_inside(precise)
        state.violation = max(outside, inside)
        is_blurred = is_rough and (
            state.status == "stalled" or (state.status == "optimal" and inside > tol)
        )
        if is_blurred:
            state.point = precise
        screen = ClassScreen(state.point, gradient, state.curvature)
        if not is_blurred and (state.status != "optimal" or outside <= tol):
            break
        state.point = screen.next_point(problem)
    return replace(solution_of(state), screen=screen)
