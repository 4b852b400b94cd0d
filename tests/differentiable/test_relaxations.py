"""Linear bounds against sampled points, attacks, intervals, and linear programs."""

import copy
import os

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable import Enclosure, enclose
from sk_adv.differentiable._relaxations import Relaxation, least_margins, relax, relaxed
from sk_adv.differentiable._transformers import Affine
from sk_adv.neural_network import Maxout, MaxoutNet

# Networks of each kind. SK_ADV_SEEDS=10 makes more than 200 of them, in both norms.
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
    shares = [check(kind, norm, seed) for seed in range(3 * N_SEEDS)]
    assert max(shares) <= 1 + 1e-9
