"""Base class of the transformer and the sampler: fit a classifier, then attack it."""

from contextlib import suppress
from copy import copy
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from sk_adv._arrays import readable, to_numpy
from sk_adv._collections import check_collection, collection_of, partitions_of
from sk_adv._devices import resolve_device
from sk_adv._indicators import warn_of_indicators
from sk_adv._perturbations import PERTURBATION_CONSTRAINTS, PerturbationSet, column_names
from sk_adv._validation import check_labels_present, unchanged_on_error
from sk_adv.attacks._estimators import (
    check_attackable,
    fit_surrogate,
    index_of_target,
    perturb,
)
from sk_adv.attacks._partitions import (
    check_collection_is_dense,
    in_types_of,
    like_copies,
    seeds_of,
)
from sk_adv.attacks._table import resolve_attack
from sk_adv.differentiable._as_module import classes_of


class AttackingEstimator(BaseEstimator):
    """Base class of estimators that fit a classifier and make adversarial copies against it."""

    _parameter_constraints: dict = {
        **PERTURBATION_CONSTRAINTS,
        "estimator": [HasMethods(["fit", "predict"])],
        "bounds": [tuple, list, None],
        "labels": [StrOptions({"predicted", "true"})],
        "attack": [str, callable],
        "attack_params": [dict, None],
        "surrogate": [HasMethods(["fit", "predict"]), None],
        "target": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator,
        *,
        epsilon,
        norm,
        bounds,
        labels,
        attack,
        attack_params,
        surrogate,
        target,
        batch_size,
        device,
        random_state,
    ):
        self.estimator = estimator
        self.epsilon = epsilon
        self.norm = norm
        self.bounds = bounds
        self.labels = labels
        self.attack = attack
        self.attack_params = attack_params
        self.surrogate = surrogate
        self.target = target
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _fit_models(self, X, y, sample_weight=None):
        """Check all parameters and the data, then fit the classifier and any surrogate.

        Returns
        -------
        PerturbationSet
            The allowed perturbations of X.
        """
        with unchanged_on_error(self):
            self._resolve_device()
            attack = self._resolve_attack()
            if not is_classifier(self.estimator):
                name = type(self.estimator).__name__
                raise TypeError(f"estimator must be a classifier; got {name}.")
            attacked = self.estimator if self.surrogate is None else self.surrogate
            check_attackable(attacked, attack)
            # The classifier itself checks whether text or NaN are allowed.
            values, labels = validate_data(
                self, to_numpy(X), to_numpy(y), dtype=None, ensure_all_finite=False, allow_nd=True
            )
            check_classification_targets(labels)
            check_labels_present(labels)
            perturbations = self._perturbation_set(X)
            if values.dtype.kind in "fiub":
                warn_of_indicators(self.epsilon, values, column_names(X))
            classes = np.unique(labels)
            if isinstance(self.estimator, FrozenEstimator):
                check_is_fitted(self.estimator)
                classes = classes_of(self.estimator, X)
            if len(classes) < 2:
                raise ValueError(
                    f"y must hold at least two classes; got 1 class: {classes.tolist()}."
                )
            if self.target is not None:
                index_of_target(self.target, classes)
            weights = {}
            if sample_weight is not None:
                # Classifiers check them in different ways, some not at all.
                rows = np.empty((len(labels), 0))
                weight = _check_sample_weight(to_numpy(sample_weight), rows, dtype=np.float64)
                weights = {"sample_weight": weight}
            self.estimator_ = clone(self.estimator).fit(readable(self.estimator, X), y, **weights)
            self.classes_ = classes_of(self.estimator_, X)
            self.surrogate_ = None
            if self.surrogate is not None:
                self.surrogate_ = fit_surrogate(self.surrogate, self.estimator_, X, **weights)
        return perturbations

    def _copies(self, X, y, perturbations):
        """Adversarial copies of X, moved away from y if `labels="true"`, else from the predictions.

        If y is None, the predictions are used too.
        """
        if y is None or self.labels == "predicted":
            y = self.estimator_.predict(readable(self.estimator_, X))
        return perturb(
            self.estimator_ if self.surrogate_ is None else self.surrogate_,
            X,
            y,
            epsilon=perturbations,
            attack=self._resolve_attack(),
            target=self.target,
            random_state=self.random_state,
            device=self._resolve_device(),
        )

    def _lazy_copies(self, X, y):
        """Adversarial copies of a dask collection, by partition, each with a seed of its own."""
        check_collection(X)
        partitions = partitions_of(X, y if self.labels == "true" else None)
        check_collection_is_dense(partitions)
        like = like_copies(partitions.like, self._perturbation_set(partitions.like))
        seeds = seeds_of(self.random_state, len(partitions))
        shared = {"transformer": copy(self), "like": like}
        blocks = partitions.map(_transformed, each={"seed": seeds}, **shared)
        return collection_of(blocks, like, partitions)

    def _resolve_attack(self):
        """The attack with its arguments, including `batch_size` if it is set."""
        params = {} if self.batch_size is None else {"batch_size": self.batch_size}
        params |= self.attack_params or {}
        return resolve_attack(self.attack, params, target=self.target)

    def _perturbation_set(self, X):
        return PerturbationSet(self.epsilon, self.norm, self.bounds, like=X)

    def _resolve_device(self):
        return None if self.device == "auto" else resolve_device(self.device)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        models = [self.estimator] if self.surrogate is None else [self.estimator, self.surrogate]
        tags.input_tags.allow_nan = all(get_tags(model).input_tags.allow_nan for model in models)
        tags.non_deterministic = any(get_tags(model).non_deterministic for model in models)
        # Tags are asked for before the parameters are checked.
        with suppress(TypeError, ValueError):
            tags.non_deterministic |= self._resolve_attack().is_random
        return tags


def _transformed(X, y, sample_weight, transformer, like, seed):
    if not X.shape[0]:
        return in_types_of(like, X)
    transformer = copy(transformer)
    transformer.random_state = seed
    return in_types_of(like, transformer.transform(X, y))
