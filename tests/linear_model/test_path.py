"""The path against single fits, epsilon_max against the solver, the CV against GridSearchCV."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    AdversarialLogisticRegressionCV,
    adversarial_logistic_path,
    epsilon_max,
)
from sk_adv.metrics import make_adversarial_scorer


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.5])
@pytest.mark.parametrize(("n_classes", "fit_intercept"), [(2, True), (2, False), (3, True)])
def test_weights_are_zero_from_epsilon_max_on(norm, alpha, n_classes, fit_intercept):
    X, y = make_classification(
        80, 6, n_informative=4, n_classes=n_classes, flip_y=0.3, random_state=0
    )
    weight = np.random.default_rng(0).uniform(0.1, 2, size=80)
    shared = {"alpha": alpha, "norm": norm, "fit_intercept": fit_intercept}
    largest = epsilon_max(X, y, sample_weight=weight, **shared)
    sizes = []
    for share in (1.01, 0.9):
        model = AdversarialLogisticRegression(epsilon=share * largest, **shared)
        sizes.append(abs(model.fit(X, y, sample_weight=weight).coef_).max())
    assert sizes[0] == 0
    if n_classes == 2:
        assert sizes[1] > 1e-3


def test_no_radius_suffices_where_the_loss_is_clean(cancer):
    assert epsilon_max(*cancer, alpha=1) == np.inf


@pytest.mark.parametrize("alpha", [0, 0.4])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_path_has_the_objectives_of_single_fits(cancer, alpha, norm):
    path = adversarial_logistic_path(*cancer, alpha=alpha, norm=norm, n_epsilons=6, tol=1e-9)
    assert path.epsilons[0] == pytest.approx(epsilon_max(*cancer, alpha=alpha, norm=norm))
    assert path.epsilons[-1] == pytest.approx(path.epsilons[0] / 100)
    assert not path.coefs[0].any()
    assert path.violations.max() <= 1e-9
    for i, epsilon in enumerate(path.epsilons):
        single = AdversarialLogisticRegression(epsilon=epsilon, alpha=alpha, norm=norm)
        single.fit(*cancer)
        assert path.objectives[i] == pytest.approx(single.objective_, rel=1e-9)
        np.testing.assert_allclose(path.coefs[i], single.coef_, atol=1e-4)
        np.testing.assert_allclose(path.intercepts[i], single.intercept_, atol=1e-4)


def test_path_walks_given_radii_from_the_largest_down(cancer):
    path = adversarial_logistic_path(*cancer, epsilons=[0.1, 0.5, 0.2])
    np.testing.assert_array_equal(path.epsilons, [0.5, 0.2, 0.1])
    assert (np.diff(path.objectives) < 0).all()


def test_path_of_several_classes_has_a_row_a_class():
    X, y = load_iris(return_X_y=True)
    path = adversarial_logistic_path(X, y, n_epsilons=3, C=10)
    assert path.coefs.shape == (3, 3, 4)
    assert path.intercepts.shape == (3, 3)
    single = AdversarialLogisticRegression(epsilon=path.epsilons[-1], C=10).fit(X, y)
    assert path.objectives[-1] == pytest.approx(single.objective_, rel=1e-5)


def test_path_warns_where_there_is_no_solution():
    X, y = make_classification(60, 4, class_sep=4, flip_y=0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="robustly classified"):
        adversarial_logistic_path(X, y, n_epsilons=5)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_validation_chooses_as_grid_search_does(cancer, n_jobs):
    grid = {"alpha": [0.0, 0.5, 1.0], "epsilon": [0.02, 0.3, 0.1]}
    scorer = make_adversarial_scorer(epsilon=0.2)
    expected = GridSearchCV(AdversarialLogisticRegression(C=100.0), grid, scoring=scorer)
    expected.fit(*cancer)
    found = AdversarialLogisticRegressionCV(
        alphas=grid["alpha"], epsilons=grid["epsilon"], scoring=scorer, n_jobs=n_jobs
    ).fit(*cancer)
    assert {"alpha": found.alpha_, "epsilon": found.epsilon_} == expected.best_params_
    assert found.best_score_ == pytest.approx(expected.best_score_)
    table = expected.cv_results_["mean_test_score"].reshape(3, 3)
    np.testing.assert_allclose(found.scores_.mean(axis=2), table)
    np.testing.assert_allclose(found.coef_, expected.best_estimator_.coef_, atol=1e-6)
    np.testing.assert_array_equal(found.predict(cancer[0]), expected.predict(cancer[0]))


def test_cross_validation_weighs_fits_and_scores(cancer):
    X, y = cancer
    weight = np.where(np.arange(len(y)) < 300, 1.0, 0.0)
    folds = [(np.arange(0, 569, 2), np.arange(1, 569, 2))]
    found = AdversarialLogisticRegressionCV(epsilons=[0.1], cv=folds).fit(X, y, weight)
    train, test = folds[0][0][:150], folds[0][1][:150]
    model = AdversarialLogisticRegression(epsilon=0.1, C=100).fit(X[train], y[train])
    assert found.scores_[0, 0, 0] == accuracy_score(y[test], model.predict(X[test]))


def test_groups_stay_together_in_cross_validation(cancer):
    X, y = cancer
    groups = np.arange(len(y)) % 7
    scoring = {"scoring": lambda model, X, y: model.score(X, y), "cv": GroupKFold(3)}
    found = AdversarialLogisticRegressionCV(epsilons=[0.1, 0.3], **scoring)
    # A scorer without the argument sample_weight is called without it.
    found.fit(X, y, sample_weight=np.ones(len(y)), groups=groups)
    grid = {"epsilon": [0.1, 0.3]}
    expected = GridSearchCV(AdversarialLogisticRegression(C=100.0), grid, **scoring)
    expected.fit(X, y, groups=groups)
    assert found.best_score_ == pytest.approx(expected.best_score_, abs=1e-9)


def test_automatic_radii_start_at_epsilon_max(cancer):
    found = AdversarialLogisticRegressionCV(epsilons=3, cv=2).fit(*cancer)
    np.testing.assert_allclose(found.epsilons_, epsilon_max(*cancer) * np.array([1, 0.1, 0.01]))


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_sparse_data_has_the_solution_of_dense_data(container, n_classes, norm):
    X, y = make_classification(100, 8, n_informative=5, n_classes=n_classes, random_state=0)
    X[abs(X) < 0.7] = 0
    model = AdversarialLogisticRegression(epsilon=0.1, norm=norm, C=10.0)
    dense = model.fit(X, y)
    objective, coef = dense.objective_, dense.coef_.copy()
    fitted = model.fit(container(X), y)
    assert fitted.objective_ == pytest.approx(objective, rel=1e-9)
    np.testing.assert_allclose(fitted.coef_, coef, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(container(X)), fitted.predict(X))
    path = adversarial_logistic_path(container(X), y, epsilons=[0.1], norm=norm, C=10.0)
    assert path.objectives[0] == pytest.approx(objective, rel=1e-9)


def test_float32_data_is_solved_in_float64(cancer):
    X, y = cancer
    X = X.astype(np.float32)
    single = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    double = AdversarialLogisticRegression(epsilon=0.1).fit(X.astype(np.float64), y)
    assert single.violation_ <= 1e-6
    np.testing.assert_allclose(single.coef_, double.coef_, atol=1e-9)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epsilons": []}, "epsilons.*at least one"),
        ({"epsilons": [0.1, -0.2]}, "epsilons.*-0.2"),
        ({"epsilons": [[0.1]]}, r"epsilons.*\(1, 1\)"),
        ({"n_epsilons": 0}, "n_epsilons.*0"),
        ({"epsilon_min_ratio": 2}, "epsilon_min_ratio.*2"),
        ({"alpha": 1}, "alpha=1, epsilons must be given"),
        ({"alpha": -1}, "alpha.*-1"),
        ({"norm": 1}, "norm"),
        ({"C": 0}, "C.*0"),
        ({"device": "cuda:99"}, "device"),
        ({"max_iter": -1}, "max_iter.*-1"),
        ({"tol": 0}, "tol.*0"),
        ({"fit_intercept": "no"}, "fit_intercept.*'no'"),
        ({"class_weight": {0: 1, 1: -1}}, "class_weight.*-1"),
    ],
)
def test_bad_parameter_of_the_path_is_named(cancer, parameters, message):
    with pytest.raises(ValueError, match=message):
        adversarial_logistic_path(*cancer, **parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epsilons": [-0.1]}, "epsilons.*-0.1"),
        ({"epsilons": 0}, "epsilons"),
        ({"alphas": [0.5, 2]}, "alpha.*2"),
        ({"alphas": []}, "alphas.*at least one"),
        ({"scoring": lambda model, X, y: np.nan}, "NaN.*scoring"),
        ({"scoring": "accurate"}, "scoring"),
        ({"norm": 1}, "norm"),
    ],
)
def test_bad_parameter_of_the_cross_validation_is_named(cancer, parameters, message):
    with pytest.raises(ValueError, match=message):
        AdversarialLogisticRegressionCV(**parameters).fit(*cancer)


def test_small_radii_of_separable_data_have_solutions_by_default():
    X, y = make_classification(60, 4, class_sep=4, flip_y=0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdversarialLogisticRegressionCV(cv=3).fit(X, y)


def test_the_path_warns_of_radii_without_a_minimum_as_single_fits_do():
    rng = np.random.RandomState(1)
    X, y = rng.randn(60, 500), (rng.rand(60) > 0.5).astype(int)
    with pytest.warns(ConvergenceWarning) as caught:
        path = adversarial_logistic_path(X, y, n_epsilons=30)
    assert len(caught) == 1 and caught[0].filename == __file__
    for_path = str(caught[0].message)
    with pytest.warns(ConvergenceWarning) as caught:
        [AdversarialLogisticRegression(epsilon=float(e)).fit(X, y) for e in path.epsilons]
    of_fits = [one for one in caught if one.category is ConvergenceWarning]
    assert for_path.startswith(f"{len(of_fits)} of 30 fits did not reach an optimum, with radii")
    assert f"At {path.epsilons[-len(of_fits)]:.3g}: {of_fits[0].message}" in for_path


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_gives_one_warning_that_counts(n_jobs):
    rng = np.random.RandomState(1)
    X, y = rng.randn(40, 60), np.arange(40) % 2
    search = AdversarialLogisticRegressionCV(
        epsilons=[0.01, 0.02, 0.9], C=np.inf, cv=3, n_jobs=n_jobs, scoring=last_radius
    )
    with pytest.warns(ConvergenceWarning) as caught:
        search.fit(X, y)
    # The refit at the radius that was chosen has one of its own, of weights that are zero.
    assert [one.category for one in caught] == [ConvergenceWarning, UserWarning]
    text = str(caught[0].message)
    assert text.startswith("6 of 9 fits did not reach an optimum, with radii from 0.01 to 0.02.")
    assert text.count("robustly classified") == 1 and caught[0].filename == __file__


def last_radius(estimator, X, y):
    return float(np.max(estimator.epsilon))


# Radii as multiples of a scale


@pytest.fixture(scope="module")
def raw():
    """Breast cancer in raw units, as a frame, with a spread per column."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y, X.std()


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_a_scale_of_radii_is_the_same_as_features_in_these_units(norm, raw):
    X, y, scale = raw
    largest = epsilon_max(X, y, scale=scale, norm=norm)
    assert largest == pytest.approx(epsilon_max(X / scale, y, norm=norm))
    shared = {"epsilons": [0.9 * largest, 0.3 * largest], "norm": norm, "tol": 1e-8}
    path = adversarial_logistic_path(X, y, scale=scale, **shared)
    expected = adversarial_logistic_path(X / scale, y, **shared)
    np.testing.assert_allclose(path.objectives, expected.objectives, rtol=1e-7)
    np.testing.assert_allclose(path.coefs * scale.to_numpy(), expected.coefs, atol=1e-4)


def test_a_path_with_a_scale_gives_the_single_fits(raw):
    X, y, scale = raw
    path = adversarial_logistic_path(X, y, epsilons=[0.5, 0.2], scale=scale.sample(frac=1))
    for epsilon, objective in zip(path.epsilons, path.objectives, strict=True):
        model = AdversarialLogisticRegression(epsilon=epsilon * scale).fit(X, y)
        assert model.objective_ == pytest.approx(objective, rel=1e-6)


def test_cross_validation_with_a_scale_chooses_as_a_grid_search_does(raw):
    X, y, scale = raw
    epsilons = [0.02, 0.1, 0.5]
    scoring = make_adversarial_scorer(epsilon=0.1 * scale, attack="exact")
    model = AdversarialLogisticRegressionCV(epsilons=epsilons, scale=scale, scoring=scoring, C=10)
    model.fit(X, y)
    grid = {"epsilon": [epsilon * scale for epsilon in epsilons]}
    search = GridSearchCV(AdversarialLogisticRegression(C=10), grid, scoring=scoring).fit(X, y)
    np.testing.assert_allclose(
        model.scores_[0].mean(1), search.cv_results_["mean_test_score"], atol=0.006
    )
    assert model.epsilon_ == epsilons[search.best_index_]
    assert model.objective_ == pytest.approx(search.best_estimator_.objective_, rel=1e-5)


def test_a_scale_with_zeros_needs_the_radii(raw):
    X, y, scale = raw
    scale = scale.where(scale.index != "mean area", 0.0)
    for fit in (
        lambda: epsilon_max(X, y, scale=scale),
        lambda: adversarial_logistic_path(X, y, scale=scale),
        lambda: AdversarialLogisticRegressionCV(scale=scale).fit(X, y),
    ):
        with pytest.raises(ValueError, match="scale holds 0: pass the radii"):
            fit()
    path = adversarial_logistic_path(X, y, epsilons=[0.5], scale=scale, C=100)
    assert path.coefs[0, 0, list(X.columns).index("mean area")] != 0
