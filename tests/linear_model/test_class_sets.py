"""Sets of classes: the worst ones against all of them, and the optimality of max-norm solutions."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import _class_hessian, _class_sets, _class_solver
from sk_adv.linear_model._class_problem import Block, ClassPoint, ClassProblem
from sk_adv.linear_model._class_rows import ClassRows
from sk_adv.linear_model._class_sets import Atoms, cuts, worst_sets
from sk_adv.linear_model._designs import StandardisedDesign, as_design


def all_sets(n_classes):
    """The indicators of all proper, nonempty sets, (2^n_classes - 2, n_classes)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n_classes)))[1:-1]


def draw_prices(n_classes, n_features=30, seed=0):
    """Gradients, masses and radii, for which about half of the features have a negative price."""
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=(n_classes, n_features))
    gradient -= gradient.mean(0)
    mass = rng.exponential(size=(n_classes, n_classes)) ** 2
    np.fill_diagonal(mass, 0)
    epsilon = rng.uniform(0, 2, size=n_features) / n_classes
    epsilon[0] = 0
    return (torch.as_tensor(values) for values in (gradient, mass + mass.T, epsilon))


@pytest.mark.parametrize("n_classes", [3, 4, 7, 10])
@pytest.mark.parametrize("by_cuts", [False, True])
def test_the_worst_set_is_the_worst_of_all(n_classes, by_cuts, monkeypatch):
    monkeypatch.setattr(_class_sets, "_FEW_CLASSES", 0 if by_cuts else 12)
    monkeypatch.setattr(_class_sets, "_TABLE_ENTRIES", 2**12)
    gradient, mass, epsilon = draw_prices(n_classes)
    sets = torch.as_tensor(all_sets(n_classes))
    expected = (gradient.T @ sets.T + epsilon[:, None] * cuts(sets, mass)).amin(1)
    price, member = worst_sets(gradient, mass, epsilon)
    if by_cuts:
        # Only negative prices are looked for.
        expected, price = expected.clamp(max=0), price.clamp(max=0)
    torch.testing.assert_close(price, expected, rtol=1e-9, atol=1e-12)
    assert 5 < (expected < 0).sum() < 30 or n_classes == 3
    found = (gradient.T * member).sum(1) + epsilon * cuts(member, mass)
    torch.testing.assert_close(found.clamp(max=0), expected.clamp(max=0), rtol=1e-9, atol=1e-12)


def test_nested_atoms_give_the_weights_and_the_gaps_of_classes():
    rng = np.random.default_rng(0)
    coef = torch.as_tensor(rng.integers(-2, 3, size=(5, 40)) / 4)
    is_free = torch.arange(40) % 4 == 0
    atoms = Atoms.nested(coef, is_free)
    found = atoms.weights(atoms.amount, 40)
    torch.testing.assert_close(found - found.mean(0), coef - coef.mean(0))
    bounded = ~is_free[atoms.column]
    assert (atoms.amount[bounded] > 0).all()
    for k, label in itertools.combinations(range(5), 2):
        separates = (atoms.member[:, k] != atoms.member[:, label]).double() * bounded
        gaps = torch.zeros(40, dtype=torch.float64)
        gaps.index_add_(0, atoms.column, separates * atoms.amount)
        torch.testing.assert_close(gaps, (coef[k] - coef[label]).abs() * ~is_free)


@pytest.mark.parametrize("alpha", [0, 0.3])
def test_slopes_and_hessian_match_finite_differences(alpha):
    rng = np.random.default_rng(1)
    weight = torch.as_tensor(rng.dirichlet(np.ones(40)))
    y = torch.arange(40) % 4
    X = StandardisedDesign.of(as_design(rng.normal(size=(40, 5)), "cpu"), weight, True)
    problem = ClassProblem(
        rows=ClassRows.of(X, y, 4, weight, alpha),
        epsilon=torch.linspace(0, 0.4, 5, dtype=torch.float64),
        ridge=torch.full((5,), 0.1, dtype=torch.float64),
        fit_intercept=True,
    )
    block = Block.of(problem, torch.arange(5))
    coef = torch.as_tensor(rng.normal(size=(4, 6)))
    point = ClassPoint(block, coef)
    atoms = Atoms.nested(coef, block.epsilon == 0)
    direction = torch.as_tensor(rng.normal(size=len(atoms.amount)))

    def slopes(size):
        # Amounts that stay positive keep the sets nested, where the bound is smooth.
        moved = ClassPoint(block, atoms.weights(atoms.amount + size * direction, 6))
        return moved.objective, moved.slopes(atoms)

    (above, slopes_above), (below, slopes_below) = slopes(1e-6), slopes(-1e-6)
    assert float((above - below) / 2e-6) == pytest.approx(
        float(point.slopes(atoms) @ direction), abs=1e-8
    )
    expected = (slopes_above - slopes_below) / 2e-6
    found = _class_hessian.hessian(point, atoms) @ direction
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def largest_violation(model, X, y, weight):
    """The optimality conditions in plain NumPy, over all sets, on standardised features."""
    labels = np.searchsorted(model.classes_, y)
    n_classes, epsilon = len(model.classes_), np.broadcast_to(model.epsilon, X.shape[1:])
    share = weight / weight.sum()
    coef, logits = model.coef_, X @ model.coef_.T + model.intercept_
    gaps = np.abs(coef[:, None] - coef) @ epsilon
    worst = (1 - model.alpha) * share[:, None] * softmax(logits + gaps[labels], axis=1)
    residual = worst + model.alpha * share[:, None] * softmax(logits, axis=1)
    residual[np.arange(len(y)), labels] -= share
    mass = np.array([worst[labels == k].sum(0) for k in range(n_classes)])
    np.fill_diagonal(mass, 0)
    mass = mass + mass.T
    mean = share @ X if model.fit_intercept else 0
    spread = np.sqrt(share @ (X - mean) ** 2)
    gradient = residual.T @ ((X - mean) / spread)
    gradient += coef / spread / (model.C * weight.sum())
    sums = all_sets(n_classes) @ residual.sum(0)
    largest = abs(sums).max() if model.fit_intercept else 0
    for j, row in enumerate(coef.T):
        for member in all_sets(n_classes):
            cut = member @ mass @ (1 - member)
            price = gradient[:, j] @ member + epsilon[j] / spread[j] * cut
            is_level = row[member == 1].min() > row[member == 0].max()
            largest = max(largest, abs(price) if is_level else -price)
    return largest


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_classes", [3, 4])
def test_the_violation_is_that_of_the_exact_conditions(problem, n_classes, seed):
    X, y, weight = problem(80, 6, n_classes, seed)
    epsilon = np.r_[0, np.linspace(0.05, 0.3, 5)]
    options = {"alpha": 0.3 * (seed % 2), "C": [np.inf, 3.0][seed % 3 == 0]}
    options["fit_intercept"] = seed != 4
    for max_iter in (2, 100):
        model = AdversarialLogisticRegression(epsilon=epsilon, max_iter=max_iter, **options)
        if max_iter == 2:
            with pytest.warns(UserWarning, match="after 2 iterations"):
                model.fit(X, y, weight)
        else:
            model.fit(X, y, weight)
            assert model.violation_ <= model.tol
        expected = largest_violation(model, X, y, weight)
        assert model.violation_ == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("max_iter", [3, 100])
def test_the_violation_of_many_classes_is_that_of_the_exact_conditions(max_iter):
    rng = np.random.default_rng(0)
    y = np.arange(130) % 13
    X = rng.normal(size=(130, 3)) + rng.normal(size=(13, 3))[y]
    model = AdversarialLogisticRegression(epsilon=0.2, C=10.0, max_iter=max_iter)
    if max_iter == 3:
        with pytest.warns(UserWarning, match="after 3 iterations"):
            model.fit(X, y)
        assert model.violation_ > 1e-4
    else:
        model.fit(X, y)
        assert model.violation_ <= model.tol
    expected = largest_violation(model, X, y, np.ones(130))
    assert model.violation_ == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_classes_share_weights_exactly_where_the_adversary_merges_them(problem):
    X, y, weight = problem(200, 8, 4)
    model = AdversarialLogisticRegression(epsilon=0.3).fit(X, y, weight)
    n_levels = np.array([len(np.unique(row)) for row in model.coef_.T])
    assert (n_levels[~model.coef_.any(0)] == 1).all()
    assert ((n_levels > 1) & (n_levels < 4)).any()
    assert (n_levels == 1).any()


def test_by_cuts_and_by_all_sets_the_solutions_agree(problem, monkeypatch):
    X, y, weight = problem(100, 6, 4)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y, weight)
    monkeypatch.setattr(_class_sets, "_FEW_CLASSES", 0)
    found = AdversarialLogisticRegression(epsilon=0.1).fit(X, y, weight)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-9)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6)


@pytest.mark.parametrize("sorts", [False, True])
def test_rough_stages_and_drawn_samples_lead_to_the_same_solution(problem, monkeypatch, sorts):
    X, y, weight = problem(2000, 8, 4)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y, weight)
    monkeypatch.setattr(_class_solver, "_ROUGH_ENTRIES", 10)
    monkeypatch.setattr(_class_hessian, "_MANY_OPERATIONS", 1)
    monkeypatch.setattr(_class_hessian, "_ROWS_PER_ATOM", 5)
    monkeypatch.setattr(_class_hessian, "_MORE_ROWS", 200)
    order = y.argsort(kind="stable") if sorts else np.arange(len(y))
    found = AdversarialLogisticRegression(epsilon=0.1).fit(X[order], y[order], weight[order])
    assert found.violation_ <= found.tol
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-9)


@pytest.mark.parametrize(("n_classes", "n_features"), [(20, 6), (100, 2)])
def test_many_classes_are_solved_to_the_tolerance(n_classes, n_features):
    rng = np.random.default_rng(0)
    y = np.arange(300) % n_classes
    X = rng.normal(size=(300, n_features)) + rng.normal(size=(n_classes, n_features))[y]
    model = AdversarialLogisticRegression(epsilon=0.3, C=10.0).fit(X, y)
    assert model.violation_ <= model.tol
    # A solution of the conditions of all classes and sets has no better one nearby.
    labels, gaps = y, np.abs(model.coef_[:, None] - model.coef_).sum(2) * 0.3
    logits = X @ model.coef_.T + model.intercept_
    shifted = logits - logits[np.arange(300), labels, None] + gaps[labels]
    loss = np.log(np.exp(shifted).sum(1)).mean() + (model.coef_**2).sum() / (2 * 10.0 * 300)
    assert loss == pytest.approx(model.objective_, rel=1e-9)
