"""Linear functions on the sets of an `Enclosure`."""

import numpy as np
import torch
from torch import Tensor

from sk_adv._perturbations import steepest_step_within
from sk_adv.differentiable._enclosure import Enclosure

# The distance between neighbouring float64 numbers around 1.
SPACING = torch.finfo(torch.float64).eps


def least_in(region: Enclosure, coef: Tensor) -> Tensor:
    """The least values of linear functions in some sets, less a bound on the rounding.

    Parameters
    ----------
    region : Enclosure
        The sets.

    coef : torch.Tensor of shape (n_samples or 1, n_rows, n_values)
        The functions.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_rows)
    """
    rows = coef if region.coef is None else coef @ region.coef
    centre, radius = region.centre, region.radius.expand_as(region.centre)
    largest = centre.abs() + radius
    size = largest if region.coef is None else largest @ region.coef.abs().T
    n_terms = region.error.shape[1] + centre.shape[1] + 4
    slack = region.error + n_terms * SPACING * (size + region.offset.abs())
    if region.room is not None and region.norm == np.inf:
        lowest, highest = region.room
        centre, radius = centre + (lowest + highest) / 2, (highest - lowest) / 2
    constant = _dot(coef, region.offset) - _dot(coef.abs(), slack)
    if region.norm == np.inf:
        return constant + _dot(rows, centre) - _dot(rows.abs(), radius)
    if region.room is None:
        worst = torch.linalg.vector_norm(rows * radius[:, None], dim=2)
        return constant + _dot(rows, centre) - worst
    return constant + (rows * (centre[:, None] + worst_step(region, rows))).sum(2)


def worst_step(region: Enclosure, rows: Tensor) -> Tensor:
    """The perturbations at which linear functions of η are least.

    Parameters
    ----------
    region : Enclosure
        The sets of η.

    rows : torch.Tensor of shape (n_samples or 1, n_rows, n_features)
        The functions' coefficients.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_rows, n_features)
    """
    shape = torch.broadcast_shapes(rows.shape, region.centre[:, None].shape)

    def flat(values):
        return values[..., None, :].expand(shape).flatten(0, 1)

    room = None if region.room is None else tuple(map(flat, region.room))
    down = -rows.detach().expand(shape).flatten(0, 1)
    step = steepest_step_within(
        down, flat(region.radius.expand_as(region.centre)), region.norm, room
    )
    return step.unflatten(0, shape[:2])


def _dot(coef, values):
    """The functions' values, (n_samples, n_rows)."""
    return (coef @ values[:, :, None]).squeeze(2)


def between(low: Tensor, high: Tensor, like: Enclosure) -> Enclosure:
    """The box from `low` to `high`, each of shape (n_samples, n_values)."""
    middle = (low + high) / 2
    return Enclosure(
        middle,
        torch.maximum(high - middle, middle - low).clamp(min=0),
        np.inf,
        2 * SPACING * torch.maximum(low.abs(), high.abs()),
        like.rounding,
        torch.zeros_like(middle),
        is_exact=False,
        shape=like.shape,
    )
