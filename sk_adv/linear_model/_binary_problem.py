"""The objective of two classes, its derivatives and its optimality conditions."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sk_adv._perturbations import dual_norm
from sk_adv.linear_model._newton import append


@dataclass
class Point:
    """An iterate, with its margins y ∘ (Xw + b), penalty ‖ε ∘ w‖_* and objective."""

    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor
    penalty: torch.Tensor
    objective: torch.Tensor


@dataclass
class Slopes:
    """First derivatives at a point.

    Attributes
    ----------
    coef : torch.Tensor of shape (n_features,)
        The gradient g in w, without the penalty's part.
    intercept : torch.Tensor of shape ()
    mass : torch.Tensor of shape ()
        Σq, the derivative of the loss in the penalty.
    violations : torch.Tensor of shape (n_features,)
        How far each feature is from its optimality condition.
    """

    coef: torch.Tensor
    intercept: torch.Tensor
    mass: torch.Tensor
    violations: torch.Tensor

    @cached_property
    def violation(self):
        """The largest violation, the intercept's included; infinite if it can't be computed."""
        largest = float(append(self.violations, self.intercept.abs()).max())
        # Features in units of 1e150 beside others of 1e-150 over- and underflow.
        return torch.inf if math.isnan(largest) else largest

    @property
    def vanish(self):
        """Whether every violation is within rounding."""
        return self.violation <= 1e-13 * float(self.mass)

    def negligible(self, tol):
        """Violations up to this size can wait."""
        return min(tol, 0.1 * self.violation)


@dataclass
class Step:
    """A change of the weights in `columns` and of the intercept.

    `slope` is the derivative of the objective along the step.
    """

    columns: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    slope: float


@dataclass
class BinaryProblem:
    """min over w, b of loss(y ∘ (Xw + b), ‖ε ∘ w‖_*) + Σ ridge_j w_j² / 2.

    Attributes
    ----------
    rows : BinaryRows
        The samples.
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w².
    fit_intercept : bool
    """

    rows: object
    epsilon: torch.Tensor
    norm: float
    ridge: torch.Tensor
    fit_intercept: bool

    @property
    def shape(self):
        """Numbers of samples and features."""
        return self.rows.shape

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    def sample(self, share):
        """The problem of a share of the samples."""
        return replace(self, rows=self.rows.sample(share))

    def restricted(self, rows, columns):
        """The problem in the weights of some features, whose values `rows` holds."""
        return replace(self, rows=rows, epsilon=self.epsilon[columns], ridge=self.ridge[columns])

    def penalty(self, coef):
        """ρ(w) = ‖ε ∘ w‖_*."""
        return dual_norm(coef, self.epsilon, self.norm)

    def evaluate(self, coef, intercept, margin=None):
        """The point (w, b); pass its margins if they are known."""
        if margin is None:
            margin = self.rows.margin(coef, intercept)
        penalty = self.penalty(coef)
        objective = self.rows.value(margin, penalty) + (self.ridge * coef) @ coef / 2
        return Point(coef, intercept, margin, penalty, objective)

    def at_kink(self, point):
        """The same point with ε ∘ w = 0."""
        return self.evaluate(point.coef * (self.epsilon == 0), point.intercept)

    def without_weights(self):
        """The point w = 0 with the intercept that is best there."""
        # With weight on one class only, the best intercept is infinite.
        intercept = self.epsilon.new_zeros(())
        if self.fit_intercept:
            intercept = self.rows.constant_intercept()
        return self.evaluate(torch.zeros_like(self.epsilon), intercept)

    def lacks_minimum(self, point):
        """Whether the point shows that the objective falls to its infimum as w and b grow."""
        return not self.has_ridge and self.rows.is_separating(point.margin, point.penalty)

    def first_derivatives(self, point):
        """g = -Σ p_i y_i x_i + ridge w, -Σ p_i y_i, Σq and the violations."""
        pull, balance, mass = self.rows.slopes(point.margin, point.penalty)
        gradient = self.ridge * point.coef - pull
        intercept = -balance if self.fit_intercept else torch.zeros_like(balance)
        return Slopes(gradient, intercept, mass, self._violations(point, gradient, mass))

    def _violations(self, point, gradient, mass):
        """Distance of each feature's subdifferential from 0.

        Max-norm, with λ = ε Σq: |g_j + λ_j sign(w_j)| where w_j ≠ 0, max(|g_j| - λ_j, 0) where
        w_j = 0. Euclidean: |g_j + Σq ε_j² w_j / ρ|; at ε ∘ w = 0, |g_j| times the share by which
        ‖g / ε‖₂ exceeds Σq.
        """
        epsilon, coef = self.epsilon, point.coef
        if self.norm != 2:
            at_zero = (gradient.abs() - mass * epsilon).clamp(min=0)
            return torch.where(coef == 0, at_zero, (gradient + mass * epsilon * coef.sign()).abs())
        if point.penalty > 0:
            return (gradient + mass * epsilon**2 * coef / point.penalty).abs()
        bounded = epsilon > 0
        length = torch.linalg.vector_norm(gradient[bounded] / epsilon[bounded])
        excess = (1 - mass / length).clamp(min=0) if length > 0 else torch.zeros_like(length)
        return torch.where(bounded, excess * gradient.abs(), gradient.abs())

    def total_curvature(self, point):
        """Sum of the loss's curvatures over the samples."""
        return self.rows.total_curvature(point.margin, point.penalty)

    def hessian(self, columns, point, penalty_slope, neglect=0.0):
        """Hessian in the weights of `columns` and the intercept; see `BinaryRows.hessian`."""
        state = point.margin, point.penalty, penalty_slope
        hessian = self.rows.hessian(columns, *state, neglect)
        hessian[:-1, :-1].diagonal().add_(self.ridge[columns])
        if not self.fit_intercept:
            hessian[-1, :] = hessian[:, -1] = 0
            hessian[-1, -1] = 1
        return hessian

    def hessian_product(self, columns, point, penalty_slope):
        """The function v → Hv of the same Hessian, and the diagonal of H without ρ.

        H itself is not formed.
        """
        state = point.margin, point.penalty, penalty_slope
        ridge = append(self.ridge[columns], 0)

        def multiply(vector):
            moving = vector.clone()
            moving[-1] *= self.fit_intercept
            result = self.rows.hessian_product(columns, *state, moving) + ridge * vector
            result[-1] = result[-1] if self.fit_intercept else vector[-1]
            return result

        diagonal = self.rows.diagonal(point.margin, point.penalty)
        return multiply, append(diagonal[columns], diagonal[-1]) + ridge
