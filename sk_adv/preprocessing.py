"""Transformers that give adversarial copies of the data."""

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sk_adv._adversary import perturb
from sk_adv._devices import resolve_device, to_numpy
from sk_adv._validation import (
    PERTURBATION_CONSTRAINTS,
    check_bounds,
    check_epsilon,
    unchanged_on_error,
)
from sk_adv.differentiable._core import check_has_rule

__all__ = ["FGSMTransformer"]


class FGSMTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Replace samples by their adversarial copies against a classifier.

    `fit` fits a clone of the classifier; `transform` takes one step of the fast gradient sign
    method on it,

        x̃ = x + ε sign(∇ₓ J(x, y)) ,

    with J the cross-entropy, and y the classifier's own predictions or the true labels.

    Parameters
    ----------
    estimator : object
        A classifier for which `as_module` has a rule, such as a `Pipeline`. A
        `sklearn.frozen.FrozenEstimator` around a fitted one is used as it is.

    epsilon : float or array-like of shape (n_features,), default=0.25
        Radius of the perturbation in the units of X, one for all features or one a feature.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, scalars or arrays of shape (n_features,), to which the copies are
        clipped.

    labels : {"predicted", "true"}, default="predicted"
        Which labels to move away from: the classifier's predictions, or, where `transform` is
        given y, the true ones.

    device : str or torch.device, default="auto"
        Where the attack runs. "auto" is where the classifier's weights are.

    Attributes
    ----------
    estimator_ : object
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string column names.

    See Also
    --------
    sk_adv.attacks.fgsm : The attack, on torch modules.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv import FGSMTransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = FGSMTransformer(LogisticRegression(), epsilon=0.5).fit(X, y)
    >>> float(abs(attack.transform(X) - X).max())
    0.5
    """

    _parameter_constraints: dict = {
        **PERTURBATION_CONSTRAINTS,
        "estimator": [HasMethods(["fit", "predict"])],
        "bounds": [tuple, list, None],
        "labels": [StrOptions({"predicted", "true"})],
        "device": [str, torch.device],
    }

    def __init__(
        self,
        estimator: object,
        *,
        epsilon: ArrayLike = 0.25,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        labels: str = "predicted",
        device: str | torch.device = "auto",
    ):
        self.estimator = estimator
        self.epsilon = epsilon
        self.norm = norm
        self.bounds = bounds
        self.labels = labels
        self.device = device

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the classifier that is to be attacked.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : FGSMTransformer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit is then left as it was.
        TypeError
            If `as_module` has no rule for the classifier.
        """
        with unchanged_on_error(self):
            self._resolve_device()
            check_has_rule(self.estimator)
            checked, labels = validate_data(
                self, to_numpy(X), to_numpy(y), dtype=[np.float64, np.float32]
            )
            check_classification_targets(labels)
            if len(np.unique(labels)) < 2:
                raise ValueError(f"y must hold at least two classes; got 1 class: {labels[:1]}.")
            check_epsilon(self.epsilon, checked.shape[1:])
            check_bounds(self.bounds, checked.shape[1:])
            self.estimator_ = clone(self.estimator).fit(X, y)
            self.classes_ = self.estimator_.classes_
        return self

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> ArrayLike:
        """Adversarial copies of X.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,), default=None
            True labels, used with `labels="true"`.

        Returns
        -------
        array or frame of the type of X
            The copies; of a frame, with its columns and index.
        """
        check_is_fitted(self)
        validate_data(self, to_numpy(X), dtype=[np.float64, np.float32], reset=False)
        if y is None or self.labels == "predicted":
            y = self.estimator_.predict(X)
        return perturb(
            self.estimator_,
            X,
            y,
            epsilon=self.epsilon,
            norm=self.norm,
            bounds=self.bounds,
            device=self._resolve_device(),
        )

    def fit_transform(self, X: ArrayLike, y: ArrayLike) -> ArrayLike:
        """Fit the classifier, then give adversarial copies of the same samples.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels, which the copies move away from if `labels="true"`.

        Returns
        -------
        array or frame of the type of X
            The copies.
        """
        return self.fit(X, y).transform(X, y)

    def _resolve_device(self):
        return None if self.device == "auto" else resolve_device(self.device)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
