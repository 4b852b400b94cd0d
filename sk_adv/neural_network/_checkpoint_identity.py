"""The settings and data that a saved training shares with one that resumes it."""

import functools
import hashlib
import os
import reprlib
import types
from numbers import Number

import numpy as np
import torch
from skorch.dataset import get_len
from torch.utils.data import Dataset, IterableDataset

from sk_adv._arrays import to_numpy
from sk_adv.differentiable._networks import plain
from sk_adv.neural_network._batches import WeightedData
from sk_adv.neural_network._parts import optimizers_of
from sk_adv.neural_network._schedules import Schedule

# Rows of a memory map that are hashed to identify it.
_N_ROWS = 100


def parts_with_state(net):
    """Yield the names and objects of a net's callbacks, or their schedulers, that have a state."""
    for name, callback in net.callbacks_:
        part = getattr(callback, "lr_scheduler_", callback)
        if hasattr(part, "state_dict"):
            yield name, part


def groups_of(net):
    """The groups of parameters of all optimizers."""
    return [group for part in optimizers_of(net).values() for group in part.param_groups]


def rates_of(net):
    """The learning rate of each group."""
    return [float(group["lr"]) for group in groups_of(net)]


def identity_of(net, X, y):
    """The properties that must agree between a saved training and one that resumes it, as text."""
    parts = (*net._modules, *net._criteria, *net._optimizers, "module", "criterion", "optimizer")
    names = (*parts, "alpha", "attack", "attack_params", "robust_loss", "box_share")
    names += ("precision", "batch_size", "train_split", "classes")
    prefixes = (*(f"{name}__" for name in parts), "iterator_train__")
    rates = {f"{name}__lr" for name in net._optimizers}
    names += tuple(sorted(k for k in vars(net) if k.startswith(prefixes) and k not in rates))
    identity = {name: getattr(net, name, None) for name in names} | dict(net.identity_)
    perturbations = net.perturbation_.to("cpu", torch.float64)
    identity |= dict(zip(("epsilon", "norm", "bounds"), perturbations.values(), strict=True))
    if net.warmup_ > 0 and net.alpha < 1:
        identity |= {
            "epsilon_warmup": net.warmup_,
            "number of epochs of the warm-up": net.max_epochs,
        }
    has_state = {name for name, _ in parts_with_state(net)}
    for name, callback in net.callbacks_:
        if name in has_state or isinstance(callback, Schedule):
            settings = callback.get_params(deep=False)
            identity |= {f"{key} of the callback {name}": settings[key] for key in settings}
        if isinstance(callback, Schedule) and callback.learning_rate != "constant":
            identity["number of epochs of the schedule"] = net.max_epochs
        if hasattr(callback, "lr_scheduler_"):
            identity["initial learning rate"] = rates_of(net)
    # A loss stores its class weights in buffers.
    criteria = [plain(getattr(net, f"{name}_")) for name in net._criteria]
    identity["buffers of the criterion"] = [
        buffer
        for criterion in criteria
        if isinstance(criterion, torch.nn.Module)
        for buffer in criterion.buffers()
    ]
    data = X if y is None else (X, np.asarray(to_numpy(y)))
    if net.sample_weight_ is not None:
        data = (X, y, net.sample_weight_)
    n_samples = "unknown" if isinstance(X, IterableDataset) else get_len(X)
    identity |= {"the number of samples": n_samples, "the data": data}
    return {name: _as_text(value) for name, value in identity.items()}


@reprlib.recursive_repr()
def _as_text(value):
    """A text that is equal for equal values, also in another process."""
    if isinstance(value, WeightedData):
        parts = (value.X, value.y, value.weight, value.rows)
        return _as_text([part for part in parts if part is not None])
    if isinstance(value, functools.partial):
        return _as_text((value.func, value.args, value.keywords))
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_as_text, value))})"
    if isinstance(value, (set, frozenset)):
        return _as_text(sorted(map(_as_text, value)))
    if isinstance(value, dict):
        items = sorted((_as_text(key), _as_text(item)) for key, item in value.items())
        return f"{{{', '.join(f'{key}: {item}' for key, item in items)}}}"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"array of shape {tuple(value.shape)} with checksum {checksum(value)}"
    if isinstance(value, (Number, np.generic)):
        return str(value.item() if isinstance(value, np.generic) else value).removesuffix(".0")
    if value is None or isinstance(value, (str, bytes, os.PathLike, torch.dtype)):
        return str(value)
    name, content = _content(value)
    return name if content is None else f"{name} with checksum {_hash(_as_text(content).encode())}"


def _content(value):
    """The name of an object or function, and the content that it is compared by."""
    if isinstance(value, torch.nn.Module):
        # Weights and private attributes are left out, since they change in training.
        settings = [
            {name: part for name, part in vars(module).items() if _is_setting(name, part)}
            for module in value.modules()
        ]
        return " ".join(str(value).split()), settings
    if isinstance(value, types.CodeType):
        return "code", (value.co_code, value.co_consts, value.co_names)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    if isinstance(value, types.MethodType):
        return name, (value.__func__, value.__self__)
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return name, (value.__code__, cells, value.__defaults__, value.__kwdefaults__)
    if isinstance(value, (type, types.ModuleType, Dataset)):
        return name, None
    return name, getattr(value, "__dict__", None)


def _is_setting(name, value):
    is_private = name.startswith("_") or name == "training"
    return not is_private and not isinstance(value, torch.Tensor)


def checksum(values):
    """A hash of all entries of an array, or of some rows of a memory map."""
    if isinstance(values, np.memmap):
        values = values[np.linspace(0, len(values) - 1, _N_ROWS, dtype=np.int64)]
    array = np.ascontiguousarray(to_numpy(values))
    is_object = array.dtype == object
    return _hash(repr(array.tolist()).encode() if is_object else array.reshape(-1).view(np.uint8))


def _hash(content):
    return hashlib.blake2b(content, digest_size=8).hexdigest()
