"""Attacks on fitted estimators: labels and containers in, adversarial copies out."""

import inspect

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import _check_y, _num_features, _num_samples, check_is_fitted
from torch import nn

from sk_adv import attacks
from sk_adv._containers import in_container_of
from sk_adv._devices import to_numpy
from sk_adv._exact import exact
from sk_adv._validation import check_bounds, check_dense, check_epsilon, check_norm
from sk_adv.differentiable import as_module
from sk_adv.differentiable._as_module import check_has_rule
from sk_adv.differentiable._column_transformer import (
    columns_without_numbers,
    report_fixed_columns,
    split_columns,
)

# Attacks that ask the model nothing.
NOISE = {attacks.sign_noise, attacks.uniform_noise}

ATTACKS = {
    "exact": exact,
    "fgsm": attacks.fgsm,
    "pgd": attacks.pgd,
    "rotate_towards_gradient": attacks.rotate_towards_gradient,
    "sign_noise": attacks.sign_noise,
    "uniform_noise": attacks.uniform_noise,
}


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


def check_attack(attack, *, device=None, target=None, **attack_params):
    """The attack function of a name, or the callable itself, if it takes arguments of `perturb`.

    With a target that is not None, one is `targeted`.

    Raises
    ------
    ValueError
        As `resolve_attack`, or if noise is given a target.
    TypeError
        If it has no parameter of one of the names.
    """
    run = resolve_attack(attack)
    if target is not None:
        if run in NOISE:
            raise ValueError(f"attack={attack!r} has no direction, so no target={target!r}.")
        attack_params["targeted"] = True
    try:
        inspect.signature(run).bind(
            "module", "X", "y", "epsilon", norm="norm", bounds="bounds", **attack_params
        )
    except TypeError as error:
        raise TypeError(
            f"attack={attack!r} must take (module, X, y, epsilon, norm=..., bounds=...) and its "
            f"further arguments, here {sorted(attack_params)}: {error}."
        ) from error
    return run


def takes_random_state(attack):
    """Whether an attack, by name or function, draws random numbers that can be seeded."""
    return "random_state" in inspect.signature(resolve_attack(attack)).parameters


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
    surrogate=None,
    target=None,
    **attack_params,
):
    """Adversarial copies of X against a fitted classifier, in X's units and container.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule, or any with a `surrogate`.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features)
        Clean samples. NaN is passed on to the estimator, and stays NaN. Columns that do not reach
        the classifier by differentiable steps stay as they are, and a warning names them.

    y : array-like of shape (n_samples,)
        Labels to move away from. Samples with a label that the estimator has never seen stay
        clean: they are misclassified already.

    epsilon, norm, bounds : see sk_adv.attacks.fgsm

    attack : str or callable, default="fgsm"
        A key of `ATTACKS`, or a function like `sk_adv.attacks.fgsm`.

    device : str or torch.device, default=None
        Where the attack runs; None is where the estimator's weights are.

    surrogate : object, default=None
        A classifier through which the copies are made instead, see `fit_surrogate`.

    target : label, default=None
        The class to move towards, in place of away from y.

    **attack_params : dict
        Further arguments of the attack.

    Returns
    -------
    array, frame or torch.Tensor of the type of X
    """
    run = check_attack(attack, target=target, **attack_params)
    check_norm(norm)
    classes, y = check_classifier(estimator, X, y)
    feature_shape = (_num_features(X),)
    epsilon = check_epsilon(epsilon, feature_shape)
    bounds = check_bounds(bounds, feature_shape)
    if surrogate is not None:
        estimator = fit_surrogate(surrogate, estimator, X)
        classes = np.asarray(estimator.classes_)
    attacked = np.isin(y, classes)
    indices = np.searchsorted(classes, y[attacked])
    if target is not None:
        attacked = np.ones(len(y), dtype=bool)
        indices = np.full(len(y), index_of_target(target, classes))
        attack_params["targeted"] = True

    split = split_columns(estimator, X)
    if split is None:
        values = numeric(X)
        module = nn.Identity() if run in NOISE else as_module(estimator, device=device)
    else:
        values, module = split.values, split.module.to(device=device)
        report_fixed_columns(split, epsilon)
        epsilon, bounds = split.only_free(epsilon, bounds)
    copies = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    if attacked.any():
        rows = torch.from_numpy(attacked).to(values.device) if torch.is_tensor(values) else attacked
        copies[rows] = run(
            module, values[rows], indices, epsilon, norm=norm, bounds=bounds, **attack_params
        )
    return in_container_of(X, copies, free=None if split is None else split.free)


def fit_surrogate(surrogate, estimator, X):
    """A differentiable classifier that has learned a fitted one's own predictions on X.

    Parameters
    ----------
    surrogate : object
        A classifier for which `as_module` has a rule. It is cloned and fitted; a `FrozenEstimator`
        around a fitted one is used as it is.

    estimator : object
        The fitted classifier.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features)

    Returns
    -------
    object
        The fitted surrogate.

    Raises
    ------
    TypeError
        If `as_module` has no rule for the surrogate.
    ValueError
        If the classifier predicts a single class on X.
    """
    check_has_rule(surrogate)
    if isinstance(surrogate, FrozenEstimator):
        check_is_fitted(surrogate)
        return surrogate
    predicted = estimator.predict(X)
    if len(np.unique(predicted)) < 2:
        raise ValueError(
            f"{type(estimator).__name__} predicts class {predicted[0]} for all samples, so there "
            "is no boundary for the surrogate to learn: pass more samples, or a FrozenEstimator "
            "around a fitted surrogate."
        )
    return clone(surrogate).fit(X, predicted)


def check_classifier(estimator, X, y):
    """Validate labels, and the number of features of X, against a fitted classifier.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    y : ndarray of shape (n_samples,)
    """
    check_dense(X, "An attack")
    check_is_fitted(estimator)
    if not hasattr(estimator, "classes_"):
        raise TypeError(
            f"estimator must be a classifier with the attribute classes_; "
            f"got {type(estimator).__name__}."
        )
    if isinstance(estimator.classes_, list):
        raise ValueError(
            f"An attack takes one label a sample; got a {type(estimator).__name__} fitted with "
            "several. Attack one of its estimators_, a classifier of one of the labels."
        )
    if getattr(X, "ndim", 2) != 2:
        raise ValueError(f"X must have shape (n_samples, n_features); got {tuple(X.shape)}.")
    n_features = getattr(estimator, "n_features_in_", _num_features(X))
    if _num_features(X) != n_features:
        raise ValueError(
            f"X has {_num_features(X)} features, but {type(estimator).__name__} was fitted with "
            f"{n_features}."
        )
    y = _check_y(to_numpy(y), estimator=estimator)
    if len(y) != _num_samples(X):
        raise ValueError(
            f"y must have one label a sample of X: got {len(y)} for {_num_samples(X)}."
        )
    classes = np.asarray(estimator.classes_)
    if len(y) and isinstance(y[0], str) != isinstance(classes[0], str):
        raise ValueError(
            f"y must hold labels of the kind that {type(estimator).__name__} was fitted to, such "
            f"as {classes[:1].tolist()[0]!r}; got {y[:1].tolist()[0]!r}."
        )
    return classes, y


def numeric(X):
    """X as a two-dimensional array, or tensor, of floating point numbers or NaN."""
    if isinstance(X, torch.Tensor):
        return X.detach() if X.is_floating_point() else X.detach().to(torch.float64)
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    try:
        return check_array(
            X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", input_name="X"
        )
    except (TypeError, ValueError) as error:
        others = columns_without_numbers(X)
        if not others:
            raise
        raise ValueError(
            f"X must hold real numbers; its columns {others} do not. They can stay as they are, "
            "unperturbed, where the model, or its `surrogate`, is a Pipeline whose first step is a "
            "ColumnTransformer."
        ) from error


def index_of_target(target, classes):
    found = np.flatnonzero(classes == target) if np.ndim(target) == 0 else []
    if len(found) != 1:
        raise ValueError(f"target must be one of the classes {classes.tolist()}; got {target!r}.")
    return found[0]
