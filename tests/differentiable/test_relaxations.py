"""Linear bounds against sampled points, attacks, intervals, and linear programs."""

import copy
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable import Enclosure, _relaxations, enclose
from sk_adv.differentiable._relaxation_rules import Lines
from sk_adv.differentiable._relaxations import Source, least_margins, relax, relaxed
from sk_adv.differentiable._transformers import Affine
from sk_adv.neural_network import Maxout, MaxoutNet

# Networks of each kind. SK_ADV_SEEDS=4 makes 12 of each, in both norms.
N_SEEDS = int(os.environ.get("SK_ADV_SEEDS", "1"))
N_POINTS = 10_000 if N_SEEDS > 1 else 1_000
IMAGES = (2, 6, 5)


def dense(activation):
    return lambda: nn.Sequential(
        nn.Linear(5, 9), activation(), nn.Linear(9, 8), activation(), nn.Linear(8, 3)
    )


NETWORKS = {
    "relu": dense(nn.ReLU),
    "leaky relu": dense(lambda: nn.LeakyReLU(0.2)),
    "steep relu": dense(lambda: nn.LeakyReLU(1.5)),
    "tanh": dense(nn.Tanh),
    "sigmoid": dense(nn.Sigmoid),
    "softsign": dense(nn.Softsign),
    "softplus": dense(nn.Softplus),
    "hard tanh": dense(nn.Hardtanh),
    "narrow": lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1), nn.Tanh(),
                                    nn.Linear(1, 3)),
    "two pieces": lambda: MaxoutNet(5, 3, (7, 6), 2),
    "five pieces": lambda: nn.Sequential(Maxout(5, 6, 5), Maxout(6, 5, 4), nn.Linear(5, 3)),
    "one piece": lambda: nn.Sequential(Maxout(5, 6, 1), Maxout(6, 3, 3)),
    "batch norm": lambda: nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 6, bias=False),
        nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Linear(6, 3),
    ),
    "clamped": lambda: nn.Sequential(
        Affine(center=0.1, scale=torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0]), limits=(-1, 1)),
        nn.Sequential(nn.Linear(5, 8), nn.ReLU()), nn.Linear(8, 3),
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2, stride=2),
        nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 3),
    ),
    "largest of windows": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.LeakyReLU(0.1), nn.MaxPool2d(2, padding=1), nn.Tanh(),
        nn.Conv2d(4, 4, (2, 1), bias=False), nn.MaxPool2d((1, 2), stride=1), nn.Flatten(),
        nn.Linear(8, 3),
    ),
    "one axis": lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.AvgPool1d(2),
        nn.Conv1d(4, 2, 3, padding="same"), nn.Sigmoid(), nn.Flatten(), nn.Linear(2, 3),
    ),
}  # fmt: skip
SHAPES = {"convolutions": IMAGES, "largest of windows": IMAGES, "one axis": (2, 7)}


def network_of(kind, seed):
    """A network whose weights are larger than at random, so that its units bend."""
    torch.manual_seed(seed)
    network = NETWORKS[kind]().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 2)
            part.weight.data.normal_()
            part.bias.data.normal_()
        elif getattr(part, "weight", None) is not None:
            part.weight.data *= 2
    return network


def points_of(X, allowed, n_points):
    """Random points of each sample's set, many of them at its ends, (n_points, n_samples, ...)."""
    norm = allowed.norm
    shape = (n_points, *X.shape)
    if norm == np.inf:
        steps = 2 * torch.rand(shape).to(X) - 1
        steps[: n_points // 2] = steps[: n_points // 2].sign()
    else:
        steps = torch.randn(shape).to(X)
        steps /= steps.flatten(2).norm(dim=2).reshape(*shape[:2], *[1] * (X.ndim - 1))
        steps[n_points // 2 :] *= (
            torch.rand(n_points - n_points // 2, 1).to(X).reshape(-1, *[1] * X.ndim)
        )
    return allowed.clip(allowed.clip(X) + steps * allowed.epsilon)


def attacked(network, X, y, allowed, n_steps=30):
    """Copies at which signed or normalised gradient steps make each margin small, and margins."""
    clean = allowed.clip(X)
    for rival in range(3):
        copies = points_of(X, allowed, 1)[0].requires_grad_()
        for i in range(n_steps):
            logits = network(copies)
            margin = logits.gather(1, y[:, None]).squeeze(1) - logits[:, rival]
            (gradient,) = torch.autograd.grad(margin.sum(), copies)
            step = allowed.step(-gradient) * 0.5 * 0.9**i
            copies = allowed.clip(clean + allowed.project(copies.detach() + step - clean))
            copies.requires_grad_()
        yield rival, copies.detach()


def check(kind, norm, seed):
    network = network_of(kind, seed)
    dtype = torch.float32 if seed % 2 else torch.float64
    network, double = network.to(dtype), copy.deepcopy(network).to(dtype).double()
    shape = SHAPES.get(kind, (5,))
    X = torch.randn(4, *shape).to(dtype)
    y = network(X).argmax(1)
    epsilon = torch.rand(shape).double() * (torch.rand(shape) > 0.2)
    epsilon *= [0.03, 0.3, 1.0][seed % 3] * (1 if norm == np.inf else 2)
    bounds = (-0.5, 1.0) if seed % 4 > 1 else None
    allowed = PerturbationSet.unchecked(epsilon, norm, bounds)
    rounding = torch.finfo(dtype).eps
    region = Enclosure.of(X.double(), allowed, rounding=rounding)
    allowed = allowed.to(dtype=dtype)

    loose = enclose(double, region).limits()
    margins, ends = [], []
    for n_iter in (0, 5):
        source = relaxed(double, region, n_iter=n_iter)
        margins.append(least_margins(source, y))
        ends.append(source.limits())
    (low, high), (lower, upper) = ends
    assert (low >= loose[0] - 1e-9).all()
    assert (high <= loose[1] + 1e-9).all()
    low, high = torch.maximum(low, lower), torch.minimum(high, upper)
    least = torch.maximum(*margins)

    copies = points_of(X, allowed, N_POINTS).flatten(0, 1)
    outputs = network(copies).unflatten(0, (N_POINTS, 4)).double()
    assert (low <= outputs).all()
    assert (outputs <= high).all()
    own = outputs.gather(2, y[None, :, None].expand(N_POINTS, -1, 1))
    assert (least.masked_fill(least.isinf(), 0) <= own - outputs).all()
    for rival, copies in attacked(network, X, y, allowed):
        outputs = network(copies).double()
        margin = outputs.gather(1, y[:, None]).squeeze(1) - outputs[:, rival]
        assert (least[:, rival].masked_fill(y == rival, 0) <= margin).all()
    return (high - low).mean() / (loose[1] - loose[0]).mean()


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", NETWORKS)
def test_no_point_and_no_attack_lies_outside_of_the_bounds(kind, norm):
    first = list(NETWORKS).index(kind)
    seeds = [first] if N_SEEDS == 1 else range(3 * N_SEEDS)
    assert max(check(kind, norm, seed) for seed in seeds) <= 1 + 1e-9


def one_hidden_layer(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    network[0].weight.data *= 3
    return network, torch.randn(1, 4).double()


def test_optimised_slopes_reach_the_linear_program_of_the_relaxation():
    # With one hidden layer the limits of its units are exact, and the best slopes are its dual.
    for seed in range(3):
        network, X = one_hidden_layer(seed)
        region = Enclosure.around(X, 0.4, np.inf)
        with torch.no_grad():
            low, high = (end[0].numpy() for end in enclose(network[0], region).limits())
            found = [
                least_margins(relaxed(network, region, n_iter=n_iter), torch.tensor([1]))[0, 0]
                for n_iter in (0, 100)
            ]
            interval = enclose(network, region)
            (gap, gain, _), *_ = interval.rivals(torch.tensor([1]))
        W, b = (value.detach().numpy() for value in (network[0].weight, network[0].bias))
        v = (network[2].weight[1] - network[2].weight[0]).detach().numpy()
        c = (network[2].bias[1] - network[2].bias[0]).item()
        # Of the variables x and r: r >= 0, r >= W x + b, r <= the chord.
        slope = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, high / (high - low)))
        shift = np.where((low < 0) & (high > 0), -slope * low, 0.0)
        A = np.block([[W, -np.eye(12)], [-slope[:, None] * W, np.eye(12)]])
        limits = np.concatenate([-b, slope * b + shift])
        x = X[0].numpy()
        ends = [*zip(x - 0.4, x + 0.4, strict=True), *[(0, None)] * 12]
        best = linprog(np.concatenate([np.zeros(4), v]), A, limits, bounds=ends).fun + c
        assert -float(gap + gain) < found[0] < best
        assert best - 0.01 * abs(best - found[0]) - 1e-6 <= found[1] <= best + 1e-9


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid(), nn.Softsign(), nn.LeakyReLU(0.3)])
def test_lines_enclose_an_activation_between_its_limits(activation):
    ends = torch.randn(2, 500, 1).double() * torch.tensor([0.01, 1, 10]).repeat(167)[:500, None]
    ends[:, :3] = torch.tensor([0.0, 1.0, -1e-17])[:, None]
    low, high = ends.amin(0), ends.amax(0)
    box = Enclosure.around((low + high) / 2, torch.zeros(()), np.inf)
    box = replace(box, radius=(high - low) / 2)
    step = relax(activation, Source(box, [], box))
    share = torch.linspace(0, 1, 200).double()
    points = box.centre + (2 * share - 1) * box.radius
    values = activation(points)
    for sign in (1.0, -1.0):
        coef, constant = step.back(torch.full((1, 1, 1), sign).double())
        line = coef[:, 0] * points + constant
        assert (line - step.error <= sign * values).all()


@pytest.mark.parametrize("n_pieces", [2, 3, 5])
def test_lines_enclose_a_maximum_and_pieces_that_always_lead_are_exact(n_pieces):
    torch.manual_seed(n_pieces)
    layer = Maxout(3, 6, n_pieces).double()
    with torch.no_grad():
        layer.bias[1, 0] += 10
    X = torch.randn(8, 3).double()
    region = Enclosure.around(X, 0.5, np.inf)
    step = relax(layer, Source(region, [], region))
    points = (X + (2 * torch.rand(500, 8, 3) - 1)).double()
    points = X + 0.5 * (points - X)
    values = layer(points.flatten(0, 1)).unflatten(0, (500, 8))
    eye = torch.eye(6)[None].double()
    weights = torch.rand(8, 6, 6, n_pieces).double()
    for alpha in (None, weights):
        for sign in (1.0, -1.0):
            coef, constant = step.back(sign * eye, alpha)
            line = torch.einsum("nud,pnd->pnu", coef, points) + constant
            assert (line - step.error <= sign * values).all()
            torch.testing.assert_close(line[..., 0], sign * values[..., 0])


def test_parts_of_the_rows_give_the_same_bounds(monkeypatch):
    network = network_of("largest of windows", 0).double()
    X = torch.randn(3, *IMAGES).double()
    region = Enclosure.around(X, 0.1, np.inf)
    whole = relaxed(network, region).limits()
    monkeypatch.setattr(_relaxations, "_MOST_NUMBERS", 500)
    for ends in zip(whole, relaxed(network, region).limits(), strict=True):
        torch.testing.assert_close(*ends)
    # Beyond what is affordable, intervals bound the units, and the outputs have no linear bounds.
    monkeypatch.setattr(_relaxations, "_MOST_NUMBERS_OF_A_LAYER", 1)
    loose = relaxed(network, region).limits()
    for ends in zip(loose, enclose(network, region).limits(), strict=True):
        torch.testing.assert_close(*ends)


def test_a_layer_of_the_users_own_has_intervals_until_it_has_a_rule():
    class Square(nn.Module):
        def forward(self, X):
            return X**2

    @enclose.register
    def _(module: Square, region):
        low, high = region.limits()
        most = torch.maximum(low**2, high**2)
        least = torch.where((low < 0) & (high > 0), 0.0, torch.minimum(low**2, high**2))
        return region.between(least, most)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), Square(), nn.Linear(5, 2)).double()
    region = Enclosure.around(torch.randn(5, 4).double(), 0.3, np.inf)
    loose = relaxed(network, region).limits()

    @relax.register
    def _(module: Square, source):
        low, high = source.limits()
        middle = (low + high) / 2
        # The tangent below, the chord above.
        lines = (2 * middle, -(middle**2)), (low + high, -low * high)
        return Lines(*lines, 1e-14 * (1 + torch.maximum(low**2, high**2)))

    tight = relaxed(network, region).limits()
    assert (tight[1] - tight[0]).mean() < 0.9 * (loose[1] - loose[0]).mean()
    points = region.centre + 0.3 * (2 * torch.rand(1000, 5, 4).double() - 1)
    values = network(points)
    assert (tight[0] <= values).all()
    assert (values <= tight[1]).all()


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False)])
def test_batch_norm_that_sees_the_batch_has_no_bounds(layer):
    region = Enclosure.around(torch.zeros(2, 3).double(), 0.1, np.inf)
    layer.train(layer.running_mean is not None)
    with pytest.raises(TypeError, match="evaluation mode"):
        relaxed(nn.Sequential(layer.double()), region)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_logits_of_a_network_of_two_layers_are_twelve_times_as_tight_as_by_intervals(seed):
    X = torch.tensor(scale(load_breast_cancer().data[::5]))
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 2)
    ).double()
    region = Enclosure.around(X, 0.05, np.inf)
    with torch.no_grad():
        widths = [
            (high - low).mean()
            for low, high in (enclose(network, region).limits(), relaxed(network, region).limits())
        ]
    # auto_LiRPA's CROWN gives 0.063 where intervals give 0.743.
    assert widths[1] < min(0.065, widths[0] / 11.8)
