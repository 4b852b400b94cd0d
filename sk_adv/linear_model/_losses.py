"""Worst-case losses: value, gradient and curvature as functions of margins and penalties.

A loss knows neither the data nor the norm. For two classes it sees the margins
m_i = y_i (wᵀx_i + b) and the penalty ρ = max over the perturbation set of wᵀη; for more, the
logits and the penalties of all pairs of classes.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus


@dataclass(frozen=True)
class WorstCaseLogisticLoss:
    """Σ s_i [α ζ(-m_i) + (1-α) ζ(ρ - m_i)], with ζ the softplus.

    Exact for two classes: the inner maximum over the perturbation is ζ(ρ - m).
    Source: Goodfellow, Shlens and Szegedy (2015), section 5.

    Attributes
    ----------
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, of sum 1.

    alpha : float
        Weight α of the clean loss.
    """

    weight: torch.Tensor
    alpha: float

    def value(self, margin, penalty):
        """The loss, a tensor of shape ()."""
        loss = 0
        if self.alpha > 0:
            loss = self.alpha * softplus(-margin, threshold=40)
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * softplus(penalty - margin, threshold=40)
        return self.weight @ loss

    def gradient(self, margin, penalty):
        """p_i = -∂/∂m_i of the loss, and q_i, its adversarial part (Σ q = ∂/∂ρ)."""
        adversarial = (1 - self.alpha) * self.weight * torch.sigmoid(penalty - margin)
        clean = self.alpha * self.weight * torch.sigmoid(-margin)
        return clean + adversarial, adversarial

    def curvature(self, margin, penalty):
        """∂²/∂m_i² of the loss, and its adversarial part, -∂²/∂m_i∂ρ."""
        adversarial = (1 - self.alpha) * self.weight * _sigmoid_slope(penalty - margin)
        clean = self.alpha * self.weight * _sigmoid_slope(margin)
        return clean + adversarial, adversarial

    def is_separating(self, margin, penalty):
        """Whether growing w and b in proportion drives the loss to its infimum 0."""
        return bool((margin > (penalty if self.alpha < 1 else 0)).all())


def _sigmoid_slope(t):
    probability = torch.sigmoid(-t.abs())
    return probability * (1 - probability)


class PairPenalties:
    """ρ_kl = ‖ε ∘ (w_k - w_l)‖_* for all pairs of classes, with rounded kinks.

    Newton's method on √(t² + μ²) alone overshoots the kink again and again. In the max-norm the
    curvature of |t| is therefore taken as (1 - u t / ψ) / ψ with ψ = √(t² + μ²), where u is an
    estimate of t / ψ that is updated beside t. Source: Chan, Golub and Mulet, "A nonlinear
    primal-dual method for total variation-based image restoration", SIAM J. Sci. Comput. 20 (1999).

    Parameters
    ----------
    coef : torch.Tensor of shape (n_classes, n_features)
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    rounding : float, default=0.0
        Bound on how far the rounded ρ lies below the exact one; 0 is exact.
    dual : torch.Tensor of shape (n_classes, n_classes, n_features), default=None
        The estimate u, in [-1, 1]; None is t / ψ.

    Attributes
    ----------
    value : torch.Tensor of shape (n_classes, n_classes)
    slope : torch.Tensor of shape (n_classes, n_classes, n_features)
        ∂ρ_kl / ∂(w_k - w_l).
    stiffness : torch.Tensor of shape (n_classes, n_classes, n_features)
        Diagonal of the curvature in w_k - w_l, or an upper bound on it.
    """

    def __init__(self, coef, epsilon, norm, rounding=0.0, dual=None):
        self.epsilon, self.norm = epsilon, norm
        scaled = epsilon * differences(coef)
        tiny = torch.finfo(coef.dtype).tiny
        if norm == 2:
            root = (scaled.square().sum(-1, keepdim=True) + rounding**2).sqrt()
            self.value = root.squeeze(-1) - rounding
        else:
            width = rounding / len(epsilon)
            root = (scaled.square() + width**2).sqrt()
            self.value = (root - width).sum(-1)
        self.root = root.clamp(min=tiny)
        self.direction = scaled / self.root
        self.slope = epsilon * self.direction
        self.stiffness = (epsilon**2 / self.root).expand_as(scaled)
        if norm != 2:
            lagged = self.direction if dual is None else dual
            self.stiffness = self.stiffness * (1 - lagged * self.direction)

    def bend(self, change):
        """The curvature of ρ_kl times changes of w_k - w_l, (n_classes, n_classes, n_features)."""
        result = self.stiffness * change
        if self.norm == 2:
            along = (self.slope * change).sum(-1, keepdim=True)
            result = result - self.slope * along / self.root
        return result

    def next_dual(self, change):
        """The estimate u after a Newton step that changes w_k - w_l."""
        moved = self.direction + self.stiffness * change / self.epsilon.clamp(min=1e-300)
        return moved.clamp(-1, 1)


def differences(coef):
    """w_k - w_l for all pairs, of shape (n_classes, n_classes, n_features)."""
    return coef[:, None] - coef[None]
