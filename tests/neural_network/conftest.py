"""Fixtures for the tests of networks: data, small networks, and their weights."""

import pytest
import torch
from sklearn.datasets import load_digits

from sk_adv import AdversarialMaxoutClassifier


@pytest.fixture(scope="package")
def digits():
    """600 pictures with pixels from 0 to 1, and their labels."""
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


@pytest.fixture(scope="package")
def small():
    """A function that makes an unfitted classifier that trains quickly."""
    return make_small


@pytest.fixture(scope="package")
def weights():
    """A function that copies the state of a net, or of the net of a fitted classifier."""
    return copy_weights


@pytest.fixture(scope="package")
def are_equal():
    """A function that tells whether two states are the same bit for bit."""
    return are_equal_states


@pytest.fixture(scope="package")
def early():
    """Parameters of a fit with early stopping, a second training and dropout."""
    return {
        "early_stopping": True,
        "refit_full": True,
        "n_iter_no_change": 3,
        "input_dropout": 0.2,
        "hidden_dropout": 0.5,
        "max_iter": 24,
    }


def make_small(**params):
    return AdversarialMaxoutClassifier(
        **{"hidden_layer_sizes": (16,), "n_pieces": 2, "random_state": 0, "max_iter": 5} | params
    )


def copy_weights(model):
    net = getattr(model, "net_", model)
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def are_equal_states(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
