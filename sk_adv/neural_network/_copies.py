"""Adversarial copies of a training batch."""

from contextlib import contextmanager

import torch

from sk_adv.attacks._objective import NO_GRADIENT


def craft(attack, module, X, y, perturbations, *, loss):
    """Copies by passes of their own; the module is in evaluation mode meanwhile.

    Parameters
    ----------
    attack : ConfiguredAttack
    module : torch.nn.Module
    X : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,), int64
    perturbations : PerturbationSet
    loss : callable
        What attacks of this library raise, as a function of logits and class indices.

    Returns
    -------
    torch.Tensor of the shape of X
    """
    # Ten steps are enough to train on, where scores take more.
    context = {"batch_size": len(X), "n_steps": 10}
    if attack.attack.takes_set:
        context["loss"] = loss
    if attack.attack.is_random:
        # Drawn from torch's random state, so that the seed of the training fixes the attack.
        context["random_state"] = int(torch.randint(2**31 - 1, ()))
    with evaluating(module):
        copies = attack(module, X, y, perturbations, **context)
    if not (isinstance(copies, torch.Tensor) and copies.shape == X.shape):
        found = getattr(copies, "shape", copies)
        raise ValueError(
            f"attack must return a tensor of the shape of the batch, {tuple(X.shape)}; "
            f"{attack.name} returned a {type(copies).__name__}: {found!r}."
        )
    return copies


def along(gradient, X, perturbations):
    """Copies one step along a gradient that is known already; None where there is none."""
    if gradient is None:
        raise TypeError(NO_GRADIENT)
    return perturbations.clip(X.detach() + perturbations.step(gradient))


@contextmanager
def evaluating(module):
    """Evaluation mode: no dropout, and batch statistics that stay as they are."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
