"""AdversarialLogisticRegression against scikit-learn, a conic solver and closed forms."""

import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression, as_module
from sk_adv.attacks import fgsm, pgd


def problem(n_samples=60, n_features=8, n_classes=2, seed=0):
    """Overlapping classes, labels as words, uneven weights."""
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=n_features - 2,
        n_classes=n_classes,
        flip_y=0.3,
        class_sep=0.3,
        random_state=seed,
    )
    weight = np.random.default_rng(seed).uniform(0.2, 2.0, size=n_samples)
    return X, np.array(["ant", "bee", "cat", "dog"])[y], weight


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
        for i, label in enumerate(labels):
            gaps = [
                (coef[k] - coef[label]) @ X[i] + intercept[k] - intercept[label]
                for k in range(len(classes))
            ]
            penalties = [
                cp.norm(cp.multiply(radius, coef[k] - coef[label]), dual)
                for k in range(len(classes))
            ]
            clean = cp.log_sum_exp(cp.hstack(gaps))
            worst = cp.log_sum_exp(
                cp.hstack([gap + penalty for gap, penalty in zip(gaps, penalties, strict=True)])
            )
            cost += share[i] * (alpha * clean + (1 - alpha) * worst)
    if np.isfinite(C):
        cost += cp.sum_squares(coef) / (2 * C * weight.sum())
    constraints = [] if fit_intercept else [intercept == 0]
    return cp.Problem(cp.Minimize(cost), constraints).solve(solver=cp.CLARABEL)


def objective_at(model, X, y, weight):
    """The objective at a fitted model's weights, written out sample by sample from the formula."""
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


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris, load_wine])
@pytest.mark.parametrize("parameters", [{"epsilon": 0}, {"epsilon": 0.7, "alpha": 1}])
def test_without_an_adversary_it_is_scikit_learns_logistic_regression(load, parameters):
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    found = AdversarialLogisticRegression(C=1.0, **parameters).fit(X, y)
    expected = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, atol=1e-5)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize("C", [np.inf, 2.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("epsilon", [0.05, np.r_[0, 0, np.linspace(0.01, 0.3, 6)]])
def test_two_classes_reach_the_conic_optimum(norm, alpha, C, fit_intercept, epsilon):
    X, y, weight = problem()
    model = AdversarialLogisticRegression(
        epsilon=epsilon, alpha=alpha, norm=norm, C=C, fit_intercept=fit_intercept
    ).fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, alpha, norm, C, fit_intercept)
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol
    assert objective_at(model, X, y, weight) == pytest.approx(model.objective_, rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.8, 1.0, 1.5])
def test_more_features_than_samples_reach_the_conic_optimum(epsilon):
    X, y, weight = problem(60, n_features=100)
    model = AdversarialLogisticRegression(epsilon=epsilon).fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, 0, np.inf, np.inf, True)
    assert model.coef_.any()
    assert model.objective_ <= expected * (1 + 1e-6)
    assert model.violation_ <= model.tol


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3])
@pytest.mark.parametrize("epsilon", [0.05, np.r_[0, 0, np.linspace(0.01, 0.2, 4)]])
@pytest.mark.parametrize("n_classes", [3, 4])
def test_several_classes_reach_the_conic_optimum_of_the_bound(norm, alpha, epsilon, n_classes):
    X, y, weight = problem(50, 6, n_classes)
    model = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, norm=norm, C=5.0)
    model.fit(X, y, sample_weight=weight)
    expected = conic_optimum(X, y, weight, epsilon, alpha, norm, 5.0, True)
    assert model.objective_ <= expected * (1 + 1e-5)
    assert model.violation_ <= model.tol
    assert objective_at(model, X, y, weight) == pytest.approx(model.objective_, rel=1e-9)


def test_solution_satisfies_the_optimality_conditions():
    X, y, weight = problem(n_samples=300, n_features=20)
    epsilon, alpha, C = np.linspace(0.02, 0.1, 20), 0.3, 4.0
    model = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, C=C)
    model.fit(X, y, sample_weight=weight)
    # Written out from the conditions in plain NumPy.
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


def test_objective_is_the_mean_cross_entropy_under_fgsm():
    X, y, _ = problem()
    model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    labels = np.searchsorted(model.classes_, y)
    copies = fgsm(as_module(model), X, labels, 0.1)
    loss = -model.predict_log_proba(copies)[np.arange(len(y)), labels]
    assert model.objective_ == pytest.approx(loss.mean(), rel=1e-12)


def test_multiclass_objective_bounds_the_loss_under_any_attack():
    X, y, _ = problem(80, 6, 4)
    model = AdversarialLogisticRegression(epsilon=0.2, C=10.0).fit(X, y)
    labels = np.searchsorted(model.classes_, y)
    copies = pgd(as_module(model), X, labels, 0.2, n_restarts=5, random_state=0)
    loss = -model.predict_log_proba(copies)[np.arange(len(y)), labels].mean()
    ridge = (model.coef_**2).sum() / (2 * 10.0 * len(y))
    assert loss <= model.objective_ - ridge + 1e-12


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_weights_vanish_exactly_from_epsilon_max_on(norm, alpha):
    X, y, _ = problem()
    gap = X[y == "bee"].mean(0) - X[y == "ant"].mean(0)
    epsilon_max = np.linalg.norm(gap, ord=norm) / (2 * (1 - alpha))
    above = AdversarialLogisticRegression(epsilon=1.0001 * epsilon_max, alpha=alpha, norm=norm)
    below = clone(above).set_params(epsilon=0.99 * epsilon_max)
    assert not above.fit(X, y).coef_.any()
    assert below.fit(X, y).coef_.any()
    odds = (y == "bee").sum() / (y == "ant").sum()
    assert above.intercept_[0] == pytest.approx(np.log(odds), rel=1e-6)


def test_a_feature_without_radius_behaves_as_in_plain_logistic_regression():
    X, y, _ = problem()
    epsilon = np.r_[0.0, np.full(7, 100.0)]
    found = AdversarialLogisticRegression(epsilon=epsilon, C=1.0).fit(X, y)
    expected = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(X[:, :1], y)
    np.testing.assert_allclose(found.coef_, [[expected.coef_[0, 0], *np.zeros(7)]], atol=1e-6)


def test_epsilon_scales_with_the_units_of_the_data():
    X, y, _ = problem()
    scale = np.logspace(-2, 2, 8)
    model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    rescaled = AdversarialLogisticRegression(epsilon=0.1 * scale, tol=1e-9).fit(X * scale, y)
    np.testing.assert_allclose(rescaled.coef_ * scale, model.coef_, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_class_weight_multiplies_sample_weight(n_classes):
    X, y, weight = problem(n_classes=n_classes)
    factors = {"ant": 0.5, "bee": 2.0, "cat": 3.0}
    used = {name: factors[name] for name in np.unique(y)}
    expected = AdversarialLogisticRegression(epsilon=0.1, C=1.0)
    expected.fit(X, y, sample_weight=weight * np.vectorize(factors.get)(y))
    found = AdversarialLogisticRegression(epsilon=0.1, C=1.0, class_weight=used)
    found.fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_data_separated_beyond_epsilon_stops_early_with_all_samples_robust(n_classes, norm):
    rng = np.random.default_rng(0)
    y = np.arange(90) % n_classes
    X = 4 * np.eye(n_classes, 5)[y] + 0.3 * rng.normal(size=(90, 5))
    model = AdversarialLogisticRegression(epsilon=0.3, norm=norm)
    with pytest.warns(ConvergenceWarning, match="larger epsilon than 0.3, or a finite C"):
        model.fit(X, y)
    assert model.n_iter_ <= 5
    copies = pgd(as_module(model), X, y, 0.3, norm=norm, n_restarts=3, random_state=0)
    assert model.score(copies, y) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(C=1.0).fit(X, y)


def test_too_few_iterations_warn():
    X, y, _ = problem()
    with pytest.warns(ConvergenceWarning, match="after 1 iterations.*max_iter"):
        AdversarialLogisticRegression(epsilon=0.01, max_iter=1).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_warm_start_at_the_solution_takes_one_step_at_most(n_classes):
    X, y, _ = problem(n_classes=n_classes)
    model = AdversarialLogisticRegression(epsilon=0.05, C=10.0, warm_start=True).fit(X, y)
    cold = model.n_iter_
    coef = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_ < cold
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("epsilons", [(0.05, 5.0), (0.05, 0.3), (5.0, 0.05), (0.3, 20.0)])
def test_warm_start_from_another_radius_reaches_the_cold_solution(norm, n_classes, epsilons):
    X, y, _ = problem(100, n_classes=n_classes)
    warm = AdversarialLogisticRegression(epsilon=epsilons[0], norm=norm, C=10.0, warm_start=True)
    warm.fit(X, y).set_params(epsilon=epsilons[1])
    cold = clone(warm).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warm.fit(X, y)
    assert warm.objective_ == pytest.approx(cold.objective_, rel=1e-5)
    assert warm.violation_ <= warm.tol


def test_separable_classes_without_an_adversary_name_the_cure():
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1]
    with pytest.warns(ConvergenceWarning, match="finite C, or an alpha below 1"):
        AdversarialLogisticRegression(alpha=1).fit(X, y)


def test_frames_with_read_only_memory_are_taken_in_silence():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdversarialLogisticRegression(C=1.0).fit(frame, y).predict_proba(frame)


def test_verbose_prints_a_line_an_iteration(capsys):
    X, y, _ = problem()
    model = AdversarialLogisticRegression(epsilon=0.05, verbose=1).fit(X, y)
    assert len(capsys.readouterr().out.splitlines()) == model.n_iter_


def test_tensor_on_the_cpu_fits_as_an_array():
    X, y, _ = problem()
    found = AdversarialLogisticRegression(epsilon=0.1).fit(torch.as_tensor(X), y)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    np.testing.assert_array_equal(found.coef_, expected.coef_)
