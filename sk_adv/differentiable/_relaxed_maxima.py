"""Linear bounds of maxima: of affine functions, and of the windows of pooling layers."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from sk_adv.differentiable._relaxation_rules import Matrix
from sk_adv.differentiable._relaxations import Relaxation, Source, relax
from sk_adv.differentiable._sets import SPACING


class Largest(Relaxation):
    """The largest of several pieces, for each unit.

    Let the pieces z_k, or their differences to a reference piece, lie between l_k and u_k. Then

        max_k z_k <= t + Σ_k (u_k - t)⁺ / (u_k - l_k) (z_k - l_k)    for any t >= max_k l_k :

    every summand is at least 0, and that of k is at least z_k - t. In the middle of the box the
    right side is least at the third largest u_k, above which at most two summands are left. Below,
    any average of the pieces will do.

    Parameters
    ----------
    pieces : Relaxation
        From the inputs to the pieces, (n_units, n_pieces).

    low, high : torch.Tensor of shape (n_samples, n_units, n_pieces)
        The limits.

    error : torch.Tensor
        As in `Relaxation`.

    reference : torch.Tensor of shape (n_samples, n_units), int64, default=None
        The pieces to which the limits are differences; None if they are the pieces' own.

    gaps : torch.Tensor of shape (n_samples, n_units, n_pieces, n_pieces), default=None
        Upper limits of z_k - z_j, at [..., j, k].
    """

    def __init__(self, pieces, low, high, error, reference=None, gaps=None):
        self.pieces, self.gaps = pieces, gaps
        most = high.sort(2, descending=True).values
        t = low.amax(2)
        if most.shape[2] > 2:
            t = torch.maximum(t, most[..., 2])
        tiny = torch.finfo(low.dtype).tiny
        share = (high - t[..., None]).clamp(min=0) / (high - low).clamp(min=tiny)
        self.constant = t - (share * low).sum(2)
        leader = (low + high).argmax(2) if reference is None else reference
        self.lower = nn.functional.one_hot(leader, low.shape[2]).to(low)
        self.upper = share
        if reference is not None:
            self.upper = share + self.lower * (1 - share.sum(2, keepdim=True))
        others = high.masked_fill(self.lower.bool(), -torch.inf).amax(2)
        self.is_led = low.gather(2, leader[..., None]).squeeze(2) >= others
        super().__init__(error, pieces.work + 30 * low[0].numel())

    def start(self, n_rows):
        """The weights of the pieces in the average."""
        return self.lower[:, None]

    def back(self, coef, alpha=None):
        """Coefficients of the inputs, by those of the pieces."""
        lower = self.lower[:, None]
        if alpha is not None:
            weights = alpha + 1e-6 * lower
            weights = weights / weights.sum(3, keepdim=True)
            lower = torch.where(self.is_led[:, None, :, None], lower, weights)
        positive, negative = coef.clamp(min=0), coef.clamp(max=0)
        constant = (negative * self.constant[:, None]).sum(2)
        coef = positive[..., None] * lower + negative[..., None] * self.upper[:, None]
        coef, more = self.pieces.back(coef.flatten(2))
        return coef, constant + more


def largest_of(weight: Tensor, bias: Tensor, source: Source) -> Largest:
    """The largest of several affine functions of the inputs, by limits of their differences.

    Parameters
    ----------
    weight : torch.Tensor of shape (n_pieces, n_units, n_features)
    bias : torch.Tensor of shape (n_pieces, n_units)
    source : Source

    Returns
    -------
    Largest
    """
    source.limits()
    n_pieces, n_units, _ = weight.shape
    first, second = torch.triu_indices(n_pieces, n_pieces, 1)
    gaps, shift = (weight[second] - weight[first]).flatten(0, 1), bias[second] - bias[first]
    low, high = source.region.affine(gaps).limits()
    if len(first) and source.steps and source.is_affordable(len(gaps)):
        ends = source.bounds(gaps)
        low, high = torch.maximum(low, ends[0]), torch.minimum(high, ends[1])
    # Bounds of z_k - z_j, at [..., j, k].
    lows = low.new_zeros(len(low), n_units, n_pieces, n_pieces)
    highs = lows.clone()
    low, high = (ends.unflatten(1, shift.shape) + shift for ends in (low, high))
    low, high = low.transpose(1, 2), high.transpose(1, 2)
    lows[..., first, second], highs[..., first, second] = low, high
    lows[..., second, first], highs[..., second, first] = -high, -low
    # The piece that the others exceed least.
    reference = highs.amax(3).argmin(2)
    index = reference[..., None, None].expand(-1, -1, 1, n_pieces)
    low, high = (ends.gather(2, index).squeeze(2) for ends in (lows, highs))
    order = weight.transpose(0, 1).flatten(0, 1)
    pieces = Matrix(order, bias.T.flatten(), source)
    # Weights of pieces and their rounding add up to at most three on the way back.
    error = pieces.error.unflatten(1, (n_units, n_pieces)).amax(2)
    error = error * (1 + 3 * SPACING / source.rounding)
    return Largest(pieces, low, high, error, reference, highs)


class Windows(Relaxation):
    """The values that each window of a pooling layer sees, (n_windows, n_pieces)."""

    def __init__(self, index, shape):
        self.index, self.shape = index, shape
        super().__init__(index.new_zeros(1, 0), index.numel())

    def back(self, coef, alpha=None):
        """Add up the coefficients of each value."""
        flat = coef.new_zeros(*coef.shape[:2], math.prod(self.shape))
        flat = flat.index_add(2, self.index.flatten(), coef)
        return flat.unflatten(2, self.shape), coef.new_zeros(coef.shape[:2])


class Pooled(Largest):
    """The largest value of each window, in the shape of the layer's output."""

    def back(self, coef, alpha=None):
        """Coefficients of the inputs."""
        return super().back(coef.flatten(2), alpha)


@relax.register(nn.MaxPool1d)
@relax.register(nn.MaxPool2d)
def _(module, source):
    index = _windows(module, source)
    if index is None:
        return None
    low, high = source.limits()
    after = tuple(module(low).shape[1:])
    # Where a window sees fewer values, its first one stands for the rest.
    low, high = (ends.flatten(1)[:, index] for ends in (low, high))
    size = torch.maximum(low.abs(), high.abs()).amax(2)
    error = (16 * SPACING * size).unflatten(1, after)
    return Pooled(Windows(index, source.shape), low, high, error)


def _windows(module, source):
    """The positions of the values of each window, (n_windows, n_pieces); None if not known."""
    pairs = [module.kernel_size, module.stride, module.padding, module.dilation]
    if module.ceil_mode or module.return_indices:
        return None
    shape = source.shape
    if len(shape) == 2:
        shape = (shape[0], 1, shape[1])
        pairs = [
            (start, *(value if isinstance(value, tuple) else (value,)))
            for start, value in zip((1, 1, 0, 1), pairs, strict=True)
        ]
    kernel, stride, padding, dilation = pairs
    device = source.root.centre.device
    # In float64, in which positions are exact; 0 stands for the padding.
    position = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64, device=device)
    index = unfold(position.reshape(shape)[:, None], kernel, dilation, padding, stride)
    index = index.transpose(1, 2).flatten(0, 1).long() - 1
    first = index.amax(1, keepdim=True)
    return torch.where(index < 0, first, index)
