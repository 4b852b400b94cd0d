"""Three classes and more: the rounded Euclidean bound by finite differences, and both norms."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import epsilon_max
from sk_adv.linear_model._designs import as_design
from sk_adv.linear_model._multiclass_problem import (
    MulticlassHessian,
    MulticlassPoint,
    MulticlassProblem,
    PairPenalties,
    RowSketch,
)

SHAPE = (3, 5)


@pytest.fixture
def bound():
    rng = np.random.default_rng(0)
    return MulticlassProblem(
        X=as_design(rng.normal(size=(40, 5)), "cpu"),
        y=torch.arange(40) % 3,
        n_classes=3,
        weight=torch.as_tensor(rng.dirichlet(np.ones(40))),
        alpha=0.3,
        epsilon=torch.linspace(0, 0.4, 5, dtype=torch.float64),
        ridge=0.1,
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
    hessian = MulticlassHessian(at, RowSketch.draw(bound, 1))
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


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_where_units_keep_the_solver_from_the_optimum_it_says_so(norm, epsilon, seed):
    X, y = make_classification(
        200, 6, n_informative=5, n_redundant=0, n_classes=4, flip_y=0.3, random_state=seed
    )
    units = np.logspace(-6, 6, 6)
    expected = AdversarialLogisticRegression(epsilon=epsilon, norm=norm).fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = AdversarialLogisticRegression(epsilon=epsilon * units, norm=norm).fit(X * units, y)
    assert caught or found.objective_ == pytest.approx(expected.objective_, abs=1e-6)
    rows = found.coef_ * units
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-12 * abs(rows).max())


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
