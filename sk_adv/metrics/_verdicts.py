"""Verdicts: each sample verified, falsified by a copy that predict gets wrong, or unknown."""

import html
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike

from sk_adv._arrays import in_container_of, numeric_columns, predicted_by, to_numpy
from sk_adv._perturbations import as_perturbation_set, sample_shape
from sk_adv._validation import joint_weight, name_of
from sk_adv.attacks._estimators import check_classifier, is_attackable, perturb
from sk_adv.attacks._forms import searched
from sk_adv.attacks._trees import check_n_jobs, check_time_limit, rows_of
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.metrics._proofs import certified_samples, decided_samples
from sk_adv.tree._as_trees import is_made_of_trees

STATUSES = ("verified", "falsified", "unknown")


@dataclass(frozen=True, eq=False)
class RobustnessVerdict:
    """The verdicts of `verify_robustness`.

    Parameters
    ----------
    status : ndarray of shape (n_samples,)
        For each sample "verified": a proof that no allowed perturbation makes the estimator
        misclassify it; "falsified": a perturbed sample that the estimator's own `predict`
        misclassifies; or "unknown": neither.
    counterexamples : array, frame or torch.Tensor of the shape and type of X
        The perturbed sample of each falsified row. Rows without one are clean.
    lower, upper : float
        The accuracy under the worst case is at least the share of verified samples, and at most one
        minus the share of falsified ones.
    shares : dict of str to float, default={}
        The share of each of the three words, by weight if there are sample weights.

    See Also
    --------
    verify_robustness : Makes it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sk_adv.metrics import verify_robustness
    >>> X, y = load_iris(return_X_y=True)
    >>> tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, y)
    >>> verdict = verify_robustness(tree, X, y, epsilon=0.1)
    >>> verdict
    RobustnessVerdict(verified=132, falsified=18, unknown=0, lower=0.88, upper=0.88)
    >>> verdict.status[:3]
    array(['verified', 'verified', 'verified'], dtype='<U9')
    """

    status: np.ndarray
    counterexamples: ArrayLike
    lower: float
    upper: float
    shares: dict = field(repr=False, default_factory=dict)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={(self.status == name).sum()}" for name in STATUSES)
        return f"RobustnessVerdict({counts}, lower={self.lower:.4g}, upper={self.upper:.4g})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{(self.status == name).sum()}</td>"
            f"<td>{self.shares[name]:.1%}</td></tr>"
            for name in STATUSES
        )
        title = f"accuracy under the worst case: {self.lower:.1%} to {self.upper:.1%}"
        if self.lower == self.upper:
            title = f"accuracy under the worst case: {self.lower:.1%}"
        return (
            f"<table><caption>{html.escape(title)}</caption><thead><tr><th></th><th>samples</th>"
            f"<th>share</th></tr></thead><tbody>{rows}</tbody></table>"
        )


def verify_robustness(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    time_limit: float = 10.0,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: bool = False,
) -> RobustnessVerdict:
    """Prove each sample robust, or break it, or say that neither is known.

    The strongest means that the estimator allows are used: for linear models the closed form; for
    tree models a search to the end (see `sk_adv.tree.as_trees`); for networks sound bounds, the
    attack "auto" (`sk_adv.attacks.auto`), and, where their units are (leaky) rectified or maxout, a
    search to the end as well; for all other models that attack alone, without any proof.

    Every counterexample lies in the perturbation set and in the bounds, and the estimator's own
    `predict` misclassifies it. A sample that is misclassified without a perturbation is falsified.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units. The samples are first clipped to `bounds`.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in `lower` and `upper`.

    time_limit : float, default=10.0
        Seconds of search for each sample of a tree model or a network. What it leaves open is
        unknown.

    n_jobs : int or None, default=None
        Number of processes for the searches, as in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers.

    verbose : bool, default=False
        Whether to show a progress bar of the search for tree models.

    Returns
    -------
    RobustnessVerdict
        With `status`, `counterexamples`, `lower` and `upper`.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, or numbers that may change reach a tree model or the classifier through
        steps of which nothing is known.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    certified_accuracy_score : The lower end alone.
    adversarial_accuracy_score : The upper end by an attack of your choice.
    sk_adv.inspection.VerdictDisplay : The shares against the radius, as a picture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sk_adv.metrics import verify_robustness
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(random_state=0).fit(X[::2], y[::2])
    >>> verdict = verify_robustness(forest, X[1::2], y[1::2], epsilon=0.2)
    >>> verdict
    RobustnessVerdict(verified=64, falsified=11, unknown=0, lower=0.8533, upper=0.8533)
    >>> wrong = verdict.status == "falsified"
    >>> bool((forest.predict(verdict.counterexamples[wrong]) == y[1::2][wrong]).any())
    False
    """
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    classes, y = check_classifier(estimator, X, y)
    weight = joint_weight(y, sample_weight, None)
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    if is_made_of_trees(estimator):
        options = {"time_limit": time_limit, "n_jobs": n_jobs, "warn": True, "verbose": verbose}
        found = searched(estimator, X, y, classes, perturbations, **options)
        status, numbers = found.status, found.copies
    else:
        status, numbers = _bounds_and_attacks(estimator, X, y, classes, perturbations, random_state)
        options = {"time_limit": time_limit, "n_jobs": n_jobs}
        _decide_the_rest(status, numbers, estimator, X, y, classes, perturbations, **options)
    shares = {
        name: float(np.average(status == name, weights=weight)) if len(y) else np.nan
        for name in STATUSES
    }
    # Where nothing is unknown, both ends are the same number, and not just next to it.
    upper = shares["verified"] if "unknown" not in status else 1 - shares["falsified"]
    copies = _in_container_of(X, numbers)
    return RobustnessVerdict(status, copies, shares["verified"], upper, shares)


def _bounds_and_attacks(estimator, X, y, classes, perturbations, random_state):
    """Verdicts by certificates and attacks, and the counterexamples as numbers."""
    has_module = is_attackable(estimator)
    # Noise of radius 0: the samples themselves, within the bounds.
    still = {"epsilon": perturbations.scaled(0.0), "attack": "uniform_noise", "random_state": 0}
    clean = perturb(estimator, X, y, **still)
    wrong = _predicted(estimator, clean) != y
    numbers = _numbers(clean)
    certified = np.zeros(len(y), dtype=bool)
    if has_module:
        with suppress(NoBoundsError):
            certified = certified_samples(estimator, X, y, classes, perturbations)
    status = np.where(wrong, "falsified", np.where(certified, "verified", "unknown")).astype("<U9")
    rows = np.flatnonzero(status == "unknown")
    if len(rows):
        options = {"attack": "auto", "random_state": random_state}
        found = perturb(estimator, rows_of(X, rows), y[rows], epsilon=perturbations, **options)
        is_wrong = _predicted(estimator, found) != y[rows]
        status[rows[is_wrong]] = "falsified"
        numbers[rows[is_wrong]] = _numbers(found)[is_wrong]
    return status, numbers


def _decide_the_rest(status, numbers, estimator, X, y, classes, perturbations, **options):
    """Search for proofs and counterexamples of networks where bounds and attacks say nothing."""
    rows = np.flatnonzero(status == "unknown")
    if not len(rows) or not is_attackable(estimator):
        return
    try:
        found = decided_samples(
            estimator, rows_of(X, rows), y[rows], classes, perturbations, **options
        )
    except NoBoundsError:
        return
    status[rows[found.is_proved]] = "verified"
    broken = rows[found.is_broken]
    status[broken] = "falsified"
    numbers[np.ix_(broken, found.free)] = found.copies[found.is_broken][:, found.free]


def _predicted(estimator, X):
    found = predicted_by(estimator, X)
    if found.ndim != 1:
        raise ValueError(
            "A verdict needs one label per sample; the predictions of this "
            f"{name_of(estimator)} have shape {found.shape}."
        )
    return found


def _numbers(X):
    X = to_numpy(X)
    return np.asarray(X) if len(sample_shape(X)) > 1 else numeric_columns(X)


def _in_container_of(X, numbers):
    """Rows of numbers in the container of X; columns that are the same keep their types."""
    if isinstance(X, torch.Tensor):
        copies = torch.as_tensor(numbers, device=X.device)
        return copies.to(X.dtype) if X.is_floating_point() else copies
    dtype = getattr(X, "dtype", None)
    if getattr(dtype, "kind", None) == "f":
        return numbers.astype(dtype)
    clean = _numbers(X)
    changed = ~((numbers == clean) | np.isnan(numbers)).all(axis=0)
    if isinstance(X, np.ndarray) and X.dtype.kind in "iub":
        return numbers
    return in_container_of(X, numbers, free=changed)
