"""Decide samples: verified by a proof, falsified by a copy that predict gets wrong, or unknown."""

from contextlib import suppress

import numpy as np
import torch

from sk_adv._arrays import in_container_of, numeric_columns, predicted_by, to_numpy
from sk_adv._perturbations import sample_shape
from sk_adv._validation import name_of
from sk_adv.attacks._estimators import is_attackable, perturb
from sk_adv.attacks._forms import searched
from sk_adv.attacks._own_radii import AUTO_AT_OWN_RADII, QUICK_AT_OWN_RADII
from sk_adv.attacks._trees import rows_of
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.metrics._proofs import certified_samples, decided_samples
from sk_adv.tree._as_trees import is_made_of_trees

STATUSES = ("verified", "falsified", "unknown")


def decide(estimator, X, y, classes, perturbations, *, random_state, verbose, **options):
    """The status of each sample, and the counterexamples as numbers."""
    if is_made_of_trees(estimator):
        options |= {"warn": True, "verbose": verbose}
        found = searched(estimator, X, y, classes, perturbations, **options)
        return found.status, found.copies
    status, numbers = _bounds_and_attacks(estimator, X, y, classes, perturbations, random_state)
    _decide_the_rest(status, numbers, estimator, X, y, classes, perturbations, **options)
    return status, numbers


def _bounds_and_attacks(estimator, X, y, classes, perturbations, random_state):
    """Verdicts by certificates and attacks, and the counterexamples as numbers."""
    has_module = is_attackable(estimator)
    clean = within_bounds(estimator, X, y, perturbations)
    wrong = predicted_labels(estimator, clean) != y
    numbers = numbers_of(clean)
    certified = np.zeros(len(y), dtype=bool)
    if has_module:
        with suppress(NoBoundsError):
            certified = certified_samples(estimator, X, y, classes, perturbations)
    status = np.where(wrong, "falsified", np.where(certified, "verified", "unknown")).astype("<U9")
    rows = np.flatnonzero(status == "unknown")
    if len(rows):
        own = perturbations.of_rows(rows, sample_shape(X))
        is_wrong, found = attacked(estimator, rows_of(X, rows), y[rows], own, random_state)
        status[rows[is_wrong]] = "falsified"
        numbers[rows[is_wrong]] = found[is_wrong]
    return status, numbers


def attacked(estimator, X, y, perturbations, random_state, *, is_quick=False):
    """Whether the strongest attack breaks each sample, and its copies as numbers."""
    attack = QUICK_AT_OWN_RADII if is_quick else AUTO_AT_OWN_RADII
    if perturbations.is_shared(sample_shape(X)):
        attack = "auto"
    options = {"attack": attack, "random_state": random_state, "epsilon": perturbations}
    found = perturb(estimator, X, y, **options)
    return predicted_labels(estimator, found) != y, numbers_of(found)


def _decide_the_rest(status, numbers, estimator, X, y, classes, perturbations, **options):
    """Search for proofs and counterexamples of networks where bounds and attacks say nothing."""
    rows = np.flatnonzero(status == "unknown")
    if not len(rows) or not is_attackable(estimator):
        return
    try:
        own = perturbations.of_rows(rows, sample_shape(X))
        found = decided_samples(estimator, rows_of(X, rows), y[rows], classes, own, **options)
    except NoBoundsError:
        return
    status[rows[found.is_proved]] = "verified"
    broken = rows[found.is_broken]
    status[broken] = "falsified"
    numbers[np.ix_(broken, found.free)] = found.copies[found.is_broken][:, found.free]


def within_bounds(estimator, X, y, perturbations):
    """The samples themselves, brought into the bounds."""
    # Noise of radius 0.
    still = perturbations.with_radius(torch.zeros(()))
    return perturb(estimator, X, y, epsilon=still, attack="uniform_noise", random_state=0)


def predicted_labels(estimator, X):
    found = predicted_by(estimator, X)
    if found.ndim != 1:
        raise ValueError(
            "A verdict needs one label per sample; the predictions of this "
            f"{name_of(estimator)} have shape {found.shape}."
        )
    return found


def numbers_of(X):
    X = to_numpy(X)
    return np.asarray(X) if len(sample_shape(X)) > 1 else numeric_columns(X)


def numbers_in_container_of(X, numbers):
    """Rows of numbers in the container of X; columns that are the same keep their types."""
    if isinstance(X, torch.Tensor):
        copies = torch.as_tensor(numbers, device=X.device)
        return copies.to(X.dtype) if X.is_floating_point() else copies
    dtype = getattr(X, "dtype", None)
    if getattr(dtype, "kind", None) == "f":
        return numbers.astype(dtype)
    clean = numbers_of(X)
    changed = ~((numbers == clean) | np.isnan(numbers)).all(axis=0)
    if isinstance(X, np.ndarray) and X.dtype.kind in "iub":
        return numbers
    return in_container_of(X, numbers, free=changed)


def tally(status, weight):
    """The number of samples of each status, and the sum of their weights."""
    weight = np.ones(len(status)) if weight is None else weight
    masks = [status == name for name in STATUSES]
    return [int(mask.sum()) for mask in masks], [float(weight @ mask) for mask in masks]
