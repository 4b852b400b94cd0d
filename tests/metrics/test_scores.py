"""Accuracy and confidence under attack against their definitions."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv.attacks import fgsm, perturb
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
)


@pytest.mark.parametrize("share", [0, 0.1, 0.3])
@pytest.mark.parametrize("attack", ["auto", "fgsm", "pgd", fgsm])
def test_scores_of_a_linear_pipeline_are_those_of_the_closed_form(
    cancer, model, share, attack, margins
):
    X, y = cancer
    epsilon = share * X.std().to_numpy()
    margin = margins(model, X, y, epsilon)
    params = {"random_start": False} if attack == "pgd" else {}
    options = {"epsilon": epsilon, "attack": attack, "attack_params": params}
    accuracy = adversarial_accuracy_score(model, X, y, **options)
    confidence = adversarial_confidence(model, X, y, **options)
    assert accuracy == (margin > 0).mean()
    assert confidence == pytest.approx((1 / (1 + np.exp(margin[margin < 0]))).mean())


def test_sample_weight_weighs_the_mean(cancer, model, margins):
    X, y = cancer
    weight = np.random.default_rng(0).uniform(size=len(y))
    epsilon = 0.3 * X.std().to_numpy()
    right = margins(model, X, y, epsilon) > 0
    found = adversarial_accuracy_score(model, X, y, epsilon=epsilon, sample_weight=weight)
    assert found == pytest.approx(np.average(right, weights=weight))


def test_radius_zero_gives_the_clean_score_and_larger_radii_never_a_better_one(cancer, model):
    X, y = cancer
    scores = [
        adversarial_accuracy_score(model, X, y, epsilon=share * X.std().to_numpy())
        for share in (0, 0.1, 0.2, 0.5, 1)
    ]
    assert scores[0] == model.score(X, y)
    assert scores == sorted(scores, reverse=True)


def test_label_unseen_in_training_counts_as_wrong(iris):
    X, y = iris
    model = LogisticRegression().fit(X[y < 2], y[y < 2])
    assert adversarial_accuracy_score(model, X, y, epsilon=0) == pytest.approx(2 / 3)


def test_confidence_without_errors_is_undefined(iris):
    X, y = iris
    X, y = X[y < 2], y[y < 2]
    with pytest.warns(UndefinedMetricWarning, match="NaN"):
        assert np.isnan(adversarial_confidence(LogisticRegression().fit(X, y), X, y, epsilon=0))


def test_tensors_of_any_type_are_attacked(cancer):
    X, y = cancer
    data = torch.as_tensor(X.to_numpy(copy=True))
    model = LogisticRegression(C=1e-3, max_iter=10_000).fit(data, y)
    for values in (data, data.int()):
        array = values.numpy().astype(float)
        expected = adversarial_accuracy_score(model, array, y, epsilon=1.0)
        assert adversarial_accuracy_score(model, values, y, epsilon=1.0) == expected


def test_cheap_checks_come_before_the_attack(cancer, model):
    def attack(*args, **kwargs):
        raise AssertionError("the attack has run")

    X, y = cancer
    for weight in ([1, 2], -np.ones(569), np.full(569, np.nan)):
        with pytest.raises(ValueError, match="sample_weight"):
            adversarial_accuracy_score(model, X, y, epsilon=1, attack=attack, sample_weight=weight)
    silent = Silent().fit(X, y)
    surrogate = LogisticRegression()
    # The surrogate would be fitted to a single class.
    with pytest.raises(TypeError, match="n_step"):
        adversarial_accuracy_score(silent, X, y, epsilon=1, surrogate=surrogate, n_step=3)
    with pytest.raises(TypeError, match="predict_proba"):
        adversarial_confidence(silent, X, y, epsilon=1, attack=attack)


class Silent(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


NAMES = ["benign", "malignant"] * 15
TREE = DecisionTreeClassifier().fit(np.eye(30), NAMES)
SILENT = Silent().fit(np.eye(30), NAMES)


@pytest.mark.parametrize("score", [adversarial_accuracy_score, adversarial_confidence])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -1}, ValueError, "epsilon"),
        ({"epsilon": np.full(3, 0.1)}, ValueError, r"epsilon.*\(30,\).*\(3,\)"),
        ({"norm": 3}, ValueError, "norm"),
        ({"bounds": (1, 0)}, ValueError, "bounds"),
        ({"attack": "fgms"}, ValueError, "attack.*fgsm.*pgd.*fgms"),
        ({"estimator": LogisticRegression()}, NotFittedError, "not fitted"),
        ({"estimator": TREE, "attack": "fgsm"}, TypeError, "Decision"),
        ({"estimator": SILENT, "attack": "fgsm"}, TypeError, "Silent"),
        ({"X": np.full((569, 30), np.nan)}, ValueError, "NaN"),
        ({"X": np.zeros((569, 3))}, ValueError, "3 features.*30"),
        ({"y": np.zeros(5)}, ValueError, "5.*569"),
        ({"estimator": StandardScaler().fit(np.eye(30))}, TypeError, "StandardScaler"),
        ({"X": torch.zeros(569)}, ValueError, r"X.*\(569,\)"),
        ({"X": np.zeros(569)}, ValueError, r"X.*\(569,\)"),
        ({"y": np.zeros(569)}, ValueError, "y.*such as 'benign'; got 0.0"),
        ({"attack_params": {"n_step": 3}}, TypeError, "auto.*n_step"),
    ],
)
def test_bad_input_is_explained(cancer, model, score, change, error, message):
    arguments = {"estimator": model, "X": cancer[0], "y": cancer[1], "epsilon": 0.1, **change}
    with pytest.raises(error, match=message):
        score(**arguments)


def test_frames_keep_their_names_for_the_estimator(cancer, model):
    # scikit-learn warns if a model fitted on a frame receives an array without column names.
    X, y = cancer
    assert isinstance(X, pd.DataFrame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adversarial_accuracy_score(model, X, y, epsilon=0.1)


def test_scores_of_a_forest_are_those_on_the_copies_of_its_surrogate(iris):
    X, y = iris
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    surrogate = LogisticRegression(max_iter=1000)
    copies = perturb(surrogate.fit(X, forest.predict(X)), X, y, epsilon=0.8)
    options = {"epsilon": 0.8, "attack": "fgsm", "surrogate": FrozenEstimator(surrogate)}
    probability = forest.predict_proba(copies)
    wrong = probability.argmax(1) != y
    assert adversarial_accuracy_score(forest, X, y, **options) == forest.score(copies, y)
    found = adversarial_confidence(forest, X, y, **options)
    assert found == pytest.approx(probability[wrong].max(1).mean())
    assert 0.1 < wrong.mean() < 0.9


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("container", [list, torch.as_tensor, pd.Series, lambda y: y[:, None]])
def test_labels_may_be_in_any_container(iris, container):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    for score in (adversarial_accuracy_score, adversarial_confidence):
        assert score(model, X, container(y), epsilon=0.3) == score(model, X, y, epsilon=0.3)
    options = {"epsilons": [0.3], "attacks": ["fgsm"]}
    report = adversarial_report(model, X, container(y), **options)
    assert report.equals(adversarial_report(model, X, y, **options))
