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
