"""The exact attack against enumeration, a conic solver, and all other attacks."""

import copy
import itertools

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, make_classification
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from sk_adv import as_module
from sk_adv._perturbations import steepest_step_within
from sk_adv.attacks import exact, fgsm, perturb
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score

EPSILON = np.array([0.5, 0.0, 1.0, 0.2, 0.7])


@pytest.fixture(scope="module", params=[2, 3, 4], ids="{} classes".format)
def task(request):
    """60 samples of 5 features whose classes overlap."""
    X, y = make_classification(
        60, 5, n_informative=5, n_redundant=0, n_classes=request.param, class_sep=0.7,
        n_clusters_per_class=1, random_state=request.param,
    )  # fmt: skip
    return X, y


def rival_margins(model, X, y):
    """z_k - z_y of the best rival k, of a model's decision function."""
    z = model.decision_function(X)
    z = z if z.ndim == 2 else np.stack([0 * z, z], axis=1)
    own = z[np.arange(len(y)), y]
    return np.where(np.arange(z.shape[1]) == y[:, None], -np.inf, z).max(1) - own


@pytest.mark.parametrize("bounds", [None, (-1.5, np.array([1.0, 2.0, 0.5, 1.0, 3.0]))])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        LinearSVC(),
        RidgeClassifier(),
        LinearDiscriminantAnalysis(),
        SGDClassifier(random_state=0),
        Perceptron(),
        make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_exact_copies_are_the_worst_corners_of_the_box(task, estimator, bounds):
    X, y = task
    model = estimator.fit(X, y)
    inside = X if bounds is None else np.clip(X, *bounds)
    copies = perturb(model, X, y, epsilon=EPSILON, attack="exact", bounds=bounds)
    corners = EPSILON * np.array(list(itertools.product([-1, 1], repeat=5)))
    corners = inside[:, None] + corners
    corners = corners if bounds is None else np.clip(corners, *bounds)
    margins = [
        rival_margins(model, around, np.full(32, label))
        for around, label in zip(corners, y, strict=True)
    ]
    np.testing.assert_allclose(rival_margins(model, copies, y), np.max(margins, axis=1), atol=1e-9)
    assert (abs(copies - inside) <= EPSILON + 1e-12).all()


def test_exact_copies_within_bounds_are_those_of_a_conic_solver(task):
    X, y = task
    model = LogisticRegression().fit(X, y)
    X, y = X[:12], y[:12]
    low, high = np.full(5, -1.2), np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    inside, epsilon = np.clip(X, low, high), 2 * EPSILON
    copies = perturb(model, X, y, epsilon=epsilon, attack="exact", norm=2, bounds=(low, high))
    coef = as_module(model)(torch.eye(5).double()) - as_module(model)(torch.zeros(1, 5).double())
    coef = coef.numpy().T
    centre, weights = cp.Parameter(5), cp.Parameter(5)
    copy = cp.Variable(5)
    problem = cp.Problem(
        cp.Maximize(weights @ copy),
        [
            cp.norm((copy - centre)[epsilon > 0] / epsilon[epsilon > 0]) <= 1,
            copy[1] == centre[1],
            copy >= low,
            copy <= high,
        ],
    )
    for x, label, found in zip(inside, y, copies, strict=True):
        centre.value = x
        worst = -np.inf
        for k in set(range(len(coef))) - {label}:
            weights.value = coef[k] - coef[label]
            problem.solve(solver=cp.CLARABEL)
            worst = max(worst, rival_margins(model, copy.value[None], np.array([label]))[0])
        assert rival_margins(model, found[None], np.array([label]))[0] == pytest.approx(
            worst, abs=1e-5
        )
        free = epsilon > 0
        assert np.linalg.norm((found - x)[free] / epsilon[free]) <= 1 + 1e-9
        assert found[1] == x[1]
    # The bounds restrict some samples and some features, but not all.
    at_bounds = (copies == low) | (copies == high)
    assert 0 < at_bounds.mean() < 0.5


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_exact_is_fgsm_for_two_classes_without_bounds(norm):
    X, y = make_classification(random_state=0)
    module = as_module(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y))
    expected = fgsm(module, X, y, 0.3, norm=norm)
    np.testing.assert_allclose(exact(module, X, y, 0.3, norm=norm), expected, atol=1e-12)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("bounds", [None, (4.0, 6.0), (0.0, 6.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_attack_beats_the_exact_one_which_the_certificate_equals(norm, bounds, dtype):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    # X has another dtype than the model, and is partly outside of the bounds.
    X = X.astype(dtype)
    options = {"norm": norm, "bounds": bounds, "epsilon": np.array([0.4, 0.2, 0.6, 0.3])}
    worst = adversarial_accuracy_score(model, X, y, attack="exact", **options)
    assert certified_accuracy_score(model, X, y, **options) == worst
    for attack in ("pgd", "fgsm", "uniform_noise", "sign_noise"):
        assert worst <= adversarial_accuracy_score(model, X, y, attack=attack, **options)
    assert worst < 0.9


def test_exact_knows_one_against_the_rest_by_its_decision_values():
    X, y = load_iris(return_X_y=True)
    linear = RidgeClassifier().fit(X, y)
    copies = perturb(linear, X, y, epsilon=0.2, attack="exact")
    # The same decision boundaries with another link function.
    rest = as_module(linear)
    top = torch.nn.Sequential(rest, torch.nn.LogSigmoid(), torch.nn.LogSoftmax(1))
    np.testing.assert_array_equal(exact(top, X, y, 0.2), copies)


@pytest.mark.parametrize("bounds", [None, (np.array([1.0, -2.0, -2.0, -2.0, -2.0]), 1.5)])
def test_exact_goes_through_imputers_and_around_categories(bounds):
    rng = np.random.default_rng(0)
    X, y = make_classification(80, 4, n_informative=4, n_redundant=0, random_state=0)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame.insert(1, "colour", rng.choice(["red", "blue"], 80))
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), list("abcd")),
            (OneHotEncoder(), ["colour"]),
        ),
        LogisticRegression(),
    ).fit(frame, y)
    epsilon = np.array([0.3, 0, 0.3, 0.3, 0.3])
    copies = perturb(model, frame, y, epsilon=epsilon, attack="exact", bounds=bounds)
    assert (copies["colour"] == frame["colour"]).all()
    assert copies.isna().equals(frame.isna())

    # In closed form: missing entries stay, and the other features move up to the bounds.
    weights = model[-1].coef_[0, :4] / model[0].transformers_[0][1][-1].scale_
    sign = np.where(y == 1, 1, -1)
    low, high = (-np.inf, np.inf) if bounds is None else (bounds[0][[0, 2, 3, 4]], bounds[1])
    inside = frame.copy()
    inside[list("abcd")] = X.clip(low, high)
    room = np.where(
        sign[:, None] * weights < 0,
        high - inside[list("abcd")],
        inside[list("abcd")] - low,
    )
    reach = np.nansum(np.minimum(room, 0.3) * abs(weights), axis=1)
    expected = sign * model.decision_function(inside) - reach
    np.testing.assert_allclose(sign * model.decision_function(copies), expected, atol=1e-9)
    found = certified_accuracy_score(model, frame, y, epsilon=epsilon, bounds=bounds)
    assert found == (expected > 0).mean()
    assert 0 < found < model.score(inside, y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "model",
    [
        OneVsRestClassifier(make_pipeline(StandardScaler(), LogisticRegression())),
        OneVsRestClassifier(LinearSVC()),
        OneVsRestClassifier(LogisticRegression(solver="liblinear")),
    ],
    ids=["pipelines", "machines", "liblinear"],
)
def test_exact_takes_one_class_against_the_rest(model, n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    model.fit(X, y)
    epsilon = 0.15 if n_classes == 3 else 0.6
    corners = epsilon * np.array(list(itertools.product([-1, 1], repeat=4)))
    safe = [np.all(model.predict(x + corners) == label) for x, label in zip(X, y, strict=True)]
    attacked = adversarial_accuracy_score(model, X, y, epsilon=epsilon, attack="exact")
    assert attacked == np.mean(safe) == certified_accuracy_score(model, X, y, epsilon=epsilon)
    assert 0 < attacked < model.score(X, y)


def test_exact_takes_modules_in_training():
    module = torch.nn.Linear(4, 3)
    X, y = load_iris(return_X_y=True)
    copies = exact(module, torch.tensor(X, requires_grad=True), y, 0.1)
    frozen = exact(copy.deepcopy(module).requires_grad_(False), X, y, 0.1)
    np.testing.assert_array_equal(copies, frozen)
    assert module.weight.grad is None


def test_steps_may_differ_in_precision():
    X, y = make_classification(random_state=0)
    X = X.astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    # In scikit-learn below 1.9 they are in double precision.
    model[-1].coef_ = model[-1].coef_.astype(np.float32)
    model[-1].intercept_ = model[-1].intercept_.astype(np.float32)
    copies = perturb(model, X, y, epsilon=0.3, attack="exact")
    assert copies.dtype == np.float32
    step = 0.3 * np.where(y == 1, -1, 1)[:, None] * np.sign(model[-1].coef_)
    np.testing.assert_allclose(copies - X, step, atol=1e-6)


def test_exact_moves_towards_a_target_of_two_classes_only():
    X, y = load_iris(return_X_y=True)
    two = LogisticRegression().fit(X[y < 2], y[y < 2])
    towards = perturb(two, X[:50], y[:50], epsilon=0.2, attack="exact", target=1)
    np.testing.assert_array_equal(
        towards, perturb(two, X[:50], y[:50], epsilon=0.2, attack="exact")
    )
    three = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(ValueError, match="two classes.*3 classes.*pgd"):
        perturb(three, X, y, epsilon=0.2, attack="exact", target=1)


def test_targets_that_can_not_be_are_explained():
    X, y = load_iris(return_X_y=True)
    three = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(ValueError, match="uniform_noise.*no direction"):
        perturb(three, X, y, epsilon=0.2, attack="uniform_noise", target=1)
    with pytest.raises(ValueError, match=r"target must be one of.*got \[1, 1\]"):
        perturb(three, X, y, epsilon=0.2, target=[1, 1])


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()),
        make_pipeline(Normalizer(), LogisticRegression()),
        make_pipeline(SimpleImputer(missing_values=0.2), LogisticRegression(max_iter=1000)),
    ],
    ids=lambda model: type(model[0]).__name__,
)
def test_what_is_not_linear_has_no_exact_worst_case(model, norm):
    X, y = load_iris(return_X_y=True)
    model.fit(X, y)
    with pytest.raises(TypeError, match="linear.*pgd"):
        adversarial_accuracy_score(model, X, y, epsilon=0.1, norm=norm, attack="exact")


def test_missing_values_without_an_imputer_are_explained():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    X[3, 1] = np.nan
    for score in (adversarial_accuracy_score, certified_accuracy_score):
        params = {"attack": "exact"} if score is adversarial_accuracy_score else {}
        with pytest.raises(ValueError, match="NaN.*SimpleImputer"):
            score(model, X, y, epsilon=0.1, **params)


def test_steps_within_no_room_or_along_no_gradient_are_zero():
    gradient = torch.tensor(
        [[0.0, 0.0, 0.0], [1e-200, -1e-200, 0.0], [1.0, 2.0, -3.0]], dtype=torch.float64
    )
    epsilon = torch.tensor([1.0, 1.0, 0.0]).double()
    nowhere = torch.zeros(3, 3).double()
    for norm in (2, np.inf):
        free = steepest_step_within(gradient, epsilon, norm, (nowhere - 9, nowhere + 9))
        expected = steepest_step_within(gradient, epsilon, norm, None)
        torch.testing.assert_close(free, expected)
        assert not steepest_step_within(gradient, epsilon, norm, (nowhere, nowhere)).any()
