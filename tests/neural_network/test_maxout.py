"""AdversarialMaxoutClassifier on real data."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.metrics import adversarial_accuracy_score


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, random_state=0)


SMALL = AdversarialMaxoutClassifier((32, 32), learning_rate_init=0.005, max_iter=20, random_state=0)


def test_adversarial_training_helps_against_a_stronger_attack_than_its_own(digits):
    X, X_test, y, y_test = digits
    attack = {"epsilon": 0.15, "attack": "pgd", "random_state": 0}
    scores = {}
    for alpha in (1.0, 0.5, 0.0):
        model = clone(SMALL).set_params(alpha=alpha, epsilon=0.15).fit(X, y)
        assert model.score(X_test, y_test) > 0.9
        scores[alpha] = adversarial_accuracy_score(model, X_test, y_test, **attack)
    assert scores[0.5] > scores[1.0] + 0.2
    assert scores[0.0] > scores[1.0] + 0.2


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine, load_iris, load_digits])
def test_defaults_are_as_accurate_as_those_of_scikit_learns_network(load):
    # The same number of digits as of samples of the other data.
    X, y = (part[:600] for part in load(return_X_y=True))
    ours, theirs = (
        cross_val_score(make_pipeline(StandardScaler(), network), X, y).mean()
        for network in (
            AdversarialMaxoutClassifier(alpha=1, random_state=0),
            MLPClassifier(random_state=0),
        )
    )
    assert ours > theirs - 0.01


def test_fixed_random_state_gives_identical_weights_also_in_other_processes(digits):
    X, _, y, _ = digits
    model = clone(SMALL).set_params(hidden_dropout=0.5, max_iter=2)
    found = [clone(model).fit(X, y).net_.module_.state_dict() for _ in range(2)]
    search = GridSearchCV(model, {"alpha": [0.5]}, cv=[(np.arange(len(X)), [0])], n_jobs=2)
    found.append(search.fit(X, y).best_estimator_.net_.module_.state_dict())
    for name, weight in found[0].items():
        assert all(torch.equal(weight, other[name]) for other in found[1:])


def test_fit_leaves_the_global_random_state_of_torch(digits):
    X, _, y, _ = digits
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    clone(SMALL).set_params(max_iter=1).fit(X, y)
    assert torch.rand(1) == expected


def test_loss_curve_has_an_entry_an_epoch_and_falls(digits):
    X, _, y, _ = digits
    model = clone(SMALL).fit(X, y)
    assert len(model.loss_curve_) == model.n_iter_ == 20
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_probabilities_follow_classes_of_any_type_and_survive_pickling(digits):
    X, X_test, y, y_test = digits
    words = np.array([f"digit {label}" for label in range(10)], dtype=object)
    model = clone(SMALL).set_params(max_iter=5).fit(X, words[y])
    probability = model.predict_proba(X_test)
    assert list(model.classes_) == list(words)
    assert model.score(X_test, words[y_test]) > 0.8
    np.testing.assert_allclose(probability.sum(1), 1)
    np.testing.assert_allclose(np.log(probability), model.predict_log_proba(X_test))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X_test), probability)


def test_predictions_are_in_the_precision_of_their_input(digits):
    X, X_test, y, _ = digits
    model = clone(SMALL).set_params(max_iter=1).fit(X, y)
    single = model.predict_proba(X_test.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, model.predict_proba(X_test), atol=1e-5)


def test_a_feature_without_radius_is_not_attacked_in_training():
    # Only the second feature separates the classes, and only an adversary can perturb it.
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = np.stack([rng.normal(size=400), 0.5 * y - 0.25], axis=1)
    scores = [
        clone(SMALL).set_params(alpha=0, epsilon=epsilon).fit(X, y).score(X, y)
        for epsilon in ([1.0, 0.0], [1.0, 1.0])
    ]
    assert scores[0] == 1
    assert scores[1] < 0.9


@pytest.mark.parametrize("sizes", [(), (0,), (3.5,), "wide", (8, -1)])
def test_bad_layer_sizes_are_named(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        AdversarialMaxoutClassifier(sizes).fit(np.eye(4), [0, 1, 0, 1])


def test_verbose_prints_a_line_an_epoch(digits, capsys):
    X, _, y, _ = digits
    clone(SMALL).set_params(max_iter=3, verbose=2).fit(X, y)
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["1", "2", "3"]
