"""Accuracy and confidence of a fitted classifier on adversarial copies."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score

from sk_adv._arrays import readable
from sk_adv._collections import is_collection, mean_of
from sk_adv._validation import joint_weight
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import check_classifier
from sk_adv.attacks._table import resolve_attack
from sk_adv.differentiable._as_module import classes_of
from sk_adv.metrics._attacked import attack_all, can_be_sparse
from sk_adv.metrics._partitions import AttackOnPartitions


@tells_once
def adversarial_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "auto",
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Share of samples that are classified correctly after an attack on them.

    The attack uses the true labels, and samples that are misclassified before the attack count as
    errors. One minus this score is the *adversarial error*.

    The score is an upper bound on the accuracy under the worst-case perturbation. By default the
    attack is the strongest that the model allows: the worst case itself for linear models and
    trees, and for networks hundreds of gradient steps for each sample that they do not break. One
    step, `attack="fgsm"`, is a hundred times as fast, and flatters networks, above all those that
    were trained on it.

    Parameters
    ----------
    estimator : object
        A fitted classifier, such as a `Pipeline`. Attacks by gradients need a rule of `as_module`,
        or a `surrogate`; the default takes any classifier.

    X : array-like, frame, torch.Tensor or dask collection of shape (n_samples, n_features) or \
            (n_samples, ...)
        Clean samples, in the estimator's raw units. With `attack="auto"` or "exact", X may be a
        SciPy matrix.

    y : array-like or dask collection of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    attack : str or callable, default="auto"
        Name of an attack: "auto", the strongest that the model allows, and the most expensive (see
        `sk_adv.attacks.auto`); "fgsm", the cheapest by gradients; "fgsm_rs", "pgd", "apgd",
        "square", "uniform_noise", "sign_noise", "rotate_towards_gradient", or "exact", the worst
        case for linear models and trees; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
        Weights of the samples in the mean.

    target : label, default=None
        Class to move the samples towards, instead of away from the true class.

    surrogate : estimator, default=None
        For models without gradients, and attacks that need one: a classifier for which `as_module`
        has a rule. A clone of it is fitted to the model's own predictions on X and attacked
        instead of the model. A `FrozenEstimator` is used as it is, and no other surrogate is taken
        where X is a dask collection.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attack. None means the device of the estimator's weights.

    Returns
    -------
    float
        The accuracy on the adversarial copies, in [0, 1].

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse and the attack neither "auto" nor exact, the attack needs gradients and
        `as_module` has no rule for the estimator, the attack does not accept one of the arguments,
        or `attack="exact"` is used on a model that is not linear.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    *Dask collections.* The samples of a dask array or a dask dataframe are attacked partition by
    partition, by one pass, and two numbers of each are gathered. Seeds are those of
    `sk_adv.attacks.perturb`: one for each partition.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.metrics import adversarial_accuracy_score
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> clean = adversarial_accuracy_score(model, X, y, epsilon=0)
    >>> attacked = adversarial_accuracy_score(model, X, y, epsilon=0.5 * X.std(axis=0))
    >>> clean > 0.98, attacked < 0.6
    (True, True)
    """
    attack = resolve_attack(attack, attack_params, target=target)
    options = {
        "epsilon": epsilon,
        "attack": attack,
        "norm": norm,
        "bounds": bounds,
        "target": target,
        "surrogate": surrogate,
        "random_state": random_state,
        "device": device,
    }
    if is_collection(X):
        work = AttackOnPartitions(estimator, X, y, sample_weight, options=options)
        return mean_of(*work.sums(hits))
    return mean_of(*hits(X, y, sample_weight, estimator, options))


def hits(X, y, sample_weight, estimator, options):
    """The weight of the samples that are classified correctly after an attack, and of all.

    `options` are those of `perturb`.
    """
    accept_sparse = can_be_sparse(options["attack"])
    _, labels = check_classifier(estimator, X, y, accept_sparse=accept_sparse)
    weight = joint_weight(labels, sample_weight, None)
    attacked, copies = attack_all(estimator, X, labels, **options)
    predicted = attacked.predict(readable(attacked, copies))
    right = accuracy_score(labels, predicted, normalize=False, sample_weight=weight)
    return float(right), float(len(labels) if weight is None else weight.sum())


@tells_once
def adversarial_confidence(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "auto",
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Confidence on errors: mean probability of the predicted class over misclassified copies.

    Parameters
    ----------
    estimator : object
        A fitted classifier with `predict_proba`. Attacks by gradients need a rule of `as_module`,
        or a `surrogate`; the default takes any classifier.

    X : array-like, frame, torch.Tensor or dask collection of shape (n_samples, n_features) or \
            (n_samples, ...)
        Clean samples, in the estimator's raw units. With `attack="auto"` or "exact", X may be a
        SciPy matrix.

    y : array-like or dask collection of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`; 0 gives the
        confidence on clean errors.

    attack : str or callable, default="auto"
        Name of an attack: "auto", the strongest that the model allows, and the most expensive (see
        `sk_adv.attacks.auto`); "fgsm", the cheapest by gradients; "fgsm_rs", "pgd", "apgd",
        "square", "uniform_noise", "sign_noise", "rotate_towards_gradient", or "exact", the worst
        case for linear models and trees; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
        Weights of the samples in the mean.

    target : label, default=None
        Class to move the samples towards, instead of away from the true class.

    surrogate : estimator, default=None
        For models without gradients, and attacks that need one: a classifier for which `as_module`
        has a rule. A clone of it is fitted to the model's own predictions on X and attacked
        instead of the model. A `FrozenEstimator` is used as it is, and no other surrogate is taken
        where X is a dask collection.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attack. None means the device of the estimator's weights.

    Returns
    -------
    float
        The confidence, in [0, 1]. If no copy is misclassified, it is NaN and an
        `UndefinedMetricWarning` is issued.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse and the attack neither "auto" nor exact, the estimator has no
        `predict_proba`, or the attack needs gradients and `as_module` has no rule for it.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    *Dask collections.* The samples of a dask array or a dask dataframe are attacked partition by
    partition, by one pass, and two numbers of each are gathered. Seeds are those of
    `sk_adv.attacks.perturb`: one for each partition.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import adversarial_confidence
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> 0.5 < adversarial_confidence(model, X, y, epsilon=1.0) < 1
    True
    """
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            "estimator must have predict_proba, for the confidence; got "
            f"{type(estimator).__name__}, which has none. Use "
            "adversarial_accuracy_score instead."
        )
    attack = resolve_attack(attack, attack_params, target=target)
    options = {
        "epsilon": epsilon,
        "attack": attack,
        "norm": norm,
        "bounds": bounds,
        "target": target,
        "surrogate": surrogate,
        "random_state": random_state,
        "device": device,
    }
    if is_collection(X):
        work = AttackOnPartitions(estimator, X, y, sample_weight, options=options)
        confidence = _ratio(*work.sums(confident_errors))
    else:
        confidence = _ratio(*confident_errors(X, y, sample_weight, estimator, options))
    if np.isnan(confidence):
        warnings.warn(
            "No adversarial copy is misclassified, so the confidence on errors is undefined and "
            "set to NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    return confidence


def confident_errors(X, y, sample_weight, estimator, options):
    """The weighted sum of the confidence on errors after an attack, and the weight of the errors.

    `options` are those of `perturb`.
    """
    accept_sparse = can_be_sparse(options["attack"])
    _, labels = check_classifier(estimator, X, y, accept_sparse=accept_sparse)
    weight = joint_weight(labels, sample_weight, None)
    return _sums_on_errors(*attack_all(estimator, X, labels, **options), labels, weight)


def confidence_on_errors(estimator, X, y, sample_weight=None):
    """Mean probability of the predicted class over misclassified samples; NaN without any."""
    return _ratio(*_sums_on_errors(estimator, X, y, sample_weight))


def _sums_on_errors(estimator, X, y, sample_weight):
    probability = np.asarray(estimator.predict_proba(readable(estimator, X)))
    predicted = classes_of(estimator, X)[probability.argmax(axis=1)]
    weight = (predicted != np.asarray(y)) * (1.0 if sample_weight is None else sample_weight)
    return float(probability.max(axis=1) @ weight), float(weight.sum())


def _ratio(total, weight):
    return total / weight if weight else np.nan
