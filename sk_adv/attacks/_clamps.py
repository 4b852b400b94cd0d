"""Gradients that pass through clamps, behind which a module's own gradient is hidden."""

import torch
from torch import nn

from sk_adv.differentiable._networks import copied
from sk_adv.differentiable._transformers import Affine


class _Straight(torch.autograd.Function):
    """The clamped values, with the gradient of those that are not clamped."""

    @staticmethod
    def forward(ctx, values, clamped):
        return clamped.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def _of_hardtanh(module, inputs, named, output):
    return _Straight.apply(_first(inputs, named), output)


def _of_affine(module, inputs, named, output):
    unclamped = (_first(inputs, named) - module.center) * module.scale + module.shift
    return _Straight.apply(unclamped, output.to(unclamped.dtype)).to(output.dtype)


def _first(inputs, named):
    """The one argument of a clamp, by position or by name."""
    (values,) = (*inputs, *named.values())
    return values


def through_clamps(module: nn.Module) -> nn.Module | None:
    """A copy of a module whose gradient passes through clamps; None if it has no clamp.

    A clamp has no gradient where it holds, so that an attack does not see what a larger step would
    do. Its slope there is taken as 1. Clamps are `Hardtanh`, and scalers with `clip=True`.

    Parameters
    ----------
    module : torch.nn.Module
        It stays as it is.

    Returns
    -------
    torch.nn.Module or None
        It computes the same outputs.

    References
    ----------
    Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018,
    section 4.1.
    """
    if not any(_rule_of(part) for part in module.modules()):
        return None
    try:
        twin = copied(module)
    except (RuntimeError, TypeError):
        # Some modules can't be copied, such as those that hold a lock or an open file.
        return None
    for part in twin.modules():
        rule = _rule_of(part)
        if rule is not None:
            part.register_forward_hook(rule, with_kwargs=True)
    return twin


def _rule_of(part):
    """The hook of a clamp; None for any other module."""
    if isinstance(part, nn.Hardtanh) and type(part).forward is nn.Hardtanh.forward:
        # In place, the input is gone when the hook sees it.
        return None if part.inplace else _of_hardtanh
    if isinstance(part, Affine) and part.limits is not None:
        return _of_affine
    return None
