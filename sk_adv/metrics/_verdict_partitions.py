"""Verdicts on the samples of a dask collection, by one search of each partition."""

from dataclasses import dataclass

import numpy as np

from sk_adv._collections import (
    array_of,
    check_collection,
    collection_of,
    computed,
    each_of,
    in_memory,
    partitions_of,
    persisted,
)
from sk_adv._perturbations import as_perturbation_set
from sk_adv._validation import joint_weight
from sk_adv.attacks._estimators import check_classifier, check_takes
from sk_adv.attacks._partitions import (
    check_collection_is_dense,
    in_types_of,
    like_copies,
    seeds_of,
)
from sk_adv.metrics._deciding import (
    STATUSES,
    decide,
    numbers_in_container_of,
    numbers_of,
    tally,
)

_STATUS = np.array(STATUSES)


@dataclass(frozen=True, eq=False)
class _Found:
    """The verdicts on one partition, as what is not in X already.

    Attributes
    ----------
    codes : ndarray of int8 of shape (n_samples,)
        The positions of the status in `STATUSES`.
    rows : ndarray of int of shape (n_changed,)
        The samples that a counterexample, or `bounds`, have changed.
    numbers : ndarray of shape (n_changed, ...)
        These samples.
    tally : tuple
        The number of samples of each status, and the sums of their weights.
    """

    codes: np.ndarray
    rows: np.ndarray
    numbers: np.ndarray
    tally: tuple


def verdicts_by_partition(estimator, X, y, sample_weight, threat, options):
    """Search all partitions, once.

    Parameters
    ----------
    estimator : object
    X, y, sample_weight : dask collection or array-like
    threat : dict
        `epsilon`, `norm`, `bounds` and `random_state`.
    options : dict
        Further arguments of `decide`.

    Returns
    -------
    status : dask array of str of shape (n_samples,)
    counterexamples : dask collection of the kind of X
    counts : list of int
        The number of samples of each status.
    weights : list of float
        The sums of their weights.
    """
    check_collection(X)
    check_takes(estimator, X)
    partitions = partitions_of(X, y, sample_weight)
    check_collection_is_dense(partitions)
    radius, bounds = in_memory(threat["epsilon"]), in_memory(threat["bounds"])
    allowed = as_perturbation_set(radius, threat["norm"], bounds, partitions.like)
    seeds = seeds_of(threat["random_state"], len(partitions))
    shared = {"estimator": estimator, "allowed": allowed, "options": options}
    found = persisted(partitions.map(_found, each={"random_state": seeds}, **shared))
    counts, weights = zip(*computed(each_of(_tally, found)), strict=True)
    like = like_copies(partitions.like, allowed, is_double=True)
    status = array_of(
        each_of(_status, found),
        _STATUS[:0],
        partitions.known_lengths,
    )
    copies = partitions.map(_copies, each={"found": found}, like=like)
    counts = np.sum(counts, axis=0).tolist()
    return status, collection_of(copies, like, partitions), counts, np.sum(weights, axis=0).tolist()


def _found(X, y, sample_weight, estimator, allowed, options, random_state):
    if not X.shape[0]:
        nothing = np.zeros(0, dtype=int)
        return _Found(nothing.astype(np.int8), nothing, nothing, ([0] * 3, [0.0] * 3))
    classes, y = check_classifier(estimator, X, y)
    weight = None
    if sample_weight is not None and not np.any(sample_weight):
        weight = np.zeros(len(y))
    elif sample_weight is not None:
        weight = joint_weight(y, sample_weight, None)
    status, numbers = decide(
        estimator, X, y, classes, allowed, random_state=random_state, **options
    )
    clean = numbers_of(X)
    same = (numbers == clean) | (np.isnan(numbers) & np.isnan(clean))
    rows = np.flatnonzero(~same.reshape(len(y), -1).all(axis=1))
    codes = np.array([STATUSES.index(name) for name in status], dtype=np.int8)
    return _Found(codes, rows, numbers[rows], tally(status, weight))


def _tally(found):
    return found.tally


def _status(found):
    return _STATUS[found.codes]


def _copies(X, y, sample_weight, found, like):
    if not X.shape[0]:
        return in_types_of(like, X)
    numbers = np.array(numbers_of(X))
    numbers[found.rows] = found.numbers
    return in_types_of(like, numbers_in_container_of(X, numbers))
