"""The rounded convex bound: derivatives against finite differences."""

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad

from sk_adv.linear_model._designs import as_design
from sk_adv.linear_model._multiclass_problem import (
    MulticlassHessian,
    MulticlassPoint,
    MulticlassProblem,
    PairPenalties,
    RowSketch,
)

SHAPE = (3, 5)


@pytest.fixture(params=[np.inf, 2], ids="norm {}".format)
def bound(request):
    rng = np.random.default_rng(0)
    return MulticlassProblem(
        X=as_design(rng.normal(size=(40, 5)), "cpu"),
        y=torch.arange(40) % 3,
        n_classes=3,
        weight=torch.as_tensor(rng.dirichlet(np.ones(40))),
        alpha=0.3,
        epsilon=torch.linspace(0, 0.4, 5, dtype=torch.float64),
        norm=request.param,
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


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_rounding_lowers_the_penalty_by_its_bound_at_most(norm):
    rng = np.random.default_rng(2)
    coef = torch.as_tensor(rng.normal(size=SHAPE))
    epsilon = torch.as_tensor(rng.uniform(size=5))
    gaps = coef[:, None] - coef[None]
    exact = torch.linalg.vector_norm(epsilon * gaps, ord=1 if norm == np.inf else 2, dim=-1)
    torch.testing.assert_close(PairPenalties(coef, epsilon, norm).value, exact)
    rounded = PairPenalties(coef, epsilon, norm, rounding=0.1).value
    assert (rounded <= exact + 1e-12).all()
    assert (exact - rounded).max() <= 0.1
