"""Certificates against enumeration, attacks and bisection."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import SVC
from skorch import NeuralNetBinaryClassifier

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    certified_accuracy_score,
    robustness_radius,
)
from sk_adv.neural_network import AdversarialNet


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_certificate_is_the_worst_over_all_corners_of_the_box(n_classes):
    rng = np.random.default_rng(n_classes)
    X, y = rng.normal(size=(200, 6)) * np.arange(1, 7), rng.integers(0, n_classes, 200)
    X[np.arange(200), y] += 3
    model = make_pipeline(StandardScaler(), AdversarialLogisticRegression(epsilon=0.1))
    model.fit(X, y)
    epsilon = 0.2 * np.arange(6)
    corners = epsilon * np.array(list(itertools.product([-1, 1], repeat=6)))
    safe = [np.all(model.predict(x + corners) == label) for x, label in zip(X, y, strict=True)]
    weight = rng.uniform(size=200)
    found = certified_accuracy_score(model, X, y, epsilon=epsilon, sample_weight=weight)
    assert found == pytest.approx(np.average(safe, weights=weight))
    assert 0 < found < model.score(X, y, sample_weight=weight)


def test_euclidean_certificate_is_the_distance_to_the_nearest_boundary(iris):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    w, b = model.coef_, model.intercept_
    distances = []
    for x, k in zip(X, y, strict=True):
        gaps = [
            ((w[k] - w[j]) @ x + b[k] - b[j]) / np.linalg.norm(w[k] - w[j])
            for j in range(3)
            if j != k
        ]
        distances.append(min(gaps))
    for epsilon in (0, 0.2, 0.5):
        found = certified_accuracy_score(model, X, y, epsilon=epsilon, norm=2)
        assert found == pytest.approx(np.mean(np.array(distances) > epsilon))


def test_no_attack_beats_the_certificate(iris):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    for epsilon in (0.1, 0.3, 0.6):
        attack = {"attack": "pgd", "attack_params": {"n_restarts": 3}, "random_state": 0}
        attacked = adversarial_accuracy_score(model, X, y, epsilon=epsilon, **attack)
        assert certified_accuracy_score(model, X, y, epsilon=epsilon) <= attacked


@pytest.mark.parametrize("bounds", [None, (0.5, 1.0)])
def test_without_a_radius_it_is_the_accuracy_also_where_classes_tie(bounds):
    # Half of the samples lie on the boundary, where the first class is predicted.
    X, y = (
        np.array([[-1.0], [0.0], [0.0], [1.0], [0.1], [0.3]] * 5),
        np.array([0, 0, 1, 1, 0, 1] * 5),
    )
    model = LogisticRegression().fit(X, y)
    model.coef_, model.intercept_ = np.array([[0.7]]), np.array([-0.35])
    X[y == 1] = 0.5
    inside = X if bounds is None else X.clip(*bounds)
    expected = model.score(inside, y)
    assert certified_accuracy_score(model, X, y, epsilon=0, bounds=bounds) == expected
    assert adversarial_accuracy_score(model, X, y, epsilon=0, bounds=bounds) == expected


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_constant_prediction_is_certified_at_any_radius(n_classes):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), np.arange(60) % n_classes
    model = AdversarialLogisticRegression(epsilon=100.0).fit(X, y)
    assert not model.coef_.any()
    for epsilon in (0, 0.1, 10):
        assert certified_accuracy_score(model, X, y, epsilon=epsilon) == model.score(X, y)


@pytest.fixture(scope="module")
def maxout(iris):
    """A network after a scaler that clips."""
    network = AdversarialMaxoutClassifier((12,), 2, epsilon=0.05, max_iter=40, random_state=0)
    return make_pipeline(MinMaxScaler(clip=True), network).fit(*iris)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_certificate_of_a_network_holds_in_every_corner_and_says_something(iris, maxout, norm):
    X, y = iris
    epsilon = np.array([0.2, 0.1, 0.2, 0.0])
    corners = epsilon * np.array(list(itertools.product([-1, 1], repeat=4)))
    corners = corners / (np.sqrt(3) if norm == 2 else 1)
    safe = [np.all(maxout.predict(x + corners) == label) for x, label in zip(X, y, strict=True)]
    certified = certified_accuracy_score(maxout, X, y, epsilon=epsilon, norm=norm)
    assert 0.7 * np.mean(safe) < certified <= np.mean(safe) < maxout.score(X, y)
    small = certified_accuracy_score(maxout, X, y, epsilon=1e-5, norm=norm)
    assert small == pytest.approx(maxout.score(X, y))
    assert certified_accuracy_score(maxout, X, y, epsilon=50, norm=norm) == 0


@pytest.fixture(scope="module")
def sigmoids(iris):
    """A network on raw features, with a sigmoid for each class."""
    return AdversarialMaxoutClassifier(
        (12,), 2, epsilon=0.1, output_activation="sigmoid", learning_rate_init=0.01, max_iter=40,
        random_state=0,
    ).fit(*iris)  # fmt: skip


def test_sigmoids_are_certified_by_their_logits(iris, sigmoids):
    X, y = iris
    certified = certified_accuracy_score(sigmoids, X, y, epsilon=0.05)
    attacked = adversarial_accuracy_score(sigmoids, X, y, epsilon=0.05, attack="pgd")
    assert 0.7 * attacked < certified <= attacked


def test_certificate_of_a_net_around_any_sequence_of_known_layers():
    X, y = make_classification(200, 6, n_informative=4, n_classes=3, random_state=0)
    X = X.astype(np.float32)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.LeakyReLU(0.1), torch.nn.Dropout(0.1),
        torch.nn.Linear(16, 3), torch.nn.LogSoftmax(1),
    )  # fmt: skip
    torch.manual_seed(0)
    net = AdversarialNet(module, epsilon=0.1, max_epochs=20, lr=0.1, verbose=0).fit(X, y)
    certified = certified_accuracy_score(net, X, y, epsilon=0.05)
    attacked = adversarial_accuracy_score(net, X, y, epsilon=0.05, attack="pgd", random_state=0)
    assert 0.8 * attacked < certified <= attacked


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_certificate_and_radius_of_a_net_know_its_threshold(threshold):
    torch.manual_seed(0)
    X = np.linspace(-3, 3, 60, dtype=np.float32)[:, None]
    y = (X[:, 0] > 0.5).astype(np.float32)
    net = NeuralNetBinaryClassifier(torch.nn.Linear(1, 1), threshold=threshold, lr=1, verbose=0)
    net.fit(X, y)
    ends = [net.predict(X + shift) == y for shift in (-0.4, 0.4)]
    found = certified_accuracy_score(net, X, y, epsilon=0.4)
    assert found == np.mean(np.logical_and(*ends))
    assert (robustness_radius(net, X, y) > 0.4).mean() == found


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_bounds_let_more_samples_be_certified(iris, sigmoids, norm):
    X, y = iris
    bounds = np.quantile(X, 0.3, axis=0), np.quantile(X, 0.7, axis=0)
    inside = np.clip(X, *bounds)
    options = {"epsilon": 0.2, "norm": norm}
    certified = certified_accuracy_score(sigmoids, X, y, bounds=bounds, **options)
    unbounded = certified_accuracy_score(sigmoids, inside, y, **options)
    assert unbounded < certified if norm == np.inf else unbounded <= certified
    attacked = adversarial_accuracy_score(sigmoids, X, y, attack="pgd", bounds=bounds, **options)
    assert certified <= attacked


@pytest.mark.parametrize("weight", [[1, 2], -np.ones(150), np.full(150, np.nan), ["a"] * 150])
def test_bad_weights_are_refused(iris, weight):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(ValueError, match=r"sample_weight|convert"):
        certified_accuracy_score(model, X, y, epsilon=0.1, sample_weight=weight)


def test_label_unseen_in_training_is_never_safe(iris):
    X, y = iris
    model = LogisticRegression().fit(X[y < 2], y[y < 2])
    assert certified_accuracy_score(model, X, y, epsilon=0) == pytest.approx(2 / 3)
    assert not robustness_radius(model, X, y)[y == 2].any()


def test_models_without_bounds_are_named(iris):
    X, y = iris
    neighbours = KNeighborsClassifier().fit(X, y)
    with pytest.raises(TypeError, match="KNeighborsClassifier"):
        certified_accuracy_score(neighbours, X, y, epsilon=0.1)

    class Sine(torch.nn.Module):
        def forward(self, X):
            return torch.sin(X)

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), Sine())
    net = AdversarialNet(module, epsilon=0.1, max_epochs=1, verbose=0).fit(np.float32(X), y)
    with pytest.raises(TypeError, match="Sine"):
        certified_accuracy_score(net, X, y, epsilon=0.1)


@pytest.mark.parametrize("is_in_pipeline", [False, True])
@pytest.mark.parametrize("model", [KNeighborsClassifier(), SVC()])
def test_a_refusal_names_the_estimator_and_a_way_that_works(iris, is_in_pipeline, model):
    X, y = iris
    model = make_pipeline(StandardScaler(), model) if is_in_pipeline else model
    with pytest.raises(TypeError) as refused:
        certified_accuracy_score(model.fit(X, y), X, y, epsilon=0.1)
    message, name = str(refused.value), type(model[-1] if is_in_pipeline else model).__name__
    assert name in message
    assert "adversarial_accuracy_score" in message
    assert "Chain" not in message
    # The way that the message names, with the estimator that was given.
    if name == "SVC":
        adversarial_accuracy_score(model, X, y, epsilon=0.1, attack="pgd")
    else:
        adversarial_accuracy_score(model, X, y, epsilon=0.1, surrogate=LogisticRegression())
        params = {"n_queries": 10}
        adversarial_accuracy_score(
            model, X, y, epsilon=0.1, attack="square", attack_params=params, random_state=0
        )


@pytest.mark.parametrize("is_in_pipeline", [False, True])
def test_a_forest_is_certified_where_no_point_of_its_box_changes_the_prediction(
    iris, is_in_pipeline
):
    X, y = iris
    forest = RandomForestClassifier(5, random_state=0)
    model = (make_pipeline(StandardScaler(), forest) if is_in_pipeline else forest).fit(X, y)
    certified = certified_accuracy_score(model, X, y, epsilon=0.3)
    rng = np.random.default_rng(0)
    # Random points, and corners of the box, can only fail to find a wrong one.
    shifts = rng.uniform(-0.3, 0.3, size=(200, 4))
    shifts[:100] = 0.3 * np.sign(shifts[:100])
    safe = [np.all(model.predict(x + shifts) == label) for x, label in zip(X, y, strict=True)]
    assert 0.5 < certified <= np.mean(safe) < model.score(X, y)
    # The worst copies are misclassified wherever there is no certificate.
    worst = perturb(model, X, y, epsilon=0.3, attack="exact")
    assert model.score(worst, y) == pytest.approx(certified)
    assert np.mean(robustness_radius(model, X, y) > 0.3) == pytest.approx(certified)


def test_the_exact_attack_names_the_estimator_that_is_not_linear(iris):
    X, y = iris
    model = make_pipeline(StandardScaler(), SVC()).fit(X, y)
    with pytest.raises(TypeError, match="Pipeline of SVC that is not linear.*attack='pgd'"):
        adversarial_accuracy_score(model, X, y, epsilon=0.1, attack="exact")


@pytest.mark.parametrize("single", ["X", "weights", None])
def test_margins_that_single_precision_can_lose_are_not_certified(single):
    n_features, margin = 20_000, 1e-3
    X = np.ones((2, n_features))
    model = LogisticRegression().fit(X * [[-1], [1]], [0, 1])
    model.coef_ = np.full((1, n_features), 0.1)
    model.intercept_ = np.array([margin - 0.1 * n_features])
    if single == "X":
        X = X.astype(np.float32)
    if single == "weights":
        model.coef_ = model.coef_.astype(np.float32)
        model.intercept_ = margin - model.coef_.sum(axis=1, dtype=np.float64)
    assert certified_accuracy_score(model, X, [1, 1], epsilon=1e-9) == (single is None)
    # Without a radius the predictions themselves decide.
    assert certified_accuracy_score(model, X, [1, 1], epsilon=0) == model.score(X, [1, 1])


LINEAR = {
    "three classes": LogisticRegression(max_iter=1000),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "adversarial": AdversarialLogisticRegression(epsilon=0.3),
}


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("scale", [None, np.array([1.0, 0.0, 2.0, 0.5])], ids=["one", "scale"])
def test_just_beyond_the_radius_the_exact_attack_changes_the_prediction(iris, norm, name, scale):
    X, y = iris
    model = LINEAR[name].fit(X, y)
    own = model.predict(X)
    radius = robustness_radius(model, X, norm=norm, scale=scale)
    assert radius.min() < 0.1 < radius.max() < 20

    def is_changed(x, label, epsilon):
        epsilon = epsilon * (1.0 if scale is None else scale)
        copy = perturb(model, x[None], [label], epsilon=epsilon, norm=norm, attack="exact")
        return model.predict(copy)[0] != label

    for x, label, distance in zip(X[::10], own[::10], radius[::10], strict=True):
        assert not is_changed(x, label, distance * (1 - 1e-6))
        assert is_changed(x, label, distance * (1 + 1e-6))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_certified_accuracy_is_the_share_of_larger_radii(iris, norm):
    X, y = iris
    model = LINEAR["pipeline"].fit(X, y)
    scale = X.std(axis=0)
    radius = robustness_radius(model, X, y, norm=norm, scale=scale)
    wrong = model.predict(X) != y
    assert (radius[wrong] == 0).all() and (radius[~wrong] > 0).all() and wrong.any()
    for epsilon in (0, 0.1, 0.3, 1, 2):
        found = certified_accuracy_score(model, X, y, epsilon=epsilon * scale, norm=norm)
        assert found == (radius > epsilon).mean()


def test_where_nothing_can_change_the_prediction_the_radius_is_infinite(iris):
    X, y = iris
    y = y > 0
    model = LogisticRegression().fit(X[:, :3], y)
    # Only the feature of weight 0 may change.
    model.coef_[0, 2] = 0
    fixed = robustness_radius(model, X[:, :3], scale=[0, 0, 1])
    assert np.isposinf(fixed).all()
    others = ~model.predict(X[:, :3])
    assert not robustness_radius(model, X[:, :3], others, scale=[0, 0, 1]).any()


def test_on_a_boundary_the_radius_is_zero():
    model = LogisticRegression().fit([[-1.0], [1.0]], [0, 1])
    model.intercept_[:] = 0
    assert robustness_radius(model, [[0.0]]) == 0
    assert robustness_radius(model, [[0.0]], scale=[0.0]) == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"norm": 1}, ValueError, "norm"),
        ({"scale": -1}, ValueError, "scale"),
        ({"scale": [1, 2]}, ValueError, r"scale.*\(4,\).*\(2,\)"),
        ({"estimator": LogisticRegression()}, NotFittedError, "not fitted"),
        ({"y": [0, 1]}, ValueError, "2.*150"),
        ({"y": ["0"] * 150}, ValueError, "y.*such as 0; got '0'"),
        ({"estimator": torch.nn.Linear(4, 3), "y": None}, TypeError, "Linear.*not an estimator"),
    ],
)
def test_bad_input_to_the_radius_is_explained(iris, change, error, message):
    X, y = iris
    arguments = {"estimator": LINEAR["three classes"].fit(X, y), "X": X, "y": y, **change}
    with pytest.raises(error, match=message):
        robustness_radius(arguments.pop("estimator"), arguments.pop("X"), **arguments)


@pytest.mark.filterwarnings("error")
def test_radii_of_a_frame_may_be_read_only(iris):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    radius = np.full(4, 0.3)
    radius.flags.writeable = False  # like the array of a pandas Series
    torch.set_warn_always(True)  # the default is once per process
    try:
        certified = certified_accuracy_score(model, X, y, epsilon=radius)
        multiples = robustness_radius(model, X, y, scale=radius)
    finally:
        torch.set_warn_always(False)
    assert certified == (multiples > 1).mean() == certified_accuracy_score(model, X, y, epsilon=0.3)


# Columns that are held fixed


@pytest.fixture(scope="module")
def behind_a_power_transformer():
    """Two normal columns whose sum decides, behind a transformer without a rule."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    y = (X["a"] + X["b"] > 0).astype(int)
    transformer = make_column_transformer((PowerTransformer(), ["a", "b"]))
    return make_pipeline(transformer, LogisticRegression()).fit(X, y), X, y


def test_no_certificate_holds_numbers_fixed_that_may_change(behind_a_power_transformer):
    model, X, y = behind_a_power_transformer
    shifted = X - 0.5 * np.where(y, 1, -1)[:, None]
    # A certificate has to stay below the accuracy after this shift.
    assert model.score(shifted, y) < 0.6
    for epsilon in (0.5, {"a": 0.5}):
        with pytest.raises(TypeError, match="columns .*'a'.* through PowerTransformer"):
            certified_accuracy_score(model, X, y, epsilon=epsilon)
        with pytest.raises(TypeError, match="PowerTransformer"):
            adversarial_accuracy_score(model, X, y, epsilon=epsilon, attack="exact")
    with pytest.warns(UserWarning, match="PowerTransformer"):
        lower, upper = robustness_radius(
            model, X[:20], y[:20], return_bracket=True, tol=0.3, random_state=0
        )
    assert not lower.any()
    # No attack goes through the transformer: counterexamples lie on the way to other samples.
    predicted, numbers = model.predict(X[:20]), X[:20].to_numpy()
    line = np.linspace(-2, 2, 81)
    steps = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for i in range(20):
        others = numbers[predicted != predicted[i]]
        wrong = model.predict(pd.DataFrame(numbers[i] + steps, columns=["a", "b"])) != y[i]
        if predicted[i] == y[i]:
            assert upper[i] <= np.abs(others - numbers[i]).max(axis=1).min() + 1e-9
            assert upper[i] >= np.abs(steps[wrong]).max(axis=1).min(initial=2) - 0.05
        else:
            assert upper[i] == 0
    with pytest.warns(UserWarning, match="stay unperturbed"):
        report = adversarial_report(model, X, y, [0.5], ["fgsm"])
    assert np.isnan(report["certified_error"][0])


def test_columns_of_radius_zero_and_categories_may_be_held_fixed(behind_a_power_transformer):
    model, X, y = behind_a_power_transformer
    assert certified_accuracy_score(model, X, y, epsilon=0) == model.score(X, y)
    kinds = X.assign(c=np.where(X["a"] > 0, "p", "n"))
    columns = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    model = make_pipeline(columns, LogisticRegression()).fit(kinds, y)
    radii = {"a": 0.2, "b": 0.2}
    certified = certified_accuracy_score(model, kinds, y, epsilon=radii)
    corners = [kinds.assign(a=X["a"] + s, b=X["b"] + t) for s in (-0.2, 0.2) for t in (-0.2, 0.2)]
    right = np.all([model.predict(corner) == y for corner in corners], axis=0)
    assert certified == right.mean()
