"""Scores under attack against definitions, and scorers inside scikit-learn's tools."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv import AdversarialLogisticRegression
from sk_adv.attacks import fgsm
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    certified_accuracy_score,
    make_adversarial_scorer,
)


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y.map({0: "malignant", 1: "benign"})


@pytest.fixture(scope="module")
def model(cancer):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*cancer)


def margins(model, X, y, epsilon):
    """Signed decision values of a scaled linear model at the worst case, in closed form."""
    scaler, linear = model
    sign = np.where(y == linear.classes_[1], 1, -1)
    weights = linear.coef_[0] / scaler.scale_
    return sign * model.decision_function(X) - abs(weights) @ np.broadcast_to(epsilon, X.shape[1:])


@pytest.mark.parametrize("share", [0, 0.1, 0.3])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", fgsm])
def test_scores_of_a_linear_pipeline_are_those_of_the_closed_form(cancer, model, share, attack):
    X, y = cancer
    epsilon = share * X.std().to_numpy()
    margin = margins(model, X, y, epsilon)
    params = {"random_start": False} if attack == "pgd" else {}
    accuracy = adversarial_accuracy_score(model, X, y, epsilon=epsilon, attack=attack, **params)
    confidence = adversarial_confidence(model, X, y, epsilon=epsilon, attack=attack, **params)
    assert accuracy == (margin > 0).mean()
    assert confidence == pytest.approx((1 / (1 + np.exp(margin[margin < 0]))).mean())


def test_sample_weight_weighs_the_mean(cancer, model):
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


def test_label_unseen_in_training_counts_as_wrong():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression().fit(X[y < 2], y[y < 2])
    assert adversarial_accuracy_score(model, X, y, epsilon=0) == pytest.approx(2 / 3)


def test_confidence_without_errors_is_undefined():
    X, y = load_iris(return_X_y=True)
    X, y = X[y < 2], y[y < 2]
    with pytest.warns(UndefinedMetricWarning, match="NaN"):
        assert np.isnan(adversarial_confidence(LogisticRegression().fit(X, y), X, y, epsilon=0))


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_certificate_is_the_worst_over_all_corners_of_the_box(n_classes):
    rng = np.random.default_rng(n_classes)
    X, y = rng.normal(size=(200, 6)) * np.arange(1, 7), rng.integers(0, n_classes, 200)
    X[np.arange(200), y] += 3
    model = make_pipeline(StandardScaler(), AdversarialLogisticRegression(epsilon=0.1))
    model.fit(X, y)
    epsilon = 0.2 * np.arange(6)
    corners = epsilon * np.array(list(itertools.product([-1, 1], repeat=6)))
    safe = [np.all(model.predict(x + corners) == label) for x, label in zip(X, y, strict=True)]
    weight = rng.uniform(size=200)
    found = certified_accuracy_score(model, X, y, epsilon=epsilon, sample_weight=weight)
    assert found == pytest.approx(np.average(safe, weights=weight))
    assert 0 < found < model.score(X, y, sample_weight=weight)


def test_euclidean_certificate_is_the_distance_to_the_nearest_boundary():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    w, b = model.coef_, model.intercept_
    distances = []
    for x, k in zip(X, y, strict=True):
        gaps = [
            ((w[k] - w[j]) @ x + b[k] - b[j]) / np.linalg.norm(w[k] - w[j])
            for j in range(3)
            if j != k
        ]
        distances.append(min(gaps))
    for epsilon in (0, 0.2, 0.5):
        found = certified_accuracy_score(model, X, y, epsilon=epsilon, norm=2)
        assert found == pytest.approx(np.mean(np.array(distances) > epsilon))


def test_no_attack_beats_the_certificate():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    for epsilon in (0.1, 0.3, 0.6):
        attacked = adversarial_accuracy_score(
            model, X, y, epsilon=epsilon, attack="pgd", n_restarts=3, random_state=0
        )
        assert certified_accuracy_score(model, X, y, epsilon=epsilon) <= attacked


def test_what_is_not_linear_has_no_exact_certificate(cancer):
    X, y = cancer
    clipped = make_pipeline(MinMaxScaler(clip=True), LogisticRegression()).fit(X, y)
    with pytest.raises(TypeError, match="linear"):
        certified_accuracy_score(clipped, X, y, epsilon=0.1)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scorer_works_by_name_beside_a_clean_one(cancer, n_jobs):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression())
    epsilon = 0.3 * X.std().to_numpy()
    scoring = {"clean": "accuracy", "attacked": make_adversarial_scorer(epsilon=epsilon)}
    found = cross_validate(
        model, X, y, scoring=scoring, n_jobs=n_jobs, return_estimator=True, return_indices=True
    )
    for i, fold in enumerate(found["indices"]["test"]):
        held_out = X.iloc[fold], y.iloc[fold]
        fitted = found["estimator"][i]
        assert found["test_clean"][i] == fitted.score(*held_out)
        assert found["test_attacked"][i] == (margins(fitted, *held_out, epsilon) > 0).mean()


def test_scorer_chooses_epsilon_in_a_grid_search(cancer):
    X, y = cancer
    grid = {"adversarial__epsilon": [0.0, 0.3], "adversarial__alpha": [0.0, 0.5]}
    search = GridSearchCV(
        Pipeline(
            [("scale", StandardScaler()), ("adversarial", AdversarialLogisticRegression(C=100))]
        ),
        grid,
        scoring=make_adversarial_scorer(epsilon=0.3 * X.std().to_numpy()),
    ).fit(X, y)
    assert search.best_params_["adversarial__epsilon"] == 0.3
    assert search.score(X, y) > 0.8


def test_scorer_wraps_any_other(cancer, model):
    X, y = cancer
    epsilon = 0.3 * X.std().to_numpy()
    margin = margins(model, X, y, epsilon) * np.where(y == model.classes_[1], 1, -1)
    scorer = make_adversarial_scorer("roc_auc", epsilon=epsilon)
    assert scorer(model, X, y) == pytest.approx(roc_auc_score(y == model.classes_[1], margin))


def test_scorer_forwards_sample_weight(cancer, model):
    X, y = cancer
    weight = (y == "benign").to_numpy().astype(float)
    epsilon = 0.3 * X.std().to_numpy()
    expected = (margins(model, X, y, epsilon) > 0)[y == "benign"].mean()
    scorer = make_adversarial_scorer(epsilon=epsilon)
    assert scorer(model, X, y, sample_weight=weight) == pytest.approx(expected)


def test_scorer_requests_sample_weight_by_metadata_routing(cancer):
    X, y = cancer
    X = StandardScaler().fit_transform(X)
    benign = (y == "benign").to_numpy()
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=False)
        scorer = make_adversarial_scorer(epsilon=0.3).set_score_request(sample_weight=True)
        found = cross_val_score(
            model, X, benign, scoring=scorer, params={"sample_weight": benign.astype(float)}
        )
    # Accuracy that weighs one class only is the recall of this class.
    recall = make_adversarial_scorer("recall", epsilon=0.3)
    expected = cross_val_score(LogisticRegression(), X, benign, scoring=recall)
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def test_scorer_wraps_a_plain_function(cancer, model):
    X, y = cancer
    epsilon = 0.3 * X.std().to_numpy()
    scorer = make_adversarial_scorer(lambda model, X, y: model.score(X, y), epsilon=epsilon)
    assert scorer(model, X, y) == adversarial_accuracy_score(model, X, y, epsilon=epsilon)
    bounds = np.array([X.min(), X.max()])
    make_adversarial_scorer(epsilon=epsilon, bounds=bounds)(model, X, y)


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
    with pytest.raises(ValueError, match="inconsistent numbers"):
        adversarial_accuracy_score(model, X, y, epsilon=1, attack=attack, sample_weight=[1, 2])
    silent = Silent().fit(X, y)
    with pytest.raises(TypeError, match="predict_proba"):
        adversarial_confidence(silent, X, y, epsilon=1, attack=attack)


def test_scorer_says_what_it_does():
    text = repr(make_adversarial_scorer("accuracy", epsilon=0.25, attack="pgd", n_steps=5))
    assert "accuracy" in text and "epsilon=0.25" in text and "n_steps=5" in text


class Silent(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


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
        ({"estimator": DecisionTreeClassifier().fit(np.eye(30), range(30))}, TypeError, "Decision"),
        ({"estimator": Silent().fit(np.eye(2), [0, 1])}, TypeError, "Silent"),
        ({"X": np.full((569, 30), np.nan)}, ValueError, "NaN"),
        ({"X": np.zeros((569, 3))}, ValueError, "3 features.*30"),
        ({"y": np.zeros(5)}, ValueError, "5.*569"),
        ({"estimator": StandardScaler().fit(np.eye(30))}, TypeError, "StandardScaler"),
        ({"X": torch.zeros(569)}, ValueError, r"X.*\(569,\)"),
    ],
)
def test_bad_input_is_explained(cancer, model, score, change, error, message):
    arguments = {"estimator": model, "X": cancer[0], "y": cancer[1], "epsilon": 0.1, **change}
    with pytest.raises(error, match=message):
        score(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -1}, "epsilon"),
        ({"norm": 3}, "norm"),
        ({"bounds": (1, 0)}, "bounds"),
        ({"attack": "fgms"}, "attack"),
        ({"scoring": "accurate"}, "accurate"),
        ({"scoring": None}, "scoring.*None"),
        ({"epsilon": [[1], [1, 2]]}, "epsilon"),
        ({"bounds": 1}, "bounds.*pair"),
        ({"bounds": ([0, 0], [1, 1, 1])}, r"bounds.*\(2,\) and \(3,\)"),
    ],
)
def test_scorer_refuses_bad_parameters_when_it_is_made(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_adversarial_scorer(**{"epsilon": 0.1, **change})


def test_frames_keep_their_names_for_the_estimator(cancer, model):
    # scikit-learn warns where a model fitted on a frame is given a bare array.
    X, y = cancer
    assert isinstance(X, pd.DataFrame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adversarial_accuracy_score(model, X, y, epsilon=0.1)
