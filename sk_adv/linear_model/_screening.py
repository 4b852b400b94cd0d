"""The max-norm problem on a path, solved on the features that may soon leave zero."""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._binary_problem import Slopes
from sk_adv.linear_model._binary_solver import minimise
from sk_adv.linear_model._designs import scatter
from sk_adv.linear_model._max_norm_steps import OrthantCurvature
from sk_adv.linear_model._newton import Start

# A feature whose gradient exceeds this share of the threshold may leave zero at the next radius.
_PRESSING = 0.85
# When the screen grows, it takes in all features above this share, to last for some radii.
_NEAR = 0.6
# A copy of X does not pay for a larger share of the features.
_WIDEST = 0.5


@dataclass
class Screen:
    """Some features, and what is kept of them from radius to radius.

    Attributes
    ----------
    columns : torch.Tensor of shape (n_screened,)
        The features, in the order in which they were added.
    X : StandardisedDesign of shape (n_samples, n_screened)
        A copy of their columns.
    slopes : Slopes
        First derivatives in all features, at the last point where they were computed.
    curvature : OrthantCurvature, default=None
        The last Hessian; its columns count within the screen.
    """

    columns: torch.Tensor
    X: object
    slopes: Slopes
    curvature: OrthantCurvature | None = None

    @classmethod
    def empty(cls, problem, point):
        """A screen without features."""
        columns = torch.arange(0, device=point.coef.device)
        return cls(columns, problem.X.restricted(columns), problem.first_derivatives(point))

    def grown(self, problem, point):
        """This screen, or a larger one if a feature outside is about to leave zero."""
        gradient, threshold = self.slopes.coef.abs(), self.slopes.mass * problem.epsilon
        inside = torch.zeros_like(gradient, dtype=torch.bool)
        inside[self.columns] = True
        pressing = (gradient > _PRESSING * threshold) | (point.coef != 0)
        if not (pressing & ~inside).any():
            return self
        near = pressing | (gradient > _NEAR * threshold)
        if (near | inside).sum() > _WIDEST * len(near):
            return self._of_all(problem)
        new = (near & ~inside).nonzero().squeeze(1)
        X = self.X.joined(problem.X.restricted(new))
        return replace(self, columns=torch.cat([self.columns, new]), X=X)

    def _of_all(self, problem):
        """A screen of all features, with X itself in place of a copy."""
        curvature = self.curvature
        if curvature is not None:
            curvature = replace(curvature, columns=self.columns[curvature.columns])
        columns = torch.arange(len(problem.epsilon), device=problem.epsilon.device)
        return Screen(columns, problem.X, self.slopes, curvature)

    def solve(self, problem, point, tol, max_iter):
        """Minimise over the weights of these features; the others stay 0."""
        columns = self.columns
        part = replace(
            problem, X=self.X, epsilon=problem.epsilon[columns], ridge=problem.ridge[columns]
        )
        start = Start(
            coef=point.coef[columns],
            intercept=point.intercept,
            margin=point.margin,
            curvature=self.curvature,
        )
        solution = minimise(part, start, tol=tol, max_iter=max_iter, refine=False)
        coef = scatter(solution.coef, columns, len(point.coef))
        screen = replace(self, curvature=solution.curvature)
        return replace(solution, coef=coef, curvature=None, screen=screen)


def minimise_screened(problem, start, *, tol, max_iter):
    """Solve the next radius of a max-norm path, from the `Solution` for a larger radius.

    The screen grows until no feature outside violates its optimality condition; nothing is
    refined. Source: Tibshirani and others, "Strong rules for discarding predictors in lasso-type
    problems", J. Royal Statistical Society B 74 (2012).
    """
    point = problem.evaluate(start.coef, start.intercept, start.margin)
    screen, n_iter = start.screen or Screen.empty(problem, point), 0
    while True:
        screen = screen.grown(problem, point)
        solution = screen.solve(problem, point, tol, max_iter - n_iter)
        screen, n_iter = solution.screen, n_iter + solution.n_iter
        if len(screen.columns) == len(point.coef):
            break
        point = problem.evaluate(solution.coef, solution.intercept, solution.margin)
        slopes = screen.slopes = problem.first_derivatives(point)
        solution = replace(solution, violation=slopes.violation)
        outside = slopes.violations.index_fill(0, screen.columns, 0)
        # A small loss has a small gradient, so the tolerance shrinks with it.
        if solution.status != "optimal" or outside.max() <= tol * min(1, slopes.mass):
            break
    return replace(solution, n_iter=n_iter)
