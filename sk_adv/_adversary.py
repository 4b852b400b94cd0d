"""Attacks on fitted estimators: labels and containers in, adversarial copies out."""

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import _check_y, check_is_fitted

from sk_adv._devices import to_numpy
from sk_adv._validation import check_bounds, check_dense, check_epsilon, check_norm
from sk_adv.attacks import fgsm, pgd
from sk_adv.differentiable import as_module

ATTACKS = {"fgsm": fgsm, "pgd": pgd}


def resolve_attack(attack):
    """The attack function of a name, or the callable itself.

    Raises
    ------
    ValueError
        If the name is unknown or `attack` is neither name nor callable.
    """
    if callable(attack):
        return attack
    if isinstance(attack, str) and attack in ATTACKS:
        return ATTACKS[attack]
    raise ValueError(
        f"attack must be one of {sorted(ATTACKS)} or a function like sk_adv.attacks.fgsm; "
        f"got {attack!r}."
    )


def perturb(
    estimator,
    X,
    y,
    *,
    epsilon,
    attack="fgsm",
    norm=np.inf,
    bounds=None,
    device=None,
    **attack_params,
):
    """Adversarial copies of X against a fitted classifier, in X's units and container.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features)
        Clean samples.

    y : array-like of shape (n_samples,)
        Labels to move away from. Samples with a label that the estimator has never seen stay
        clean: they are misclassified already.

    epsilon, norm, bounds : see sk_adv.attacks.fgsm

    attack : {"fgsm", "pgd"} or callable, default="fgsm"
        A name, or a function like `sk_adv.attacks.fgsm`.

    device : str or torch.device, default=None
        Where the attack runs; None is where the estimator's weights are.

    **attack_params : dict
        Further arguments of the attack.

    Returns
    -------
    array, frame or torch.Tensor of the type of X
    """
    run = resolve_attack(attack)
    check_norm(norm)
    classes, values, y = check_samples(estimator, X, y)
    check_epsilon(epsilon, values.shape[1:])
    check_bounds(bounds, values.shape[1:])
    known = np.isin(y, classes)
    indices = np.searchsorted(classes, y[known])
    module = as_module(estimator, device=device)
    copies = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    if known.any():
        rows = torch.from_numpy(known).to(values.device) if torch.is_tensor(values) else known
        copies[rows] = run(
            module, values[rows], indices, epsilon, norm=norm, bounds=bounds, **attack_params
        )
    return _in_container_of(X, copies)


def check_samples(estimator, X, y):
    """Validate samples and labels against a fitted classifier.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    values : ndarray or torch.Tensor of shape (n_samples, n_features)
        X as floating point numbers.
    y : ndarray of shape (n_samples,)
    """
    check_dense(X, "An attack")
    check_is_fitted(estimator)
    if not hasattr(estimator, "classes_"):
        raise TypeError(
            f"estimator must be a classifier with the attribute classes_; "
            f"got {type(estimator).__name__}."
        )
    values = _numeric(X)
    n_features = getattr(estimator, "n_features_in_", values.shape[1])
    if values.shape[1] != n_features:
        raise ValueError(
            f"X has {values.shape[1]} features, but {type(estimator).__name__} was fitted with "
            f"{n_features}."
        )
    y = _check_y(to_numpy(y), estimator=estimator)
    if len(y) != len(values):
        raise ValueError(f"y must have one label a sample of X: got {len(y)} for {len(values)}.")
    return np.asarray(estimator.classes_), values, y


def _numeric(X):
    """X as a two-dimensional array, or tensor, of floating point numbers."""
    if not isinstance(X, torch.Tensor):
        return check_array(X, dtype=[np.float64, np.float32], input_name="X")
    if X.ndim != 2:
        raise ValueError(f"X must have shape (n_samples, n_features); got {tuple(X.shape)}.")
    return X.detach() if X.is_floating_point() else X.detach().to(torch.float64)


def _in_container_of(X, copies):
    """Give back a frame for a frame, with its columns and index; else the copies as they are."""
    if not hasattr(X, "columns"):
        return copies
    if hasattr(X, "iloc"):
        return type(X)(copies, index=X.index, columns=X.columns)
    return type(X)(copies, schema=list(X.columns))
