"""The objective of three classes and more in the Euclidean norm, with its derivatives.

The worst case of the softmax cross-entropy has no closed form. This bound on it is convex in W and
b, and exact for two classes:

    log Σ_k exp( (w_k - w_y)ᵀx + b_k - b_y + ρ_ky ),   ρ_kl = ‖ε ∘ (w_k - w_l)‖₂ .

The norms have kinks where two classes share all weights. They are rounded, ρ ≈ √(ρ² + μ²) - μ, and
the solver decreases μ. A sum over pairs of the kind Σ_l A_kl (w_k - w_l), with symmetric A, is a
product with the Laplacian of A, so that no array of pairs and features is formed. Gradients and
steps are matrices of shape (n_classes, n_features + 1) with the intercepts in the last column.
`_class_problem.py` has the max-norm.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import torch

from sk_adv.linear_model._multiclass_pairs import PairPenalties
from sk_adv.linear_model._newton import append


@dataclass
class MulticlassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus Σ_j ridge_j ‖w_j‖² / 2.

    Attributes
    ----------
    rows : MulticlassRows
        The samples, with α.
    epsilon : torch.Tensor of shape (n_features,)
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w².
    fit_intercept : bool
    """

    rows: object
    epsilon: torch.Tensor
    ridge: torch.Tensor
    fit_intercept: bool

    @property
    def n_classes(self):
        return self.rows.n_classes

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    @property
    def is_smooth(self):
        """Whether the bound has no kinks."""
        return self.rows.alpha == 1 or not bool(self.epsilon.any())

    def with_intercept(self, coef, intercept):
        """One matrix of both parts; the intercepts' part is 0 if they are not fitted."""
        return append(coef, intercept if self.fit_intercept else torch.zeros_like(intercept))


class MulticlassPoint:
    """An iterate, with the objective, gradient and largest violation of the rounded bound.

    `rounding` is that of `PairPenalties`. `samples` is a function of the penalties that gives the
    samples here, if something of them is known.
    """

    def __init__(self, problem, coef, intercept, rounding=0.0, samples=None):
        self.problem, self.coef, self.intercept = problem, coef, intercept
        self.rounding = rounding
        self.penalties = PairPenalties(coef, problem.epsilon, rounding)
        samples = samples or partial(problem.rows.evaluate, coef, intercept)
        self.samples = samples(self.penalties.value)
        ridge = (problem.ridge * coef.square()).sum() / 2
        self.objective = self.samples.loss + ridge

    @property
    def mass(self):
        """Derivatives of the objective in the pairs' penalties."""
        return self.samples.mass

    @cached_property
    def gradient(self):
        """Gradient in W and b."""
        problem = self.problem
        coef, intercept = self.samples.gradient()
        coef = coef + problem.ridge * self.coef
        coef += self.penalties.gradient(self.mass)
        return problem.with_intercept(coef, intercept)

    @cached_property
    def violation(self):
        """Largest entry of the gradient."""
        return float(self.gradient.abs().max())

    def lacks_minimum(self):
        """Whether the bound falls to 0 as W and b grow: all samples are robustly right."""
        if self.problem.has_ridge:
            return False
        exact = PairPenalties(self.coef, self.problem.epsilon).value
        return self.samples.is_separating(exact)

    def without_rounding(self, problem):
        """The same point of the exact bound."""
        samples = self.samples.at if problem is self.problem else None
        return MulticlassPoint(problem, self.coef, self.intercept, samples=samples)

    def line(self, step):
        """Points along a step: a function of its size."""
        move, move_intercept = step[:, :-1], step[:, -1]
        samples = self.samples.line(self.coef, self.intercept, move, move_intercept)

        def along(size):
            return MulticlassPoint(
                self.problem,
                self.coef + size * move,
                self.intercept + size * move_intercept,
                self.rounding,
                partial(samples, size),
            )

        return along
