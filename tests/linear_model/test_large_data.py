"""Two classes of large data: rough starts, copies of features and Hessians that are kept.

The thresholds from which data counts as large are lowered. The oracle are the optimality conditions
of the class's documentation, written out; the problem is convex, so they suffice.
"""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    _designs,
    _euclidean_solver,
    _feature_copies,
    _max_norm_solver,
    _screening,
    adversarial_logistic_path,
    epsilon_max,
)


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(_max_norm_solver, "_MANY_ENTRIES", 0)
    monkeypatch.setattr(_max_norm_solver, "_FEWEST_SAMPLES", 10)
    monkeypatch.setattr(_feature_copies, "_CHUNK", 32)
    monkeypatch.setattr(_designs, "_STATISTICS_ENTRIES", 64)
    monkeypatch.setattr(_designs, "_STATISTICS_COLUMNS", 5)


def violation_of(model, X, y, weight):
    """The largest violation of the optimality conditions, on standardised features."""
    share = weight / weight.sum()
    centre = share @ X if model.fit_intercept else 0.0
    scale = np.sqrt(share @ (X - centre) ** 2)
    sign = np.where(y == model.classes_[1], 1, -1)
    coef, alpha = model.coef_[0], model.alpha
    margin = sign * (X @ coef + model.intercept_)
    q = (1 - alpha) * share * expit(np.sum(model.epsilon * abs(coef)) - margin)
    p = q + alpha * share * expit(-margin)
    g = -(p * sign) @ (X - centre) + coef / (model.C * weight.sum())
    threshold = model.epsilon * q.sum()
    at_zero, elsewhere = abs(g) - threshold, abs(g + threshold * np.sign(coef))
    parts = np.where(coef == 0, at_zero, elsewhere) / scale
    return max(parts.max(), abs(p @ sign) * model.fit_intercept)


def draw(seed):
    """Data of any kind and units, sample weights, and parameters of the model."""
    rng = np.random.default_rng(seed)
    n_samples, n_features = int(rng.integers(90, 160)), int(rng.integers(6, 40))
    X = rng.normal(size=(n_samples, n_features)) + rng.normal(scale=3, size=n_features)
    if seed % 3 == 0:
        X *= rng.random(X.shape) < 0.3
    y = (X - X.mean(0))[:, :4].sum(1) + 2 * rng.logistic(size=n_samples) > 0
    units = 10 ** rng.uniform(-6, 6, size=n_features) if seed % 2 else np.ones(n_features)
    parameters = {
        "epsilon": units * rng.choice([0.0, 0.05, 0.2], p=[0.2, 0.4, 0.4], size=n_features),
        "alpha": rng.choice([0.0, 0.4]),
        "C": rng.choice([10.0, 1e3]),
        "fit_intercept": bool(seed % 5),
    }
    return X * units, y, rng.uniform(0.2, 2, size=n_samples), parameters


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_single_fits_are_optimal(everything_is_large, monkeypatch, seed, copied, precision):
    monkeypatch.setattr(_feature_copies, "_MANY_OPERATIONS", 0 if precision == "single" else 1e9)
    if not copied:
        monkeypatch.setattr(_screening, "_COPIED_ENTRIES", 0)
    X, y, weight, parameters = draw(seed)
    model = AdversarialLogisticRegression(**parameters)
    model.fit(sparse.csr_array(X) if seed % 3 == 0 else X, y, sample_weight=weight)
    assert violation_of(model, X, y, weight) <= 1.001 * model.tol
    assert model.violation_ <= model.tol
    # Nothing is lost by the tolerance: the same problem at a finer one.
    finer = AdversarialLogisticRegression(**parameters, tol=1e-10, max_iter=1000)
    finer.fit(X, y, sample_weight=weight)
    assert model.objective_ == pytest.approx(finer.objective_, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_paths_are_optimal(everything_is_large, seed):
    X, y, weight, parameters = draw(seed)
    scale, model = parameters.pop("epsilon"), AdversarialLogisticRegression(**parameters)
    path = adversarial_logistic_path(
        sparse.csc_array(X) if seed % 3 == 0 else X,
        y,
        epsilons=np.geomspace(3, 0.1, 12),
        scale=np.where(scale > 0, scale, scale.max()),
        sample_weight=weight,
        **parameters,
    )
    model.classes_ = np.array([False, True])
    for epsilon, coef, intercept in zip(path.epsilons, path.coefs, path.intercepts, strict=True):
        model.set_params(epsilon=epsilon * np.where(scale > 0, scale, scale.max()))
        model.coef_, model.intercept_ = coef, intercept
        assert violation_of(model, X, y, weight) <= 1.001 * model.tol


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
def test_data_of_true_size_is_solved_exactly(container, share):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 60)) * (rng.random((20_000, 60)) < 0.2)
    y = X[:, :20] @ rng.normal(size=20) + 0.3 * rng.logistic(size=20_000) > 0
    model = AdversarialLogisticRegression(epsilon=share * epsilon_max(X, y))
    model.fit(container(X), y)
    assert violation_of(model, X, y, np.ones(20_000)) <= 1.001 * model.tol
    assert (model.coef_ == 0).any() or share < 0.5


def test_wide_data_is_solved_exactly():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 10_000))
    y = X[:, :10].sum(1) + 2 * rng.logistic(size=150) > 0
    model = AdversarialLogisticRegression(epsilon=0.75 * epsilon_max(X, y)).fit(X, y)
    assert violation_of(model, X, y, np.ones(150)) <= 1.001 * model.tol
    assert 5 < (model.coef_ != 0).sum() < 150


def test_large_data_without_a_minimum_is_noticed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 60))
    y = X[:, 0] > 0
    X[:, 0] += np.where(y, 1, -1)
    with pytest.warns(ConvergenceWarning, match="robustly classified"):
        AdversarialLogisticRegression(epsilon=0.5).fit(X, y)


def test_the_rough_start_does_not_change_the_solution(everything_is_large, monkeypatch):
    X, y, weight, parameters = draw(3)
    rough = AdversarialLogisticRegression(**parameters, tol=1e-9).fit(X, y, weight)
    monkeypatch.setattr(_max_norm_solver, "_FEWEST_SAMPLES", np.inf)
    none = AdversarialLogisticRegression(**parameters, tol=1e-9).fit(X, y, weight)
    assert rough.n_iter_ != none.n_iter_
    assert rough.objective_ == pytest.approx(none.objective_, rel=1e-9)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_clean_fits_that_start_on_a_part_are_those_of_scikit_learn(monkeypatch, container, scale):
    monkeypatch.setattr(_euclidean_solver, "_PART_ENTRIES", 0)
    rng = np.random.default_rng(0)
    X = rng.normal(loc=2, size=(3000, 8))
    y = X[:, :4].sum(1) - 8 + 2 * rng.logistic(size=3000) > 0
    weight = rng.choice([0.0, 1.0, 50.0], p=[0.5, 0.49, 0.01], size=3000)
    options = {"C": 0.1 / scale**2, "tol": 1e-10}
    ours = AdversarialLogisticRegression(alpha=1, **options)
    ours.fit(container(scale * X), y, sample_weight=weight)
    theirs = LogisticRegression(solver="newton-cholesky", **options)
    theirs.fit(scale * X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.02, 0.2, 2.0])
def test_a_part_of_large_data_is_only_a_start_in_the_euclidean_norm(monkeypatch, epsilon):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 8))
    y = X[:, :4].sum(1) + 2 * rng.logistic(size=3000) > 0
    model = AdversarialLogisticRegression(epsilon=epsilon, norm=2, tol=1e-9)
    whole = clone(model).fit(X, y)
    monkeypatch.setattr(_euclidean_solver, "_PART_ENTRIES", 0)
    parted = model.fit(X, y)
    assert parted.n_iter_ != whole.n_iter_ or epsilon == 2
    assert parted.violation_ <= 1e-9
    assert parted.objective_ == pytest.approx(whole.objective_, rel=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weight", [0, 1])
def test_values_that_are_not_finite_are_refused_wherever_they_are(value, weight):
    X, y, _, _ = draw(2)
    X[-1, -1] = value
    weights = np.r_[np.ones(len(y) - 1), weight]
    with pytest.raises(ValueError, match="NaN|infinity"):
        AdversarialLogisticRegression().fit(X, y, weights)


def test_features_whose_squares_overflow_are_named():
    X, y, _, _ = draw(2)
    with pytest.raises(ValueError, match="too large to be squared"):
        AdversarialLogisticRegression().fit(1e200 * X, y)
