"""Paths of several classes against single fits, and the Hessian that they keep."""

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    AdversarialLogisticRegressionCV,
    _class_hessian,
    adversarial_logistic_path,
)
from sk_adv.linear_model._blocks import DenseBlock
from sk_adv.linear_model._class_curvature import ClassCurvature
from sk_adv.linear_model._class_hessian import Sample
from sk_adv.linear_model._class_problem import Block, ClassPoint, ClassProblem
from sk_adv.linear_model._class_rows import ClassRows
from sk_adv.linear_model._class_sets import Atoms
from sk_adv.linear_model._designs import StandardisedDesign, as_design


def draw_classes(seed, n_classes, n_samples=150, n_features=6):
    """Overlapping classes, each with a sample at least."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(n_classes), rng.integers(0, n_classes, n_samples - n_classes)]
    centres = rng.normal(size=(n_classes, n_features))
    return rng.normal(size=(n_samples, n_features)) + 0.7 * centres[y], y


def assert_path_equals_single_fits(X, y, epsilons, scale, **options):
    weight = options.pop("weight", None)
    path = adversarial_logistic_path(
        X, y, epsilons=epsilons, scale=scale, sample_weight=weight, **options
    )
    assert path.violations.max() <= options["tol"]
    for epsilon, objective in zip(path.epsilons, path.objectives, strict=True):
        model = AdversarialLogisticRegression(epsilon=epsilon * scale, **options)
        model.fit(X, y, weight)
        assert objective == pytest.approx(model.objective_, rel=10 * options["tol"])


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_path_of_several_classes_has_the_objectives_of_single_fits(seed, is_kept, monkeypatch):
    if is_kept:
        # As for large data, the Hessian comes from some samples, and is kept.
        monkeypatch.setattr(_class_hessian, "_MANY_OPERATIONS", 1)
        monkeypatch.setattr(_class_hessian, "_ROWS_PER_ATOM", 3)
        monkeypatch.setattr(_class_hessian, "_MORE_ROWS", 60)
    rng = np.random.default_rng(seed)
    X, y = draw_classes(seed, 3 + seed % 4)
    has_free_features = seed % 4 == 1
    # A penalty of the weights is the same in other units only if all features have the same.
    units = 10 ** rng.uniform(-6, 6, size=6) if seed % 2 else np.ones(6)
    if has_free_features:
        units[:] = 1
    scale = units * rng.uniform(0.5, 2, size=6)
    scale[0] *= not has_free_features
    if seed % 3 == 0:
        X[abs(X) < 0.5] = 0
    X = X * units
    assert_path_equals_single_fits(
        sparse.csr_array(X) if seed % 3 == 0 else X,
        y,
        np.geomspace(1, 0.1, 8),
        scale,
        weight=rng.uniform(0.1, 2, size=150) if seed % 5 else None,
        alpha=[0, 0.4][seed % 5 == 2],
        C=3.0 if has_free_features or seed % 8 == 2 else np.inf,
        fit_intercept=seed % 7 != 3,
        tol=1e-8 if seed % 2 else 1e-6,
    )


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_path_of_more_than_twelve_classes_has_the_objectives_of_single_fits(fit_intercept):
    X, y = draw_classes(0, 15)
    assert_path_equals_single_fits(
        X, y, np.geomspace(0.5, 0.1, 4), np.ones(6), C=10.0, fit_intercept=fit_intercept, tol=1e-7
    )


def test_a_class_may_be_missing_from_a_fold():
    X, y = draw_classes(0, 4)
    # All of class 3 is in the second half, so that the first fit sees three classes.
    folds = PredefinedSplit(np.where(y == 3, 0, np.arange(150) % 2))
    epsilons = [0.1, 0.3, 0.6]
    found = AdversarialLogisticRegressionCV(epsilons=epsilons, C=10, cv=folds).fit(X, y)
    model = AdversarialLogisticRegression(C=10)
    search = GridSearchCV(model, {"epsilon": epsilons}, cv=folds).fit(X, y)
    np.testing.assert_allclose(found.scores_[0].mean(1), search.cv_results_["mean_test_score"])


def test_a_path_of_several_classes_warns_where_there_is_no_minimum():
    X, y = draw_classes(0, 3, n_samples=30, n_features=40)
    with pytest.warns(ConvergenceWarning, match="robustly classified") as caught:
        path = adversarial_logistic_path(X, y, n_epsilons=10)
    n_separable = 0
    for epsilon in path.epsilons:
        with warnings.catch_warnings(record=True) as own:
            warnings.simplefilter("always")
            AdversarialLogisticRegression(epsilon=epsilon).fit(X, y)
        n_separable += sum(issubclass(one.category, ConvergenceWarning) for one in own)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"{n_separable} of 10 fits")


@pytest.fixture(params=[0, 0.3])
def points(request):
    """Two points on one block, with atoms."""
    rng = np.random.default_rng(1)
    weight = torch.as_tensor(rng.dirichlet(np.ones(500)))
    X = StandardisedDesign.of(as_design(rng.normal(size=(500, 5)), "cpu"), weight, True)
    problem = ClassProblem(
        rows=ClassRows.of(X, torch.arange(500) % 4, 4, weight, request.param),
        epsilon=torch.linspace(0, 0.4, 5, dtype=torch.float64),
        ridge=torch.full((5,), 0.1, dtype=torch.float64),
        fit_intercept=True,
    )
    block = Block.of(problem, torch.arange(5))
    first = ClassPoint(block, torch.as_tensor(rng.normal(size=(4, 6))))
    atoms = Atoms.nested(first.coef, block.epsilon == 0)
    move = 0.1 * torch.as_tensor(rng.normal(size=len(atoms.amount)))
    return first, ClassPoint(block, atoms.weights(atoms.amount + move, 6)), atoms, move


def test_new_atoms_have_the_columns_of_the_whole_hessian(points):
    first, _, atoms, _ = points
    sample = Sample.of(first, len(atoms.column))
    new = torch.tensor([1, 5, 9, 14])
    found = sample.cross_hessian(first.block, atoms, atoms.taken(new))
    torch.testing.assert_close(found, sample.hessian(first.block, atoms)[:, new])
    half = torch.arange(len(atoms.column)) % 2 == 0
    curvature = ClassCurvature.measured(first, atoms.taken(half))
    torch.testing.assert_close(curvature.on(first, atoms), _class_hessian.hessian(first, atoms))


def test_a_corrected_hessian_maps_the_step_to_the_change_of_the_slopes(points):
    first, second, atoms, move = points
    curvature = ClassCurvature.measured(first, atoms)
    curvature.add(atoms, move, first, second)
    found = curvature.on(second, atoms)
    torch.testing.assert_close(found @ move, second.slopes(atoms) - first.slopes(atoms))
    assert torch.linalg.eigvalsh(found).min() > -1e-12


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_gradients_in_single_precision_do_not_show_in_a_path(monkeypatch, noise):
    # With so much noise, they are no use, and the path must notice it.
    generator, switched = torch.Generator().manual_seed(0), []

    def noisy(block, values, product=DenseBlock.transposed_product):
        found = product(block, values)
        if block.is_rough:
            found += noise * torch.randn(found.shape, generator=generator)
        return found

    def observed(point, full_gradient, precise=ClassPoint.precise):
        found = precise(point, full_gradient)
        switched.append(found is not point)
        return found

    monkeypatch.setattr(DenseBlock, "transposed_product", noisy)
    monkeypatch.setattr(ClassPoint, "precise", observed)
    X, y = draw_classes(0, 4, n_samples=300)
    path = adversarial_logistic_path(X, y, n_epsilons=12, epsilon_min_ratio=0.05)
    assert switched[0] and switched[-1] == (noise == 0)
    assert path.violations.max() <= 1e-6
    for epsilon, objective in zip(path.epsilons, path.objectives, strict=True):
        single = AdversarialLogisticRegression(epsilon=epsilon, tol=1e-9).fit(X, y)
        assert objective == pytest.approx(single.objective_, rel=1e-8)
