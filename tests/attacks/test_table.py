"""The table of attacks: a registered attack works everywhere; parameters are checked once."""

import functools

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier, FGSMTransformer
from sk_adv._perturbations import PerturbationSet
from sk_adv.attacks import fgsm, perturb, pgd, register_attack
from sk_adv.attacks._table import ATTACKS, resolve_attack
from sk_adv.inspection import RobustnessCurveDisplay
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    make_adversarial_scorer,
    transfer_error_matrix,
)
from sk_adv.neural_network import AdversarialNet


@pytest.fixture(scope="module")
def line():
    """A model, and points on a line whose class is their sign."""
    X = np.linspace(-1, 1, 101)[:, None]
    X = np.hstack([X, 0 * X])
    y = np.where(X[:, 0] > 0, 1, 0)
    return LogisticRegression(C=1e4).fit(X, y), X, y


@pytest.fixture
def toy():
    """An attack that moves the first feature towards the other class by a share of the radius."""

    def towards_zero(module, X, y, epsilon, *, norm, bounds, share=1.0):
        step = torch.zeros_like(torch.as_tensor(X))
        labels = torch.as_tensor(y)
        step[:, 0] = torch.where(labels == 1, -share, share)
        copies = torch.as_tensor(X) + torch.as_tensor(epsilon) * step
        return copies if isinstance(X, torch.Tensor) else copies.numpy()

    register_attack("toy", towards_zero)
    return "toy"


def share_right(X, radius):
    return float((np.abs(X[:, 0]) > radius).mean())


def test_a_registered_attack_is_known_at_every_door(toy, line):
    model, X, y = line
    half = {"share": 0.5}
    expected = share_right(X, 0.25)

    def close(score):
        return abs(score - expected) < 0.03

    options = {"attack": toy, "attack_params": half}
    assert close(adversarial_accuracy_score(model, X, y, epsilon=0.5, **options))
    report = adversarial_report(model, X, y, [0.5], {"half": options})
    assert close(1 - report["error"][0]) and report["attack"][0] == "half"
    curve = RobustnessCurveDisplay.from_estimator(
        model, X, y, epsilons=[0.5], attacks=toy, attack_params=half
    )
    assert close(1 - curve.errors[0])
    assert close(1 - transfer_error_matrix([model], X, y, 0.5, **options)[0, 0])

    transformer = FGSMTransformer(model, epsilon=0.5, labels="true", **options)
    copies = transformer.fit(X, y).transform(X, y)
    np.testing.assert_allclose(np.abs(copies - X).max(0), [0.25, 0])

    scorer = make_adversarial_scorer(epsilon=0.5, **options)
    pipeline = make_pipeline(transformer.set_params(stage="train"), LogisticRegression(C=1e4))
    grid = {"fgsmtransformer__attack_params": [{"share": 0.0}, {"share": 0.9}]}
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=2, refit=False).fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 2

    seen = []

    class Watching(torch.nn.Linear):
        def forward(self, X):
            seen.append(X.detach().clone())
            return super().forward(X)

    net = AdversarialNet(
        Watching(2, 2), alpha=0, epsilon=0.5, max_epochs=1, train_split=None, verbose=0, **options
    )
    single = X.astype(np.float32)
    net.fit(single, y.astype(np.int64))
    np.testing.assert_allclose((seen[-1] - torch.from_numpy(single)).abs().amax(0), [0.25, 0])


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_training_and_scoring_take_the_same_names(name, line):
    model, X, y = line
    adversarial_accuracy_score(model, X, y, epsilon=0.1, attack=name)
    net = AdversarialNet(
        torch.nn.Linear(2, 2), alpha=0, epsilon=0.1, attack=name, max_epochs=1, verbose=0
    )
    net.set_params(train_split=None).fit(X.astype(np.float32), y.astype(np.int64))
    assert len(net.history) == 1


def test_a_search_sets_the_arguments_of_an_attack(line):
    _, X, y = line
    grid = {"attack_params": [{"n_steps": 1}, {"n_steps": 3}]}
    net = AdversarialMaxoutClassifier((4,), attack="pgd", max_iter=2, random_state=0)
    search = GridSearchCV(net, grid, cv=2).fit(X, y)
    assert search.best_params_["attack_params"]["n_steps"] in (1, 3)
    assert search.best_estimator_.net_.attack_.params == search.best_params_["attack_params"]


def test_the_seed_is_used_where_an_attack_is_random_and_ignored_elsewhere(line):
    model, X, y = line
    for name in ATTACKS:
        copies = [
            perturb(model, X, y, epsilon=0.1, attack=name, random_state=seed) for seed in (0, 0, 1)
        ]
        np.testing.assert_array_equal(copies[0], copies[1])
        is_random = ATTACKS[name].is_random
        if "noise" in name:
            assert is_random and (copies[0] != copies[2]).any()


def test_arguments_of_a_partial_stand_above_those_of_the_caller(line):
    model, X, y = line
    attack = functools.partial(pgd, n_steps=1, random_state=3)
    found = perturb(model, X, y, epsilon=0.1, attack=attack, random_state=0)
    named = perturb(
        model, X, y, epsilon=0.1, attack="pgd", attack_params={"n_steps": 1}, random_state=3
    )
    np.testing.assert_array_equal(found, named)
    assert resolve_attack(attack).name == "pgd"


@pytest.mark.parametrize(
    ("attack", "params", "message"),
    [
        ("fgsm", {"n_steps": 3}, r"'fgsm' takes attack_params with the names .*got \['n_steps'\]"),
        ("pgd", {"steps": 3}, r"n_restarts.*got \['steps'\]"),
        (fgsm, {"epsilon": 3}, r"must not hold \['epsilon'\]"),
        ("pgd", {"targeted": True}, "a class to move towards is `target`"),
        ("pgd", [("n_steps", 3)], "attack_params.* must be .*dict.* or None"),
        (lambda X: X, None, "but takes \\(X\\)"),
    ],
)
def test_wrong_arguments_are_named(attack, params, message, line):
    model, X, y = line
    with pytest.raises(TypeError, match=message):
        adversarial_accuracy_score(model, X, y, epsilon=0.1, attack=attack, attack_params=params)
    with pytest.raises(TypeError, match=message):
        AdversarialMaxoutClassifier((2,), attack=attack, attack_params=params).fit(X, y)


@pytest.fixture
def checks(monkeypatch):
    """Counts how often the parameters of a perturbation are checked."""
    calls = []
    check = PerturbationSet.__init__

    def counted(self, *args, **kwargs):
        calls.append(args)
        check(self, *args, **kwargs)

    monkeypatch.setattr(PerturbationSet, "__init__", counted)
    return calls


def test_the_perturbation_is_checked_once_in_a_call(checks, line):
    model, X, y = line
    entries = {
        "score": lambda: adversarial_accuracy_score(model, X, y, epsilon=0.1, attack="pgd"),
        "report": lambda: adversarial_report(model, X, y, [0, 0.1, 0.2], ["fgsm", "pgd", "exact"]),
        "curve": lambda: RobustnessCurveDisplay.from_estimator(
            model, X, y, epsilons=[0, 0.1, 0.2], attacks=["fgsm", "pgd"]
        ),
        "transfer": lambda: transfer_error_matrix([model, model], X, y, 0.1),
        "transformer": lambda: FGSMTransformer(model, epsilon=0.1).fit_transform(X, y),
        "linear": lambda: AdversarialLogisticRegression(epsilon=0.1).fit(X, y),
        "maxout": lambda: AdversarialMaxoutClassifier(
            (4,), max_iter=2, early_stopping=True, refit_full=True, random_state=0
        ).fit(X, y),
        "net": lambda: AdversarialNet(
            torch.nn.Linear(2, 2), max_epochs=2, train_split=None, verbose=0
        ).fit(X.astype(np.float32), y.astype(np.int64)),
    }
    for name, call in entries.items():
        checks.clear()
        call()
        assert len(checks) == 1, name


def test_a_curve_fits_a_surrogate_once_for_all_radii_and_attacks(line, monkeypatch):
    _, X, y = line
    forest = RandomForestClassifier(5, random_state=0).fit(X, y)
    fits = []

    class Surrogate(LogisticRegression):
        def fit(self, X, y):
            fits.append(len(X))
            return super().fit(X, y)

    RobustnessCurveDisplay.from_estimator(
        forest,
        X,
        y,
        epsilons=[0, 0.1, 0.2, 0.3],
        attacks=["fgsm", "pgd"],
        surrogate=Surrogate(),
        random_state=0,
    )
    assert fits == [101]
