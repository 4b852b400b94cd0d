"""Scores of dask collections: each partition is attacked or certified where it is."""

from functools import wraps

import numpy as np

from sk_adv._arrays import readable, to_numpy
from sk_adv._collections import computed, is_weightless, partitions_of, sums_of
from sk_adv.attacks._estimators import check_attack_on_collection, check_classifier
from sk_adv.attacks._partitions import check_collection_is_dense, options_for, seeds_of
from sk_adv.metrics._attacked import RESPONSES, attack_all, can_be_sparse


class AttackOnPartitions:
    """An attack on the samples of a dask collection, as the scores need it.

    Parameters
    ----------
    estimator : object
    X, y, sample_weight : dask collection or array-like
    options : dict
        The arguments of `perturb`, with the attack resolved.
    """

    def __init__(self, estimator, X, y, sample_weight=None, *, options):
        options = dict(options)
        attack = options["attack"]
        check_attack_on_collection(estimator, X, attack, options["target"], options["surrogate"])
        self.estimator = estimator
        self.partitions = partitions_of(X, y, sample_weight)
        if not can_be_sparse(attack):
            check_collection_is_dense(self.partitions)
        self.seeds = seeds_of(options.pop("random_state"), len(self.partitions))
        self.options = options_for(self.partitions, options)

    def sums(self, one):
        """A weighted sum over all samples, and the sum of their weights.

        Parameters
        ----------
        one : callable
            `one(X, y, sample_weight, estimator, options)` gives both for one partition.
        """
        return sums_of(self._map(_with_seed, one=one))

    def _map(self, function, **shared):
        shared |= {"estimator": self.estimator, "options": self.options}
        return self.partitions.map(function, each={"random_state": self.seeds}, **shared)

    def labels_and_weights(self):
        """Labels and weights of all samples in memory; None without weights."""
        found = _with_rows(computed(self.partitions.map(_labels_and_weights)))
        y, weights = zip(*found, strict=True)
        return np.concatenate(y), None if weights[0] is None else np.concatenate(weights)

    def answers(self):
        """The estimator, such that its answers are those to the adversarial copies."""
        return _Answers(self)

    def answers_of(self, method):
        """The answers of one method to the adversarial copies of all samples, in memory."""
        return np.concatenate(_with_rows(computed(self._map(_answers, method=method))))


class _Answers:
    """A fitted classifier whose answers are those to adversarial copies of a dask collection."""

    def __init__(self, work):
        self._work = work

    def __getattr__(self, name):
        value = getattr(self._work.estimator, name)
        if name not in RESPONSES:
            return value

        # Scorers read the name of the method.
        @wraps(value)
        def answer(X):
            return self._work.answers_of(name)

        return answer


def _with_rows(found):
    """Results of partitions that are not empty."""
    found = [result for result in found if result is not None]
    if not found:
        raise ValueError("X must hold at least one sample; all partitions are empty.")
    return found


def _with_seed(X, y, sample_weight, one, estimator, options, random_state):
    if is_weightless(X, sample_weight):
        return 0.0, 0.0
    return one(X, y, sample_weight, estimator, options | {"random_state": random_state})


def _labels_and_weights(X, y, sample_weight):
    return (np.asarray(y), sample_weight) if X.shape[0] else None


def _answers(X, y, sample_weight, estimator, options, random_state, method):
    if not X.shape[0]:
        return None
    accept_sparse = can_be_sparse(options["attack"])
    _, labels = check_classifier(estimator, X, y, accept_sparse=accept_sparse)
    attacked, copies = attack_all(estimator, X, labels, random_state=random_state, **options)
    return np.asarray(to_numpy(getattr(attacked, method)(readable(attacked, copies))))
