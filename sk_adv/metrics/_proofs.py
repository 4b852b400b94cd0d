"""Which samples are proved to be classified correctly, for models with a module."""

from dataclasses import dataclass

import numpy as np
import torch

from sk_adv._arrays import blocks_of, predicted_by, row_blocks, to_numpy, to_tensor
from sk_adv._validation import name_of
from sk_adv.attacks._estimators import perturb
from sk_adv.attacks._forms import check_fixed_columns, numeric
from sk_adv.attacks._trees import predicts_wrongly, rows_of
from sk_adv.differentiable import as_module
from sk_adv.differentiable._as_module import NoRuleError
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.differentiable._decisions import decided
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.differentiable._proofs import proved


def certified_samples(estimator, X, y, classes, perturbations, method="auto", **search):
    """Which samples bounds prove to be classified correctly, for a model with a module.

    `search` holds `time_limit` and `n_jobs` of the method "exact".
    """
    known, labels = indices(classes, y)
    certified, moves = np.zeros(len(y), dtype=bool), False
    try:
        for rows, batch, module, allowed, spacing in batches(estimator, X, perturbations):
            bounds = "alpha-crown" if method == "exact" else method
            options = {"rounding": spacing, "method": bounds}
            certified[rows] = proved(module, batch, labels[rows], allowed, **options).numpy()
            moves |= bool(allowed.epsilon.any())
    except NoBoundsError as error:
        raise NoBoundsError(
            f"There is no certificate for this {name_of(estimator)}. "
            "adversarial_accuracy_score with attack='pgd' bounds its accuracy under attack "
            f"from above. The reason: {error}"
        ) from error
    if not moves:
        # Nothing can change, so that the predictions decide, also where two classes are equal.
        certified = _predicted_inside(estimator, X, y, perturbations) == y
    elif method == "exact":
        rows = np.flatnonzero(known & ~certified)
        rows = rows[~_is_broken(estimator, rows_of(X, rows), y[rows], perturbations)]
        if len(rows):
            rest = rows_of(X, rows), y[rows], classes, perturbations
            certified[rows] = decided_samples(estimator, *rest, **search).is_proved
    return certified & known


def _is_broken(estimator, X, y, perturbations):
    """Which samples a few gradient steps break; the others are worth a search."""
    if not len(y):
        return np.zeros(0, dtype=bool)
    options = {"attack": "pgd", "attack_params": {"n_steps": 20}, "random_state": 0}
    return np.concatenate(
        [
            predicted_by(
                estimator, perturb(estimator, block, y[rows], epsilon=perturbations, **options)
            )
            != y[rows]
            for rows, block in blocks_of(X)
        ]
    )


@dataclass(frozen=True)
class DecidedSamples:
    """The result of a complete search.

    Attributes
    ----------
    is_proved : ndarray of bool of shape (n_samples,)
        Whether no perturbation changes the class.
    is_broken : ndarray of bool of shape (n_samples,)
        Whether the estimator's own `predict` misclassifies the copy.
    copies : ndarray of shape (n_samples, ...)
        Perturbed samples as numbers, in the precision of X.
    free : ndarray of bool of shape (n_features,)
        The columns that may change.
    """

    is_proved: np.ndarray
    is_broken: np.ndarray
    copies: np.ndarray
    free: np.ndarray


def decided_samples(estimator, X, y, classes, perturbations, *, time_limit, n_jobs=None):
    """Search for a proof, or a misclassified copy, of each sample, by `decided`."""
    known, labels = indices(classes, y)
    is_proved, copies, free = [], [], False
    for rows, batch, module, allowed, spacing in batches(estimator, X, perturbations):
        options = {"rounding": spacing, "time_limit": time_limit, "n_jobs": n_jobs}
        found = decided(module, batch, labels[rows], allowed, **options)
        is_proved.append(found.is_proved)
        copies.append(inside_set(batch, found.perturbations, allowed, precision_of(X)))
        moves = allowed.largest_radii(batch.shape[1:]).numpy() > 0
        free = free | moves if batch.ndim == 2 else np.ones(batch.shape[1], dtype=bool)
    is_proved, copies = np.concatenate(is_proved) & known, np.concatenate(copies)
    is_broken = np.zeros(len(y), dtype=bool)
    rows = np.flatnonzero(~np.isnan(copies).reshape(len(y), -1).all(axis=1) & ~is_proved)
    if len(rows):
        wrong = predicts_wrongly(estimator, X, y, free)
        is_broken[rows] = wrong(rows, copies[rows])
    return DecidedSamples(is_proved, is_broken, copies, free)


def precision_of(X):
    """The precision in which copies of X are numbers."""
    array = to_numpy(X)
    return torch.float32 if getattr(array, "dtype", None) == np.float32 else torch.float64


def inside_set(X, steps, allowed, dtype):
    """The copies of a perturbation, inside the set in the precision of X; NaN where none is."""
    allowed = allowed.to(dtype=dtype)
    clean = allowed.clip(X.to(dtype))
    steps = torch.as_tensor(steps).reshape(X.shape).to(dtype)
    copies = allowed.clip(clean + allowed.project(steps))
    if allowed.norm == np.inf:
        copies = torch.clamp(copies, *allowed.box(clean))
    return copies.numpy()


def _predicted_inside(estimator, X, y, perturbations):
    """The predictions at X, brought into the bounds."""
    if perturbations.bounds is None:
        return predicted_by(estimator, X)
    # Noise of radius 0 only clips, and draws from no global state.
    options = {"epsilon": perturbations.scaled(0.0), "attack": "uniform_noise", "random_state": 0}
    return np.concatenate(
        [
            predicted_by(estimator, perturb(estimator, block, y[rows], **options))
            for rows, block in blocks_of(X)
        ]
    )


def batches(estimator, X, perturbations):
    """Iterate over batches of X in float64, each with the estimator's module for it.

    Yields the positions of the rows, the rows, the module in float64, the perturbation set, and
    the largest spacing around 1 of the numbers in which the model computes.
    """
    for rows, block in blocks_of(X):
        clean, module, allowed = _numbers(estimator, block, perturbations)
        spacing = _spacing([clean, *module.parameters(), *module.buffers()])
        module = module.double()
        for part in row_blocks(clean):
            position = slice(rows.start + part.start, rows.start + part.stop)
            own = allowed.of_rows(position, clean.shape[1:])
            yield position, clean[part].double(), module, own, spacing


def _numbers(estimator, X, perturbations):
    """X as a tensor, the estimator's module, and the perturbation set of X, on the CPU.

    With a `ColumnTransformer`, only columns with a gradient may change.
    """
    try:
        split = split_columns(estimator, X)
        module = as_module(estimator, device="cpu") if split is None else split.module.cpu()
    except NoRuleError as error:
        # A step behind the first one, that no column goes around.
        raise NoBoundsError(str(error)) from error
    if split is None:
        values = numeric(X)
    else:
        check_fixed_columns(split, perturbations)
        values = split.values
        perturbations = perturbations.restricted_to(split.free)
    return to_tensor(to_numpy(values)), module, perturbations


def indices(classes, y):
    """Whether each label is among the classes, and its index; unknown labels get any index."""
    known = np.isin(y, classes)
    return known, torch.as_tensor(np.searchsorted(classes, y).clip(max=len(classes) - 1))


def _spacing(tensors):
    """The largest machine epsilon of the tensors' floating-point dtypes."""
    return max(torch.finfo(tensor.dtype).eps for tensor in tensors if tensor.is_floating_point())
