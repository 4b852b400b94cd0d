"""Training data, and the call of the right solver: shared by the estimator, path and search."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets

from sk_adv._validation import joint_weight
from sk_adv.linear_model._binary_problem import BinaryProblem
from sk_adv.linear_model._binary_solver import minimise
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._multiclass_problem import MulticlassProblem
from sk_adv.linear_model._multiclass_solver import minimise_bound
from sk_adv.linear_model._newton import Start, no_report
from sk_adv.linear_model._screening import minimise_screened


@dataclass
class TrainingSet:
    """Validated data, with class indices as labels and weights that sum to 1.

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
    """

    X: object
    labels: torch.Tensor
    classes: np.ndarray
    weight: torch.Tensor
    total: float
    fit_intercept: bool

    @property
    def is_binary(self):
        return len(self.classes) == 2

    @cached_property
    def standardised(self):
        """X as the solver of two classes takes it; an intercept absorbs the means."""
        return StandardisedDesign.of(self.X, self.weight, self.fit_intercept)


def make_training_set(X, y, sample_weight, class_weight, fit_intercept, device):
    """Encode labels and weights, and leave out samples of weight zero.

    Raises
    ------
    ValueError
        If y holds no class labels, a weight is negative, or fewer than two classes have positive
        weight.
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
    """Weights of 0, and intercepts that give each class its share of the samples."""
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
    callback=no_report,
):
    """Minimise the worst-case loss of a `TrainingSet` from a `Start`; returns a `Solution`.

    The start has the shapes that `zero_start` gives; `epsilon` is an array of shape () or
    (n_features,). With `on_path`, the start is the solution for a larger radius, and the new one
    is not refined: its last digits are not worth a step for each radius.
    """
    # Without a perturbation both norms agree and the loss has no kinks.
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
    problem = _binary_problem(data, **parameters)
    X = data.standardised
    coef, intercept = X.from_raw(start.coef, start.intercept)
    start = replace(start, coef=coef, intercept=intercept)
    if on_path and problem.norm != 2:
        solution = minimise_screened(problem, start, **options)
    else:
        solution = minimise(problem, start, refine=not on_path, callback=callback, **options)
    coef, intercept = X.to_raw(solution.coef, solution.intercept)
    return replace(solution, coef=coef, intercept=intercept)


def _binary_problem(data, alpha, epsilon, norm, ridge):
    """The problem of two classes in standardised features."""
    X = data.standardised
    # A constant feature acts as an intercept. Any positive radius keeps its weight at 0.
    epsilon = torch.where(X.scale > 0, epsilon * X.inverse, 1)
    return BinaryProblem(
        X=X,
        y=2.0 * data.labels.to(data.weight.dtype) - 1,
        loss=WorstCaseLogisticLoss(data.weight, alpha),
        # The square of a smaller radius would underflow.
        epsilon=torch.where(epsilon > 1e-100, epsilon, 0),
        norm=norm,
        ridge=ridge * X.inverse**2,
        fit_intercept=data.fit_intercept,
    )
