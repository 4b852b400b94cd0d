"""The steps that all attacks share: checks, batches of bounded memory, precision, bounds."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor, nn

from sk_adv._arrays import to_numpy
from sk_adv._devices import module_device_and_dtype
from sk_adv._perturbations import PerturbationSet, as_perturbation_set
from sk_adv._randomness import Generators
from sk_adv._validation import check_dense
from sk_adv.attacks._objective import Objective, as_numbers, check_labels, log_odds_against

# Numbers per batch, in all layers of the module together: 16 MiB of float32. Much larger batches
# don't fit into the processor's caches, much smaller ones leave the processor idle.
_NUMBERS_PER_BATCH = 2**22


@torch.inference_mode(False)
def perturb_batches(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike | PerturbationSet,
    attack: Callable[[Objective, Tensor, PerturbationSet], Tensor],
    *,
    norm: float,
    bounds: tuple[ArrayLike, ArrayLike] | None,
    batch_size: int | None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
    targeted: bool = False,
) -> np.ndarray | Tensor:
    """Validate the arguments, run an attack on each batch of X, and return the adversarial copies.

    Parameters
    ----------
    module, X, y, epsilon, norm, bounds, batch_size, loss, targeted : see sk_adv.attacks.fgsm

    attack : callable
        Called as `attack(objective, clean, allowed)` with an `Objective`, the samples of a batch,
        clipped to the bounds, and the `PerturbationSet` in their dtype and on their device. It
        returns the perturbation of the batch. The copies are then clipped to the bounds.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
    """
    if batch_size is not None:
        check_count(batch_size, "batch_size")
    if not callable(loss):
        raise TypeError(
            "loss must be a function of logits and class indices, such as "
            f"sk_adv.attacks.log_odds_against; got {loss!r}."
        )
    check_dense(X, "An attack")
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module must be a torch.nn.Module; got {type(module).__name__}. "
            "sk_adv.as_module turns a fitted scikit-learn estimator into one."
        )
    device, dtype = module_device_and_dtype(module)
    clean = as_numbers(X, "X").detach()
    if clean.is_inference():
        # Gradients can't be taken through a tensor of torch.inference_mode.
        clean = clean.clone()
    if not clean.is_floating_point():
        clean = clean.to(dtype)
    if clean.ndim < 2 or not clean.numel():
        raise ValueError(
            "X must have shape (n_samples, n_features) with at least one sample and feature; "
            f"got {tuple(clean.shape)}."
        )
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    # A finite sum proves all entries finite in a tenth of the time, without temporaries.
    has_missing = not (clean.sum().isfinite() or clean.isfinite().all())
    if has_missing and clean.isinf().any():
        raise ValueError("X must be finite; it contains infinity.")
    labels = check_labels(y, len(clean))
    n_classes = int(labels.max()) + 1

    device = clean.device if device is None else device
    allowed, own = perturbations.to(device, dtype), perturbations.to(clean.device, clean.dtype)
    adversarial = torch.empty_like(clean)
    size = batch_size or _bounded_batch_size(module, clean)
    for start in range(0, len(clean), size):
        rows = slice(start, start + size)
        # The perturbation set is centred on the clipped samples.
        copies = adversarial[rows]
        inside = own.clip(clean[rows], out=copies)
        batch, missing = inside.to(device, dtype), None
        if has_missing:
            # Attacks compute with 0 in place of NaN; the objective puts NaN back for the module.
            missing = batch.isnan()
            batch = batch.masked_fill(missing, 0)
        objective = Objective(module, labels[rows].to(device), loss, targeted, missing, n_classes)
        perturbation = attack(objective, batch, allowed).to(clean)
        if clean.dtype != dtype:
            # The radius, rounded to the module's precision, may exceed that in X's precision.
            perturbation = own.project(perturbation)
        torch.add(inside, perturbation, out=copies)
        own.clip(copies, out=copies)
    return adversarial if isinstance(X, Tensor) else to_numpy(adversarial)


def _bounded_batch_size(module, X):
    """Samples per batch, by the size of a sample plus the outputs of all layers.

    The rows of the weights are counted as outputs.
    """
    tensors = [*module.parameters(), *module.buffers()]
    rows = sum(tensor.numel() // tensor.shape[-1] for tensor in tensors if tensor.ndim > 1)
    return max(1, _NUMBERS_PER_BATCH // (X[0].numel() + rows))


def check_count(value, name):
    """Raise `ValueError` unless `value` is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def seeded_generators(random_state: int | np.random.RandomState | None) -> Callable:
    """Return a function that gives the random generator of a device, seeded once per attack."""
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    return Generators(seed).on
