"""Minimiser of the convex bound on the worst-case softmax loss, for three classes and more.

The worst case of the softmax cross-entropy has no closed form. This bound is convex in W and b,
and exact for two classes:

    log Σ_k exp( (w_k - w_y)ᵀx + b_k - b_y + ρ_ky ),   ρ_kl = ‖ε ∘ (w_k - w_l)‖_* .

The norms have kinks where two classes share a weight. They are rounded off, |t| ≈ √(t² + μ²) - μ,
and the smooth problem is solved by Newton's method, conjugate gradients on exact
Hessian-vector products, for smaller and smaller μ.
"""

from dataclasses import dataclass

import torch

from sk_adv.linear_model._solvers import Solution

# By how much the rounding may lower a pair's penalty ρ_kl (a log-odds), stage by stage.
_ROUNDINGS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass
class MulticlassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus ridge ‖W‖² / 2.

    Attributes
    ----------
    X : torch.Tensor of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,), int64
        Class indices.
    n_classes : int
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, of sum 1.
    alpha : float
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    ridge : float
        1 / (C Σs).
    fit_intercept : bool
    """

    X: torch.Tensor
    y: torch.Tensor
    n_classes: int
    weight: torch.Tensor
    alpha: float
    epsilon: torch.Tensor
    norm: float
    ridge: float
    fit_intercept: bool

    @property
    def is_smooth(self):
        """Whether the bound has no kinks to round off."""
        return self.alpha == 1 or not bool(self.epsilon.any())


def pair_penalties(coef, epsilon, norm, rounding=0.0):
    """ρ_kl = ‖ε ∘ (w_k - w_l)‖_* for all pairs, with value, slope and curvature.

    Parameters
    ----------
    coef : torch.Tensor of shape (n_classes, n_features)
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    rounding : float, default=0.0
        Bound on how far the rounded ρ lies below the exact one.

    Returns
    -------
    value : torch.Tensor of shape (n_classes, n_classes)
    slope : torch.Tensor of shape (n_classes, n_classes, n_features)
        ∂ρ_kl / ∂(w_k - w_l).
    curvature : torch.Tensor of shape (n_classes, n_classes, n_features)
        Of |·| a feature (max-norm), or the factor ε_j² / ρ of the Euclidean norm, whose full
        curvature is diag(factor) - slope slopeᵀ / ρ.
    """
    scaled = epsilon * (coef[:, None] - coef[None])
    tiny = torch.finfo(coef.dtype).tiny
    if norm == 2:
        length = (scaled.square().sum(-1) + rounding**2).sqrt()
        safe = length.clamp(min=tiny).unsqueeze(-1)
        return length - rounding, epsilon * scaled / safe, epsilon**2 / safe
    width = rounding / len(epsilon)
    length = (scaled.square() + width**2).sqrt()
    safe = length.clamp(min=tiny)
    bend = (epsilon * width / safe).square() / safe
    return (length - width).sum(-1), epsilon * scaled / safe, bend


class _Quadratic:
    """Value, gradient and Hessian-vector product of the rounded objective at one point."""

    def __init__(self, problem, coef, intercept, rounding):
        self.problem, self.coef, self.intercept = problem, coef, intercept
        value, self.slope, self.curvature = pair_penalties(
            coef, problem.epsilon, problem.norm, rounding
        )
        # The rounded Euclidean norm is √(‖·‖² + μ²) - μ: its curvature is divided by the root.
        self.root = value + rounding
        self.logits = problem.X @ coef.T + intercept
        shifted = self.logits + value[problem.y]
        true = self.logits.gather(1, problem.y[:, None]).squeeze(1)
        loss = (1 - problem.alpha) * (shifted.logsumexp(1) - true)
        if problem.alpha > 0:
            loss = loss + problem.alpha * (self.logits.logsumexp(1) - true)
        self.value = problem.weight @ loss + problem.ridge / 2 * coef.square().sum()
        self.adversarial = shifted.softmax(1)
        self.clean = self.logits.softmax(1)

    def gradient(self):
        """Gradient in W and b."""
        problem, weight = self.problem, self.problem.weight[:, None]
        bounded = (1 - problem.alpha) * weight * self.adversarial
        residual = bounded + problem.alpha * weight * self.clean
        residual[torch.arange(len(residual)), problem.y] -= problem.weight
        self.mass = self._by_pair(bounded)
        coef = residual.T @ problem.X + problem.ridge * self.coef
        coef += torch.einsum("kl,klj->kj", self.mass, self.slope)
        return coef, self._free_intercept(residual.sum(0))

    def product(self, coef, intercept):
        """Hessian times (coef, intercept)."""
        problem, weight = self.problem, self.problem.weight[:, None]
        difference = coef[:, None] - coef[None]
        penalties = torch.einsum("klj,klj->kl", self.slope, difference)
        logits = problem.X @ coef.T + intercept
        bounded = logits + penalties[problem.y]
        bounded = self.adversarial * (bounded - (self.adversarial * bounded).sum(1, keepdim=True))
        bounded = (1 - problem.alpha) * weight * bounded
        residual = bounded
        if problem.alpha > 0:
            clean = self.clean * (logits - (self.clean * logits).sum(1, keepdim=True))
            residual = bounded + problem.alpha * weight * clean
        bend = self.curvature * difference
        if problem.norm == 2:
            bend = bend - self.slope * (penalties / self._safe_root())[..., None]
        result = residual.T @ problem.X + problem.ridge * coef
        result += torch.einsum("kl,klj->kj", self._by_pair(bounded), self.slope)
        result += torch.einsum("kl,klj->kj", self.mass, bend)
        return result, self._free_intercept(residual.sum(0))

    def preconditioner(self):
        """Approximate inverse Hessian: one block of all classes for each feature."""
        problem = self.problem
        n_classes = problem.n_classes
        mean = torch.zeros(n_classes, n_classes, dtype=self.coef.dtype, device=self.coef.device)
        for share, probability in (
            (1 - problem.alpha, self.adversarial),
            (problem.alpha, self.clean),
        ):
            weighted = share * problem.weight[:, None] * probability
            mean += torch.diag(weighted.sum(0)) - weighted.T @ probability
        # Adding the same weights to all classes changes nothing: that direction is projected out.
        stiff = (self.mass[..., None] * self.curvature).permute(2, 0, 1)
        laplacian = torch.diag_embed(stiff.sum(-1)) - stiff
        scale = problem.weight @ problem.X.square()
        identity = torch.eye(n_classes, dtype=mean.dtype, device=mean.device)
        floor = 1e-8 * (mean.diagonal().max() + 1e-300)
        blocks = scale[:, None, None] * mean + laplacian + problem.ridge * identity
        blocks += (floor * (scale.max() + 1e-300)) * identity
        features = torch.linalg.inv(blocks)
        offset = torch.linalg.inv(mean + floor * identity)

        def apply(coef, intercept):
            coef = torch.einsum("jkl,lj->kj", features, coef)
            return _centre(coef), self._free_intercept(_centre(offset @ intercept))

        return apply

    def is_separating(self):
        """Whether every sample is right by more than the exact penalty of each pair."""
        problem = self.problem
        penalty, _, _ = pair_penalties(self.coef, problem.epsilon, problem.norm)
        if problem.alpha == 1:
            penalty = torch.zeros_like(penalty)
        threat = self.logits + penalty[problem.y]
        threat = threat.scatter(1, problem.y[:, None], -torch.inf).amax(1)
        return bool((self.logits.gather(1, problem.y[:, None]).squeeze(1) > threat).all())

    def _by_pair(self, bounded):
        """Sum rows by true class, symmetrised: the factors of the pairs' penalties."""
        mass = bounded.new_zeros(self.problem.n_classes, self.problem.n_classes)
        mass.index_add_(0, self.problem.y, bounded)
        mass.fill_diagonal_(0)
        return mass + mass.T

    def _free_intercept(self, intercept):
        return intercept if self.problem.fit_intercept else torch.zeros_like(intercept)

    def _safe_root(self):
        return self.root.clamp(min=torch.finfo(self.root.dtype).tiny)


def minimise_bound(problem, coef, intercept, *, tol, max_iter, callback=None):
    """Minimise the bound from (coef, intercept) until the gradient's largest entry is below `tol`.

    Parameters
    ----------
    problem : MulticlassProblem
    coef : torch.Tensor of shape (n_classes, n_features)
    intercept : torch.Tensor of shape (n_classes,)
    tol : float
    max_iter : int
        Newton iterations, over all stages of the rounding.
    callback : callable, default=None
        Called as `callback(n_iter, objective, violation, n_working)` once an iteration.

    Returns
    -------
    Solution
        With the exact, not the rounded, bound as its objective, and the largest entry of the
        rounded bound's gradient as its violation.
    """
    coef, intercept = _centre(coef), _centre(intercept)
    stages = (0.0,) if problem.is_smooth else _ROUNDINGS
    n_iter, status = 0, "optimal"
    for stage, rounding in enumerate(stages):
        last = stage == len(stages) - 1
        # Early stages only lead the way: a tenth of their own error is near enough.
        goal = tol if last else max(tol, 1e-2 * rounding)
        at = _Quadratic(problem, coef, intercept, rounding)
        first = None
        reached = False
        while True:
            gradient = at.gradient()
            violation = _largest(gradient)
            if problem.ridge == 0 and at.is_separating():
                status = "separable"
                break
            # The last stage takes one step past the goal, which squares the remaining error.
            if violation <= goal and (reached or not last):
                break
            if n_iter == max_iter:
                status = "optimal" if violation <= goal else "max_iter"
                break
            reached = violation <= goal
            if callback is not None:
                callback(n_iter, float(at.value), violation, coef.shape[1])
            first = first or violation
            step = _conjugate_gradients(at, gradient, min(0.1, violation / first))
            moved = _search(problem, at, gradient, step, rounding)
            if moved is None:
                status = "stalled" if last and not reached else status
                break
            at, n_iter = moved, n_iter + 1
        coef, intercept = at.coef, at.intercept
        if status != "optimal":
            break
    exact = at if rounding == 0 else _Quadratic(problem, coef, intercept, 0.0)
    return Solution(coef, intercept, float(exact.value), violation, n_iter, status)


def _conjugate_gradients(at, gradient, forcing):
    """Newton direction: H d = -g to a relative residual of `forcing`."""
    solve = at.preconditioner()
    step = tuple(torch.zeros_like(part) for part in gradient)
    residual = tuple(-part for part in gradient)
    direction = preconditioned = solve(*residual)
    energy = _dot(residual, preconditioned)
    goal = forcing**2 * energy
    for _ in range(10 * gradient[0].numel() if gradient[0].numel() < 1000 else 250):
        product = at.product(*direction)
        bend = _dot(direction, product)
        if bend <= 0:
            break
        size = energy / bend
        step = _add(step, direction, size)
        residual = _add(residual, product, -size)
        preconditioned = solve(*residual)
        renewed = _dot(residual, preconditioned)
        if renewed <= goal:
            break
        direction = _add(preconditioned, direction, renewed / energy)
        energy = renewed
    return step


def _search(problem, at, gradient, step, rounding):
    slope = _dot(gradient, step)
    size = 1.0
    while size > 1e-10:
        trial = _Quadratic(
            problem, at.coef + size * step[0], at.intercept + size * step[1], rounding
        )
        if trial.value <= at.value + 1e-4 * size * slope:
            return trial
        size /= 2
    return None


def _centre(tensor):
    """Subtract the mean over the classes, which the softmax does not see."""
    return tensor - tensor.mean(0)


def _dot(left, right):
    return (left[0] * right[0]).sum() + (left[1] * right[1]).sum()


def _add(left, right, factor):
    return left[0] + factor * right[0], left[1] + factor * right[1]


def _largest(gradient):
    return float(max(gradient[0].abs().max(), gradient[1].abs().max()))
