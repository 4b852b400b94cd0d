"""Doors of the nets that a user builds, and of their parts."""

import os

import numpy as np
import torch
from fuzz_doors import door
from fuzz_fits import LINEAR, MAXOUT, MONITOR, RANDOM_START, ROBUST, _one, _params
from fuzz_models import fitted
from fuzz_values import (
    FOLDER,
    INDICES,
    NORMAL,
    bounds,
    device,
    epsilon,
    indices,
    norm,
    samples,
    shift,
    weights,
)
from fuzz_watch import Call
from skorch.dataset import ValidSplit
from torch import nn

from sk_adv import neural_network


def _nets(draw):
    choices = {
        "epsilon": epsilon,
        "alpha": LINEAR["alpha"],
        "norm": norm,
        "bounds": bounds,
        "precision": MAXOUT["precision"],
        "attack": _one(["fgsm", "fgsm_rs", "pgd", "sign_noise", shift], ["zz", None, 3, "exact"]),
        "batch_size": _one([5, -1], [0, "a", 2.5, None]),
        "max_epochs": _one([1, 2], [0, -1, "a", 1.5]),
        "lr": _one([0.01], [0, np.nan, 1e300, "a", -1]),
        "criterion": _one([nn.CrossEntropyLoss], [nn.NLLLoss, nn.MSELoss, None, lambda z, y: 0]),
        "callbacks": _one([None, []], [3, [3], "a", "disable"]),
        "device": lambda draw: device(draw, "cpu"),
        "iterator_train__shuffle": _one([True, False], ["a"]),
    }
    relu = nn.ReLU(inplace=True)
    modules = [nn.Sequential(relu, nn.Linear(3, 3)), nn.Linear(3, 3), _Add(), _Pair()]
    modules += [nn.Sequential(nn.Linear(3, 3), nn.Dropout()), nn.Linear(3, 3).double()]
    odd = [
        nn.Linear(4, 3),
        nn.Linear,
        None,
        3,
        _Dict(),
        nn.Sequential(nn.Linear(3, 3), nn.Softmax(1)),
    ]
    odd += [
        torch.jit.script(nn.Sequential(nn.Linear(3, 3))),
        neural_network.MaxoutNet(3, 3, (2,), 2),
    ]
    params = {"max_epochs": 1, "verbose": 0, "train_split": None} | _params(draw, choices, 0.15)
    if draw.chance(0.5):
        params |= _params(draw, RANDOM_START, 0.7) | _params(draw, ROBUST, 0.6)
        params |= _params(draw, {"initialization": _one([None, "interval"], ["zz", 3, True])})
    if draw.chance(0.1):
        params.pop("train_split")
    return neural_network.AdversarialNet(draw.usual_or_odd(modules, odd), **params)


class _Add(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, X):
        return self.layer(X.add_(1))


class _Pair(_Add):
    def forward(self, X):
        return self.layer(X), X


class _Dict(_Add):
    def forward(self, X):
        return {"logits": self.layer(X)}


def _single(draw):
    """X and y for a net: in float32, mostly."""
    X, n = samples(draw)
    if draw.chance(0.6) and hasattr(X, "astype") and not hasattr(X, "columns"):
        kind = getattr(getattr(X, "dtype", None), "kind", "")
        X = X.astype(np.float32) if kind == "f" else X
    return X, indices(draw, n, draw.of(2, 3)), n


@door("neural_network.AdversarialNet.fit", 3)
def _(draw):
    X, y, n = _single(draw)
    args = (weights(draw, n),) if draw.chance(0.3) else ()
    # The weights of a net are drawn from torch's global state, as in skorch.
    return Call(_fit_net, _nets(draw), X, y, *args, changes_self=True, draws=("torch", "numpy"))


def _fit_net(model, *args):
    return model.fit(*args)


@door("neural_network.AdversarialNet.partial_fit", 1)
def _(draw):
    X, y, _ = _single(draw)
    model = _nets(draw)
    return Call(_partly, model, X, y, changes_self=True, draws=("torch", "numpy"))


def _partly(model, X, y):
    return model.partial_fit(X, y)


for _method in ("predict", "predict_proba", "score"):

    def _of_net(draw, method=_method):
        X, y, _n = _single(draw)
        args = (y,) if method == "score" else ()
        return Call(getattr(fitted("net", draw.of(2, 3)), method), X, *args)

    door(f"neural_network.AdversarialNet.{_method}", 0.7)(_of_net)


@door("neural_network.Checkpoint", 0.3)
def _(draw):
    path = os.path.join(FOLDER.name, "state.pt")
    path = draw.usual_or_odd([path], [3, None, "/zz/zz/zz.pt", FOLDER.name, ""])
    every = draw.usual_or_odd([1, 2], [0, "a", 1.5, None])
    resume = draw.usual_or_odd([False, True], ["a"])

    def train(path, every, resume):
        torch.manual_seed(0)
        part = neural_network.Checkpoint(path, every=every, resume=resume)
        net = neural_network.AdversarialNet(
            nn.Linear(3, 2), max_epochs=2, verbose=0, train_split=None, callbacks=[part]
        )
        return net.fit(NORMAL.astype(np.float32), np.arange(len(NORMAL)) % 2)

    return Call(train, path, every, resume, draws=("torch", "numpy"))


def _watched(draw, callback, **params):
    """A training of a net with a callback, on held-out samples or on all."""
    params["train_split"] = draw.of(None, *3 * [ValidSplit(2)])
    params |= {"attack": draw.of("fgsm_rs", "fgsm_rs", "fgsm", "pgd")} | _params(draw, ROBUST, 0.2)
    X, y, n = _single(draw)
    if draw.chance(0.6):
        X, y, n = NORMAL.astype(np.float32), INDICES[3], len(NORMAL)
    weight = weights(draw, n) if draw.chance(0.2) else None

    def train(callback, X, y, weight, **params):
        torch.manual_seed(0)
        net = neural_network.AdversarialNet(
            nn.Linear(3, 3), max_epochs=2, verbose=0, callbacks=[("own", callback)], **params
        )
        return net.fit(X, y, **({} if weight is None else {"sample_weight": weight}))

    return Call(train, callback, X, y, weight, draws=("torch", "numpy"), **params)


@door("neural_network.RobustEarlyStopping", 1)
def _(draw):
    params = _params(draw, MONITOR, 0.7)
    params["tol"] = draw.usual_or_odd([1e-4, 0], [-1, np.nan, "a", None, np.inf, -np.inf])
    params["n_iter_no_change"] = draw.usual_or_odd([10, 1], [0, -1, 2.5, "a", None])
    params["data"] = draw.usual_or_odd([None], [3, "a", NORMAL])
    return _watched(draw, neural_network.RobustEarlyStopping(**params))


@door("neural_network.OverfittingGuard", 1)
def _(draw):
    params = {
        "n_samples": draw.usual_or_odd([256, 4], [0, -1, 2.5, "a", None]),
        "share": draw.usual_or_odd([100.0, 0.05, 1], [0, -1, np.nan, "a", None, np.inf, 1e-320]),
        "data": draw.usual_or_odd([None], [3, "a", NORMAL]),
    }
    return _watched(draw, neural_network.OverfittingGuard(**params))


@door("neural_network.Maxout", 0.3)
def _(draw):
    odd = [0, -1, 2.5, "a", None]
    sizes = [draw.usual_or_odd([3], odd), *(draw.usual_or_odd([2], odd) for _ in range(2))]

    def call(*sizes):
        layer = neural_network.Maxout(*sizes)
        layer.constrain_weights(1.0)
        return layer(torch.zeros(4, 3))

    return Call(call, *sizes, draws=("torch",))


@door("neural_network.MaxoutNet", 0.3)
def _(draw):
    odd = [0, -1, 2.5, "a", None]
    share = [0.0, 0.5], [-1, 2, np.nan, "a", 1, None]
    kwargs = {
        "n_features": draw.usual_or_odd([3], odd),
        "n_classes": draw.usual_or_odd([2, 3], odd),
        "hidden_layer_sizes": MAXOUT["hidden_layer_sizes"](draw),
        "n_pieces": draw.usual_or_odd([2], odd),
        "input_dropout": draw.usual_or_odd(*share),
        "hidden_dropout": draw.usual_or_odd(*share),
        "max_norm": draw.usual_or_odd([None, 1.0], [0, -1, np.nan, "a"]),
        "output_activation": draw.usual_or_odd(["softmax", "sigmoid"], ["zz", None]),
    }

    def call(**kwargs):
        net = neural_network.MaxoutNet(**kwargs).eval()
        net.constrain_weights()
        return net.probabilities(net(torch.zeros(4, 3)))

    return Call(call, draws=("torch",), **kwargs)
