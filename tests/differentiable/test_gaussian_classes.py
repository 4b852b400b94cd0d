"""Gaussian classes as modules."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from sk_adv import as_module

ESTIMATORS = [
    QuadraticDiscriminantAnalysis(),
    QuadraticDiscriminantAnalysis(reg_param=0.3, store_covariance=True),
    QuadraticDiscriminantAnalysis(priors=[0.2, 0.5, 0.3]),
    GaussianNB(),
    GaussianNB(var_smoothing=0.1, priors=[0.2, 0.5, 0.3]),
]


@pytest.fixture(params=ESTIMATORS, ids=repr)
def estimator(request, data):
    """The estimator, with one prior per class."""
    n_classes = len(set(data[1]))
    if request.param.priors is not None:
        priors = np.array([0.2, 0.5, 0.3])[:n_classes]
        request.param.set_params(priors=priors / priors.sum())
    return request.param


def of_full_rank(X):
    """X without its linear dependence, which scikit-learn refuses."""
    return X + np.random.default_rng(0).normal(scale=X.std(axis=0), size=X.shape)


def test_softmax_is_the_posterior(estimator, data, assert_agrees, assert_gradients):
    X, y = data
    X = of_full_rank(X)
    estimator.fit(X[:80], y[:80])
    assert_agrees(estimator, X, atol=1e-10)
    assert_agrees(estimator, X, dtype=torch.float32, atol=1e-3)
    assert_gradients(estimator, X)


def test_features_may_have_units_far_apart(uneven, assert_agrees):
    X, y = uneven
    for estimator in (QuadraticDiscriminantAnalysis(tol=0.0), GaussianNB(var_smoothing=0.0)):
        estimator.fit(of_full_rank(X), y)
        assert_agrees(estimator, X, atol=1e-9)
        assert_agrees(estimator, X, dtype=torch.float32, atol=5e-3)


def test_decision_function_is_that_of_quadratic_discriminants(data, assert_agrees):
    X, y = data
    model = QuadraticDiscriminantAnalysis(reg_param=0.1).fit(X, y)
    assert_agrees(model, X, output="decision_function", atol=1e-10)


def test_a_class_may_span_fewer_axes_than_another(data, assert_agrees):
    X, y = data
    model = QuadraticDiscriminantAnalysis(reg_param=0.1).fit(X, y)
    # As scikit-learn before 1.8 left it for a class of fewer samples than features.
    model.rotations_[1] = model.rotations_[1][:, :3]
    model.scalings_[1] = model.scalings_[1][:3]
    assert_agrees(model, X, output="decision_function", atol=1e-10)


def test_two_classes_have_logits_zero_and_log_odds(data):
    X, y = data
    model = GaussianNB().fit(X, y)
    logits = as_module(model)(torch.from_numpy(X)).numpy()
    if len(model.classes_) == 2:
        log_odds = np.diff(model.predict_joint_log_proba(X), axis=1)[:, 0]
        np.testing.assert_array_equal(logits[:, 0], 0)
        np.testing.assert_allclose(logits[:, 1], log_odds)
    else:
        np.testing.assert_allclose(logits.argmax(1), model.predict_joint_log_proba(X).argmax(1))


def test_far_away_nothing_overflows(data):
    X, y = data
    for model in (QuadraticDiscriminantAnalysis(reg_param=0.1), GaussianNB()):
        far = torch.from_numpy(1e8 * X).requires_grad_(True)
        logits = as_module(model.fit(X, y))(far)
        (gradient,) = torch.autograd.grad(logits.log_softmax(1).sum(), far)
        assert logits.isfinite().all()
        assert gradient.isfinite().all()
