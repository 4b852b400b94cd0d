"""Fixtures for the tests of the attacks: modules, data and measures."""

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).double()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 8)), rng.integers(0, 3, size=50)


@pytest.fixture(name="linear_module")
def fixture_linear_module():
    """A function that makes a two-class linear module."""
    return linear_module


def linear_module(coef, intercept=0.0, dtype=torch.float64):
    module = nn.Linear(len(coef), 2).to(dtype)
    module.weight.data = torch.as_tensor(np.stack([0 * coef, coef])).to(dtype)
    module.bias.data = torch.tensor([0.0, intercept], dtype=dtype)
    return module


@pytest.fixture(name="radius_used")
def fixture_radius_used():
    """A function that computes the norm of the perturbations relative to the radius."""
    return radius_used


def radius_used(X, copies, epsilon, norm):
    scaled = (copies - X)[:, epsilon > 0] / epsilon[epsilon > 0]
    return np.linalg.norm(scaled, ord=norm, axis=1)
