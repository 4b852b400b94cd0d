"""Interval bounds for training: differentiable in the weights, in the precision of the module."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sk_adv._perturbations import PerturbationSet, dual_norm
from sk_adv._validation import check_class_indices
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._intervals import enclose
from sk_adv.differentiable._relaxations import layers_of


@dataclass(frozen=True)
class Box(Enclosure):
    """Intervals around the values of a layer, without regard to rounding.

    The rules of `enclose` carry a box through a module as they carry an `Enclosure`, in two matrix
    products a layer. The bounds have gradients on the weights, but they prove nothing.

    References
    ----------
    Gowal et al., "Scalable Verified Training for Provably Robust Image Classification", ICCV
    2019, section 3.
    """

    @classmethod
    def between_ends(cls, low: Tensor, high: Tensor) -> "Box":
        """The box from `low` to `high`, each of shape (n_samples, ...)."""
        shape = None if low.ndim == 2 else tuple(low.shape[1:])
        low, high = low.flatten(1), high.flatten(1)
        return cls._of((low + high) / 2, (high - low) / 2, np.inf, shape)

    @classmethod
    def of(cls, X: Tensor, perturbations: PerturbationSet) -> "Box":
        """The perturbation sets of samples, in the dtype and on the device of both.

        Samples outside of `bounds` are first brought into them. A Euclidean ball is kept as such up
        to the first layer. `bounds` shorten the sides of a box, but do not cut a ball.
        """
        perturbations = perturbations.to(X.device, X.dtype)
        _, norm, bounds = perturbations.values()
        X = perturbations.clip(X)
        if norm == np.inf and bounds is not None:
            return cls.between_ends(*perturbations.box(X))
        shape = None if X.ndim == 2 else tuple(X.shape[1:])
        flat = perturbations.flattened(tuple(X.shape[1:]))
        return cls._of(X.flatten(1), flat.epsilon, norm, shape)

    @classmethod
    def _of(cls, centre, radius, norm, shape=None):
        nothing = centre.new_zeros(()).expand_as(centre)
        return cls(centre, radius, norm, nothing, 0.0, nothing, is_exact=norm == 2, shape=shape)

    def limits(self) -> tuple[Tensor, Tensor]:
        """The ends of the intervals, of shape (n_samples, n_values)."""
        return self.centre - self.radius, self.centre + self.radius

    def values(self) -> Tensor:
        """The middles of the intervals."""
        return self.centre

    def affine(self, weight: Tensor, bias: Tensor | None = None) -> "Box":
        """The box around the outputs of an affine layer."""
        centre = linear(self.centre, weight, bias)
        if self.radius.ndim < 2:
            return self._of(centre, dual_norm(weight, self.radius, self.norm), np.inf)
        return self._of(centre, linear(self.radius, weight.abs()), np.inf)

    def between(self, low: Tensor, high: Tensor) -> "Box":
        """The box from `low` to `high`, each of shape (n_samples, ...)."""
        return self.between_ends(low, high)


def worst_logits(module: nn.Module, box: Box, labels: Tensor, *, by_margins: bool = True) -> Tensor:
    """Logits at which the loss is at least as large as anywhere in a box.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode; one that `enclose` takes.

    box : Box
        The sets of its inputs.

    labels : torch.Tensor of shape (n_samples,), int64
        The classes y.

    by_margins : bool, default=True
        Whether the loss depends on differences of logits only, as the cross-entropy does. Then
        upper bounds of z_k - z_y take the place of z_k, of which 0 is that of the class y. If not,
        the upper ends of z_k and the lower end of z_y are taken.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)

    References
    ----------
    Gowal et al., "Scalable Verified Training for Provably Robust Image Classification", ICCV
    2019, sections 3 and 4.
    """
    *layers, last = layers_of(module)
    if layers and by_margins and type(last) is nn.LogSoftmax:
        # It shifts all logits of a sample alike.
        *layers, last = layers
    for layer in layers:
        box = enclose(layer, box)
    if by_margins and type(last) is nn.Linear and box.shape is None:
        return _largest_margins(box, last.weight, last.bias, labels)
    low, high = enclose(last, box).limits()
    _check_labels(labels, low.shape[1])
    own = torch.nn.functional.one_hot(labels, low.shape[1]).bool()
    if not by_margins:
        return torch.where(own, low, high)
    return torch.where(own, 0.0, high - low.gather(1, labels[:, None]))


def _check_labels(labels, n_classes):
    """Raise `ValueError` if a label has no logit; on a GPU, torch itself says so."""
    if labels.device.type == "cpu":
        check_class_indices(labels, n_classes)


def _largest_margins(box, weight, bias, labels):
    """Upper bounds of (w_k - w_y)ᵀh + b_k - b_y for h in a box.

    The differences of all pairs of rows are multiplied at once, where that is less work than those
    of each sample.
    """
    values = linear(box.centre, weight, bias)
    _check_labels(labels, len(weight))
    gaps = values - values.gather(1, labels[:, None])
    n_classes, n_values = weight.shape
    has_radii_of_its_own = box.radius.ndim == 2
    if has_radii_of_its_own and n_classes**2 > 2 * len(labels):
        return gaps + ((weight - weight[labels][:, None]).abs() @ box.radius[:, :, None]).squeeze(2)
    pairs = (weight[:, None] - weight).reshape(-1, n_values)
    if not has_radii_of_its_own:
        reach = dual_norm(pairs, box.radius, box.norm).unflatten(0, (n_classes, n_classes))
        return gaps + reach[labels]
    reach = linear(box.radius, pairs.abs()).unflatten(1, (n_classes, n_classes))
    return gaps + reach[torch.arange(len(labels), device=labels.device), labels]
