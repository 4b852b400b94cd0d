"""Decisions for small networks: proved, or a perturbation that breaks them, by complete search."""

from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable._branching import branch
from sk_adv.differentiable._composition import run
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._linear import decision_module
from sk_adv.differentiable._network_program import (
    decide,
    is_piecewise_linear,
    layers_of_sample,
    root_of_sample,
)
from sk_adv.differentiable._proofs import MOST_WORK
from sk_adv.differentiable._relaxation_rules import Bend, Map, Matrix
from sk_adv.differentiable._relaxations import is_led, least_margins, relaxed
from sk_adv.differentiable._relaxed_maxima import Largest

# Samples whose layers are bounded together.
_SAMPLES = 64
_N_ITER = 20
# Units that may bend, beyond which a search is hopeless.
_MOST_UNITS = 400


@dataclass(frozen=True)
class Decisions:
    """The result of a search.

    Attributes
    ----------
    is_proved : ndarray of bool of shape (n_samples,)
        Whether no perturbation changes the class.
    perturbations : ndarray of shape (n_samples, n_features)
        One that may change it; NaN where none is known.
    """

    is_proved: np.ndarray
    perturbations: np.ndarray


@torch.no_grad()
def decided(
    module: nn.Module,
    X: Tensor,
    labels: Tensor,
    perturbations: PerturbationSet,
    *,
    rounding: float,
    time_limit: float,
    n_jobs: int | None = None,
) -> Decisions:
    """Search for a proof, or for a perturbation that changes the class, of each sample.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64.
    X : torch.Tensor of shape (n_samples, ...), float64
    labels : torch.Tensor of shape (n_samples,), int64
        The classes.
    perturbations : PerturbationSet
    rounding : float
        Spacing around 1 of the numbers in which the model computes.
    time_limit : float
        Seconds for each sample.
    n_jobs : int, default=None
        Number of processes, as in scikit-learn.

    Returns
    -------
    Decisions
    """
    is_proved = np.zeros(len(X), dtype=bool)
    found = np.full((len(X), X[:1].numel()), np.nan)

    def around(rows):
        own = perturbations.of_rows(rows, X.shape[1:])
        return Enclosure.of(X[rows], own, rounding=rounding)

    for rows in torch.arange(len(X)).split(_SAMPLES) if len(X) else ():
        n_units = _units_that_may_bend(relaxed(module, around(rows), most_work=MOST_WORK))
        rows = rows[n_units <= _MOST_UNITS]
        if not len(rows):
            continue
        source = relaxed(module, around(rows), n_iter=_N_ITER, most_work=MOST_WORK)
        margins = least_margins(source, labels[rows])
        led = is_led(margins, labels[rows])
        is_proved[rows] = led.numpy()
        # The most dangerous rivals first.
        rivals = [[int(k) for k in row.argsort() if row[k] <= 0] for row in margins]
        open_rows = [i for i in range(len(rows)) if not led[i]]
        if not any(isinstance(step, Bend | Largest) for step in source.steps):
            # The bounds of what is linear are all that a search could find.
            continue
        if is_piecewise_linear(source):
            results = Parallel(n_jobs=n_jobs)(
                delayed(decide)(
                    root_of_sample(source, i),
                    layers_of_sample(source, i),
                    int(labels[rows[i]]),
                    rivals[i],
                    time_limit=time_limit,
                )
                for i in open_rows
            )
        elif all(isinstance(step, Matrix | Map | Bend) for step in source.steps):
            results = []
            for i in open_rows:
                one = around(rows[i : i + 1])
                source = relaxed(module, one, n_iter=_N_ITER, most_work=MOST_WORK)
                results.append(
                    _branched(
                        module,
                        source,
                        X[rows[i]].shape,
                        int(labels[rows[i]]),
                        rivals[i],
                        time_limit,
                    )
                )
        else:
            continue
        for i, (proof, perturbation) in zip(open_rows, results, strict=True):
            is_proved[rows[i]] = proof
            if perturbation is not None:
                found[rows[i]] = perturbation
    return Decisions(is_proved, found)


def _units_that_may_bend(source):
    """How many units of each sample may bend within their limits."""
    count = torch.zeros(len(source.root.centre), dtype=torch.int64)
    for step in source.steps:
        if isinstance(step, Bend):
            count += ((step.low < 0) & (step.high > 0)).flatten(1).sum(1)
        elif isinstance(step, Largest):
            count += (~step.is_led).flatten(1).sum(1)
    return count


def _branched(module, source, shape, label, rivals, time_limit):
    decision, clean = decision_module(module), source.root.centre

    def is_broken(steps):
        values = run(decision, (clean + steps).reshape(-1, *shape))
        wrong = values.argmax(1) != label
        return int(wrong.int().argmax()) if wrong.any() else None

    for rival in rivals:
        direction = torch.zeros(source.region.error.shape[1], dtype=torch.float64)
        direction[label], direction[rival] = 1.0, -1.0
        limit = time_limit / len(rivals)
        bound, perturbation, _ = branch(source, direction, time_limit=limit, is_broken=is_broken)
        if bound <= 0:
            return False, None if perturbation is None else perturbation.numpy()
    return True, None
