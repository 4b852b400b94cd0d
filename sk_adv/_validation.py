"""Checks of the parameters that attacks, estimators and metrics have in common."""

from contextlib import contextmanager
from numbers import Real

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.validation import _check_sample_weight

from sk_adv._devices import to_numpy

PERTURBATION_CONSTRAINTS = {
    "epsilon": [Interval(Real, 0, None, closed="left"), "array-like"],
    "norm": [Options(Real, {2, np.inf})],
}


def check_norm(norm):
    """Return `norm` if it is one of the two supported norms, else raise `ValueError`."""
    if not isinstance(norm, Real) or norm not in (2, np.inf):
        raise ValueError(f"norm must be numpy.inf or 2; got {norm!r}.")
    return norm


def check_epsilon(epsilon, feature_shape, name="epsilon"):
    """Validate a radius: one number, or one number a feature.

    Parameters
    ----------
    epsilon : float or array-like of shape `feature_shape`
        The radius in the units of X.

    feature_shape : tuple of int or None
        The shape of one sample; None where it is not known yet.

    name : str, default="epsilon"
        The parameter's name in messages.

    Returns
    -------
    ndarray of shape () or `feature_shape`, float64

    Raises
    ------
    ValueError
        If an entry is negative, NaN or infinite, or the shape is wrong.
    TypeError
        If `epsilon` is not numeric.
    """
    try:
        if epsilon is None:
            raise TypeError
        radius = np.asarray(to_numpy(epsilon), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number or an array of numbers; got {epsilon!r}."
        ) from error
    if feature_shape is not None and radius.ndim and radius.shape != tuple(feature_shape):
        raise ValueError(
            f"{name} must be a single number or have one entry a feature, "
            f"shape {tuple(feature_shape)}; got shape {radius.shape}."
        )
    if not np.isfinite(radius).all() or (radius < 0).any():
        worst = radius if not radius.ndim else radius[~(np.isfinite(radius) & (radius >= 0))][0]
        raise ValueError(f"{name} must be finite and at least 0; got {float(worst)!r}.")
    return radius


def check_bounds(bounds, feature_shape):
    """Validate `bounds`: None, or a pair (low, high) of numbers or arrays of `feature_shape`.

    With `feature_shape=None`, where it is not known yet, only all else is checked.

    Returns
    -------
    None or tuple of two float64 ndarrays

    Raises
    ------
    ValueError
        If it is no pair, a shape is wrong, an entry is NaN, or low lies above high.
    """
    if bounds is None:
        return None
    try:
        low, high = (np.asarray(to_numpy(bound), dtype=np.float64) for bound in bounds)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"bounds must be None or a pair (low, high) of numbers or arrays; got {bounds!r}."
        ) from error
    for name, bound in (("low", low), ("high", high)):
        if feature_shape is not None and bound.ndim and bound.shape != tuple(feature_shape):
            raise ValueError(
                f"bounds: {name} must be a single number or have one entry a feature, "
                f"shape {tuple(feature_shape)}; got shape {bound.shape}."
            )
        if np.isnan(bound).any():
            raise ValueError(f"bounds: {name} must not be NaN; got {bounds!r}.")
    if low.ndim and high.ndim and low.shape != high.shape:
        raise ValueError(f"bounds: low and high differ in shape, {low.shape} and {high.shape}.")
    if (low > high).any():
        raise ValueError(f"bounds must be (low, high) with low <= high; got {bounds!r}.")
    return low, high


def joint_weight(y, sample_weight, class_weight, classes=None):
    """Weights of samples times those of their classes, float64, or None if there are none.

    `class_weight` may name `classes` that y lacks, as a chunk of the data does.

    Raises
    ------
    ValueError
        If a weight is negative, NaN or infinite, or `class_weight` names a class that is in
        neither y nor `classes`.
    """
    sample_weight = to_numpy(sample_weight)
    if sample_weight is None and class_weight is None:
        return None
    weight = _check_sample_weight(
        sample_weight, np.empty((len(y), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if class_weight is not None:
        # A class without weight has none to balance.
        used = np.flatnonzero(weight)
        known = np.unique(y[used]) if classes is None else np.union1d(y[used], classes)
        try:
            factors = compute_class_weight(
                class_weight,
                classes=known,
                y=y[used],
                sample_weight=None if sample_weight is None else weight[used],
            )
        except ValueError as error:
            raise ValueError(f"class_weight={class_weight!r}: {error}") from error
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"class_weight must be finite and at least 0; got {class_weight!r}.")
        weight = weight.copy()
        weight[used] *= factors[np.searchsorted(known, y[used])]
    if not np.isfinite(weight.sum()):
        raise ValueError("The sum of the weights is not finite: make them smaller.")
    return weight


def check_dense(X, who):
    """Raise `TypeError` if X is a sparse matrix: a dense perturbation would fill it in."""
    if sparse.issparse(X) or (isinstance(X, torch.Tensor) and X.layout != torch.strided):
        raise TypeError(
            f"{who} takes dense X; got a sparse {type(X).__name__}. A perturbation changes zero "
            "entries too: make X dense, by toarray() or to_dense(), if it fits in memory."
        )


@contextmanager
def unchanged_on_error(estimator):
    """Restore all attributes of an estimator if its fit fails, so that an old fit survives."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
