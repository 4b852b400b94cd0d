"""Attacks against closed forms, brute force and the definition of the perturbation set."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sk_adv.attacks import (
    fgsm,
    log_odds_against,
    pgd,
    rotate_towards_gradient,
    sign_noise,
    uniform_noise,
)

NORMS = [np.inf, 2]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).double()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 8)), rng.integers(0, 3, size=50)


def linear_module(coef, intercept=0.0, dtype=torch.float64):
    module = nn.Linear(len(coef), 2).to(dtype)
    module.weight.data = torch.as_tensor(np.stack([0 * coef, coef])).to(dtype)
    module.bias.data = torch.tensor([0.0, intercept], dtype=dtype)
    return module


def cross_entropy(module, X, y):
    logits = module(torch.as_tensor(X))
    return nn.functional.cross_entropy(logits, torch.as_tensor(y), reduction="none").detach()


def radius_used(X, copies, epsilon, norm):
    scaled = (copies - X)[:, epsilon > 0] / epsilon[epsilon > 0]
    return np.linalg.norm(scaled, ord=norm, axis=1)


def test_log_odds_is_the_inverse_softplus_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits = torch.as_tensor(rng.normal(size=(20, 5)))
    y = torch.as_tensor(rng.integers(0, 5, size=20))
    expected = nn.functional.cross_entropy(logits, y, reduction="none")
    found = nn.functional.softplus(log_odds_against(logits, y))
    torch.testing.assert_close(found, expected)


def test_no_corner_of_the_box_is_worse_than_fgsm_on_a_linear_model():
    rng = np.random.default_rng(0)
    coef, X, y = rng.normal(size=8), rng.normal(size=(5, 8)), rng.integers(0, 2, size=5)
    epsilon = rng.uniform(0.1, 0.5, size=8)
    module = linear_module(coef, 0.3)
    found = cross_entropy(module, fgsm(module, X, y, epsilon), y)
    corners = epsilon * np.array(list(itertools.product([-1, 1], repeat=8)))
    for i in range(5):
        worst = cross_entropy(module, X[i] + corners, np.full(256, y[i])).max()
        assert found[i] == pytest.approx(float(worst), rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_follows_the_gradient_found_by_finite_differences(network, data, norm):
    X, y = data
    epsilon = np.linspace(0, 0.7, 8)
    gradient = np.empty_like(X)
    for j in range(8):
        shift = 1e-6 * np.eye(8)[j]
        gradient[:, j] = cross_entropy(network, X + shift, y) - cross_entropy(network, X - shift, y)
    if norm == 2:
        length = np.linalg.norm(epsilon * gradient, axis=1, keepdims=True)
        expected = X + epsilon**2 * gradient / length
    else:
        expected = X + epsilon * np.sign(gradient)
    np.testing.assert_allclose(fgsm(network, X, y, epsilon, norm=norm), expected, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_exact_where_probabilities_round_to_one_in_float32(norm):
    # With a margin of 60 the float32 cross-entropy has a zero gradient.
    coef = np.array([3.0, -2.0, 1.0])
    module = linear_module(coef, 60.0, torch.float32)
    X = np.zeros((1, 3))
    assert cross_entropy(module, X.astype(np.float32), [1]) == 0
    direction = np.sign(coef) if norm == np.inf else coef / np.linalg.norm(coef)
    copies = fgsm(module, X, [1], 0.5, norm=norm)
    np.testing.assert_allclose(copies, [-0.5 * direction], rtol=1e-6)


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize("norm", NORMS)
def test_copies_stay_within_radius_and_bounds(network, data, attack, norm):
    X, y = data
    X = X.clip(-1, 1)
    epsilon = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0])
    bounds = (np.full(8, -1.0), 1)
    copies = attack(network, X, y, epsilon, norm=norm, bounds=bounds)
    assert radius_used(X, copies, epsilon, norm).max() <= 1 + 1e-12
    assert np.array_equal(copies[:, epsilon == 0], X[:, epsilon == 0])
    assert copies.min() >= -1 and copies.max() <= 1


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_and_zero_radius_give_no_perturbation(network, data, attack, norm):
    X, y = data
    params = {"random_start": False} if attack is pgd else {}
    constant = linear_module(np.zeros(8))
    np.testing.assert_array_equal(attack(constant, X, y % 2, 0.5, norm=norm, **params), X)
    np.testing.assert_array_equal(attack(network, X, y, 0.0, norm=norm), X)


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_gradients_give_full_steps(norm):
    module = linear_module(np.array([3e-30, -4e-30]), dtype=torch.float32)
    copies = fgsm(module, np.zeros((1, 2)), [1], 1.0, norm=norm)
    np.testing.assert_allclose(copies, [[-1, 1]] if norm == np.inf else [[-0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_with_one_full_step_is_fgsm(network, data, norm):
    X, y = data
    one_step = pgd(network, X, y, 0.3, norm=norm, n_steps=1, step_size=0.3, random_start=False)
    np.testing.assert_allclose(one_step, fgsm(network, X, y, 0.3, norm=norm), atol=1e-15)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_finds_the_worst_case_of_a_linear_model_from_any_start(norm):
    rng = np.random.default_rng(1)
    coef, X, y = rng.normal(size=8), rng.normal(size=(10, 8)), rng.integers(0, 2, size=10)
    module = linear_module(coef)
    exact = cross_entropy(module, fgsm(module, X, y, 0.3, norm=norm), y)
    copies = pgd(module, X, y, 0.3, norm=norm, step_size=0.3, random_state=0)
    torch.testing.assert_close(cross_entropy(module, copies, y), exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_never_lower_the_loss(network, data, norm):
    X, y = data
    losses = [
        cross_entropy(network, pgd(network, X, y, 2.0, norm=norm, n_restarts=n, random_state=0), y)
        for n in (1, 5)
    ]
    assert (losses[1] >= losses[0] - 1e-12).all()
    assert losses[1].sum() > losses[0].sum()


def test_pgd_is_reproducible_and_leaves_the_global_random_state(network, data):
    X, y = data
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    copies = [pgd(network, X, y, 0.3, n_steps=2, random_state=seed) for seed in (0, 0, 1)]
    assert torch.rand(1) == expected
    assert np.array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])


def test_random_starts_fill_the_euclidean_ball_evenly():
    # A module without a gradient leaves PGD at its random start.
    constant = linear_module(np.zeros(3))
    X = np.zeros((20_000, 3))
    starts = pgd(constant, X, np.zeros(len(X), int), [0.5, 2.0, 0.0], norm=2, random_state=0)
    # In a disc the squared radius is uniform, and so is the angle.
    scaled = starts[:, :2] / [0.5, 2.0]
    squared = (scaled**2).sum(1)
    angle = np.arctan2(scaled[:, 1], scaled[:, 0]) / (2 * np.pi) + 0.5
    for sample in (squared, angle):
        counts, _ = np.histogram(sample, bins=10, range=(0, 1))
        # Five standard deviations of a binomial count.
        assert abs(counts - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_batches_do_not_change_fgsm(network, data):
    X, y = data
    np.testing.assert_allclose(
        fgsm(network, X, y, 0.3, batch_size=7), fgsm(network, X, y, 0.3), rtol=1e-12
    )


def test_result_is_of_the_kind_of_its_input(network, data):
    X, y = data
    assert isinstance(fgsm(network, X, y, 0.1), np.ndarray)
    assert isinstance(fgsm(network, torch.as_tensor(X), torch.as_tensor(y), 0.1), torch.Tensor)
    assert fgsm(network, X.astype(np.float32), y, 0.1).dtype == np.float32
    assert fgsm(network, X.round().astype(int), y, 0.1).dtype == np.float64
    assert fgsm(network.float(), X, y, 0.1).dtype == np.float64


def test_images_are_attacked_in_their_own_shape():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3))
    X = np.random.default_rng(0).uniform(size=(4, 1, 6, 6))
    copies = fgsm(module, X, [0, 1, 2, 0], np.full((1, 6, 6), 0.1))
    assert copies.shape == X.shape
    assert abs(copies - X).max() == pytest.approx(0.1)


def test_attack_leaves_module_and_input_alone(network, data):
    X, y = data
    X = torch.as_tensor(X)
    before = X.clone()
    network.train()
    pgd(network, X, y, 0.3, n_steps=2)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(X, before) and not X.requires_grad


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -1.0}, ValueError, "epsilon.*-1"),
        ({"epsilon": np.inf}, ValueError, "epsilon.*inf"),
        ({"epsilon": [0.1, 0.2]}, ValueError, r"epsilon.*\(8,\).*\(2,\)"),
        ({"epsilon": "big"}, TypeError, "epsilon.*big"),
        ({"norm": 1}, ValueError, "norm.*inf or 2.*1"),
        ({"bounds": (1, 0)}, ValueError, "bounds.*low <= high"),
        ({"batch_size": 0}, ValueError, "batch_size.*0"),
        ({"y": np.zeros(3, int)}, ValueError, r"y.*\(50,\).*\(3,\)"),
        ({"y": np.full(50, 3)}, ValueError, "at least 4 classes"),
        ({"y": np.full(50, -1)}, ValueError, "y.*from 0.*-1"),
        ({"y": np.full(50, 0.5)}, ValueError, "y.*integer"),
        ({"y": np.array(["cat"] * 50)}, TypeError, "y.*class indices.*not class names"),
        ({"X": np.full((50, 8), "a")}, TypeError, "X.*real numbers"),
        ({"X": np.zeros((50, 8), complex)}, TypeError, "X.*real numbers.*complex"),
        ({"X": np.zeros((50, 3))}, ValueError, r"can't take X.*\(50, 3\)"),
        ({"epsilon": None}, TypeError, "epsilon.*None"),
        ({"norm": np.array([2, 2])}, ValueError, "norm"),
        ({"X": np.full((50, 8), np.nan)}, ValueError, "X.*NaN"),
        ({"X": np.zeros(8)}, ValueError, "X.*n_features"),
        ({"X": np.zeros((0, 8)), "y": np.zeros(0, int)}, ValueError, "at least one sample"),
        ({"module": lambda X: X}, TypeError, "module.*as_module"),
        ({"module": nn.Linear(8, 1).double()}, ValueError, r"at least 3 classes.*\(50, 1\)"),
    ],
)
def test_bad_input_is_explained(network, data, attack, change, error, message):
    arguments = {"module": network, "X": data[0], "y": data[1], "epsilon": 0.1, **change}
    arguments["y"] = np.asarray(arguments["y"])
    with pytest.raises(error, match=message):
        attack(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps.*0"),
        ({"n_restarts": 1.5}, "n_restarts.*1.5"),
        ({"step_size": -1}, "step_size.*-1"),
        ({"n_restarts": 2, "random_start": False}, "n_restarts=2 needs random_start"),
    ],
)
def test_bad_parameter_of_pgd_is_explained(network, data, change, message):
    with pytest.raises(ValueError, match=message):
        pgd(network, *data, 0.1, **change)


def test_module_without_gradient_is_refused(data):
    class Rounding(nn.Module):
        def forward(self, X):
            return (X[:, :3].detach() > 0).double()

    with pytest.raises(TypeError, match="no gradient"):
        fgsm(Rounding(), *data, 0.1)


def test_sparse_input_is_refused(network, data):
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="sparse.*toarray"):
        fgsm(network, csr_array(data[0]), data[1], 0.1)
    with pytest.raises(TypeError, match="sparse.*to_dense"):
        fgsm(network, torch.as_tensor(data[0]).to_sparse(), data[1], 0.1)


def test_module_that_returns_nan_is_refused(data):
    class Broken(nn.Module):
        def forward(self, X):
            return X[:, :3] * torch.nan

    with pytest.raises(ValueError, match="NaN"):
        fgsm(Broken(), *data, 0.1)


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_attacks_raise_the_loss_that_they_are_given(network, data, attack):
    def margins(logits, labels):
        return nn.functional.multi_margin_loss(logits, labels, reduction="none")

    X, y = data
    labels, params = torch.as_tensor(y), {}
    if attack is pgd:
        params = {"n_steps": 1, "step_size": 0.1, "random_start": False}
    clean = torch.as_tensor(X).requires_grad_()
    (ascent,) = torch.autograd.grad(margins(network(clean), labels).sum(), clean)
    expected = X + 0.1 * ascent.sign().numpy()
    np.testing.assert_allclose(attack(network, X, y, 0.1, loss=margins, **params), expected)
    losses = [
        margins(network(torch.as_tensor(copies)), labels).detach()
        for copies in (
            pgd(network, X, y, 2.0, loss=margins, n_restarts=n, random_state=0) for n in (1, 5)
        )
    ]
    assert (losses[1] >= losses[0]).all() and losses[1].sum() > losses[0].sum()


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_attacks_of_a_linear_model_go_straight_to_the_target(norm):
    rng = np.random.default_rng(2)
    coef, X, target = rng.normal(size=8), rng.normal(size=(10, 8)), rng.integers(0, 2, size=10)
    direction = np.sign(coef) if norm == np.inf else coef / np.linalg.norm(coef)
    expected = X + 0.3 * direction * np.where(target == 1, 1, -1)[:, None]
    module = linear_module(coef)
    for attack, params in ((fgsm, {}), (pgd, {"step_size": 0.3, "random_state": 0})):
        copies = attack(module, X, target, 0.3, norm=norm, targeted=True, **params)
        np.testing.assert_allclose(copies, expected, rtol=1e-9)


def test_targeted_copies_of_a_network_are_classified_as_the_target(network, data):
    X, _ = data
    target = np.full(len(X), 2)
    before = (network(torch.as_tensor(X)).argmax(1) == 2).double().mean()
    for attack, reached in ((fgsm, 0.7), (pgd, 0.8), (rotate_towards_gradient, 0.7)):
        copies = attack(network, X, target, 2.0, norm=2, targeted=True)
        assert (network(torch.as_tensor(copies)).argmax(1) == 2).double().mean() >= reached > before


def test_a_restart_that_fools_the_module_beats_one_of_higher_loss():
    class Trap(nn.Module):
        """At 1 two rivals add up to a high loss; at -1 a single one wins, at a lower loss."""

        def forward(self, X):
            two, one = (0.9 * X).expand(-1, 2), -1.2 * X
            return torch.cat([torch.ones_like(X), two, one], 1)

    X, y = np.zeros((8, 1)), np.zeros(8, int)
    copies = pgd(Trap(), X, y, 1.0, n_steps=5, n_restarts=20, random_state=0)
    assert (Trap()(torch.as_tensor(copies)).argmax(1) != 0).all()
    losses = [cross_entropy(Trap(), np.full((1, 1), x), [0]) for x in (1.0, -1.0)]
    assert losses[0] > losses[1]


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_noise_fills_the_set_and_has_no_direction(network, norm):
    epsilon = np.array([0.5, 2.0, 0.0, *[1.0] * 5])
    X = np.ones((20_000, 8))
    noise = uniform_noise(network, X, np.zeros(len(X), int), epsilon, norm=norm) - 1
    used = radius_used(X, X + noise, epsilon, norm)
    # The share of the volume within a radius r of the unit ball in d dimensions is r^d.
    counts, _ = np.histogram(used**7, bins=10, range=(0, 1))
    assert abs(counts - 2000).max() < 5 * np.sqrt(20_000 * 0.1 * 0.9)
    deviation = noise.std(0)
    assert (abs(noise.mean(0)) <= 5 * deviation / np.sqrt(len(X))).all()


@pytest.mark.parametrize("norm", NORMS)
def test_sign_noise_has_the_full_radius_and_even_signs(network, norm):
    epsilon = np.array([0.5, 2.0, 0.0, *[1.0] * 5])
    X = np.ones((20_000, 8))
    noise = sign_noise(network, X, np.zeros(len(X), int), epsilon, norm=norm) - 1
    np.testing.assert_allclose(radius_used(X, X + noise, epsilon, norm), 1)
    expected = epsilon if norm == np.inf else epsilon / np.sqrt(7)
    np.testing.assert_allclose(abs(noise), np.broadcast_to(expected, X.shape))
    positive = (noise[:, epsilon > 0] > 0).mean(0)
    assert (abs(positive - 0.5) < 5 * 0.5 / np.sqrt(len(X))).all()


@pytest.mark.parametrize("noise", [uniform_noise, sign_noise])
def test_noise_is_reproducible_and_bounded(network, data, noise):
    copies = [
        noise(network, *data, 0.3, bounds=(-0.5, 0.5), random_state=seed) for seed in (0, 0, 1)
    ]
    assert np.array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])
    assert abs(copies[0]).max() <= 0.5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.3, np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])])
def test_rotation_stays_in_the_plane_of_sample_and_gradient_and_uses_the_radius(
    network, data, norm, epsilon
):
    X, y = data
    copies = rotate_towards_gradient(network, X, y, epsilon, norm=norm)
    radii = np.broadcast_to(epsilon, 8)
    np.testing.assert_allclose(radius_used(X, copies, radii, norm), 1)
    np.testing.assert_allclose(np.linalg.norm(copies, axis=1), np.linalg.norm(X, axis=1))
    # One tiny FGSM step in the Euclidean norm is along the gradient on the free features.
    free = (radii > 0).astype(float)
    along = fgsm(network, X, y, 1e-3 * free, norm=2) - X
    for x, copy, gradient in zip(X, copies, along, strict=True):
        plane = np.stack([x * free, gradient], 1)
        shares, residual, *_ = np.linalg.lstsq(plane, (copy - x) * free, rcond=None)
        assert residual.sum() < 1e-18 and shares[1] > 0


def test_rotation_in_the_euclidean_norm_has_the_angle_of_the_chord(network, data):
    X, y = data
    copies = rotate_towards_gradient(network, X, y, 0.3)
    length = np.linalg.norm(X, axis=1)
    angle = np.arccos((X * copies).sum(1) / length**2)
    np.testing.assert_allclose(angle, 2 * np.arcsin(0.3 / (2 * length)), rtol=1e-9)


def test_rotation_leaves_what_has_no_direction(network, data):
    X, y = data
    np.testing.assert_array_equal(rotate_towards_gradient(network, 0 * X, y, 0.3), 0 * X)
    constant = linear_module(np.zeros(8))
    np.testing.assert_array_equal(rotate_towards_gradient(constant, X, y % 2, 0.3), X)


def test_missing_values_stay_missing_and_the_rest_is_attacked_as_if_they_were_filled(data):
    X, y = data
    coef = np.linspace(-1, 1, 8)

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear_module(coef)

        def forward(self, X):
            return self.linear(torch.where(X.isnan(), 0.7, X))

    holes = np.random.default_rng(0).random(X.shape) < 0.2
    filled, X = np.where(holes, 0.7, X), np.where(holes, np.nan, X)
    for attack in (fgsm, pgd):
        params = {"random_start": False} if attack is pgd else {}
        expected = attack(linear_module(coef), filled, y % 2, 0.3, **params)
        found = attack(Filling(), X, y % 2, 0.3, **params)
        np.testing.assert_allclose(found, np.where(holes, np.nan, expected), atol=1e-12)
    with pytest.raises(ValueError, match="NaN.*SimpleImputer"):
        fgsm(linear_module(coef), X, y % 2, 0.3)


def test_batches_shrink_as_samples_and_layers_grow():
    sizes = []

    class Counting(nn.Linear):
        def forward(self, X):
            sizes.append(len(X))
            return super().forward(X)[:, :2]

    for n_features, width in ((10, 2), (10_000, 2), (10, 50_000)):
        X = np.zeros((3000, n_features), np.float32)
        fgsm(Counting(n_features, width), X, np.zeros(3000, int), 0.1)
        sizes.append("|")
    text = " ".join(map(str, sizes)).split(" | ")
    assert text[0] == "3000"
    for batches in (text[1], text[2].removesuffix(" |")):
        counts = list(map(int, batches.split()))
        assert sum(counts) == 3000 and max(counts) < 500
