"""A sampler that appends adversarial copies to the data."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import OneToOneFeatureMixin, _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import InputTags, Tags, _safe_indexing
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from sk_adv._arrays import to_numpy
from sk_adv.differentiable._as_module import classes_of
from sk_adv.preprocessing._attacking import AttackingEstimator


class FGSMSampler(OneToOneFeatureMixin, AttackingEstimator):
    """Append adversarial copies to the data, each with the label of its original.

    This is a sampler in the sense of imbalanced-learn: a step of an `imblearn.pipeline.Pipeline`
    that acts when the pipeline is fitted, and not when it predicts. The later steps are trained on
    equal numbers of clean samples and copies. This resembles adversarial training with α = ½,
    except that the copies are made once, against `estimator`, and not against the model in
    training.

    Parameters
    ----------
    estimator : object
        The classifier to attack: one for which `as_module` has a rule, such as a `Pipeline`, or
        any other together with a `surrogate`; any with `attack="square"`, and a tree model with
        `attack="exact"`. A `sklearn.frozen.FrozenEstimator` around a fitted
        classifier is used as it is.

    epsilon : float, array-like, dict or Series, default=0.25
        Radius of the perturbation in the units of X: one for all features, one per feature, or by
        column name, as in `sk_adv.attacks.perturb`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped. Each end is given like `epsilon`;
        None is no limit.

    labels : {"predicted", "true"}, default="true"
        Which labels to move away from: the true labels, or the classifier's predictions. The copies
        keep the true labels in both cases.

    attack : str or callable, default="fgsm"
        The attack: a name, such as "pgd" for `sk_adv.attacks.pgd`, "square" or "exact", or a
        function like `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    surrogate : object or None, default=None
        For attacks along gradients on models without any, such as forests, boosting or nearest
        neighbours: a classifier for which `as_module` has a rule. `fit` fits a clone of it to the
        predictions of the fitted `estimator` on the training data, and the copies are made against
        the clone. A `FrozenEstimator` around a fitted classifier is used as it is.

    target : label or None, default=None
        Class to move the samples towards, instead of away from the labels.

    batch_size : int or None, default=None
        Number of samples per batch of the attack. None means the attack's own default.

    device : str or torch.device, default="auto"
        Device of the attack. "auto" means the device of the classifier's weights.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers, such as "pgd"; the others ignore it.

    Attributes
    ----------
    estimator_ : object
        The fitted classifier.

    surrogate_ : object or None
        The fitted surrogate, or None if `surrogate` is None.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has string column names.

    sample_indices_ : ndarray of shape (2 * n_samples,)
        For each sample that `fit_resample` returned, the row of X that it comes from.

    See Also
    --------
    FGSMTransformer : Replaces samples by copies, in training, at prediction, or in both.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    sections 4 to 6.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv import FGSMSampler
    >>> X, y = load_iris(return_X_y=True)
    >>> sampler = FGSMSampler(LogisticRegression(), epsilon=0.5)
    >>> X_resampled, y_resampled = sampler.fit_resample(X, y)
    >>> X.shape, X_resampled.shape, y_resampled.shape
    ((150, 4), (300, 4), (300,))
    """

    def __init__(
        self,
        estimator: object,
        *,
        epsilon: ArrayLike = 0.25,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        labels: str = "true",
        attack: str | Callable = "fgsm",
        attack_params: dict | None = None,
        surrogate: object | None = None,
        target: object = None,
        batch_size: int | None = None,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        super().__init__(
            estimator,
            epsilon=epsilon,
            norm=norm,
            bounds=bounds,
            labels=labels,
            attack=attack,
            attack_params=attack_params,
            surrogate=surrogate,
            target=target,
            batch_size=batch_size,
            device=device,
            random_state=random_state,
        )

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the classifier, and the surrogate if there is one.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a 1 in the column of the class and 0 in the others.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the fits of the classifier and the surrogate, which must take
            them. None passes no weights.

        Returns
        -------
        self : FGSMSampler
            The fitted sampler.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or there is a surrogate to fit and the
            classifier predicts only one class. A previous fit then stays as it was.
        TypeError
            If the attack does not take the classifier, and there is no surrogate.
        """
        self._fit_models(X, self._labels(X, y), sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_resample(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[ArrayLike, ArrayLike]:
        """Fit the classifier, then return the samples followed by their adversarial copies.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a 1 in the column of the class and 0 in the others.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the fits of the classifier and the surrogate, which must take
            them. None passes no weights.

        Returns
        -------
        X_resampled : array, list, frame or tensor of shape (2 * n_samples, n_features)
            X followed by the copies. Columns of numbers or truth values that the attack may change
            hold floating-point numbers; the others keep their type. Frames get a new index that
            starts at 0, as in imbalanced-learn.
        y_resampled : array, list, frame, series or tensor of shape (2 * n_samples, ...)
            The labels y, twice.
        """
        labels = self._labels(X, y)
        copies = self._copies(X, labels, self._fit_models(X, labels, sample_weight))
        self.sample_indices_ = np.tile(np.arange(len(copies)), 2)
        y_resampled = _safe_indexing(y, self.sample_indices_)
        if hasattr(y_resampled, "reset_index"):
            y_resampled = y_resampled.reset_index(drop=True)
        return _stack(X, copies), y_resampled

    def _labels(self, X, y):
        """One label per sample: y itself, or where it is one-hot, the class of its column."""
        one_hot = np.asarray(to_numpy(y))
        if type_of_target(one_hot) != "multilabel-indicator" or (one_hot.sum(axis=1) != 1).any():
            return y
        columns = one_hot.argmax(axis=1)
        if not isinstance(self.estimator, FrozenEstimator):
            return columns
        check_is_fitted(self.estimator)
        classes = classes_of(self.estimator, X)
        if one_hot.shape[1] != len(classes):
            raise ValueError(
                f"A one-hot y must have one column per class of the estimator, {classes.tolist()}; "
                f"got {one_hot.shape[1]} columns."
            )
        return classes[columns]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        known = {item.name: getattr(tags, item.name) for item in fields(tags)}
        known["input_tags"] = _FrameTags(
            **{item.name: getattr(tags.input_tags, item.name) for item in fields(tags.input_tags)}
        )
        return _SamplerTags(**known)


# imbalanced-learn reads two tags beyond those of scikit-learn. Its own classes for them can't be
# used here, as it is an optional package.
@dataclass
class _FrameTags(InputTags):
    dataframe: bool = True


@dataclass
class _SampleIndices:
    sample_indices: bool = True


@dataclass
class _SamplerTags(Tags):
    sampler_tags: _SampleIndices = field(default_factory=_SampleIndices)


def _stack(X, copies):
    """Stack X and its copies; numbers in X become floating-point numbers like the copies."""
    if isinstance(X, list):
        return np.concatenate([X, copies]).tolist()
    if isinstance(X, torch.Tensor):
        return torch.cat([X, copies])
    if not hasattr(X, "columns"):
        return np.concatenate([X, copies])
    if hasattr(X, "iloc"):
        import pandas

        # pandas would stack truth values and numbers to a column of objects.
        clean = X.copy()
        for j in range(X.shape[1]):
            if X.iloc[:, j].dtype != copies.iloc[:, j].dtype:
                clean.isetitem(j, X.iloc[:, j].astype(copies.iloc[:, j].dtype))
        return pandas.concat([clean, copies], ignore_index=True)
    import polars

    return polars.concat([X, copies], how="vertical_relaxed")
