"""Adversarial copies of a training batch."""

from contextlib import contextmanager

import torch

from sk_adv._randomness import generator_on
from sk_adv.attacks._objective import NO_GRADIENT


def craft(attack, module, X, y, perturbations, *, loss):
    """Make copies by passes of the attack's own, with the module in evaluation mode.

    Parameters
    ----------
    attack : ConfiguredAttack
    module : torch.nn.Module
    X : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,), int64
    perturbations : PerturbationSet
    loss : callable
        A function of logits and class indices, which this library's attacks maximise.

    Returns
    -------
    torch.Tensor of the shape of X
    """
    # Ten steps are enough for training; scores use more.
    context = {"batch_size": len(X), "n_steps": 10, "loss": loss}
    if attack.attack.is_random:
        # Drawn by the generator of the training, whose seed thus also seeds the attack.
        seed = torch.randint(2**31 - 1, (), generator=generator_on("cpu"), device="cpu")
        context["random_state"] = int(seed)
    with evaluating(module):
        copies = attack(module, X, y, perturbations, **context)
    if not (isinstance(copies, torch.Tensor) and copies.shape == X.shape):
        found = getattr(copies, "shape", copies)
        raise ValueError(
            f"attack must return a tensor of the shape of the batch, {tuple(X.shape)}; "
            f"{attack.name} returned a {type(copies).__name__}: {found!r}."
        )
    return copies


def fgsm_copies(gradient, X, perturbations):
    """Copies by one step of FGSM along a known gradient; `TypeError` if the gradient is None."""
    if gradient is None:
        raise TypeError(NO_GRADIENT)
    # The radii have the precision of the training, the module may have a lower one.
    return perturbations.clip(X.detach() + perturbations.step(gradient).to(X.dtype))


@contextmanager
def evaluating(module):
    """Put a module into evaluation mode: no dropout, and fixed batch statistics."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
