"""Newton steps for the Euclidean norm, and for losses without an adversary."""

import torch

from sk_adv.linear_model._binary_problem import Step, append, cholesky

# Up to here the Hessian is formed; above, it is only multiplied with.
_MANY_FEATURES = 1000


class EuclideanSteps:
    """Newton steps with the curvature of ρ = ‖ε ∘ w‖₂, or steps off its kink at ε ∘ w = 0.

    At the kink the features that can't be perturbed and the intercept are settled first. Then it
    is left by a proximal step: all features are taken to have the mean curvature of the loss.

    Parameters
    ----------
    problem : Problem
    tol : float
        Slopes up to here are settled.
    """

    curvature = None

    def __init__(self, problem, tol):
        self.problem, self.tol = problem, tol

    def propose(self, point, slopes):
        """The step to take from a point."""
        epsilon = self.problem.epsilon
        bounded = epsilon > 0
        if point.penalty > 0:
            columns = torch.arange(len(epsilon), device=epsilon.device)
            penalty_slope = epsilon**2 * point.coef / point.penalty
            slope = append(slopes.coef + slopes.mass * penalty_slope, slopes.intercept)
            return self._newton_step(columns, point, slope, penalty_slope, slopes.mass)
        free = (~bounded).nonzero().squeeze(1)
        slope = append(slopes.coef[free], slopes.intercept)
        if slope.abs().max() > slopes.negligible(self.tol) or not bounded.any():
            return self._newton_step(free, point, slope, torch.zeros_like(slope[:-1]), 0)
        columns = bounded.nonzero().squeeze(1)
        curvature = self.problem.total_curvature(point) + self.problem.ridge[columns]
        direction = _leave_kink(slopes.coef[columns], slopes.mass, epsilon[columns], curvature)
        length = torch.linalg.vector_norm(epsilon[columns] * direction)
        descent = slopes.coef[columns] @ direction + slopes.mass * length
        return Step(columns, direction, torch.zeros_like(slopes.intercept), descent)

    def forget(self):
        """Whether there was a kept Hessian to give up: there never is."""
        return False

    def _newton_step(self, columns, point, slope, penalty_slope, mass):
        """-H⁻¹ slope, with ∂²ρ = (diag(ε²) - r rᵀ) / ρ, r the slope of ρ."""
        bend = mass / point.penalty if mass else torch.zeros_like(slope[-1])
        diagonal = append(bend * self.problem.epsilon[columns] ** 2, 0)
        if len(columns) <= _MANY_FEATURES:
            hessian = self.problem.hessian(columns, point, penalty_slope)
            hessian[:-1, :-1] -= bend * torch.outer(penalty_slope, penalty_slope)
            hessian.diagonal().add_(diagonal)
            step = torch.cholesky_solve(-slope[:, None], cholesky(hessian)).squeeze(1)
        else:
            multiply, scale = self.problem.hessian_product(columns, point, penalty_slope)
            rank_one = append(penalty_slope, 0)
            step = _conjugate_gradients(
                lambda v: multiply(v) + diagonal * v - bend * rank_one * (rank_one @ v),
                -slope,
                scale + diagonal,
                accuracy=min(0.1, float(slope.abs().max())),
            )
        return Step(columns, step[:-1], step[-1], slope @ step)


def _leave_kink(gradient, mass, epsilon, curvature):
    """argmin over d of gᵀd + mass ‖ε ∘ d‖₂ + Σ curvature_j d_j² / 2, where that is not 0.

    d_j = -g_j / (curvature_j + mass ε_j² / ρ), and ρ = ‖ε ∘ d‖₂ is the root of
    Σ (ε_j g_j / (curvature_j ρ + mass ε_j²))² = 1, whose left side falls with ρ.
    """
    high = torch.linalg.vector_norm(epsilon * gradient / curvature)
    low = 1e-150 * high
    for _ in range(60):
        middle = (low * high).sqrt()
        is_low = (epsilon * gradient / (curvature * middle + mass * epsilon**2)).norm() > 1
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return -gradient / (curvature + mass * epsilon**2 / high)


def _conjugate_gradients(multiply, target, scale, accuracy, max_iter=200):
    """H⁻¹ target to a relative residual, preconditioned by an estimate of the diagonal of H."""
    scale = scale.clamp(min=1e-12 * float(scale.max()) + torch.finfo(scale.dtype).tiny)
    step, residual = torch.zeros_like(target), target
    direction = preconditioned = residual / scale
    energy = residual @ preconditioned
    goal = accuracy**2 * energy
    for _ in range(max_iter):
        product = multiply(direction)
        bend = direction @ product
        if not bend > 0:
            break
        size = energy / bend
        step = step + size * direction
        residual = residual - size * product
        preconditioned = residual / scale
        renewed = residual @ preconditioned
        if renewed <= goal:
            break
        direction = preconditioned + renewed / energy * direction
        energy = renewed
    return step
