"""A transformer that replaces samples by adversarial copies."""

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sk_adv._arrays import to_numpy
from sk_adv._collections import is_collection
from sk_adv.differentiable import as_module
from sk_adv.preprocessing._attacking import AttackingEstimator


class FGSMTransformer(OneToOneFeatureMixin, TransformerMixin, AttackingEstimator):
    """Replace samples by their adversarial copies against a classifier.

    `fit` fits a clone of the classifier; `transform` attacks it, by default with one step of the
    fast gradient sign method,

        x̃ = x + ε sign(∇ₓ J(x, y)) ,

    with J the cross-entropy and y the classifier's predictions or the true labels.

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

    labels : {"predicted", "true"}, default="predicted"
        Which labels to move away from: the classifier's predictions, or the true labels, if y is
        passed to `fit_transform` or `transform`.

    stage : {"both", "train", "test"}, default="both"
        When the copies replace X. "train": only in `fit_transform`, so that the later steps of a
        pipeline are trained on copies and predict on clean data. "test": only in `transform`, so
        that they are trained on clean data and predict on copies. "both": always.

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

    See Also
    --------
    FGSMSampler : Appends the copies to the clean samples, in training only.
    sk_adv.attacks : The attacks, on torch modules.

    Notes
    -----
    The model behind this step is trained on copies made against the classifier of this step, not
    against itself. It can learn to read the label off the perturbation, which is called label
    leaking: it then classifies such copies well, but resists attacks on itself worse than before.
    The user guide shows this in numbers. Measure robustness by an attack on the trained model, as
    `sk_adv.metrics.adversarial_accuracy_score` does. In a pipeline it treats this step as the
    identity if `stage="train"`.

    A `Pipeline` does not pass y to the `transform` of its steps. With `labels="true"`, pass the
    labels by scikit-learn's metadata routing, under another name:
    `FGSMTransformer(..., labels="true").set_transform_request(y="y_true")`, and then
    `pipeline.score(X, y, y_true=y)`, or `cross_validate(pipeline, X, y, params={"y_true": y})`.
    Scorers other than the pipeline's own `score` can't pass the labels on, since they call
    `predict(X)`. Without y the predictions are used.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    sections 4 and 8.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv import FGSMTransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> attack = FGSMTransformer(LogisticRegression(), epsilon=0.5).fit(X, y)
    >>> float(abs(attack.transform(X) - X).max())
    0.5

    A forest has no gradient. Copies made against a linear model that imitates the forest also
    fool the forest; `attack="exact"` finds the worst copies against the forest itself:

    >>> from sklearn.ensemble import RandomForestClassifier
    >>> forest = RandomForestClassifier(random_state=0)
    >>> attack = FGSMTransformer(forest, epsilon=0.5, surrogate=LogisticRegression())
    >>> attack.fit(X, y).estimator_.score(attack.transform(X), y) < 0.9
    True
    """

    _parameter_constraints: dict = {
        **AttackingEstimator._parameter_constraints,
        "stage": [StrOptions({"train", "test", "both"})],
    }
    # By default scikit-learn does not treat a parameter named y as metadata.
    __metadata_request__transform = {"y": None}

    def __init__(
        self,
        estimator: object,
        *,
        epsilon: ArrayLike = 0.25,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        labels: str = "predicted",
        stage: str = "both",
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
        self.stage = stage

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the classifier, and the surrogate if there is one.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the fits of the classifier and the surrogate, which must take
            them. None passes no weights.

        Returns
        -------
        self : FGSMTransformer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or there is a surrogate to fit and the
            classifier predicts only one class. A previous fit then stays as it was.
        TypeError
            If the attack does not take the classifier, and there is no surrogate.
        """
        self._fit_models(X, y, sample_weight)
        return self

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> ArrayLike:
        """Return adversarial copies of X, or X itself if `stage="train"`.

        Parameters
        ----------
        X : array-like, frame or dask collection of shape (n_samples, n_features)
            Clean samples.

        y : array-like or dask collection of shape (n_samples,), default=None
            True labels, used if `labels="true"`.

        Returns
        -------
        array, frame, tensor or dask collection of the type of X
            The copies. A frame keeps its columns and index. Those of a dask collection are lazy,
            and made by partition, with seeds like those of `sk_adv.attacks.perturb`.
        """
        check_is_fitted(self)
        if is_collection(X):
            return X if self.stage == "train" else self._lazy_copies(X, y)
        validate_data(
            self, to_numpy(X), dtype=None, ensure_all_finite=False, allow_nd=True, reset=False
        )
        if self.stage == "train":
            return X
        return self._copies(X, y, self._perturbation_set(X))

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ArrayLike:
        """Fit the classifier, then return adversarial copies of the same samples.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data, dense.

        y : array-like of shape (n_samples,)
            Class labels. The copies move away from them if `labels="true"`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the fits of the classifier and the surrogate, which must take
            them. None passes no weights.

        Returns
        -------
        array, frame or tensor of the type of X
            The copies, or X itself if `stage="test"`.
        """
        perturbations = self._fit_models(X, y, sample_weight)
        return X if self.stage == "test" else self._copies(X, y, perturbations)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata requests: `transform` may request y, the true labels.

        Returns
        -------
        MetadataRequest
            The requests, for scikit-learn's meta-estimators.
        """
        return _with_y_in_fit_transform(super().get_metadata_routing())


class _Requests(MetadataRequest):
    """Metadata requests of a transformer whose `fit_transform` receives y as an argument.

    scikit-learn would pass what `transform` requests to `fit_transform` too, so y would be passed
    twice.
    """

    @property
    def fit_transform(self):
        return self.fit

    def __sklearn_clone__(self):
        return _with_y_in_fit_transform(super().__sklearn_clone__())


def _with_y_in_fit_transform(requests):
    own = _Requests(owner=None)
    vars(own).update(vars(requests))
    return own


@as_module.register(FGSMTransformer)
def _(transformer):
    if transformer.stage == "train":
        return nn.Identity()
    raise TypeError(
        f'A FGSMTransformer with stage="{transformer.stage}" perturbs its input when it predicts, '
        "which is not differentiable. Attack the step after it, pipeline[-1], or set "
        'stage="train".'
    )
