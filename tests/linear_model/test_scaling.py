"""Solutions do not depend on the units, offsets and spreads of the data."""

import warnings

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import adversarial_logistic_path


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


UNITS = [
    (1e-6, 0.0),
    (1e5, 0.0),
    (1.0, 1e4),
    (np.geomspace(1e-4, 1e4, 8), 0.0),
    (np.geomspace(1e-4, 1e4, 8), -300.0),
]


@pytest.mark.parametrize(("unit", "offset"), UNITS)
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_other_units_give_the_same_model(problem, norm, alpha, unit, offset):
    X, y, weight = problem(200)
    epsilon = np.linspace(0, 0.2, 8)
    shared = {"norm": norm, "alpha": alpha}
    expected = AdversarialLogisticRegression(epsilon=epsilon, **shared).fit(X, y, weight)
    found = AdversarialLogisticRegression(epsilon=epsilon * unit, **shared)
    found.fit((X + offset) * unit, y, weight)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-10)
    # Two features are redundant, so that without an adversary the weights are not unique.
    np.testing.assert_allclose(
        found.decision_function((X + offset) * unit), expected.decision_function(X), atol=1e-6
    )


@pytest.mark.parametrize(("unit", "offset"), [unit for unit in UNITS if np.ndim(unit[0]) == 0])
def test_a_path_has_the_objectives_of_single_fits_in_any_units(problem, unit, offset):
    X, y, _ = problem(200)
    path = adversarial_logistic_path((X + offset) * unit, y, n_epsilons=8)
    for epsilon, objective in zip(path.epsilons, path.objectives, strict=True):
        single = AdversarialLogisticRegression(epsilon=epsilon / unit).fit(X, y)
        assert objective == pytest.approx(single.objective_, rel=1e-6)


def test_a_path_is_followed_where_the_loss_almost_vanishes():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(60, 300)), rng.integers(2, size=60)
    path = adversarial_logistic_path(X, y, C=1e6, n_epsilons=8)
    for epsilon, objective in zip(path.epsilons, path.objectives, strict=True):
        single = AdversarialLogisticRegression(epsilon=epsilon, C=1e6).fit(X, y)
        assert objective == pytest.approx(single.objective_, rel=1e-5)
    assert path.objectives[-1] < 1e-4


def test_features_that_a_path_did_not_look_at_are_optimal_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 400)) @ (np.eye(400) + 0.05 * rng.normal(size=(400, 400)))
    sign = np.where(X[:, :40].sum(1) + 20 * rng.logistic(size=300) > 0, 1, -1)
    path = adversarial_logistic_path(X, sign, n_epsilons=12, epsilon_min_ratio=0.3)
    for epsilon, coef, intercept in zip(
        path.epsilons, path.coefs[:, 0], path.intercepts[:, 0], strict=True
    ):
        p = expit(epsilon * abs(coef).sum() - sign * (X @ coef + intercept)) / 300
        g = -X.T @ (p * sign)
        assert abs(p @ sign) <= 1e-6
        at_zero, elsewhere = abs(g) - epsilon * p.sum(), g + epsilon * p.sum() * np.sign(coef)
        violation = np.where(coef == 0, at_zero, abs(elsewhere)) / X.std(axis=0)
        assert violation.max() <= 1e-6
    assert 20 < (path.coefs[-1] != 0).sum() < 200


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("epsilon", [1e-200, 1e-12])
def test_vanishing_radii_give_plain_logistic_regression(problem, norm, epsilon):
    X, y, _ = problem(200)
    found = AdversarialLogisticRegression(epsilon=epsilon, norm=norm, C=10).fit(X, y)
    expected = LogisticRegression(C=10, solver="newton-cholesky", tol=1e-10).fit(X, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6)
