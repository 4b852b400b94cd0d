"""Checks of the displays' inputs: named estimators and predictions."""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import zero_one_loss
from sklearn.utils.multiclass import unique_labels

from sk_adv._arrays import to_numpy
from sk_adv._validation import joint_weight, name_of


def named_estimators(estimators):
    """Split a dict, or a list of (name, estimator), into a list of names and one of estimators.

    Raises
    ------
    ValueError
        If there is no estimator, an entry is not a pair, or a name occurs twice.
    """
    pairs = estimators.items() if isinstance(estimators, Mapping) else estimators
    pairs = list(pairs) if np.iterable(pairs) else []
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError(
            "estimators must be a dict of name to fitted estimator, or a list of "
            f"(name, estimator), with at least one entry; got {estimators!r}."
        )
    names, fitted = zip(*pairs, strict=True)
    if len(set(names)) < len(names):
        raise ValueError(f"estimators must have different names; got {list(names)}.")
    return [str(name) for name in names], list(fitted)


def named_by_class(estimators):
    """A dict, or a list of pairs, as it is; a list of estimators as pairs with their classes.

    Several of one class are numbered from 1.
    """
    is_list = isinstance(estimators, list | tuple) and len(estimators) > 0
    if not is_list or any(isinstance(one, tuple) for one in estimators):
        return estimators
    names = [name_of(one) for one in estimators]
    return [
        (name if names.count(name) == 1 else f"{name} {names[: k + 1].count(name)}", one)
        for k, (name, one) in enumerate(zip(names, estimators, strict=True))
    ]


def check_names(names, n, *, per):
    """Return the names as n texts; raise `ValueError` if they are no sequence of n."""
    is_sequence = np.iterable(names) and not isinstance(names, str | bytes)
    found = [str(name) for name in names] if is_sequence else None
    if found is None or len(found) != n:
        raise ValueError(
            f"names must hold one name per {per}, {n}; got "
            f"{repr(names) if found is None else len(found)}."
        )
    return found


def legend_name(attack):
    """The name of an attack as a legend shows it."""
    acronyms = {"apgd": "APGD", "fgsm": "FGSM", "fgsm_rs": "FGSM-RS", "pgd": "PGD"}
    return acronyms.get(attack, attack.replace("_", " "))


def error_rates(y_true, predictions, sample_weight, leading):
    """Share of wrong predictions along the last axis.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    predictions : array-like of shape (..., n_samples)
    sample_weight : array-like of shape (n_samples,) or None
    leading : list of str
        The allowed shapes without the last axis, such as `["n_radii", "n_curves, n_radii"]`.

    Returns
    -------
    ndarray of shape (...)
    """
    predictions = np.asarray(to_numpy(predictions))
    y_true = np.asarray(to_numpy(y_true))
    allowed = [axes.count(",") + 2 for axes in leading]
    if predictions.ndim not in allowed or predictions.shape[-1:] != y_true.shape:
        shapes = " or ".join(f"({axes}, n_samples)" for axes in leading)
        raise ValueError(
            f"predictions must have shape {shapes}, and y_true one label per sample; got "
            f"predictions of shape {predictions.shape} and y_true of shape {y_true.shape}."
        )
    # zero_one_loss of scikit-learn below 1.9 counts text beside numbers as errors.
    unique_labels(y_true, predictions.ravel())
    weight = joint_weight(y_true, sample_weight, None)
    errors = [
        zero_one_loss(y_true, row, sample_weight=weight)
        for row in predictions.reshape(-1, len(y_true))
    ]
    return np.reshape(errors, predictions.shape[:-1])
