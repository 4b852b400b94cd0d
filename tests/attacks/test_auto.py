"""The strongest attack against closed forms, grids and every other attack."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from torch import nn

from sk_adv.attacks import apgd, auto, fgsm, log_odds_against, perturb, pgd
from sk_adv.metrics import adversarial_accuracy_score, verify_robustness

RNG = np.random.default_rng(0)
QUICK = {"n_steps": 20, "n_queries": 50}


def rings(n_classes, n=240):
    """Points of the plane whose class is the ring they lie in."""
    X = RNG.normal(size=(n, 2))
    return X, np.digitize((X**2).sum(1), np.linspace(0.8, 2.5, n_classes - 1))


def net_on(X, y):
    return MLPClassifier((12,), max_iter=400, learning_rate_init=0.02, random_state=0).fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_breaks_what_a_grid_breaks_on_a_small_network(n_classes, norm):
    X, y = rings(n_classes)
    model = net_on(X, y)
    A, b = X[:80], y[:80]
    options = {"attack": "auto", "attack_params": QUICK, "random_state": 0}
    found = perturb(model, A, b, epsilon=0.2, norm=norm, **options)
    side = np.linspace(-0.2, 0.2, 41)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, ord=norm, axis=1) <= 0.2]
    broken = [(model.predict(x + grid) != label).any() for x, label in zip(A, b, strict=True)]
    # It may find more, as the grid is coarse, but nothing less.
    assert (model.predict(found) != b)[np.array(broken)].all()
    assert 0.1 < np.mean(broken) < 0.9


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_is_the_closed_form_on_linear_models(n_classes, norm):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    model = LogisticRegression(max_iter=1000).fit(X, y)
    options = {"epsilon": np.array([0.4, 0.0, 0.5, 0.3]), "norm": norm}
    found = adversarial_accuracy_score(model, X, y, attack="auto", **options)
    assert found == adversarial_accuracy_score(model, X, y, attack="exact", **options)


def test_it_is_the_search_of_trees_on_a_forest():
    X, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0).fit(X[::2], y[::2])
    score = adversarial_accuracy_score(forest, X[1::2], y[1::2], epsilon=0.2, attack="auto")
    assert score == verify_robustness(forest, X[1::2], y[1::2], epsilon=0.2).lower


def test_a_model_without_a_gradient_gets_a_random_search():
    X, y = rings(2)
    model = KNeighborsClassifier(5).fit(X, y)
    options = {"epsilon": 0.3, "random_state": 0, "attack_params": {"n_queries": 60}}
    found = perturb(model, X[:50], y[:50], attack="auto", **options)
    np.testing.assert_array_equal(found, perturb(model, X[:50], y[:50], attack="square", **options))

    class Steps(nn.Module):
        def forward(self, X):
            return torch.stack([X[:, 0].round(), 1 - X[:, 0].round()], 1).detach()

    clean = torch.tensor([[0.2, 0.0], [0.9, 0.0], [0.4, 0.0]])
    copies = auto(
        Steps(), clean, torch.ones(3, dtype=torch.int64), 0.2, random_state=0, n_queries=50
    )
    assert (Steps()(copies).argmax(1) == torch.tensor([1, 0, 0])).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_is_at_least_as_strong_as_every_other_attack(n_classes):
    X, y = rings(n_classes)
    model = net_on(X, y)

    def margin(logits, labels):
        own = logits.gather(1, labels[:, None]).squeeze(1)
        return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own

    params = {"auto": QUICK, "apgd": {"n_steps": 40}, "square": {"n_queries": 100}}

    def score(attack, **more):
        options = params.get(attack, {}) | more
        return adversarial_accuracy_score(
            model, X, y, epsilon=0.15, attack=attack, attack_params=options, random_state=0
        )

    found = score("auto")
    others = [
        score("fgsm"),
        score("pgd"),
        score("apgd"),
        score("square"),
        score("pgd", loss=margin),
    ]
    assert 0 < found <= min(others)


def test_losses_are_attacked_as_well_as_the_accuracy(network, data):
    X, y = data
    labels = torch.from_numpy(y)

    def losses(copies):
        return log_odds_against(network(torch.from_numpy(copies)), labels)

    # Broken samples included: an attack that stopped at the boundary would flatter the log-loss.
    found = losses(auto(network, X, y, 0.3, random_state=0, **QUICK))
    step = losses(fgsm(network, X, y, 0.3))
    assert (found > step - 1e-3).float().mean() > 0.95
    assert found.mean() > step.mean()


@pytest.mark.parametrize("attack", [auto, apgd])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_copies_stay_inside_the_set_and_the_bounds(attack, norm, network, data, radius_used):
    X, y = data
    radii = np.array([0.5, 0.0, 0.3, 0.3, 0.0, 1.0, 0.2, 0.2])
    params = QUICK if attack is auto else {"n_steps": 20}
    for dtype in (np.float64, np.float32):
        given = X.clip(-1, 1.5).astype(dtype)
        options = {"norm": norm, "bounds": (-1, 1.5), "random_state": 0, **params}
        copies = attack(network, given, y, radii, **options)
        assert copies.dtype == dtype
        assert (radius_used(given, copies, radii, norm) <= 1 + 1e-5).all()
        assert (copies[:, radii == 0] == given[:, radii == 0]).all()
        assert copies.min() >= -1 and copies.max() <= 1.5
        np.testing.assert_array_equal(copies, attack(network, given, y, radii, **options))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_images_and_missing_values_are_taken(norm):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    X, y = torch.rand(10, 1, 6, 6), torch.arange(10) % 3
    copies = auto(module, X, y, 0.2, norm=norm, bounds=(0, 1), random_state=0, **QUICK)
    assert copies.shape == X.shape
    assert module(copies).argmax(1).ne(y).sum() >= module(X).argmax(1).ne(y).sum()

    class Filled(nn.Module):
        def forward(self, X):
            return module(X.nan_to_num(0.5))

    X[:, :, 0, 0] = torch.nan
    copies = auto(Filled(), X, y, 0.2, norm=norm, random_state=0, **QUICK)
    assert copies[:, :, 0, 0].isnan().all() and copies.isnan().sum() == 10


def test_logits_may_be_more_precise_than_the_samples():
    torch.manual_seed(0)

    class Mixed(nn.Sequential):
        def forward(self, X):
            return super().forward(X).double() ** 3

    module = Mixed(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    X, y = torch.rand(10, 4), torch.arange(10) % 3
    for attack, params in ((auto, QUICK), (apgd, {"n_steps": 20})):
        copies = attack(module, X, y, 0.3, random_state=0, **params)
        assert copies.dtype == torch.float32
        assert (copies - X).abs().max() <= 0.3 + 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_target_is_reached_where_a_grid_reaches_it():
    X, y = rings(3)
    model = net_on(X, y)
    A = X[:60]
    options = {"attack": "auto", "attack_params": QUICK, "random_state": 0}
    found = perturb(model, A, y[:60], epsilon=0.3, target=2, **options)
    side = np.linspace(-0.3, 0.3, 31)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    reached = np.array([(model.predict(x + grid) == 2).any() for x in A])
    assert (model.predict(found) == 2)[reached].all()


def test_a_target_on_three_classes_of_a_linear_model_and_of_a_forest():
    X, y = load_iris(return_X_y=True)
    for model in (LogisticRegression(max_iter=1000), RandomForestClassifier(5, random_state=0)):
        model.fit(X, y)
        options = {"attack": "auto", "attack_params": QUICK, "random_state": 0}
        copies = perturb(model, X, y, epsilon=0.5, target=1, **options)
        assert (model.predict(copies) == 1).sum() > (model.predict(X) == 1).sum() + 10


def test_broken_samples_are_those_that_predict_gets_wrong():
    # The votes of pairs and their confidences can name different classes.
    X, y = load_iris(return_X_y=True)
    X = X[:, :2]
    model = SVC(gamma=2.0).fit(X, y)
    options = {"epsilon": 0.1, "random_state": 0}
    params = {"auto": QUICK, "square": {"n_queries": 50}, "pgd": {"n_steps": 20}, "fgsm": {}}
    scores = [
        adversarial_accuracy_score(model, X, y, attack=name, attack_params=given, **options)
        for name, given in params.items()
    ]
    assert scores[0] == min(scores)


def test_samples_that_are_broken_are_not_attacked_again():
    seen = []

    class Counted(nn.Sequential):
        def forward(self, X):
            seen.append(len(X))
            return super().forward(X)

    torch.manual_seed(0)
    module = Counted(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    X = torch.rand(20, 4)
    y = (module(X).argmax(1) + 1) % 3  # all are misclassified from the start
    seen.clear()
    auto(module, X, y, 0.1, n_steps=40)
    # The climb on the log-odds, ten steps from x, and the logits at x.
    assert sum(seen) <= 20 * (1 + 10 + 1) + 10


def test_apgd_climbs_at_least_as_high_as_pgd_with_as_many_steps(network, data):
    X, _ = data
    never = torch.full((50,), 0)

    def loss(logits, labels):
        return logits[:, 0].sin() - logits[:, 1] ** 2

    def reached(copies):
        return loss(network(torch.from_numpy(copies)), never).mean().item()

    class Certain(nn.Module):
        """No sample can be broken, so that the whole climb is seen."""

        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, X):
            logits = self.network(X)
            return torch.cat([logits[:, :2], 1e6 + 0 * logits[:, :1]], 1)

    labels = np.full(50, 2)
    options = {"n_steps": 40, "loss": loss, "random_state": 0}
    climbed = reached(apgd(Certain(), X, labels, 0.5, **options))
    assert climbed >= reached(pgd(Certain(), X, labels, 0.5, **options)) - 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps must be an integer of at least 1; got 0"),
        ({"n_rivals": 0}, "n_rivals must be an integer of at least 1; got 0"),
        ({"n_queries": -1}, "n_queries must be an integer of at least 0; got -1"),
    ],
)
def test_wrong_parameters_are_named(change, message, network, data):
    with pytest.raises(ValueError, match=message):
        auto(network, *data, 0.1, **change)
    if "n_steps" in change:
        with pytest.raises(ValueError, match=message):
            apgd(network, *data, 0.1, **change)
