"""Rules for classifiers with a Gaussian density for each class."""

import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from sk_adv.differentiable._as_module import as_module


class GaussianLogits(nn.Module):
    """Log-posteriors of Gaussian classes, up to a constant: log πₖ - ½ log|Σₖ| - ½ ‖Wₖ(x - μₖ)‖².

    Wₖ, with Wₖᵀ Wₖ = Σₖ⁻¹, whitens class k. Source: Hastie, Tibshirani and Friedman, "The Elements
    of Statistical Learning", 2nd edition, equation 4.12. For two classes the logits are (0, d).

    Parameters
    ----------
    means : torch.Tensor of shape (n_classes, n_features)
        The means μ.

    whitening : torch.Tensor of shape (n_classes, rank, n_features) or (n_classes, n_features)
        The matrices W, or their diagonals.

    offsets : torch.Tensor of shape (n_classes,)
        log πₖ - ½ log|Σₖ|.
    """

    def __init__(self, means, whitening, offsets):
        super().__init__()
        self.register_buffer("means", means.clone())
        self.register_buffer("whitening", whitening.to(means))
        self.register_buffer("offsets", offsets.to(means))

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        centred = X - self.means[:, None]
        if self.whitening.ndim == 2:
            white = centred * self.whitening[:, None]
        else:
            white = centred @ self.whitening.mT
        posterior = self.offsets - 0.5 * white.square().sum(2).T
        return posterior - posterior[:, :1] if len(self.means) == 2 else posterior


@as_module.register(QuadraticDiscriminantAnalysis)
def _(estimator):
    variances = [torch.as_tensor(scaling) for scaling in estimator.scalings_]
    axes = [torch.as_tensor(rotation).T for rotation in estimator.rotations_]
    # A class can span fewer axes than another; rows of zeros add nothing to the norm.
    whitening = pad_sequence(
        [axis / variance.sqrt()[:, None] for axis, variance in zip(axes, variances, strict=True)],
        batch_first=True,
    )
    log_determinants = torch.stack([variance.log().sum() for variance in variances])
    offsets = torch.as_tensor(estimator.priors_).log() - 0.5 * log_determinants
    return GaussianLogits(torch.as_tensor(estimator.means_), whitening, offsets)


@as_module.register(GaussianNB)
def _(estimator):
    variances = torch.as_tensor(estimator.var_)
    offsets = torch.as_tensor(estimator.class_prior_).log() - 0.5 * variances.log().sum(1)
    return GaussianLogits(torch.as_tensor(estimator.theta_), variances.rsqrt(), offsets)
