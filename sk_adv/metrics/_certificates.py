"""Certificates: certified accuracy."""

import numpy as np
from numpy.typing import ArrayLike

from sk_adv._arrays import blocks_of
from sk_adv._collections import (
    check_collection,
    in_memory,
    is_collection,
    is_weightless,
    mean_of,
    partitions_of,
    sums_of,
)
from sk_adv._perturbations import PerturbationSet, as_perturbation_set, check_scale
from sk_adv._validation import joint_weight
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import (
    check_certifiable,
    check_classifier,
    check_takes,
)
from sk_adv.attacks._forms import searched
from sk_adv.attacks._trees import check_n_jobs, check_time_limit
from sk_adv.differentiable._proofs import check_method
from sk_adv.metrics._proofs import certified_samples
from sk_adv.tree._as_trees import is_made_of_trees


@tells_once
def certified_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    sample_weight: ArrayLike | None = None,
    method: str = "auto",
    time_limit: float = 10.0,
    n_jobs: int | None = None,
) -> float:
    """Share of samples that are provably classified correctly under every allowed perturbation.

    The score is exact for linear models with any number of classes, also behind linear
    transformers in a `Pipeline`. A sample x of class y is certified iff, for every other class k,

        (w_y - w_k)ᵀx + b_y - b_k > ‖ε ∘ (w_y - w_k)‖_* ,

    with ‖·‖_* the dual norm, L1 for the max-norm and L2 for the Euclidean norm.

    For tree models it is exact too, by a search for a misclassified copy to the end; a sample that
    the time limit leaves open is not certified.

    For networks the score is a lower bound. Two kinds of bounds are known, by `method`. Intervals:
    the bounds are exact through the first affine layer, then each unit has an interval, and the
    worst z_k - z_y over these intervals counts. Linear relaxations (CROWN): each unit lies between
    two linear functions of its inputs, and z_y - z_k is bounded below by linear functions of each
    layer in turn, from the last one back to X. They are much tighter. The bound equals the
    accuracy at radius 0. It may fall to 0 at radii where no attack succeeds, so a high value is a
    guarantee, but a low value does not show that the model is weak.

    Parameters
    ----------
    estimator : object
        A fitted classifier for which `as_module` and `enclose` have rules: a linear model,
        `AdversarialMaxoutClassifier`, `MLPClassifier`, an `AdversarialNet` around a
        `torch.nn.Sequential`, or a `Pipeline` of scalers and one of these; or a tree model for
        which `sk_adv.tree.as_trees` has a rule.

    X : array-like, frame, sparse matrix, torch.Tensor or dask collection of shape \
            (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units. A SciPy matrix is made dense in small blocks.
        The samples are first clipped to `bounds`.

    y : array-like or dask collection of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
        Weights of the samples in the mean.

    method : {"auto", "interval", "crown", "alpha-crown", "exact"}, default="auto"
        The bounds for networks. "interval": interval bound propagation, the cheapest. "crown":
        linear relaxations. "alpha-crown": the same with slopes that are optimised for each sample
        and each unit, which costs some twenty times as much. "auto": intervals, then linear
        relaxations for the samples that those do not prove, then optimised slopes in the last
        bound for the rest. "exact": then a search to the end, within `time_limit`, for networks of
        (leaky) rectified or maxout units. From "interval" to "exact" no method proves less than the
        one before it.

    time_limit : float, default=10.0
        For tree models and `method="exact"`: seconds of search for each sample.

    n_jobs : int or None, default=None
        For tree models and `method="exact"`: number of processes, as in scikit-learn.

    Returns
    -------
    float
        The certified accuracy, in [0, 1]. One minus this score is an upper bound on the error
        under any attack. For linear models it is the error under `attack="exact"`.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is a sparse tensor, neither `as_trees` nor `as_module` has a rule for the estimator, or
        `enclose` has no rule for one of its modules.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    The bounds are computed in float64. They are widened by a bound on the rounding errors of the
    copies and of the model's own predictions, at the coarser of the precisions of X and of the
    weights. A sample whose margin could be lost to rounding is not certified. Where all radii are
    0, the predictions themselves are counted.

    *Dask collections.* The samples of a dask array or a dask dataframe are certified partition by
    partition, by one pass, and two numbers of each are gathered.

    References
    ----------
    Gowal et al., "Scalable Verified Training for Provably Robust Image Classification", ICCV
    2019, section 3.

    Zhang et al., "Efficient Neural Network Robustness Certification with General Activation
    Functions", NeurIPS 2018.

    Xu et al., "Fast and Complete: Enabling Complete Verification with Massively Parallel Incomplete
    Verifiers", ICLR 2021.

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
    check_method(method)
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    options = {"method": method, "time_limit": time_limit, "n_jobs": n_jobs}
    if is_collection(X):
        check_collection(X)
        check_takes(estimator, X)
        _check_rules(estimator)
        partitions = partitions_of(X, y, sample_weight)
        allowed = as_perturbation_set(in_memory(epsilon), norm, in_memory(bounds), partitions.like)
        sums = partitions.map(_certified, estimator=estimator, allowed=allowed, **options)
        return mean_of(*sums_of(sums))
    classes, y = check_classifier(estimator, X, y, accept_sparse=True)
    weight = joint_weight(y, sample_weight, None)
    allowed = as_perturbation_set(epsilon, norm, bounds, X)
    _check_rules(estimator)
    certified = _certified_samples(estimator, X, y, classes, allowed, **options)
    return float(np.average(certified, weights=weight))


def _check_rules(estimator):
    if not is_made_of_trees(estimator):
        check_certifiable(estimator, "certified_accuracy_score")


def _certified_samples(estimator, X, y, classes, allowed, *, method, **options):
    if is_made_of_trees(estimator):
        return certified_trees(estimator, X, y, classes, allowed, **options)
    return certified_samples(estimator, X, y, classes, allowed, method, **options)


def _certified(X, y, sample_weight, estimator, allowed, **options):
    """The weight of the certified samples of one partition, and of all its samples."""
    if is_weightless(X, sample_weight):
        return 0.0, 0.0
    classes, y = check_classifier(estimator, X, y, accept_sparse=True)
    weight = joint_weight(y, sample_weight, None)
    weight = np.ones(len(y)) if weight is None else weight
    certified = _certified_samples(estimator, X, y, classes, allowed, **options)
    return float(weight @ certified), float(weight.sum())


def certified_trees(estimator, X, y, classes, perturbations, **options):
    """Which samples a search proves to be classified correctly, for a tree model."""
    certified = []
    for rows, block in blocks_of(X):
        found = searched(estimator, block, y[rows], classes, perturbations, **options)
        certified.append(found.status == "verified")
    return np.concatenate(certified)


def unit_set(scale, norm, bounds, X):
    """The perturbation set with the scale as its radius, for `PerturbationSet.scaled`."""
    return PerturbationSet(check_scale(scale, X), norm, bounds, like=X)
