"""Interval bounds on the outputs of a module for all inputs of a perturbation set."""

import functools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable._column_transformer import Columns, Recall, Table
from sk_adv.differentiable._composition import Chain, decision_values
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._ensembles import AgainstTheRest
from sk_adv.differentiable._linear import NotLinearError, decision_module, fold_linear, is_affine
from sk_adv.differentiable._transformers import Affine, Fill

NONDECREASING = (
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.ReLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)


def enclose(module: nn.Module, region: Enclosure) -> Enclosure:
    """Sets that hold a module's outputs for all inputs in given sets.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64: an affine module, `Maxout`, an activation that never
        decreases, a `Sequential` of these, or a type for which a rule is registered (see Notes).

    region : Enclosure
        The sets of its inputs.

    Returns
    -------
    Enclosure
        The sets of its outputs. They may be too large, but never too small.

    Raises
    ------
    TypeError
        If there is no rule for the module's type.

    Notes
    -----
    A rule is a function of a module and an `Enclosure`, registered by `enclose.register(Type)`. It
    builds on `Enclosure.affine`, `Enclosure.limits` and `Enclosure.between`. It serves those
    subclasses that do not change `forward`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_adv.differentiable import Enclosure, enclose
    >>> X = torch.tensor([[-0.25, 2.0]], dtype=torch.float64)
    >>> low, high = enclose(torch.nn.ReLU(), Enclosure.around(X, 0.5, np.inf)).limits()
    >>> low.numpy().round(6), high.numpy().round(6)
    (array([[-0. ,  1.5]]), array([[0.25, 2.5 ]]))
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module must be a torch.nn.Module; got {type(module).__name__}. as_module turns a "
            "fitted scikit-learn estimator into one."
        )
    kind = type(module)
    known = next(base for base in kind.__mro__ if base in _rule.registry)
    # A subclass that computes something else is another module.
    if known is not object and getattr(kind, "forward", None) is not known.forward:
        raise _no_bounds(module)
    try:
        return _rule(module, region)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        shape = region.shape or tuple(region.error.shape[1:])
        raise ValueError(
            f"{kind.__name__} can't take samples of shape {tuple(shape)}: {error}"
        ) from error


@functools.singledispatch
def _rule(module, region):
    if is_affine(module):
        return region.affine(*fold_linear(module, region.error.shape[1]))
    raise _no_bounds(module)


enclose.register = _rule.register


class NoBoundsError(TypeError):
    """A module that `enclose` has no rule for."""


def _no_bounds(module):
    kind = type(module)
    name, family = kind.__name__, kind.__module__.partition(".")[0]
    layers = (
        "layers that have them (linear, convolution, pooling, batch norm, dropout, Flatten, ReLU "
        "and other activations that never decrease)"
    )
    if family == "sk_adv":
        way = ""  # Made by as_module: its user wrote no network.
    elif family == "torch":
        way = f"build the network of {layers}, or "
    else:
        way = f"write it as a torch.nn.Sequential of {layers}, without a forward of its own, or "
    return NoBoundsError(
        f"There are no bounds on the outputs of the module {name}: {way}register a rule by "
        f"`sk_adv.differentiable.enclose.register({name})`, or attack the model by attack='pgd' "
        "instead, which bounds its accuracy from above."
    )


@enclose.register(Chain)
@enclose.register(nn.Sequential)
def _(module, region):
    for step in module:
        region = enclose(step, region)
    return region


@enclose.register
def _(module: nn.Linear, region):
    if region.shape is not None:
        raise NoBoundsError(
            "There are bounds for a Linear layer on vectors only: put a Flatten before it; its "
            f"input has the shape {region.shape}."
        )
    return region.affine(module.weight, module.bias)


@enclose.register
def _(module: nn.Flatten, region):
    if (module.start_dim, module.end_dim) != (1, -1):
        raise NoBoundsError(f"There are bounds for Flatten() of whole samples only; got {module}.")
    return replace(region, shape=None)


@enclose.register(nn.Conv1d)
@enclose.register(nn.Conv2d)
def _(module, region):
    n_axes = len(module.kernel_size) + 1
    if len(region.shape or ()) != n_axes or region.shape[0] != module.in_channels:
        raise NoBoundsError(
            f"There are bounds for {module} on samples with {module.in_channels} channels and "
            f"{n_axes} axes only; its input has the shape {region.shape or region.error.shape[1:]}."
        )
    # Intervals: the matrix of a convolution would be far larger than its kernel.
    if module.padding_mode != "zeros":
        raise NoBoundsError(f"There are bounds for a convolution padded by zeros; got {module}.")
    convolve = partial(type(module)._conv_forward, module)
    weight, bias = module.weight, module.bias
    low, high = map(region.in_shape, region.limits())
    centre, reach = (low + high) / 2, (high - low) / 2
    reach = convolve(reach, weight.abs(), None)
    if region.norm == 2 and region.is_exact and region.coef is None:
        # The dual norm of each row of the matrix, where it is less than that of the box.
        radius = region.in_shape(region.radius.expand_as(region.centre))
        ball = convolve(radius**2, weight**2, None).sqrt()
        ball = ball + convolve(region.in_shape(region.error), weight.abs(), None)
        reach = torch.minimum(reach, ball)
    if region.rounding:
        # The rounding of sums of products; see Enclosure.affine.
        size = torch.maximum(-low, high)
        size = convolve(size, weight.abs(), None if bias is None else bias.abs())
        reach = reach + (weight[0].numel() + 1) * region.rounding * size
    values = convolve(centre, weight, bias)
    return region.between(values - reach, values + reach)


@enclose.register(nn.Dropout)
@enclose.register(nn.Dropout1d)
@enclose.register(nn.Dropout2d)
@enclose.register(nn.Identity)
def _(module, region):
    return region


def _monotone(module: Callable, region: Enclosure) -> Enclosure:
    low, high = map(region.in_shape, region.limits())
    return region.between(module(low), module(high))


for step in (*NONDECREASING, nn.MaxPool1d, nn.MaxPool2d):
    enclose.register(step, _monotone)


@enclose.register(nn.AvgPool1d)
@enclose.register(nn.AvgPool2d)
def _(module, region):
    low, high = map(region.in_shape, region.limits())
    # The rounding of a mean of so many numbers.
    n_terms = np.prod(np.broadcast_to(module.kernel_size, low.ndim - 2))
    slack = n_terms * region.rounding * module(torch.maximum(-low, high).abs())
    return region.between(module(low) - slack, module(high) + slack)


def scale_and_shift(module: nn.Module, n_axes: int) -> tuple[torch.Tensor, ...]:
    """What batch norm does in evaluation mode: x ∘ scale + shift.

    Parameters
    ----------
    module : torch.nn.BatchNorm1d or torch.nn.BatchNorm2d
        In evaluation mode.

    n_axes : int
        Number of axes of one sample.

    Returns
    -------
    scale, shift, size : torch.Tensor of shape (n_channels,) or (n_channels, 1, ...)
        `size` is the largest number whose rounding enters the shift.
    """
    if module.training or module.running_mean is None:
        raise NoBoundsError(
            f"There are bounds for {module} in evaluation mode, with running statistics, only."
        )
    scale = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight
    shift = -module.running_mean * scale
    size = shift.abs()
    if module.bias is not None:
        shift, size = shift + module.bias, size + module.bias.abs()
    shape = (-1, *[1] * (n_axes - 1))
    return tuple(value.reshape(shape) for value in (scale, shift, size))


@enclose.register(nn.BatchNorm1d)
@enclose.register(nn.BatchNorm2d)
def _(module, region):
    low, high = map(region.in_shape, region.limits())
    scale, shift, size = scale_and_shift(module, low.ndim - 1)
    slack = 8 * region.rounding * (torch.maximum(-low, high).abs() * scale.abs() + size)
    if low.ndim == 2:
        scaled = region.affine(scale.diag(), shift)
        return replace(scaled, error=scaled.error + slack)
    ends = low * scale + shift, high * scale + shift
    return region.between(torch.minimum(*ends) - slack, torch.maximum(*ends) + slack)


@enclose.register
def _(module: nn.LeakyReLU, region):
    if module.negative_slope < 0:
        raise NoBoundsError(f"There are bounds for slopes of 0 and more only; got {module}.")
    return _monotone(module, region)


@enclose.register
def _(module: Affine, region):
    scale = module.scale.expand(region.error.shape[1])
    scaled = region.affine(scale.diag(), module.shift - module.center * scale)
    if module.limits is None:
        return scaled
    if region.norm == np.inf or region.coef is not None:
        return _monotone(lambda values: torch.clamp(values, *module.limits), scaled)
    # Clamping brings no two numbers further apart, so a ball stays within one of its radius.
    radius = scale.abs() * region.radius
    limits = PerturbationSet.unchecked(radius, region.norm, module.limits)
    ball = Enclosure.of(scaled.values(), limits, rounding=region.rounding)
    return replace(ball, error=scaled.error, is_exact=False)


@enclose.register
def _(module: Fill, region):
    if not np.isnan(module.missing_value):
        raise NoBoundsError(
            "There are bounds for a SimpleImputer of NaN only, because a perturbation can reach "
            f"other numbers; got missing_values={module.missing_value}."
        )
    kept, indicated = module.kept.indices, module.indicated.indices
    missing = region.offset.isnan()
    every = torch.eye(missing.shape[1]).to(region.centre)
    region = region.affine(torch.cat([every[kept], 0 * every[indicated]]))
    offset = region.offset[:, : len(kept)]
    filled = torch.where(missing[:, kept], module.fill.to(offset), offset)
    return replace(region, offset=torch.cat([filled, missing[:, indicated].to(filled)], dim=1))


@enclose.register
def _(module: Recall, region):
    index = region.values()[:, module.fixed[:1]]
    error, n_features = region.error, region.error.shape[1]
    free = torch.ones(n_features).index_fill(0, module.fixed, 0.0).to(region.centre)
    fixed = torch.zeros_like(region.error).index_copy(1, module.fixed, module.of_rows(index))
    region = region.affine(torch.cat([free.diag(), 0 * free[None]]))
    constants = torch.cat([fixed, index], dim=1)
    # Columns are only moved, so their error stays; a fixed one has that of its representation.
    error = nn.functional.pad(free * error, (0, 1))
    error = error + region.rounding * constants.abs().nan_to_num()
    return replace(region, offset=region.offset + constants, error=error)


@enclose.register
def _(module: Table, region):
    rows = module(region.values()).to(region.centre)
    region = region.affine(region.centre.new_zeros(rows.shape[1], region.error.shape[1]))
    return replace(region, offset=rows)


@enclose.register
def _(module: Columns, region):
    parts = [enclose(part, region) for part in module.parts]
    if not all(part.is_exact for part in parts):
        raise NoBoundsError(
            "There are bounds for a ColumnTransformer only where its transformers are affine, or "
            "their columns stay as they are."
        )
    return _side_by_side(parts, region)


def _side_by_side(parts, region):
    """The exact sets of several modules of one input, one after another."""
    return replace(
        region,
        coef=torch.cat([part.coef for part in parts]),
        offset=torch.cat([part.offset for part in parts], dim=1),
        error=torch.cat([part.error for part in parts], dim=1),
    )


@enclose.register
def _(module: AgainstTheRest, region):
    if is_affine(module):
        return region.affine(*fold_linear(module, region.error.shape[1]))
    if module.function is not decision_values:
        raise _no_bounds(module)
    parts = [enclose(member, region) for member in module.members]
    if not all(part.is_exact for part in parts):
        raise _no_bounds(module)
    if len(parts) == 1:
        return parts[0]
    one = region.centre.new_tensor([[0.0, 1.0]])
    return _side_by_side([part.affine(one) for part in parts], region)


def enclose_linear(module: nn.Module, region: Enclosure) -> Enclosure:
    """The sets of a linear module's decision values, or a `TypeError` if it is not linear."""
    try:
        values = enclose(decision_module(module), region)
    except NoBoundsError as error:
        raise NotLinearError(type(module).__name__) from error
    if not values.is_exact:
        raise NotLinearError(type(module).__name__)
    return values
