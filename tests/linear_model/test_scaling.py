"""Solutions do not depend on the units, offsets and spreads of the data."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import _max_norm_path, adversarial_logistic_path


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A path begins at the radius from which on this is so.
        warnings.filterwarnings("ignore", "All weights are zero")
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
    # Two features are redundant, so the weights are not unique without an adversary.
    np.testing.assert_allclose(
        found.decision_function((X + offset) * unit), expected.decision_function(X), atol=1e-6
    )


@pytest.mark.parametrize(("unit", "offset"), [*UNITS, (np.geomspace(1e-6, 1e6, 8), 1.0)])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize("n_classes", [3, 4])
def test_other_units_give_the_same_model_of_several_classes(
    problem, norm, alpha, n_classes, unit, offset
):
    X, y, weight = problem(200, 8, n_classes)
    epsilon = np.linspace(0, 0.2, 8)
    shared = {"norm": norm, "alpha": alpha}
    expected = AdversarialLogisticRegression(epsilon=epsilon, **shared).fit(X, y, weight)
    found = AdversarialLogisticRegression(epsilon=epsilon * unit, **shared)
    found.fit((X + offset) * unit, y, weight)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-9)
    np.testing.assert_allclose(
        found.predict_proba((X + offset) * unit), expected.predict_proba(X), atol=1e-5
    )
    rows = found.coef_ * unit
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-12 * abs(rows).max())


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


@pytest.mark.parametrize("share", [None, 1.0])
def test_features_that_a_path_did_not_look_at_are_optimal_too(monkeypatch, share):
    if share is not None:
        # Only features that violate their conditions enter, and no others in advance.
        monkeypatch.setattr(_max_norm_path, "_PRESSING", share)
        monkeypatch.setattr(_max_norm_path, "_NEAR", share)
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
@pytest.mark.parametrize("parameters", [{"alpha": 1}, {"epsilon": 0}, {"epsilon": [0.1, 0, 0]}])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_constant_features_are_left_to_the_intercept(norm, parameters, container):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.logistic(size=200) > 0
    X = container(np.c_[x, np.full(200, 0.1), np.full(200, 1e4)])
    model = AdversarialLogisticRegression(norm=norm, **parameters).fit(X, y)
    np.testing.assert_array_equal(model.coef_[0, 1:], 0)
    parameters["epsilon"] = np.ravel(parameters.get("epsilon", 0))[0]
    expected = AdversarialLogisticRegression(norm=norm, **parameters).fit(x[:, None], y)
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-12)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-6)


@pytest.mark.parametrize("offset", [3e7, 1e10])
def test_features_far_from_zero_are_no_constants(problem, offset):
    X, y, _ = problem(200)
    found = AdversarialLogisticRegression(epsilon=0.1).fit(X + offset, y)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X + offset - offset, y)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-25, 1e17])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_squares_that_single_precision_can_not_hold_do_no_harm(problem, unit, container):
    X, y, _ = problem(200)
    X = X.astype(np.float32)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    found = AdversarialLogisticRegression(epsilon=0.1 * unit)
    found.fit(container(X * np.float32(unit)), y)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-6)


def test_features_that_are_too_large_are_refused(problem):
    X, y, _ = problem()
    with pytest.raises(ValueError, match="too large.*smaller units"):
        AdversarialLogisticRegression().fit(X * 1e160, y)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("seed", [0, 3])
def test_almost_collinear_features_are_followed_to_the_optimum(norm, seed):
    # Powers of the same variable: the violation is small long before the objective is optimal.
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, size=300)
    y = np.sin(12 * t) + 0.2 * rng.logistic(size=300) > 0
    X = StandardScaler().fit_transform(t[:, None] ** np.arange(1, 11))
    found = AdversarialLogisticRegression(epsilon=1e-6, norm=norm).fit(X, y)

    def objective(weights):
        reach = 1e-6 * np.linalg.norm(weights[:-1], ord=1 if norm == np.inf else 2)
        margin = np.where(y, 1, -1) * (X @ weights[:-1] + weights[-1])
        return np.logaddexp(0, reach - margin).mean()

    start = np.append(found.coef_[0], found.intercept_)
    longer = minimize(objective, start, method="Powell", options={"maxiter": 20})
    assert objective(start) == pytest.approx(found.objective_, rel=1e-9)
    assert longer.fun >= found.objective_ * (1 - 1e-6)
    exact = AdversarialLogisticRegression(epsilon=1e-6, norm=norm, tol=1e-11, max_iter=1000)
    assert exact.fit(X, y).objective_ >= found.objective_ * (1 - 1e-6)


@pytest.mark.parametrize("tol", [1e-9, 1e-12])
def test_paths_reach_tolerances_at_which_rounding_hides_the_gain(problem, tol):
    X, y, _ = problem(130)
    path = adversarial_logistic_path(X, y, n_epsilons=10, tol=tol)
    assert path.violations.max() <= tol


@pytest.mark.parametrize("C", [1e-12, 1e-6])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_strong_penalties_leave_the_weights_of_their_own_gradient(problem, C, norm):
    # w is C times the gradient at zero, shortened by the radius.
    X, y, _ = problem(200)
    share = (y == "bee").mean()
    pull = X.T @ ((y == "bee") - share)
    reach = 0.1 * 2 * 200 * share * (1 - share)
    if norm == np.inf:
        expected = C * np.sign(pull) * (abs(pull) - reach).clip(0)
    else:
        expected = C * pull * (1 - reach / np.linalg.norm(pull))
    found = AdversarialLogisticRegression(epsilon=0.1, C=C, norm=norm).fit(X, y)
    error = (1e3 * C + 1e-6) * abs(expected).max()
    np.testing.assert_allclose(found.coef_[0], expected, atol=error)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("epsilon", [1e-200, 1e-12])
def test_vanishing_radii_give_plain_logistic_regression(problem, norm, epsilon):
    X, y, _ = problem(200)
    found = AdversarialLogisticRegression(epsilon=epsilon, norm=norm, C=10).fit(X, y)
    expected = LogisticRegression(C=10, solver="newton-cholesky", tol=1e-10).fit(X, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6)
