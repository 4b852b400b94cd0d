"""Projected gradient descent with adaptive step sizes and restarts from the best point (APGD)."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv.attacks._engine import check_count, perturb_batches, seeded_generators
from sk_adv.attacks._gradient import best_of_restarts, check_restarts, random_perturbation
from sk_adv.attacks._objective import log_odds_against

# The share of a step between two checkpoints that must raise the loss, and the weight of the new
# direction against the last one: ρ and α of the paper.
_LEAST_SHARE = 0.75
_MOMENTUM = 0.75


def apgd(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_steps: int = 100,
    random_start: bool = True,
    n_restarts: int = 1,
    random_state: int | np.random.RandomState | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Projected gradient descent that halves its steps, and goes back to the best point, by itself.

    The perturbation η of x is updated by

        ζ = P(η + s ε sign(∇ₓJ(x + η, y))) ,
        η ← P(η + α (ζ - η) + (1 - α) (η - η')) ,

    with η' the perturbation before, α = 0.75, s the step size in radii, and P the projection onto
    ‖η / ε‖ ≤ 1 and `bounds`. With `norm=2` the normalised gradient replaces the sign. s begins at
    2. At checkpoints, whose distances shrink from 22 % of the steps to 6 %, s is halved for each
    sample where less than 75 % of the steps since the last one have raised the loss, or where
    neither s nor the largest loss has changed since then; the search then goes on from the point
    with the largest loss. There is no step size to choose.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices from 0 to n_classes - 1 to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X, as in `fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the samples and all iterates are clipped.

    n_steps : int, default=100
        The most gradient steps per start. A sample that is misclassified (or moved to its target)
        is left alone from then on.

    random_start : bool, default=True
        Whether to start from a point drawn uniformly from the perturbation set, instead of X.

    n_restarts : int, default=1
        Largest number of starts per sample, as in `pgd`.

    random_state : int, RandomState instance or None, default=None
        Seeds the random starts.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then decreased.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample. The default
        has the direction of the cross-entropy.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid, or `n_restarts` > 1 without `random_start`.
    TypeError
        If X is sparse, or the module's output does not depend on X through torch operations.

    References
    ----------
    Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks", ICML 2020, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import apgd
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> apgd(module, [[2.0, 0.0]], [1], epsilon=0.5, random_state=0)
    array([[1.5, 0.5]])
    """
    check_count(n_steps, "n_steps")
    check_restarts(n_restarts, random_start)
    generator_on = seeded_generators(random_state)

    def climb(objective, clean, allowed):
        start = torch.zeros_like(clean)
        if random_start:
            start = random_perturbation(clean, allowed, generator_on)
        return adaptive_steps(objective, clean, allowed, start, n_steps).perturbation

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        partial(best_of_restarts, climb, n_restarts),
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )


def adaptive_steps(objective, clean, allowed, start, n_steps, *, stops_early=True) -> "Climb":
    """Climb the objective from a start, for the samples that are not broken yet.

    Without `stops_early` broken samples go on to larger values of the objective.

    Returns
    -------
    Climb
    """
    climb = Climb(objective, clean, allowed, start, stops_early)
    checkpoints = set(_checkpoints(n_steps))
    for step in range(1, n_steps + 1):
        if not len(climb.active):
            break
        climb.step()
        if step in checkpoints:
            climb.adapt()
    return climb


def _checkpoints(n_steps):
    """w_j = ⌈p_j n⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    earlier, share, found = 0.0, 0.22, []
    while share <= 1:
        found.append(math.ceil(share * n_steps))
        earlier, share = share, share + max(share - earlier - 0.03, 0.06)
    return found


class Climb:
    """The state of APGD for a batch.

    Attributes
    ----------
    perturbation : torch.Tensor of the shape of the samples
        The one with the largest value for each sample, among the broken ones if there are any.
    value : torch.Tensor of shape (n_samples,)
        The objective there.
    broken : torch.Tensor of bool of shape (n_samples,)
        Whether it is a success of the attack.
    active : torch.Tensor of int64
        The rows that go on.
    """

    def __init__(self, objective, clean, allowed, start, stops_early):
        self.objective, self.clean, self.allowed = objective, clean, allowed
        self.stops_early = stops_early
        self.active = torch.arange(len(clean), device=clean.device)
        logits, gradient = objective.logits_and_gradient(clean + start)
        self.value = objective.value_of_each(logits)
        self.broken = objective.is_broken(clean + start, logits)
        self.perturbation = start.clone()
        # From here on of the active rows only.
        self.part, self.centre = objective, clean
        self.now = self.before = self.best = start
        self.last_value = self.best_value = self.checked_value = self.value
        self.gradient = self.best_gradient = gradient
        # The logits may have another precision than the samples.
        self.size = torch.full_like(self.value, 2.0, dtype=clean.dtype)
        self.n_rises = torch.zeros_like(self.value)
        self.n_steps, self.was_halved = 0, torch.zeros_like(self.broken)
        self.is_first = True
        self._leave_out_broken()

    def step(self):
        """One step of each active sample."""
        moved = self._projected(self.now + self._column(self.size) * self._direction())
        if not self.is_first:
            moved = self._projected(
                self.now
                + _MOMENTUM * (moved - self.now)
                + (1 - _MOMENTUM) * (self.now - self.before)
            )
        self.is_first = False
        self.before, self.now = self.now, moved
        X = self.centre + self.now
        logits, self.gradient = self.part.logits_and_gradient(X)
        value = self.part.value_of_each(logits)
        self.n_rises += value > self.last_value
        self.n_steps += 1
        self.last_value = value
        better = value > self.best_value
        self.best = torch.where(self._column(better), self.now, self.best)
        self.best_gradient = torch.where(self._column(better), self.gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)
        self._keep(value, self.part.is_broken(X, logits))

    def adapt(self):
        """Halve the steps where they have not paid, and go back to the best point there."""
        too_few = self.n_rises < _LEAST_SHARE * self.n_steps
        stuck = ~self.was_halved & (self.best_value <= self.checked_value)
        halved = too_few | stuck
        self.size = torch.where(halved, self.size / 2, self.size)
        back = self._column(halved)
        self.now = torch.where(back, self.best, self.now)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.last_value = torch.where(halved, self.best_value, self.last_value)
        self.before = torch.where(back, self.best, self.before)
        self.was_halved, self.checked_value = halved, self.best_value
        self.n_rises, self.n_steps = torch.zeros_like(self.n_rises), 0

    def _keep(self, value, broken):
        """Note the points that are broken for the first time, or have a larger value."""
        rows = self.active
        same = broken == self.broken[rows]
        better = (broken & ~self.broken[rows]) | (same & (value > self.value[rows]))
        changed = rows[better]
        self.perturbation[changed] = self.now[better]
        self.value[changed] = value[better]
        self.broken[changed] = broken[better]
        self._leave_out_broken()

    def _leave_out_broken(self):
        left = ~self.broken[self.active]
        if not self.stops_early or left.all():
            return
        rows = left.nonzero().squeeze(1)
        self.active, self.part = self.active[rows], self.part.restricted_to(rows)
        for name in (
            "centre",
            "now",
            "before",
            "best",
            "last_value",
            "best_value",
            "checked_value",
            "gradient",
            "best_gradient",
            "size",
            "n_rises",
            "was_halved",
        ):
            setattr(self, name, getattr(self, name)[rows])

    def _direction(self):
        return self.allowed.step(self.gradient)

    def _projected(self, perturbation):
        return self.allowed.clip(self.centre + self.allowed.project(perturbation)) - self.centre

    def _column(self, values):
        return values.reshape(-1, *[1] * (self.centre.ndim - 1))
