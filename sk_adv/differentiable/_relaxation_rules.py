"""Linear bounds of torch's layers."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from sk_adv.differentiable._intervals import scale_and_shift
from sk_adv.differentiable._linear import fold_linear, is_affine
from sk_adv.differentiable._relaxations import Relaxation, relax
from sk_adv.differentiable._sets import SPACING


class Matrix(Relaxation):
    """W v + b."""

    def __init__(self, weight, bias, source):
        self.weight = weight = weight.detach()
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        low, high = source.region.limits()
        size = torch.maximum(low.abs(), high.abs()) @ weight.abs().T + self.bias.abs()
        # Rounding of the sums of the layer, and of those on the way back; see Enclosure.affine.
        n_terms = (weight != 0).sum(1) + 2
        error = (source.rounding * n_terms + SPACING * len(weight)) * size
        super().__init__(error, weight.numel())

    def back(self, coef, alpha=None):
        """cᵀ(W v + b) = (Wᵀc)ᵀ v + bᵀc."""
        return coef @ self.weight, coef @ self.bias


class Map(Relaxation):
    """An affine module of samples of any shape."""

    def __init__(self, module, shape, error, n_terms=1):
        self.module, self.shape = module, shape
        # Small products are slower than those of a matrix.
        super().__init__(error, 8 * n_terms * error[0].numel())

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


class Convolution(Map):
    """A convolution, whose transposed map torch has."""

    def back(self, coef, alpha=None):
        """The transposed convolution of the coefficients."""
        module, shape = self.module, coef.shape[:2]
        transposed = _TRANSPOSED[coef.ndim - 3](
            (shape.numel(), *self.shape),
            module.weight.detach(),
            coef.flatten(0, 1),
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
        )
        constant = coef.new_zeros(shape)
        if module.bias is not None:
            constant = coef.flatten(3).sum(3) @ module.bias.detach()
        return transposed.unflatten(0, shape), constant


_TRANSPOSED = {1: torch.nn.grad.conv1d_input, 2: torch.nn.grad.conv2d_input}


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
    error = (source.rounding * n_terms + SPACING * n_back) * size
    kind = Map if isinstance(module.padding, str) else Convolution
    return kind(module, source.shape, error, n_terms)


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
