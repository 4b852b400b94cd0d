"""From labels and weights to a solved problem: what the estimator, the path and the CV share."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from sk_adv._devices import to_numpy
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._multiclass import MulticlassProblem, minimise_bound
from sk_adv.linear_model._problem import Problem
from sk_adv.linear_model._solvers import Start, minimise


@dataclass
class TrainingSet:
    """Validated data, with labels as class indices and weights of sum 1.

    Attributes
    ----------
    X : DenseDesign or SparseDesign of shape (n_samples, n_features)
    labels : torch.Tensor of shape (n_samples,), int64
        Indices into `classes`.
    classes : ndarray of shape (n_classes,)
    weight : torch.Tensor of shape (n_samples,)
    total : float
        The sum of the weights before they were normalised.
    fit_intercept : bool
        Whether the model has an intercept.
    """

    X: object
    labels: torch.Tensor
    classes: np.ndarray
    weight: torch.Tensor
    total: float
    fit_intercept: bool

    @property
    def is_binary(self):
        """Whether one row of weights serves."""
        return len(self.classes) == 2

    @cached_property
    def standardised(self):
        """X in the units in which two classes are solved; an intercept absorbs the means."""
        return StandardisedDesign(self.X, self.weight, self.fit_intercept)


def make_training_set(X, y, sample_weight, class_weight, fit_intercept, device):
    """Encode labels and weights; samples of weight zero are left out.

    Raises
    ------
    ValueError
        If y is no classification target, a weight is negative, or fewer than two classes have
        positive weight.
    """
    sample_weight = to_numpy(sample_weight)
    check_classification_targets(y)
    classes, labels = np.unique(y, return_inverse=True)
    weight = _check_sample_weight(
        sample_weight, np.empty((len(y), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if class_weight is not None:
        factors = compute_class_weight(
            class_weight, classes=classes, y=y, sample_weight=sample_weight
        )
        weight = weight * factors[labels]
    used = weight > 0
    present = np.unique(labels[used])
    if len(present) < 2:
        raise ValueError(
            f"y must hold at least two classes with positive weight; got {len(present)} class: "
            f"{classes[present].tolist()}."
        )
    if not used.all():
        rows = np.flatnonzero(used)
        X = X[rows]
        labels, weight = np.searchsorted(present, labels[rows]), weight[rows]
    total = weight.sum()
    return TrainingSet(
        X=as_design(X, device),
        labels=torch.as_tensor(labels, device=device),
        classes=classes[present],
        weight=torch.as_tensor(weight / total, device=device),
        total=float(total),
        fit_intercept=fit_intercept,
    )


def zero_start(data):
    """No weights, and intercepts that give the classes' shares."""
    n_features = data.X.shape[1]
    shares = data.weight.new_zeros(len(data.classes)).index_add_(0, data.labels, data.weight)
    odds = shares.log() * data.fit_intercept
    if data.is_binary:
        return Start(coef=data.weight.new_zeros(n_features), intercept=odds[1] - odds[0])
    return Start(coef=data.weight.new_zeros(len(data.classes), n_features), intercept=odds)


def solve(
    data,
    start,
    *,
    epsilon,
    alpha,
    norm,
    C,
    tol,
    max_iter,
    refine=True,
    callback=None,
):
    """Minimise the worst-case loss of a training set from a starting point.

    Parameters
    ----------
    data : TrainingSet
    start : Start
        Of the shapes of `zero_start`.
    epsilon : ndarray of shape () or (n_features,)
    alpha, norm, C, tol, max_iter : see AdversarialLogisticRegression
    refine, callback : see minimise

    Returns
    -------
    Solution
    """
    # Where nothing is perturbed both norms are the same, and the loss has no kinks.
    radius = np.broadcast_to(0.0 if alpha == 1 else epsilon, data.X.shape[1:]).copy()
    norm = norm if radius.any() else 2
    epsilon = torch.as_tensor(radius, dtype=data.weight.dtype, device=data.weight.device)
    ridge = 0.0 if np.isinf(C) else 1 / (C * data.total)
    options = {"tol": tol, "max_iter": max_iter, "refine": refine, "callback": callback}
    if data.is_binary:
        return _solve_two_classes(data, start, epsilon, float(alpha), norm, ridge, options)
    problem = MulticlassProblem(
        X=data.X,
        y=data.labels,
        n_classes=len(data.classes),
        weight=data.weight,
        alpha=float(alpha),
        epsilon=epsilon,
        norm=norm,
        ridge=ridge,
        fit_intercept=data.fit_intercept,
    )
    return minimise_bound(problem, start, **options)


def _solve_two_classes(data, start, epsilon, alpha, norm, ridge, options):
    """Solve in terms of standardised features, whose weights are w ∘ scale."""
    X = data.standardised
    epsilon = epsilon / X.scale
    # Squares of smaller radii would vanish.
    epsilon = torch.where(epsilon > 1e-100, epsilon, 0)
    problem = Problem(
        X=X,
        y=2.0 * data.labels.to(data.weight.dtype) - 1,
        loss=WorstCaseLogisticLoss(data.weight, alpha),
        epsilon=epsilon,
        norm=norm,
        ridge=ridge / X.scale**2,
        fit_intercept=data.fit_intercept,
    )
    shift = X.offset @ start.coef
    start = replace(start, coef=start.coef * X.scale, intercept=start.intercept + shift)
    solution = minimise(problem, start, **options)
    coef = solution.coef / X.scale
    return replace(solution, coef=coef, intercept=solution.intercept - X.offset @ coef)
