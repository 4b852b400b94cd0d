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
from functools import cached_property

import torch

from sk_adv.linear_model._newton import append

# Entries of X above which the early stages compute in single precision, on a part of the samples.
_MANY_ENTRIES = 2**22


@dataclass
class MulticlassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus Σ_j ridge_j ‖w_j‖² / 2.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,), int64
        Class indices.
    n_classes : int
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, which sum to 1.
    alpha : float
    epsilon : torch.Tensor of shape (n_features,)
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w².
    fit_intercept : bool
    """

    X: object
    y: torch.Tensor
    n_classes: int
    weight: torch.Tensor
    alpha: float
    epsilon: torch.Tensor
    ridge: torch.Tensor
    fit_intercept: bool

    @cached_property
    def mean_square(self):
        """Σ_i s_i x_ij² for each feature j."""
        return self.X.mean_square(self.weight)

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    @property
    def is_large(self):
        return self.X.shape[0] * self.X.shape[1] > _MANY_ENTRIES

    @property
    def is_smooth(self):
        """Whether the bound has no kinks."""
        return self.alpha == 1 or not bool(self.epsilon.any())

    def with_intercept(self, coef, intercept):
        """One matrix of both parts; the intercepts' part is 0 if they are not fitted."""
        return append(coef, intercept if self.fit_intercept else torch.zeros_like(intercept))


class MulticlassPoint:
    """An iterate, with the objective, gradient and largest violation of the rounded bound.

    `rounding` is that of `PairPenalties`.
    """

    def __init__(self, problem, coef, intercept, rounding=0.0):
        self.problem, self.coef, self.intercept = problem, coef, intercept
        self.rounding = rounding
        self.penalties = PairPenalties(coef, problem.epsilon, rounding)
        self.logits = problem.X.logits(coef) + intercept
        shifted = self.logits + self.penalties.value[problem.y]
        true = self._true_logits()
        loss = (1 - problem.alpha) * (shifted.logsumexp(1) - true)
        if problem.alpha > 0:
            loss = loss + problem.alpha * (self.logits.logsumexp(1) - true)
        self.objective = problem.weight @ loss + (problem.ridge * coef.square()).sum() / 2
        self.adversarial = shifted.softmax(1)
        self.clean = self.logits.softmax(1)

    @cached_property
    def mass(self):
        """Derivatives of the objective in the pairs' penalties."""
        weight = (1 - self.problem.alpha) * self.problem.weight[:, None]
        return _sum_by_pair(weight * self.adversarial, self.problem.y)

    @cached_property
    def gradient(self):
        """Gradient in W and b."""
        problem, weight = self.problem, self.problem.weight[:, None]
        mixed = (1 - problem.alpha) * self.adversarial + problem.alpha * self.clean
        residual = weight * mixed
        residual[torch.arange(len(residual)), problem.y] -= problem.weight
        coef = problem.X.gradient(residual.T) + problem.ridge * self.coef
        coef += self.penalties.gradient(self.mass)
        return problem.with_intercept(coef, residual.sum(0))

    @cached_property
    def violation(self):
        """Largest entry of the gradient."""
        return float(self.gradient.abs().max())

    def lacks_minimum(self):
        """Whether the bound falls to 0 as W and b grow: all samples are robustly right."""
        problem = self.problem
        if problem.has_ridge:
            return False
        threat = self.logits
        if problem.alpha < 1:
            penalties = PairPenalties(self.coef, problem.epsilon)
            threat = threat + penalties.value[problem.y]
        threat = threat.scatter(1, problem.y[:, None], -torch.inf).amax(1)
        return bool((self._true_logits() > threat).all())

    def _true_logits(self):
        return self.logits.gather(1, self.problem.y[:, None]).squeeze(1)


class PairPenalties:
    """ρ_kl = ‖ε ∘ (w_k - w_l)‖₂ for all pairs of classes, with rounded kinks.

    Parameters
    ----------
    coef : torch.Tensor of shape (n_classes, n_features)
    epsilon : torch.Tensor of shape (n_features,)
    rounding : float, default=0.0
        Bound on how far the rounded ρ lies below the exact one; 0 is exact.

    Attributes
    ----------
    value : torch.Tensor of shape (n_classes, n_classes)
        ρ.
    root : torch.Tensor of shape (n_classes, n_classes)
        √(ρ² + μ²), by which slopes and curvatures are divided.
    """

    def __init__(self, coef, epsilon, rounding=0.0):
        scaled = epsilon * coef
        # Differences of products would lose the digits of small distances.
        distance = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist")
        root = (distance.square() + rounding**2).sqrt()
        self.value = root - rounding
        self.root = root.clamp(min=torch.finfo(coef.dtype).tiny)
        self.square, self.leverage = epsilon**2, epsilon**2 * coef

    def gradient(self, mass):
        """Σ_kl mass_kl ∂ρ_kl / ∂W, over pairs k < l, for a symmetric matrix of masses."""
        return laplacian(mass / self.root) @ self.leverage

    def changes(self, coef):
        """Derivatives of all ρ_kl along a change of W."""
        product = self.leverage @ coef.T
        own = product.diagonal()
        return (own[:, None] + own - product - product.T) / self.root

    def curvature_product(self, mass, coef, changes):
        """Σ_kl mass_kl ∂²ρ_kl times a change of W, along which the ρ have these `changes`."""
        product = laplacian(mass / self.root) @ (self.square * coef)
        return product - self.gradient(mass * changes / self.root)


@dataclass
class RowSketch:
    """The samples that a Hessian is made of: all, or a random part with larger weights.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_rows, n_features)
        In single precision, if the data is large.
    y : torch.Tensor of shape (n_rows,)
    weight : torch.Tensor of shape (n_rows,)
        Their sum is 1.
    rows : torch.Tensor of shape (n_rows,) or slice
        Positions of these samples in the data.
    """

    X: object
    y: torch.Tensor
    weight: torch.Tensor
    rows: object

    @classmethod
    def draw(cls, problem, share):
        """Draw a share of the samples of large data; the same ones in each call."""
        n_rows, n_features = problem.X.shape
        # Fewer samples than features would leave directions without curvature.
        if share == 1 or not problem.is_large or share * n_rows < n_features:
            return cls(problem.X, problem.y, problem.weight, slice(None))
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(0))
        rows = order[: int(share * n_rows)].sort().values.to(problem.y.device)
        weight = problem.weight[rows]
        return cls(problem.X.taken(rows), problem.y[rows], weight / weight.sum(), rows)


class MulticlassHessian:
    """The Hessian at a `MulticlassPoint`, from the samples of a `RowSketch`; never formed."""

    def __init__(self, point, sketch):
        self.point, self.sketch = point, sketch
        problem = point.problem
        weight = sketch.weight[:, None]
        self.parts = [
            (share * weight, probability[sketch.rows])
            for share, probability in (
                (1 - problem.alpha, point.adversarial),
                (problem.alpha, point.clean),
            )
        ]

    def product(self, step):
        """The Hessian times a step."""
        point, problem, sketch = self.point, self.point.problem, self.sketch
        coef, intercept = step[:, :-1], step[:, -1]
        changes = point.penalties.changes(coef)
        logits = sketch.X.logits(coef) + intercept
        bounded = _softmax_change(*self.parts[0], logits + changes[sketch.y])
        residual = bounded
        if problem.alpha > 0:
            residual = bounded + _softmax_change(*self.parts[1], logits)
        result = sketch.X.gradient(residual.T) + problem.ridge * coef
        result += point.penalties.gradient(_sum_by_pair(bounded, sketch.y))
        result += point.penalties.curvature_product(point.mass, coef, changes)
        return problem.with_intercept(result, residual.sum(0))

    def preconditioner(self):
        """A function that multiplies with an approximate inverse: one block for each feature."""
        point, problem = self.point, self.point.problem
        n_classes = problem.n_classes
        mean = point.coef.new_zeros(n_classes, n_classes)
        for weight, probability in self.parts:
            weighted = weight * probability
            mean += torch.diag(weighted.sum(0)) - weighted.T @ probability
        identity = torch.eye(n_classes, dtype=mean.dtype, device=mean.device)
        # Features that are always 0, and a change that is the same for all classes, have no
        # curvature of their own.
        floor = 1e-2 * (mean.diagonal().max() + 1e-300)
        stiff = laplacian(point.mass / point.penalties.root)
        blocks = problem.mean_square[:, None, None] * mean + floor * identity
        blocks += problem.epsilon[:, None, None] ** 2 * stiff
        blocks += problem.ridge[:, None, None] * identity
        features = torch.linalg.inv(blocks)
        offset = torch.linalg.inv(mean + floor * identity)

        def apply(step):
            coef = torch.einsum("jkl,lj->kj", features, step[:, :-1])
            return problem.with_intercept(centre(coef), centre(offset @ step[:, -1]))

        return apply


def laplacian(pairs):
    """diag(Σ_l A_kl) - A: it maps w to Σ_l A_kl (w_k - w_l), for a symmetric matrix A."""
    return torch.diag(pairs.sum(1)) - pairs


def centre(tensor):
    """Subtract the mean over the classes, which does not change the softmax."""
    return tensor - tensor.mean(0)


def _softmax_change(weight, probability, change):
    """Weighted change of a softmax for a change of its logits."""
    return weight * probability * (change - (probability * change).sum(1, keepdim=True))


def _sum_by_pair(bounded, y):
    """Sums by true class, symmetrised: the factors of the pairs' penalties."""
    n_classes = bounded.shape[1]
    mass = bounded.new_zeros(n_classes, n_classes).index_add_(0, y, bounded)
    mass.fill_diagonal_(0)
    return mass + mass.T
