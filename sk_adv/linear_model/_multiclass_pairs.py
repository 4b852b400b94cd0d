"""Euclidean penalties of each two classes, and sums over pairs of classes.

A sum of the kind Σ_l A_kl (w_k - w_l), with symmetric A, is a product with the Laplacian of A, so
that no array of pairs and features is formed.
"""

import torch


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


def laplacian(pairs):
    """diag(Σ_l A_kl) - A: it maps w to Σ_l A_kl (w_k - w_l), for a symmetric matrix A."""
    return torch.diag(pairs.sum(1)) - pairs


def centre(tensor):
    """Subtract the mean over the classes, which does not change the softmax."""
    return tensor - tensor.mean(0)


def sum_by_pair(bounded, y):
    """Sums by true class, symmetrised: the factors of the pairs' penalties."""
    n_classes = bounded.shape[1]
    mass = bounded.new_zeros(n_classes, n_classes).index_add_(0, y, bounded)
    mass.fill_diagonal_(0)
    return mass + mass.T
