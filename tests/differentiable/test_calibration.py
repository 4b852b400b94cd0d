"""CalibratedClassifierCV against scikit-learn's own probabilities."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sk_adv import AdversarialMaxoutClassifier, as_module
from sk_adv.attacks import fgsm
from sk_adv.attacks._estimators import check_attackable

SCALED = make_pipeline(StandardScaler(), LogisticRegression())
SOFT = VotingClassifier([("line", SCALED), ("bayes", GaussianNB())], voting="soft")
BASES = [RidgeClassifier(), GaussianNB(), make_pipeline(StandardScaler(), SVC())]
METHODS = sorted(CalibratedClassifierCV._parameter_constraints["method"][0].options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", BASES)
def test_softmax_is_predict_proba(base, method, data, assert_agrees, assert_gradients):
    X, y = data
    model = CalibratedClassifierCV(base, method=method, cv=3).fit(X[:80], y[:80])
    assert_agrees(model, X, atol=1e-9)
    assert_gradients(model, X[:4])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", BASES[:2])
def test_one_calibrator_for_all_folds(base, method, data, assert_agrees):
    X, y = data
    model = CalibratedClassifierCV(base, method=method, cv=3, ensemble=False)
    assert_agrees(model.fit(X[:80], y[:80]), X, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", [SCALED, GaussianNB()])
def test_calibration_of_a_frozen_estimator(base, method, data, assert_agrees):
    X, y = data
    frozen = FrozenEstimator(clone(base).fit(X[:60], y[:60]))
    model = CalibratedClassifierCV(frozen, method=method, cv=3)
    assert_agrees(model.fit(X[60:], y[60:]), X, atol=1e-9)


@pytest.mark.parametrize(
    "base",
    [
        None,
        BaggingClassifier(SCALED, n_estimators=3, max_features=0.5, random_state=0),
        OneVsRestClassifier(SCALED),
        SOFT,
        GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 10]}, cv=2),
        CalibratedClassifierCV(RidgeClassifier(), method="isotonic", cv=2),
    ],
)
def test_calibration_of_what_is_made_of_others(base, data, assert_agrees):
    X, y = data
    X = StandardScaler().fit_transform(X)
    assert_agrees(CalibratedClassifierCV(base, cv=2).fit(X, y), X, atol=1e-9)


SMOOTH = [method for method in METHODS if method != "isotonic"]


# Not the isotonic method: its steep slopes magnify the rounding errors of float32.
@pytest.mark.parametrize("method", SMOOTH)
def test_calibrated_network_beside_double_precision(method, data, assert_agrees):
    X, y = data[0], np.unique(data[1], return_inverse=True)[1]
    network = AdversarialMaxoutClassifier((8, 8), max_iter=3, random_state=0)
    network = FrozenEstimator(network.fit(X.astype(np.float32), y))
    calibrated = CalibratedClassifierCV(network, method=method, cv=2)
    model = VotingClassifier([("line", SCALED), ("net", calibrated)], voting="soft").fit(X, y)
    assert_agrees(model, X, as_module(model))


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_folds_without_some_classes(method, assert_agrees):
    X, y = make_classification(90, 4, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
    some = np.flatnonzero(y != 1)
    everything = np.arange(len(y))
    folds = [(some, everything), (everything[::2], everything[1::2])]
    model = CalibratedClassifierCV(GaussianNB(), method=method, cv=folds).fit(X, y)
    assert {len(pair.estimator.classes_) for pair in model.calibrated_classifiers_} == {2, 3}
    # Away from the thresholds, where a single column that is positive by rounding becomes 1.
    assert_agrees(model, X + 0.01, atol=1e-9)


def test_isotonic_probabilities_of_zero_have_finite_logits_and_gradients():
    # Three classes around a centre at which each one is improbable.
    generator = np.random.default_rng(0)
    corners = 4 * np.array([[1, 0], [-0.5, 0.87], [-0.5, -0.87]])
    y = np.arange(300) % 3
    X = corners[y] + generator.normal(size=(300, 2))
    model = CalibratedClassifierCV(RidgeClassifier(), method="isotonic", ensemble=False).fit(X, y)
    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 41)] * 2), axis=-1).reshape(-1, 2)
    expected = model.predict_proba(grid)
    # scikit-learn turns three zeros into one third each.
    assert (expected == 0).any() and (expected == 1 / 3).all(axis=1).any()
    inputs = torch.from_numpy(grid).requires_grad_(True)
    logits = as_module(model)(inputs)
    np.testing.assert_allclose(logits.detach().softmax(1), expected, atol=1e-12)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum() - logits[:, 0].sum(), inputs)
    assert logits.isfinite().all() and gradient.isfinite().all()


def test_isotonic_single_step_is_a_constant():
    # With equal responses the regression has a single threshold.
    X, y = np.zeros((40, 2)), np.arange(40) % 2
    model = CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2).fit(X, y)
    assert {len(pair.calibrators[0].X_thresholds_) for pair in model.calibrated_classifiers_} == {1}
    X = np.random.default_rng(0).normal(size=(5, 2))
    found = as_module(model)(torch.from_numpy(X)).softmax(1)
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-12)


def test_isotonic_steps_stay_between_their_ends_in_single_precision(data):
    X, y = data
    model = CalibratedClassifierCV(SCALED, method="isotonic", cv=3).fit(X, y)
    single = as_module(model, dtype=torch.float32)
    found = single(torch.from_numpy(X).float()).softmax(1)
    # Half of the rows lie on thresholds, where rounding may move them over a step.
    error = abs(found.numpy() - model.predict_proba(X)).max(axis=1)
    assert np.median(error) < 1e-5


def test_sigmoid_does_not_underflow_far_out(data):
    X, y = data
    module = as_module(CalibratedClassifierCV(SCALED, cv=3).fit(X, y))
    X = torch.from_numpy(1e4 * X).requires_grad_(True)
    logits = module(X)
    (gradient,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), X)
    assert logits.isfinite().all() and gradient.isfinite().all()
    assert (gradient != 0).any()


# Not the isotonic method: its gradient is 0 on each step.
@pytest.mark.parametrize("method", SMOOTH)
def test_attack_on_a_calibrated_pipeline_does_more_than_noise(method, data):
    X, y = data
    codes = np.unique(y, return_inverse=True)[1]
    model = CalibratedClassifierCV(SCALED, method=method, cv=3).fit(X, y)
    epsilon = 0.3 * X.std(axis=0)
    noise = epsilon * np.random.default_rng(0).choice([-1, 1], X.shape)
    copies = fgsm(as_module(model), X, codes, epsilon)
    assert model.score(copies, y) < model.score(X + noise, y) - 0.1


def test_part_without_a_rule_is_named_before_and_after_fit():
    X, y = make_classification(60, random_state=0)
    check_attackable(CalibratedClassifierCV())
    model = CalibratedClassifierCV(FrozenEstimator(DecisionTreeClassifier().fit(X, y)))
    for refuse in (lambda: check_attackable(model), lambda: as_module(clone(model).fit(X, y))):
        with pytest.raises(TypeError, match="no rule for DecisionTreeClassifier"):
            refuse()
