"""The attack "auto" where a module does not see all columns that may change."""

from dataclasses import dataclass

import numpy as np
import torch

from sk_adv._perturbations import PerturbationSet
from sk_adv.attacks._predictions import Predictions
from sk_adv.attacks._table import ConfiguredAttack


@dataclass(frozen=True)
class Together:
    """Gradients on the columns that a module sees, and random search on all that may change.

    Attributes
    ----------
    attack : ConfiguredAttack
    seen : ndarray of bool of shape (n_features,)
        The columns that the module sees.
    by_gradient : callable or None
        The attack on the module, as in `Form.attacked`. None where it sees none of the columns that
        may change.
    predictions : Predictions
    values : ndarray of shape (n_samples, n_features), float64
        X as `predictions` takes it.
    perturbations : PerturbationSet
        The perturbations of all columns that may change.
    """

    attack: ConfiguredAttack
    seen: np.ndarray
    by_gradient: object
    predictions: Predictions
    values: np.ndarray
    perturbations: PerturbationSet

    def __call__(self, rows, labels, **context):
        """Copies of the values of some rows, with labels as class indices."""
        values, allowed = self.values[rows], self.perturbations
        copies = self.attack(self.predictions, values, labels, allowed, **context)
        if self.by_gradient is None:
            return copies
        climbed = allowed.clip(torch.from_numpy(values.copy())).numpy()
        found = self.by_gradient(rows, labels, **context)
        climbed[:, self.seen] = found[:, self.seen]
        # The search takes in all samples, so that with the same seed it finds what it finds alone.
        is_broken = self._is_broken(climbed, labels, **context)
        is_better = self._is_broken(copies, labels, **context) & ~is_broken
        climbed[is_better] = copies[is_better]
        left = np.flatnonzero(~(is_broken | is_better))
        if allowed.norm == np.inf and len(left):
            # In the max-norm each column has a radius of its own, whatever the others have spent.
            rest = allowed.restricted_to(~self.seen).of_rows(left, values.shape[1:])
            last = self.attack(self.predictions, climbed[left], labels[left], rest, **context)
            is_last = self._is_broken(last, labels[left], **context)
            climbed[left[is_last]] = last[is_last]
        return climbed

    def _is_broken(self, copies, labels, *, targeted=False, **_):
        predicted = self.predictions.predicted(torch.from_numpy(copies)).numpy()
        return (predicted == labels) == targeted


def refused_columns(predicted, values, perturbations, columns):
    """Those of some columns in which `predict` takes no other numbers, as encoders of categories.

    Parameters
    ----------
    predicted : callable
        Predictions for rows of numbers, a tensor: ten, which are the first five twice.
    values : ndarray of shape (n_samples, n_features)
    perturbations : PerturbationSet
    columns : ndarray of int

    Returns
    -------
    list of int
    """
    few = np.concatenate([values[:5], values[:5]])
    radii = perturbations.largest_radii(few.shape[1:]).numpy()

    def are_refused(some):
        # Numbers that are unlikely to be among a few known ones.
        changed = few.copy()
        changed[:, some] += np.repeat([1, -1], len(few) // 2)[:, None] * radii[some] / np.e
        try:
            predicted(torch.from_numpy(changed))
        except (TypeError, ValueError):
            return True
        return False

    if not len(columns) or not are_refused(columns):
        return []
    # What `predict` says of the samples themselves is no matter of columns.
    predicted(torch.from_numpy(few))
    return [int(j) for j in columns if are_refused([j])]
