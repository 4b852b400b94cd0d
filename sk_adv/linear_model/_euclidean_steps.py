"""Newton steps in the Euclidean norm, and without an adversary."""

import torch

from sk_adv.linear_model._binary_problem import Step
from sk_adv.linear_model._newton import append, cholesky, conjugate_gradients

# For more features than this, the Hessian is not formed; only products with it are computed.
_MANY_FEATURES = 1000


class EuclideanSteps:
    """Newton steps for the penalty ρ = ‖ε ∘ w‖₂, which has a kink at ε ∘ w = 0.

    At the kink, the intercept and the features with radius 0 are solved first. Then a proximal
    step leaves the kink; it assumes the mean curvature of the loss for every feature.

    Parameters
    ----------
    problem : BinaryProblem
    tol : float
        Slopes up to this size need no step.
    """

    curvature = None

    def __init__(self, problem, tol):
        self.problem, self.tol = problem, tol

    def propose(self, point, slopes):
        """The next step from a point."""
        epsilon = self.problem.epsilon
        if point.penalty > 0:
            columns = torch.arange(len(epsilon), device=epsilon.device)
            penalty_slope = epsilon**2 * point.coef / point.penalty
            slope = append(slopes.coef + slopes.mass * penalty_slope, slopes.intercept)
            return self._newton_step(columns, point, slope, penalty_slope, slopes.mass)
        bounded = epsilon > 0
        free = (~bounded).nonzero().squeeze(1)
        slope = append(slopes.coef[free], slopes.intercept)
        if slope.abs().max() > slopes.negligible(self.tol) or not bounded.any():
            return self._newton_step(free, point, slope, torch.zeros_like(slope[:-1]), 0)
        columns = bounded.nonzero().squeeze(1)
        curvature = self.problem.total_curvature(point) + self.problem.ridge[columns]
        step = _leave_kink(slopes.coef[columns], slopes.mass, epsilon[columns], curvature)
        length = torch.linalg.vector_norm(epsilon[columns] * step)
        slope = float(slopes.coef[columns] @ step + slopes.mass * length)
        return Step(columns, step, torch.zeros_like(slopes.intercept), slope)

    def recover(self, point):
        """The kink, if it is no worse than a point from which no step helps; else None.

        Newton's method comes closer and closer to a minimum at the kink without reaching it.
        """
        if not point.penalty > 0:
            return None
        kink = self.problem.at_kink(point)
        return kink if kink.objective <= point.objective else None

    def _newton_step(self, columns, point, slope, penalty_slope, mass):
        """-H⁻¹ slope, with ∂²ρ = (diag(ε²) - r rᵀ) / ρ, r the slope of ρ."""
        stiffness = mass / point.penalty if mass else torch.zeros_like(slope[-1])
        diagonal = append(stiffness * self.problem.epsilon[columns] ** 2, 0)
        if len(columns) <= _MANY_FEATURES:
            hessian = self.problem.hessian(columns, point, penalty_slope)
            hessian[:-1, :-1] -= stiffness * torch.outer(penalty_slope, penalty_slope)
            hessian.diagonal().add_(diagonal)
            step = torch.cholesky_solve(-slope[:, None], cholesky(hessian)).squeeze(1)
        else:
            multiply, scale = self.problem.hessian_product(columns, point, penalty_slope)
            r, scale = append(penalty_slope, 0), scale + diagonal
            scale = scale.clamp(min=1e-12 * float(scale.max()) + torch.finfo(scale.dtype).tiny)
            step = conjugate_gradients(
                lambda v: multiply(v) + diagonal * v - stiffness * r * (r @ v),
                -slope,
                lambda v: v / scale,
                accuracy=min(0.1, float(slope.abs().max())),
            )
        return Step(columns, step[:-1], step[-1], float(slope @ step))


def _leave_kink(gradient, mass, epsilon, curvature):
    """argmin over d of gᵀd + mass ‖ε ∘ d‖₂ + Σ curvature_j d_j² / 2, if that is not 0.

    d_j = -g_j / (curvature_j + mass ε_j² / ρ), and ρ = ‖ε ∘ d‖₂ is the root of
    Σ (ε_j g_j / (curvature_j ρ + mass ε_j²))² = 1. The left side falls with ρ.
    """
    high = torch.linalg.vector_norm(epsilon * gradient / curvature)
    low = 1e-150 * high
    for _ in range(60):
        middle = (low * high).sqrt()
        is_low = (epsilon * gradient / (curvature * middle + mass * epsilon**2)).norm() > 1
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return -gradient / (curvature + mass * epsilon**2 / high)
