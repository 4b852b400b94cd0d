"""Attacks along the gradient of the loss: one step, and many."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv._perturbations import check_radius
from sk_adv.attacks._engine import check_count, perturb_batches, seeded_generators
from sk_adv.attacks._objective import log_odds_against


def fgsm(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Fast gradient sign method: one step of radius ε along the gradient of the loss.

    With J the cross-entropy of the module's logits, or another `loss`,

        η = ε sign(∇ₓ J(x, y))                      for the max-norm,
        η = ε ∘ (ε ∘ ∇ₓJ) / ‖ε ∘ ∇ₓJ‖₂               for the Euclidean norm,

    and x + η is returned. A zero gradient gives η = 0. For two-class models that are linear in x
    this is the exact worst case, for samples within `bounds` (with `norm=2`, as long as these clip
    no copy).

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n_samples, ...) to logits of shape (n_samples, n_classes). It is called in the mode
        it is in: call `module.eval()` first if dropout or batch statistics must not act.
        `as_module` makes one of a scikit-learn estimator.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Integers become the module's floating type; NaN stays NaN, and is seen by
        the module.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices from 0 to n_classes - 1 to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X, one for all features or one a feature; 0 marks a feature that
        can't be changed.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation, ‖η / ε‖ ≤ 1.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, scalars or arrays of the shape of one sample, to which the copies are
        clipped. Samples outside of it are brought into it before they are attacked.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then lowered.

    batch_size : int or None, default=None
        Samples that go through the module at once. None: as many as keep memory bounded, by the
        sizes of a sample and of the module's weights.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample. The default
        has the direction of the cross-entropy.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        A tensor, on X's device, if X is one; else an array.

    Raises
    ------
    ValueError
        If `epsilon`, `norm`, `bounds` or `batch_size` is invalid, X holds infinity, or NaN that
        the module does not take, or y
        does not fit X and the module.
    TypeError
        If X is sparse, or the module's output does not depend on X by torch operations.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 4.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import fgsm
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> fgsm(module, [[1.0, 0.0]], [1], epsilon=0.5)
    array([[0.5, 0.5]])
    """

    def attack(objective, clean, allowed):
        return allowed.step(objective.gradient(clean))

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


def pgd(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_steps: int = 40,
    step_size: ArrayLike | None = None,
    random_start: bool = True,
    n_restarts: int = 1,
    random_state: int | np.random.RandomState | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Projected gradient descent: small steps of `fgsm`, kept within the radius ε of X.

    Each step is x ← clip(Π(x + s sign(∇ₓJ(x, y)))), with Π the projection on ‖η / ε‖ ≤ 1; with
    `norm=2` the normalised gradient takes the place of the sign. With one step of size ε and no
    random start it is `fgsm`.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which every iterate, and the sample before the first, is clipped.

    n_steps : int, default=40
        Number of gradient steps of each start.

    step_size : float or array-like of the shape of one sample, default=None
        Radius of one step in the units of X; None means 2.5 ε / n_steps.

    random_start : bool, default=True
        Start from a point drawn uniformly from the perturbation set, in place of X.

    n_restarts : int, default=1
        Largest number of starts. A sample whose last iterate is misclassified (or reaches its
        target) starts no more; of the others the last iterate with the largest loss is kept.

    random_state : int, RandomState instance or None, default=None
        Seeds the random starts.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then lowered.

    batch_size : int or None, default=None
        Samples that go through the module at once. None: as many as keep memory bounded, by the
        sizes of a sample and of the module's weights.

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
        If X is sparse, or the module's output does not depend on X by torch operations.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2.1.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import pgd
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> pgd(module, [[1.0, 0.0]], [1], epsilon=0.5, random_state=0)
    array([[0.5, 0.5]])
    """
    check_count(n_steps, "n_steps")
    check_count(n_restarts, "n_restarts")
    if n_restarts > 1 and not random_start:
        raise ValueError(
            f"n_restarts={n_restarts} needs random_start=True: "
            "without it every restart walks the same path."
        )
    generator_on = seeded_generators(random_state)

    def ascend(objective, clean, allowed):
        stride = allowed.scaled(2.5 / n_steps)
        if step_size is not None:
            stride = allowed.with_radius(check_step_size(step_size, clean.shape[1:]))
        perturbation = torch.zeros_like(clean)
        if random_start:
            perturbation = allowed.uniform_sample(
                clean.shape, generator=generator_on(clean.device), dtype=clean.dtype
            )
            perturbation = allowed.clip(clean + perturbation) - clean
        for _ in range(n_steps):
            gradient = objective.gradient(clean + perturbation)
            perturbation = allowed.project(perturbation + stride.step(gradient))
            perturbation = allowed.clip(clean + perturbation) - clean
        return perturbation

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        partial(best_of_restarts, ascend, n_restarts),
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )


def check_step_size(step_size, feature_shape):
    """The radius of a step as a tensor."""
    return torch.as_tensor(check_radius(step_size, feature_shape, name="step_size"))


def best_of_restarts(ascend, n_restarts, objective, clean, allowed):
    """The perturbation of the largest loss from several starts; a success needs no other start."""
    best = ascend(objective, clean, allowed)
    if n_restarts == 1:
        return best
    reached, value = _rank(objective, clean + best)
    for _ in range(n_restarts - 1):
        rest = (~reached).nonzero().squeeze(1)
        if not len(rest):
            break
        part = objective.of_rows(rest)
        candidate = ascend(part, clean[rest], allowed)
        candidate_reached, candidate_value = _rank(part, clean[rest] + candidate)
        better = candidate_reached | (candidate_value > value[rest])
        changed = rest[better]
        best[changed] = candidate[better]
        reached[changed], value[changed] = candidate_reached[better], candidate_value[better]
    return best


@torch.no_grad()
def _rank(objective, X):
    """What restarts are compared by: success first, then the objective."""
    logits = objective.logits(X)
    return objective.is_reached(logits), objective.of_each(logits)
