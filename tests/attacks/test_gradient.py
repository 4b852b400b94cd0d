"""FGSM and PGD against closed forms, brute force and finite differences."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sk_adv.attacks import fgsm, fgsm_rs, log_odds_against, perturb, pgd, rotate_towards_gradient
from sk_adv.metrics import adversarial_accuracy_score

NORMS = [np.inf, 2]


class FunctionModule(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, X):
        return self.function(X)


def cross_entropy(module, X, y):
    logits = module(torch.as_tensor(X))
    return nn.functional.cross_entropy(logits, torch.as_tensor(y), reduction="none").detach()


def test_log_odds_is_the_inverse_softplus_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits = torch.as_tensor(rng.normal(size=(20, 5)))
    y = torch.as_tensor(rng.integers(0, 5, size=20))
    expected = nn.functional.cross_entropy(logits, y, reduction="none")
    found = nn.functional.softplus(log_odds_against(logits, y))
    torch.testing.assert_close(found, expected)


def test_no_corner_of_the_box_is_worse_than_fgsm_on_a_linear_model(linear_module):
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
def test_fgsm_is_exact_where_probabilities_round_to_one_in_float32(norm, linear_module):
    # With a margin of 60 the float32 cross-entropy has a zero gradient.
    coef = np.array([3.0, -2.0, 1.0])
    module = linear_module(coef, 60.0, torch.float32)
    X = np.zeros((1, 3))
    assert cross_entropy(module, X.astype(np.float32), [1]) == 0
    direction = np.sign(coef) if norm == np.inf else coef / np.linalg.norm(coef)
    copies = fgsm(module, X, [1], 0.5, norm=norm)
    np.testing.assert_allclose(copies, [-0.5 * direction], rtol=1e-6)


@pytest.mark.parametrize("attack", [fgsm, fgsm_rs, pgd])
@pytest.mark.parametrize("norm", NORMS)
def test_copies_stay_within_radius_and_bounds(network, data, attack, norm, radius_used):
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
def test_zero_gradient_and_zero_radius_give_no_perturbation(
    network, data, attack, norm, linear_module
):
    X, y = data
    params = {"random_start": False} if attack is pgd else {}
    constant = linear_module(np.zeros(8))
    np.testing.assert_array_equal(attack(constant, X, y % 2, 0.5, norm=norm, **params), X)
    np.testing.assert_array_equal(attack(network, X, y, 0.0, norm=norm), X)


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_gradients_give_full_steps(norm, linear_module):
    module = linear_module(np.array([3e-30, -4e-30]), dtype=torch.float32)
    copies = fgsm(module, np.zeros((1, 2)), [1], 1.0, norm=norm)
    np.testing.assert_allclose(copies, [[-1, 1]] if norm == np.inf else [[-0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_with_one_full_step_is_fgsm(network, data, norm):
    X, y = data
    one_step = pgd(network, X, y, 0.3, norm=norm, n_steps=1, step_size=0.3, random_start=False)
    np.testing.assert_allclose(one_step, fgsm(network, X, y, 0.3, norm=norm), atol=1e-15)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_way_into_the_bounds_costs_no_radius(network, data, norm, dtype):
    X, y = data[0].astype(dtype), data[1]
    params = {"norm": norm, "n_steps": 1, "step_size": 0.3, "random_start": False}
    copies = pgd(network.float(), X, y, 0.3, bounds=(-0.5, 0.5), **params)
    assert (abs(X) > 0.5).any()
    expected = np.clip(fgsm(network, np.clip(X, -0.5, 0.5), y, 0.3, norm=norm), -0.5, 0.5)
    np.testing.assert_allclose(copies, expected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_finds_the_worst_case_of_a_linear_model_from_any_start(norm, linear_module):
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
        cross_entropy(
            network,
            pgd(network, X, y, 0.3, norm=norm, n_steps=1, n_restarts=n, random_state=0),
            y,
        )
        for n in (1, 5)
    ]
    assert (losses[1] >= losses[0] - 1e-12).all()
    assert losses[1].sum() > losses[0].sum()


def test_samples_that_are_fooled_start_no_more(network, data):
    seen = []

    def count(module, inputs):
        seen.append(len(inputs[0]))

    X, y = data
    fooled = network(torch.as_tensor(pgd(network, X, y, 0.1, n_steps=3, random_state=0)))
    n_right = int((fooled.argmax(1) == torch.as_tensor(y)).sum())
    assert 0 < n_right < len(X)
    hook = network.register_forward_pre_hook(count)
    pgd(network, X, y, 0.1, n_steps=3, n_restarts=2, random_state=0, batch_size=len(X))
    hook.remove()
    # Per start: three steps, and one pass to compare the last iterates.
    assert seen == [len(X)] * 4 + [n_right] * 4


def test_pgd_is_reproducible_and_leaves_the_global_random_state(network, data):
    X, y = data
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    copies = [pgd(network, X, y, 0.3, n_steps=2, random_state=seed) for seed in (0, 0, 1)]
    assert torch.rand(1) == expected
    assert np.array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])


def test_random_starts_fill_the_euclidean_ball_evenly(linear_module):
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
    weak = {"n_steps": 1, "step_size": 0.01}
    losses = [
        margins(network(torch.as_tensor(copies)), labels).detach()
        for copies in (
            pgd(network, X, y, 0.3, loss=margins, random_state=0, **weak, n_restarts=n)
            for n in (1, 5)
        )
    ]
    assert (losses[1] >= losses[0]).all() and losses[1].sum() > losses[0].sum()


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_attacks_of_a_linear_model_go_straight_to_the_target(norm, linear_module):
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
        """At 1 two rivals give a high loss but no error; at -1 one rival wins at a lower loss."""

        def forward(self, X):
            two, one = (0.9 * X).expand(-1, 2), -1.2 * X
            return torch.cat([torch.ones_like(X), two, one], 1)

    X, y = np.zeros((8, 1)), np.zeros(8, int)
    copies = pgd(Trap(), X, y, 1.0, n_steps=5, n_restarts=20, random_state=0)
    assert (Trap()(torch.as_tensor(copies)).argmax(1) != 0).all()
    losses = [cross_entropy(Trap(), np.full((1, 1), x), [0]) for x in (1.0, -1.0)]
    assert losses[0] > losses[1]


class CutOff(torch.nn.Module):
    """A network whose input leaves the graph."""

    def __init__(self, cut):
        super().__init__()
        self.layer, self.cut = torch.nn.Linear(4, 3), cut

    def forward(self, X):
        return self.layer(self.cut(X))


CUTS = {
    "detach": lambda X: X.detach(),
    "integers": lambda X: X.long().to(X.dtype),
    "NumPy": lambda X: torch.from_numpy(np.tanh(X.detach().numpy())),
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_an_input_that_is_cut_off_from_the_output_is_refused(attack, name):
    # Its weights have a gradient, so that the loss has one too.
    module = CutOff(CUTS[name])
    with pytest.raises(TypeError, match="does not depend on its input"):
        attack(module, torch.rand(5, 4), [0, 1, 2, 0, 1], 0.1)


class Root(nn.Module):
    """Two logits, the second a sum of roots, whose slope at 0 is infinite."""

    def forward(self, X):
        return torch.stack([0 * X[:, 0], X.clamp(min=0).sqrt().sum(1) - 2], dim=1)


class Tail(Root):
    """The same, of samples without their first feature, which is 0."""

    def forward(self, X):
        return super().forward(torch.cat([torch.zeros_like(X[:, :1]), X], dim=1))


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_with_an_infinite_gradient_entry_moves_along_it(attack, norm):
    X = torch.tensor([[0.0, 4.0, 1.0]])
    params = {} if attack is fgsm else {"random_start": False}
    copies = attack(Root(), X, [0], 1.0, norm=norm, bounds=(0, torch.inf), **params)
    assert copies.isfinite().all()
    if attack is fgsm:
        assert copies[0, 0] == 1
    # More is reached than by any step along one of the other features.
    assert copies.sqrt().sum() > max(np.sqrt(5) + 1, 2 + np.sqrt(2))
    assert torch.linalg.vector_norm(copies - X, norm) <= 1 + 1e-6


@pytest.mark.parametrize("attack", [fgsm, pgd, rotate_towards_gradient])
@pytest.mark.parametrize("epsilon", [1.0, torch.tensor([0.0, 1.0, 1.0])])
def test_an_infinite_gradient_entry_that_leads_nowhere_hides_no_other(attack, epsilon):
    # The first feature should fall, but is at the end of its range, or fixed.
    X, y = torch.tensor([[0.0, 4.0, 1.0]]), [1]
    params = {"random_start": False} if attack is pgd else {}
    for label in y if np.ndim(epsilon) == 0 else (0, 1):
        copies = attack(Root(), X, [label], epsilon, norm=2, bounds=(0, torch.inf), **params)
        expected = attack(Tail(), X[:, 1:], [label], 1.0, norm=2, bounds=(0, torch.inf), **params)
        assert copies[0, 0] == 0
        torch.testing.assert_close(copies[:, 1:], expected)


def test_a_rotation_turns_towards_an_infinite_gradient_entry():
    X = torch.tensor([[0.0, 3.0, 4.0]])
    copies = rotate_towards_gradient(Root(), X, [0], 1.0, bounds=(0, torch.inf))
    # In the plane of x and of the feature that is 0, by the angle of the chord.
    angle = 2 * np.arcsin(1 / 10)
    expected = np.cos(angle) * X.numpy() + np.array([[5 * np.sin(angle), 0, 0]])
    np.testing.assert_allclose(copies, expected, rtol=1e-5)


def test_counts_behind_a_root_lose_accuracy_to_fgsm():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    # Rare counts, so that many samples hold a 0, where the root's slope is infinite.
    X = rng.poisson(np.where(y[:, None] == 1, [1.5, 0.5, 1.0, 3.0], [0.5, 1.5, 1.0, 1.0]))
    X = X.astype(float)
    model = make_pipeline(FunctionTransformer(np.sqrt), LogisticRegression(C=100)).fit(X, y)
    options = {"epsilon": 1.0, "norm": 2, "bounds": (0, np.inf)}
    assert (X == 0).any(axis=1).mean() > 0.5
    for attack in ("fgsm", "pgd"):
        copies = perturb(model, X, y, attack=attack, random_state=0, **options)
        assert np.isfinite(copies).all() and (copies >= 0).all()
        moved = np.linalg.norm(copies - X, axis=1)
        # No sample is frozen, not even one whose features that are 0 should fall.
        assert moved.min() > 0.1 and moved.max() <= 1 + 1e-9
        score = adversarial_accuracy_score(model, X, y, attack=attack, random_state=0, **options)
        assert score == pytest.approx(model.score(copies, y))
        assert score < model.score(X, y) - 0.1
