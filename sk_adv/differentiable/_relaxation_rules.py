"""Linear bounds of torch's layers."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from sk_adv.differentiable._intervals import scale_and_shift
from sk_adv.differentiable._linear import fold_linear, is_affine
from sk_adv.differentiable._relaxations import SPACING, Relaxation, relax


class Matrix(Relaxation):
    """W v + b."""

    def __init__(self, weight, bias, source):
        self.weight = weight = weight.detach()
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        low, high = source.region.limits()
        size = torch.maximum(low.abs(), high.abs()) @ weight.abs().T + self.bias.abs()
        # Rounding of the sums of the layer, and of those on the way back; see Enclosure.affine.
        n_terms = (weight != 0).sum(1) + 2
        super().__init__((source.rounding * n_terms + SPACING * len(weight)) * size)

    def back(self, coef, alpha=None):
        """cᵀ(W v + b) = (Wᵀc)ᵀ v + bᵀc."""
        return coef @ self.weight, coef @ self.bias


class Map(Relaxation):
    """An affine module of samples of any shape."""

    def __init__(self, module, shape, error):
        self.module, self.shape = module, shape
        super().__init__(error)

    def back(self, coef, alpha=None):
        """The transposed map of the coefficients, by automatic differentiation."""
        with torch.inference_mode(False), torch.enable_grad():
            origin = coef.new_zeros(1, *self.shape).requires_grad_()
            values = self.module(origin)
            (transposed,) = torch.autograd.grad(
                values,
                origin,
                coef.flatten(0, 1)[:, None],
                is_grads_batched=True,
                create_graph=coef.requires_grad,
            )
        constant = (coef * values.detach()).flatten(2).sum(2)
        return transposed.squeeze(1).unflatten(0, coef.shape[:2]), constant


class Lines(Relaxation):
    """A function of each value alone, between two lines.

    Parameters
    ----------
    lower, upper : tuple (slope, intercept) of torch.Tensor of shape (n_samples, \\*shape)
        The lines.

    error : torch.Tensor
        As in `Relaxation`.

    mix : tuple (slope, slope, share) of torch.Tensor, default=None
        Slopes of two lines below, each through the origin, between which any one will do, and the
        share of the second that `lower` has.
    """

    def __init__(self, lower, upper, error, mix=None):
        self.lower, self.upper, self.mix = lower, upper, mix
        super().__init__(error)

    def start(self, n_rows):
        """The share of the second line in the lower one."""
        return None if self.mix is None else self.mix[2][:, None]

    def back(self, coef, alpha=None):
        """c f(v) >= c⁺ (lower line) + c⁻ (upper line)."""
        (slope, intercept), (high_slope, high_intercept) = self.lower, self.upper
        slope = slope[:, None]
        if alpha is not None:
            first, second, _ = self.mix
            slope = first[:, None] + alpha * (second - first)[:, None]
        positive, negative = coef.clamp(min=0), coef.clamp(max=0)
        constant = positive * intercept[:, None] + negative * high_intercept[:, None]
        return positive * slope + negative * high_slope[:, None], constant.flatten(2).sum(2)


class Bend(Lines):
    """max(v, s v), between lines, with the limits of v."""

    def __init__(self, lower, upper, error, mix, low, high, negative_slope):
        super().__init__(lower, upper, error, mix)
        self.low, self.high, self.negative_slope = low, high, negative_slope


def _rounding_of(values, low, high, source):
    """The rounding of an activation, and of its lines with slopes of at most 1."""
    largest = torch.maximum(*(value.abs() for value in values))
    size = torch.maximum(low.abs(), high.abs()) + largest
    return 4 * source.rounding * largest + 8 * SPACING * size


@relax.register
def _(module: nn.Linear, source):
    return Matrix(module.weight, module.bias, source)


@relax.register(object)
def _(module, source):
    if not is_affine(module) or len(source.shape) > 1:
        return None
    weight, bias = fold_linear(module, source.shape[0])
    return Matrix(weight.to(source.root.centre), bias.to(source.root.centre), source)


@relax.register
def _(module: nn.Flatten, source):
    return Map(module, source.shape, torch.zeros(1, math.prod(source.shape)).to(source.root.error))


@relax.register(nn.Conv1d)
@relax.register(nn.Conv2d)
def _(module, source):
    low, high = source.intervals()
    weight, bias = module.weight, module.bias
    convolve = partial(type(module)._conv_forward, module)
    largest = torch.maximum(low.abs(), high.abs())
    size = convolve(largest, weight.abs(), None if bias is None else bias.abs())
    n_terms = weight[0].numel() + 2
    n_back = weight[:, 0].numel()
    return Map(module, source.shape, (source.rounding * n_terms + SPACING * n_back) * size)


@relax.register(nn.AvgPool1d)
@relax.register(nn.AvgPool2d)
def _(module, source):
    low, high = source.intervals()
    size = module(torch.maximum(low.abs(), high.abs()))
    n_axes = len(source.shape) - 1
    kernel = module.kernel_size
    n_terms = math.prod(kernel) if isinstance(kernel, tuple) else kernel**n_axes
    return Map(module, source.shape, 2 * n_terms * source.rounding * size)


@relax.register(nn.BatchNorm1d)
@relax.register(nn.BatchNorm2d)
def _(module, source):
    scale, shift, largest = scale_and_shift(module, len(source.shape))
    low, high = source.intervals()
    size = torch.maximum(low.abs(), high.abs()) * scale.abs() + largest
    return Map(lambda X: X * scale + shift, source.shape, 8 * source.rounding * size)


def _straddle(low, high):
    return (low < 0) & (high > 0)


@relax.register
def _(module: nn.ReLU, source):
    return _leaky(0.0, source)


@relax.register
def _(module: nn.LeakyReLU, source):
    return _leaky(module.negative_slope, source) if module.negative_slope <= 1 else None


def _leaky(negative_slope, source):
    low, high = source.limits(_straddle)
    return bend(low, high, negative_slope, _rounding_of((low, high), low, high, source))


def bend(low: Tensor, high: Tensor, negative_slope: float, error: Tensor) -> "Bend":
    """max(v, s v) for 0 <= s <= 1: below by any line through the origin, above by the chord.

    Parameters
    ----------
    low, high : torch.Tensor of shape (n_samples, \\*shape)
        Limits of v.
    negative_slope : float
        The slope s.
    error : torch.Tensor
        As in `Relaxation`.

    Returns
    -------
    Bend
    """
    is_open = _straddle(low, high)
    # Not torch.where of two numbers, which makes a tensor of single precision.
    fixed = torch.full_like(low, negative_slope).masked_fill(low >= 0, 1.0)
    width = torch.where(is_open, high - low, 1.0)
    chord = torch.where(is_open, (high - negative_slope * low) / width, fixed)
    intercept = torch.where(is_open, -low * high * (1 - negative_slope) / width, 0.0)
    # The line below whose area between it and the function is smaller.
    share = torch.where(is_open, (high > -low).to(low), (low >= 0).to(low))
    first = torch.where(is_open, negative_slope, fixed)
    second = torch.where(is_open, 1.0, fixed)
    lines = (first + share * (second - first), torch.zeros_like(low)), (chord, intercept)
    return Bend(*lines, error, (first, second, share), low, high, negative_slope)


def _sigmoid_slope(v):
    return v.sigmoid() * (-v).sigmoid()


_S_SHAPED = {
    nn.Tanh: lambda v: 1 / v.cosh() ** 2,
    nn.Sigmoid: _sigmoid_slope,
    nn.Softsign: lambda v: 1 / (1 + v.abs()) ** 2,
}


def _s_shaped(module, source):
    """Functions that are convex up to 0, concave from 0 on, and symmetric about (0, f(0))."""
    slope_at = next(_S_SHAPED[kind] for kind in type(module).__mro__ if kind in _S_SHAPED)
    low, high = source.limits()
    upper = _line_above(module, slope_at, low, high)
    slope, intercept = _line_above(module, slope_at, -high, -low)
    # f(v) = 2 f(0) - f(-v).
    lower = slope, 2 * module(torch.zeros_like(low)) - intercept
    return Lines(lower, upper, _rounding_of((module(low), module(high)), low, high, source))


for _kind in _S_SHAPED:
    relax.register(_kind, _s_shaped)


def _line_above(f, slope_at, low, high):
    """A line above an S-shaped function between two ends: the chord, or a tangent.

    Where the chord cuts the function, the line touches it at a d > 0 from which it passes above
    the lower end. Source: Zhang et al. (2018), section 3.3.
    """
    at_low, at_high = f(low), f(high)
    width = high - low
    tiny = SPACING * (1 + low.abs() + high.abs())
    chord = torch.where(width > tiny, (at_high - at_low) / width.clamp(min=tiny), 0.0)
    # The smallest d whose tangent passes above the lower end; the upper end of the search does.
    left, right = low.clamp(min=0), high.clamp(min=0)
    for _ in range(30):
        middle = (left + right) / 2
        is_above = f(middle) + slope_at(middle) * (low - middle) >= at_low
        left, right = torch.where(is_above, left, middle), torch.where(is_above, middle, right)
    touching = torch.where(low >= 0, (low + high) / 2, right)
    # At the upper end the tangent may pass below the lower end: then the chord lies above.
    has_tangent = (high > 0) & (width > tiny)
    reaches = f(touching) + slope_at(touching) * (low - touching) >= at_low
    has_tangent &= (low >= 0) | reaches
    tangent = slope_at(touching)
    slope = torch.where(has_tangent, tangent, chord)
    intercept = torch.where(has_tangent, f(touching) - tangent * touching, at_low - chord * low)
    # Nearly a point: a constant, the value at the upper end.
    is_wide = width > tiny
    return torch.where(is_wide, slope, 0.0), torch.where(is_wide, intercept, at_high)


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
        super().__init__(error)

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


def largest_of(weight: Tensor, bias: Tensor, source) -> Largest:
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
    # Of z_k - z_j, at [..., j, k].
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
        super().__init__(None)

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
