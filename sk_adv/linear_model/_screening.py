"""Screens: the features that a solver of the max-norm problem looks at, the others being 0.

Source: Tibshirani and others, "Strong rules for discarding predictors in lasso-type problems",
J. Royal Statistical Society B 74 (2012).
"""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._binary_problem import Slopes
from sk_adv.linear_model._binary_solver import minimise
from sk_adv.linear_model._designs import scatter
from sk_adv.linear_model._max_norm_steps import OrthantCurvature
from sk_adv.linear_model._newton import Start

# Entries that may be copied of any X: 64 MiB.
_COPIED_ENTRIES = 2**23


@dataclass
class Screen:
    """Some features, and what is kept of them from one solution to the next.

    Attributes
    ----------
    columns : torch.Tensor of shape (n_screened,)
        The features, in the order in which they were added.
    rows : BinaryRows of shape (n_samples, n_screened) or None
        The samples, with a copy of these features.
    curvature : OrthantCurvature, default=None
        The last Hessian; its columns count within the screen.
    slopes : Slopes, default=None
        First derivatives in all features, at the last point where they were computed.
    trail : tuple of Waypoint
        On a path, the last two solutions.
    is_rough : bool, default=False
        Whether derivatives on the copy may be in single precision.
    """

    columns: torch.Tensor
    rows: object
    curvature: OrthantCurvature | None = None
    slopes: Slopes | None = None
    trail: tuple = ()
    is_rough: bool = False

    @classmethod
    def empty(cls, problem, **options):
        """A screen without features; it must grow before it is solved."""
        columns = torch.arange(0, device=problem.epsilon.device)
        return cls(columns, None, **options)

    def grown(self, problem, wanted, share):
        """This screen with further features, where `wanted` is a mask over all.

        If the copy would take more than a `share` of X, the result is a screen of all features,
        with X itself in place of a copy.
        """
        if self.rows is problem.rows:
            return self
        inside = self.mask(problem)
        n_samples, n_features = problem.shape
        limit = max(share * n_features, _COPIED_ENTRIES / n_samples)
        if not problem.rows.can_be_copied or int((wanted | inside).sum()) > limit:
            return self._of_all(problem)
        new = (wanted & ~inside).nonzero().squeeze(1)
        if not len(new) and self.rows is not None:
            return self
        rows = problem.rows.copied(new, self.rows, self.is_rough)
        return replace(self, columns=torch.cat([self.columns, new]), rows=rows)

    def precise(self, problem):
        """The same features, with derivatives in double precision."""
        return replace(self, rows=problem.rows.copied(self.columns), is_rough=False)

    def mask(self, problem):
        """Which of all features it holds."""
        mask = torch.zeros_like(problem.epsilon, dtype=torch.bool)
        return mask.index_fill(0, self.columns, True)

    def _of_all(self, problem):
        curvature = self.curvature
        if curvature is not None:
            curvature = replace(curvature, columns=self.columns[curvature.columns])
        columns = torch.arange(len(problem.epsilon), device=problem.epsilon.device)
        rows = problem.rows
        return replace(self, columns=columns, rows=rows, curvature=curvature, is_rough=False)

    def solve(self, problem, start, targets, **options):
        """Minimise over the weights of these features, from a `Start` in all features.

        Returns
        -------
        screen : Screen
        solution : Solution
        """
        columns = self.columns
        part = problem.restricted(self.rows, columns)
        start = Start(
            coef=start.coef[columns],
            intercept=start.intercept,
            margin=start.margin,
            curvature=self.curvature,
        )
        solution = minimise(part, start, targets, **options)
        screen = replace(self, curvature=solution.curvature)
        coef = scatter(solution.coef, columns, len(problem.epsilon))
        return screen, replace(solution, coef=coef, curvature=None)


def evaluate(problem, start):
    """The point of a `BinaryProblem` at a `Start`."""
    return problem.evaluate(start.coef, start.intercept, start.margin)


def near(problem, start, slopes, share):
    """A mask of the features with weights, or with a gradient above a share of their threshold."""
    is_near = slopes.coef.abs() > share * slopes.mass * problem.epsilon
    return is_near | (start.coef != 0) | (problem.epsilon == 0)
