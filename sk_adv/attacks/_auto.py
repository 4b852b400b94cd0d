"""The strongest attack that a model allows: the closed form, gradients, or predictions alone."""

from contextlib import suppress
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv.attacks._apgd import adaptive_steps
from sk_adv.attacks._clamps import through_clamps
from sk_adv.attacks._engine import check_count, perturb_batches, seeded_generators
from sk_adv.attacks._exact import is_linear, worst_of_linear
from sk_adv.attacks._gradient import random_perturbation
from sk_adv.attacks._objective import MarginObjective, NoGradientError
from sk_adv.attacks._square import random_search

# The share of the steps in the first round, which breaks most of the samples that can be broken.
_SHARE_OF_FIRST_ROUND = 0.25


def auto(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_steps: int = 100,
    n_rivals: int = 9,
    n_queries: int = 1000,
    targeted: bool = False,
    random_state: int | np.random.RandomState | None = None,
    batch_size: int | None = None,
    time_limit: float = 10.0,
    n_jobs: int | None = None,
) -> np.ndarray | Tensor:
    """The strongest attack that the model allows.

    For linear modules this is the closed form of `exact`. Other modules are attacked by one method
    after another, each for the samples that none before has broken:

    1. `apgd` from x, with `n_steps` / 4 steps, on the log-odds against the true class, on the
       largest margin max_k z_k - z_y, and on the margin z_k - z_y against each rival class k in
       turn, the likeliest first. The climb on the log-odds takes in all samples, and does not stop
       at those that are broken, so that losses and confidences are attacked as well as the
       accuracy.
    2. The same from random points of the perturbation set, with `n_steps` steps. Behind clamps, of
       `torch.nn.Hardtanh` and scalers with `clip=True`, the log-odds and the margin against all
       rivals are climbed first; then all again, with the gradient as if nothing were clamped, since
       it would be 0 where they hold.
    3. `square`, with `n_queries` queries, for modules whose gradients lead nowhere. It is all that
       is done if there are no gradients.

    A sample is broken once it is misclassified, or classified as its target. Of a sample that is
    never broken, the copy with the largest log-odds is returned.

    Through `sk_adv.attacks.perturb` and the scores it attacks any classifier: tree models by the
    search of `exact`, models that `as_module` takes as above, and all others by `square`. In a
    `ColumnTransformer` some columns may pass a step for which `as_module` has no rule. Then
    gradients change the other columns only, and `square` asks the model itself about all columns.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`. It needs no gradient.

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
        Largest number of gradient steps of one climb.

    n_rivals : int, default=9
        Largest number of rival classes that are aimed at one by one. With a target, or with two
        classes, there is none to choose.

    n_queries : int, default=1000
        Largest number of queries of `square` for each sample; 0 leaves it out for modules with
        gradients.

    targeted : bool, default=False
        Whether y holds the classes to move towards.

    random_state : int, RandomState instance or None, default=None
        Seeds the random starts and the queries.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    time_limit : float, default=10.0
        For tree models: seconds of search for each sample.

    n_jobs : int or None, default=None
        For tree models: number of processes, as in scikit-learn.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid.
    TypeError
        If X is sparse.

    Notes
    -----
    *Cost.* Of a sample that holds, a network of ten classes computes about 1,400 gradients and
    1,000 outputs; of one that breaks at once, 25 gradients. `attack="fgsm"` computes one of each,
    and `attack="pgd"` 40 of each.

    References
    ----------
    Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks", ICML 2020, sections 4 to 6.

    Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018,
    section 4.1, for gradients through clamps.

    Gowal, Uesato, Qin, Huang, Mann and Kohli, "An Alternative Surrogate Loss for PGD-based
    Adversarial Testing", arXiv 1910.09338, 2019, for the margin against each rival.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import auto
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> auto(module, [[1.0, 0.0]], [1], epsilon=0.5)
    array([[0.5, 0.5]])
    """
    check_count(n_steps, "n_steps")
    check_count(n_rivals, "n_rivals")
    if not isinstance(n_queries, Integral) or isinstance(n_queries, bool) or n_queries < 0:
        raise ValueError(f"n_queries must be an integer of at least 0; got {n_queries!r}.")
    generator_on = seeded_generators(random_state)

    def attack(objective, clean, allowed):
        if not allowed.epsilon.any():
            return torch.zeros_like(clean)
        if is_linear(objective, clean, allowed):
            return worst_of_linear(objective, clean, allowed)
        search = _Search(objective, clean, allowed, generator_on)
        with suppress(NoGradientError):
            search.by_gradients(n_steps, n_rivals)
        search.by_queries(n_queries)
        return search.perturbation

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        attack,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        targeted=targeted,
    )


class _Search:
    """The perturbations of a batch found so far, and which samples they break."""

    def __init__(self, objective, clean, allowed, generator_on):
        self.objective, self.clean, self.allowed = objective, clean, allowed
        self.generator_on = generator_on
        self.perturbation = torch.zeros_like(clean)
        self.broken = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
        self.has_gradient = False

    def by_gradients(self, n_steps, n_rivals):
        """Climb the log-odds and the margins, from the samples and from random points."""
        if not getattr(self.objective.module, "has_gradient", True):
            return
        n_first = max(1, round(_SHARE_OF_FIRST_ROUND * n_steps))
        start = torch.zeros_like(self.clean)
        found = adaptive_steps(
            self.objective, self.clean, self.allowed, start, n_first, stops_early=False
        )
        self.perturbation, self.broken, self.has_gradient = found.perturbation, found.broken, True
        rivals = self._rivals(n_rivals)
        for rival in rivals:
            self._climb(MarginObjective(self.objective, rival), n_first, is_random=False)
        twin = through_clamps(self.objective.module)
        objective = self.objective
        if twin is not None:
            # Clamps may also be the activations of hidden units, whose own gradient is the better.
            for one in (objective, MarginObjective(objective)):
                self._climb(one, n_steps, is_random=True)
            objective = objective.of_module(twin)
        for one in (objective, *(MarginObjective(objective, rival) for rival in rivals)):
            self._climb(one, n_steps, is_random=True)

    def by_queries(self, n_queries):
        """Random search, by all that is known if there was a gradient, else as in `square`."""
        if not self.has_gradient:
            self._replace(self.objective, max(n_queries, 1), is_kept=False)
        elif n_queries:
            self._replace(MarginObjective(self.objective), n_queries, is_kept=True)

    def _rivals(self, n_rivals):
        """The rivals of each sample: None, which stands for all at once, then the likeliest."""
        with torch.no_grad():
            logits = self.objective.logits(self.clean)
        n_classes = logits.shape[1]
        if self.objective.targeted or n_classes == 2:
            return [None]
        others = logits.scatter(1, self.objective.labels.unsqueeze(1), -torch.inf)
        ranked = others.sort(dim=1, descending=True, stable=True).indices
        return [None, *ranked[:, : min(n_rivals, n_classes - 1)].T]

    def _climb(self, objective, n_steps, *, is_random):
        rest = self._unbroken()
        if not len(rest):
            return
        clean = self.clean[rest]
        start = torch.zeros_like(clean)
        if is_random:
            start = random_perturbation(clean, self.allowed, self.generator_on)
        found = adaptive_steps(objective.restricted_to(rest), clean, self.allowed, start, n_steps)
        self._note(rest[found.broken], found.perturbation[found.broken])

    def _replace(self, objective, n_queries, *, is_kept):
        """Search from the samples; with `is_kept` only what it breaks replaces what was found."""
        rest = self._unbroken()
        if not len(rest):
            return
        objective, clean = objective.restricted_to(rest), self.clean[rest]
        generator = self.generator_on(clean.device)
        found = random_search(objective, clean, self.allowed, n_queries, generator)
        if not is_kept:
            self.perturbation[rest] = found
            return
        with torch.no_grad():
            copies = clean + found
            broken = objective.is_broken(copies, objective.logits(copies))
        self._note(rest[broken], found[broken])

    def _unbroken(self):
        return (~self.broken).nonzero().squeeze(1)

    def _note(self, rows, perturbation):
        self.perturbation[rows] = perturbation
        self.broken[rows] = True
