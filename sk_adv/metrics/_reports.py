"""Many attacks at once: several radii on one model, and the copies of one model on others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils._optional_dependencies import check_pandas_support

from sk_adv._perturbations import as_perturbation_set, check_radius
from sk_adv.attacks._estimators import (
    check_classifier,
    fit_surrogate,
    is_attackable,
    perturb,
)
from sk_adv.attacks._table import resolve_attack, resolve_attacks
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.metrics._certificates import certified_accuracy_score, unit_set
from sk_adv.metrics._scores import confidence_on_errors

if TYPE_CHECKING:
    import pandas as pd


def adversarial_report(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    epsilons: ArrayLike,
    attacks: str | Callable | Sequence | Mapping = ("fgsm", "pgd"),
    *,
    attack_params: dict | None = None,
    scale: ArrayLike | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> "pd.DataFrame":
    """Error and confidence of a classifier under several attacks of several radii.

    A single-step attack says little of a model that was trained on it, so the default sets a
    multi-step one beside it, and each row says what no attack of its radius can exceed, where such
    a bound is known.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule; or any, with a `surrogate`.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilons : array-like of shape (n_radii,)
        The radii, in multiples of the scale; 0 gives the clean error.

    attacks : str, callable, or sequence or mapping of these, default=("fgsm", "pgd")
        Names of attacks, or functions with the signature of `sk_adv.attacks.fgsm`. The keys of a
        mapping name them in the report; its values can also be dicts with an attack's arguments,
        such as `{"PGD-20": {"attack": "pgd", "attack_params": {"n_steps": 20}}}`.

    attack_params : dict or None, default=None
        Further arguments of every attack.

    scale : float, array-like, dict or Series, default=None
        The radius of feature j is ε times `scale[j]`, in the units of X, such as the features'
        standard deviations. It is given like a radius, see `sk_adv.attacks.perturb`. None is 1.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    surrogate : estimator, default=None
        For models without gradients, as in `adversarial_accuracy_score`.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Where the attacks run; None is where the estimator's weights are.

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
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import adversarial_report
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> attacks = {"FGSM": "fgsm", "PGD": {"attack": "pgd", "attack_params": {"n_steps": 10}}}
    >>> report = adversarial_report(model, X, y, epsilons=[0, 0.3], attacks=attacks, random_state=0)
    >>> report[["epsilon", "attack", "error", "certified_error"]].round(2)
       epsilon attack  error  certified_error
    0      0.0   FGSM   0.03             0.03
    1      0.0    PGD   0.03             0.03
    2      0.3   FGSM   0.28             0.28
    3      0.3    PGD   0.28             0.28
    """
    check_pandas_support("adversarial_report")
    import pandas as pd

    # Checked before the first attack, since a report may take minutes.
    radii = check_radii(epsilons)
    _, y = check_classifier(estimator, X, y)
    unit = unit_set(scale, norm, bounds, X)
    named = resolve_attacks(attacks, attack_params)
    if surrogate is not None:
        surrogate = FrozenEstimator(fit_surrogate(surrogate, estimator, X))
    options = {"surrogate": surrogate, "random_state": random_state, "device": device}
    rows = []
    for epsilon in radii:
        perturbations = unit.scaled(epsilon)
        certified_error = None
        for name, attack in named.items():
            copies = perturb(estimator, X, y, epsilon=perturbations, attack=attack, **options)
            if certified_error is None:
                certified_error = _certified_error(estimator, X, y, perturbations)
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
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Error of each classifier on adversarial copies made against each other one.

    Copies made against one model fool others too. The diagonal holds the errors of models under
    attacks on themselves.

    Parameters
    ----------
    estimators : sequence or mapping of str to estimator
        Fitted classifiers of the same raw X; of a mapping, its values in their order.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimators' raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    attack : str or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    target : label, default=None
        The class to move towards, in place of away from the true one.

    surrogate : estimator, default=None
        What is attacked in the place of those models for which `as_module` has no rule, as in
        `adversarial_accuracy_score`. Without it no copies can be made against them: their rows are
        NaN, and only their columns hold errors.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Where the attack runs; None is where the attacked estimator's weights are.

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
    attack = resolve_attack(attack, attack_params, target=target)
    for estimator in estimators:
        check_classifier(estimator, X, y)
    options = {"target": target, "random_state": random_state, "device": device}
    options |= {"attack": attack, "epsilon": as_perturbation_set(epsilon, norm, bounds, X)}
    errors = np.full((len(estimators), len(estimators)), np.nan)
    for row, source in zip(errors, estimators, strict=True):
        is_known = is_attackable(source)
        if is_known or surrogate is not None:
            stand_in = None if is_known else surrogate
            copies = perturb(source, X, y, surrogate=stand_in, **options)
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
    return check_radius(radii, name="epsilons")


def error_and_confidence(estimator, X, y):
    """Share of samples that are misclassified, and confidence on these, NaN if unknown."""
    error = 1 - accuracy_score(y, estimator.predict(X))
    knows = hasattr(estimator, "predict_proba")
    return error, confidence_on_errors(estimator, X, y) if knows else np.nan


def _certified_error(estimator, X, y, perturbations):
    """One minus the certified accuracy, or NaN where there are no bounds."""
    if not is_attackable(estimator):
        return np.nan
    try:
        return 1 - certified_accuracy_score(estimator, X, y, epsilon=perturbations)
    except NoBoundsError:
        return np.nan
