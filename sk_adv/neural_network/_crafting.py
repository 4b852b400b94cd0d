"""Adversarial copies of a training batch."""

import inspect
from contextlib import contextmanager
from types import NoneType

import torch

from sk_adv import attacks
from sk_adv._perturbations import clip, sign_sample, steepest_step, uniform_sample
from sk_adv.attacks._objective import NO_GRADIENT

ATTACKS = ("fgsm", "pgd", "noise")


def check_attack(attack, attack_params):
    """Raise an error that names the choices if a training attack can't be used.

    Of a function only the arguments that it takes are known beforehand.

    Returns
    -------
    dict
        The parameters of the attack.
    """
    if not isinstance(attack_params, (dict, NoneType)):
        raise TypeError(f"attack_params must be a dict or None; got {attack_params!r}.")
    params = dict(attack_params or {})
    if callable(attack):
        _check_signature(attack, params)
        return params
    if attack not in ATTACKS:
        raise ValueError(
            f"attack must be one of {', '.join(map(repr, ATTACKS))} or a function "
            f"(module, X, y, epsilon, *, norm, bounds, ...); got {attack!r}."
        )
    known = {
        "fgsm": set(),
        "pgd": {"n_steps", "step_size", "random_start", "n_restarts"},
        "noise": {"distribution"},
    }[attack]
    if not set(params) <= known:
        raise ValueError(
            f"attack={attack!r} takes the attack_params {sorted(known) or 'none'}; "
            f"got {sorted(set(params) - known)}."
        )
    distribution = params.get("distribution", "sign")
    if distribution not in ("sign", "uniform"):
        raise ValueError(f"distribution must be 'sign' or 'uniform'; got {distribution!r}.")
    return params


def _check_signature(attack, params):
    try:
        signature = inspect.signature(attack)
    except (TypeError, ValueError):
        # Some builtin functions have none.
        return
    try:
        signature.bind("module", "X", "y", "epsilon", norm=2, bounds=None, **params)
    except TypeError as error:
        own = "".join(f", {name}=..." for name in params)
        raise TypeError(
            "attack is called as attack(module, X, y, epsilon, norm=..., bounds=..."
            f"{own}), but takes {signature} ({_name(attack)}: {error})."
        ) from error


def _name(attack):
    return getattr(attack, "__qualname__", type(attack).__name__)


def craft(attack, params, module, X, y, *, loss, epsilon, norm, bounds):
    """Adversarial copies by passes of their own; the module is in evaluation mode meanwhile.

    The attacks that have a name raise `loss`.
    """
    if attack == "noise":
        return clip(X + _noise(X, epsilon, norm, **params), bounds)
    method = getattr(attacks, attack) if isinstance(attack, str) else attack
    if attack == "pgd":
        # Drawn from torch's random state, so that the seed of the training fixes the starts.
        params = {"n_steps": 10, "random_state": int(torch.randint(2**31 - 1, ())), **params}
    if isinstance(attack, str):
        params = {"batch_size": len(X), "loss": loss, **params}
    with evaluating(module):
        copies = method(module, X, y, epsilon, norm=norm, bounds=bounds, **params)
    if callable(attack) and not (isinstance(copies, torch.Tensor) and copies.shape == X.shape):
        found = getattr(copies, "shape", copies)
        raise ValueError(
            f"attack must return a tensor of the shape of the batch, {tuple(X.shape)}; "
            f"{_name(attack)} returned a {type(copies).__name__}: {found!r}."
        )
    return copies


def along(gradient, X, *, epsilon, norm, bounds):
    """Copies one step along a gradient that is known already; None where there is none."""
    if gradient is None:
        raise TypeError(NO_GRADIENT)
    return clip(X.detach() + steepest_step(gradient, epsilon, norm), bounds)


def _noise(X, epsilon, norm, distribution="sign"):
    generator = torch.Generator(device=X.device)
    generator.manual_seed(int(torch.randint(2**31 - 1, ())))
    sample = {"sign": sign_sample, "uniform": uniform_sample}[distribution]
    return sample(X.shape, epsilon, norm, generator=generator, dtype=X.dtype)


@contextmanager
def evaluating(module):
    """Evaluation mode: no dropout, and batch statistics that stay as they are."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
