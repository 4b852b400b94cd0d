"""Training data, and the call of the right solver: shared by the estimator, path and search."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from threadpoolctl import ThreadpoolController

from sk_adv._validation import check_labels_present, joint_weight
from sk_adv.linear_model._binary_problem import BinaryProblem
from sk_adv.linear_model._binary_rows import BinaryRows
from sk_adv.linear_model._class_facts import ClassFacts
from sk_adv.linear_model._class_path import minimise_classes_on_path
from sk_adv.linear_model._class_problem import ClassProblem
from sk_adv.linear_model._class_rows import ClassRows
from sk_adv.linear_model._class_solver import minimise_classes
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._euclidean_solver import minimise_in_euclidean_norm
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._max_norm_path import minimise_next
from sk_adv.linear_model._max_norm_solver import minimise_in_max_norm
from sk_adv.linear_model._multiclass_pairs import centre
from sk_adv.linear_model._multiclass_problem import MulticlassProblem
from sk_adv.linear_model._multiclass_rows import MulticlassRows
from sk_adv.linear_model._multiclass_solver import minimise_bound
from sk_adv.linear_model._newton import Solution, Start, no_report

# The intercept of a class without weight, in ranges of the training logits below them.
_FAR_BELOW = 1000

# Squares of larger penalties overflow.
_LARGEST_PENALTY = 1e150


@dataclass
class TrainingSet(ClassFacts):
    """Validated data, with class indices as labels and weights that sum to 1.

    A class whose samples all have weight 0 drives its intercept to minus infinity. With an
    intercept the solvers therefore see the `solved` classes only, and `over_all_classes` puts the
    others back.

    Attributes
    ----------
    X : DenseDesign or SparseDesign of shape (n_samples, n_features)
    labels : torch.Tensor of shape (n_samples,), int64
        Indices into the solved classes.
    classes : ndarray of shape (n_classes,)
        The classes of y.
    solved : ndarray of shape (n_solved,)
        Indices of the classes that the solver sees.
    weight : torch.Tensor of shape (n_samples,)
    total : float
        The sum of the weights before they were normalised.
    fit_intercept : bool
    """

    X: object
    labels: torch.Tensor
    classes: np.ndarray
    solved: np.ndarray
    weight: torch.Tensor
    total: float
    fit_intercept: bool

    @property
    def shape(self):
        """Numbers of samples and features."""
        return self.X.shape

    @cached_property
    def standardised(self):
        """X as the solvers take it; an intercept absorbs the means.

        Raises
        ------
        ValueError
            If X holds NaN or infinity, or values too large to be squared.
        """
        return StandardisedDesign.of(self.X, self.weight, self.fit_intercept)

    @cached_property
    def shares(self):
        """The weight of each solved class."""
        return self.weight.new_zeros(len(self.solved)).index_add_(0, self.labels, self.weight)

    @cached_property
    def class_sums(self):
        """The weighted sums of the samples of the solved classes, (n_solved, n_features)."""
        membership = torch.nn.functional.one_hot(self.labels, len(self.solved)).to(self.weight)
        return self.X.transposed_product(membership * self.weight[:, None]).T

    def range_of_logits(self, coef, intercept):
        """The smallest and the largest logit of all samples and rows of coef."""
        logits = self.X.product(coef.T) + intercept
        return logits.min(), logits.max()

    def binary_rows(self, alpha):
        """The samples of two classes, standardised."""
        return BinaryRows(
            X=self.standardised,
            y=2.0 * self.labels.to(self.weight.dtype) - 1,
            loss=WorstCaseLogisticLoss(self.weight, alpha),
        )

    def class_rows(self, alpha):
        """The samples of several classes, standardised, for the max-norm."""
        X, n_classes = self.standardised, len(self.solved)
        return ClassRows.of(X, self.labels, n_classes, self.weight, alpha)

    def multiclass_rows(self, alpha):
        """The same for the Euclidean norm."""
        X, n_classes = self.standardised, len(self.solved)
        return MulticlassRows(X, self.labels, n_classes, self.weight, alpha)

    @property
    def is_finite(self):
        """Whether X can be standardised."""
        try:
            self.standardised  # noqa: B018
        except ValueError:
            return False
        return True


def make_training_set(X, y, sample_weight, class_weight, fit_intercept, device):
    """Encode labels and weights, and leave out samples of weight zero.

    Raises
    ------
    ValueError
        If y holds no class labels or fewer than two classes, or a weight is negative or all are
        zero.
    """
    check_classification_targets(y)
    check_labels_present(y)
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must hold at least two classes; got one class: {classes.tolist()}.")
    weight = joint_weight(y, sample_weight, class_weight, classes)
    if weight is None:
        weight = np.ones(len(y))
    rows = np.flatnonzero(weight)
    if not len(rows):
        raise ValueError("All samples have weight zero: give a positive weight to at least one.")
    solved = np.unique(labels[rows]) if fit_intercept else np.arange(len(classes))
    if len(rows) < len(y):
        X, labels, weight = X[rows], labels[rows], weight[rows]
    total = weight.sum()
    return TrainingSet(
        X=as_design(X, device),
        labels=torch.as_tensor(np.searchsorted(solved, labels), device=device),
        classes=classes,
        solved=solved,
        weight=torch.as_tensor(weight / total, device=device),
        total=float(total),
        fit_intercept=fit_intercept,
    )


def zero_start(data):
    """Weights of 0, and intercepts that give each class its share of the samples."""
    n_features = data.shape[1]
    odds = data.shares.log() if data.fit_intercept else torch.zeros_like(data.shares)
    if data.is_binary:
        return Start(coef=data.shares.new_zeros(n_features), intercept=odds[1] - odds[0])
    return Start(coef=data.shares.new_zeros(len(data.solved), n_features), intercept=odds)


def start_from(data, coef, intercept):
    """The `Start` at weights and intercepts of all classes; None if they are no use as one."""
    n_classes, n_features = len(data.classes), data.shape[1]
    if tuple(coef.shape) != (1 if n_classes == 2 else n_classes, n_features):
        return None
    if not coef.any():
        # Then the intercepts of `zero_start` are the best.
        return None
    coef, intercept = coef.to(data.shares), intercept.to(data.shares) * data.fit_intercept
    if n_classes == 2:
        return Start(coef=coef[0], intercept=intercept[0])
    coef, intercept = coef[data.solved], intercept[data.solved]
    if data.is_binary:
        return Start(coef=coef[1] - coef[0], intercept=intercept[1] - intercept[0])
    return Start(coef=coef, intercept=intercept)


# The threads of torch and those of NumPy's BLAS would wait for one another on the same cores: two
# of each made small fits four to eight times as slow.
@ThreadpoolController().wrap(limits=1, user_api="blas")
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
    if data.is_constant:
        return _constant(data)
    if data.is_binary and len(data.classes) > 2:
        # The two rows of weights are w / 2 and -w / 2, of half the square of w.
        C = 2 * C
    ridge = 0.0 if np.isinf(C) else 1 / max(C * data.total, np.finfo(float).tiny)
    if ridge > _LARGEST_PENALTY:
        raise ValueError(
            f"The penalty 1 / (C Σ s) is too large for float64, with C={C:g} and a sum of the "
            f"weights of {data.total:g}: pass a larger C or larger weights."
        )
    # Without a perturbation both norms agree and the loss has no kinks.
    radius = np.broadcast_to(0.0 if alpha == 1 else epsilon, data.shape[1:]).copy()
    norm = norm if radius.any() else 2
    parameters = {
        "alpha": float(alpha),
        "epsilon": torch.as_tensor(radius, dtype=data.shares.dtype, device=data.shares.device),
        "ridge": ridge,
    }
    options = {"tol": tol, "max_iter": max_iter}
    if not data.is_binary:
        options["callback"] = callback
        return _solve_several(data, start, norm, parameters, options, on_path)
    problem = _binary_problem(data, norm=norm, **parameters)
    X = data.standardised
    coef, intercept = X.from_raw(start.coef, start.intercept)
    start = replace(start, coef=coef, intercept=intercept)
    if problem.norm == 2:
        options |= {"refine": not on_path, "callback": callback}
        solution = minimise_in_euclidean_norm(problem, start, **options)
    elif on_path:
        solution = minimise_next(problem, start, **options)
    else:
        solution = minimise_in_max_norm(problem, start, callback=callback, **options)
    coef, intercept = X.to_raw(solution.coef, solution.intercept)
    return replace(solution, coef=coef, intercept=intercept)


def _solve_several(data, start, norm, parameters, options, on_path):
    """Solve three classes and more."""
    X, epsilon = data.standardised, parameters["epsilon"]
    if data.fit_intercept and _can_merge_means(data, norm, epsilon, parameters["alpha"]):
        return _without_weights(data)
    radii = _standardised_radii(X, epsilon)
    alpha = parameters.pop("alpha")
    parameters |= {
        "epsilon": radii,
        "ridge": parameters["ridge"] * X.inverse**2,
        "fit_intercept": data.fit_intercept,
    }
    coef, intercept = start.coef * X.scale, start.intercept + start.coef @ X.offset
    start = replace(start, coef=coef, intercept=intercept)
    # A constant feature has no weight, with or without a radius.
    effective = torch.where(X.scale > 0, radii, 0)
    if norm == 2 or not effective.any():
        parameters["epsilon"] = effective
        problem = MulticlassProblem(rows=data.multiclass_rows(alpha), **parameters)
        solution = minimise_bound(problem, start, refine=not on_path, **options)
    else:
        solver = minimise_classes_on_path if on_path else minimise_classes
        problem = ClassProblem(rows=data.class_rows(alpha), **parameters)
        solution = solver(problem, start, **options)
    coef = solution.coef * X.inverse
    intercept = centre(solution.intercept - coef @ X.offset)
    return replace(solution, coef=coef, intercept=intercept)


def _can_merge_means(data, norm, epsilon, alpha):
    """Whether the adversary can move each two class means to the same point: W = 0 is optimal.

    ‖(x̄_k - x̄_l) / ε‖ <= 2 (1-α) for all pairs; see `epsilon_max`.
    """
    if alpha == 1 or not epsilon.any():
        return False
    gaps = data.gaps_of_means
    scaled = torch.where(gaps == 0, 0, gaps / epsilon)
    longest = torch.linalg.vector_norm(scaled, ord=norm, dim=1).max()
    # At `epsilon_max` itself the two sides differ by rounding only.
    return bool(longest <= 2 * (1 - alpha) * (1 + 1e-12))


def _without_weights(data):
    """The solution W = 0, with the class shares as probabilities; the loss is their entropy."""
    start = zero_start(data)
    return Solution(
        coef=start.coef,
        intercept=centre(start.intercept),
        objective=-float(start.intercept.exp() @ start.intercept),
        violation=0.0,
        n_iter=0,
        status="optimal",
    )


def _constant(data):
    """The solution where one class has all the weight: it is predicted everywhere."""
    start = zero_start(data)
    return Solution(
        coef=start.coef,
        intercept=start.intercept,
        objective=0.0,
        violation=0.0,
        n_iter=0,
        status="one class",
    )


def over_all_classes(data, solution):
    """Weights and intercepts of all classes, as `coef_` and `intercept_` hold them.

    A class that the solver has not seen gets weights of 0 and an intercept far below the logits of
    the training data. The others' logits sum to 0, so that one of them is always above it.

    Returns
    -------
    coef : torch.Tensor of shape (1, n_features) or (n_classes, n_features)
    intercept : torch.Tensor of shape (1,) or (n_classes,)
    """
    coef, intercept = torch.atleast_2d(solution.coef), torch.atleast_1d(solution.intercept)
    n_classes = len(data.classes)
    if len(data.solved) == n_classes:
        return coef, intercept
    if data.is_binary:
        half = coef.new_tensor([-0.5, 0.5])
        coef, intercept = half[:, None] * coef, half * intercept
    coef, intercept = centre(coef), centre(intercept)
    low, high = map(float, data.range_of_logits(coef, intercept))
    reach = max(high - low, 1.0)
    all_coef = coef.new_zeros(n_classes, coef.shape[1])
    all_intercept = coef.new_full((n_classes,), low - _FAR_BELOW * reach)
    all_coef[data.solved], all_intercept[data.solved] = coef, intercept
    if n_classes == 2:
        return all_coef[1:] - all_coef[:1], all_intercept[1:] - all_intercept[:1]
    return all_coef, all_intercept


def _standardised_radii(X, epsilon):
    """Radii in the units of standardised features."""
    # A constant feature acts as an intercept. Any positive radius keeps its weight at 0.
    epsilon = torch.where(X.scale > 0, epsilon * X.inverse, 1)
    # The square of a smaller radius would underflow.
    return torch.where(epsilon > 1e-100, epsilon, 0)


def _binary_problem(data, alpha, epsilon, norm, ridge):
    """The problem of two classes in standardised features."""
    X = data.standardised
    return BinaryProblem(
        rows=data.binary_rows(alpha),
        epsilon=_standardised_radii(X, epsilon),
        norm=norm,
        ridge=ridge * X.inverse**2,
        fit_intercept=data.fit_intercept,
    )
