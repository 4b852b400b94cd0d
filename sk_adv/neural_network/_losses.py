"""Losses of logits whose gradients keep their direction where a network is sure of itself."""

import torch
from torch import nn
from torch.nn.functional import one_hot, softplus

from sk_adv.attacks import log_odds_against


class LogOddsCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy of the softmax, as the softplus of the log-odds against the true class.

    The same value as `torch.nn.CrossEntropyLoss`. Its gradient keeps its direction where the
    probability of the true class rounds to 1, which the attack in a training step depends on.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor):  # noqa: A002 (torch's name)
        """Loss of logits (n_samples, n_classes) with class indices (n_samples,)."""
        return _reduce(softplus(log_odds_against(input, target)), self.reduction)


class SigmoidCrossEntropy(nn.Module):
    """Cross-entropy of one independent sigmoid a class, summed over the classes.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default="mean"
        How the losses of the samples are joined.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor):
        """Loss of logits (n_samples, n_classes) with class indices (n_samples,)."""
        signs = 2 * one_hot(target, logits.shape[1]).to(logits.dtype) - 1
        return _reduce(softplus(-signs * logits).sum(1), self.reduction)


def _reduce(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()
