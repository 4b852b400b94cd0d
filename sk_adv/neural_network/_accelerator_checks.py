"""Checks of an accelerator, and of the data of the processes, before the first epoch."""

import os
import warnings

import numpy as np
import torch
from skorch.dataset import get_len
from torch.utils.data import IterableDataset, Subset

from sk_adv._arrays import to_numpy
from sk_adv.neural_network._batches import WeightedSamples
from sk_adv.neural_network._checkpoint_identity import checksum

# Rows of the data that are compared.
_N_ROWS = 100


def check_accelerator(net):
    """Raise an error unless a net can be trained by its accelerator.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it is set to something that is not supported.
    """
    accelerator = net.accelerator
    if not hasattr(accelerator, "backward"):
        raise TypeError(
            f"accelerator must be an accelerate.Accelerator; got {type(accelerator).__name__}."
        )
    problem = _unsupported(net, accelerator)
    if problem is not None:
        raise ValueError(f"AdversarialNet can't be trained by this accelerator: {problem}.")


def _unsupported(net, accelerator):
    """The setting of an accelerator that is not supported, and what to do, or None."""
    kind = getattr(accelerator.distributed_type, "value", str(accelerator.distributed_type))
    if kind != "NO" and not kind.startswith("MULTI_"):
        return (
            f"distributed_type={kind} divides the module, which attacks need whole; use plain data "
            "parallelism (MULTI_GPU or MULTI_CPU)"
        )
    if getattr(accelerator, "parallelism_config", None) is not None:
        return "a parallelism_config divides the module, which attacks need whole; leave it out"
    if accelerator.mixed_precision not in ("no", "fp16", "bf16"):
        return (
            f"mixed_precision={accelerator.mixed_precision!r} is not supported; use 'no', 'fp16' "
            "or 'bf16'"
        )
    if accelerator.mixed_precision != "no" and net.precision != "float32":
        return (
            f"mixed_precision={accelerator.mixed_precision!r} and precision={net.precision!r} both "
            "choose the format of numbers; set one of them"
        )
    names = getattr(net, "_optimizers", ())
    parts = [getattr(net, f"{name}_", None) for name in names]
    if any(isinstance(getattr(part, "optimizer", part), torch.optim.LBFGS) for part in parts):
        return "LBFGS evaluates the loss several times in a step; use another optimizer"
    n_processes = accelerator.num_processes
    if n_processes == 1:
        _warn_if_others_are_unknown()
        return None
    if not accelerator.even_batches:
        return (
            "with even_batches=False some processes would wait for batches that others do not "
            "have; leave it on"
        )
    size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
    if accelerator.split_batches and size not in (-1, None) and size % n_processes:
        return (
            f"with split_batches=True the batch size must be a multiple of the {n_processes} "
            f"processes; got {size}"
        )
    hook = getattr(getattr(accelerator, "ddp_handler", None), "comm_hook", None)
    if hook is not None and getattr(hook, "value", hook) != "no":
        return (
            "the comm_hook of DistributedDataParallelKwargs has no effect, since the net averages "
            "the gradients itself; leave it out"
        )
    return None


def _warn_if_others_are_unknown():
    """Warn if this is one of several processes, of which the accelerator does not know."""
    n_started = os.environ.get("WORLD_SIZE", "1")
    if n_started.isdecimal() and int(n_started) > 1:
        warnings.warn(
            f"This is one of {n_started} processes (WORLD_SIZE), but the accelerator knows of one, "
            "so that each trains alone on all samples: on machines without a GPU pass "
            "Accelerator(cpu=True).",
            UserWarning,
            stacklevel=2,
        )


def check_equal(net, X, y):
    """Raise `ValueError` unless all processes were given the same data and lengths to train."""
    others = net.processes_.gathered(_fingerprint(net, X, y))
    different = [name for name in others[0] if any(one[name] != others[0][name] for one in others)]
    if different:
        raise ValueError(
            f"The processes were given different values of {' and '.join(different)}: pass the "
            "same to each, with the whole data in the same order, which is divided there."
        )


def _fingerprint(net, X, y):
    """What must be equal in all processes, as numbers and checksums by its name."""
    found = {"max_epochs": net.max_epochs, "batch_size": net.batch_size, "X": None}
    found |= {
        name: None if values is None else checksum(to_numpy(values))
        for name, values in (("y", y), ("sample_weight", net.sample_weight_))
    }
    if isinstance(X, np.ndarray | torch.Tensor) and len(X):
        rows = np.linspace(0, len(X) - 1, min(_N_ROWS, len(X)), dtype=np.int64)
        found["X"] = (tuple(X.shape), checksum(to_numpy(X[rows])))
    elif not isinstance(X, IterableDataset):
        found["X"] = get_len(X)
    return found


def check_equal_parts(net, dataset):
    """Raise `ValueError` unless all processes train on the same part of their data."""
    if isinstance(dataset, WeightedSamples):
        dataset = dataset.dataset
    is_part = isinstance(dataset, Subset)
    parts = net.processes_.gathered(checksum(np.asarray(dataset.indices)) if is_part else None)
    if any(part != parts[0] for part in parts):
        raise ValueError(
            "train_split holds out other samples in each process: give it a random_state, as in "
            "skorch.dataset.ValidSplit(0.2, random_state=0)."
        )
