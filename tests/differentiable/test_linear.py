"""Linear classifiers as modules."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.svm import LinearSVC
from torch import nn

from sk_adv import as_module
from sk_adv.differentiable import decision_values, log_probabilities
from sk_adv.differentiable._linear import fold_linear, is_affine

ESTIMATORS = [
    LogisticRegression(fit_intercept=False),
    LogisticRegressionCV(Cs=2, cv=2, max_iter=20),
    Perceptron(random_state=0),
    RidgeClassifier(),
    RidgeClassifier(fit_intercept=False),
    RidgeClassifierCV(),
    LinearSVC(),
    LinearSVC(fit_intercept=False),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    SGDClassifier(random_state=0),
    SGDClassifier(loss="log_loss", alpha=0.3, random_state=0),
    SGDClassifier(loss="squared_hinge", average=True, random_state=0),
]
MODIFIED_HUBER = SGDClassifier(loss="modified_huber", alpha=1, random_state=0)
# Warnings about LogisticRegressionCV's new defaults, and about fits that stop early.
WARNINGS = ["ignore::FutureWarning", "ignore:.*failed to converge"]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.filterwarnings(*WARNINGS)
def test_module_is_the_linear_classifier(estimator, data, assert_agrees, assert_gradients):
    X, y = data
    estimator.fit(X[:80], y[:80])
    assert_agrees(estimator, X, atol=1e-10)
    assert_agrees(estimator, X, dtype=torch.float32, atol=1e-3)
    assert_gradients(estimator, X)


# With the log loss all sigmoids underflow here; another test covers that.
@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if getattr(e, "loss", None) != "log_loss"], ids=repr
)
@pytest.mark.filterwarnings(*WARNINGS, "ignore:Ill-cond")
def test_features_may_have_units_far_apart(estimator, uneven, assert_agrees):
    X, y = uneven
    assert_agrees(estimator.fit(X[:80], y[:80]), X, atol=1e-9)


def test_sigmoids_that_underflow_leave_the_order_of_the_classes(data):
    X, y = data
    model = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    X = torch.from_numpy(1e6 * X).requires_grad_(True)
    logits = as_module(model)(X)
    decision = torch.as_tensor(model.decision_function(X.detach().numpy()))
    if decision.ndim == 2:
        is_beyond = (decision < -745).all(1)
        assert is_beyond.any()
        assert torch.equal(logits[is_beyond].argmax(1), decision[is_beyond].argmax(1))
    (gradient,) = torch.autograd.grad(logits.sum(), X)
    assert gradient.isfinite().all()


def test_probabilities_of_modified_huber_are_beside_its_decisions(data, assert_agrees):
    X, y = data
    model = MODIFIED_HUBER.fit(X, y)
    assert_agrees(model, X, output="decision_function")
    module = as_module(model)
    X = torch.from_numpy(np.concatenate([X, 10 * X])).requires_grad_(True)
    expected = model.predict_proba(X.detach().numpy())
    logarithms = log_probabilities(module, X)
    np.testing.assert_allclose(logarithms.exp().detach(), expected, atol=1e-12)
    assert (expected == 0).any()
    assert ((expected > 0.01) & (expected < 0.99)).any()
    assert logarithms.isfinite().all()
    (gradient,) = torch.autograd.grad(logarithms.sum(), X)
    assert gradient.isfinite().all()
    within = X[((expected > 0.01) & (expected < 0.99)).all(1)][:8].detach().requires_grad_(True)
    assert torch.autograd.gradcheck(module.log_probabilities, within)


def test_modified_huber_without_a_share_is_uniform():
    X = np.eye(3)
    model = MODIFIED_HUBER.fit(np.tile(X, (20, 1)), np.tile([0, 1, 2], 20))
    model.coef_, model.intercept_ = -np.eye(3), np.full(3, -5.0)
    found = log_probabilities(as_module(model), torch.from_numpy(X)).exp()
    np.testing.assert_allclose(found, model.predict_proba(X))
    np.testing.assert_allclose(found, 1 / 3)


def test_one_against_the_rest_keeps_its_decision_values(data):
    X, y = data
    model = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    found = decision_values(as_module(model), torch.from_numpy(X)).numpy()
    expected = model.decision_function(X)
    np.testing.assert_allclose(found[:, 1] if expected.ndim == 1 else found, expected)


@pytest.mark.parametrize("estimator", [LogisticRegression(), SGDClassifier(), MODIFIED_HUBER])
def test_coefficients_may_be_sparse(estimator, data, assert_agrees):
    X, y = data
    estimator.fit(X, y).sparsify()
    assert sparse.issparse(estimator.coef_)
    assert_agrees(estimator, X, output="decision_function")


@pytest.mark.parametrize("estimator", [RidgeClassifier(), LinearSVC(), MODIFIED_HUBER])
def test_what_is_linear_folds_to_its_coefficients(estimator, data):
    X, y = data
    coef, intercept = fold_linear(as_module(estimator.fit(X, y)), 8)
    first = 1 if len(estimator.classes_) == 2 else 0
    np.testing.assert_allclose(coef[first:], np.atleast_2d(estimator.coef_))
    np.testing.assert_allclose(intercept[first:], estimator.intercept_)


def test_each_class_has_an_offset_without_an_intercept_too(data):
    X, y = data
    model = LinearSVC(fit_intercept=False).fit(X, y)
    assert model.intercept_ == 0
    assert torch.equal(as_module(model).intercept, torch.zeros(len(model.coef_)).double())


def test_several_labels_a_sample_are_refused():
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = RidgeClassifier().fit(X, (X > 0).astype(int))
    with pytest.raises(ValueError, match="RidgeClassifier was fitted to multilabel.*per label"):
        as_module(model)


def test_layers_that_compute_something_else_are_not_taken_for_affine():
    class Squared(nn.Linear):
        def forward(self, X):
            return super().forward(X) ** 2

    class Rectified(nn.Sequential):
        def forward(self, X):
            return super().forward(X).relu()

    assert is_affine(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    for module in (Squared(3, 2), Rectified(nn.Linear(3, 2)), nn.Sequential(Squared(3, 2))):
        assert not is_affine(module)
