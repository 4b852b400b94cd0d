"""Newton's method: the parts that all solvers share."""

from dataclasses import dataclass

import torch

# A step of size t must lower the objective by this share of what its slope promises, t |slope|.
_ARMIJO = 1e-4
_SHORTEST_STEP = 1e-10
# In single precision, violations of standardised features are wrong by some 1e-7. From the first
# tolerance on, paths take gradients on copies so, and solve to the second share of it.
ROUGH_TOL, ROUGH_AIM = 5e-7, 0.7


@dataclass(kw_only=True)
class Start:
    """The starting point of a solver.

    Attributes
    ----------
    coef : torch.Tensor of shape (n_features,) or (n_classes, n_features)
    intercept : torch.Tensor of shape () or (n_classes,)
    margin : torch.Tensor of shape (n_samples,), default=None
        The margins at this point, if they are known.
    curvature : OrthantCurvature, default=None
        The last Hessian of the same problem at another radius.
    screen : Screen or ClassScreen, default=None
        The features that were examined for a larger radius.
    """

    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor | None = None
    curvature: object = None
    screen: object = None


@dataclass(kw_only=True)
class Solution(Start):
    """The result of a solver; the next radius of a path can start from it.

    Attributes
    ----------
    objective : float
    violation : float
        Largest violation of the optimality conditions.
    gain : float
        Estimate of how much the objective can still fall; infinite if there is no estimate.
    n_iter : int
    status : {"optimal", "separable", "one class", "max_iter", "stalled", "loose", "foreseen"}
        The last two only from one part of a solver to another, see `Targets`.
    """

    objective: float
    violation: float
    gain: float = torch.inf
    n_iter: int
    status: str


def line_search(along, start, slope, *, enough=_ARMIJO):
    """Backtracking line search over the sizes 1, 1/2, 1/4, ...

    `along` maps a size to a point with an `objective`, `start` is the point at size 0, and `slope`
    is the derivative of the objective there. The result is the best point that satisfies Armijo's
    rule, or None. The search ends at the first size t that lowers the objective by
    `enough * t * |slope|`, or when a smaller size is no longer better.
    """
    if not slope < 0:
        return None
    best, size = None, 1.0
    while size > _SHORTEST_STEP:
        trial = along(size)
        if best is not None and not trial.objective < best.objective:
            break
        # Not as a difference of objectives: rounding can hide the gain near a minimum.
        if trial.objective <= start.objective + _ARMIJO * size * slope:
            best = trial
            if trial.objective <= start.objective + enough * size * slope:
                break
        size /= 2
    return best


def conjugate_gradients(multiply, target, precondition, *, accuracy, max_iter=200):
    """Solve H x = target by preconditioned conjugate gradients, started at x = 0.

    `multiply` maps v to H v, and `precondition` maps v to an approximation of H⁻¹ v; v has the
    shape of the target. The iteration stops at a residual of `accuracy`, relative to the target.
    """
    solution, residual = torch.zeros_like(target), target
    direction = precondition(residual)
    energy = (residual * direction).sum()
    goal = accuracy**2 * energy
    for _ in range(max_iter):
        product = multiply(direction)
        curvature = (direction * product).sum()
        if not curvature > 0:
            break
        size = energy / curvature
        solution = solution + size * direction
        residual = residual - size * product
        preconditioned = precondition(residual)
        renewed = (residual * preconditioned).sum()
        if renewed <= goal:
            break
        direction = preconditioned + renewed / energy * direction
        energy = renewed
    return solution


def cholesky(hessian, damping=1e-13):
    """Cholesky factor of H + δ diag(H), for the first definite of δ = damping, 10 damping, ...

    Diagonal entries that vanish are raised a little. The diagonal of `hessian` is overwritten.
    """
    original = hessian.diagonal().clone()
    floor = original.max().clamp(min=torch.finfo(hessian.dtype).tiny)
    diagonal = original.clamp(min=1e-13 * floor)
    while True:
        hessian.diagonal().copy_(original + damping * diagonal)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not failed or damping > 1e3:
            return factor
        damping *= 10


def no_report(n_iter, objective, violation, n_working):
    """The callback of a solver that prints nothing."""


def append(coef, intercept):
    """Coefficients and intercept as one tensor, with the intercept in the last column."""
    intercept = torch.as_tensor(intercept, dtype=coef.dtype, device=coef.device)
    return torch.cat([coef, intercept[..., None]], dim=-1)
