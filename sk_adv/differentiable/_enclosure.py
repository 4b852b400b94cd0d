"""Sets of the values that a layer can take when its input is perturbed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from sk_adv._perturbations import PerturbationSet, dual_norm, steepest_step_within

# The distance between neighbouring float64 numbers around 1.
_SPACING = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Enclosure:
    """Sets that hold the values of a layer, one set for each sample.

    A set is {A (u + η) + b : ‖η / r‖ <= 1, lowest <= η <= highest}, widened by a bound on the
    rounding of the model in its own precision. An affine layer only changes A and b, so its bounds
    are exact, by the dual norm. Any other layer gives intervals.

    Parameters
    ----------
    centre : torch.Tensor of shape (n_samples, n_features), float64
        The points u.

    radius : torch.Tensor of shape (), (n_features,) or (n_samples, n_features)
        The radii r.

    norm : {numpy.inf, 2}
        The norm that bounds η.

    error : torch.Tensor of shape (n_samples, n_values)
        Bound on the rounding of the values.

    rounding : float
        Spacing of the model's numbers around 1.

    offset : torch.Tensor of shape (n_samples, n_values)
        The vector b; NaN for a missing value, which can't be perturbed.

    room : tuple (lowest, highest) of torch.Tensor, or None, default=None
        How far η may go down and up, of shape (n_samples, n_features).

    coef : torch.Tensor of shape (n_values, n_features) or None, default=None
        The matrix A; None is the identity.

    is_exact : bool, default=True
        Whether η is still the perturbation of the input. Then the sets hold only the values that
        a perturbation can bring about, and rounding.

    shape : tuple of int or None, default=None
        The shape of one sample's values, where they are not a vector but, say, an image.

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
    offset: Tensor
    room: tuple[Tensor, Tensor] | None = None
    coef: Tensor | None = None
    is_exact: bool = True
    shape: tuple[int, ...] | None = None

    @classmethod
    def around(
        cls,
        X: Tensor,
        epsilon: float | Tensor,
        norm: float,
        *,
        bounds: tuple | None = None,
        rounding: float = _SPACING,
    ) -> "Enclosure":
        """The perturbation sets of samples.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, n_features) or (n_samples, ...), float64
            The samples; those outside of `bounds` are first brought into them.

        epsilon : float or torch.Tensor of shape (n_features,)
            Radius of the perturbation, in the units of X.

        norm : {numpy.inf, 2}
            The norm that bounds it.

        bounds : tuple (low, high) or None, default=None
            Valid range of X.

        rounding : float, default=the spacing of float64
            Spacing around 1 of the numbers in which the model computes.

        Returns
        -------
        Enclosure
            The sets.
        """
        return cls.of(X, PerturbationSet(epsilon, norm, bounds, like=X), rounding=rounding)

    @classmethod
    def of(
        cls, X: Tensor, perturbations: PerturbationSet, *, rounding: float = _SPACING
    ) -> "Enclosure":
        """The sets around samples, from a `PerturbationSet`.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, n_features) or (n_samples, ...), float64
            The samples, which are first brought into the bounds.

        perturbations : PerturbationSet
            The perturbations.

        rounding : float, default=the spacing of float64
            Spacing around 1 of the numbers that the model computes with.

        Returns
        -------
        Enclosure
            The sets.
        """
        shape = tuple(X.shape[1:])
        perturbations, X = perturbations.flattened(shape), X.flatten(1)
        missing, room = X.isnan(), None
        offset = torch.zeros_like(X).masked_fill(missing, torch.nan)
        allowed = perturbations.to(X.device, X.dtype)
        X, radius = allowed.clip(X).masked_fill(missing, 0.0), allowed.epsilon
        if missing.any():
            radius = torch.where(missing, 0.0, radius)
        if allowed.bounds is not None:
            room = tuple((end - X).masked_fill(missing, 0.0) for end in allowed.box(X))
        error = rounding * (X.abs() + radius)
        shape = None if len(shape) == 1 else shape
        return cls(X, radius, allowed.norm, error, rounding, offset, room, shape=shape)

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
        values = self._map(centre)
        reach = self._reach(reach) + self.error
        return values - reach, values + reach

    def values(self) -> Tensor:
        """The values of the unperturbed samples, or of the middles of intervals.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_values)
            A u + b.
        """
        return self._map(self.centre)

    def _map(self, X):
        return (X if self.coef is None else linear(X, self.coef)) + self.offset

    def _reach(self, radius):
        """The dual norms of the rows of A."""
        if self.coef is None:
            return radius
        if radius.ndim < 2:
            return dual_norm(self.coef, radius, self.norm)
        if self.norm == np.inf:
            return linear(radius, self.coef.abs())
        return linear(radius**2, self.coef**2).sqrt()

    def affine(self, weight: Tensor, bias: Tensor | None = None) -> "Enclosure":
        """The sets of an affine layer's outputs, without any slack.

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
        if weight.shape[1:] != self.offset.shape[1:]:
            raise ValueError(
                f"weight must have shape (n_outputs, {self.offset.shape[1]}), for samples of "
                f"{self.offset.shape[1]} values; got {tuple(weight.shape)}."
            )
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        weight, bias = weight.to(self.centre), bias.to(self.centre)
        low, high = self.limits()
        # The error of a sum of n products in floating point, in any order, is at most n u Σ|w||x|,
        # to first order in the unit roundoff u, which is half of the spacing (Higham, "Accuracy and
        # Stability of Numerical Algorithms", 2nd ed., section 3.1).
        n_terms = (weight != 0).sum(1) + 1
        size = linear(torch.maximum(-low, high).nan_to_num(), weight.abs(), bias.abs())
        error = linear(self.error, weight.abs()) + n_terms * self.rounding * size
        offset = linear(self.offset.nan_to_num(), weight, bias)
        # A missing value makes only those outputs NaN in which it has a weight.
        missing = self.offset.isnan()
        if missing.any():
            reached = linear(missing.to(weight), (weight != 0).to(weight)) > 0
            offset = offset.masked_fill(reached, torch.nan)
        coef = weight if self.coef is None else weight @ self.coef
        return replace(self, coef=coef, offset=offset, error=error, shape=None)

    def between(self, low: Tensor, high: Tensor) -> "Enclosure":
        """Intervals in place of these sets, with the rounding of one more layer.

        Parameters
        ----------
        low, high : torch.Tensor of shape (n_samples, n_values) or (n_samples, ...)
            Their ends.

        Returns
        -------
        Enclosure
            The intervals, widened by the rounding error of functions such as tanh.
        """
        shape = None if low.ndim == 2 else tuple(low.shape[1:])
        low, high = low.flatten(1), high.flatten(1)
        # Elementary functions have an error of a few units in the last place.
        error = 4 * self.rounding * torch.maximum(-low, high)
        middle, reach = (low + high) / 2, (high - low) / 2
        offset = torch.zeros_like(middle)
        return Enclosure(
            middle, reach, np.inf, error, self.rounding, offset, is_exact=False, shape=shape
        )

    def in_shape(self, values: Tensor) -> Tensor:
        """Values, or ends of intervals, in the shape that the layer gives them.

        Parameters
        ----------
        values : torch.Tensor of shape (n_samples, n_values)
            One number per value.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_values) or (n_samples, ...)
            The same numbers.
        """
        return values if self.shape is None else values.unflatten(1, self.shape)

    def rivals(self, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over the classes k as rivals of the samples' own class y.

        The two rows of weights are subtracted before the worst η is sought. After affine layers
        alone that is exact; after others it is tighter than the difference of two intervals.

        Parameters
        ----------
        labels : torch.Tensor of shape (n_samples,), int64
            The classes y.

        Yields
        ------
        gap : torch.Tensor of shape (n_samples,)
            z_k - z_y at the centre; minus infinity where k is y.

        gain : torch.Tensor of shape (n_samples,)
            The amount that the worst η adds to it.

        step : torch.Tensor of shape (n_samples, n_features)
            The worst η.

        Raises
        ------
        ValueError
            If the samples hold NaN, or a label has no value.
        """
        values = self.values()
        if values.isnan().any():
            raise ValueError(
                "X holds NaN, which the model does not take: put a SimpleImputer before it."
            )
        if len(labels) and int(labels.max()) >= values.shape[1]:
            raise ValueError(
                f"y must hold class indices from 0 to {values.shape[1] - 1}, as the module returns "
                f"{values.shape[1]} logits; got {int(labels.max())}."
            )
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
        """Whether one value is the first largest, whatever the perturbation and the rounding.

        Parameters
        ----------
        labels : torch.Tensor of shape (n_samples,), int64
            Index of the value.

        Returns
        -------
        torch.Tensor of shape (n_samples,), bool
            True where every value before it stays below it, and none after it exceeds it, as
            `predict` takes the first class of several that are equal.
        """
        worst = torch.stack([gap + gain for gap, gain, _ in self.rivals(labels)], dim=1)
        worst = worst + self.error + self.error.gather(1, labels[:, None])
        is_after = torch.arange(worst.shape[1], device=labels.device) > labels[:, None]
        return ((worst < 0) | (is_after & (worst == 0))).all(1)
