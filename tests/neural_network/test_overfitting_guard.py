"""The guard against catastrophic overfitting, on trainings that collapse and some that do not."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import IterableDataset

from sk_adv.attacks import pgd
from sk_adv.metrics import adversarial_accuracy_score
from sk_adv.neural_network import AdversarialNet, MaxoutNet, OverfittingGuard

COLLAPSING = {"epsilon": 0.3, "alpha": 0.0, "bounds": (0, 1), "lr": 0.005, "max_epochs": 40}


def train(digits, share=100.0, **params):
    X, y = digits
    torch.manual_seed(0)
    net = AdversarialNet(
        MaxoutNet,
        module__n_features=64,
        module__n_classes=10,
        module__hidden_layer_sizes=(60, 60),
        module__n_pieces=3,
        optimizer=torch.optim.Adam,
        callbacks=[("guard", OverfittingGuard(share=share))],
        verbose=0,
        **COLLAPSING | params,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(X.astype(np.float32), y)
    return net, [w for w in caught if issubclass(w.category, ConvergenceWarning)]


@pytest.mark.parametrize("attack", ["fgsm", "fgsm_rs"])
def test_a_training_that_collapses_is_told_once(attack, digits):
    net, (warning,) = train(digits, attack=attack)
    message = str(warning.message)
    assert message.startswith("Catastrophic overfitting: in epoch ")
    assert f"'{attack}'" in message and "held-out samples" in message
    # The scores from outside agree that it has collapsed.
    X, y = digits
    allowed = {"epsilon": 0.3, "bounds": (0, 1)}
    single, strong = (
        adversarial_accuracy_score(net, X.astype(np.float32), y, attack=name, **allowed)
        for name in (attack, pgd)
    )
    assert strong < 0.15 and single > 0.4


@pytest.mark.parametrize(
    "params",
    [{"attack": "pgd"}, {"epsilon": 0.05}, {"alpha": 1.0}, {"robust_loss": "certified"}],
)
def test_trainings_that_hold_are_not(params, digits):
    net, caught = train(digits, **params)
    assert not caught
    is_measured = "guard_pgd_accuracy" in net.history[-1]
    assert is_measured == (params == {"epsilon": 0.05})


def test_accuracies_are_those_of_the_attacks(digits):
    net, _ = train(digits, epsilon=0.1, max_epochs=1)
    X, y = digits
    # All 120 held-out samples are fewer than the guard would take.
    _, held_out = net.get_split_datasets(X.astype(np.float32), y)
    X, y = X[held_out.indices].astype(np.float32), y[held_out.indices]
    expected = adversarial_accuracy_score(net, X, y, epsilon=0.1, bounds=(0, 1), attack="fgsm")
    assert net.history[-1]["guard_attack_accuracy"] == pytest.approx(expected, abs=0.01)


def test_the_guard_leaves_the_training_as_it_is(digits, weights, are_equal):
    watched, _ = train(digits, max_epochs=2, epsilon=0.05)
    rare, _ = train(digits, max_epochs=2, epsilon=0.05, share=1e-9)
    assert are_equal(weights(watched), weights(rare))
    assert "guard_pgd_accuracy" not in rare.history[-1]


def test_epochs_are_left_out_to_keep_to_the_share(digits, small):
    model = small(attack="fgsm_rs", alpha=0, max_iter=75, epsilon=0.01, tol=-np.inf)
    history = model.fit(*digits).net_.history
    measured = [row["epoch"] for row in history if "guard_pgd_accuracy" in row]
    # 256 samples in 12 passes, each of a third of a step, against 600 samples: 3.4 %.
    every = int(np.ceil(12 / 3 * 256 / (0.05 * 600)))
    assert measured == [every, 2 * every]
    # In the last epoch fewer samples, but at least 50, are taken for the epochs since.
    model = small(attack="fgsm_rs", alpha=0, max_iter=10, epsilon=0.01, tol=-np.inf)
    history = model.fit(*digits).net_.history
    assert [row["epoch"] for row in history if "guard_pgd_accuracy" in row] == [10]
    # Shares of 0.05 · 600 · 10 / 4 = 75 samples.
    assert history[-1]["guard_pgd_accuracy"] * 75 % 1 == pytest.approx(0, abs=1e-9)


def test_the_classifier_has_a_guard_of_its_own(digits, small):
    with pytest.warns(ConvergenceWarning, match="Catastrophic overfitting"):
        small(
            hidden_layer_sizes=(60, 60),
            n_pieces=3,
            attack="fgsm",
            alpha=0,
            epsilon=0.3,
            bounds=(0, 1),
            learning_rate_init=0.005,
            max_iter=40,
            tol=-np.inf,
        ).fit(*digits)


def test_a_stream_of_samples_is_not_looked_at_twice():
    class Stream(IterableDataset):
        def __iter__(self):
            for k in range(40):
                yield torch.full((4,), float(k % 2)), k % 2

    net = AdversarialNet(
        nn.Linear(4, 2),
        callbacks=[OverfittingGuard()],
        train_split=None,
        max_epochs=1,
        iterator_train__shuffle=False,
        verbose=0,
    )
    net.fit(Stream(), None)
    assert "guard_pgd_accuracy" not in net.history[-1]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples"),
        ({"share": 0}, ValueError, "share must be a positive number"),
        ({"share": np.nan}, ValueError, "share must be a positive number"),
        ({"data": "a"}, TypeError, "data must be a torch.utils.data.Dataset"),
    ],
)
def test_wrong_parameters_are_named(params, error, message, digits):
    X, y = digits
    net = AdversarialNet(nn.Linear(64, 10), callbacks=[OverfittingGuard(**params)], verbose=0)
    with pytest.raises(error, match=message):
        net.fit(X.astype(np.float32), y)


@pytest.mark.parametrize("share", [1e-320, np.inf])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_memory_map_of_doubles_is_measured_in_the_precision_of_the_net(
    share, weighted, digits, tmp_path
):
    X, y = digits
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    weight = {"sample_weight": np.ones(len(y))} if weighted else {}
    for train_split in (None, ValidSplit(5)):
        net = AdversarialNet(
            nn.Linear(64, 10),
            callbacks=[OverfittingGuard(share=share)],
            train_split=train_split,
            max_epochs=2,
            verbose=0,
        ).fit(mapped, y, **weight)
        measured = ["guard_pgd_accuracy" in row for row in net.history]
        assert measured == 2 * [share == np.inf]
