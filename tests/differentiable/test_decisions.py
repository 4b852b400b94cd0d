"""Complete searches against every point of a fine grid, and against each other."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable import Enclosure, _decisions
from sk_adv.differentiable._branching import branch
from sk_adv.differentiable._decisions import decided
from sk_adv.differentiable._network_program import decide, layers_of_sample, root_of_sample
from sk_adv.differentiable._relaxations import relaxed
from sk_adv.differentiable._transformers import Affine
from sk_adv.neural_network import Maxout, MaxoutNet

# Networks of each kind. SK_ADV_SEEDS=20 makes 40 of each, in the norms that the search takes.
N_SEEDS = int(os.environ.get("SK_ADV_SEEDS", "1"))

NETWORKS = {
    "relu": lambda: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)),
    "deep": lambda: nn.Sequential(
        Affine(scale=2.0), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.LeakyReLU(0.1),
        nn.Linear(5, 2),
    ),
    "maxout": lambda: nn.Sequential(Maxout(2, 5, 3), Maxout(5, 4, 2), nn.Linear(4, 3)),
    "maxout net": lambda: MaxoutNet(2, 2, (6,), 4),
}  # fmt: skip


def network_of(kind, seed):
    torch.manual_seed(seed)
    network = NETWORKS[kind]().double().eval()
    for part in network.modules():
        if getattr(part, "weight", None) is not None:
            part.weight.data *= 3
    return network


def grid_of(X, allowed, n=161):
    """Points of each set, (n_points, n_samples, 2), with its corners and its rim."""
    axis = torch.linspace(-1, 1, n).double()
    steps = torch.cartesian_prod(axis, axis)
    if allowed.norm == 2:
        length = steps.norm(dim=1, keepdim=True)
        steps = torch.where(length > 1, steps / length, steps)
    clean = allowed.clip(X)
    return allowed.clip(clean + steps[:, None] * allowed.epsilon)


def least_of(network, points, y):
    """The least margin over all points and rivals."""
    values = network(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    own = values.gather(2, y[None, :, None].expand(len(points), -1, 1))
    rivals = values.masked_fill(nn.functional.one_hot(y, values.shape[2]).bool(), -torch.inf)
    return (own.squeeze(2) - rivals.amax(2)).amin(0)


@pytest.mark.parametrize("bounds", [None, (-0.8, 0.8)])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_proof_or_a_perturbation_is_found_as_every_point_says(kind, norm, bounds):
    n_open = 0
    for seed in range(N_SEEDS):
        network = network_of(kind, seed)
        X = torch.randn(12, 2).double()
        allowed = PerturbationSet.unchecked(torch.tensor([0.3, 0.2]).double(), norm, bounds)
        inside = allowed.clip(X)
        y = network(inside).argmax(1)
        found = decided(network, X, y, allowed, rounding=2**-52, time_limit=10)
        least = least_of(network, grid_of(X, allowed), y)
        assert (least[found.is_proved] > 0).all()
        has_point = ~np.isnan(found.perturbations).any(axis=1)
        assert not (has_point & found.is_proved).any()
        steps = torch.as_tensor(found.perturbations[has_point])
        assert (allowed.norm_of(steps) <= 1 + 1e-9).all()
        copies = inside[has_point] + steps
        assert (network(copies).argmax(1) != y[has_point]).all()
        is_open = ~has_point & ~found.is_proved
        n_open += is_open.sum()
        if norm == np.inf:
            assert not is_open.any()
    # Maxout in the Euclidean norm rests on bounds alone.
    if norm == np.inf or "maxout" not in kind:
        assert n_open == 0


@pytest.mark.parametrize("kind", ["relu", "deep"])
def test_the_program_and_the_branches_agree(kind):
    network = network_of(kind, 1)
    X = torch.randn(15, 2).double()
    y = network(X).argmax(1)
    with torch.no_grad():
        for i in range(len(X)):
            source = relaxed(network, Enclosure.around(X[i : i + 1], 0.25, np.inf))
            rival = int((y[i] + 1) % source.region.error.shape[1])
            direction = torch.zeros(source.region.error.shape[1]).double()
            direction[y[i]], direction[rival] = 1.0, -1.0
            is_proved, _ = decide(
                root_of_sample(source, 0),
                layers_of_sample(source, 0),
                int(y[i]),
                [rival],
                time_limit=10,
            )
            bound, point, _ = branch(
                source,
                direction,
                time_limit=10,
                is_broken=lambda steps, i=i, rival=rival: first_broken(
                    network, X[i] + steps, y[i], rival
                ),
            )
            assert is_proved == (bound > 0) == (point is None)


def first_broken(network, points, label, rival):
    values = network(points)
    wrong = values[:, label] <= values[:, rival]
    return int(wrong.int().argmax()) if wrong.any() else None


def test_convolutions_are_decided_by_branching(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2)
    ).double()
    X = torch.randn(10, 1, 3, 3).double()
    y = network(X).argmax(1)
    allowed = PerturbationSet.unchecked(torch.tensor(0.3).double(), np.inf, None)
    found = decided(network, X, y, allowed, rounding=2**-52, time_limit=10)
    has_point = ~np.isnan(found.perturbations).any(axis=1)
    assert (found.is_proved ^ has_point).all()
    assert 0 < found.is_proved.sum() < 10
    steps = torch.as_tensor(found.perturbations).reshape(X.shape)
    assert (network(X + steps).argmax(1) != y)[has_point].all()
    corners = (
        torch.cartesian_prod(*[torch.tensor([-0.3, 0.3])] * 9).double().reshape(-1, 1, 1, 3, 3)
    )
    for x, label, proof in zip(X, y, found.is_proved, strict=True):
        if proof:
            assert (network(x + corners[:, 0]).argmax(1) == label).all()


def test_without_time_a_sample_stays_open():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2)
    ).double()
    X = torch.randn(4, 10).double()
    y = network(X).argmax(1)
    for norm in (np.inf, 2):
        allowed = PerturbationSet.unchecked(torch.tensor(0.5).double(), norm, None)
        found = decided(network, X, y, allowed, rounding=2**-52, time_limit=1e-6)
        assert not found.is_proved.all()


def test_networks_that_bend_smoothly_rest_on_bounds(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    X = torch.randn(20, 2).double()
    y = network(X).argmax(1)
    allowed = PerturbationSet.unchecked(torch.tensor(0.2).double(), np.inf, None)
    monkeypatch.setattr(_decisions, "branch", None)
    monkeypatch.setattr(_decisions, "decide", None)
    found = decided(network, X, y, allowed, rounding=2**-52, time_limit=10)
    assert found.is_proved.any()
    assert np.isnan(found.perturbations).all()
