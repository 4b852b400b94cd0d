"""Errors about parameters and data are raised before the first epoch, and say what to do."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from skorch.callbacks import EpochTimer
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from sk_adv.neural_network import AdversarialNet, Checkpoint, MaxoutNet, _classifier_data

X, Y = load_iris(return_X_y=True)
X_SINGLE = X.astype(np.float32)


def two_arguments(module, X):
    return X


def nothing(module, X, y, epsilon, *, norm, bounds):
    return None


def transposed(module, X, y, epsilon, *, norm, bounds):
    return X.T


CLASSIFIERS = {
    "early stopping": ({"early_stopping": True}, ValueError, "can't hold out.*0.1 of 6 samples"),
    "refit": ({"refit_full": True}, ValueError, "set early_stopping=True as well"),
    "tol": ({"tol": np.nan}, ValueError, "'tol' parameter.*Got nan"),
    "attack": ({"attack": two_arguments}, TypeError, r"but takes \(module, X\) \(two_arguments"),
    "parameters": (
        {"attack": nothing, "attack_params": {"steps": 3}},
        TypeError,
        "'nothing' takes attack_params with the names none; got.*steps",
    ),
    "no copies": ({"attack": nothing}, ValueError, r"shape of the batch, \(6, 4\).*None"),
    "copies": (
        {"attack": functools.partial(transposed)},
        ValueError,
        r"\(6, 4\); transposed returned a Tensor: torch.Size\(\[4, 6\]\)",
    ),
    "pair": ({"callbacks": [("timer", EpochTimer())]}, TypeError, "must hold instances.*tuple"),
    "other class": ({"callbacks": [dict]}, TypeError, "must hold instances of skorch.*dict"),
    "word": ({"callbacks": ["EpochTimer"]}, TypeError, "'EpochTimer' of type str"),
    "every": ({"callbacks": [Checkpoint("a", every=0)]}, ValueError, "every == 0, must be >= 1"),
    "folder": ({"callbacks": [Checkpoint(".")]}, ValueError, "path must name a file"),
    "no path": ({"callbacks": [Checkpoint(None)]}, TypeError, "path must be an instance of.*None"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_says_what_is_wrong_and_is_not_fitted(name, small):
    params, error, message = CLASSIFIERS[name]
    model = small(**params)
    with pytest.raises(error, match=message):
        model.fit(X[::25], Y[::25])
    assert not hasattr(model, "net_")


def test_data_that_fills_the_device_names_the_batch_size(small, monkeypatch):
    def full(X):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(_classifier_data, "to_tensor", full)
    with pytest.raises(MemoryError, match="lower batch_size=33"):
        small(batch_size=33).fit(X, Y)


def labelled(y):
    return {"X": TensorDataset(torch.from_numpy(X_SINGLE), torch.from_numpy(y)), "y": None}


NETS = {
    "epsilon": ({"epsilon": [0.1, 0.2]}, {}, ValueError, r"shape \(4,\); got shape \(2,\)"),
    "bounds": ({"bounds": ([0, 0], 1)}, {}, ValueError, r"low.*shape \(4,\); got shape \(2,\)"),
    "alpha": ({"alpha": "a"}, {}, ValueError, r"alpha must lie in \[0, 1\]; got 'a'"),
    "large alpha": ({"alpha": 1.5}, {}, ValueError, r"alpha must lie in \[0, 1\]; got 1.5"),
    "words": ({}, {"y": Y.astype(str)}, TypeError, "class indices from 0 up, not class names"),
    "floats": ({}, {"y": Y / 2}, ValueError, "integer class indices; got dtype"),
    "negative": ({}, {"y": Y - 1}, ValueError, "class indices from 0 up; got -1"),
    "too many": ({}, {"y": Y + 1}, ValueError, r"at least 4 classes for this y.*\(1, 3\)"),
    "too few": ({}, {"y": Y[:9]}, ValueError, r"y must have shape \(150,\)"),
    "precision": ({}, {"X": X}, TypeError, "X has dtype torch.float64, but the module has"),
    "features": ({}, {"X": X_SINGLE[:, 1:]}, ValueError, r"batches of shape \(1, 3\)"),
    "nothing": ({}, {"X": X_SINGLE[:0], "y": Y[:0]}, ValueError, "X holds no samples"),
    "device": ({"device": "cuda:99"}, {}, ValueError, "device='cuda:99' can't be used"),
    "no device": ({"device": "abacus"}, {}, ValueError, "device='abacus' can't be used"),
    "word": ({"callbacks": ["EpochTimer"]}, {}, TypeError, "'EpochTimer' of type str"),
    "criterion": ({"criterion": torch.nn.NLLLoss}, {}, ValueError, "CrossEntropyLoss"),
    "function": ({"criterion": cross_entropy}, {}, TypeError, "its class or an instance"),
    "reduction": ({"criterion__reduction": "none"}, {}, ValueError, "leave it at 'mean'"),
    "batch size": ({"batch_size": 0}, {}, ValueError, "batch_size == 0, must be >= 1"),
    "broken batch size": ({"batch_size": 1.5}, {}, TypeError, "batch_size must be an instance of"),
    "epochs": ({"max_epochs": 1.5}, {}, TypeError, "max_epochs must be an instance of"),
    "list": ({"attack_params": [1]}, {}, TypeError, r"attack_params must be a dict.*got \[1\]"),
    "dict": ({}, {"X": {"X": X_SINGLE}}, TypeError, "single array or tensor X.*got dict"),
    "frame": ({}, {"X": pd.DataFrame(X_SINGLE)}, TypeError, "got DataFrame.*to_numpy"),
    "float dataset": ({}, labelled(Y / 2), ValueError, "integer class indices"),
    "negative dataset": ({}, labelled(Y - 1), ValueError, "class indices from 0 up; got -1"),
    "large dataset": ({}, labelled(Y + 1), ValueError, r"from 0 to 2.*3 logits; got \[3\]"),
    "no batch": (
        {"iterator_train__drop_last": True, "batch_size": 200},
        {},
        ValueError,
        "There is no batch.*drop_last",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_says_what_is_wrong_before_the_first_epoch(name):
    params, data, error, message = NETS[name]
    net = AdversarialNet(torch.nn.Linear(4, 3), verbose=0, train_split=None, **params)
    data = {"X": X_SINGLE, "y": Y, **data}
    with pytest.raises(error, match=message):
        net.fit(**data)
    assert not getattr(net, "history", [])


def test_modules_and_callbacks_that_are_right_are_left_alone():
    class Converts(torch.nn.Linear):
        def forward(self, X, scale=None):
            return super().forward(X.float() if scale is None else scale * X.float())

    params = {"max_epochs": 1, "verbose": 0, "train_split": None}
    for callbacks in (None, "disable", [EpochTimer], [("timer", EpochTimer()), ("none", None)]):
        net = AdversarialNet(Converts, module__in_features=4, module__out_features=3, **params)
        net.set_params(callbacks=callbacks).fit(X, Y)
        net.partial_fit(X, Y, scale=2.0)
        assert len(net.history) == 2


def test_a_net_names_the_types_when_it_predicts_in_another_precision():
    net = AdversarialNet(torch.nn.Linear(4, 3), max_epochs=1, verbose=0).fit(X_SINGLE, Y)
    for predict in (net.predict, net.predict_proba):
        with pytest.raises(
            TypeError, match=r"X has dtype torch.float64, but the module has.*float32"
        ):
            predict(X)


@pytest.mark.parametrize("alpha", [0, 0.5])
def test_a_module_that_does_not_look_at_its_input_is_named(alpha):
    class Blind(torch.nn.Linear):
        def forward(self, X):
            return super().forward(X.detach())

    net = AdversarialNet(Blind(4, 3).requires_grad_(alpha > 0), alpha=alpha, verbose=0)
    with pytest.raises(TypeError, match="output does not depend on its input"):
        net.fit(X_SINGLE, Y)


def test_a_precision_that_is_set_too_late_asks_for_a_new_module():
    net = AdversarialNet(torch.nn.Linear, module__in_features=4, module__out_features=3, verbose=0)
    net.set_params(max_epochs=1).fit(X_SINGLE, Y).set_params(precision="float64")
    with pytest.raises(ValueError, match="call fit or initialize"):
        net.partial_fit(X, Y)
    assert len(net.fit(X, Y).history) == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_features": 0}, "n_features == 0, must be >= 1"),
        ({"n_classes": 0}, "n_classes == 0, must be >= 1"),
        ({"n_pieces": 0}, "n_pieces == 0, must be >= 1"),
        ({"hidden_layer_sizes": (8, 0)}, "n_units == 0, must be >= 1"),
        ({"max_norm": -1}, "max_norm == -1, must be > 0"),
    ],
)
def test_a_maxout_network_wants_sizes_and_norms_above_zero(params, message):
    with pytest.raises(ValueError, match=message):
        MaxoutNet(**{"n_features": 4, "n_classes": 3, **params})
