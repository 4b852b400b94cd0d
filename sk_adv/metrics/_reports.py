"""Reports: several attacks and radii on one model, and transfer of attacks between models."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils._optional_dependencies import check_pandas_support
from tqdm.auto import tqdm

from sk_adv._arrays import readable
from sk_adv._perturbations import as_perturbation_set, check_radius
from sk_adv._validation import joint_weight
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import (
    check_classifier,
    fit_surrogate,
    is_attackable,
)
from sk_adv.attacks._table import resolve_attack, resolve_attacks
from sk_adv.attacks._trees import check_n_jobs
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.metrics._attacked import attack_all, can_be_sparse, copies_in_blocks
from sk_adv.metrics._certificates import certified_accuracy_score, unit_set
from sk_adv.metrics._scores import confidence_on_errors
from sk_adv.tree._as_trees import is_made_of_trees

if TYPE_CHECKING:
    import pandas as pd


@tells_once
def adversarial_report(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    epsilons: ArrayLike,
    attacks: str | Callable | Sequence | Mapping = ("fgsm", "auto"),
    *,
    attack_params: dict | None = None,
    scale: ArrayLike | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> "pd.DataFrame":
    """Error and confidence of a classifier under several attacks at several radii.

    A single-step attack says little about a model that was trained on it, so the default adds the
    strongest attack that the model allows. That takes hundreds of gradient steps for each sample
    that it does not break; `attacks="fgsm"` takes one. Where a certificate is known, each row also
    has an upper bound on the error under any attack of its radius.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` has a rule; or any other classifier, together
        with a `surrogate` or with attacks that need no gradients, such as "auto".

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units. With `attacks="exact"` or "auto", X may be
        a SciPy matrix.

    y : array-like of shape (n_samples,)
        True labels.

    epsilons : array-like of shape (n_radii,)
        The radii, in multiples of the scale; 0 gives the clean error.

    attacks : str, callable, or sequence or mapping of these, default=("fgsm", "auto")
        Names of attacks, or functions with the signature of `sk_adv.attacks.fgsm`. The keys of a
        mapping are the names in the report. Its values can also be dicts that hold the arguments
        of an attack, such as `{"PGD-20": {"attack": "pgd", "attack_params": {"n_steps": 20}}}`.

    attack_params : dict or None, default=None
        Further arguments of every attack.

    scale : float, array-like, dict or Series, default=None
        Unit of the radius for each feature, such as its standard deviation: radius ε stands for
        `epsilon = ε * scale`. It is given like `epsilon` in `sk_adv.attacks.perturb`. None means 1
        for all features.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in all shares and means.

    surrogate : estimator, default=None
        For models without gradients, as in `adversarial_accuracy_score`.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attacks. None means the device of the estimator's weights.

    n_jobs : int or None, default=None
        Number of processes, as in scikit-learn, for the searches of tree models: those of attacks
        that have such an argument, as "auto" and "exact", and of certificates. `attack_params`
        overrides it.

    verbose : bool, default=False
        Whether to show a progress bar over radii and attacks.

    Returns
    -------
    pandas.DataFrame
        One row per radius and attack, with the columns

        - `epsilon` and `attack`;
        - `error`: the share of copies that are misclassified;
        - `confidence`: the mean probability of the predicted class over the misclassified copies;
          NaN if no copy is misclassified or the estimator has no `predict_proba`;
        - `certified_error`: one minus `certified_accuracy_score`. No attack of this radius has a
          larger error; for linear models and tree models the exact attack reaches it, as far as the
          search got. NaN if no bound is known.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse and an attack neither "auto" nor exact, or an attack needs gradients and
        `as_module` has no rule for the estimator.
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

    # All arguments are checked before the first attack, since a report may take minutes.
    radii = check_radii(epsilons)
    named = with_n_jobs(resolve_attacks(attacks, attack_params), n_jobs)
    _, y = check_classifier(estimator, X, y, accept_sparse=can_be_sparse(*named.values()))
    weight = joint_weight(y, sample_weight, None)
    unit = unit_set(scale, norm, bounds, X)
    if surrogate is not None:
        surrogate = FrozenEstimator(fit_surrogate(surrogate, estimator, X))
    options = {"surrogate": surrogate, "random_state": random_state, "device": device}
    rows = []
    bar = tqdm(total=len(radii) * len(named), unit="attack", disable=not verbose)
    with bar:
        for epsilon in radii:
            options["epsilon"] = unit.scaled(epsilon)
            certified_error = None
            for name, attack in named.items():
                attacked, copies = attack_all(estimator, X, y, attack=attack, **options)
                if certified_error is None:
                    certified_error = _certified_error(
                        estimator, X, y, options["epsilon"], weight, n_jobs
                    )
                found = error_and_confidence(attacked, copies, y, weight)
                rows.append((epsilon, name, *found, certified_error))
                bar.update()
    return pd.DataFrame(
        rows, columns=["epsilon", "attack", "error", "confidence", "certified_error"]
    )


@tells_once
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
    """Error of each classifier on adversarial copies made against each of the classifiers.

    Copies made against one model often fool other models too. The diagonal holds the errors of
    the models under attacks on themselves.

    Parameters
    ----------
    estimators : sequence or mapping of str to estimator
        Fitted classifiers of the same raw X. The values of a mapping are taken in their order.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimators' raw units. With `attack="exact"`, X may be a SciPy matrix.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    attack : str or callable, default="fgsm"
        Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`. The default is
        not the strongest attack, "auto", as elsewhere: that ends as soon as it has broken the
        attacked model, just across its boundary, and such copies fool other models less often.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    target : label, default=None
        Class to move the samples towards, instead of away from the true class.

    surrogate : estimator, default=None
        Classifier to attack instead of those models that the attack does not take, as in
        `adversarial_accuracy_score`. Without a surrogate the rows of these models are NaN, and
        only their columns hold errors. `attack="square"` takes all models.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attack. None means the device of the attacked estimator's weights.

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
        If X is sparse and the attack not exact, `estimators` is a single estimator, or the attack
        does not accept one of `attack_params`.
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
    # Pipelines and forests are sequences too: of their steps and trees.
    if hasattr(estimators, "predict") or not isinstance(estimators, Iterable):
        raise TypeError(
            "estimators must be a sequence or mapping of fitted classifiers; "
            f"got {estimators!r}. Put a single classifier into a list."
        )
    estimators = list(estimators.values() if isinstance(estimators, Mapping) else estimators)
    if not estimators:
        raise ValueError("estimators must hold at least one fitted classifier; got none.")
    attack = resolve_attack(attack, attack_params, target=target)
    for estimator in estimators:
        _, labels = check_classifier(estimator, X, y, accept_sparse=can_be_sparse(attack))
    options = {"target": target, "random_state": random_state, "device": device}
    options |= {"attack": attack, "epsilon": as_perturbation_set(epsilon, norm, bounds, X)}
    errors = np.full((len(estimators), len(estimators)), np.nan)
    for row, source in zip(errors, estimators, strict=True):
        is_known = is_attackable(source, attack)
        if is_known or surrogate is not None:
            stand_in = None if is_known else surrogate
            if stand_in is not None:
                stand_in = FrozenEstimator(fit_surrogate(stand_in, source, X))
            blocks = copies_in_blocks(source, X, labels, surrogate=stand_in, **options)
            answers = [
                [target.predict(readable(target, copies)) for target in estimators]
                for _, copies in blocks
            ]
            predictions = map(np.concatenate, zip(*answers, strict=True))
            row[:] = [1 - accuracy_score(labels, predicted) for predicted in predictions]
    return errors


def check_radii(epsilons):
    """Return the radii as a 1-D array; raise `ValueError` unless all are finite and at least 0."""
    try:
        radii = np.asarray(epsilons, dtype=float)
    except (TypeError, ValueError):
        radii = None
    if radii is None or radii.ndim != 1 or not len(radii):
        raise ValueError(
            "epsilons must be a 1-D sequence of at least one radius, such as [0, 0.1, 0.2]; "
            f"got {epsilons!r}."
        )
    return check_radius(radii, name="epsilons")


def with_n_jobs(attacks, n_jobs):
    """Attacks by name, as `resolve_attacks` gives them, with a number of processes."""
    check_n_jobs(n_jobs)
    given = {} if n_jobs is None else {"n_jobs": n_jobs}
    return {
        name: replace(one, params=given | one.params) if one.attack.takes("n_jobs") else one
        for name, one in attacks.items()
    }


def error_and_confidence(estimator, X, y, sample_weight=None):
    """Share of misclassified samples, and confidence on them (NaN without `predict_proba`)."""
    error = 1 - accuracy_score(
        y, estimator.predict(readable(estimator, X)), sample_weight=sample_weight
    )
    if not hasattr(estimator, "predict_proba"):
        return error, np.nan
    return error, confidence_on_errors(estimator, X, y, sample_weight)


def _certified_error(estimator, X, y, perturbations, sample_weight, n_jobs):
    """One minus the certified accuracy, or NaN for a model without bounds."""
    if not (is_attackable(estimator) or is_made_of_trees(estimator)):
        return np.nan
    try:
        return 1 - certified_accuracy_score(
            estimator, X, y, epsilon=perturbations, sample_weight=sample_weight, n_jobs=n_jobs
        )
    except NoBoundsError:
        return np.nan
