"""The worst cases and radii of tree models against an evaluation of every cell."""

import numpy as np
import pytest

from sk_adv._perturbations import PerturbationSet
from sk_adv.attacks._trees import regions, view_of_trees
from sk_adv.metrics import robustness_radius, verify_robustness
from sk_adv.tree._worst_case import worst_case

# Scores before a calibrator are not those of the model itself.
WITHOUT_SCORES = ("calibrated forest", "isotonic boosting")


def box(x, epsilon, bounds):
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    center = np.clip(x, low, high)
    return center, np.clip(center - epsilon, low, high), np.clip(center + epsilon, low, high)


def test_the_worst_case_over_a_box_is_that_of_every_cell(ensembles, family):
    for seed in range(ensembles.N_SEEDS):
        model, X, y, epsilon, bounds = ensembles.random_case(family, seed)
        X, y = X[:8], y[:8]
        verdict = verify_robustness(model, X, y, epsilon=epsilon, bounds=bounds)
        view = view_of_trees(model, X)
        around = regions(view, PerturbationSet(epsilon, bounds=bounds))
        for i, (x, label) in enumerate(zip(X, y, strict=True)):
            points = ensembles.cells(model, *box(x, epsilon, bounds))
            wrong = (model.predict(points) != label).any()
            assert verdict.status[i] == ("falsified" if wrong else "verified"), (seed, i)
            if family not in WITHOUT_SCORES:
                found = worst_case(view.trees, around[i], label, time_limit=10, decide=False)
                least = ensembles.least_margin(model, points, label) * view.trees.divisor
                assert found.upper == pytest.approx(least, abs=2e-6), (seed, i)
                assert found.lower == pytest.approx(least, abs=2e-5), (seed, i)
        assert verdict.lower == verdict.upper == (verdict.status == "verified").mean()
        check_copies(model, X, y, verdict, epsilon, bounds)


def check_copies(model, X, y, verdict, epsilon, bounds, norm=np.inf):
    wrong = verdict.status == "falsified"
    copies = verdict.counterexamples[wrong]
    if not wrong.any():
        return
    assert (model.predict(copies) != y[wrong]).all()
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    inside = np.clip(X[wrong], low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(copies == inside, 0, np.abs(copies - inside) / epsilon)
    steps = np.where(np.isnan(inside), 0, steps)
    assert (np.linalg.norm(steps, ord=norm, axis=1) <= 1 + 1e-9).all()
    assert ((copies >= low) & (copies <= high) | np.isnan(copies)).all()
    np.testing.assert_array_equal(np.isnan(copies), np.isnan(inside))


def test_the_worst_case_over_a_ball_is_that_of_every_cell_within_it(ensembles, family):
    for seed in range(20, 20 + (ensembles.N_SEEDS + 1) // 2):
        model, X, y, epsilon, bounds = ensembles.random_case(family, seed)
        X, y = X[:6], y[:6]
        verdict = verify_robustness(model, X, y, epsilon=epsilon, bounds=bounds, norm=2)
        for i, (x, label) in enumerate(zip(X, y, strict=True)):
            center, low, high = box(x, epsilon, bounds)
            points = ensembles.cells(model, center, low, high)
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = np.where(points == center, 0, (points - center) / epsilon)
            inside = np.linalg.norm(np.where(np.isnan(center), 0, steps), axis=1) <= 1
            wrong = (model.predict(points[inside]) != label).any()
            assert verdict.status[i] == ("falsified" if wrong else "verified"), (seed, i)
        check_copies(model, X, y, verdict, epsilon, bounds, norm=2)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_the_radius_is_the_distance_to_the_nearest_wrong_cell(ensembles, family, norm):
    for seed in range(10, 10 + (ensembles.N_SEEDS + 1) // 2):
        model, X, y, scale, _ = ensembles.random_case(family, seed)
        X, y = X[:4], y[:4]
        radii = robustness_radius(model, X, y, scale=scale, norm=norm)
        for x, label, radius in zip(X, y, radii, strict=True):
            far = np.where(scale > 0, np.inf, 0)
            points = ensembles.cells(model, x, x - far, x + far)
            steps = np.where(points == x, 0, points - x)[:, scale > 0] / scale[scale > 0]
            lengths = np.linalg.norm(np.where(np.isnan(steps), 0, steps), ord=norm, axis=1)
            wrong = model.predict(points) != label
            nearest = lengths[wrong].min() if wrong.any() else np.inf
            assert radius == pytest.approx(nearest, rel=1e-6, abs=1e-9), (seed, norm)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_a_misclassified_sample_has_radius_zero_also_where_nothing_can_change(ensembles, norm):
    model, X, y, scale, _ = ensembles.random_case("forest", 12)
    wrong = model.predict(X) != y
    assert wrong.any()
    radii = robustness_radius(model, X, y, scale=0 * scale, norm=norm)
    np.testing.assert_array_equal(radii, np.where(wrong, 0.0, np.inf))
