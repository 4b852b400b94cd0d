"""The Square attack: random search that needs nothing but the model's outputs."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv._perturbations import euclidean_norm
from sk_adv.attacks._engine import check_count, perturb_batches, seeded_generators
from sk_adv.attacks._objective import log_odds_against

# The share of features that a step changes is halved at these parts of the queries.
_HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def square(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_queries: int = 1000,
    share: float = 0.3,
    loss=log_odds_against,
    targeted: bool = False,
    random_state: int | np.random.RandomState | None = None,
    batch_size: int | None = None,
) -> np.ndarray | Tensor:
    """Random search for a misclassified copy, by the model's outputs alone.

    Each step changes a few random features of the perturbation, and keeps the change unless the
    loss falls. In images of shape (n_channels, height, width) the features form a square; in rows
    of features, which have no order, any set is as likely. In the max-norm a feature moves to an
    end of its range, or in rows of features, one time in four, to anywhere in it: where trees
    decide, the worst case may lie inside. In the Euclidean norm a part of the perturbation's
    length moves from one set of features to another; every other time, rows of features are turned
    at random in the plane of the chosen ones instead, and one time in four shortened.

    Through `sk_adv.attacks.perturb` and the scores it attacks any classifier with `predict`.

    Parameters
    ----------
    module : torch.nn.Module
        Maps X to logits. It needs no gradient.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Samples outside of `bounds` are first brought into them.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like
        Radius in the units of X: one number, or numbers that broadcast to one sample.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, which the copies keep.

    n_queries : int, default=1000
        The most copies of each sample that the model sees. A sample that is misclassified is left
        alone from then on.

    share : float, default=0.3
        The share of the features that the first steps change, in (0, 1].

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives one number for each sample.

    targeted : bool, default=False
        Whether y holds the classes to move towards.

    random_state : int, RandomState instance or None, default=None
        Seeds the search.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    References
    ----------
    Andriushchenko, Croce, Flammarion and Hein, "Square Attack: A Query-Efficient Black-Box
    Adversarial Attack via Random Search", ECCV 2020, algorithms 1 to 3.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import square
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> square(module, [[1.0, 0.0]], [1], epsilon=0.5, random_state=0)
    array([[0.5, 0.5]])
    """
    check_count(n_queries, "n_queries")
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share!r}.")
    generator_on = seeded_generators(random_state)

    def attack(objective, clean, allowed):
        generator = generator_on(clean.device)
        return random_search(objective, clean, allowed, n_queries, generator, share=share)

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        attack,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )


@torch.no_grad()
def random_search(objective, clean, allowed, n_queries, generator, *, share=0.3):
    """The perturbations that at most `n_queries` steps of random search have found."""
    search = _Search(objective, clean, allowed, generator)
    for query in range(n_queries):
        if not search.step(query, share / 2 ** sum(query >= n_queries * p for p in _HALVED_AT)):
            break
    return search.best


class _Search:
    """The state of the search for a batch; perturbations are in units of the radii."""

    def __init__(self, objective, clean, allowed, generator):
        self.objective, self.clean, self.allowed = objective, clean, allowed
        self.generator = generator
        self.radii = allowed.epsilon.expand(clean.shape[1:])
        self.is_free = (self.radii > 0).flatten()
        self.best = torch.zeros_like(clean)
        self.scaled = torch.zeros_like(clean)
        self.value = None
        self.active = torch.arange(len(clean), device=clean.device)

    def step(self, query, share):
        """Ask for one more copy of each active sample; return whether any is left."""
        if query == 0:
            proposed = self.scaled
        elif query == 1:
            proposed = self._start()
        else:
            proposed = self._changed(share)
        clean = self.clean[self.active]
        copies = self.allowed.clip(clean + self.radii * proposed)
        objective = self.objective.restricted_to(self.active)
        logits = objective.logits(copies)
        value = objective.value_of_each(logits)
        if query == 0:
            self.value = value
            better = torch.ones_like(value, dtype=torch.bool)
        else:
            better = value >= self.value
        success = objective.is_broken(copies, logits)
        better = better | success
        keep = better.reshape(-1, *[1] * (clean.ndim - 1))
        self.scaled = torch.where(keep, proposed, self.scaled)
        self.value = torch.where(better, value, self.value)
        # Numbers beyond the module's precision are infinite there, and stay as they are.
        self.best[self.active[better]] = (copies - clean).nan_to_num(nan=0.0)[better]
        left = ~success
        self.active, self.scaled, self.value = (
            self.active[left],
            self.scaled[left],
            self.value[left],
        )
        return len(self.active) and bool(self.is_free.any())

    def _start(self):
        """A first perturbation: random signs; in images, one for each column of pixels."""
        shape = self.scaled.shape
        if len(shape) == 4:
            signs = self._signs((shape[0], shape[1], 1, shape[3])).expand(shape)
        else:
            signs = self._signs(shape)
        signs = signs * (self.radii > 0)
        if self.allowed.norm == np.inf:
            return signs
        return signs / euclidean_norm(signs).clamp(min=torch.finfo(signs.dtype).tiny)

    def _changed(self, share):
        """The perturbations with some features drawn anew."""
        if self.allowed.norm == np.inf:
            return torch.where(self._chosen(share), self._ends(), self.scaled)
        moved = self._moved(share)
        if self.scaled.ndim == 4:
            return moved
        is_turned = self._uniform((len(self.scaled), *[1] * (self.scaled.ndim - 1))) < 0.5
        return torch.where(is_turned, self._turned(share), moved)

    def _moved(self, share):
        """The perturbations with the length of some features moved to others."""
        new, old = self._chosen(share), self._chosen(share)
        both = new | old
        length = euclidean_norm(self.scaled * both)
        # The length that clipping at the bounds has left unused may be used too.
        room = (1 - euclidean_norm(self.scaled * ~both) ** 2).clamp(min=0).sqrt()
        direction = self._normal(self.scaled.shape) * new * (self.radii > 0)
        direction = direction + self.scaled * new / length.clamp(min=1e-12)
        size = euclidean_norm(direction).clamp(min=torch.finfo(direction.dtype).tiny)
        return self.scaled * ~both + room * direction / size

    def _turned(self, share):
        """Rows turned at random in the plane of some features, one in four also shortened."""
        chosen = self._chosen(share)
        noise = self._normal(self.scaled.shape) * chosen
        # As long as an even spread over these features would be.
        noise = noise / euclidean_norm(noise).clamp(min=1e-12) * share**0.5
        moved = self.scaled + noise
        length = euclidean_norm(moved).clamp(min=torch.finfo(moved.dtype).tiny)
        shorter = torch.where(self._uniform(length.shape) < 0.25, self._uniform(length.shape), 1.0)
        return moved / length * shorter

    def _ends(self):
        """Ends of the range, one sign for each channel of an image; in rows some lie between."""
        shape = self.scaled.shape
        if len(shape) == 4:
            return (self._signs((*shape[:2], 1, 1)) * (self.radii > 0)).expand(shape)
        signs = self._signs(shape)
        inside = self._uniform(shape) < 0.25
        return torch.where(inside, 2 * self._uniform(shape) - 1, signs) * (self.radii > 0)

    def _chosen(self, share):
        """A mask of the features to change, for each sample one of its own."""
        shape = self.scaled.shape
        if len(shape) == 4:
            height, width = shape[2:]
            side = min(max(1, round(math.sqrt(share * height * width))), height, width)
            top = (self._uniform((len(self.scaled), 1, 1, 1)) * (height - side + 1)).floor()
            left = (self._uniform((len(self.scaled), 1, 1, 1)) * (width - side + 1)).floor()
            row = torch.arange(height, device=self.clean.device).reshape(1, 1, -1, 1)
            column = torch.arange(width, device=self.clean.device).reshape(1, 1, 1, -1)
            in_rows = (row >= top) & (row < top + side)
            return (in_rows & (column >= left) & (column < left + side)).expand(shape)
        n_free = int(self.is_free.sum())
        count = max(1, round(share * n_free))
        order = self._uniform((len(self.scaled), self.is_free.numel()))
        order = order.masked_fill(~self.is_free, 2.0)
        limit = order.kthvalue(count, dim=1, keepdim=True).values
        return ((order <= limit) & self.is_free).reshape(shape)

    def _uniform(self, shape):
        return torch.rand(
            shape, generator=self.generator, dtype=self.clean.dtype, device=self.clean.device
        )

    def _normal(self, shape):
        return torch.randn(
            shape, generator=self.generator, dtype=self.clean.dtype, device=self.clean.device
        )

    def _signs(self, shape):
        return 2 * (self._uniform(shape) < 0.5).to(self.clean.dtype) - 1
