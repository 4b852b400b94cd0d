"""What the transformer and the sampler share: a fitted classifier, and an attack on it."""

from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sk_adv._adversary import (
    check_attack,
    fit_surrogate,
    index_of_target,
    perturb,
    takes_random_state,
)
from sk_adv._devices import resolve_device, to_numpy
from sk_adv._validation import (
    PERTURBATION_CONSTRAINTS,
    check_bounds,
    check_epsilon,
    unchanged_on_error,
)
from sk_adv.differentiable._as_module import check_has_rule


class AttackingEstimator(BaseEstimator):
    """An estimator that fits a classifier and makes adversarial copies against it."""

    _parameter_constraints: dict = {
        **PERTURBATION_CONSTRAINTS,
        "estimator": [HasMethods(["fit", "predict"])],
        "bounds": [tuple, list, None],
        "labels": [StrOptions({"predicted", "true"})],
        "attack": [str, callable],
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
        self.surrogate = surrogate
        self.target = target
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _fit_models(self, X, y):
        """Fit the classifier, and the surrogate if there is one, once all else is checked."""
        with unchanged_on_error(self):
            self._resolve_device()
            check_attack(self.attack, target=self.target, **self._attack_params())
            if not is_classifier(self.estimator):
                name = type(self.estimator).__name__
                raise TypeError(f"estimator must be a classifier; got {name}.")
            check_has_rule(self.estimator if self.surrogate is None else self.surrogate)
            # What the features may be, text or NaN, is for the classifier to say.
            _, labels = validate_data(
                self, to_numpy(X), to_numpy(y), dtype=None, ensure_all_finite=False
            )
            check_classification_targets(labels)
            check_epsilon(self.epsilon, (self.n_features_in_,))
            check_bounds(self.bounds, (self.n_features_in_,))
            classes = np.unique(labels)
            if isinstance(self.estimator, FrozenEstimator):
                check_is_fitted(self.estimator)
                classes = self.estimator.classes_
            if len(classes) < 2:
                raise ValueError(f"y must hold at least two classes; got 1 class: {classes}.")
            if self.target is not None:
                index_of_target(self.target, classes)
            self.estimator_ = clone(self.estimator).fit(X, y)
            self.classes_ = self.estimator_.classes_
            self.surrogate_ = None
            if self.surrogate is not None:
                self.surrogate_ = fit_surrogate(self.surrogate, self.estimator_, X)

    def _copies(self, X, y=None):
        """Copies of X, away from the predictions, or from the true labels if wanted and given."""
        if y is None or self.labels == "predicted":
            y = self.estimator_.predict(X)
        return perturb(
            self.estimator_ if self.surrogate_ is None else self.surrogate_,
            X,
            y,
            epsilon=self.epsilon,
            attack=self.attack,
            norm=self.norm,
            bounds=self.bounds,
            device=self._resolve_device(),
            target=self.target,
            **self._attack_params(),
        )

    def _attack_params(self):
        """`batch_size` if one is set, and `random_state` if the attack draws random numbers."""
        params = {} if self.batch_size is None else {"batch_size": self.batch_size}
        if takes_random_state(self.attack):
            params["random_state"] = self.random_state
        return params

    def _resolve_device(self):
        return None if self.device == "auto" else resolve_device(self.device)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        fitted = [self.estimator] if self.surrogate is None else [self.estimator, self.surrogate]
        tags.input_tags.allow_nan = all(get_tags(one).input_tags.allow_nan for one in fitted)
        return tags
