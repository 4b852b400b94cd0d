"""Shortcuts of a path of two classes: derivatives in single precision, and steps that are foreseen.

Neither may show in a result. The oracles are NumPy in double precision and single fits.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    _binary_solver,
    _feature_copies,
    _max_norm_path,
    _screening,
    adversarial_logistic_path,
)
from sk_adv.linear_model._designs import StandardisedDesign, as_design

pytestmark = pytest.mark.filterwarnings("ignore:All weights are zero")


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture
def statuses(monkeypatch):
    """The status of each solution of a screen."""
    found, minimise = [], _screening.minimise

    def observed(*args, **options):
        solution = minimise(*args, **options)
        found.append(solution.status)
        return solution

    monkeypatch.setattr(_screening, "minimise", observed)
    return found


def assert_optimal(path, X, y, tol):
    """Violations, objectives and what is said of them, from the weights alone."""
    sign = np.where(y == y.max(), 1, -1)
    for i, epsilon in enumerate(path.epsilons):
        coef, intercept = path.coefs[i, 0], path.intercepts[i, 0]
        worst = epsilon * abs(coef).sum() - sign * (X @ coef + intercept)
        assert path.objectives[i] == pytest.approx(np.logaddexp(0, worst).mean(), rel=1e-12)
        signed = sign / (1 + np.exp(-worst)) / len(y)
        slope, threshold = -signed @ X, epsilon * abs(signed).sum()
        at_zero = np.maximum(abs(slope) - threshold, 0)
        parts = np.where(coef == 0, at_zero, abs(slope + threshold * np.sign(coef)))
        violation = max(parts.max(), abs(signed.sum()))
        assert path.violations[i] == pytest.approx(violation, rel=1e-6, abs=1e-15)
        assert violation <= tol
        single = AdversarialLogisticRegression(epsilon=epsilon, tol=1e-9).fit(X, y)
        assert path.objectives[i] == pytest.approx(single.objective_, rel=1e-3 * tol)


@pytest.mark.parametrize("n_epsilons", [4, 25])
def test_a_foreseen_point_that_misses_is_iterated_further(
    cancer, statuses, monkeypatch, n_epsilons
):
    # Everything counts as foreseen after two steps.
    monkeypatch.setattr(_binary_solver.Targets, "are_foreseen", lambda *_: True)
    path = adversarial_logistic_path(*cancer, n_epsilons=n_epsilons)
    assert statuses.count("foreseen") > n_epsilons
    assert_optimal(path, *cancer, tol=1e-6)


def test_most_radii_end_at_a_step_that_was_foreseen(cancer, statuses):
    path = adversarial_logistic_path(*cancer)
    assert statuses.count("foreseen") > 25
    # Most of them are confirmed: few radii need another try.
    assert len(statuses) < 75
    assert_optimal(path, *cancer, tol=1e-6)


@pytest.mark.parametrize("tol", [1e-9, 1e-11])
def test_what_rounding_hides_is_solved_in_double_precision(cancer, monkeypatch, tol):
    renewed, precise = [], _screening.Screen.precise

    def observed(screen, problem):
        renewed.append(len(screen.columns))
        return precise(screen, problem)

    monkeypatch.setattr(_screening.Screen, "precise", observed)
    monkeypatch.setattr(_max_norm_path, "ROUGH_TOL", 0)
    path = adversarial_logistic_path(*cancer, n_epsilons=15, tol=tol)
    assert len(renewed) == 1
    assert path.violations.max() <= tol


def test_rough_copies_have_exact_products_and_nearly_exact_sums(monkeypatch):
    monkeypatch.setattr(_feature_copies, "_CHUNK", 32)
    rng = np.random.default_rng(0)
    X = rng.normal(loc=3, size=(110, 30)) * 10.0 ** rng.integers(-6, 6, size=30)
    weight = torch.full((110,), 1 / 110, dtype=torch.float64)
    design = StandardisedDesign.of(as_design(X, "cpu"), weight, centred=True)
    columns = torch.as_tensor(rng.permutation(30)[:20])
    copies = design.copied(columns[:12], is_rough=True)
    standard = (X - X.mean(0)) / X.std(0)
    standard = standard[:, columns.numpy()]
    for n_features in (12, 20):
        if n_features > 12:
            copies = design.copied(columns[12:], copies, is_rough=True)
        for chosen in ([3], [5, 3, 11], range(n_features)):
            coef, picked = rng.normal(size=len(chosen)), torch.as_tensor(list(chosen))
            product = copies.product(torch.from_numpy(coef), picked)
            np.testing.assert_allclose(product, standard[:, list(chosen)] @ coef, atol=1e-12)
        sparse = np.where(np.arange(n_features) % 5, 0, rng.normal(size=n_features))
        product = copies.product(torch.from_numpy(sparse))
        np.testing.assert_allclose(product, standard[:, :n_features] @ sparse, atol=1e-12)
        values = rng.uniform(size=110) / 110
        sums = copies.transposed_product(torch.from_numpy(values))
        assert 0 < abs(sums.numpy() - values @ standard[:, :n_features]).max() < 1e-7
