"""The frame of every attack: checks, batches of bounded memory, precision, bounds."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor, nn

from sk_adv._devices import module_device_and_dtype, to_numpy
from sk_adv._perturbations import PerturbationSet, as_perturbation_set
from sk_adv._validation import check_dense
from sk_adv.attacks._objective import Objective, as_numbers, check_labels, log_odds_against

# Numbers that a batch may hold in all layers of the module together: 16 MiB of float32. Far larger
# batches leave the processor's caches, far smaller ones do not fill it.
_NUMBERS_A_BATCH = 2**22


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
    """Validate, run `attack(objective, clean, allowed) -> perturbation` by batches, add and clip.

    `clean` lies within the bounds; `allowed` is the perturbation set where `clean` is.
    """
    if batch_size is not None:
        check_count(batch_size, "batch_size")
    check_dense(X, "An attack")
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module must be a torch.nn.Module; got {type(module).__name__}. "
            "sk_adv.as_module turns a fitted scikit-learn estimator into one."
        )
    device, dtype = module_device_and_dtype(module)
    clean = as_numbers(X, "X").detach()
    if not clean.is_floating_point():
        clean = clean.to(dtype)
    if clean.ndim < 2 or not len(clean):
        raise ValueError(
            "X must have shape (n_samples, n_features) with at least one sample; "
            f"got {tuple(clean.shape)}."
        )
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    # A finite sum proves it in a tenth of the time, without temporaries of the size of X.
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
        # The radius is that around the samples as they lie within the bounds.
        copies = adversarial[rows]
        inside = own.clip(clean[rows], out=copies)
        batch, missing = inside.to(device, dtype), None
        if has_missing:
            # The module sees NaN there; the perturbation is computed, and dropped, as of 0.
            missing = batch.isnan()
            batch = batch.masked_fill(missing, 0)
        objective = Objective(module, labels[rows].to(device), loss, targeted, missing, n_classes)
        perturbation = attack(objective, batch, allowed).to(clean)
        if clean.dtype != dtype:
            # In X's own precision, if finer than the module's, the radius is another number.
            perturbation = own.project(perturbation)
        # NaN stays NaN.
        torch.add(inside, perturbation, out=copies)
        own.clip(copies, out=copies)
    return adversarial if isinstance(X, Tensor) else to_numpy(adversarial)


def _bounded_batch_size(module, X):
    """Samples whose inputs and layers, as wide as the weights have rows, fit into the memory."""
    tensors = [*module.parameters(), *module.buffers()]
    rows = sum(tensor.numel() // tensor.shape[-1] for tensor in tensors if tensor.ndim > 1)
    return max(1, _NUMBERS_A_BATCH // (X[0].numel() + rows))


def check_count(value, name):
    """Raise `ValueError` unless it is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def seeded_generators(random_state: int | np.random.RandomState | None) -> Callable:
    """A function from a device to its random generator, seeded once for the whole attack."""
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    generators = {}

    def on(device):
        if device not in generators:
            generators[device] = torch.Generator(device=device).manual_seed(seed)
        return generators[device]

    return on
