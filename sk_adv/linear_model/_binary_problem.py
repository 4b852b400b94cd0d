"""The objective of two classes, its derivatives and its optimality conditions."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sk_adv._perturbations import dual_norm
from sk_adv.linear_model._array_functions import sort
from sk_adv.linear_model._newton import append

# Leaving out a smaller share of the samples does not pay for the copy of the others.
_FEWEST_DROPPED = 0.1


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
    X : StandardisedDesign of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,)
        Labels -1 and +1.
    loss : WorstCaseLogisticLoss
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w².
    fit_intercept : bool
    """

    X: object
    y: torch.Tensor
    loss: object
    epsilon: torch.Tensor
    norm: float
    ridge: torch.Tensor
    fit_intercept: bool

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    def sample(self, share):
        """The problem of a random share of each class, with the class's weight; always the same."""
        generator, stride = torch.Generator().manual_seed(0), round(1 / share)
        picked = []
        for label in (-1, 1):
            rows = (self.y == label).nonzero().squeeze(1)
            first = torch.arange(0, len(rows), stride)
            chosen = first + torch.randint(stride, first.shape, generator=generator)
            picked.append(rows[chosen.clamp(max=len(rows) - 1).to(rows.device)])
        rows = torch.cat(picked).sort().values
        y, weight = self.y[rows], self.loss.weight[rows]
        for label in (-1, 1):
            own = y == label
            weight[own] *= self.loss.weight[self.y == label].sum() / weight[own].sum()
        return replace(self, X=self.X.taken(rows), y=y, loss=replace(self.loss, weight=weight))

    def margin(self, coef, intercept, columns=None):
        """y ∘ (Xw + b); with `columns`, `coef` holds the weights of these features only."""
        return self.y * (self.X.product(coef, columns) + intercept)

    def penalty(self, coef):
        """ρ(w) = ‖ε ∘ w‖_*."""
        return dual_norm(coef, self.epsilon, self.norm)

    def evaluate(self, coef, intercept, margin=None):
        """The point (w, b); pass its margins if they are known."""
        if margin is None:
            margin = self.margin(coef, intercept) if coef.any() else self.y * intercept
        penalty = self.penalty(coef)
        objective = self.loss.value(margin, penalty) + (self.ridge * coef) @ coef / 2
        return Point(coef, intercept, margin, penalty, objective)

    def at_kink(self, point):
        """The same point with ε ∘ w = 0."""
        return self.evaluate(point.coef * (self.epsilon == 0), point.intercept)

    def without_weights(self):
        """The point w = 0 with the intercept that is best there."""
        # With weight on one class only, the best intercept is infinite.
        intercept = self.epsilon.new_zeros(())
        if self.fit_intercept:
            intercept = self.loss.constant_intercept(self.y)
        return self.evaluate(torch.zeros_like(self.epsilon), intercept)

    def lacks_minimum(self, point):
        """Whether the point shows that the objective falls to its infimum as w and b grow."""
        return not self.has_ridge and self.loss.is_separating(point.margin, point.penalty)

    def first_derivatives(self, point):
        """g = -Σ p_i y_i x_i + ridge w, -Σ p_i y_i, Σq and the violations."""
        p, q = self.loss.gradient(point.margin, point.penalty)
        signed = p * self.y
        gradient = self.ridge * point.coef - self.X.transposed_product(signed)
        intercept = -signed.sum() if self.fit_intercept else signed.new_zeros(())
        mass = q.sum()
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
        return self.loss.curvature(point.margin, point.penalty)[0].sum()

    def hessian(self, columns, point, penalty_slope, neglect=0.0):
        """Hessian in the weights of `columns` and the intercept, for a ρ that is linear in w.

        With z_i = (x_i, 1), r the slope of ρ, and a_i and c_i the clean and the adversarial
        curvature, it is

            Σ_i [ a_i z_i z_iᵀ + c_i (z_i - y_i r)(z_i - y_i r)ᵀ ]
              = Σ_i t_i (z_i - κ_i y_i r)(z_i - κ_i y_i r)ᵀ + Σ_i c_i (1 - κ_i) r rᵀ ,

        where t_i = a_i + c_i and κ_i = c_i / t_i: one weighted Gram matrix and a term of rank one.
        The samples of least curvature, which together have the share `neglect` of it, are left out.
        """
        total, adversarial = self.loss.curvature(point.margin, point.penalty)
        size = len(columns) + 1
        # Fewer rows than columns would leave directions without curvature.
        rows = _main_rows(total, neglect, n_min=4 * size)
        total, adversarial = total[rows], adversarial[rows]
        part = torch.where(total > 0, adversarial / total, 0)
        hessian = self.X.gram(rows, columns, total, self.y[rows] * part, penalty_slope)
        slope = append(penalty_slope, 0)
        hessian += (adversarial @ (1 - part)) * torch.outer(slope, slope)
        hessian[:-1, :-1].diagonal().add_(self.ridge[columns])
        if not self.fit_intercept:
            hessian[-1, :] = hessian[:, -1] = 0
            hessian[-1, -1] = 1
        return hessian

    def hessian_product(self, columns, point, penalty_slope):
        """The function v → Hv of the same Hessian, and the diagonal of H without ρ.

        H itself is not formed.
        """
        total, adversarial = self.loss.curvature(point.margin, point.penalty)
        ridge = self.ridge[columns]

        def multiply(vector):
            coef, intercept = vector[:-1], vector[-1] * self.fit_intercept
            along = self.margin(coef, intercept, columns)
            rise = penalty_slope @ coef
            signed = self.y * (total * along - adversarial * rise)
            result = self.X.transposed_product(signed)[columns] + ridge * coef
            result -= penalty_slope * (adversarial @ along - adversarial.sum() * rise)
            return append(result, signed.sum() if self.fit_intercept else vector[-1])

        return multiply, append(self.X.mean_square(total)[columns] + ridge, total.sum())


def _main_rows(curvature, neglect, n_min):
    """The samples with most of the curvature, `n_min` at least, in their order."""
    n_dropped = 0
    if neglect > 0 and len(curvature) > n_min:
        ordered = sort(curvature)
        n_dropped = int((ordered.cumsum(0) <= neglect * ordered.sum()).sum())
        n_dropped = min(n_dropped, len(curvature) - n_min)
    if n_dropped < _FEWEST_DROPPED * len(curvature):
        return torch.arange(len(curvature), device=curvature.device)
    return (curvature >= ordered[n_dropped]).nonzero().squeeze(1)
