"""The contract of a loss: derivatives by finite differences, and solutions by a conic solver.

The squared hinge stands for a loss that the library does not have.
"""

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from sk_adv.linear_model._binary_problem import BinaryProblem
from sk_adv.linear_model._binary_rows import BinaryRows
from sk_adv.linear_model._binary_solver import Targets, minimise
from sk_adv.linear_model._designs import StandardisedDesign, as_design
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._newton import Start


class WorstCaseSquaredHinge:
    """Σ s_i [α max(0, 1 - m_i)² + (1-α) max(0, 1 + ρ - m_i)²]."""

    def __init__(self, weight, alpha):
        self.weight, self.alpha = weight, alpha

    def _parts(self, margin, penalty):
        clean, adversarial = (1 - margin).clamp(min=0), (1 + penalty - margin).clamp(min=0)
        return (self.alpha * self.weight, clean), ((1 - self.alpha) * self.weight, adversarial)

    def value(self, margin, penalty):
        return sum(weight @ hinge**2 for weight, hinge in self._parts(margin, penalty))

    def gradient(self, margin, penalty):
        clean, adversarial = (2 * w * hinge for w, hinge in self._parts(margin, penalty))
        return clean + adversarial, adversarial

    def curvature(self, margin, penalty):
        clean, adversarial = (2 * w * (hinge > 0) for w, hinge in self._parts(margin, penalty))
        return clean + adversarial, adversarial

    def is_separating(self, margin, penalty):
        return False

    def constant_intercept(self, y):
        return self.weight @ y


LOSSES = [WorstCaseLogisticLoss, WorstCaseSquaredHinge]


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6))
    y = np.where(X[:, 0] - X[:, 1] + 0.5 + rng.logistic(size=80) > 0, 1.0, -1.0)
    return X, y, rng.dirichlet(np.ones(80))


def difference(function):
    """The derivative of a function at 0, by central differences."""
    return (function(1e-6) - function(-1e-6)) / 2e-6


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_derivatives_match_finite_differences(samples, kind, alpha):
    loss = kind(torch.as_tensor(samples[2]), alpha)
    rng = np.random.default_rng(1)
    margin, direction = torch.as_tensor(rng.normal(size=(2, 80)))
    penalty = torch.tensor(0.7, dtype=margin.dtype)

    p, q = loss.gradient(margin, penalty)
    along = difference(lambda t: loss.value(margin + t * direction, penalty))
    torch.testing.assert_close(-p @ direction, along, atol=1e-8, rtol=0)
    along = difference(lambda t: loss.value(margin, penalty + t))
    torch.testing.assert_close(q.sum(), along, atol=1e-8, rtol=0)

    total, adversarial = loss.curvature(margin, penalty)
    along = difference(lambda t: -loss.gradient(margin + t, penalty)[0])
    torch.testing.assert_close(total, along, atol=1e-8, rtol=0)
    along = difference(lambda t: loss.gradient(margin, penalty + t)[0])
    torch.testing.assert_close(adversarial, along, atol=1e-8, rtol=0)


@pytest.mark.parametrize("kind", LOSSES)
def test_the_constant_intercept_is_the_best_one_without_weights(samples, kind):
    _, y, weight = (torch.as_tensor(part) for part in samples)
    loss = kind(weight, 0.3)
    best = minimize_scalar(lambda b: float(loss.value(y * b, torch.tensor(0.0))))
    assert float(loss.constant_intercept(y)) == pytest.approx(best.x, abs=1e-5)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3])
def test_another_loss_reaches_the_conic_optimum(samples, norm, alpha):
    X, y, weight = samples
    epsilon, ridge = np.linspace(0, 0.4, 6), 0.01
    coef, intercept = cp.Variable(6), cp.Variable()
    margin = cp.multiply(y, X @ coef + intercept)
    penalty = cp.norm(cp.multiply(epsilon, coef), 1 if norm == np.inf else 2)
    loss = alpha * cp.square(cp.pos(1 - margin))
    loss += (1 - alpha) * cp.square(cp.pos(1 + penalty - margin))
    cost = weight @ loss + ridge * cp.sum_squares(coef) / 2
    expected = cp.Problem(cp.Minimize(cost)).solve(solver=cp.CLARABEL)

    weight = torch.as_tensor(weight)
    design = StandardisedDesign.of(as_design(X, "cpu"), weight, True)
    problem = BinaryProblem(
        rows=BinaryRows(design, torch.as_tensor(y), WorstCaseSquaredHinge(weight, alpha)),
        epsilon=torch.as_tensor(epsilon) * design.inverse,
        norm=norm,
        ridge=ridge * design.inverse**2,
        fit_intercept=True,
    )
    start = Start(coef=weight.new_zeros(6), intercept=weight.new_zeros(()))
    solution = minimise(problem, start, Targets(violation=1e-8, gain=1e-8, max_iter=100))
    assert solution.status == "optimal"
    assert solution.objective == pytest.approx(expected, rel=1e-6)
