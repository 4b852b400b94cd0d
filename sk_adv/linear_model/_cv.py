"""AdversarialLogisticRegressionCV: radius and alpha chosen by cross-validation."""

from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight

from sk_adv._arrays import labels_in_kind_of, to_numpy
from sk_adv._collections import in_memory
from sk_adv._devices import resolve_device
from sk_adv._perturbations import check_scale
from sk_adv._validation import unchanged_on_error
from sk_adv.linear_model._fitting import make_training_set
from sk_adv.linear_model._logistic import (
    AdversarialLogisticRegression,
    LogisticClassifierMixin,
    check_names,
    complaint,
    constraints_of,
    warn_of_several,
)
from sk_adv.linear_model._partitioned_data import make_partitioned_set
from sk_adv.linear_model._path import check_epsilons, epsilon_grid, walk
from sk_adv.linear_model._sources import source_of


class AdversarialLogisticRegressionCV(LogisticClassifierMixin, BaseEstimator):
    """Adversarial logistic regression with radius and alpha chosen by cross-validation.

    For each fold and alpha, all radii are solved as one path. The choice is the same as that of
    `GridSearchCV` over the same grid.

    Parameters
    ----------
    epsilons : int or array-like of shape (n_epsilons,), default=10
        The radii to choose from, in multiples of the scale, or their number. A number of radii are
        spaced evenly on a log scale, from the `epsilon_max` of all data at the smallest alpha down
        to a hundredth of it.

    scale : float, array-like, dict or Series, default=None
        The radius of feature j is ε times `scale[j]`, in the units of X, such as the features'
        standard deviations. It is given like a radius, see `sk_adv.attacks.perturb`. None is 1.

    alphas : array-like of shape (n_alphas,), default=(0.0,)
        The weights of the clean loss to choose from.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    C : float, default=100.0
        Inverse strength of an additional L2 penalty. The default is finite, so that a solution
        exists for every radius, however small.

    fit_intercept : bool, default=True
        Whether to fit an intercept.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.

    cv : int, cross-validation generator or iterable, default=None
        How to split the data, as in `GridSearchCV`; None means five stratified folds.

    scoring : str or callable, default=None
        The score to maximise. None is the accuracy on clean samples, which favours small radii;
        `sk_adv.metrics.make_adversarial_scorer` gives scores under attack.

    tol : float, default=1e-6
        Largest allowed violation of the optimality conditions, as in
        `AdversarialLogisticRegression`.

    max_iter : int, default=100
        Largest number of Newton iterations per radius.

    n_jobs : int, default=None
        Number of paths to solve in parallel; -1 means all processors.

    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if it is a tensor, else the CPU.

    Attributes
    ----------
    epsilon_ : float
        The chosen radius.

    alpha_ : float
        The chosen weight of the clean loss.

    best_score_ : float
        Mean score over the folds of the chosen radius and alpha.

    epsilons_ : ndarray of shape (n_epsilons,)
        The radii, in the order given.

    scores_ : ndarray of shape (n_alphas, n_epsilons, n_folds)
        The scores.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        The weights of the refit on all data.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        The intercepts.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_iter_ : int
        Number of Newton iterations of the refit.

    objective_ : float
        The objective of the refit.

    violation_ : float
        The largest violation of the refit's optimality conditions.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has string column names.

    See Also
    --------
    AdversarialLogisticRegression : One radius and alpha, without a search.
    adversarial_logistic_path : The solutions for many radii.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.linear_model import AdversarialLogisticRegressionCV
    >>> from sk_adv.metrics import make_adversarial_scorer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> search = AdversarialLogisticRegressionCV(
    ...     epsilons=[0.03, 0.1, 0.3], scoring=make_adversarial_scorer(epsilon=0.3)
    ... )
    >>> search.fit(X, y).epsilon_
    0.3
    """

    _parameter_constraints: dict = {
        **constraints_of("norm", "C", "fit_intercept", "class_weight", "tol", "max_iter", "device"),
        "epsilons": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "scale": ["array-like", dict, Real, None],
        "alphas": ["array-like"],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        epsilons: int | ArrayLike = 10,
        scale: ArrayLike | None = None,
        alphas: ArrayLike = (0.0,),
        norm: float = np.inf,
        C: float = 100.0,
        fit_intercept: bool = True,
        class_weight: dict | str | None = None,
        cv: int | Iterable | None = None,
        scoring: str | Callable | None = None,
        tol: float = 1e-6,
        max_iter: int = 100,
        n_jobs: int | None = None,
        device: str | torch.device = "auto",
    ):
        self.epsilons = epsilons
        self.scale = scale
        self.alphas = alphas
        self.norm = norm
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.cv = cv
        self.scoring = scoring
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose radius and alpha, then refit with them on all data.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Training data. Dask's partitions are not gathered, but the labels are, to draw the
            folds. Of a large array that maps a file, one fold's test samples are copied at a time.

        y : array-like or dask collection of shape (n_samples,)
            Class labels, of at least two classes.

        sample_weight : array-like or dask collection of shape (n_samples,), default=None
            Weights of the samples in the fits, and in the scores if the scorer takes weights.
            None means 1 each.

        groups : array-like of shape (n_samples,), default=None
            Group of each sample, for a `cv` that splits by group.

        Returns
        -------
        self : AdversarialLogisticRegressionCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit is kept.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, groups)

    def _fit(self, X, y, sample_weight, groups):
        source = source_of(X, y, sample_weight)
        if source is not None:
            return self._fit_partitions(source, groups)
        device = resolve_device(self.device, X)
        given, scale = X, check_scale(self.scale, X)
        X, y = self._validate_training_data(X, y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                to_numpy(sample_weight), np.empty((len(y), 0)), ensure_non_negative=True
            )
        data = make_training_set(X, y, sample_weight, self.class_weight, self.fit_intercept, device)
        model, scorer, alphas = self._prepare(data, scale)
        folds = list(check_cv(self.cv, y, classifier=True).split(X, y, groups))
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(_score_fold)(
                clone(model).set_params(alpha=alpha),
                scorer,
                X,
                y,
                sample_weight,
                *fold,
                self.epsilons_,
                scale,
                given if hasattr(given, "columns") else X,
            )
            for alpha in alphas
            for fold in folds
        )
        self._choose(alphas, results)
        model.set_params(alpha=self.alpha_, epsilon=self.epsilon_ * scale)
        return self._take(model.fit(X, y, sample_weight=sample_weight))

    def _fit_partitions(self, source, groups):
        """Fit to a `LocalSource` or `DaskSource`, one fold after the other."""
        check_names(self, source.like)
        scale = check_scale(self.scale, source.like)
        data = make_partitioned_set(source, self.class_weight, self.fit_intercept)
        model, scorer, alphas = self._prepare(data, scale)
        y = source.gathered_labels()
        splitter = check_cv(self.cv, y, classifier=True)
        folds = list(splitter.split(np.empty((len(y), 0)), y, in_memory(groups)))
        results = [
            _score_partitions(
                clone(model).set_params(alpha=alpha),
                None if self.scoring in (None, "accuracy") else scorer,
                source,
                *fold,
                self.epsilons_,
                scale,
            )
            for alpha in alphas
            for fold in folds
        ]
        self._choose(alphas, results)
        model.set_params(alpha=self.alpha_, epsilon=self.epsilon_ * scale)
        return self._take(model._fit_partitions(source))

    def _prepare(self, data, scale):
        """Set the radii; the model with the parameters of all fits, the scorer and the alphas."""
        alphas = _check_alphas(self.alphas)
        if isinstance(self.epsilons, Integral):
            self.epsilons_ = epsilon_grid(data, self.epsilons, 1e-2, scale, alphas.min(), self.norm)
        else:
            self.epsilons_ = check_epsilons(self.epsilons)
        model = AdversarialLogisticRegression(
            norm=self.norm,
            C=self.C,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            tol=self.tol,
            max_iter=self.max_iter,
            device=self.device,
        )
        return model, check_scoring(model, scoring=self.scoring or "accuracy"), alphas

    def _choose(self, alphas, results):
        """Set the scores, and the radius and alpha of the best mean.

        `results`, alpha by alpha, are pairs of scores and complaints about fits.
        """
        scores = [of_radii for of_radii, _ in results]
        complaints = [one for _, of_radii in results for one in of_radii]
        warn_of_several(complaints, np.size(scores), stacklevel=6)
        self.scores_ = np.reshape(scores, (len(alphas), -1, len(self.epsilons_))).swapaxes(1, 2)
        # Rounding turns scores that differ in the last digits into ties; the first one wins.
        means = self.scores_.mean(axis=2).round(12)
        if np.isnan(means).all():
            raise ValueError("All scores are NaN: check that `scoring` suits the data.")
        best = np.unravel_index(np.nanargmax(means), means.shape)
        self.best_score_ = float(means[best])
        self.alpha_ = float(alphas[best[0]])
        self.epsilon_ = float(self.epsilons_[best[1]])

    def _take(self, model):
        """Set the fitted attributes to those of a model."""
        for name in ("classes_", "coef_", "intercept_", "n_iter_", "objective_", "violation_"):
            setattr(self, name, getattr(model, name))
        return self


def _check_alphas(alphas):
    try:
        alphas = np.asarray(alphas, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"alphas must be a sequence of numbers; got {alphas!r}.") from error
    if alphas.ndim != 1 or not len(alphas) or not ((alphas >= 0) & (alphas <= 1)).all():
        raise ValueError(
            f"alphas must be a sequence of at least one number in [0, 1]; got {alphas.tolist()!r}."
        )
    return alphas


def _takes_weights(scorer):
    # Each scorer of scikit-learn has the parameter, whether its function does or not.
    function = getattr(scorer, "_score_func", scorer)
    return "sample_weight" in signature(function).parameters


def _score_fold(model, scorer, X, y, sample_weight, train, test, epsilons, scale, given):
    """Test scores for all radii, from one path on the training samples of a fold.

    Returns
    -------
    scores : ndarray of shape (n_epsilons,)
    complaints : list of (float, str, str)
        Radius, status and complaint of each fit without an optimum.
    """
    weights, test_weights = None, {}
    if sample_weight is not None:
        weights = sample_weight[train]
        if _takes_weights(scorer):
            test_weights = {"sample_weight": labels_in_kind_of(X, sample_weight[test])}
    device = resolve_device(model.device, X)
    data = make_training_set(
        X[train], y[train], weights, model.class_weight, model.fit_intercept, device
    )
    model.n_features_in_ = X.shape[1]
    if hasattr(given, "columns"):
        # A scorer may know the columns by name.
        model.feature_names_in_ = np.asarray(given.columns, dtype=object)
    X_test = given[test] if isinstance(given, torch.Tensor) else _safe_indexing(given, test)
    y_test = labels_in_kind_of(X, y[test])
    samples = X_test, y_test
    score = partial(_scored, scorer=scorer, samples=samples, weights=test_weights)
    return _scores_along_path(model, score, data, X, epsilons, scale)


def _scored(model, scorer, samples, weights):
    return scorer(model, *samples, **weights)


def _score_partitions(model, scorer, source, train, test, epsilons, scale):
    """The same for data in partitions."""
    data = make_partitioned_set(source.fold(train), model.class_weight, model.fit_intercept)
    check_names(model, source.like)
    X_test, y_test, weight = source.rows(test)
    samples = X_test, in_memory(y_test)
    weights = {}
    if weight is not None and (scorer is None or _takes_weights(scorer)):
        weights = {"sample_weight": in_memory(weight)}
    # The model's own score counts by partition.
    scorer = scorer or type(model).score
    score = partial(_scored, scorer=scorer, samples=samples, weights=weights)
    X = np.empty((0, model.n_features_in_))
    return _scores_along_path(model, score, data, X, epsilons, scale)


def _scores_along_path(model, score, data, X, epsilons, scale):
    """Scores for all radii of models fitted to some data, with attributes in the kind of X."""
    falling = np.argsort(-epsilons, kind="stable")
    parameters = {name: getattr(model, name) for name in ("alpha", "norm", "C", "tol", "max_iter")}
    solutions = walk(data, epsilons[falling], scale, **parameters)
    scores, complaints = np.empty(len(epsilons)), []
    for position, solution in zip(falling, solutions, strict=True):
        model.set_params(epsilon=epsilons[position] * scale)
        model._set_solution(solution, data, X)
        radius = float(epsilons[position])
        message = complaint(solution, model.alpha, radius, model.tol)
        if message is not None:
            complaints.append((radius, solution.status, message))
        scores[position] = score(model)
    return scores, complaints
