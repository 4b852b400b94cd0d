"""Construction of the skorch net of a classifier from its parameters."""

import copy

import numpy as np
import torch

from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._checkpoint import Checkpoint, refit_path
from sk_adv.neural_network._early_stopping import Plateau, RobustEarlyStopping
from sk_adv.neural_network._layers import MaxoutNet
from sk_adv.neural_network._losses import (
    LogOddsCrossEntropy,
    SigmoidCrossEntropy,
    scaled_sigmoids,
)
from sk_adv.neural_network._net import AdversarialNet
from sk_adv.neural_network._overfitting_guard import OverfittingGuard
from sk_adv.neural_network._schedules import Progress, Schedule


def choose_precision(model, data, device, previous=None):
    """Resolve `precision="auto"`; a net that is trained further keeps its precision."""
    if model.precision != "auto":
        return model.precision
    if previous is not None:
        return previous.precision
    is_small = len(data.y) <= model.batch_size and data.X.dtype == np.float64
    return "float64" if is_small and device.type != "mps" else "float32"


def make_net(
    model,
    n_features,
    device,
    precision,
    *,
    perturbations,
    n_epochs,
    callbacks=(),
    learning_rate=None,
    epsilon_warmup=None,
):
    """Make and initialise a net with the parameters and `classes_` of a classifier."""
    optimizer = {"optimizer": torch.optim.Adam}
    if model.solver == "sgd":
        optimizer = {
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": model.momentum,
            "optimizer__nesterov": model.momentum > 0,
        }
    is_softmax = model.output_activation == "softmax"
    schedule = Schedule(learning_rate or model.learning_rate)
    net = AdversarialNet(
        MaxoutNet,
        module__n_features=n_features,
        module__n_classes=len(model.classes_),
        module__hidden_layer_sizes=tuple(model.hidden_layer_sizes),
        module__n_pieces=model.n_pieces,
        module__input_dropout=model.input_dropout,
        module__hidden_dropout=model.hidden_dropout,
        module__max_norm=model.max_norm,
        module__output_activation=model.output_activation,
        criterion=LogOddsCrossEntropy if is_softmax else SigmoidCrossEntropy,
        predict_nonlinearity="auto" if is_softmax else scaled_sigmoids,
        epsilon=perturbations,
        alpha=model.alpha,
        robust_loss=model.robust_loss,
        attack=model.attack,
        attack_params=model.attack_params,
        box_share=model.box_share,
        epsilon_warmup=model.epsilon_warmup if epsilon_warmup is None else epsilon_warmup,
        initialization="interval" if model.robust_loss == "certified" else None,
        precision=precision,
        **optimizer,
        # One pass over the memory of weights and moments instead of a dozen.
        optimizer__fused=True,
        lr=model.learning_rate_init,
        max_epochs=n_epochs,
        batch_size=model.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        classes=np.arange(len(model.classes_)),
        callbacks=[("schedule", schedule), *callbacks],
        callbacks__valid_acc=None,
        callbacks__valid_loss=None,
        **({} if model.verbose > 1 else {"callbacks__print_log": None}),
        compile=model.compile,
        device=device,
        verbose=max(model.verbose - 1, 0),
    ).initialize()
    net.keeps_batches_ = False
    return net


def make_callbacks(model, held_out, is_refit):
    """Make the callbacks of one training, in the order in which they are called."""
    stop = {"tol": model.tol, "n_iter_no_change": model.n_iter_no_change}
    callbacks = []
    if held_out is not None:
        stopping = RobustEarlyStopping(model.monitor, model.monitor_params, data=held_out, **stop)
        callbacks.append(("validation", stopping))
    elif not is_refit:
        callbacks.append(("plateau", Plateau(**stop)))
    callbacks.append(("guard", OverfittingGuard(data=held_out)))
    for k, callback in enumerate(model.callbacks or ()):
        if is_refit and isinstance(callback, Checkpoint):
            callback = copy.copy(callback)
            callback.path = refit_path(callback.path)
        callbacks.append((f"user{k}", callback))
    if model.verbose == 1:
        callbacks.append(("progress", Progress()))
    return callbacks


def continue_from(net, previous):
    """Copy the weights, the optimizer's state and the history of a previous net to a new one.

    The new net keeps its own optimizer settings. A different optimizer starts without state.
    """
    plain_module(net).load_state_dict(plain_module(previous).state_dict())
    old, new = previous.optimizer_.state_dict(), net.optimizer_.state_dict()
    settings = previous.optimizer_.defaults.keys()
    new["param_groups"] = [
        # Schedulers read entries that they added to a group, such as `initial_lr`.
        {key: group[key] for key in group.keys() - settings} | new_group
        for group, new_group in zip(old["param_groups"], new["param_groups"], strict=True)
    ]
    if net.optimizer is previous.optimizer:
        new["state"] = old["state"]
    net.optimizer_.load_state_dict(new)
    net.history.extend(previous.history)
