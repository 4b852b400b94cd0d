"""Interval bounds for training against corners of boxes, random points and finite differences."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable import Enclosure, enclose
from sk_adv.differentiable._boxes import Box, worst_logits
from sk_adv.neural_network import Maxout, MaxoutNet

NETWORKS = {
    "ReLU": lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)),
    "tanh": lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)),
    "maxout": lambda: MaxoutNet(6, 4, hidden_layer_sizes=(7, 5), n_pieces=3),
    "batch norm": lambda: nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.LeakyReLU(), nn.Linear(9, 4)
    ),
    "clamp": lambda: nn.Sequential(
        nn.Hardtanh(-0.5, 0.5), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 4)
    ),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(9, 4),
    ),
    "no linear end": lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh()),
    "linear": lambda: nn.Linear(6, 4),
}
NORMS = [np.inf, 2]


def problem(name, norm, bounds=None):
    torch.manual_seed(0)
    module = NETWORKS[name]().double()
    if name == "batch norm":
        module(torch.randn(50, 6, dtype=torch.float64))
    if name == "convolution":
        # `enclose` knows no Unflatten; the samples come as signals of one channel.
        module = module[1:]
    X = torch.randn(20, 6, dtype=torch.float64)
    y = torch.randint(0, 4, (20,))
    perturbations = PerturbationSet(torch.linspace(0.05, 0.3, 6).double(), norm, bounds)
    return module.eval(), X[:, None] if name == "convolution" else X, y, perturbations


@pytest.mark.parametrize("bounds", [None, (-0.8, 0.9)])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_random_point_of_the_set_has_a_larger_margin(name, norm, bounds):
    module, X, y, allowed = problem(name, norm, bounds)
    X = allowed.clip(X)
    worst = worst_logits(module, Box.of(X, allowed), y)
    assert (worst.gather(1, y[:, None]) == 0).all()
    generator = torch.Generator().manual_seed(0)
    for draw in (allowed.uniform_sample, allowed.sign_sample):
        for _ in range(200):
            steps = draw(X.shape, generator=generator, dtype=X.dtype)
            logits = module(allowed.clip(X + steps))
            assert (logits - logits.gather(1, y[:, None]) <= worst + 1e-12).all()


def test_logits_that_are_not_compared_have_ends_of_their_own():
    module, X, y, allowed = problem("ReLU", np.inf)
    worst = worst_logits(module, Box.of(X, allowed), y, by_margins=False)
    low, high = enclose(module, Enclosure.of(X, allowed)).limits()
    own = nn.functional.one_hot(y, 4).bool()
    torch.testing.assert_close(worst, torch.where(own, low, high), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_margins_of_a_linear_module_are_those_of_the_worst_perturbation(norm):
    module, X, y, allowed = problem("linear", norm)
    worst = worst_logits(module, Box.of(X, allowed), y)
    if norm == np.inf:
        steps = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6))).double()
        steps = steps.expand(20, 4, 64, 6)
    else:
        # The worst step is parallel to the gradient of the margin, in the metric of the radii.
        rows = module.weight - module.weight[y][:, None]
        steps = allowed.epsilon * rows
        steps = (steps / steps.norm(dim=2, keepdim=True).clamp(min=1e-12))[:, :, None]
    logits = module(X[:, None, None] + allowed.epsilon * steps)
    margins = logits - logits.gather(3, y[:, None, None, None].expand(*logits.shape[:3], 1))
    k = torch.arange(4)
    expected = margins[:, k, :, k].amax(2).T
    torch.testing.assert_close(worst, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_limits_are_those_of_the_enclosure_without_its_rounding(name, norm):
    module, X, _, allowed = problem(name, norm)
    found = enclose(module, Box.of(X, allowed)).limits()
    region = enclose(module, Enclosure.of(X, allowed, rounding=0.0))
    for end, expected in zip(found, region.limits(), strict=True):
        torch.testing.assert_close(end.expand_as(expected), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_samples", [2, 30])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["ReLU", "maxout", "batch norm", "no linear end", "convolution"])
def test_gradients_on_the_weights_are_those_of_finite_differences(name, norm, n_samples):
    module, X, y, allowed = problem(name, norm)
    X, y = X.repeat(2, *[1] * (X.ndim - 1))[:n_samples], y.repeat(2)[:n_samples]
    weights = dict(module.named_parameters())

    def loss(*values):
        names = dict(zip(weights, values, strict=True))
        # `functional_call` swaps the parameters of the module, whose layers the bounds read.
        with torch.nn.utils.stateless._reparametrize_module(module, names):
            return nn.functional.cross_entropy(worst_logits(module, Box.of(X, allowed), y), y)

    assert torch.autograd.gradcheck(loss, tuple(weights.values()))


def test_a_layer_of_its_own_is_bounded_by_its_own_rule():
    class Double(nn.Module):
        def forward(self, X):
            return 2 * X

    @enclose.register
    def _(module: Double, region):
        low, high = region.limits()
        return region.between(2 * low, 2 * high)

    torch.manual_seed(0)
    linear, X = nn.Linear(6, 4), torch.randn(5, 6)
    allowed = PerturbationSet(0.1, np.inf, None)
    double, single = (
        enclose(module, Box.of(X, allowed)).limits()
        for module in (nn.Sequential(linear, Double()), linear)
    )
    torch.testing.assert_close(double[0], 2 * single[0])
    torch.testing.assert_close(double[1], 2 * single[1])


def test_maxout_is_bounded_by_its_pieces():
    layer, X = Maxout(2, 1, n_pieces=2), torch.zeros(1, 2)
    layer.weight.data = torch.tensor([[[1.0, 0.0]], [[0.0, -2.0]]])
    layer.bias.data = torch.tensor([[0.0], [0.5]])
    low, high = enclose(layer, Box.of(X, PerturbationSet(1.0, np.inf, None))).limits()
    # The pieces lie in [-1, 1] and in [-1.5, 2.5].
    assert (low.item(), high.item()) == (-1.0, 2.5)
