"""Gradient attacks: the fast gradient sign method, also from a random start, and PGD."""

from collections.abc import Callable
from functools import partial
from numbers import Real

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
    and samples within `bounds`, this is the exact worst case; with `norm=2` only if `bounds` clip
    no copy.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n_samples, ...) to logits of shape (n_samples, n_classes). It is called in its current
        mode: call `module.eval()` first to switch off dropout and batch statistics. `as_module`
        turns a scikit-learn estimator into a module.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Integers are converted to the module's floating-point dtype. NaN is passed
        to the module and stays NaN.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices from 0 to n_classes - 1 to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X, one for all features or one per feature. Features of radius 0
        stay unperturbed.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation, ‖η / ε‖ ≤ 1.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, scalars or arrays of the shape of one sample, to which the copies are
        clipped. The samples are clipped too, before the attack.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then decreased.

    batch_size : int or None, default=None
        Number of samples per batch. None bounds the memory, by the sizes of a sample and of the
        module's weights.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample. The default
        has the direction of the cross-entropy.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies: a tensor on X's device if X is a tensor, else an array.

    Raises
    ------
    ValueError
        If `epsilon`, `norm`, `bounds` or `batch_size` is invalid, X holds infinity, or NaN that
        the module does not support, or y does not fit X and the module.
    TypeError
        If X is sparse, or the module's output does not depend on X through torch operations.

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
    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        _one_step,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )


def _one_step(objective, clean, allowed):
    """η = ε sign(∇ₓ J(x, y)), or its counterpart in the Euclidean norm."""
    return allowed.step(objective.gradient(clean), clean)


def fgsm_rs(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    step: float = 1.25,
    random_state: int | np.random.RandomState | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Fast gradient sign method from a random start (FGSM-RS).

    One step of 1.25 ε from a point that is drawn uniformly from the perturbation set, projected
    back to it:

        η = clip(x + Π(δ + 1.25 ε sign(∇ₓJ(x + δ, y)))) - x ,   δ uniform in ‖δ / ε‖ ≤ 1 ,

    with Π and clip as in `pgd`. It is meant for training: networks that are trained on such copies
    resist PGD nearly as those that are trained on copies by PGD, at the cost of FGSM. As a measure
    it is too weak.

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
        Valid range of X, to which the samples, starts and copies are clipped.

    step : float, default=1.25
        Radius of the step, in units of ε.

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
        If a parameter is invalid.
    TypeError
        If X is sparse, or the module's output does not depend on X through torch operations.

    References
    ----------
    Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training", ICLR 2020,
    section 4.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import fgsm_rs
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> copies = fgsm_rs(module, [[1.0, 0.0]], [1], epsilon=0.5, random_state=0)
    >>> bool((abs(copies - [[1.0, 0.0]]) <= 0.5).all())
    True
    """
    if not (isinstance(step, Real) and 0 < step < np.inf):
        raise ValueError(f"step must be a positive number, in units of epsilon; got {step!r}.")
    ascend = partial(
        _many_steps,
        n_steps=1,
        share=step,
        random_start=True,
        generator_on=seeded_generators(random_state),
    )
    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        ascend,
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
    """Projected gradient descent: small steps of `fgsm`, each projected back to the radius ε.

    The perturbation η of x is updated by

        η ← clip(x + Π(η + s sign(∇ₓJ(x + η, y)))) - x ,

    with s the step size, Π the projection onto ‖η / ε‖ ≤ 1 and clip the restriction to `bounds`.
    With `norm=2` the normalised gradient replaces the sign. One step of size ε without a random
    start is `fgsm`.

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

    n_steps : int, default=40
        Number of gradient steps per start.

    step_size : float or array-like of the shape of one sample, default=None
        Radius of one step in the units of X. None means 2.5 ε / n_steps.

    random_start : bool, default=True
        Whether to start from a point drawn uniformly from the perturbation set, instead of X.

    n_restarts : int, default=1
        Largest number of starts per sample. A sample that an earlier start has misclassified (or
        moved to its target) is not started again. Otherwise the copy with the largest loss is
        returned.

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
    check_restarts(n_restarts, random_start)
    ascend = partial(
        _many_steps,
        n_steps=n_steps,
        step_size=step_size,
        random_start=random_start,
        generator_on=seeded_generators(random_state),
    )
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


def check_restarts(n_restarts, random_start):
    """Raise `ValueError` unless the number of starts is at least 1, and 1 without a random one."""
    check_count(n_restarts, "n_restarts")
    if n_restarts > 1 and not random_start:
        raise ValueError(
            f"n_restarts={n_restarts} needs random_start=True: "
            "without it all restarts give the same copies."
        )


def random_perturbation(clean, allowed, generator_on):
    """Perturbations drawn uniformly from the set, then clipped to the bounds."""
    drawn = allowed.uniform_sample(
        clean.shape, generator=generator_on(clean.device), dtype=clean.dtype
    )
    return allowed.clip(clean + drawn) - clean


def _many_steps(
    objective, clean, allowed, *, n_steps, random_start, generator_on, share=None, step_size=None
):
    """η ← clip(x + Π(η + s sign(∇ₓJ(x + η, y)))) - x, `n_steps` times.

    The size s of a step is `step_size`, or else the `share` of ε, by default 2.5 / `n_steps`.
    """
    small = allowed.scaled(2.5 / n_steps if share is None else share)
    if step_size is not None:
        radius = check_radius(step_size, clean.shape[1:], name="step_size")
        small = allowed.with_radius(torch.as_tensor(radius))
    perturbation = torch.zeros_like(clean)
    if random_start:
        perturbation = random_perturbation(clean, allowed, generator_on)
    for _ in range(n_steps):
        point = clean + perturbation
        step = small.step(objective.gradient(point), point)
        perturbation = allowed.project(perturbation + step)
        perturbation = allowed.clip(clean + perturbation) - clean
    return perturbation


def best_of_restarts(ascend, n_restarts, objective, clean, allowed):
    """Per sample the first successful perturbation, else the one with the largest objective."""
    best = ascend(objective, clean, allowed)
    if n_restarts == 1:
        return best
    success, value = _outcome(objective, clean + best)
    for _ in range(n_restarts - 1):
        rest = (~success).nonzero().squeeze(1)
        if not len(rest):
            break
        part = objective.restricted_to(rest)
        candidate = ascend(part, clean[rest], allowed)
        candidate_success, candidate_value = _outcome(part, clean[rest] + candidate)
        better = candidate_success | (candidate_value > value[rest])
        changed = rest[better]
        best[changed] = candidate[better]
        success[changed], value[changed] = candidate_success[better], candidate_value[better]
    return best


@torch.no_grad()
def _outcome(objective, X):
    """Whether each sample of X is a success of the attack, and the objective there."""
    logits = objective.logits(X)
    return objective.is_success(logits), objective.value_of_each(logits)
