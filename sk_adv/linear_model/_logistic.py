"""AdversarialLogisticRegression: the estimator."""

import warnings
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names, _check_n_features, validate_data

from sk_adv._arrays import (
    check_unmasked,
    floating_types,
    for_sklearn,
    in_kind_of,
    is_dispatched,
    labels_in_kind_of,
    to_numpy,
    to_tensor,
)
from sk_adv._collections import accuracy_of, answers_of, is_collection
from sk_adv._devices import resolve_device
from sk_adv._indicators import warn_of_indicators
from sk_adv._perturbations import PERTURBATION_CONSTRAINTS, PerturbationSet, column_names
from sk_adv._validation import unchanged_on_error
from sk_adv.differentiable import as_module
from sk_adv.differentiable._linear import LinearLogits, with_zero
from sk_adv.linear_model._fitting import (
    make_training_set,
    over_all_classes,
    solve,
    start_from,
    zero_start,
)
from sk_adv.linear_model._newton import no_report
from sk_adv.linear_model._partitioned_data import make_partitioned_set
from sk_adv.linear_model._sources import blocks_on_disk, is_on_disk, source_of


class LogisticClassifierMixin(LinearClassifierMixin):
    """Validation of training data, and predictions of linear models of the log-odds."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate_training_data(self, X, y, check_finite=True):
        check_unmasked(y=y)
        return validate_data(
            self,
            for_sklearn(X),
            to_numpy(y),
            dtype=floating_types(X),
            accept_sparse=["csr", "csc"],
            ensure_all_finite=check_finite,
        )

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Log-odds of the second class, or logits of all classes if there are more than two.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray or dask array of shape (n_samples,) or (n_samples, n_classes)
            wᵀx + b for two classes, else W x + b, with columns in the order of `classes_`.
        """
        if is_collection(X):
            return answers_of(self, "decision_function", X)
        if is_on_disk(X):
            return np.concatenate([self.decision_function(block) for block in blocks_on_disk(X)])
        return super().decision_function(for_sklearn(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray or dask array of shape (n_samples,)
            The class with the largest logit.
        """
        if is_collection(X):
            return answers_of(self, "predict", X)
        # The method of scikit-learn below 1.9 fails where the scores are a tensor.
        scores = to_numpy(self.decision_function(X))
        indices = scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)
        return labels_in_kind_of(X, self.classes_[indices])

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray or dask array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        if is_collection(X):
            return answers_of(self, "predict_proba", X)
        return _apply_to_logits(torch.softmax, self.decision_function(X))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithms of the class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray or dask array of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        if is_collection(X):
            return answers_of(self, "predict_log_proba", X)
        return _apply_to_logits(torch.log_softmax, self.decision_function(X))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on samples and their labels.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Samples. Those of a dask collection are counted by partition.

        y : array-like or dask collection of shape (n_samples,)
            True labels.

        sample_weight : array-like or dask collection of shape (n_samples,), default=None
            Weights of the samples in the mean.

        Returns
        -------
        float
            The accuracy, in [0, 1].
        """
        if is_collection(X):
            return accuracy_of(self, X, y, sample_weight)
        if not is_dispatched(X):
            y, sample_weight = to_numpy(y), to_numpy(sample_weight)
        return super().score(X, y, sample_weight)


def _apply_to_logits(function, decision):
    logits = with_zero(to_tensor(decision).reshape(len(decision), -1))
    result = function(logits, dim=1)
    return result if isinstance(decision, torch.Tensor) else result.numpy()


@as_module.register(LogisticClassifierMixin)
def _(estimator):
    return LinearLogits(estimator.coef_, estimator.intercept_)


class AdversarialLogisticRegression(LogisticClassifierMixin, BaseEstimator):
    """Logistic regression trained on the worst perturbation of each sample.

    For two classes, with ζ(z) = log(1 + exp z), y ∈ {-1, +1} and m_i = y_i (wᵀx_i + b), it
    minimises

        Σ s_i [ alpha ζ(-m_i) + (1-alpha) ζ(ε‖w‖_* - m_i) ] / Σ s_i  +  ‖w‖₂² / (2 C Σ s_i) ,

    where ζ(ε‖w‖_* - m_i) is the exact maximum of the loss over all perturbations of norm ε. The
    dual norm ‖·‖_* is L1 for the max-norm and L2 for the Euclidean norm. For three classes and
    more it minimises a convex upper bound on the worst softmax loss, which is exact for two
    classes (see Notes).

    Parameters
    ----------
    epsilon : float or array-like of shape (n_features,), default=0.25
        Radius of the perturbation in the units of X, for all features or per feature. 0 marks a
        feature that can't be changed. All zeros give ordinary logistic regression.

    alpha : float, default=0.0
        Weight of the clean loss, in [0, 1]. 1 is ordinary logistic regression, 0 is purely
        adversarial.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation. The max-norm gives sparse weights, and for three
        classes and more weights that several classes share exactly.

    C : float, default=numpy.inf
        Inverse strength of an additional L2 penalty, as in scikit-learn's `LogisticRegression`;
        infinity means none.

    fit_intercept : bool, default=True
        Whether to fit an intercept. It is not penalised.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.

    tol : float, default=1e-6
        Largest allowed violation of the optimality conditions (see Notes), measured on standardised
        features. The next step must also promise to lower the objective by no more than this share
        of it.

    max_iter : int, default=100
        Largest number of Newton iterations.

    warm_start : bool, default=False
        Whether to start from the solution of the previous `fit`, if it has the same shape.

    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if it is a tensor, else the CPU.

    verbose : int, default=0
        If positive, print one line per iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        The weights; one row for two classes. A tensor under array API dispatch (see Notes).

    intercept_ : ndarray of shape (1,) or (n_classes,)
        The intercepts.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_iter_ : int
        Number of Newton iterations.

    objective_ : float
        The objective at the solution.

    violation_ : float
        The largest violation of the optimality conditions at the solution, on standardised
        features: at most `tol` if the fit issued no `ConvergenceWarning`, unless rounding hides
        what is left. For three classes and more in the Euclidean norm, the largest entry of the
        gradient of a smooth bound, which differs from the exact one by no more than `tol` (see
        Notes).

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has string column names.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : The same model without an adversary.

    Notes
    -----
    *Optimality, two classes, max-norm.* With p_i the derivative of the loss in -m_i, q_i its
    adversarial part, g = -Σ p_i y_i x_i + w / (C Σs) and λ_j = ε_j Σ q_i, the solution satisfies
    Σ p_i y_i = 0, g_j + λ_j sign(w_j) = 0 where w_j ≠ 0, and `|g_j|` ≤ λ_j where w_j = 0. The
    solver uses standardised features, (x_j - μ_j) / σ_j with the weighted mean and standard
    deviation, without forming them; without an intercept, μ_j = 0 and σ_j is the root mean
    square. `violation_` is the largest error in these conditions there.

    *Memory.* In the max-norm the solver forms a square matrix over the working set: the features
    with nonzero weights, the worst violators, and those that can't be changed (`epsilon` 0). For
    three classes and more it has as many rows as these features have gaps between classes, and the
    features of the working set are copied in float64.

    *Tensors.* X may be a torch tensor. Under `sklearn.config_context(array_api_dispatch=True)` the
    fit stays on its device, and `coef_`, `intercept_` and all predictions are tensors on that
    device, in the precision of X. Otherwise they are arrays.

    *Large data.* The solvers need sums over samples only. A dask collection is fitted where its
    partitions are: the workers keep labels and margins, and the caller gets sums, which have an
    entry for each feature or each two features of the working set. X itself is kept by the workers
    if it takes less than a third of their memory, or if it was persisted before; else its
    partitions are computed anew for each pass. An array or CSR matrix of at least 512 MiB that maps
    a file is read in blocks of rows in the same way. The optimum is that in memory. A fit takes one
    or two passes over X for each iteration, and two to four before the first. A dask collection of
    at most 2²¹ entries is gathered and fitted in memory.

    *Dask collections.* Predictions for a dask array or a dask dataframe are lazy dask arrays, made
    by partition.

    *Three classes and more.* The bound is log Σ_k exp((w_k - w_y)ᵀx + b_k - b_y + ε‖w_k - w_y‖_*).
    In the max-norm let G be the gradient in the weights with the penalties held constant, and M_kl
    the derivative in the penalty of classes k and l, both ways together. Then the weights of
    feature j are optimal if G_j · 1_S + ε_j Σ M_kl, summed over k in S and l outside of S, is at
    least 0 for all sets S of classes, and 0 where S holds the classes whose weights exceed some
    value. `violation_` is the largest error in these conditions. In the Euclidean norm the solver
    replaces each ρ = ε‖w_k - w_l‖₂ by (ρ² + μ²)^½ - μ, with a μ that falls to `tol`: this is
    smooth, and lower by no more than μ. `violation_` is the largest entry of the gradient of that
    objective, `objective_` is the exact bound. The rows of `coef_` sum to zero in both norms, for a
    vector that is added to all of them changes nothing.

    *Ties.* In the max-norm some classes share the weight of a feature exactly: `coef_` has equal
    entries there, to the last bit, and zeros where all classes share it. A change of the feature
    then moves their logits by the same amount, so it can't tell these classes apart, and neither
    can an adversary use it to confuse them. From `epsilon_max` on all weights are zero.

    *Classes without weight.* A class of y whose samples all have weight 0 stays in `classes_`. With
    an intercept it has weights of 0 and an intercept so low that it is never predicted. If a single
    class has weight, all weights are 0, and a `ConvergenceWarning` says that the objective has no
    minimum.

    *Warnings.* A `UserWarning` says that all weights are zero, so that one class is predicted for
    every sample, and from which radius on. Another names one-hot columns, groups of neighbouring
    columns of 0 and 1 that sum to 1 in every row, if `epsilon` is a number and so moves them too.
    `sk_adv.pipeline.RawUnitsPipeline` takes radii by the names of raw columns. Data in partitions
    are not searched for one-hot columns.

    *No solution.* If C is infinite and some w separates the data by more than ε‖w‖_*, the
    objective falls towards 0 without a minimum. The solver stops with a `ConvergenceWarning` as
    soon as all training samples are robustly classified. If samples lie on the boundary of such a
    separation, there is no minimum either, but the solver does not notice: it stops at `tol`, with
    weights that depend on `tol`.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 5.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv import AdversarialLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), AdversarialLogisticRegression(epsilon=0.1))
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: dict = {
        **PERTURBATION_CONSTRAINTS,
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "C": [Interval(Real, 0, None, closed="right")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        epsilon: ArrayLike = 0.25,
        alpha: float = 0.0,
        norm: float = np.inf,
        C: float = np.inf,
        fit_intercept: bool = True,
        class_weight: dict | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 100,
        warm_start: bool = False,
        device: str | torch.device = "auto",
        verbose: int = 0,
    ):
        self.epsilon = epsilon
        self.alpha = alpha
        self.norm = norm
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model to training data.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
            Training data. A CSR or CSC matrix is not made dense. The partitions of a large dask
            array or dataframe, and a large array or CSR matrix that maps a file (`numpy.memmap`),
            are not gathered in memory.

        y : array-like or dask collection of shape (n_samples,)
            Class labels, of at least two classes.

        sample_weight : array-like or dask collection of shape (n_samples,), default=None
            Weights of the samples; None means 1 each.

        Returns
        -------
        self : AdversarialLogisticRegression
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid. A previous fit is kept.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        source = source_of(X, y, sample_weight)
        if source is not None:
            return self._fit_partitions(source)
        device = resolve_device(self.device, X)
        given = X
        X, y = self._validate_training_data(X, y, check_finite=False)
        perturbations = PerturbationSet(self.epsilon, self.norm, like=given)
        data = make_training_set(X, y, sample_weight, self.class_weight, self.fit_intercept, device)
        # NaN and infinity show in the statistics of the features, but those of samples without
        # weight. So X needs a pass of its own only if something is wrong.
        if len(data.labels) < len(y) or not data.is_finite:
            self._validate_training_data(given, y)
        if self.alpha < 1:
            warn_of_indicators(self.epsilon, X, column_names(given))
        return self._solve(data, perturbations, X)

    def _fit_partitions(self, source):
        """Fit to the training data of a `LocalSource` or `DaskSource`."""
        if resolve_device(self.device).type != "cpu":
            raise ValueError(f"Data in partitions needs the CPU; got device={self.device!r}.")
        check_names(self, source.like)
        perturbations = PerturbationSet(self.epsilon, self.norm, like=source.like)
        data = make_partitioned_set(source, self.class_weight, self.fit_intercept)
        return self._solve(data, perturbations, np.empty((0, self.n_features_in_)))

    def _solve(self, data, perturbations, X):
        """Set the fitted attributes, in the kind of X, to the solution for some training data."""
        solution = solve(
            data,
            self._start(data),
            epsilon=perturbations.epsilon.numpy(),
            alpha=self.alpha,
            norm=self.norm,
            C=self.C,
            tol=self.tol,
            max_iter=self.max_iter,
            callback=_print_progress if self.verbose else no_report,
        )
        self._set_solution(solution, data, X)
        warn_unless_optimal(solution, self.alpha, self.epsilon, self.tol, stacklevel=7)
        radii = np.broadcast_to(perturbations.epsilon.numpy(), data.shape[1:]).copy()
        is_adversarial = self.alpha < 1 and radii.any() and not data.is_constant
        if is_adversarial and not solution.coef.any() and solution.status == "optimal":
            self._warn_of_zero_weights(data, radii)
        return self

    def _warn_of_zero_weights(self, data, radii):
        """Issue a warning that the radius makes the model predict one class everywhere."""
        way = "Use a smaller epsilon"
        if self.fit_intercept:
            gaps = data.gaps_of_means
            if not gaps.any():
                # No radius would give weights.
                return
            scaled = torch.where(gaps == 0, 0, gaps / torch.as_tensor(radii).to(gaps))
            longest = float(torch.linalg.vector_norm(scaled, ord=self.norm, dim=1).max())
            share = longest / (2 * (1 - self.alpha))
            if isinstance(self.epsilon, Real):
                way = f"Use an epsilon below {share * self.epsilon:.3g} (see epsilon_max)"
            else:
                way = f"Use radii below {share:.3g} times these (see epsilon_max)"
        warnings.warn(
            "All weights are zero, so that the model predicts one class for every sample: no "
            f"weights are better in the worst case within this epsilon. {way}, or radii by column, "
            "0 for columns that can't change.",
            UserWarning,
            stacklevel=6,
        )

    def _set_solution(self, solution, data, X):
        """Set the fitted attributes, as tensors or arrays like the validated X."""
        coef, intercept = over_all_classes(data, solution)
        self.classes_ = data.classes
        self.coef_ = in_kind_of(X, coef)
        self.intercept_ = in_kind_of(X, intercept)
        self.n_iter_ = solution.n_iter
        self.objective_ = solution.objective
        self.violation_ = solution.violation

    def _start(self, data):
        """The previous solution under `warm_start`, if its shape is right, else zero weights."""
        if not self.warm_start or not hasattr(self, "coef_"):
            return zero_start(data)
        previous = start_from(data, torch.as_tensor(self.coef_), torch.as_tensor(self.intercept_))
        return zero_start(data) if previous is None else previous


def check_names(estimator, like):
    """Set the number of features and the names of columns that an estimator has seen."""
    _check_feature_names(estimator, like, reset=True)
    _check_n_features(estimator, like, reset=True)


def constraints_of(*names):
    """The constraints of some parameters, for functions and classes that share them."""
    return {name: AdversarialLogisticRegression._parameter_constraints[name] for name in names}


def _print_progress(n_iter, objective, violation, n_working):
    print(
        f"iteration {n_iter}: objective {objective:.10g}, violation {violation:.3g}, "
        f"working set {n_working}"
    )


def warn_unless_optimal(solution, alpha, epsilon, tol, stacklevel=6):
    """Issue a `ConvergenceWarning` with the cause and the cure, unless the status is "optimal"."""
    message = complaint(solution, alpha, epsilon, tol)
    if message is not None:
        warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)


def warn_of_several(complaints, n_fits, stacklevel):
    """Issue one `ConvergenceWarning` for many fits.

    Parameters
    ----------
    complaints : list of (float, str, str)
        Radius, status and complaint of each fit that did not reach an optimum.
    n_fits : int
        Number of all fits.
    stacklevel : int
    """
    if not complaints:
        return
    radii = [radius for radius, *_ in complaints]
    first = {}
    for radius, status, message in sorted(complaints, key=lambda one: -one[0]):
        first.setdefault(status, f"At {radius:.3g}: {message}")
    reach = f"radii from {min(radii):.3g} to {max(radii):.3g}"
    reach = reach if min(radii) < max(radii) else f"the radius {radii[0]:.3g}"
    warnings.warn(
        f"{len(complaints)} of {n_fits} fits did not reach an optimum, with {reach}. "
        + " ".join(first.values()),
        ConvergenceWarning,
        stacklevel=stacklevel,
    )


def complaint(solution, alpha, epsilon, tol):
    """The cause why a solution is not optimal, and the cure; None if it is."""
    if solution.status == "optimal":
        return None
    if solution.status == "one class":
        return (
            "A single class has all the weight, so the objective falls towards 0 without a "
            "minimum as the intercept of that class grows. The model predicts it for every "
            "sample. Give a positive weight to samples of a second class."
        )
    if solution.status == "separable" and alpha == 1:
        return (
            "The classes are linearly separable and C is infinite, so the clean loss falls towards "
            "0 without a minimum. The solver stopped early. Use a finite C, or an alpha below 1."
        )
    if solution.status == "separable":
        larger = f" than {epsilon:g}" if isinstance(epsilon, Real) else ""
        return (
            "All training samples are robustly classified at this epsilon and C is infinite, so "
            "the objective falls towards 0 without a minimum. The solver stopped early. "
            f"Use a larger epsilon{larger}, or a finite C."
        )
    message = (
        f"The solver stopped after {solution.n_iter} iterations with a violation of "
        f"{solution.violation:.3g} of the optimality conditions"
    )
    if solution.violation <= tol:
        message += f", and the objective could still fall by {solution.gain:.3g}"
    return f"{message}; tol={tol:g} was not reached. Use a smaller C, or increase max_iter or tol."
