"""Checks of parameters that attacks, estimators and metrics share."""

from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from sklearn.pipeline import Pipeline
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from sk_adv._arrays import check_unmasked, to_numpy


def check_class_indices(labels, n_classes):
    """Raise `ValueError` if one of the class indices, a tensor, has no logit."""
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        raise ValueError(
            f"y must hold class indices from 0 to {n_classes - 1}, as the module returns "
            f"{n_classes} logits; got {wrong.unique().tolist()}."
        )


def joint_weight(y, sample_weight, class_weight, classes=None):
    """Sample weights times class weights.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None
    class_weight : dict, "balanced" or None
    classes : array-like of shape (n_classes,), default=None
        All classes, if y holds only a part of the data: `class_weight` may name classes that y
        lacks.

    Returns
    -------
    ndarray of shape (n_samples,), float64, or None if both weights are None

    Raises
    ------
    ValueError
        If a weight is negative, NaN or infinite, or `class_weight` names a class that is in
        neither y nor `classes`.
    """
    sample_weight = to_numpy(sample_weight)
    check_unmasked(sample_weight=sample_weight)
    if sample_weight is None and class_weight is None:
        return None
    weight = _check_sample_weight(
        sample_weight, np.empty((len(y), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if class_weight is not None:
        # Samples of weight 0 don't count when the classes are balanced.
        used = np.flatnonzero(weight)
        known = np.unique(y[used])
        if classes is not None and class_weight != "balanced":
            known = np.union1d(known, classes)
        try:
            factors = compute_class_weight(class_weight, classes=known, y=y[used])
        except ValueError as error:
            raise ValueError(f"class_weight={class_weight!r}: {error}") from error
        position = np.searchsorted(known, y[used])
        if isinstance(class_weight, str):
            # "balanced": scikit-learn below 1.7 counts samples there, and not their weights.
            total = np.bincount(position, weight[used])
            factors = total.sum() / (len(total) * total)
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"class_weight must be finite and at least 0; got {class_weight!r}.")
        weight = weight.copy()
        weight[used] *= factors[position]
    if not np.isfinite(weight.sum()):
        raise ValueError("The sum of the weights overflows float64: pass smaller weights.")
    return weight


def check_dense(X, who, otherwise=""):
    """Raise `TypeError` if X is sparse: a perturbation changes its zeros too.

    The message ends in `otherwise`, another way.
    """
    if sparse.issparse(X) or (isinstance(X, torch.Tensor) and X.layout != torch.strided):
        raise TypeError(
            f"{who} needs a dense X, since a perturbation changes zero entries too; got a sparse "
            f"{type(X).__name__}. Call toarray() or to_dense() if the result fits in memory"
            f"{otherwise}."
        )


def check_labels_present(y):
    """Raise `ValueError` if y holds NaT or None, which are no classes."""
    y = np.asarray(y)
    if y.dtype == object and any(label is None for label in y.ravel()):
        raise ValueError("y holds None: leave these samples out, or give them a label.")
    missing = np.isnat(y) if y.dtype.kind in "mM" else np.zeros(0, dtype=bool)
    if missing.any():
        raise ValueError(
            f"y holds NaT, a missing time, in {missing.sum()} of {len(y)} samples: leave these "
            "samples out, or give them a label."
        )


def name_of(estimator):
    """The name of an estimator in messages: its class, as in "SVC" or "Pipeline of SVC"."""
    name = type(estimator).__name__
    return f"{name} of {name_of(estimator[-1])}" if isinstance(estimator, Pipeline) else name


@contextmanager
def unchanged_on_error(estimator):
    """Restore all attributes of an estimator if its fit fails, so that a previous fit survives."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
