"""The geometry of the perturbation set {η : ‖η / ε‖ ≤ 1}: steps, projection, dual norm.

All functions take tensors whose last axes hold the features; `epsilon` is a tensor of shape
() or of one sample's shape. A feature with radius 0 never moves.
"""

import numpy as np
import torch

from sk_adv._devices import to_tensor


def _flat_norm(tensor):
    """Euclidean norm of each sample, with the feature axes kept for broadcasting."""
    norms = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (tensor.ndim - 1))


def steepest_step(gradient, epsilon, norm):
    """The step of radius ε that raises the linearised loss most.

    max-norm: ε sign(g); Euclidean: ε ∘ (ε ∘ g) / ‖ε ∘ g‖₂. A zero gradient gives a zero step.
    Source: Goodfellow, Shlens and Szegedy (2015), section 4.
    """
    if norm == np.inf:
        return gradient.sign().mul_(epsilon)
    # Scaling by the largest entry first keeps squares of tiny gradients from underflowing.
    largest = gradient.abs().flatten(1).amax(1).reshape(-1, *[1] * (gradient.ndim - 1))
    scaled = epsilon * torch.nan_to_num(gradient / largest)
    length = _flat_norm(scaled)
    return torch.where(length > 0, epsilon * scaled / length, torch.zeros_like(scaled))


def project(perturbation, epsilon, norm):
    """Bring a perturbation back into the set: nearest point in the units of ε."""
    if norm == np.inf:
        return torch.clamp(perturbation, -epsilon, epsilon)
    scaled = _in_radii(perturbation, epsilon)
    return epsilon * scaled / torch.clamp(_flat_norm(scaled), min=1.0)


def _in_radii(perturbation, epsilon):
    return torch.where(epsilon > 0, perturbation / epsilon, torch.zeros_like(perturbation))


def uniform_sample(shape, epsilon, norm, *, generator, dtype):
    """Draw perturbations uniformly from the set, in the units of X."""
    options = {"generator": generator, "dtype": dtype, "device": generator.device}
    if norm == np.inf:
        return epsilon * (2 * torch.rand(shape, **options) - 1)
    direction = torch.randn(shape, **options)
    direction /= _flat_norm(direction)
    # ε_j = 0 removes an axis: the dimension of the ball is the number of positive radii.
    dimension = int((epsilon > 0).expand(shape[1:]).sum())
    if dimension < direction[0].numel():
        direction = direction * (epsilon > 0)
        direction /= _flat_norm(direction).clamp(min=torch.finfo(dtype).tiny)
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
    dimension = int((epsilon > 0).expand(shape[1:]).sum())
    return epsilon * signs / max(dimension, 1) ** 0.5


def clip(X, bounds):
    """Bring X into its valid range: None, or a pair (low, high) of tensors or numbers."""
    if bounds is None:
        return X
    low, high = (to_tensor(bound, dtype=X.dtype, device=X.device) for bound in bounds)
    return torch.clamp(X, low, high)


def primal_norm(perturbation, epsilon, norm):
    """‖η / ε‖ of each sample, with the feature axes kept; features of radius 0 don't count."""
    scaled = _in_radii(perturbation, epsilon)
    if norm == 2:
        return _flat_norm(scaled)
    return scaled.abs().flatten(1).amax(1).reshape(-1, *[1] * (scaled.ndim - 1))


def dual_norm(weights, epsilon, norm):
    """max over the set of wᵀη, for each row of `weights` (..., n_features).

    max-norm: Σ_j ε_j |w_j|; Euclidean: (Σ_j ε_j² w_j²)^½.
    """
    scaled = epsilon * weights
    return torch.linalg.vector_norm(scaled, ord=1 if norm == np.inf else 2, dim=-1)
