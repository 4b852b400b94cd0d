"""Accuracy and confidence of a fitted classifier on adversarial copies."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score

from sk_adv._validation import joint_weight
from sk_adv.attacks._estimators import check_classifier, perturb
from sk_adv.differentiable._as_module import classes_of


def adversarial_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
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

    The attack sees the true labels; samples that are wrong before it count as wrong. One minus
    this score is the *adversarial error*. It is an upper bound on the accuracy under the worst
    perturbation, and a poor one if the model was trained on the same attack: then let a stronger
    attack stand beside it. For linear models `attack="exact"` is the worst perturbation.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule, such as a `Pipeline`; or any, with a
        `surrogate`.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    attack : str or callable, default="fgsm"
        Name of an attack: "fgsm", "pgd", "uniform_noise", "sign_noise", "rotate_towards_gradient"
        or, for linear models, "exact", their worst case; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in the mean.

    target : label, default=None
        The class to move towards, in place of away from the true one.

    surrogate : estimator, default=None
        For models without gradients: an estimator that `as_module` knows, which is fitted to the
        model's own predictions on X and attacked in its place. A `FrozenEstimator` is used as it
        is.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Where the attack runs; None is where the estimator's weights are.

    Returns
    -------
    float
        The accuracy on the adversarial copies, in [0, 1].

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, `as_module` has no rule for the estimator and there is no surrogate, the
        attack does not take one of the arguments, or `attack="exact"` meets a model that is not
        linear.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

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
    _, labels = check_classifier(estimator, X, y)
    weight = joint_weight(labels, sample_weight, None)
    copies = perturb(
        estimator,
        X,
        labels,
        epsilon=epsilon,
        attack=attack,
        attack_params=attack_params,
        norm=norm,
        bounds=bounds,
        target=target,
        surrogate=surrogate,
        random_state=random_state,
        device=device,
    )
    return float(accuracy_score(labels, estimator.predict(copies), sample_weight=weight))


def adversarial_confidence(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Confidence on errors: mean probability of the predicted class where it is wrong.

    Parameters
    ----------
    estimator : object
        A fitted classifier with `predict_proba` for which `as_module` has a rule; or any, with a
        `surrogate`.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`; 0 gives the
        confidence on clean errors.

    attack : str or callable, default="fgsm"
        Name of an attack: "fgsm", "pgd", "uniform_noise", "sign_noise", "rotate_towards_gradient"
        or, for linear models, "exact", their worst case; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    target : label, default=None
        The class to move towards, in place of away from the true one.

    surrogate : estimator, default=None
        For models without gradients: an estimator that `as_module` knows, which is fitted to the
        model's own predictions on X and attacked in its place. A `FrozenEstimator` is used as it
        is.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Where the attack runs; None is where the estimator's weights are.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, if no copy is misclassified.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, the estimator has no `predict_proba`, or `as_module` has no rule for it
        and there is no surrogate.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

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
        raise TypeError(f"estimator must have predict_proba; {type(estimator).__name__} does not.")
    _, labels = check_classifier(estimator, X, y)
    copies = perturb(
        estimator,
        X,
        labels,
        epsilon=epsilon,
        attack=attack,
        attack_params=attack_params,
        norm=norm,
        bounds=bounds,
        target=target,
        surrogate=surrogate,
        random_state=random_state,
        device=device,
    )
    confidence = confidence_on_errors(estimator, copies, labels)
    if np.isnan(confidence):
        warnings.warn(
            "No adversarial copy is misclassified, so the confidence on errors is undefined and "
            "set to NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    return confidence


def confidence_on_errors(estimator, X, y):
    """Mean probability of the predicted class where it is wrong; NaN if it is nowhere."""
    probability = np.asarray(estimator.predict_proba(X))
    predicted = classes_of(estimator, X)[probability.argmax(axis=1)]
    wrong = predicted != np.asarray(y)
    return float(probability[wrong].max(axis=1).mean()) if wrong.any() else float("nan")
