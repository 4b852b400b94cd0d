"""Minimiser of the convex bound on the worst-case softmax loss, for three classes and more.

The worst case of the softmax cross-entropy has no closed form. This bound is convex in W and b,
and exact for two classes:

    log Σ_k exp( (w_k - w_y)ᵀx + b_k - b_y + ρ_ky ),   ρ_kl = ‖ε ∘ (w_k - w_l)‖_* .

The norms have kinks where two classes share a weight. They are rounded off, |t| ≈ √(t² + μ²) - μ,
and the smooth problem is solved by Newton's method, conjugate gradients on exact
Hessian-vector products, for smaller and smaller μ.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from sk_adv.linear_model._binary_solver import Solution
from sk_adv.linear_model._losses import PairPenalties, differences

# By how much the rounding may lower a pair's penalty ρ_kl, a log-odds, in the first stage.
_FIRST_ROUNDING = 0.1

# Data with more entries is led to the last stage in single precision, with Hessians of some rows.
_MANY_ENTRIES = 2**22


@dataclass
class MulticlassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus ridge ‖W‖² / 2.

    Attributes
    ----------
    X : DenseDesign or SparseDesign of shape (n_samples, n_features)
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

    X: object
    y: torch.Tensor
    n_classes: int
    weight: torch.Tensor
    alpha: float
    epsilon: torch.Tensor
    norm: float
    ridge: float
    fit_intercept: bool

    @cached_property
    def mean_square(self):
        """Σ_i s_i x_ij² for each feature j."""
        return self.X.mean_square(self.weight)

    @property
    def is_large(self):
        """Whether the way to the solution is worth taking in single precision."""
        return self.X.shape[0] * self.X.shape[1] > _MANY_ENTRIES

    @property
    def is_smooth(self):
        """Whether the bound has no kinks to round off."""
        return self.alpha == 1 or not bool(self.epsilon.any())


class _Quadratic:
    """Value and gradient of the rounded objective at one point."""

    def __init__(self, problem, coef, intercept, rounding, dual=None):
        self.problem, self.coef, self.intercept, self.dual = problem, coef, intercept, dual
        self.penalties = PairPenalties(coef, problem.epsilon, problem.norm, rounding, dual)
        value = self.penalties.value
        self.logits = problem.X.product(coef.T) + intercept
        shifted = self.logits + value[problem.y]
        true = self.logits.gather(1, problem.y[:, None]).squeeze(1)
        loss = (1 - problem.alpha) * (shifted.logsumexp(1) - true)
        if problem.alpha > 0:
            loss = loss + problem.alpha * (self.logits.logsumexp(1) - true)
        self.value = problem.weight @ loss + problem.ridge / 2 * coef.square().sum()
        self.adversarial = shifted.softmax(1)
        self.clean = self.logits.softmax(1)

    @cached_property
    def mass(self):
        """Derivatives of the objective in the penalties of the pairs."""
        weight = (1 - self.problem.alpha) * self.problem.weight[:, None]
        return _sum_by_pair(weight * self.adversarial, self.problem.y)

    def gradient(self):
        """Gradient in W and b."""
        problem, weight = self.problem, self.problem.weight[:, None]
        mixed = (1 - problem.alpha) * self.adversarial + problem.alpha * self.clean
        residual = weight * mixed
        residual[torch.arange(len(residual)), problem.y] -= problem.weight
        coef = problem.X.transposed_product(residual).T + problem.ridge * self.coef
        coef += torch.einsum("kl,klj->kj", self.mass, self.penalties.slope)
        return coef, self.free_intercept(residual.sum(0))

    def is_separating(self):
        """Whether every sample is right by more than the exact penalty of each pair."""
        problem = self.problem
        penalty = PairPenalties(self.coef, problem.epsilon, problem.norm).value
        if problem.alpha == 1:
            penalty = torch.zeros_like(penalty)
        threat = self.logits + penalty[problem.y]
        threat = threat.scatter(1, problem.y[:, None], -torch.inf).amax(1)
        return bool((self.logits.gather(1, problem.y[:, None]).squeeze(1) > threat).all())

    def free_intercept(self, intercept):
        """The intercept's part of a vector, or 0 if it is not fitted."""
        return intercept if self.problem.fit_intercept else torch.zeros_like(intercept)


@dataclass
class RowSketch:
    """The rows that a Hessian is made of: all of them, or a random share with larger weights.

    Attributes
    ----------
    X : DenseDesign or SparseDesign of shape (n_rows, n_features)
        In single precision, if the data is large.
    y : torch.Tensor of shape (n_rows,)
    weight : torch.Tensor of shape (n_rows,)
        Of sum 1.
    rows : torch.Tensor of shape (n_rows,) or slice
        Where the rows stand in the data.
    """

    X: object
    y: torch.Tensor
    weight: torch.Tensor
    rows: object

    @classmethod
    def draw(cls, problem, share):
        """Take a share of the rows, if there are many; the same rows each time."""
        n_rows, _ = problem.X.shape
        if not problem.is_large:
            return cls(problem.X, problem.y, problem.weight, slice(None))
        rows = slice(None)
        if share < 1:
            order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(0))
            rows = order[: int(share * n_rows)].sort().values.to(problem.y.device)
        weight = problem.weight[rows]
        return cls(problem.X.rough(rows), problem.y[rows], weight / weight.sum(), rows)


class _Curvature:
    """Hessian-vector products, and an approximate inverse, at one point."""

    def __init__(self, at, sketch):
        self.at, self.sketch = at, sketch
        problem = at.problem
        weight = sketch.weight[:, None]
        self.parts = [
            (share * weight, probability[sketch.rows])
            for share, probability in (
                (1 - problem.alpha, at.adversarial),
                (problem.alpha, at.clean),
            )
        ]

    def product(self, coef, intercept):
        """Hessian times (coef, intercept)."""
        at, problem = self.at, self.at.problem
        change = differences(coef)
        penalties = torch.einsum("klj,klj->kl", at.penalties.slope, change)
        logits = self.sketch.X.product(coef.T) + intercept
        bounded = _softmax_change(*self.parts[0], logits + penalties[self.sketch.y])
        residual = bounded
        if problem.alpha > 0:
            residual = bounded + _softmax_change(*self.parts[1], logits)
        result = self.sketch.X.transposed_product(residual).T
        result = result + problem.ridge * coef
        by_pair = _sum_by_pair(bounded, self.sketch.y)
        result += torch.einsum("kl,klj->kj", by_pair, at.penalties.slope)
        result += torch.einsum("kl,klj->kj", at.mass, at.penalties.bend(change))
        return result, at.free_intercept(residual.sum(0))

    def preconditioner(self):
        """Approximate inverse: one block of all classes for each feature."""
        at, problem = self.at, self.at.problem
        n_classes = problem.n_classes
        mean = at.coef.new_zeros(n_classes, n_classes)
        for weight, probability in self.parts:
            weighted = weight * probability
            mean += torch.diag(weighted.sum(0)) - weighted.T @ probability
        stiff = (at.mass[..., None] * at.penalties.stiffness).permute(2, 0, 1)
        laplacian = torch.diag_embed(stiff.sum(-1)) - stiff
        identity = torch.eye(n_classes, dtype=mean.dtype, device=mean.device)
        # Features that are always 0, and the direction in which all classes move alike, have no
        # curvature of their own.
        floor = 1e-2 * (mean.diagonal().max() + 1e-300)
        scale = problem.mean_square
        blocks = scale[:, None, None] * mean + laplacian + problem.ridge * identity
        blocks += (floor * (scale.max() + 1e-300)) * identity
        features = torch.linalg.inv(blocks)
        offset = torch.linalg.inv(mean + floor * identity)

        def apply(coef, intercept):
            coef = torch.einsum("jkl,lj->kj", features, coef)
            return _centre(coef), at.free_intercept(_centre(offset @ intercept))

        return apply


def minimise_bound(problem, start, *, tol, max_iter, refine=True, callback=None):
    """Minimise the bound until the gradient's largest entry is below `tol`.

    Parameters
    ----------
    problem : MulticlassProblem
    start : Start
    tol : float
    max_iter : int
        Newton iterations, over all stages of the rounding.
    refine : bool, default=True
        Whether to take one step past the tolerance, which squares the remaining error; large
        data is spared it.
    callback : callable, default=None
        Called as `callback(n_iter, objective, violation, n_working)` once an iteration.

    Returns
    -------
    Solution
        With the exact, not the rounded, bound as its objective, and the largest entry of the
        rounded bound's gradient as its violation.
    """
    coef, intercept = _centre(start.coef), _centre(start.intercept)
    if coef.any() and _Quadratic(problem, coef, intercept, 0.0).value > math.log(problem.n_classes):
        # Worse than no weights at all, whose objective this is: a solution for another radius.
        coef, intercept = torch.zeros_like(coef), torch.zeros_like(intercept)
    stages = _stages(problem, tol)
    n_iter, status, dual = 0, "optimal", None
    if problem.norm != 2 and not problem.is_smooth:
        dual = torch.zeros_like(differences(coef))
        if coef.any():
            # A solution to start from needs no leading stages.
            stages = stages[-1:]
            dual = PairPenalties(coef, problem.epsilon, problem.norm, stages[0]).direction
    leading = replace(problem, X=problem.X.rough()) if problem.is_large else problem
    refine = refine and not problem.is_large
    for stage, rounding in enumerate(stages):
        last = stage == len(stages) - 1
        # Early stages only lead the way: a part of their own error is near enough.
        goal = tol if last else max(tol, 0.1 * rounding)
        sketch = RowSketch.draw(leading, 1 if rounding < 1e-2 else 0.25)
        at = _Quadratic(problem if last else leading, coef, intercept, rounding, dual)
        first = None
        reached = False
        while True:
            gradient = at.gradient()
            violation = _largest(gradient)
            if problem.ridge == 0 and at.is_separating():
                status = "separable"
                break
            if violation <= goal and (reached or not last or not refine):
                break
            if n_iter == max_iter:
                status = "optimal" if violation <= goal else "max_iter"
                break
            reached = violation <= goal
            if callback is not None:
                callback(n_iter, float(at.value), violation, coef.shape[1])
            first = first or violation
            forcing = violation / first
            if violation > goal:
                # A step need not go far past the goal.
                forcing = max(forcing, 0.3 * goal / violation)
            step = _conjugate_gradients(_Curvature(at, sketch), gradient, min(0.1, forcing))
            moved = _search(at, gradient, step, rounding)
            if moved is None:
                status = "stalled" if last and not reached else status
                break
            at, n_iter = moved, n_iter + 1
        coef, intercept, dual = at.coef, at.intercept, at.dual
        if status != "optimal":
            break
    exact = at if rounding == 0 else _Quadratic(problem, coef, intercept, 0.0)
    return Solution(
        coef=coef,
        intercept=intercept,
        objective=float(exact.value),
        violation=violation,
        n_iter=n_iter,
        status=status,
    )


def _stages(problem, tol):
    """Roundings that fall to ten times `tol`, which bounds the error that is left in each ρ."""
    if problem.is_smooth:
        return (0.0,)
    final = min(10 * tol, _FIRST_ROUNDING)
    n_stages = 1 + math.ceil(round(math.log10(_FIRST_ROUNDING / final), 6))
    return np.geomspace(_FIRST_ROUNDING, final, n_stages)


def _conjugate_gradients(curvature, gradient, forcing):
    """Newton direction: H d = -g to a relative residual of `forcing`."""
    solve = curvature.preconditioner()
    step = tuple(torch.zeros_like(part) for part in gradient)
    residual = tuple(-part for part in gradient)
    direction = preconditioned = solve(*residual)
    energy = _dot(residual, preconditioned)
    goal = forcing**2 * energy
    for _ in range(10 * gradient[0].numel() if gradient[0].numel() < 1000 else 250):
        product = curvature.product(*direction)
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


def _search(at, gradient, step, rounding):
    slope = _dot(gradient, step)
    dual = None if at.dual is None else at.penalties.next_dual(differences(step[0]))
    size = 1.0
    while size > 1e-10:
        coef, intercept = at.coef + size * step[0], at.intercept + size * step[1]
        trial = _Quadratic(at.problem, coef, intercept, rounding, dual)
        if trial.value <= at.value + 1e-4 * size * slope:
            return trial
        size /= 2
    return None


def _softmax_change(weight, probability, change):
    """Weighted change of a softmax with the change of its logits."""
    return weight * probability * (change - (probability * change).sum(1, keepdim=True))


def _sum_by_pair(bounded, y):
    """Sum rows by true class, symmetrised: the factors of the pairs' penalties."""
    n_classes = bounded.shape[1]
    mass = bounded.new_zeros(n_classes, n_classes).index_add_(0, y, bounded)
    mass.fill_diagonal_(0)
    return mass + mass.T


def _centre(tensor):
    """Subtract the mean over the classes, which the softmax does not see."""
    return tensor - tensor.mean(0)


def _dot(left, right):
    return (left[0] * right[0]).sum() + (left[1] * right[1]).sum()


def _add(left, right, factor):
    return left[0] + factor * right[0], left[1] + factor * right[1]


def _largest(gradient):
    return float(max(gradient[0].abs().max(), gradient[1].abs().max()))
