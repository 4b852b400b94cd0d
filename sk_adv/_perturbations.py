"""The set of allowed perturbations: radius, norm and bounds in one object."""

from collections.abc import Mapping, Set
from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.validation import _num_samples

from sk_adv._arrays import blocks_of, numeric_columns, to_numpy, to_tensor
from sk_adv._warnings import warn

PERTURBATION_CONSTRAINTS = {
    "epsilon": [Interval(Real, 0, None, closed="left"), "array-like", dict],
    "norm": [Options(Real, {2, np.inf})],
}


class PerturbationSet:
    """The perturbations η of a sample x with ‖η / ε‖ <= 1 and low <= x + η <= high.

    Features of radius 0 never change. The object is immutable: its methods return new sets.

    Parameters
    ----------
    epsilon : float, array-like, mapping or Series
        Radius of the perturbation in the units of X: one number, an array that broadcasts to the
        shape of one sample, or one number per column name.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds η / ε.

    bounds : tuple (low, high) or None, default=None
        Valid range of X. Each end is given like `epsilon`; None is no limit.

    like : array-like, frame or torch.Tensor of shape (n_samples, ...), default=None
        The data, for the shape of one sample and the column names. Without it neither is checked.

    Attributes
    ----------
    epsilon : torch.Tensor of shape () or broadcastable to one sample, float64
        The radii.

    norm : float
        The norm.

    bounds : tuple of float or torch.Tensor, or None
        The valid range.

    Raises
    ------
    ValueError
        If a radius is negative or not finite, a shape does not fit, `norm` is unknown, `bounds` is
        not an ordered pair, or a column name is unknown or missing.
    TypeError
        If a radius is not a number.
    """

    __slots__ = ("_bounds", "_epsilon", "_norm")

    def __init__(self, epsilon, norm=np.inf, bounds=None, *, like=None):
        shape = None if like is None else sample_shape(like)
        columns = column_names(like)
        self._norm = check_norm(norm)
        self._epsilon = to_tensor(check_radius(epsilon, shape, columns))
        self._bounds = check_bounds(bounds, shape, columns)

    @classmethod
    def unchecked(cls, epsilon, norm, bounds):
        """Make a set from valid tensors or numbers; the radii may differ between samples."""
        new = object.__new__(cls)
        new._epsilon, new._norm, new._bounds = torch.as_tensor(epsilon), norm, bounds
        return new

    epsilon = property(lambda self: self._epsilon)
    norm = property(lambda self: self._norm)
    bounds = property(lambda self: self._bounds)

    def __repr__(self):
        return (
            f"PerturbationSet(epsilon={self.epsilon.tolist()}, norm={self.norm}, "
            f"bounds={self.bounds})"
        )

    def _with(self, epsilon=None, bounds=None):
        """A copy of the set with other radii or bounds, which are not checked."""
        epsilon = self._epsilon if epsilon is None else epsilon
        return self.unchecked(epsilon, self._norm, self._bounds if bounds is None else bounds)

    # Sets derived from this one.

    def to(self, device=None, dtype=None):
        """The set on another device or in another floating-point dtype."""
        bounds = self.bounds
        if bounds is not None:
            bounds = tuple(_in_dtype(bound, device, dtype) for bound in bounds)
            _check_room(*bounds)
        epsilon = self.epsilon.to(device, dtype)
        if epsilon.isinf().any():
            raise ValueError(
                f"epsilon={float(self.epsilon.max()):g} is beyond the numbers of {dtype}, in which "
                "the samples or the module are: pass a smaller radius, or convert both to float64."
            )
        return self._with(epsilon, bounds)

    def scaled(self, factor):
        """The set with all radii multiplied by `factor`."""
        return self._with(self.epsilon * factor)

    def without_bounds(self):
        """The set without `bounds`."""
        return self.unchecked(self._epsilon, self._norm, None)

    def with_radius(self, epsilon):
        """The set with other radii, a valid tensor."""
        return self._with(epsilon.to(self.epsilon))

    def scaled_each(self, factors, shape):
        """The sets in which the radii of each sample are multiplied by a factor of its own.

        Parameters
        ----------
        factors : ndarray of shape (n_samples,)
        shape : tuple of int
            That of one sample.
        """
        factors = torch.as_tensor(factors).to(self.epsilon)
        return self._with(self.epsilon.expand(shape) * factors.reshape(-1, *[1] * len(shape)))

    def is_shared(self, shape):
        """Whether samples of this shape all have the same radii."""
        return self.epsilon.ndim <= len(shape)

    def of_rows(self, rows, shape):
        """The set of some samples of this shape."""
        return self if self.is_shared(shape) else self._with(self.epsilon[rows])

    def largest_radii(self, shape):
        """The largest radius of each feature of samples of this shape."""
        epsilon = self.epsilon if self.is_shared(shape) else self.epsilon.amax(0)
        return epsilon.expand(shape)

    def flattened(self, shape):
        """The set for samples of this shape that have been flattened to rows."""

        def flat(values):
            if isinstance(values, torch.Tensor) and values.ndim > len(shape):
                return values.flatten(1)
            is_array = isinstance(values, torch.Tensor) and values.ndim
            return values.expand(shape).flatten() if is_array else values

        return self._with(flat(self.epsilon), self.bounds and tuple(map(flat, self.bounds)))

    def restricted_to(self, free):
        """The set in which only the features in `free` may change; the others have no bounds.

        Parameters
        ----------
        free : ndarray of bool of shape (n_features,)
        """
        free = torch.as_tensor(free)
        bounds = self.bounds and tuple(
            torch.where(free, torch.as_tensor(bound, dtype=torch.float64), limit)
            for bound, limit in zip(self.bounds, (-torch.inf, torch.inf), strict=True)
        )
        return self._with(torch.where(free, self.epsilon, 0.0), bounds)

    def values(self):
        """Radius, norm and bounds."""
        return self.epsilon, self.norm, self.bounds

    def check_fits(self, shape):
        """Raise `ValueError` unless radius and bounds fit samples of this shape."""
        check_shape(self.epsilon, shape, "epsilon")
        for name, bound in zip(("low", "high"), self.bounds or (), strict=False):
            check_shape(torch.as_tensor(bound), shape, f"bounds: {name}")

    def as_given(self, X):
        """Radius, norm and bounds as tensors if X is a tensor, else as arrays.

        A user's own attack function receives them in this form.
        """
        if isinstance(X, torch.Tensor):
            allowed = self.to(X.device, X.dtype)
            return allowed.epsilon, self.norm, allowed.bounds
        bounds = self.bounds and tuple(to_numpy(bound) for bound in self.bounds)
        return self.epsilon.cpu().numpy(), self.norm, bounds

    # Geometry.

    def step(self, gradient, at=None):
        """The perturbation in the set that increases the linearised loss most, without `bounds`.

        max-norm: ε sign(g); Euclidean: ε ∘ (ε ∘ g) / ‖ε ∘ g‖₂. A zero gradient gives a zero step.
        Source: Goodfellow, Shlens and Szegedy (2015), section 4. `at` is the point of
        the gradient; None is a point that `bounds` do not hold back.
        """
        if self.norm == 2:
            gradient = self.without_dead_ends(gradient, at)
        return steepest_step_within(gradient, self.epsilon, self.norm, room=None)

    def without_dead_ends(self, gradient, at=None):
        """The gradient at a point, without infinite entries along which the point can't move.

        These are features of radius 0, and those at the end of `bounds` to which the entry points.
        A direction would hold them alone, as all finite entries are nothing beside them.
        """
        infinite = gradient.isinf()
        if not infinite.any():
            return gradient
        is_dead = infinite & (self.epsilon == 0)
        if at is not None and self.bounds is not None:
            low, high = (torch.as_tensor(bound).to(at) for bound in self.bounds)
            is_dead |= infinite & torch.where(gradient < 0, at <= low, at >= high)
        return gradient.masked_fill(is_dead, 0)

    def project(self, perturbation):
        """Project onto ‖η / ε‖ <= 1, ignoring `bounds`; distances are measured in units of ε."""
        if self.norm == np.inf:
            return torch.clamp(perturbation, -self.epsilon, self.epsilon)
        scaled = self._in_radii(perturbation)
        return self.epsilon * scaled / torch.clamp(euclidean_norm(scaled), min=1.0)

    def clip(self, X, out=None):
        """Clip X to `bounds`."""
        if self.bounds is None:
            return X
        low, high = self.bounds
        if isinstance(low, torch.Tensor):
            low, high = (bound.to(X.device, X.dtype) for bound in self.bounds)
        return torch.clamp(X, low, high, out=out)

    def box(self, X):
        """Lower and upper ends of the smallest box that contains all perturbed copies of X."""
        return self.clip(X - self.epsilon), self.clip(X + self.epsilon)

    def uniform_sample(self, shape, *, generator, dtype):
        """Perturbations drawn uniformly from ‖η / ε‖ <= 1, ignoring `bounds`."""
        options = {"generator": generator, "dtype": dtype, "device": generator.device}
        if self.norm == np.inf:
            return self.epsilon * (2 * torch.rand(shape, **options) - 1)
        direction = torch.randn(shape, **options)
        direction /= euclidean_norm(direction)
        dimension = self._dimension(shape)
        if dimension < direction[0].numel():
            direction = direction * (self.epsilon > 0)
            direction /= euclidean_norm(direction).clamp(min=torch.finfo(dtype).tiny)
        length = torch.rand(shape[0], **options) ** (1 / max(dimension, 1))
        return self.epsilon * direction * length.reshape(-1, *[1] * (len(shape) - 1))

    def sign_sample(self, shape, *, generator, dtype):
        """Perturbations of full radius with random signs.

        max-norm: ε ∘ s; Euclidean: ε ∘ s / √d, with d the number of positive radii.
        """
        options = {"generator": generator, "dtype": dtype, "device": generator.device}
        signs = 2 * torch.randint(2, shape, **options) - 1
        if self.norm == np.inf:
            return self.epsilon * signs
        return self.epsilon * signs / max(self._dimension(shape), 1) ** 0.5

    def norm_of(self, perturbation):
        """‖η / ε‖ per sample, with the feature axes kept; features of radius 0 don't count."""
        scaled = self._in_radii(perturbation)
        return euclidean_norm(scaled) if self.norm == 2 else largest_entry(scaled)

    def _in_radii(self, perturbation):
        return torch.where(self.epsilon > 0, perturbation / self.epsilon, 0.0)

    def _dimension(self, shape):
        # ε_j = 0 removes an axis: the dimension of the ball is the number of positive radii.
        return int((self.epsilon > 0).expand(shape[1:]).sum())


def as_perturbation_set(epsilon, norm, bounds, X):
    """Return `epsilon` if it is a `PerturbationSet`, else make one for the data X."""
    if isinstance(epsilon, PerturbationSet):
        return epsilon
    perturbations = PerturbationSet(epsilon, norm, bounds, like=X)
    _warn_of_samples_outside(perturbations, X)
    return perturbations


def _warn_of_samples_outside(perturbations, X):
    """Warn of samples outside of the bounds, where other samples than X are attacked."""
    if perturbations.bounds is None:
        return
    low, high = (np.asarray(bound, dtype=np.float64) for bound in perturbations.bounds)
    # The rounding of a scaler or of an image is no reason to warn.
    slack = 1e-6 * np.where(np.isfinite(high - low), high - low, 0)
    n_outside = 0
    for _, block in blocks_of(X):
        values = _numbers_in(block)
        if values is not None:
            is_outside = (values < low - slack) | (values > high + slack)
            n_outside += int(is_outside.any(axis=tuple(range(1, values.ndim))).sum())
    if n_outside:
        warn(
            f"{n_outside} of {_num_samples(X)} samples lie outside `bounds`. They are brought "
            "inside first, so that what is said of them is said of other samples than those of X. "
            "Give `bounds` in the units of X."
        )


def _numbers_in(X):
    """X as an array of numbers, columns of another kind as NaN; None if there are no numbers."""
    if hasattr(X, "columns"):
        return numeric_columns(X)
    values = np.asarray(to_numpy(X))
    if values.dtype.kind in "fiub":
        return values
    # Numbers beside words, which NumPy takes for words in a list.
    if values.ndim == 2 and (values.dtype.kind == "O" or isinstance(X, list)):
        return numeric_columns(X)
    return None


def euclidean_norm(tensor):
    """Euclidean norm per sample, with the feature axes kept for broadcasting."""
    norms = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (tensor.ndim - 1))


def largest_entry(tensor):
    """Largest absolute value per sample, with the feature axes kept for broadcasting."""
    return tensor.abs().flatten(1).amax(1).reshape(-1, *[1] * (tensor.ndim - 1))


def by_largest(gradient):
    """Divide each sample's gradient by its largest absolute entry, so that no square underflows.

    A zero gradient stays zero. If a gradient has infinite entries, these become ±1 and all others
    become 0.
    """
    largest = largest_entry(gradient)
    if largest.isinf().any():
        infinite = gradient.isinf()
        limit = torch.where(infinite, gradient.sign(), 0.0)
        gradient = torch.where(largest.isinf(), limit, gradient)
        largest = torch.where(largest.isinf(), 1.0, largest)
    return torch.nan_to_num(gradient / largest)


def dual_norm(weights, epsilon, norm):
    """max over ‖η / ε‖ <= 1 of wᵀη, for each row of `weights` (..., n_features).

    max-norm: Σ_j ε_j |w_j|; Euclidean: (Σ_j ε_j² w_j²)^½.
    """
    scaled = epsilon * weights
    return torch.linalg.vector_norm(scaled, ord=1 if norm == np.inf else 2, dim=-1)


def steepest_step_within(gradient, epsilon, norm, room):
    """The step η with ‖η / ε‖ <= 1, and within `room`, that increases the linearised loss most.

    Rows of `gradient` are samples; `epsilon` holds one radius, one per feature, or one per entry.
    `room` is None, or a pair of tensors (lowest <= 0, highest >= 0) between which η must lie. In
    the max-norm the step is ε sign(gradient), clamped to `room`.

    In the Euclidean norm, write v = |η| / ε, g = ε ∘ |gradient|, and k for the room of η divided by
    ε, on the side to which the gradient points. The
    Karush-Kuhn-Tucker conditions give v = k if ‖k‖ <= 1, and else v = min(τ g, k) with τ such that
    ‖v‖ = 1. For each set S of features

        Σ_S k² + τ² Σ_{not S} g²  >=  ‖min(τ g, k)‖² ,

    with equality if S is the set of capped features, those with τ g >= k. Hence τ is the largest of
    the values that make the left side 1. It is enough to try the sets S that the features form in
    the order of k / g, in which growing τ caps them.
    """
    if norm == np.inf:
        step = gradient.sign().mul_(epsilon)
        return step if room is None else torch.clamp(step, *room)
    if room is None:
        # In units of the largest radius, as squares of large radii would overflow.
        unit = epsilon / epsilon.amax().clamp(min=torch.finfo(epsilon.dtype).tiny)
        scaled = unit * by_largest(gradient)
        length = euclidean_norm(scaled)
        return torch.where(length > 0, epsilon * (scaled / length), 0.0)
    g = by_largest(epsilon * gradient.abs())
    lowest, highest = room
    k = torch.where(g > 0, torch.where(gradient > 0, highest, -lowest) / epsilon, 0.0)
    order = (k / g).nan_to_num(nan=torch.inf).argsort(1)
    k_squared, g_squared = (k**2).gather(1, order), (g**2).gather(1, order)
    left = 1 - (k_squared.cumsum(1) - k_squared)
    rest = g_squared.flip(1).cumsum(1).flip(1)
    tau = (left.clamp(min=0) / rest).sqrt().nan_to_num(nan=0.0).amax(1, keepdim=True)
    return epsilon * torch.minimum(tau * g, k) * gradient.sign()


# Checks of the user's values.


def sample_shape(X):
    """The shape of one sample of X."""
    shape = getattr(X, "shape", None)
    if shape is None:
        try:
            shape = np.asarray(to_numpy(X)).shape
        except ValueError as error:
            raise ValueError(
                "X must have shape (n_samples, n_features), but its rows differ in length: make "
                "them equally long."
            ) from error
    return tuple(shape)[1:]


def column_names(X):
    """The names of the columns of a frame, or None."""
    return list(X.columns) if hasattr(X, "columns") else None


def check_norm(norm):
    """Return `norm` if it is 2 or infinity, else raise `ValueError`."""
    if not isinstance(norm, Real) or norm not in (2, np.inf):
        raise ValueError(f"norm must be numpy.inf or 2; got {norm!r}.")
    return norm


def check_radius(epsilon, shape=None, columns=None, name="epsilon"):
    """Validate a radius.

    Parameters
    ----------
    epsilon : float, array-like, mapping or Series
        The radius in the units of X.
    shape : tuple of int or None, default=None
        The shape of one sample. None skips the check of the shape.
    columns : list or None, default=None
        The column names, if X is a frame.
    name : str, default="epsilon"
        The parameter's name in error messages.

    Returns
    -------
    ndarray of shape () or broadcastable to `shape`, float64

    Raises
    ------
    ValueError
        If an entry is negative, NaN or infinite, a shape does not fit, or a column name is unknown
        or missing.
    TypeError
        If the radius is not numeric.
    """
    values = by_position(epsilon, shape, columns, name, default=0.0)
    try:
        radius = _as_floats(values)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number or an array of numbers; got {epsilon!r}."
        ) from error
    check_shape(radius, shape, name)
    if not np.isfinite(radius).all() or (radius < 0).any():
        worst = radius if not radius.ndim else radius[~(np.isfinite(radius) & (radius >= 0))][0]
        raise ValueError(f"{name} must be finite and at least 0; got {float(worst)!r}.")
    return radius


def check_scale(scale, X):
    """The scale of the radii of X, None being 1: of shape (), or broadcastable to one sample."""
    scale = 1.0 if scale is None else scale
    return check_radius(scale, sample_shape(X), column_names(X), name="scale")


def check_bounds(bounds, shape=None, columns=None):
    """Validate `bounds`: None, or a pair (low, high), each end given like a radius.

    Returns
    -------
    None, or a tuple of two float, or of two float64 tensors

    Raises
    ------
    ValueError
        If `bounds` is not a pair, a shape is wrong, an entry is NaN, low exceeds high, or a column
        name is unknown or missing.
    """
    if bounds is None:
        return None
    try:
        ends = list(bounds)
        if isinstance(bounds, Mapping | Set | str | bytes) or len(ends) != 2:
            raise ValueError
        low, high = (
            by_position(end, shape, columns, f"bounds: {name}", default)
            for end, name, default in zip(ends, ("low", "high"), (-np.inf, np.inf), strict=True)
        )
        low = _as_floats(-np.inf if low is None else low)
        high = _as_floats(np.inf if high is None else high)
    except ColumnError:
        raise
    except (TypeError, ValueError) as error:
        raise ValueError(
            "bounds must be None or a pair (low, high), each end a number, an array of numbers, or "
            f"None for no limit; got {bounds!r}."
        ) from error
    for name, bound in (("low", low), ("high", high)):
        check_shape(bound, shape, f"bounds: {name}")
        if np.isnan(bound).any():
            raise ValueError(f"bounds: {name} must not be NaN; got {bounds!r}.")
    if low.ndim and high.ndim and low.shape != high.shape:
        raise ValueError(
            "bounds: low and high must have the same shape, or one of them be a number; got shapes "
            f"{low.shape} and {high.shape}."
        )
    if (low > high).any():
        raise ValueError(f"bounds must be (low, high) with low <= high; got {bounds!r}.")
    _check_room(low, high)
    # torch.clamp is eight times as fast with numbers as with tensors.
    if not low.ndim and not high.ndim:
        return float(low), float(high)
    return tuple(to_tensor(end.copy()) for end in np.broadcast_arrays(low, high))


def _as_floats(values):
    """An array of numbers in float64; `TypeError` or `ValueError` if the values are others."""
    array = np.asarray(to_numpy(values))
    # float(None) would be refused, but NumPy makes NaN of it.
    if array.dtype.kind not in "fiubO" or (array == None).any():  # noqa: E711
        raise TypeError
    try:
        return np.asarray(array, dtype=np.float64)
    except OverflowError as error:
        raise ValueError from error


def _in_dtype(bound, device, dtype):
    """A bound on another device and in another dtype; one beyond the dtype's range is infinite."""
    if isinstance(bound, torch.Tensor):
        return bound.to(device, dtype)
    if dtype is None or abs(bound) <= torch.finfo(dtype).max:
        return bound
    return float(np.copysign(np.inf, bound))


def _check_room(low, high):
    """Raise `ValueError` if there is no finite number from low to high."""
    ends = (low, np.inf), (high, -np.inf)
    if any(bool(np.any(np.equal(to_numpy(end), limit))) for end, limit in ends):
        raise ValueError(
            f"bounds must hold a finite number of the dtype of X; got the range {low} to {high}: "
            "pass X in float64, or other bounds."
        )


def check_shape(values, shape, name):
    """Raise `ValueError` unless `values` is a scalar or broadcasts to the shape of one sample."""
    if shape is None or not values.ndim or tuple(values.shape) == tuple(shape):
        return
    can_broadcast = len(shape) > 1 and values.ndim == len(shape)
    if can_broadcast and all(n in (1, m) for n, m in zip(values.shape, shape, strict=True)):
        return
    hint = f", or a shape that broadcasts to it, such as {(*shape[:1], *[1] * len(shape[1:]))}"
    raise ValueError(
        f"{name} must be a single number or have one entry per feature, "
        f"shape {tuple(shape)}{hint if len(shape) > 1 else ''}; got shape {tuple(values.shape)}."
    )


class ColumnError(ValueError):
    """A column name that is unknown or missing."""


def by_position(values, shape, columns, name, default):
    """Arrange values that have names in the order of the columns; return other values as they are.

    Columns that a mapping does not name get `default`. A pandas Series, a frame of one row, or a
    polars Series of one struct must name all columns. If `shape` is None, the values keep their
    own order.

    Raises
    ------
    ColumnError
        If a column name is unknown or missing, or X has no column names.
    """
    named = _by_name(values)
    if named is None:
        return values
    if shape is None:
        return list(named.values())
    is_mapping = isinstance(values, Mapping)
    if columns is None:
        if not is_mapping and list(named) == list(range(len(named))):
            return list(named.values())
        raise ColumnError(
            f"{name} has column names, {_some(named)}, but X has none: pass X as a frame, or "
            f"{name} as an array in the order of the columns."
        )
    unknown = [key for key in named if key not in columns]
    if unknown:
        raise ColumnError(
            f"{name} names columns that X does not have, {_some(unknown)}; X has {_some(columns)}."
        )
    missing = [column for column in columns if column not in named]
    if missing and not is_mapping:
        raise ColumnError(
            f"{name} has no entry for the columns {_some(missing)}: add them, or pass a dict, "
            "which leaves columns without an entry as they are."
        )
    return [named.get(column, default) for column in columns]


def _by_name(values):
    """The values as a dict by name, or None if they have no names."""
    if isinstance(values, Mapping):
        return dict(values)
    if hasattr(values, "columns") and len(values) == 1:
        return {column: values[column].to_numpy()[0] for column in values.columns}
    if hasattr(values, "index") and hasattr(values, "to_dict") and hasattr(values, "iloc"):
        if not values.index.is_unique:
            raise ColumnError(
                "A Series of radii or bounds must have unique labels; got "
                f"{_some(values.index[values.index.duplicated()])} more than once."
            )
        return values.to_dict()
    # A polars frame becomes a Series of structs.
    if hasattr(values, "struct") and getattr(values.dtype, "fields", None) and len(values) == 1:
        return values.to_list()[0]
    return None


def _some(names, n=10):
    """The first n names as text, and how many more there are."""
    names = list(names)
    return f"{names[:n]}" if len(names) <= n else f"{names[:n]} and {len(names) - n} more"
