"""Interval bounds against sampled and enumerated perturbations."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.impute import SimpleImputer
from torch import nn

from sk_adv import as_module
from sk_adv.attacks import pgd
from sk_adv.differentiable import Enclosure, enclose
from sk_adv.differentiable._transformers import Affine
from sk_adv.neural_network import Maxout, MaxoutNet

NETWORKS = {
    "affine": lambda: nn.Sequential(nn.Linear(4, 6), nn.Identity(), nn.Linear(6, 3, bias=False)),
    "relu": lambda: nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.LeakyReLU(), nn.Linear(8, 3)
    ),
    "sigmoid": lambda: nn.Sequential(
        nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 3)
    ),
    "softplus": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.Softplus(), nn.Softsign(), nn.Linear(8, 3), nn.Hardtanh()
    ),
    "maxout": lambda: nn.Sequential(Maxout(4, 6, 3), Maxout(6, 5, 2), nn.Linear(5, 3)),
    "clamped": lambda: nn.Sequential(
        Affine(center=0.1, scale=torch.tensor([1.0, -2.0, 0.5, 3.0]), shift=0.2, limits=(-1, 1)),
        MaxoutNet(4, 3, (6,), 3),
        nn.LogSigmoid(),
    ),
}
EPSILON = torch.tensor([0.3, 0.1, 0.0, 0.5], dtype=torch.float64)


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


def samples(n_samples=20):
    return torch.randn(
        n_samples, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def perturbations(norm):
    """Points in units of the radius: corners of the box or points of the sphere, and inner ones."""
    if norm == np.inf:
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).double()
        return torch.cat([corners, 2 * torch.rand(300, 4).double() - 1])
    directions = nn.functional.normalize(torch.randn(400, 4).double())
    return directions * torch.rand(400, 1).double() ** 0.25


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("bounds", [None, (-1.0, 1.5)])
def test_no_perturbation_leads_out_of_the_intervals(network, norm, bounds):
    X = samples()
    low, high = enclose(network, Enclosure.around(X, EPSILON, norm, bounds=bounds)).limits()
    inside = X if bounds is None else X.clamp(*bounds)
    for step in perturbations(norm):
        copies = inside + EPSILON * step
        outputs = network(copies if bounds is None else copies.clamp(*bounds))
        assert ((low <= outputs) & (outputs <= high)).all()
    assert (high - low).max() < 20


@pytest.mark.parametrize("bounds", [None, (-1.0, 1.5)])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.Tanh(), Maxout(4, 3, 1)])
def test_bounds_of_one_layer_are_attained_at_corners(activation, bounds):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), activation).double()
    X = samples(10)
    inside = X if bounds is None else X.clamp(*bounds)
    corners = inside[:, None] + EPSILON * perturbations(np.inf)[:16]
    corners = corners if bounds is None else corners.clamp(*bounds)
    outputs = network(corners.flatten(0, 1)).unflatten(0, (10, 16))
    low, high = enclose(network, Enclosure.around(X, EPSILON, np.inf, bounds=bounds)).limits()
    torch.testing.assert_close(low, outputs.amin(1), atol=1e-12, rtol=0)
    torch.testing.assert_close(high, outputs.amax(1), atol=1e-12, rtol=0)


def test_euclidean_bounds_of_an_affine_layer_are_attained_along_its_weights():
    network = nn.Linear(4, 3).double()
    X = samples(5)
    _, high = enclose(network, Enclosure.around(X, EPSILON, 2)).limits()
    for k, row in enumerate(network.weight):
        step = EPSILON**2 * row / torch.linalg.vector_norm(EPSILON * row)
        torch.testing.assert_close(high[:, k], network(X + step)[:, k], atol=1e-12, rtol=0)


def test_euclidean_bounds_behind_a_clamp_are_those_of_a_ball():
    torch.manual_seed(0)
    network = nn.Sequential(Affine(limits=(-1, 1)), nn.Linear(4, 3)).double()
    X = samples(5).clamp(-0.5, 0.5)
    clamped = enclose(network, Enclosure.around(X, 0.3, 2)).limits()
    plain = enclose(network[1], Enclosure.around(X, 0.3, 2)).limits()
    torch.testing.assert_close(clamped, plain)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_who_leads_is_overtaken_by_no_attack(network, norm):
    X = samples(200)
    y = network(X).argmax(1)
    epsilon = 0.2 * EPSILON
    certain = enclose(network, Enclosure.around(X, epsilon, norm)).is_led_by(y)
    copies = pgd(network, X, y, epsilon, norm=norm, n_restarts=2, random_state=0)
    assert (network(copies).argmax(1) == y)[certain].all()
    # The bounds certify many samples, but not all.
    assert 0.3 < certain.double().mean() < 1


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("bounds", [None, (1.0, 2.0)])
def test_what_is_missing_is_filled_in_and_stays(norm, bounds):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    imputer = SimpleImputer(add_indicator=True).fit([[1.0, 2, 3, np.nan], [1, 2, 3, 4]])
    X = samples(6)
    X[:3, 3] = torch.nan
    found = enclose(
        nn.Sequential(as_module(imputer), network),
        Enclosure.around(X, EPSILON, norm, bounds=bounds),
    ).limits()
    missing = X.isnan()[:, 3:].double()
    filled = torch.cat([X.nan_to_num(4.0), missing], dim=1)
    for i, (x, is_missing) in enumerate(zip(filled, missing, strict=True)):
        epsilon = torch.cat([EPSILON, torch.zeros(1)])
        epsilon[3] *= 1 - is_missing.item()
        if bounds is not None:
            low, high = torch.full((5,), bounds[0]), torch.full((5,), bounds[1])
            low[4], high[4] = 0, 1
            if is_missing:
                high[3] = 4
            limits = (low.numpy(), high.numpy())
        region = Enclosure.around(x[None], epsilon, norm, bounds=None if bounds is None else limits)
        for end, expected in zip(found, enclose(network, region).limits(), strict=True):
            torch.testing.assert_close(end[i], expected[0])


def test_last_layer_is_bounded_on_differences_of_logits():
    # Both logits depend on the unit, but their difference is constant.
    network = nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[2].weight.fill_(5.0)
        network[2].bias.copy_(torch.tensor([0.0, 0.1]))
    region = enclose(network, Enclosure.around(samples(), 1.0, np.inf))
    low, high = region.limits()
    assert (low[:, 1] < high[:, 0]).any()
    assert region.is_led_by(torch.ones(20, dtype=torch.int64)).all()
    assert not region.is_led_by(torch.zeros(20, dtype=torch.int64)).any()


def test_what_rounding_can_overturn_is_not_certain():
    # Large terms that nearly cancel: in float32 the sum depends on the order of its terms.
    rng = np.random.default_rng(0)
    half = rng.normal(size=(1, 200)) * 1e3
    weight = torch.tensor(np.concatenate([half, -half], axis=1))
    X = torch.tensor(rng.normal(size=(300, 200)))
    X = torch.cat([X, X + 1e-7 * torch.randn(300, 200)], dim=1).float()
    module = nn.Linear(400, 2, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.cat([torch.zeros_like(weight), weight.float()]))
    y = module(X.double()).argmax(1)
    in_float32 = []
    for _ in range(20):
        order = torch.randperm(400)
        single = X[:, order] @ module.weight[:, order].float().T
        in_float32.append(single.argmax(1) == y)
    stable = torch.stack(in_float32).all(0)
    rounding = torch.finfo(torch.float32).eps
    region = Enclosure.around(X.double(), 0.0, np.inf, rounding=rounding)
    assert not enclose(module, region).is_led_by(y)[~stable].any()
    assert (~stable).any()
    # In float64 the order does not matter.
    assert enclose(module, Enclosure.around(X.double(), 0.0, np.inf)).is_led_by(y).all()


def test_a_long_sum_is_certain_only_as_far_as_single_precision_carries_it():
    n_features = 20_000
    terms = np.full(n_features, 0.1, dtype=np.float32)
    exact, one_by_one = terms.sum(dtype=np.float64), np.cumsum(terms)[-1]
    assert abs(one_by_one - exact) > 1e-5 * exact
    # Between them: which of the two classes leads depends on the precision.
    weight = np.stack([np.zeros(n_features), terms])
    bias = [(exact + one_by_one) / 2, 0.0]
    y = torch.tensor([int(exact > bias[0])])
    X = torch.ones(1, n_features).double()
    for dtype, is_certain in ((torch.float32, False), (torch.float64, True)):
        region = Enclosure.around(X, 0.0, np.inf, rounding=torch.finfo(dtype).eps)
        led = region.affine(torch.tensor(weight), torch.tensor(bias)).is_led_by(y)
        assert led.item() == is_certain


def test_modules_without_a_rule_are_named_until_they_have_one():
    class Cube(nn.Module):
        def forward(self, X):
            return X**3

    network = nn.Sequential(nn.Linear(4, 3).double(), Cube())
    region = Enclosure.around(samples(), 0.1, np.inf)
    with pytest.raises(TypeError, match=r"Cube.*enclose\.register\(Cube\)"):
        enclose(network, region)

    @enclose.register
    def _(module: Cube, region):
        low, high = region.limits()
        return region.between(module(low), module(high))

    low, high = enclose(network, region).limits()
    assert ((low <= network(samples())) & (network(samples()) <= high)).all()


def test_a_subclass_that_computes_something_else_has_no_bounds_of_its_parent():
    class Doubled(nn.Linear):
        def forward(self, X):
            return 2 * super().forward(X)

    class Renamed(nn.Linear):
        pass

    region = Enclosure.around(samples(), 0.1, np.inf)
    with pytest.raises(TypeError, match="Doubled"):
        enclose(nn.Sequential(Doubled(4, 3)), region)
    renamed = Renamed(4, 3).double()
    low, high = enclose(nn.Sequential(renamed), region).limits()
    torch.testing.assert_close((low + high) / 2, renamed(samples()))


def test_an_activation_that_falls_has_no_bounds():
    with pytest.raises(TypeError, match="negative_slope=-1"):
        enclose(nn.LeakyReLU(-1.0), Enclosure.around(samples(), 0.1, np.inf))
