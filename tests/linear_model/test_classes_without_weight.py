"""A class whose samples all have weight 0 stays a class, as in scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier, as_module
from sk_adv.linear_model import (
    AdversarialLogisticRegressionCV,
    adversarial_logistic_path,
    epsilon_max,
)
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score, robustness_radius

MODELS = [
    AdversarialLogisticRegression(epsilon=0.1, C=1.0),
    AdversarialLogisticRegressionCV(epsilons=[0.1], C=1.0, cv=2),
    AdversarialMaxoutClassifier((8,), epsilon=0.1, max_iter=20, batch_size=20, random_state=0),
]


def without_weight(problem, n_classes, *absent):
    """Data with weights of 0 for all samples of some classes."""
    X, y, weight = problem(120, n_classes=n_classes)
    return X, y, np.where(np.isin(y, absent), 0, weight)


@pytest.mark.parametrize("n_classes", [3, 4])
def test_the_weighted_classes_get_the_probabilities_of_scikit_learn(problem, n_classes):
    X, y, weight = without_weight(problem, n_classes, "bee")
    ours = AdversarialLogisticRegression(alpha=1.0, C=1.0, tol=1e-9).fit(X, y, weight)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(X, y, weight)
    assert list(ours.classes_) == list(theirs.classes_)
    # Theirs gives the class a small probability, as its intercept stops on its way down.
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(ours.coef_.sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("absent", [("cat",), ("ant", "dog"), ("bee",)])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_the_weighted_classes_are_fitted_as_if_there_were_no_others(problem, absent, norm):
    X, y, weight = without_weight(problem, 4 if "dog" in absent else 3, *absent)
    model = AdversarialLogisticRegression(epsilon=0.1, norm=norm).fit(X, y, weight)
    rest = AdversarialLogisticRegression(epsilon=0.1, norm=norm).fit(
        X[weight > 0], y[weight > 0], weight[weight > 0]
    )
    used = np.isin(model.classes_, rest.classes_)
    np.testing.assert_allclose(model.predict_proba(X)[:, used], rest.predict_proba(X), atol=1e-8)
    assert model.objective_ == pytest.approx(rest.objective_)
    assert not model.coef_[~used].any()
    np.testing.assert_allclose(model.coef_.sum(0), 0, atol=1e-12)
    # Also far outside of the training data.
    far = 1e3 * X
    assert set(model.predict(far)) <= set(rest.classes_)
    np.testing.assert_array_equal(model.predict(far), rest.predict(far))


def test_certificates_and_modules_are_those_of_the_weighted_classes(problem):
    X, y, weight = without_weight(problem, 4, "dog")
    model = AdversarialLogisticRegression(epsilon=0.1, C=1.0).fit(X, y, weight)
    rest = AdversarialLogisticRegression(epsilon=0.1, C=1.0).fit(
        X[y != "dog"], y[y != "dog"], weight[y != "dog"]
    )
    known = y != "dog"
    for norm in (np.inf, 2):
        np.testing.assert_allclose(
            robustness_radius(model, X[known], y[known], norm=norm),
            robustness_radius(rest, X[known], y[known], norm=norm),
            atol=1e-6,
        )
    assert certified_accuracy_score(model, X, y, epsilon=0.05) == pytest.approx(
        adversarial_accuracy_score(model, X, y, epsilon=0.05, attack="exact")
    )
    assert as_module(model)(torch.from_numpy(X)).isfinite().all()
    assert np.isfinite(model.predict_log_proba(X)).all()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_calibration_voting_and_log_loss_take_them(problem, model):
    X, y, weight = without_weight(problem, 3, "bee")
    known = y != "bee"
    fitted = model.fit(X, y, sample_weight=weight)
    assert list(fitted.classes_) == ["ant", "bee", "cat"]
    assert set(fitted.predict(X)) <= {"ant", "cat"}
    proba = fitted.predict_proba(X)
    assert np.isfinite(log_loss(y[known], proba[known], labels=fitted.classes_))
    assert np.isfinite(get_scorer("neg_log_loss")(fitted, X, y))
    voting = VotingClassifier([("ours", model), ("theirs", LogisticRegression())], voting="soft")
    assert voting.fit(X, y, sample_weight=weight).predict_proba(X).shape == (120, 3)
    calibrated = CalibratedClassifierCV(model, cv=3).fit(X, y, sample_weight=weight)
    by_theirs = CalibratedClassifierCV(LogisticRegression(), cv=3).fit(X, y, sample_weight=weight)
    ours, theirs = (one.score(X[known], y[known]) for one in (calibrated, by_theirs))
    assert ours > theirs - 0.1


@pytest.mark.parametrize("absent", ["ant", "bee"])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_one_weighted_class_of_two_gives_a_constant_and_a_warning(problem, absent, norm):
    X, y, weight = without_weight(problem, 2, absent)
    model = AdversarialLogisticRegression(norm=norm, C=1.0)
    with pytest.warns(ConvergenceWarning, match="single class.*second class"):
        model.fit(X, y, weight)
    theirs = LogisticRegression().fit(X, y, weight)
    np.testing.assert_array_equal(model.classes_, theirs.classes_)
    np.testing.assert_array_equal(model.predict(X), theirs.predict(X))
    assert not model.coef_.any()
    assert model.intercept_ * theirs.intercept_ > 0
    assert np.isfinite(model.predict_log_proba(X)).all()
    assert robustness_radius(model, X).min() == np.inf
    assert epsilon_max(X, y, sample_weight=weight) == 0


def test_one_weighted_class_of_three_gives_a_constant_and_a_warning(problem):
    X, y, weight = without_weight(problem, 3, "ant", "cat")
    with pytest.warns(ConvergenceWarning, match="single class"):
        model = AdversarialLogisticRegression().fit(X, y, weight)
    assert not model.coef_.any()
    assert set(model.predict(X)) == {"bee"}
    with pytest.warns(ConvergenceWarning, match="single class"):
        path = adversarial_logistic_path(X, y, sample_weight=weight, n_epsilons=3)
    assert path.coefs.shape == (3, 3, X.shape[1])
    assert not path.coefs.any()


@pytest.mark.parametrize("n_classes", [3, 4])
def test_the_path_gives_the_rows_of_all_classes(problem, n_classes):
    X, y, weight = without_weight(problem, n_classes, "cat")
    path = adversarial_logistic_path(X, y, sample_weight=weight, epsilons=[0.2, 0.1], C=1.0)
    for k, epsilon in enumerate(path.epsilons):
        model = AdversarialLogisticRegression(epsilon=epsilon, C=1.0).fit(X, y, weight)
        np.testing.assert_allclose(path.coefs[k], model.coef_, atol=1e-4)
        np.testing.assert_allclose(path.intercepts[k], model.intercept_, rtol=1e-3, atol=1e-4)
    largest = epsilon_max(X, y, sample_weight=weight)
    assert largest == pytest.approx(
        epsilon_max(X[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_an_intercept_the_class_has_weights_of_its_own(problem, n_classes):
    X, y, weight = without_weight(problem, n_classes, "bee")
    options = {"fit_intercept": False, "C": 1.0}
    ours = AdversarialLogisticRegression(alpha=1.0, **options).fit(X, y, weight)
    theirs = LogisticRegression(tol=1e-10, max_iter=10_000, **options).fit(X, y, weight)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


def test_weights_of_classes_may_name_them_and_may_be_zero(problem):
    X, y, weight = problem(120, n_classes=3)
    by_class = AdversarialLogisticRegression(
        epsilon=0.1, C=1.0, class_weight={"ant": 1, "bee": 0, "cat": 1}
    ).fit(X, y, weight)
    by_sample = AdversarialLogisticRegression(
        epsilon=0.1, C=1.0, class_weight={"ant": 1, "bee": 5, "cat": 1}
    ).fit(X, y, np.where(y == "bee", 0, weight))
    np.testing.assert_allclose(by_class.coef_, by_sample.coef_, atol=1e-9)
    balanced = AdversarialLogisticRegression(epsilon=0.1, C=1.0, class_weight="balanced")
    balanced.fit(X, y, np.where(y == "bee", 0, weight))
    assert list(balanced.classes_) == ["ant", "bee", "cat"]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_a_warm_start_passes_from_fewer_weighted_classes_to_all_and_back(problem, n_classes):
    X, y, weight = problem(120, n_classes=n_classes)
    model = AdversarialLogisticRegression(epsilon=0.1, C=1.0, warm_start=True)
    weights = [np.where(y == "bee", 0, weight), weight, np.where(y == "ant", 0, weight)]
    for current in weights:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fresh = AdversarialLogisticRegression(epsilon=0.1, C=1.0).fit(X, y, current)
            warm = model.fit(X, y, current)
        np.testing.assert_allclose(warm.predict_proba(X), fresh.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_weights_that_are_all_zero_are_refused(problem, model):
    X, y, weight = problem()
    with pytest.raises(ValueError, match="zero"):
        model.fit(X, y, sample_weight=0 * weight)


def test_a_network_keeps_a_class_without_weight_in_further_training(problem):
    X, y, weight = without_weight(problem, 3, "bee")
    network = AdversarialMaxoutClassifier((8,), random_state=0)
    network.partial_fit(X, y, sample_weight=weight)
    assert list(network.classes_) == ["ant", "bee", "cat"]
    network.partial_fit(X, y)
    assert network.predict_proba(X).shape == (120, 3)
