"""Solutions against a conic solver and against the optimality conditions, written out."""

import cvxpy as cp
import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit, logsumexp
from sklearn.utils import Bunch

from sk_adv import AdversarialLogisticRegression

# Seeds of the random problems of several classes.
SEEDS = range(48)


def conic_optimum(X, y, weight, epsilon, alpha, norm, C, fit_intercept):
    """The smallest value of the objective according to CVXPY and Clarabel."""
    classes, labels = np.unique(y, return_inverse=True)
    share = weight / weight.sum()
    radius = np.broadcast_to(epsilon, X.shape[1:])
    dual = 1 if norm == np.inf else 2
    if len(classes) == 2:
        coef, intercept = cp.Variable(X.shape[1]), cp.Variable()
        margin = cp.multiply(2 * labels - 1, X @ coef + intercept)
        penalty = cp.norm(cp.multiply(radius, coef), dual)
        loss = alpha * cp.logistic(-margin) + (1 - alpha) * cp.logistic(penalty - margin)
        cost = share @ loss
    else:
        coef = cp.Variable((len(classes), X.shape[1]))
        intercept = cp.Variable(len(classes))
        cost = 0
        for k in range(len(classes)):
            own = labels == k
            gaps = X[own] @ (coef - coef[k : k + 1]).T + (intercept - intercept[k])[None]
            reach = cp.hstack([cp.norm(cp.multiply(radius, row - coef[k]), dual) for row in coef])
            clean = cp.log_sum_exp(gaps, axis=1)
            worst = cp.log_sum_exp(gaps + reach[None], axis=1)
            cost += share[own] @ (alpha * clean + (1 - alpha) * worst)
    if np.isfinite(C):
        cost += cp.sum_squares(coef) / (2 * C * weight.sum())
    constraints = [] if fit_intercept else [intercept == 0]
    return cp.Problem(cp.Minimize(cost), constraints).solve(solver=cp.CLARABEL)


def objective_at(model, X, y, weight):
    """The objective at a fitted model's weights, by the formula, sample by sample."""
    coef, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coef, intercept = np.vstack([0 * coef, coef]), np.r_[0, intercept]
    order = 1 if model.norm == np.inf else 2
    total = 0
    for x, label, share in zip(X, y, weight / weight.sum(), strict=True):
        k = list(model.classes_).index(label)
        gaps = (coef - coef[k]) @ x + intercept - intercept[k]
        reach = np.linalg.norm(model.epsilon * (coef - coef[k]), ord=order, axis=1)
        clean, worst = logsumexp(gaps), logsumexp(gaps + reach)
        total += share * (model.alpha * clean + (1 - model.alpha) * worst)
    return total + (model.coef_**2).sum() / (2 * model.C * weight.sum())


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize("C", [np.inf, 2.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("epsilon", [0.05, np.r_[0, 0, np.linspace(0.01, 0.3, 6)]])
def test_two_classes_reach_the_conic_optimum(problem, norm, alpha, C, fit_intercept, epsilon):
    X, y, weight = problem()
    model = AdversarialLogisticRegression(
        epsilon=epsilon, alpha=alpha, norm=norm, C=C, fit_intercept=fit_intercept
    ).fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, alpha, norm, C, fit_intercept)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol
    assert objective_at(model, X, y, weight) == pytest.approx(model.objective_, rel=1e-9)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_radii_of_all_sizes_reach_the_conic_optimum(problem, norm):
    X, y, weight = problem(200)
    epsilon = np.geomspace(1e-6, 1, 8)
    model = AdversarialLogisticRegression(epsilon=epsilon, norm=norm).fit(X, y, weight)
    expected = conic_optimum(X, y, weight, epsilon, 0, norm, np.inf, True)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol


@pytest.mark.parametrize("epsilon", [0.8, 1.0, 1.5])
def test_more_features_than_samples_reach_the_conic_optimum(problem, epsilon):
    X, y, weight = problem(60, n_features=100)
    model = AdversarialLogisticRegression(epsilon=epsilon).fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, 0, np.inf, np.inf, True)
    assert model.coef_.any()
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize(("n_samples", "n_features"), [(80, 15), (30, 60)])
@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_matrix])
def test_sparse_data_reach_the_conic_optimum(norm, alpha, n_samples, n_features, container):
    rng = np.random.default_rng(n_features)
    X = rng.normal(size=(n_samples, n_features)) * (rng.random((n_samples, n_features)) < 0.2)
    y = np.where(X[:, 0] + X[:, 1] + rng.logistic(size=n_samples) > 0, "bee", "ant")
    weight = rng.uniform(0.2, 2.0, size=n_samples)
    epsilon = np.r_[np.zeros(3), rng.uniform(0.01, 0.1, size=n_features - 3)]
    model = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, norm=norm, C=3.0)
    model.fit(container(X), y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, alpha, norm, 3.0, True)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol
    assert objective_at(model, X, y, weight) == pytest.approx(model.objective_, rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.02, np.r_[np.zeros(700), np.full(800, 0.05)]])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_the_euclidean_norm_reaches_the_conic_optimum_of_many_features(epsilon, container):
    # With more than a thousand features the Hessian is not formed.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 1500)) * (rng.random((40, 1500)) < 0.1)
    y = np.where(X[:, :50].sum(1) + rng.logistic(size=40) > 0, "bee", "ant")
    weight = rng.uniform(0.2, 2.0, size=40)
    model = AdversarialLogisticRegression(epsilon=epsilon, norm=2, C=2.0)
    model.fit(container(X), y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, 0, 2, 2.0, True)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3])
@pytest.mark.parametrize("epsilon", [0.05, np.r_[0, 0, np.linspace(0.01, 0.2, 4)]])
@pytest.mark.parametrize("n_classes", [3, 4])
def test_several_classes_reach_the_conic_optimum_of_the_bound(
    problem, norm, alpha, epsilon, n_classes
):
    X, y, weight = problem(50, 6, n_classes)
    model = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, norm=norm, C=5.0)
    model.fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, alpha, norm, 5.0, True)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol
    assert objective_at(model, X, y, weight) == pytest.approx(model.objective_, rel=1e-9)


def test_solution_satisfies_the_optimality_conditions(problem):
    X, y, weight = problem(n_samples=300, n_features=20)
    epsilon, alpha, C = np.linspace(0.02, 0.1, 20), 0.3, 4.0
    model = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, C=C)
    model.fit(X, y, sample_weight=weight)
    # The conditions in plain NumPy.
    w, sign = model.coef_[0], np.where(y == "bee", 1, -1)
    margin = sign * model.decision_function(X)
    share = weight / weight.sum()
    q = share * (1 - alpha) * expit(epsilon @ abs(w) - margin)
    p = share * alpha * expit(-margin) + q
    g = -X.T @ (p * sign) + w / (C * weight.sum())
    reach = epsilon * q.sum()
    assert 0 < (w == 0).sum() < 20
    assert abs(p @ sign) <= 1e-6
    assert abs(g + reach * np.sign(w))[w != 0].max() <= 1e-6
    assert (abs(g) - reach)[w == 0].max() <= 1e-6


def random_problem(seed):
    """Three to six classes, with everything else drawn too: data, parameters and units."""
    rng = np.random.default_rng(seed)
    n_classes, n_features = int(rng.integers(3, 7)), int(rng.integers(2, 7))
    n_samples = int(rng.integers(15, 30)) * n_classes
    y = rng.permutation(np.arange(n_samples) % n_classes)
    X = rng.normal(size=(n_samples, n_features)) + rng.normal(size=(n_classes, n_features))[y] / 2
    is_sparse = seed % 3 == 0
    X *= rng.random(X.shape) < (0.5 if is_sparse else 1)
    epsilon = rng.uniform(0.02, 0.4, size=n_features) * (rng.random(n_features) < 0.8)
    C = float(rng.choice([np.inf, 1.0, 30.0]))
    parameters = {
        "alpha": float(rng.choice([0, 0, 0.3, 0.8])),
        "C": C,
        "fit_intercept": bool(rng.random() < 0.7),
    }
    weight = rng.uniform(0.2, 2, size=n_samples) if seed % 2 else np.ones(n_samples)
    unit = 10 ** rng.uniform(-6, 6, size=n_features if np.isinf(C) else 1)
    if np.isfinite(C):
        # A penalty of the weights is the same in other units only if all features have the same.
        # The conic solver gets features whose units differ too, but less.
        spread = 10 ** rng.uniform(-1, 1, size=n_features)
        X, epsilon = X * spread, epsilon * spread
    importance = rng.uniform(0.3, 3, size=n_classes) if seed % 4 > 1 else np.ones(n_classes)
    return Bunch(
        X=sparse.csr_array(X) if is_sparse else X,
        y=y,
        weight=weight,
        importance=importance,
        epsilon=epsilon,
        unit=unit,
        parameters=parameters,
    )


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_problems_of_several_classes_reach_the_conic_optimum(seed, norm):
    drawn = random_problem(seed)
    y, weight, parameters = drawn.y, drawn.weight, {"norm": norm, **drawn.parameters}
    X = drawn.X.toarray() if sparse.issparse(drawn.X) else drawn.X
    total = weight * drawn.importance[y]
    expected = conic_optimum(X, y, total, epsilon=drawn.epsilon, **parameters)
    parameters["C"] /= drawn.unit[0] ** 2
    model = AdversarialLogisticRegression(
        epsilon=drawn.epsilon * drawn.unit,
        class_weight=dict(enumerate(drawn.importance)),
        **parameters,
    )
    in_units = X * drawn.unit
    model.fit(type(drawn.X)(in_units) if sparse.issparse(drawn.X) else in_units, y, weight)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol
    assert objective_at(model, in_units, y, total) == pytest.approx(model.objective_, rel=1e-9)
    rows = model.coef_ * drawn.unit
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-12 * abs(rows).max())


def test_the_random_problems_are_of_all_kinds():
    drawn = [random_problem(seed) for seed in SEEDS]
    kinds = {
        f"{n_classes} classes": [len(problem.importance) == n_classes for problem in drawn]
        for n_classes in range(3, 7)
    }
    kinds |= {
        "sparse": [sparse.issparse(problem.X) for problem in drawn],
        "sample weights": [np.ptp(problem.weight) > 0 for problem in drawn],
        "class weights": [np.ptp(problem.importance) > 0 for problem in drawn],
        "a clean part": [problem.parameters["alpha"] > 0 for problem in drawn],
        "a penalty": [np.isfinite(problem.parameters["C"]) for problem in drawn],
        "no intercept": [not problem.parameters["fit_intercept"] for problem in drawn],
        "fixed features": [not problem.epsilon.all() for problem in drawn],
        "small units": [problem.unit.min() < 1e-4 for problem in drawn],
        "large units": [problem.unit.max() > 1e4 for problem in drawn],
    }
    assert len(drawn) >= 40
    assert all(sum(found) >= 5 for found in kinds.values()), kinds
