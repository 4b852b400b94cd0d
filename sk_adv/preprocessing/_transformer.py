"""A transformer that gives adversarial copies of the data."""

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

from sk_adv._devices import to_numpy
from sk_adv.differentiable import as_module
from sk_adv.preprocessing._attacking import AttackingEstimator


class FGSMTransformer(OneToOneFeatureMixin, TransformerMixin, AttackingEstimator):
    """Replace samples by their adversarial copies against a classifier.

    `fit` fits a clone of the classifier; `transform` attacks it, by default with one step of the
    fast gradient sign method,

        x̃ = x + ε sign(∇ₓ J(x, y)) ,

    with J the cross-entropy, and y the classifier's own predictions or the true labels.

    Parameters
    ----------
    estimator : object
        The classifier to attack: one for which `as_module` has a rule, such as a `Pipeline`, or
        any other together with a `surrogate`. A `sklearn.frozen.FrozenEstimator` around a fitted
        one is used as it is.

    epsilon : float, array-like, dict or Series, default=0.25
        Radius of the perturbation in the units of X: one for all features, one per feature, or by
        column name, as in `sk_adv.attacks.perturb`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped; each end is given like `epsilon`.

    labels : {"predicted", "true"}, default="predicted"
        Which labels to move away from: the classifier's predictions, or, where `fit_transform` or
        `transform` is given y, the true ones.

    stage : {"both", "train", "test"}, default="both"
        Where the copies take the place of X. "train": in `fit_transform` only, so that in a
        pipeline what comes after is trained on copies and meets clean data from then on; "test":
        in `transform` only, so that what comes after is trained on clean data and meets copies;
        "both": always.

    attack : str or callable, default="fgsm"
        The attack: a name, such as "pgd" for `sk_adv.attacks.pgd`, or a function like
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    surrogate : object or None, default=None
        A classifier for which `as_module` has a rule. `fit` fits a clone of it to the
        predictions of the fitted `estimator` on the training data, and the copies are made
        against it. It serves models without gradients: forests, boosting, neighbours. A
        `FrozenEstimator` around a fitted one is used as it is.

    target : label or None, default=None
        A class to move towards, in place of away from the labels.

    batch_size : int or None, default=None
        Samples that are attacked at once; None is the attack's own default.

    device : str or torch.device, default="auto"
        Where the attack runs. "auto" is where the classifier's weights are.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers, such as "pgd"; the others ignore it.

    Attributes
    ----------
    estimator_ : object
        The fitted classifier.

    surrogate_ : object or None
        The fitted surrogate; None without one.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string column names.

    See Also
    --------
    FGSMSampler : Copies beside the clean samples, in training only.
    sk_adv.attacks : The attacks, on torch modules.

    Notes
    -----
    What comes after is trained on copies against the classifier of this step, and not against
    itself. It can learn to read the label off the perturbation, which is called label leaking: it
    is then good on such copies and worse than before under an attack on itself. The guide shows it
    in numbers. Measure robustness by an attack on the model that was trained, as
    `sk_adv.metrics.adversarial_accuracy_score` does; it looks through this step with
    `stage="train"`.

    A `Pipeline` does not hand y to the `transform` of its steps. With `labels="true"` the labels
    reach it through scikit-learn's metadata routing, under a name of their own:
    `FGSMTransformer(..., labels="true").set_transform_request(y="y_true")`, and then
    `pipeline.score(X, y, y_true=y)`, or `cross_validate(pipeline, X, y, params={"y_true": y})`.
    Scorers other than the pipeline's own `score` have no way to pass it on, for they call
    `predict(X)`. Without y the predictions stand in.

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

    A forest has no gradient; copies against a linear model that imitates it deceive it too:

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
    # scikit-learn takes no parameter named y for metadata unless it is told to.
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
            If a parameter or the data is invalid, or there is a surrogate to fit and the
            classifier predicts one class only. A previous fit is then left as it was.
        TypeError
            If `as_module` has no rule for the classifier, and there is no surrogate.
        """
        self._fit_models(X, y)
        return self

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> ArrayLike:
        """Adversarial copies of X; X itself with `stage="train"`.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,), default=None
            True labels, used with `labels="true"`.

        Returns
        -------
        array, frame or tensor of the type of X
            The copies; of a frame, with its columns and index.
        """
        check_is_fitted(self)
        validate_data(
            self, to_numpy(X), dtype=None, ensure_all_finite=False, allow_nd=True, reset=False
        )
        if self.stage == "train":
            return X
        return self._copies(X, y, self._perturbation_set(X))

    @_fit_context(prefer_skip_nested_validation=False)
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
        array, frame or tensor of the type of X
            The copies; X itself with `stage="test"`.
        """
        perturbations = self._fit_models(X, y)
        return X if self.stage == "test" else self._copies(X, y, perturbations)

    def get_metadata_routing(self) -> MetadataRequest:
        """Which metadata the methods take: `transform` the true labels, if they are requested.

        Returns
        -------
        MetadataRequest
            The requests, as scikit-learn's meta-estimators read them.
        """
        return _with_y_in_fit_transform(super().get_metadata_routing())


class _Requests(MetadataRequest):
    """Requests of a transformer whose `fit_transform` has its y, and needs no other by routing.

    scikit-learn would route to it what `transform` requests, so that y came twice.
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
        f'A FGSMTransformer with stage="{transformer.stage}" attacks what it is given, which is no '
        'differentiable map. Attack what comes after it, pipeline[-1], or set stage="train".'
    )
