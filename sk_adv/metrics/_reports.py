"""Many attacks at once: several radii on one model, and the copies of one model on others."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils.validation import _num_features

from sk_adv._adversary import check_attack, check_classifier, fit_surrogate, perturb
from sk_adv._validation import check_bounds, check_epsilon, check_norm
from sk_adv.differentiable import as_module
from sk_adv.metrics._certificates import certified_accuracy_score
from sk_adv.metrics._scores import confidence_on_errors

if TYPE_CHECKING:
    import pandas as pd


def adversarial_report(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    epsilons: ArrayLike,
    attacks: Sequence[str | Callable] | Mapping[str, str | Callable] = ("fgsm", "pgd"),
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    scale: ArrayLike | None = None,
    surrogate: object = None,
) -> "pd.DataFrame":
    """Error and confidence of a classifier under several attacks of several radii.

    A single-step attack says little of a model that was trained on it, so the default sets a
    multi-step one beside it, and each row says what no attack of its radius can exceed, where such
    a bound is known.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule; or any, with a `surrogate`.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilons : array-like of shape (n_radii,)
        The radii, in multiples of the scale; 0 gives the clean error.

    attacks : sequence or mapping of str to str or callable, default=("fgsm", "pgd")
        Names of attacks, or functions with the signature of `sk_adv.attacks.fgsm`; their further
        arguments by `functools.partial`. The keys of a mapping name them in the report.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    scale : array-like of shape (n_features,), default=None
        The radius of feature j is ε times `scale[j]`, in the units of X. None is 1 for all.

    surrogate : estimator, default=None
        For models without gradients, as in `adversarial_accuracy_score`.

    Returns
    -------
    pandas.DataFrame
        One row for each radius and attack, with the columns

        - `epsilon` and `attack`;
        - `error`: the share of copies that are misclassified;
        - `confidence`: the mean probability of the predicted class on these, NaN if there are
          none or the estimator has no `predict_proba`;
        - `certified_error`: one minus `certified_accuracy_score`, which no attack of this radius
          exceeds, and which linear models attain; NaN where no bound is known.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse or `as_module` has no rule for the estimator and there is no surrogate.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.attacks import pgd
    >>> from sk_adv.metrics import adversarial_report
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> attacks = {"FGSM": "fgsm", "PGD": partial(pgd, n_steps=10, random_state=0)}
    >>> report = adversarial_report(model, X, y, epsilons=[0, 0.3], attacks=attacks)
    >>> report[["epsilon", "attack", "error", "certified_error"]].round(2)
       epsilon attack  error  certified_error
    0      0.0   FGSM   0.03             0.03
    1      0.0    PGD   0.03             0.03
    2      0.3   FGSM   0.28             0.28
    3      0.3    PGD   0.28             0.28
    """
    check_pandas_support("adversarial_report")
    import pandas as pd

    # Before the first attack, since a report may take minutes.
    radii = check_radii(epsilons)
    check_norm(norm)
    _, y = check_classifier(estimator, X, y)
    feature_shape = (_num_features(X),)
    check_bounds(bounds, feature_shape)
    scale = check_epsilon(1.0 if scale is None else scale, feature_shape, name="scale")
    named = _named(attacks)
    if surrogate is not None:
        surrogate = FrozenEstimator(fit_surrogate(surrogate, estimator, X))
    options = {"norm": norm, "bounds": bounds}
    rows = []
    for epsilon in radii:
        options["epsilon"] = epsilon * scale
        certified_error = None
        for name, attack in named.items():
            copies = perturb(estimator, X, y, attack=attack, surrogate=surrogate, **options)
            if certified_error is None:
                certified_error = _certified_error(estimator, X, y, options)
            rows.append(
                (epsilon, name, *error_and_confidence(estimator, copies, y), certified_error)
            )
    return pd.DataFrame(
        rows, columns=["epsilon", "attack", "error", "confidence", "certified_error"]
    )


def transfer_error_matrix(
    estimators: Sequence[object] | Mapping[str, object],
    X: ArrayLike,
    y: ArrayLike,
    epsilon: ArrayLike,
    *,
    attack: str | Callable = "fgsm",
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    surrogate: object = None,
    **attack_params,
) -> np.ndarray:
    """Error of each classifier on adversarial copies made against each other one.

    Copies made against one model fool others too. The diagonal holds the errors of models under
    attacks on themselves.

    Parameters
    ----------
    estimators : sequence or mapping of str to estimator
        Fitted classifiers of the same raw X; of a mapping, its values in their order.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimators' raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    attack : str or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    surrogate : estimator, default=None
        What is attacked in the place of those models for which `as_module` has no rule, as in
        `adversarial_accuracy_score`. Without it no copies can be made against them: their rows are
        NaN, and only their columns hold errors.

    **attack_params : dict
        Further arguments of the attack.

    Returns
    -------
    ndarray of shape (n_estimators, n_estimators)
        Entry (i, j) is the share of the copies made against estimator i that estimator j
        misclassifies.

    Raises
    ------
    ValueError
        If there is no estimator, or a parameter, X or y is invalid.
    TypeError
        If X is sparse, `estimators` is a single one, or the attack has no parameter of one of the
        names.
    sklearn.exceptions.NotFittedError
        If an estimator is not fitted.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 8.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import transfer_error_matrix
    >>> X, y = load_iris(return_X_y=True)
    >>> linear = LogisticRegression(max_iter=1000).fit(X, y)
    >>> forest = RandomForestClassifier(random_state=0).fit(X, y)
    >>> transfer_error_matrix([linear, forest], X, y, epsilon=0.5).round(1)
    array([[0.5, 0.4],
           [nan, nan]])
    """
    # Pipelines and forests are sequences too, of their own parts.
    if hasattr(estimators, "predict") or not isinstance(estimators, Iterable):
        raise TypeError(
            "estimators must be a sequence or mapping of fitted classifiers; "
            f"got {estimators!r}. Put a single one into a list."
        )
    estimators = list(estimators.values() if isinstance(estimators, Mapping) else estimators)
    if not estimators:
        raise ValueError("estimators must hold at least one fitted classifier; got none.")
    check_attack(attack, **attack_params)
    check_norm(norm)
    for estimator in estimators:
        check_classifier(estimator, X, y)
    feature_shape = (_num_features(X),)
    check_epsilon(epsilon, feature_shape)
    check_bounds(bounds, feature_shape)
    options = {"epsilon": epsilon, "attack": attack, "norm": norm, "bounds": bounds}
    errors = np.full((len(estimators), len(estimators)), np.nan)
    for row, source in zip(errors, estimators, strict=True):
        has_rule = _has_rule(source)
        if has_rule or surrogate is not None:
            options["surrogate"] = None if has_rule else surrogate
            copies = perturb(source, X, y, **options, **attack_params)
            row[:] = [1 - accuracy_score(y, target.predict(copies)) for target in estimators]
    return errors


def check_radii(epsilons):
    """The radii as a 1-D array, each finite and at least 0, or `ValueError`."""
    try:
        radii = np.asarray(epsilons, dtype=float)
    except (TypeError, ValueError):
        radii = None
    if radii is None or radii.ndim != 1 or not len(radii):
        raise ValueError(
            "epsilons must be a 1-D sequence of one radius or more, such as [0, 0.1, 0.2]; "
            f"got {epsilons!r}."
        )
    return check_epsilon(radii, radii.shape, name="epsilons")


def attack_name(attack):
    """The name of an attack; of a `functools.partial` that of the function in it."""
    if isinstance(attack, str):
        return attack
    if isinstance(attack, functools.partial):
        return attack_name(attack.func)
    return getattr(attack, "__name__", type(attack).__name__)


def _named(attacks):
    """A mapping of names to attacks that exist, or `ValueError`."""
    is_several = isinstance(attacks, Collection) and not isinstance(attacks, str)
    if not is_several or not len(attacks):
        raise ValueError(
            f"attacks must be a sequence or a mapping of at least one attack; got {attacks!r}."
        )
    if isinstance(attacks, Mapping):
        named = attacks
    else:
        named = {attack_name(attack): attack for attack in attacks}
    if len(named) < len(attacks):
        raise ValueError(
            f"attacks must have different names; got {[attack_name(a) for a in attacks]}. Name "
            "them by a mapping."
        )
    for attack in named.values():
        check_attack(attack)
    return named


def error_and_confidence(estimator, X, y):
    """Share of samples that are misclassified, and confidence on these, NaN if unknown."""
    error = 1 - accuracy_score(y, estimator.predict(X))
    knows = hasattr(estimator, "predict_proba")
    return error, confidence_on_errors(estimator, X, y) if knows else np.nan


def _certified_error(estimator, X, y, options):
    try:
        return 1 - certified_accuracy_score(estimator, X, y, **options)
    except TypeError:
        # Said by `as_module` or `enclose`: the attack has taken the data already.
        return np.nan


def _has_rule(estimator):
    try:
        as_module(estimator)
    except TypeError:
        return False
    return True
