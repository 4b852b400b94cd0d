"""The two-class problem, and what its solvers share."""

from dataclasses import dataclass
from functools import cached_property

import torch

from sk_adv._perturbations import dual_norm


@dataclass
class Problem:
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
    def may_lack_minimum(self):
        """Whether weights may grow without bound."""
        return not bool(self.ridge.any())

    def margin(self, coef, intercept, columns=None):
        """The margins y ∘ (Xw + b), or those of weights in some columns only."""
        return self.y * (self.X.product(coef, columns) + intercept)

    def penalty(self, coef):
        """ρ(w) = ‖ε ∘ w‖_*."""
        return dual_norm(coef, self.epsilon, self.norm)

    def objective(self, coef, margin, penalty):
        """The value that is minimised."""
        return self.loss.value(margin, penalty) + (self.ridge * coef) @ coef / 2

    def total_curvature(self, point):
        """The curvature of the loss, summed over the samples."""
        return self.loss.curvature(point.margin, point.penalty)[0].sum()

    def gradient(self, coef, p):
        """Gradient in w and b of all but ρ: g = -Σ p_i y_i x_i + ridge w, and -Σ p_i y_i."""
        signed = p * self.y
        slope = -signed.sum() if self.fit_intercept else signed.new_zeros(())
        return self.ridge * coef - self.X.transposed_product(signed), slope

    def hessian(self, columns, point, penalty_slope, neglect=0.0):
        """Hessian on `columns` and the intercept, which is last, for a ρ linear in w.

        Σ [a_i z_i z_iᵀ + c_i (z_i - r)(z_i - r)ᵀ], with z_i = y_i (x_i, 1) and r the slope of ρ:
        one weighted Gram matrix and terms of rank two. The rows of least curvature, which hold
        together a share of `neglect` of all curvature, are left out.
        """
        total, adversarial = self.loss.curvature(point.margin, point.penalty)
        size = len(columns) + 1
        # Fewer rows than columns would leave directions without curvature.
        rows = _main_rows(total, neglect, n_min=4 * size)
        hessian, cross = self.X.moments(rows, columns, total[rows], (adversarial * self.y)[rows])
        slope = torch.cat([penalty_slope, penalty_slope.new_zeros(1)])
        hessian -= torch.outer(slope, cross) + torch.outer(cross, slope)
        hessian += adversarial[rows].sum() * torch.outer(slope, slope)
        hessian[:-1, :-1].diagonal().add_(self.ridge[columns])
        if not self.fit_intercept:
            hessian[-1, :] = hessian[:, -1] = 0
            hessian[-1, -1] = 1
        return hessian

    def hessian_product(self, columns, point, penalty_slope):
        """A function v → Hv for the same Hessian, and the diagonal of H where the slope of ρ is 0.

        Nothing of the size of H is formed.
        """
        total, adversarial = self.loss.curvature(point.margin, point.penalty)
        ridge = self.ridge[columns]

        def multiply(vector):
            coef, intercept = vector[:-1], vector[-1] * self.fit_intercept
            along = self.y * (self.X.product(coef, columns) + intercept)
            rise = penalty_slope @ coef
            signed = self.y * (total * along - adversarial * rise)
            result = self.X.transposed_product(signed)[columns] + ridge * coef
            result -= penalty_slope * (adversarial @ along - adversarial.sum() * rise)
            return append(result, signed.sum() if self.fit_intercept else vector[-1])

        return multiply, append(self.X.mean_square(total)[columns] + ridge, total.sum())


def _main_rows(curvature, neglect, n_min):
    if neglect == 0 or len(curvature) <= n_min:
        return torch.arange(len(curvature), device=curvature.device)
    ordered, order = curvature.sort()
    dropped = int((ordered.cumsum(0) <= neglect * ordered.sum()).sum())
    return order[min(dropped, len(order) - n_min) :].sort().values


@dataclass
class Point:
    """An iterate and what the objective needs of it."""

    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor
    penalty: torch.Tensor
    objective: torch.Tensor


@dataclass
class Slopes:
    """First derivatives at a point: `mass` is Σq, the derivative of the loss in ρ."""

    coef: torch.Tensor
    intercept: torch.Tensor
    mass: torch.Tensor
    violations: torch.Tensor

    @property
    def violation(self):
        return float(append(self.violations, self.intercept.abs()).max())

    @property
    def vanish(self):
        """Whether nothing is violated by more than rounding."""
        return self.violation <= 1e-13 * float(self.mass)

    def negligible(self, tol):
        """Violations up to here can wait: up to `tol`, or much less than the largest."""
        return min(tol, 0.1 * self.violation)


@dataclass
class Step:
    """A direction in some columns and the intercept, with the slope of the objective along it."""

    columns: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    slope: torch.Tensor


def evaluate(problem, coef, intercept, margin=None):
    """The point of some weights, whose margins may be known."""
    if margin is None:
        margin = problem.margin(coef, intercept) if coef.any() else problem.y * intercept
    penalty = problem.penalty(coef)
    return Point(coef, intercept, margin, penalty, problem.objective(coef, margin, penalty))


def at_kink(problem, point):
    """The same point with ε ∘ w = 0."""
    return evaluate(problem, point.coef * (problem.epsilon == 0), point.intercept)


def without_weights(problem):
    """The point w = 0, with the intercept that is best there."""
    positive = problem.loss.weight @ (problem.y > 0).to(problem.y)
    intercept = positive.logit() * problem.fit_intercept
    return evaluate(problem, torch.zeros_like(problem.epsilon), intercept)


def first_derivatives(problem, point):
    p, q = problem.loss.gradient(point.margin, point.penalty)
    gradient, intercept = problem.gradient(point.coef, p)
    mass = q.sum()
    violations = feature_violation(problem, point.coef, gradient, mass)
    return Slopes(gradient, intercept, mass, violations)


def feature_violation(problem, coef, gradient, mass):
    """Distance of 0 from the subdifferential in each w_j, Σq the derivative of the loss in ρ.

    max-norm, with λ = ε Σq: |g_j + λ_j sign(w_j)| where w_j ≠ 0, max(|g_j| - λ_j, 0) where w_j = 0.
    Euclidean: |g_j + Σq ε_j² w_j / ρ|; where ε ∘ w = 0, the share of g_j by which ‖g / ε‖₂
    exceeds Σq.
    """
    epsilon = problem.epsilon
    if problem.norm != 2:
        at_zero = (gradient.abs() - mass * epsilon).clamp(min=0)
        return torch.where(coef == 0, at_zero, (gradient + mass * epsilon * coef.sign()).abs())
    penalty = problem.penalty(coef)
    if penalty > 0:
        return (gradient + mass * epsilon**2 * coef / penalty).abs()
    bounded = epsilon > 0
    length = torch.linalg.vector_norm(gradient[bounded] / epsilon[bounded])
    excess = (1 - mass / length).clamp(min=0) if length > 0 else torch.zeros_like(length)
    return torch.where(bounded, excess * gradient.abs(), gradient.abs())


def cholesky(hessian, damping=1e-13):
    """Factor of H + δ diag(H), with the smallest δ of a geometric ladder for which it is definite.

    The ladder starts at `damping`. Entries of the diagonal that vanish are lifted a little.
    """
    diagonal = hessian.diagonal()
    floor = diagonal.max().clamp(min=torch.finfo(hessian.dtype).tiny)
    diagonal = diagonal.clamp(min=1e-13 * floor)
    while True:
        damped = hessian.clone()
        damped.diagonal().add_(damping * diagonal)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed or damping > 1e3:
            return factor
        damping *= 10


def append(vector, last):
    last = torch.as_tensor(last, dtype=vector.dtype, device=vector.device)
    return torch.cat([vector, last.reshape(1)])
