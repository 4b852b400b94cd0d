"""Attacks on models whose gradient a clamp hides, against the known worst case."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from sk_adv import as_module
from sk_adv.attacks import auto, perturb, pgd
from sk_adv.attacks._clamps import through_clamps

N_FEATURES = 30


class Behind(nn.Module):
    """Two logits of a sum of clamped features; a sample of zeros is class 0 by a margin."""

    def __init__(self, weight, margin, clamp):
        super().__init__()
        self.clamp = clamp
        self.register_buffer("weight", weight)
        self.margin = margin

    def forward(self, X):
        values = self.clamp(X) @ self.weight
        # Not linear even without the clamp.
        return torch.stack([torch.zeros_like(values), (values - self.margin).sinh()], dim=1)


def problem(clamp):
    torch.manual_seed(0)
    weight = torch.rand(N_FEATURES, dtype=torch.float64) + 0.5
    low, high = clamp(torch.tensor([0.0, 1.0]).double())
    # At best each feature gains the whole way of the clamp; 95 % of it breaks the sample.
    margin = float(low * weight.sum() + 0.95 * (high - low) * weight.sum())
    return Behind(weight, margin, clamp), torch.zeros(4, N_FEATURES, dtype=torch.float64), [0] * 4


@pytest.mark.parametrize("clamp", [nn.Hardtanh(0.5, 0.7), nn.ReLU6()])
def test_gradients_behind_a_clamp_are_found(clamp):
    if isinstance(clamp, nn.ReLU6):
        clamp = nn.Sequential(clamp, nn.Hardtanh(0.5, 0.7))
    module, X, y = problem(clamp)
    params = {"bounds": (0, 1), "random_state": 0}
    found = auto(module, X, y, 1.0, n_queries=0, **params)
    assert (module(found).argmax(1) == 1).all()
    # Most features of a random start lie where the clamp has no gradient.
    assert (module(pgd(module, X, y, 1.0, **params)).argmax(1) == 0).all()


def test_an_activation_of_hidden_units_keeps_its_own_gradient():
    class Distance(nn.Module):
        """Two logits of how far features are from 0; near it all hidden units are off."""

        def __init__(self):
            super().__init__()
            self.act = nn.ReLU6()

        def forward(self, X):
            far = (self.act(X - 0.3) + self.act(-X - 0.3)).sum(1)
            return torch.stack([torch.zeros_like(far), far - 0.4 * N_FEATURES], dim=1)

    X = torch.zeros(4, N_FEATURES, dtype=torch.float64)
    found = auto(Distance(), X, [0] * 4, 1.0, n_queries=0, random_state=0)
    assert (Distance()(found).argmax(1) == 1).all()


def test_a_scaler_that_clips_hides_nothing():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, N_FEATURES))
    y = (X.sum(1) > N_FEATURES / 2).astype(int)
    model = make_pipeline(MinMaxScaler(clip=True), LogisticRegression(C=10)).fit(X, y)
    # Outside of the range of the data, where the scaler clips.
    outside = np.where(y[:, None] == 1, 1.3, -0.3) + 0 * X
    worst = np.clip(
        outside - np.sign(model[-1].coef_) * np.where(y == 1, 1, -1)[:, None] * 0.9, -5, 5
    )
    broken = model.predict(worst) != y
    assert broken.all()
    found = perturb(model, outside, y, epsilon=0.9, attack="auto", attack_params={"n_queries": 0})
    assert (model.predict(found) != y).all()


def test_the_twin_computes_the_same_and_the_module_stays_as_it_is():
    clamp = nn.Hardtanh(-0.5, 0.5)
    module = nn.Sequential(nn.Linear(6, 8), clamp, nn.Linear(8, 3))
    before = copy.deepcopy(module.state_dict())
    twin, X = through_clamps(module), torch.randn(20, 6, requires_grad=True)
    assert torch.equal(twin(X), module(X))
    assert not clamp._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    (found,) = torch.autograd.grad(twin(X).sum(), X)
    (expected,) = torch.autograd.grad(module[2](module[0](X)).sum(), X)
    torch.testing.assert_close(found, expected)


def test_a_clamp_may_be_given_its_input_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.clamp, self.last = nn.Hardtanh(0.2, 0.8), nn.Linear(6, 3)

        def forward(self, X):
            return self.last(self.clamp(input=X))

    module, X = Named(), torch.zeros(2, 6, requires_grad=True)
    (found,) = torch.autograd.grad(through_clamps(module)(X).sum(), X)
    torch.testing.assert_close(found, module.last.weight.sum(0).expand(2, 6))


def test_modules_without_a_clamp_that_hides_have_no_twin():
    assert through_clamps(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) is None
    assert through_clamps(nn.Hardtanh(inplace=True)) is None
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    model = make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, y)
    assert through_clamps(as_module(model)) is None
