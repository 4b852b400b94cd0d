"""Losses of two classes under the worst perturbation.

A loss depends on the margins m_i = y_i (wᵀx_i + b) and on the penalty ρ, the maximum of wᵀη over
the perturbation set. It knows neither the data nor the norm. The solver needs these methods:

    value(margin, penalty)            the loss, a tensor of shape ()
    gradient(margin, penalty)         p_i = -∂/∂m_i, and its adversarial part q_i (Σ q = ∂/∂ρ)
    curvature(margin, penalty)        ∂²/∂m_i², and its adversarial part -∂²/∂m_i∂ρ
    is_separating(margin, penalty)    whether the loss falls for ever as w and b grow
    constant_intercept(y)             the best intercept for w = 0

A loss must be convex, and must not fall with ρ or rise with m_i. It may depend on ρ only through
ρ - m_i, because the solver takes ∂²/∂ρ² to be the sum of the adversarial curvatures.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus


@dataclass(frozen=True)
class WorstCaseLogisticLoss:
    """Σ s_i [α ζ(-m_i) + (1-α) ζ(ρ - m_i)], with ζ the softplus.

    ζ(ρ - m) is the exact maximum of the logistic loss over the perturbation set.
    Source: Goodfellow, Shlens and Szegedy (2015), section 5.

    Attributes
    ----------
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, which sum to 1.

    alpha : float
        Weight α of the clean loss.
    """

    weight: torch.Tensor
    alpha: float

    def value(self, margin, penalty):
        """The loss."""
        loss = 0
        if self.alpha > 0:
            loss = self.alpha * softplus(-margin, threshold=40)
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * softplus(penalty - margin, threshold=40)
        return self.weight @ loss

    def gradient(self, margin, penalty):
        """p_i and its adversarial part q_i."""
        adversarial = (1 - self.alpha) * self.weight * torch.sigmoid(penalty - margin)
        if self.alpha == 0:
            return adversarial, adversarial
        clean = self.alpha * self.weight * torch.sigmoid(-margin)
        return clean + adversarial, adversarial

    def curvature(self, margin, penalty):
        """Second derivatives in m_i, and their adversarial part."""
        adversarial = (1 - self.alpha) * self.weight * _sigmoid_slope(penalty - margin)
        if self.alpha == 0:
            return adversarial, adversarial
        clean = self.alpha * self.weight * _sigmoid_slope(margin)
        return clean + adversarial, adversarial

    def is_separating(self, margin, penalty):
        """Whether the loss falls to 0 as w and b grow in proportion."""
        return bool((margin > (penalty if self.alpha < 1 else 0)).all())

    def constant_intercept(self, y):
        """The log-odds of the class shares."""
        return (self.weight @ (y > 0).to(y)).logit()


def _sigmoid_slope(t):
    probability = torch.sigmoid(-t.abs())
    return probability * (1 - probability)
