"""Losses of logits whose gradients keep their direction where a network is sure of itself."""

import torch
from torch import nn
from torch.nn.functional import logsigmoid, one_hot, softplus

from sk_adv.attacks import log_odds_against


class LogOddsCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy of the softmax, as the softplus of the log-odds against the true class.

    The same value as `torch.nn.CrossEntropyLoss`. Its gradient keeps its direction where the
    probability of the true class rounds to 1, which the attack in a training step depends on.
    With `weight`, `label_smoothing` or `ignore_index` it is `torch.nn.CrossEntropyLoss` itself,
    whose gradient is lost there.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor):  # noqa: A002 (torch's name)
        """Loss of logits (n_samples, n_classes) with class indices (n_samples,)."""
        if _has_options(self):
            return super().forward(input, target)
        return _reduce(_softplus(log_odds_against(input, target)), self.reduction)


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
        return _reduce(_softplus(-signs * logits).sum(1), self.reduction)


def is_softmax_cross_entropy(criterion):
    """Whether a loss is an increasing function of the log-odds against the true class."""
    criterion = getattr(criterion, "_orig_mod", criterion)
    return isinstance(criterion, nn.CrossEntropyLoss) and not _has_options(criterion)


def scaled_sigmoids(logits):
    """Independent sigmoids, scaled to a sum of 1, as probabilities of the classes."""
    return logsigmoid(logits).softmax(1)


def _has_options(criterion):
    # -100 stands for no index at all.
    has_weight, ignores = criterion.weight is not None, criterion.ignore_index != -100
    return has_weight or ignores or criterion.label_smoothing > 0


def _softplus(values):
    """log(1 + exp(t)), with a slope that stays positive where that of exp(t) underflows.

    What is added for it is less than 1e-15, and too little to show in the slope for t > -25.
    """
    tiny = torch.finfo(values.dtype).tiny ** 0.5
    return torch.add(softplus(values), softplus(values, beta=1e-4), alpha=tiny)


def _reduce(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()
