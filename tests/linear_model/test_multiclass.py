"""Three classes and more: the rounded Euclidean bound by finite differences, and both norms."""

import itertools

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import check_grad
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import _multiclass_rows, epsilon_max
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._multiclass_pairs import PairPenalties
from sk_adv.linear_model._multiclass_problem import MulticlassPoint, MulticlassProblem
from sk_adv.linear_model._multiclass_rows import MulticlassRows

SHAPE = (3, 5)


@pytest.fixture
def bound():
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(40, 5)), torch.as_tensor(rng.dirichlet(np.ones(40)))
    X = StandardisedDesign.of(as_design(X, "cpu"), weight, True)
    return MulticlassProblem(
        rows=MulticlassRows(X, torch.arange(40) % 3, 3, weight, 0.3),
        epsilon=torch.linspace(0, 0.4, 5, dtype=torch.float64),
        ridge=torch.linspace(0, 0.2, 5, dtype=torch.float64),
        fit_intercept=True,
    )


def split(flat):
    flat = torch.as_tensor(flat)
    return flat[:15].reshape(SHAPE), flat[15:]


def flatten(matrix):
    """Weights and intercepts as one vector, for `split`; the intercepts are the last column."""
    return torch.cat([matrix[:, :-1].flatten(), matrix[:, -1]]).numpy()


def gradient(bound, flat):
    return flatten(MulticlassPoint(bound, *split(flat), rounding=0.5).gradient)


def test_gradient_and_curvature_match_finite_differences(bound):
    rng = np.random.default_rng(1)
    point, direction = rng.normal(size=18), rng.normal(size=18)

    def value(flat):
        return float(MulticlassPoint(bound, *split(flat), rounding=0.5).objective)

    assert check_grad(value, lambda flat: gradient(bound, flat), point) < 1e-6

    at = MulticlassPoint(bound, *split(point), rounding=0.5)
    hessian = bound.rows.sketch(at, 1, None).hessian(at)
    coef, intercept = split(direction)
    found = flatten(hessian.product(torch.cat([coef, intercept[:, None]], dim=1)))
    step = 1e-6 * direction
    difference = (gradient(bound, point + step) - gradient(bound, point - step)) / 2e-6
    np.testing.assert_allclose(found, difference, atol=1e-7)


def test_rounding_lowers_the_penalty_by_its_bound_at_most():
    rng = np.random.default_rng(2)
    coef = torch.as_tensor(rng.normal(size=SHAPE))
    epsilon = torch.as_tensor(rng.uniform(size=5))
    gaps = coef[:, None] - coef[None]
    exact = torch.linalg.vector_norm(epsilon * gaps, dim=-1)
    torch.testing.assert_close(PairPenalties(coef, epsilon).value, exact)
    rounded = PairPenalties(coef, epsilon, rounding=0.1).value
    assert (rounded <= exact + 1e-12).all()
    assert (exact - rounded).max() <= 0.1


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("C", [1.0, np.inf])
@pytest.mark.parametrize("scale", [1.0, [1.0, 0.5, 2.0, 3.0]])
def test_from_epsilon_max_on_the_class_shares_are_predicted(norm, C, scale):
    X, y = load_iris(return_X_y=True)
    X, y = X[:120], y[:120]
    largest = epsilon_max(X, y, norm=norm, scale=scale)
    for share in (1, 1.5, 100):
        model = AdversarialLogisticRegression(
            epsilon=share * largest * np.asarray(scale), norm=norm, C=C
        ).fit(X, y)
        assert not model.coef_.any()
        shares = np.bincount(y) / len(y)
        np.testing.assert_allclose(model.predict_proba(X), np.tile(shares, (120, 1)))
        # The entropy of the shares is the best loss without weights.
        assert model.objective_ == pytest.approx(-shares @ np.log(shares))


@pytest.mark.parametrize("C", [0.01, 3.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_without_an_adversary_the_fit_is_scikit_learns(problem, C, fit_intercept, container, unit):
    X, y, weight = problem(150, n_classes=4)
    X[abs(X) < 0.3] = 0
    # Not "balanced": scikit-learn below 1.7 does not count the samples' weights there.
    class_weight = dict(zip(np.unique(y), [0.5, 1.0, 2.0, 0.8], strict=True))
    options = {"fit_intercept": fit_intercept, "class_weight": class_weight}
    expected = LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=1000, **options)
    expected.fit(X, y, sample_weight=weight)
    found = AdversarialLogisticRegression(alpha=1, C=C / unit**2, **options)
    found.fit(container(X * unit), y, sample_weight=weight)
    np.testing.assert_allclose(found.coef_ * unit, expected.coef_, atol=1e-6)
    np.testing.assert_allclose(found.predict_proba(X * unit), expected.predict_proba(X), atol=1e-6)
    assert found.violation_ <= found.tol


@pytest.mark.parametrize("container", [np.asarray, sparse.csc_array])
@pytest.mark.parametrize("parameters", [{}, {"norm": 2}, {"alpha": 1}, {"epsilon": 0, "C": 1.0}])
def test_constant_features_have_no_weights_in_any_class(problem, parameters, container):
    X, y, weight = problem(150, n_classes=4)
    with_constants = container(np.c_[X, np.full(150, 0.1), np.zeros(150), np.full(150, 1e4)])
    parameters = {"epsilon": 0.1, **parameters}
    expected = AdversarialLogisticRegression(**parameters).fit(X, y, weight)
    found = AdversarialLogisticRegression(**parameters).fit(with_constants, y, weight)
    np.testing.assert_array_equal(found.coef_[:, 8:], 0)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-9)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, atol=1e-4)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_rough_stages_lead_to_the_same_solution_in_any_units(
    problem, alpha, container, monkeypatch
):
    X, y, weight = problem(2000, 8, 4)
    options = {"norm": 2, "alpha": alpha}
    expected = AdversarialLogisticRegression(epsilon=0.3, **options).fit(X, y, weight)
    monkeypatch.setattr(_multiclass_rows, "_MANY_ENTRIES", 100)
    # In single precision the offset would leave one digit of the features.
    unit, offset = np.geomspace(1e-6, 1e6, 8), 1e6
    found = AdversarialLogisticRegression(epsilon=0.3 * unit, **options)
    found.fit(container((X + offset) * unit), y, weight)
    assert found.violation_ <= found.tol
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-6)


def test_a_large_sparse_matrix_is_not_made_dense():
    # A dense one would take 64 GB.
    rng = np.random.default_rng(0)
    shape, n_entries = (40_000, 200_000), 800_000
    places = np.arange(n_entries) % shape[0], rng.integers(shape[1], size=n_entries)
    X = sparse.csr_array((rng.uniform(size=n_entries), places), shape)
    y = np.arange(shape[0]) % 3
    model = AdversarialLogisticRegression(epsilon=1e-4, norm=2, C=10.0).fit(X, y)
    assert model.violation_ <= model.tol
    assert abs(model.coef_).max() > 0.1


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("n_classes", [3, 4])
def test_a_balanced_factorial_design_has_no_weights(norm, alpha, n_classes):
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    X, y = np.tile(corners, (n_classes, 1)), np.repeat(np.arange(n_classes), 8)
    model = AdversarialLogisticRegression(epsilon=0.1, norm=norm, alpha=alpha).fit(X, y)
    np.testing.assert_allclose(model.coef_, 0, atol=1e-12)
    assert model.objective_ == pytest.approx(np.log(n_classes))


def test_a_vector_common_to_all_classes_does_not_stay_in_the_weights():
    X, y = load_iris(return_X_y=True)
    model = AdversarialLogisticRegression(epsilon=0.3, warm_start=True).fit(X, y)
    model.coef_ = model.coef_ + 1e3
    model.fit(X, y)
    np.testing.assert_allclose(model.coef_.sum(0), 0, atol=1e-12)
