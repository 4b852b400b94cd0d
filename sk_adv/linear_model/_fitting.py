"""From labels and weights to a solved problem: what the estimator, the path and the CV share."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets

from sk_adv._validation import joint_weight
from sk_adv.linear_model._binary_problem import Problem
from sk_adv.linear_model._binary_solver import Start, minimise
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._multiclass_problem import MulticlassProblem, minimise_bound
from sk_adv.linear_model._screening import minimise_screened


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
        return StandardisedDesign.of(self.X, self.weight, self.fit_intercept)


def make_training_set(X, y, sample_weight, class_weight, fit_intercept, device):
    """Encode labels and weights; samples of weight zero are left out.

    Raises
    ------
    ValueError
        If y is no classification target, a weight is negative, or fewer than two classes have
        positive weight.
    """
    check_classification_targets(y)
    classes, labels = np.unique(y, return_inverse=True)
    weight = joint_weight(y, sample_weight, class_weight)
    if weight is None:
        weight = np.ones(len(y))
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
    on_path=False,
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
    on_path : bool, default=False
        Whether the start is the solution for a larger radius. It is near enough then: the last
        digits are not worth a step each time.
    callback : see minimise

    Returns
    -------
    Solution
    """
    # Where nothing is perturbed both norms are the same, and the loss has no kinks.
    radius = np.broadcast_to(0.0 if alpha == 1 else epsilon, data.X.shape[1:]).copy()
    parameters = {
        "alpha": float(alpha),
        "epsilon": torch.as_tensor(radius, dtype=data.weight.dtype, device=data.weight.device),
        "norm": norm if radius.any() else 2,
        "ridge": 0.0 if np.isinf(C) else 1 / (C * data.total),
    }
    options = {"tol": tol, "max_iter": max_iter}
    if not data.is_binary:
        problem = MulticlassProblem(
            X=data.X,
            y=data.labels,
            n_classes=len(data.classes),
            weight=data.weight,
            fit_intercept=data.fit_intercept,
            **parameters,
        )
        return minimise_bound(problem, start, refine=not on_path, callback=callback, **options)
    problem = _two_classes(data, **parameters)
    X = data.standardised
    coef, intercept = X.from_raw(start.coef, start.intercept)
    start = replace(start, coef=coef, intercept=intercept)
    if on_path and problem.norm != 2:
        solution = minimise_screened(problem, start, **options)
    else:
        solution = minimise(problem, start, refine=not on_path, callback=callback, **options)
    coef, intercept = X.to_raw(solution.coef, solution.intercept)
    return replace(solution, coef=coef, intercept=intercept)


def _two_classes(data, alpha, epsilon, norm, ridge):
    """The problem in terms of standardised features."""
    X = data.standardised
    # Constant features are the intercept's affair: any radius keeps their weights at 0.
    epsilon = torch.where(X.scale > 0, epsilon * X.inverse, 1)
    return Problem(
        X=X,
        y=2.0 * data.labels.to(data.weight.dtype) - 1,
        loss=WorstCaseLogisticLoss(data.weight, alpha),
        # Squares of smaller radii would vanish.
        epsilon=torch.where(epsilon > 1e-100, epsilon, 0),
        norm=norm,
        ridge=ridge * X.inverse**2,
        fit_intercept=data.fit_intercept,
    )
