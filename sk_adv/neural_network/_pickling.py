"""Conversion of a trained net to dicts of arrays and numbers, and back, for pickling."""

import copy
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import torch
from skorch import NeuralNet

from sk_adv._arrays import to_numpy
from sk_adv._devices import resolve_device
from sk_adv._perturbations import PerturbationSet
from sk_adv._randomness import Generators, drawing_from
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._classifier_net import make_net

# Parameters of a classifier that are passed to the net, to its perturbation set, or to its module.
_NET_PARAMETERS = (
    "alpha",
    "attack",
    "attack_params",
    "batch_size",
    "box_share",
    "compile",
    "epsilon_warmup",
    "robust_loss",
)
_SET_PARAMETERS = ("epsilon", "norm", "bounds")
_MODULE_PARAMETERS = (
    "hidden_layer_sizes",
    "n_pieces",
    "input_dropout",
    "hidden_dropout",
    "max_norm",
    "output_activation",
)
_TORCH_OBJECTS = (
    torch.Tensor,
    torch.nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    NeuralNet,
)


class TorchFreeState:
    """Mixin whose pickled state holds arrays and numbers instead of torch objects."""

    def __getstate__(self):
        """The attributes for pickling and copying, without torch or skorch objects."""
        state = without_torch(dict(super().__getstate__()))
        if self.callbacks is not None:
            state["callbacks"] = [without_training_state(part) for part in self.callbacks]
        if "net_" in state:
            state["net_"] = net_to_state(self.net_)
        return state

    def __setstate__(self, state):
        """Restore the attributes; the net is put on the CPU if its device is not available."""
        if "net_" in state:
            state = {**state, "net_": net_from_state(state["net_"])}
        super().__setstate__(state)


def net_to_state(net):
    """Convert a net made by `make_net` to dicts, lists, arrays and numbers.

    The arrays may share memory with the net. The schedule is the only callback that is kept: the
    others serve one training, and the validation would add the held-out samples to the state.

    Parameters
    ----------
    net : AdversarialNet

    Returns
    -------
    dict
        The state, without torch or skorch objects. Its parameters are those that the net was made
        with, which may differ from the classifier's current ones. An attack function is kept.
    """
    parameters = {name: getattr(net, name) for name in _NET_PARAMETERS}
    parameters |= {name: getattr(net, f"module__{name}") for name in _MODULE_PARAMETERS}
    parameters |= {
        "solver": "sgd" if net.optimizer is torch.optim.SGD else "adam",
        "momentum": getattr(net, "optimizer__momentum", 0.0),
        "learning_rate_init": net.lr,
        "learning_rate": dict(net.callbacks)["schedule"].learning_rate,
        "verbose": net.verbose + 1,
    }
    return {
        "parameters": without_torch(parameters),
        "perturbations": without_torch(
            dict(zip(_SET_PARAMETERS, net.epsilon.values(), strict=True))
        ),
        "n_features": net.module__n_features,
        "n_classes": net.module__n_classes,
        "n_epochs": net.max_epochs,
        "precision": net.precision,
        "device": str(net.device),
        "weights": without_torch(plain_module(net).state_dict()),
        "optimizer": without_torch(net.optimizer_.state_dict()),
        "history": [without_torch(row) for row in net.history],
    }


def net_from_state(state):
    """Make a net from the state that `net_to_state` returned.

    Parameters
    ----------
    state : dict

    Returns
    -------
    AdversarialNet
        The net, on the device of the training if that is available, else on the CPU. Further
        training gives the same result as with the original net.
    """
    try:
        device = resolve_device(state["device"])
    except ValueError:
        device = torch.device("cpu")
    model = SimpleNamespace(**state["parameters"], classes_=range(state["n_classes"]))
    # The initial weights are overwritten, so drawing them must not move torch's generators.
    with drawing_from(Generators(0)):
        net = make_net(
            model,
            state["n_features"],
            device,
            state["precision"],
            perturbations=PerturbationSet.unchecked(**_with_tensors(state["perturbations"])),
            n_epochs=state["n_epochs"],
        )
    plain_module(net).load_state_dict(_with_tensors(state["weights"]))
    net.optimizer_.load_state_dict(_with_tensors(state["optimizer"]))
    net.history.extend(state["history"])
    return net


def without_torch(value):
    """Convert tensors to arrays and devices to strings, also inside containers."""
    if isinstance(value, torch.Tensor):
        return to_numpy(value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {key: without_torch(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(without_torch, value))
    return value


def without_training_state(callback):
    """Copy a callback without the training attributes that hold torch objects.

    By skorch's convention their names end in "_", and the next training makes them again. One
    example is the scheduler of an `LRScheduler`, which holds an optimizer and all its weights.
    """
    if not hasattr(callback, "__dict__") or isinstance(callback, type):
        return callback
    lean = copy.copy(callback)
    for name, value in list(vars(lean).items()):
        if name.endswith("_") and _holds_torch(value):
            delattr(lean, name)
    return lean


def _holds_torch(value):
    if isinstance(value, Mapping):
        return any(map(_holds_torch, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_torch, value))
    return isinstance(value, _TORCH_OBJECTS)


def _with_tensors(value):
    """Convert arrays back to tensors that own their memory, also inside containers."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {key: _with_tensors(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_with_tensors, value))
    return value
