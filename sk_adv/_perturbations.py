"""The geometry of the perturbation set {η : ‖η / ε‖ ≤ 1}: steps, projection, dual norm.

All functions take tensors whose last axes hold the features; `epsilon` is a tensor of shape
() or of one sample's shape. A feature with radius 0 never moves.
"""

import numpy as np
import torch

from sk_adv._devices import to_tensor


def euclidean_norm(tensor):
    """Euclidean norm of each sample, with the feature axes kept for broadcasting."""
    norms = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (tensor.ndim - 1))


def largest_entry(tensor):
    """Largest absolute value of each sample, with the feature axes kept for broadcasting."""
    return tensor.abs().flatten(1).amax(1).reshape(-1, *[1] * (tensor.ndim - 1))


def by_largest(gradient):
    """Each sample's gradient over its largest entry, so that no square underflows; zero stays."""
    return torch.nan_to_num(gradient / largest_entry(gradient))


def steepest_step(gradient, epsilon, norm):
    """The step of radius ε that raises the linearised loss most.

    max-norm: ε sign(g); Euclidean: ε ∘ (ε ∘ g) / ‖ε ∘ g‖₂. A zero gradient gives a zero step.
    Source: Goodfellow, Shlens and Szegedy (2015), section 4.
    """
    if norm == np.inf:
        return gradient.sign().mul_(epsilon)
    scaled = epsilon * by_largest(gradient)
    length = euclidean_norm(scaled)
    return torch.where(length > 0, epsilon * scaled / length, torch.zeros_like(scaled))


def steepest_step_within(gradient, epsilon, norm, room):
    """The step within the set, and within `room`, that raises the linearised loss most.

    `room` is None or a pair of tensors (lowest <= 0, highest >= 0), and samples are rows. In the
    Euclidean norm, with v = |η| / ε, g = ε ∘ |gradient| and k the room for v, the conditions of
    Karush, Kuhn and Tucker give v = min(τ g, k), where τ makes ‖v‖ = 1, or v = k if ‖k‖ <= 1. For
    each set S of features

        Σ_S k² + τ² Σ_{not S} g²  >=  ‖min(τ g, k)‖² ,

    with equality where S holds what is capped: so τ is the largest of those that make the left
    side 1, and S need only run over the features in the order in which growing τ caps them.
    """
    if room is None:
        return steepest_step(gradient, epsilon, norm)
    if norm == np.inf:
        return torch.clamp(steepest_step(gradient, epsilon, norm), *room)
    g = by_largest(epsilon * gradient.abs())
    lowest, highest = room
    k = torch.where(g > 0, torch.where(gradient > 0, highest, -lowest) / epsilon, 0.0)
    order = (k / g).nan_to_num(nan=torch.inf).argsort(1)
    k_squared, g_squared = (k**2).gather(1, order), (g**2).gather(1, order)
    left = 1 - (k_squared.cumsum(1) - k_squared)
    rest = g_squared.flip(1).cumsum(1).flip(1)
    tau = (left.clamp(min=0) / rest).sqrt().nan_to_num(nan=0.0).amax(1, keepdim=True)
    return epsilon * torch.minimum(tau * g, k) * gradient.sign()


def project(perturbation, epsilon, norm):
    """Bring a perturbation back into the set: nearest point in the units of ε."""
    if norm == np.inf:
        return torch.clamp(perturbation, -epsilon, epsilon)
    scaled = _in_radii(perturbation, epsilon)
    return epsilon * scaled / torch.clamp(euclidean_norm(scaled), min=1.0)


def _in_radii(perturbation, epsilon):
    return torch.where(epsilon > 0, perturbation / epsilon, torch.zeros_like(perturbation))


def uniform_sample(shape, epsilon, norm, *, generator, dtype):
    """Draw perturbations uniformly from the set, in the units of X."""
    options = {"generator": generator, "dtype": dtype, "device": generator.device}
    if norm == np.inf:
        return epsilon * (2 * torch.rand(shape, **options) - 1)
    direction = torch.randn(shape, **options)
    direction /= euclidean_norm(direction)
    dimension = _dimension(epsilon, shape)
    if dimension < direction[0].numel():
        direction = direction * (epsilon > 0)
        direction /= euclidean_norm(direction).clamp(min=torch.finfo(dtype).tiny)
    radius = torch.rand(shape[0], **options) ** (1 / max(dimension, 1))
    return epsilon * direction * radius.reshape(-1, *[1] * (len(shape) - 1))


def sign_sample(shape, epsilon, norm, *, generator, dtype):
    """Draw the signs of a perturbation of full radius: ε ∘ s, and ε ∘ s / √d in the Euclidean norm.

    d is the number of positive radii.
    """
    options = {"generator": generator, "dtype": dtype, "device": generator.device}
    signs = 2 * torch.randint(2, shape, **options) - 1
    if norm == np.inf:
        return epsilon * signs
    return epsilon * signs / max(_dimension(epsilon, shape), 1) ** 0.5


def _dimension(epsilon, shape):
    # ε_j = 0 removes an axis: the dimension of the ball is the number of positive radii.
    return int((epsilon > 0).expand(shape[1:]).sum())


def clip(X, bounds, out=None):
    """Bring X into its valid range: None, or a pair (low, high) of tensors or numbers."""
    if bounds is None:
        return X
    # With numbers it takes an eighth of the time; those of tensors would have to be waited for.
    if not any(isinstance(bound, torch.Tensor) or np.ndim(bound) for bound in bounds):
        return torch.clamp(X, *map(float, bounds), out=out)
    low, high = (to_tensor(bound, dtype=X.dtype, device=X.device) for bound in bounds)
    return torch.clamp(X, low, high, out=out)


def primal_norm(perturbation, epsilon, norm):
    """‖η / ε‖ of each sample, with the feature axes kept; features of radius 0 don't count."""
    scaled = _in_radii(perturbation, epsilon)
    if norm == 2:
        return euclidean_norm(scaled)
    return largest_entry(scaled)


def dual_norm(weights, epsilon, norm):
    """max over the set of wᵀη, for each row of `weights` (..., n_features).

    max-norm: Σ_j ε_j |w_j|; Euclidean: (Σ_j ε_j² w_j²)^½.
    """
    scaled = epsilon * weights
    return torch.linalg.vector_norm(scaled, ord=1 if norm == np.inf else 2, dim=-1)
