"""Verdicts: each sample verified, falsified by a copy that predict gets wrong, or unknown."""

import html
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sk_adv._collections import is_collection
from sk_adv._perturbations import as_perturbation_set
from sk_adv._validation import joint_weight
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import check_classifier
from sk_adv.attacks._trees import check_n_jobs, check_time_limit
from sk_adv.metrics._deciding import STATUSES, decide, numbers_in_container_of, tally
from sk_adv.metrics._verdict_partitions import verdicts_by_partition


@dataclass(frozen=True, eq=False)
class RobustnessVerdict:
    """The verdicts of `verify_robustness`.

    Parameters
    ----------
    status : ndarray or dask array of shape (n_samples,)
        For each sample "verified": a proof that no allowed perturbation makes the estimator
        misclassify it; "falsified": a perturbed sample that the estimator's own `predict`
        misclassifies; or "unknown": neither.
    counterexamples : array, frame, torch.Tensor or dask collection of the shape and type of X
        The perturbed sample of each falsified row. Rows without one are clean.
    lower, upper : float
        The accuracy under the worst case is at least the share of verified samples, and at most one
        minus the share of falsified ones.
    shares : dict of str to float, default={}
        The share of each of the three words, by weight if there are sample weights.
    counts : dict of str to int, default={}
        The number of samples of each of the three words.

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
    counts: dict = field(repr=False, default_factory=dict)

    @property
    def verified(self) -> int:
        """The number of samples that are proved robust."""
        return self.counts["verified"]

    @property
    def falsified(self) -> int:
        """The number of samples with a counterexample."""
        return self.counts["falsified"]

    @property
    def unknown(self) -> int:
        """The number of the other samples."""
        return self.counts["unknown"]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={self.counts[name]}" for name in STATUSES)
        return f"RobustnessVerdict({counts}, lower={self.lower:.4g}, upper={self.upper:.4g})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{self.counts[name]}</td><td>{self.shares[name]:.1%}</td></tr>"
            for name in STATUSES
        )
        title = f"accuracy under the worst case: {self.lower:.1%} to {self.upper:.1%}"
        if self.lower == self.upper:
            title = f"accuracy under the worst case: {self.lower:.1%}"
        return (
            f"<table><caption>{html.escape(title)}</caption><thead><tr><th></th><th>samples</th>"
            f"<th>share</th></tr></thead><tbody>{rows}</tbody></table>"
        )


@tells_once
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

    X : array-like, frame, torch.Tensor or dask collection of shape (n_samples, n_features) or \
            (n_samples, ...)
        Clean samples, in the estimator's raw units. The samples are first clipped to `bounds`.

    y : array-like or dask collection of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
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
        With `status`, `counterexamples`, `lower` and `upper`; the numbers of samples `verified`,
        `falsified` and `unknown`, which `counts` holds by name; and in `shares` the shares of the
        samples, by weight if there are sample weights.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, or numbers that may change reach a tree model through steps of which nothing
        is known. For other models such numbers are attacked by random search, and nothing is
        verified.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    certified_accuracy_score : The lower end alone.
    adversarial_accuracy_score : The upper end by an attack of your choice.
    sk_adv.inspection.VerdictDisplay : The shares against the radius, as a picture.

    Notes
    -----
    *Dask collections.* The partitions of a dask array or a dask dataframe are searched at once,
    each one time. `lower`, `upper`, `shares` and `counts` are numbers; `status` is a lazy dask
    array, and `counterexamples` a lazy collection of the kind of X. What both need beyond X, one
    byte per sample and the samples that were changed, is kept for as long as the verdict is: on the
    workers of a cluster, else in this process. Seeds are those of `sk_adv.attacks.perturb`: one for
    each partition. With `n_jobs`, each partition starts its own processes.

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
    options = {"time_limit": time_limit, "n_jobs": n_jobs, "verbose": verbose}
    if is_collection(X):
        threat = {"epsilon": epsilon, "norm": norm, "bounds": bounds}
        threat["random_state"] = random_state
        return _verdict(*verdicts_by_partition(estimator, X, y, sample_weight, threat, options))
    classes, y = check_classifier(estimator, X, y)
    weight = joint_weight(y, sample_weight, None)
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    status, numbers = decide(
        estimator, X, y, classes, perturbations, random_state=random_state, **options
    )
    return _verdict(status, numbers_in_container_of(X, numbers), *tally(status, weight))


def _verdict(status, copies, counts, weights):
    """The verdict, from the number of samples of each status and the sums of their weights."""
    total = sum(weights)
    shares = [weight / total if total else np.nan for weight in weights]
    shares, counts = (dict(zip(STATUSES, values, strict=True)) for values in (shares, counts))
    # Where nothing is unknown, both ends are the same number, and not just next to it.
    upper = 1 - shares["falsified"] if counts["unknown"] else shares["verified"]
    return RobustnessVerdict(status, copies, shares["verified"], upper, shares, counts)
