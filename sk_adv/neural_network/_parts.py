"""The parts of a net: its modules, criteria and optimizers, under any names."""

import numpy as np
import torch
from torch import Tensor, nn

from sk_adv._devices import module_device_and_dtype
from sk_adv.differentiable._networks import plain, plain_modules


def modules_of(net):
    """All torch modules of a net by their names, criteria among them, without compilers' wrappers.

    Most nets have `module` and `criterion`; a subclass may add others, or have others instead.
    """
    criteria = {name: plain(getattr(net, f"{name}_")) for name in net._criteria}
    parts = plain_modules(net) | criteria
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def optimizers_of(net):
    """The optimizers of a net by their names."""
    return {name: getattr(net, f"{name}_") for name in net._optimizers}


def weights_of(net):
    """A copy of the state of each module of a net."""
    return {
        name: {key: value.clone() for key, value in part.state_dict().items()}
        for name, part in modules_of(net).items()
    }


def take_weights(net, weights):
    """Set the modules of a net back to a state that `weights_of` gave."""
    for name, part in modules_of(net).items():
        part.load_state_dict(weights[name])


def logits_of(output):
    """The logits in a module's output, the first of several, as in skorch."""
    return output[0] if isinstance(output, tuple) else output


def device_of(net):
    """The device of a net; without one, that of its modules, which skorch leaves where they are."""
    if net.device is not None:
        return torch.device(net.device)
    devices = (module_device_and_dtype(part)[0] for part in modules_of(net).values())
    # A net with skorch's AccelerateMixin, whose modules have no weights.
    other = getattr(getattr(net, "accelerator", None), "device", torch.device("cpu"))
    return next((device for device in devices if device is not None), other)


def placed(X, net):
    """A batch on the device of a net, if it is a single tensor; skorch moves others."""
    return X.to(device_of(net)) if isinstance(X, Tensor) else X


def release_graphs(module):
    """Cut activations that a module has kept off their graphs: torch copies no others."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name != "_modules":
                vars(part)[name] = _without_graph(value)


def _without_graph(value):
    """The value, its containers changed in place; of tensors within a graph, their values alone."""
    if isinstance(value, Tensor):
        return value.detach() if value.grad_fn is not None else value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            lean = _without_graph(item)
            if lean is not item:
                value[key] = lean
    elif type(value) is tuple:
        lean = tuple(map(_without_graph, value))
        if any(one is not other for one, other in zip(lean, value, strict=True)):
            return lean
    return value


def plain_numbers(value):
    """Python's numbers in place of NumPy's, which torch does not take everywhere."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        plain = type(value)(map(plain_numbers, value))
        return plain if any(a is not b for a, b in zip(plain, value, strict=True)) else value
    if type(value) is dict:
        return {key: plain_numbers(item) for key, item in value.items()}
    return value
