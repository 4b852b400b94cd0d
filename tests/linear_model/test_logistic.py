"""AdversarialLogisticRegression against scikit-learn, attacks and closed forms."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression, as_module
from sk_adv.attacks import fgsm, pgd


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


def test_objective_is_the_mean_cross_entropy_under_fgsm(problem):
    X, y, _ = problem()
    model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    labels = np.searchsorted(model.classes_, y)
    copies = fgsm(as_module(model), X, labels, 0.1)
    loss = -model.predict_log_proba(copies)[np.arange(len(y)), labels]
    assert model.objective_ == pytest.approx(loss.mean(), rel=1e-12)


def test_multiclass_objective_bounds_the_loss_under_any_attack(problem):
    X, y, _ = problem(80, 6, 4)
    model = AdversarialLogisticRegression(epsilon=0.2, C=10.0).fit(X, y)
    labels = np.searchsorted(model.classes_, y)
    copies = pgd(as_module(model), X, labels, 0.2, n_restarts=5, random_state=0)
    loss = -model.predict_log_proba(copies)[np.arange(len(y)), labels].mean()
    ridge = (model.coef_**2).sum() / (2 * 10.0 * len(y))
    assert loss <= model.objective_ - ridge + 1e-12


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_weights_vanish_exactly_from_epsilon_max_on(problem, norm, alpha):
    X, y, _ = problem()
    gap = X[y == "bee"].mean(0) - X[y == "ant"].mean(0)
    epsilon_max = np.linalg.norm(gap, ord=norm) / (2 * (1 - alpha))
    above = AdversarialLogisticRegression(epsilon=1.0001 * epsilon_max, alpha=alpha, norm=norm)
    below = clone(above).set_params(epsilon=0.99 * epsilon_max)
    assert not above.fit(X, y).coef_.any()
    assert below.fit(X, y).coef_.any()
    odds = (y == "bee").sum() / (y == "ant").sum()
    assert above.intercept_[0] == pytest.approx(np.log(odds), rel=1e-6)


def test_a_feature_without_radius_behaves_as_in_plain_logistic_regression(problem):
    X, y, _ = problem()
    epsilon = np.r_[0.0, np.full(7, 100.0)]
    found = AdversarialLogisticRegression(epsilon=epsilon, C=1.0).fit(X, y)
    expected = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(X[:, :1], y)
    np.testing.assert_allclose(found.coef_, [[expected.coef_[0, 0], *np.zeros(7)]], atol=1e-6)


def test_epsilon_scales_with_the_units_of_the_data(problem):
    X, y, _ = problem()
    scale = np.logspace(-2, 2, 8)
    model = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    rescaled = AdversarialLogisticRegression(epsilon=0.1 * scale, tol=1e-9).fit(X * scale, y)
    np.testing.assert_allclose(rescaled.coef_ * scale, model.coef_, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_class_weight_multiplies_sample_weight(problem, n_classes):
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


def test_too_few_iterations_warn(problem):
    X, y, _ = problem()
    with pytest.warns(ConvergenceWarning, match="after 1 iterations.*max_iter"):
        AdversarialLogisticRegression(epsilon=0.01, max_iter=1).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_warm_start_at_the_solution_takes_one_step_at_most(problem, n_classes):
    X, y, _ = problem(n_classes=n_classes)
    model = AdversarialLogisticRegression(epsilon=0.05, C=10.0, warm_start=True).fit(X, y)
    cold = model.n_iter_
    coef = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_ < cold
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)


@pytest.mark.filterwarnings("ignore:All weights are zero")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("epsilons", [(0.05, 5.0), (0.05, 0.3), (5.0, 0.05), (0.3, 20.0)])
def test_warm_start_from_another_radius_reaches_the_cold_solution(
    problem, norm, n_classes, epsilons
):
    X, y, _ = problem(100, n_classes=n_classes)
    warm = AdversarialLogisticRegression(epsilon=epsilons[0], norm=norm, C=10.0, warm_start=True)
    warm.fit(X, y).set_params(epsilon=epsilons[1])
    cold = clone(warm).fit(X, y)
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


def test_verbose_prints_a_line_an_iteration(problem, capsys):
    X, y, _ = problem()
    model = AdversarialLogisticRegression(epsilon=0.05, verbose=1).fit(X, y)
    assert len(capsys.readouterr().out.splitlines()) == model.n_iter_


def test_warm_start_begins_anew_where_the_shapes_differ(problem):
    X, y, _ = problem(100, 12)
    model = AdversarialLogisticRegression(epsilon=0.05, C=1.0, warm_start=True)
    model.fit(X[:, :4], np.arange(100) % 3)
    expected = clone(model).fit(X, y)
    np.testing.assert_array_equal(model.fit(X, y).coef_, expected.coef_)
