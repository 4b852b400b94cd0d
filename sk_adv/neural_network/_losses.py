"""Losses of logits whose gradients keep their direction where a network is very confident."""

import torch
from torch import nn
from torch.nn.functional import logsigmoid, one_hot, softplus

from sk_adv.attacks import log_odds_against
from sk_adv.attacks._objective import at_least_single


class LogOddsCrossEntropy(nn.CrossEntropyLoss):
    """Softmax cross-entropy, computed as the softplus of the log-odds against the true class.

    The value is that of `torch.nn.CrossEntropyLoss`. Unlike there, the gradient keeps its direction
    where the probability of the true class rounds to 1; the attack in a training step needs it.
    With `weight`, `label_smoothing` or `ignore_index`, torch's own computation is used, and the
    gradient is lost in such places.

    The loss of logits in float16 or bfloat16 is computed, and returned, in float32. The gradient on
    logits in float16 is still lost where it is less than 6e-8, the smallest such number.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor):  # noqa: A002 (torch's name)
        """The loss of logits (n_samples, n_classes) and class indices (n_samples,), reduced."""
        if _has_options(self):
            return super().forward(input, target)
        return _reduce(_softplus(log_odds_against(input, target)), self.reduction)


class SigmoidCrossEntropy(nn.Module):
    """Cross-entropy of one independent sigmoid per class, summed over the classes.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default="mean"
        How the losses of the samples are combined.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor):
        """The loss of logits (n_samples, n_classes) and class indices (n_samples,), reduced."""
        logits = at_least_single(logits)
        signs = 2 * one_hot(target, logits.shape[1]).to(logits.dtype) - 1
        return _reduce(_softplus(-signs * logits).sum(1), self.reduction)


def divergence(clean, logits, *, of_sigmoids=False):
    """KL(p ‖ q) of each sample, for the class probabilities p, q of two rows of logits.

    Parameters
    ----------
    clean, logits : torch.Tensor of shape (n_samples, n_classes)
        The logits of p and of q.
    of_sigmoids : bool, default=False
        Whether the probabilities are independent sigmoids, whose divergences are summed, in place
        of a softmax.

    Returns
    -------
    torch.Tensor of shape (n_samples,)
    """
    clean, logits = at_least_single(clean), at_least_single(logits)
    if not of_sigmoids:
        clean, logits = clean.log_softmax(1), logits.log_softmax(1)
        return (clean.exp() * (clean - logits)).sum(1)
    yes = clean.sigmoid() * (logsigmoid(clean) - logsigmoid(logits))
    return (yes + (-clean).sigmoid() * (logsigmoid(-clean) - logsigmoid(-logits))).sum(1)


def compares_logits(criterion):
    """Whether a loss is known to depend on the differences of a sample's logits only."""
    kind = type(getattr(criterion, "_orig_mod", criterion))
    known = (nn.CrossEntropyLoss, LogOddsCrossEntropy, nn.MultiMarginLoss)
    # A subclass that computes something else is another loss.
    return getattr(kind, "forward", None) in [base.forward for base in known]


def is_softmax_cross_entropy(criterion):
    """Whether a loss is the plain softmax cross-entropy, possibly compiled."""
    criterion = getattr(criterion, "_orig_mod", criterion)
    return isinstance(criterion, nn.CrossEntropyLoss) and not _has_options(criterion)


def scaled_sigmoids(logits):
    """Class probabilities from independent sigmoids, scaled to the sum 1."""
    return logsigmoid(at_least_single(logits)).softmax(1).to(logits.dtype)


def _has_options(criterion):
    # -100 is torch's default, which ignores no class.
    has_weight, ignores = criterion.weight is not None, criterion.ignore_index != -100
    return has_weight or ignores or criterion.label_smoothing > 0


def _softplus(values):
    """log(1 + exp(t)), with a derivative that stays positive where exp(t) underflows.

    The added term is less than 1e-15 and does not change the rounded derivative for t > -25.
    """
    tiny = torch.finfo(values.dtype).tiny ** 0.5
    return torch.add(softplus(values), softplus(values, beta=1e-4), alpha=tiny)


def _reduce(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()
