"""Adversarial copies of a training batch."""

from contextlib import contextmanager

import torch

from sk_adv._randomness import generator_on
from sk_adv.attacks._objective import NoGradientError, depends_on_input

_NO_GRADIENT = (
    "The module's output does not depend on its input through differentiable torch operations, "
    "so no copies can be made along a gradient. Keep the input in the graph, without detach() or "
    "NumPy, or train with attack='uniform_noise', or with alpha=1, on clean samples alone."
)


def craft(attack, module, X, y, perturbations, *, loss, random_state=None):
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
    random_state : int or None, default=None
        Seed of the attack. None draws one by the generator of the training.

    Returns
    -------
    torch.Tensor of the shape of X
    """
    # Ten steps are enough for training; scores use more.
    context = {"batch_size": len(X), "n_steps": 10, "loss": loss}
    if attack.attack.is_random and random_state is None:
        # Drawn by the generator of the training, whose seed thus also seeds the attack.
        seed = torch.randint(2**31 - 1, (), generator=generator_on("cpu"), device="cpu")
        random_state = int(seed)
    context["random_state"] = random_state
    # The attacks of this library say so themselves.
    may_hide = attack.attack.needs == "module" and not attack.attack.takes_set
    with evaluating(module):
        try:
            copies = attack(module, X, y, perturbations, **context)
        except (AttributeError, RuntimeError, TypeError) as error:
            is_known = isinstance(error, NoGradientError)
            if is_known or (may_hide and not depends_on_input(module, X)):
                raise TypeError(_NO_GRADIENT) from error
            raise
    if not (isinstance(copies, torch.Tensor) and copies.shape == X.shape):
        found = getattr(copies, "shape", copies)
        raise ValueError(
            f"attack must return a tensor of the shape of the batch, {tuple(X.shape)}; "
            f"{attack.name} returned a {type(copies).__name__}: {found!r}."
        )
    is_changed = not may_hide or not perturbations.epsilon.any() or not torch.equal(copies, X)
    if not (is_changed or depends_on_input(module, X)):
        raise TypeError(_NO_GRADIENT)
    return copies


def fgsm_copies(gradient, X, perturbations):
    """Copies by one step of FGSM along a known gradient; `TypeError` if the gradient is None."""
    if gradient is None:
        raise TypeError(_NO_GRADIENT)
    # The radii have the precision of the training, the module may have a lower one.
    X = X.detach()
    return perturbations.clip(X + perturbations.step(gradient, X).to(X.dtype))


@contextmanager
def evaluating(module):
    """Put a module into evaluation mode: no dropout, and fixed batch statistics."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
