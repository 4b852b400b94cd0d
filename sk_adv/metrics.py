"""Scores of classifiers under attack, and scorers for model selection."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils import check_consistent_length

from sk_adv._adversary import check_samples, perturb, resolve_attack
from sk_adv._devices import to_numpy
from sk_adv._perturbations import dual_norm
from sk_adv._validation import check_bounds, check_epsilon, check_norm
from sk_adv.differentiable import as_module
from sk_adv.differentiable._linear import fold_linear

__all__ = [
    "adversarial_accuracy_score",
    "adversarial_confidence",
    "certified_accuracy_score",
    "make_adversarial_scorer",
]


def adversarial_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    **attack_params,
) -> float:
    """Share of samples that are classified correctly after an attack on them.

    The attack sees the true labels; samples that are wrong before it count as wrong. One minus
    this score is the *adversarial error*. It is an upper bound on the accuracy under the worst
    perturbation, and a poor one if the model was trained on the same attack: then let a stronger
    attack stand beside it.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule, such as a `Pipeline`.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    attack : {"fgsm", "pgd"} or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in the mean.

    **attack_params : dict
        Further arguments of the attack, such as `n_steps` of `sk_adv.attacks.pgd`.

    Returns
    -------
    float
        The accuracy on the adversarial copies, in [0, 1].

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse or `as_module` has no rule for the estimator.
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
    if sample_weight is not None:
        check_consistent_length(y, sample_weight)
    copies = perturb(
        estimator, X, y, epsilon=epsilon, attack=attack, norm=norm, bounds=bounds, **attack_params
    )
    return float(accuracy_score(y, estimator.predict(copies), sample_weight=sample_weight))


def adversarial_confidence(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    **attack_params,
) -> float:
    """Confidence on errors: mean probability of the predicted class where it is wrong.

    Parameters
    ----------
    estimator : object
        A fitted classifier with `predict_proba` for which `as_module` has a rule.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X; 0 gives the confidence on clean errors.

    attack : {"fgsm", "pgd"} or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    **attack_params : dict
        Further arguments of the attack.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, if no copy is misclassified.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse or `as_module` has no rule for the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import adversarial_confidence
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> 0.5 < adversarial_confidence(model, X, y, epsilon=1.0) < 1
    True
    """
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(f"estimator must have predict_proba; {type(estimator).__name__} does not.")
    copies = perturb(
        estimator, X, y, epsilon=epsilon, attack=attack, norm=norm, bounds=bounds, **attack_params
    )
    probability = np.asarray(estimator.predict_proba(copies))
    predicted = np.asarray(estimator.classes_)[probability.argmax(axis=1)]
    wrong = predicted != np.asarray(y)
    if not wrong.any():
        warnings.warn(
            "No adversarial copy is misclassified, so the confidence on errors is undefined and "
            "set to NaN.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    return float(probability[wrong].max(axis=1).mean())


def certified_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    norm: float = np.inf,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Share of samples that no perturbation within the radius can get misclassified.

    Exact for linear models of any number of classes, and pipelines of linear maps before them: x
    of class y is safe iff, for every other class k,

        (w_y - w_k)ᵀx + b_y - b_k > ‖ε ∘ (w_y - w_k)‖_* ,

    with ‖·‖_* the dual norm, L1 for the max-norm and L2 for the Euclidean norm.

    Parameters
    ----------
    estimator : object
        A fitted linear classifier for which `as_module` has a rule, or a `Pipeline` of scalers
        and one.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in the mean.

    Returns
    -------
    float
        The certified accuracy, in [0, 1]. One minus it is the robust error, which no attack
        exceeds.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, or the estimator is not linear or unknown to `as_module`.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdversarialLogisticRegression(epsilon=0.3).fit(X, y)
    >>> certified = certified_accuracy_score(model, X, y, epsilon=0.3)
    >>> 0.5 < certified <= adversarial_accuracy_score(model, X, y, epsilon=0.3, attack="pgd")
    True
    """
    check_norm(norm)
    if sample_weight is not None:
        check_consistent_length(y, sample_weight)
    classes, values, y = check_samples(estimator, X, y)
    radius = torch.as_tensor(check_epsilon(epsilon, values.shape[1:]))
    module = as_module(estimator, device="cpu", dtype=torch.float64)
    coef, intercept = fold_linear(module, values.shape[1])
    logits = torch.as_tensor(np.array(to_numpy(values), dtype=np.float64)) @ coef.T + intercept
    known = np.isin(y, classes)
    label = torch.as_tensor(np.searchsorted(classes, y).clip(max=len(classes) - 1))
    reach = dual_norm(coef[:, None] - coef[None], radius, norm)[label]
    others = (logits + reach).scatter(1, label[:, None], -torch.inf).amax(1)
    safe = logits.gather(1, label[:, None]).squeeze(1) > others
    return float(np.average(safe.numpy() & known, weights=sample_weight))


def make_adversarial_scorer(
    scoring: str | Callable = "accuracy",
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    **attack_params,
) -> Callable:
    """Make a scorer that attacks the samples before it scores the estimator on them.

    Parameters
    ----------
    scoring : str or callable, default="accuracy"
        What to score on the adversarial copies: a name from
        `sklearn.metrics.get_scorer_names`, or a scorer.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    attack : {"fgsm", "pgd"} or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    **attack_params : dict
        Further arguments of the attack.

    Returns
    -------
    callable
        A scorer `(estimator, X, y, sample_weight=None) -> float` for `GridSearchCV`,
        `cross_validate` and their kin.

    Raises
    ------
    ValueError
        If `scoring`, `attack`, `norm`, `epsilon` or `bounds` is invalid.
    TypeError
        If `scoring` is neither a name nor callable.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.metrics import make_adversarial_scorer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = MinMaxScaler().fit_transform(X)
    >>> search = GridSearchCV(
    ...     AdversarialLogisticRegression(),
    ...     {"epsilon": [0.01, 0.05, 0.1]},
    ...     scoring={"clean": "accuracy", "attacked": make_adversarial_scorer(epsilon=0.05)},
    ...     refit="attacked",
    ... )
    >>> bool(search.fit(X, y).best_score_ > 0.8)
    True
    """
    resolve_attack(attack)
    check_norm(norm)
    check_epsilon(epsilon, None)
    check_bounds(bounds, None)
    if not isinstance(scoring, str) and not callable(scoring):
        raise TypeError(f"scoring must be the name of a scorer or a callable; got {scoring!r}.")
    options = {"epsilon": epsilon, "attack": attack, "norm": norm, "bounds": bounds}
    return _AdversarialScorer(get_scorer(scoring), {**options, **attack_params})


class _AdversarialScorer(_BaseScorer):
    """A scorer behind an attack."""

    def __init__(self, scorer, attack):
        # A plain function of (estimator, X, y) is a scorer too.
        super().__init__(
            getattr(scorer, "_score_func", scorer),
            getattr(scorer, "_sign", 1),
            getattr(scorer, "_kwargs", {}),
            getattr(scorer, "_response_method", "predict"),
        )
        self._scorer = scorer
        self._attack = attack

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        # `method_caller` may hold predictions for the clean X, cached by a scorer beside this one.
        return self._scorer(
            estimator, perturb(estimator, X, y_true, **self._attack), y_true, **kwargs
        )

    def __repr__(self):
        attack = ", ".join(f"{name}={value!r}" for name, value in self._attack.items())
        return f"make_adversarial_scorer({self._scorer!r}, {attack})"
