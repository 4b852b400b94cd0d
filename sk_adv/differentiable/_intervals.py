"""Interval bounds: what the layers of a network can give for all inputs of a perturbation set."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sk_adv._perturbations import clip, dual_norm, steepest_step_within
from sk_adv.differentiable._linear import fold_linear, is_affine
from sk_adv.differentiable._maps import Affine

NONDECREASING = (
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.ReLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)


@dataclass(frozen=True)
class Enclosure:
    """Sets that hold the values of a layer, one set for each sample.

    A set is {A (u + η) + b : ‖η / r‖ <= 1, lowest <= η <= highest}, widened by a bound on the
    rounding of the model, which computes in a precision of its own. Affine layers only change A
    and b, so that their bounds are exact, by the dual norm; any other layer makes intervals.

    Parameters
    ----------
    centre : torch.Tensor of shape (n_samples, n_features), float64
        The points u.

    radius : torch.Tensor of shape (), (n_features,) or (n_samples, n_features)
        The radii r; one a sample for the max-norm only.

    norm : {numpy.inf, 2}
        The norm that bounds η.

    error : torch.Tensor of shape (n_samples, n_values)
        Bound on the rounding of the values.

    rounding : float
        Spacing of the model's numbers around 1.

    room : tuple (lowest, highest) of torch.Tensor, or None, default=None
        How far η may go down and up, of shape (n_samples, n_features).

    coef : torch.Tensor of shape (n_values, n_features) or None, default=None
        The matrix A; None is the identity.

    offset : torch.Tensor of shape (n_values,), default=None
        The vector b; None is zero.

    References
    ----------
    Gowal et al., "Scalable Verified Training for Provably Robust Image Classification", ICCV
    2019, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_adv.differentiable import Enclosure
    >>> X = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> weight = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    >>> region = Enclosure.around(X, 0.5, np.inf).affine(weight)
    >>> [limit.item() for limit in region.limits()]
    [-4.5, -1.5]
    """

    centre: Tensor
    radius: Tensor
    norm: float
    error: Tensor
    rounding: float
    room: tuple[Tensor, Tensor] | None = None
    coef: Tensor | None = None
    offset: Tensor | None = None

    @classmethod
    def around(
        cls,
        X: Tensor,
        epsilon: float | Tensor,
        norm: float,
        *,
        bounds: tuple | None = None,
        rounding: float = torch.finfo(torch.float64).eps,
    ) -> "Enclosure":
        """The perturbation sets of samples.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, n_features), float64
            The samples; those outside of `bounds` are first brought into them.

        epsilon : float or torch.Tensor of shape (n_features,)
            Radius of the perturbation, in the units of X.

        norm : {numpy.inf, 2}
            The norm that bounds it.

        bounds : tuple (low, high) or None, default=None
            Valid range of X.

        rounding : float, default=the spacing of float64
            Spacing around 1 of the numbers that the model computes with.

        Returns
        -------
        Enclosure
            The sets.
        """
        X, room = clip(X, bounds), None
        radius = torch.as_tensor(epsilon, dtype=X.dtype, device=X.device)
        if bounds is not None:
            room = (clip(X - radius, bounds) - X, clip(X + radius, bounds) - X)
        return cls(X, radius, norm, rounding * (X.abs() + radius), rounding, room)

    def limits(self) -> tuple[Tensor, Tensor]:
        """The intervals that hold the values.

        Returns
        -------
        low, high : torch.Tensor of shape (n_samples, n_values)
            Their ends.
        """
        centre, reach = self.centre, self.radius
        # In the Euclidean norm the room is left out: the ball is nearly always the tighter bound.
        if self.room is not None and self.norm == np.inf:
            lowest, highest = self.room
            centre, reach = centre + (lowest + highest) / 2, (highest - lowest) / 2
        values = self._values(centre)
        if self.coef is not None:
            one_set = reach.ndim < 2
            norms = dual_norm(self.coef, reach, self.norm) if one_set else None
            reach = norms if one_set else linear(reach, self.coef.abs())
        reach = reach + self.error
        return values - reach, values + reach

    def _values(self, X):
        return X if self.coef is None else linear(X, self.coef, self.offset)

    def affine(self, weight: Tensor, bias: Tensor | None = None) -> "Enclosure":
        """What an affine layer makes of the sets: no bound, but the sets themselves.

        Parameters
        ----------
        weight : torch.Tensor of shape (n_outputs, n_values)
            Its matrix.

        bias : torch.Tensor of shape (n_outputs,), default=None
            Its offset; None is zero.

        Returns
        -------
        Enclosure
            The sets of its outputs.
        """
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        low, high = self.limits()
        # A sum of n products in floating point, in any order, is off by n u Σ|w||x| at most, to
        # first order in the unit roundoff u, which is half of the spacing (Higham, "Accuracy and
        # Stability of Numerical Algorithms", 2nd ed., section 3.1).
        n_terms = (weight != 0).sum(1) + 1
        size = linear(torch.maximum(-low, high), weight.abs(), bias.abs())
        error = linear(self.error, weight.abs()) + n_terms * self.rounding * size
        if self.coef is not None:
            bias = bias + weight @ self.offset
            weight = weight @ self.coef
        return replace(self, coef=weight, offset=bias, error=error)

    def between(self, low: Tensor, high: Tensor) -> "Enclosure":
        """Intervals in the place of these sets, for values that rounding has not touched yet.

        Parameters
        ----------
        low, high : torch.Tensor of shape (n_samples, n_values)
            Their ends.

        Returns
        -------
        Enclosure
            The intervals, widened by the rounding of functions such as tanh.
        """
        # Elementary functions are off by a few units in the last place.
        error = 4 * self.rounding * torch.maximum(-low, high)
        return Enclosure((low + high) / 2, (high - low) / 2, np.inf, error, self.rounding)

    def rivals(self, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each class k as a rival of the samples' own y.

        Both rows of weights are subtracted before the worst η is sought. That is exact after
        affine layers alone, and tighter than the difference of two intervals after others.

        Parameters
        ----------
        labels : torch.Tensor of shape (n_samples,), int64
            The classes y.

        Yields
        ------
        gap : torch.Tensor of shape (n_samples,)
            z_k - z_y at the centre; minus infinity where k is y.

        gain : torch.Tensor of shape (n_samples,)
            What the worst η adds to it.

        step : torch.Tensor of shape (n_samples, n_features)
            The worst η.
        """
        values = self._values(self.centre)
        own = values.gather(1, labels[:, None]).squeeze(1)
        coef = self.coef
        if coef is None:
            coef = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
        for k in range(values.shape[1]):
            direction = coef[k] - coef[labels]
            step = steepest_step_within(direction, self.radius, self.norm, self.room)
            gap = torch.where(labels == k, -torch.inf, values[:, k] - own)
            yield gap, (direction * step).sum(1), step

    def is_led_by(self, labels: Tensor) -> Tensor:
        """Whether one value is the largest, whatever the perturbation and the rounding.

        Parameters
        ----------
        labels : torch.Tensor of shape (n_samples,), int64
            Index of the value.

        Returns
        -------
        torch.Tensor of shape (n_samples,), bool
            True where no other value comes up to it.
        """
        worst = torch.stack([gap + gain for gap, gain, _ in self.rivals(labels)], dim=1)
        slack = self.error + self.error.gather(1, labels[:, None])
        return (worst + slack < 0).all(1)


@functools.singledispatch
def enclose(module: nn.Module, region: Enclosure) -> Enclosure:
    """Sets that hold a module's outputs for all inputs in given sets.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64: an affine module, `Maxout`, an activation that nowhere
        falls, a `Sequential` of these, or a type for which a rule is registered (see Notes).

    region : Enclosure
        The sets of its inputs.

    Returns
    -------
    Enclosure
        The sets of its outputs. They may be too large, never too small.

    Raises
    ------
    TypeError
        If there is no rule for the module's type.

    Notes
    -----
    A rule is a function of a module and an `Enclosure`, registered by `enclose.register(Type)`. It
    builds on `Enclosure.affine`, `Enclosure.limits` and `Enclosure.between`.

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
    if is_affine(module):
        return region.affine(*fold_linear(module, region.error.shape[1]))
    name = type(module).__name__
    raise TypeError(
        f"There are no bounds on the outputs of the module {name}: register a rule by "
        f"`sk_adv.differentiable.enclose.register({name})`, or attack the model with "
        "attack='pgd' instead, which bounds the accuracy from above."
    )


@enclose.register
def _(module: nn.Sequential, region):
    for step in module:
        region = enclose(step, region)
    return region


@enclose.register
def _(module: nn.Linear, region):
    return region.affine(module.weight, module.bias)


@enclose.register(nn.Dropout)
@enclose.register(nn.Identity)
def _(module, region):
    return region


def _monotone(module: Callable, region: Enclosure) -> Enclosure:
    low, high = region.limits()
    return region.between(module(low), module(high))


for activation in NONDECREASING:
    enclose.register(activation, _monotone)


@enclose.register
def _(module: nn.LeakyReLU, region):
    if module.negative_slope < 0:
        raise TypeError(f"There are bounds for slopes of 0 and more only; got {module}.")
    return _monotone(module, region)


@enclose.register
def _(module: Affine, region):
    region = region.affine(module.scale.diag(), module.shift)
    if module.limits is None:
        return region
    return _monotone(
        functools.partial(torch.clamp, min=module.limits[0], max=module.limits[1]), region
    )
