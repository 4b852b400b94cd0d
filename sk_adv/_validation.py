"""Checks of the parameters that attacks, estimators and metrics have in common."""

from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from sk_adv._devices import to_numpy


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
