"""Claims about EpsilonSweepDisplay."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.inspection import EpsilonSweepDisplay

STEPS = np.linspace(-2, 2, 41)


def softmax_gradient(model, x, y):
    """∇ₓJ of a linear model: Σ_k (p_k - [k = y]) w_k."""
    residual = model.predict_proba(x[None])[0] - (model.classes_ == y)
    return residual @ model.coef_


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_logits_are_the_decisions_along_the_gradient(norm, iris):
    model, X, y = iris
    gradient = softmax_gradient(model, X[60], y[60])
    line = np.sign(gradient) if norm == np.inf else gradient / np.linalg.norm(gradient)
    display = EpsilonSweepDisplay.from_estimator(model, X[60], y[60], epsilons=STEPS, norm=norm)
    expected = model.decision_function(X[60] + STEPS[:, None] * line)
    np.testing.assert_allclose(display.logits, expected, atol=1e-9)
    np.testing.assert_array_equal(display.classes, model.classes_)
    assert display.label == y[60]
    for logits, drawn in zip(expected.T, display.lines_, strict=True):
        np.testing.assert_allclose(drawn.get_ydata(), logits, atol=1e-9)


def test_of_two_classes_the_first_has_logit_0_and_the_second_the_decision(binary, raw_weights):
    model, X, y = binary
    display = EpsilonSweepDisplay.from_estimator(model, X[0], y[0], epsilons=STEPS)
    line = np.where(y[0] == "yes", -1, 1) * np.sign(raw_weights(model)[0])
    expected = model.decision_function(X[0] + STEPS[:, None] * line)
    np.testing.assert_allclose(display.logits, np.column_stack([0 * STEPS, expected]), atol=1e-9)
    default = EpsilonSweepDisplay.from_estimator(model, X[0], y[0])
    assert default.epsilons[[0, -1]].tolist() == [-10, 10]


def test_the_stretch_ends_where_a_linear_model_changes_its_mind(binary, raw_weights):
    model, X, y = binary
    weights, intercept = raw_weights(model)
    margins = np.where(y == "yes", 1, -1) * (X @ weights + intercept)
    radii = margins / np.abs(weights).sum()
    for index in np.flatnonzero(np.abs(radii) < 2)[:5]:
        display = EpsilonSweepDisplay.from_estimator(model, X[index], y[index], epsilons=STEPS)
        np.testing.assert_allclose(display.correct_stretches, [[-2, radii[index]]], atol=1e-9)


def test_steps_may_be_multiples_of_a_unit_for_each_feature(binary, raw_weights):
    model, X, y = binary
    weights, intercept = raw_weights(model)
    scale = np.linspace(0, 3, 16)
    display = EpsilonSweepDisplay.from_estimator(
        model, X[0], y[0], epsilons=[-9, 0, 9], scale=scale
    )
    margin = np.where(y[0] == "yes", 1, -1) * (X[0] @ weights + intercept)
    radius = margin / np.sum(scale * np.abs(weights))
    np.testing.assert_allclose(display.correct_stretches, [[-9, radius]])
    assert "multiples of scale" in display.ax_.get_xlabel()


def test_where_a_network_is_right_its_predictions_are(iris):
    _, X, y = iris
    model = AdversarialMaxoutClassifier(
        (5,), n_pieces=2, alpha=1, max_iter=60, random_state=0, device="cpu"
    ).fit(X, y)
    rng = np.random.default_rng(0)
    n_crossings = 0
    for index in (0, 60, 70, 80, 110):
        direction = rng.normal(size=4)
        display = EpsilonSweepDisplay.from_estimator(
            model, X[index], y[index], epsilons=np.linspace(-9, 9, 2001), direction=direction
        )
        steps = np.linspace(-9, 9, 307)
        right = model.predict(X[index] + steps[:, None] * direction) == y[index]
        stretches = display.correct_stretches
        shaded = ((stretches[:, :1] <= steps) & (steps <= stretches[:, 1:])).any(axis=0)
        near_an_end = (np.abs(stretches.reshape(-1, 1) - steps) < 0.02).any(axis=0)
        np.testing.assert_array_equal(shaded[~near_an_end], right[~near_an_end])
        n_crossings += np.sum(right[1:] != right[:-1])
        assert len(display.spans_) == len(stretches)
    assert n_crossings >= 3


def test_logits_of_a_maxout_network_are_piecewise_linear(iris):
    _, X, y = iris
    model = AdversarialMaxoutClassifier(
        (4,), n_pieces=3, max_iter=3, random_state=0, device="cpu"
    ).fit(X, y)
    display = EpsilonSweepDisplay.from_estimator(model, X[0], y[0])
    bends = np.abs(np.diff(display.logits, n=2, axis=0)).max(axis=1) > 1e-9
    # A unit with three pieces has at most two kinks, and a kink lies between two of the steps.
    assert 1 <= bends.sum() <= 2 * 2 * 4


def test_the_line_is_clipped_to_bounds(binary):
    model, X, y = binary
    display = EpsilonSweepDisplay.from_estimator(
        model, X[0], y[0], epsilons=[0, 100, 200], bounds=(X.min(axis=0), X.max(axis=0))
    )
    np.testing.assert_array_equal(display.logits[1], display.logits[2])
    assert (display.logits[0] != display.logits[1]).any()


def test_a_sample_may_be_a_row_a_frame_a_list_or_a_tensor(iris):
    model, X, y = iris
    expected = EpsilonSweepDisplay.from_estimator(model, X[60], y[60]).logits
    for sample in (X[60:61], pd.DataFrame(X[60:61]), list(X[60]), torch.from_numpy(X[60])):
        display = EpsilonSweepDisplay.from_estimator(model, sample, y[60:61])
        np.testing.assert_allclose(display.logits, expected)


def test_known_logits_are_drawn_with_the_true_class_in_black():
    logits = np.array([[3.0, 1, 0, -1], [1, 2, 0, -1], [3, 2, 0, -1], [1, 4, 0, -1]])
    display = EpsilonSweepDisplay.from_predictions(
        [-1, 0, 1, 2], logits, classes=["a", "b", "c", "d"], y_true="a"
    )
    np.testing.assert_allclose(display.correct_stretches, [[-1, -1 / 3], [0.5, 1.25]])
    assert display.lines_[0].get_color() == "black"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["a (true)", "b", "others", "classified correctly"]
    never = EpsilonSweepDisplay.from_predictions([0, 1], logits[:2], classes=range(4), y_true=3)
    assert never.correct_stretches.shape == (0, 2) and never.spans_ == []
    always = EpsilonSweepDisplay.from_predictions([0, 1], [[1, 0]] * 2, classes=[0, 1], y_true=0)
    np.testing.assert_array_equal(always.correct_stretches, [[0, 1]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epsilons": [0, 0]}, "must be strictly increasing"),
        ({"epsilons": [1, 0]}, "must be strictly increasing"),
        ({"epsilons": [0]}, "at least two finite steps"),
        ({"epsilons": [0, np.nan]}, "at least two finite steps"),
        ({"epsilons": "wide"}, "at least two finite steps"),
        ({"logits": [[1, 2], [1, np.nan]]}, "logits contains NaN"),
        ({"logits": [[1, 2]]}, r"got shape \(1, 2\) for 2 epsilons"),
        ({"logits": [[1], [2]], "classes": ["a"]}, "at least two classes"),
        ({"classes": ["a", "b", "c"]}, r"classes of shape \(3,\)"),
        ({"y_true": "z"}, r"one of the classes \['a', 'b'\]; got 'z'"),
    ],
)
def test_logits_that_do_not_fit_are_refused(changed, message):
    params = {"epsilons": [0, 1], "logits": np.eye(2), "classes": ["a", "b"], "y_true": "a"}
    with pytest.raises(ValueError, match=message):
        EpsilonSweepDisplay.from_predictions(**params | changed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"X": np.zeros((2, 16))}, ValueError, r"one sample.* got shape \(2, 16\)"),
        ({"X": np.zeros(3)}, ValueError, "3 features"),
        ({"X": sparse.csr_matrix(np.ones((1, 16)))}, TypeError, "dense X"),
        ({"y": "maybe"}, ValueError, "got 'maybe'"),
        ({"y": ["yes", "no"]}, ValueError, "got 2 for 1"),
        ({"norm": 1}, ValueError, "norm must be"),
        ({"direction": "gradent"}, ValueError, "got 'gradent'"),
        ({"direction": np.ones(3)}, ValueError, r"shape \(16,\)"),
        ({"direction": np.zeros(16)}, ValueError, "zero in every feature"),
        ({"scale": np.zeros(16)}, ValueError, "zero in every feature"),
        ({"scale": np.ones(3)}, ValueError, r"scale must be .* shape \(16,\)"),
        ({"bounds": (1, 0)}, ValueError, "low <= high"),
    ],
)
def test_a_sweep_says_what_is_wrong(changed, error, message, binary):
    model, X, y = binary
    with pytest.raises(error, match=message):
        EpsilonSweepDisplay.from_estimator(model, **{"X": X[0], "y": y[0], **changed})


def test_a_model_without_a_rule_has_no_logits(binary):
    _, X, y = binary
    for direction in ("gradient", np.ones(16)):
        neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, y)
        with pytest.raises(TypeError, match="Pipeline of KNeighborsClassifier") as refused:
            EpsilonSweepDisplay.from_estimator(neighbours, X[0], y[0], direction=direction)
        # The display takes neither an attack nor a surrogate, but a model like this one.
        assert "attack" not in str(refused.value) and "`surrogate`" not in str(refused.value)
        assert "LogisticRegression()" in str(refused.value)
        like = LogisticRegression().fit(X, neighbours.predict(X))
        EpsilonSweepDisplay.from_estimator(like, X[0], y[0], direction=direction)


@pytest.mark.parametrize("model", [LogisticRegression(max_iter=1000), "with an encoder"])
def test_a_sweep_does_not_read_reordered_columns_by_position(model, iris):
    _, X, y = iris
    X = pd.DataFrame(X, columns=list("abcd"))
    if model == "with an encoder":
        X = X.assign(kind="k")
        columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["a"]))
        model = make_pipeline(columns, LogisticRegression())
    model.fit(X, y)
    scale = {"a": 1.0}
    EpsilonSweepDisplay.from_estimator(model, X.iloc[[0]], y[:1], scale=scale)
    with pytest.raises(ValueError, match=r"columns .* in their order, \['a', 'b'"):
        EpsilonSweepDisplay.from_estimator(model, X.iloc[[0], ::-1], y[:1], scale=scale)


@pytest.mark.parametrize("around", [FrozenEstimator, OneVsRestClassifier])
@pytest.mark.parametrize("direction", ["gradient", [0, -2]])
def test_a_sweep_of_a_frame_keeps_its_categories(around, direction):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"port": rng.choice(["C", "Q"], 60), "fare": rng.normal(size=60)})
    y = X["fare"] + (X["port"] == "Q") + rng.normal(size=60) / 2 > 0.5
    columns = make_column_transformer((OneHotEncoder(), ["port"]), (StandardScaler(), ["fare"]))
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    model = around(model).fit(X, y)
    sample, steps = X.iloc[[7]], np.linspace(-2, 2, 9)
    display = EpsilonSweepDisplay.from_estimator(
        model, sample, y[7:8], epsilons=steps, direction=direction, scale={"fare": 0.5}
    )
    # The gradient of a linear model is that of its only number, against its class.
    towards = 1 if y[7] == (model.decision_function(sample.assign(fare=-9))[0] > 0) else -1
    step = 0.5 * (towards if direction == "gradient" else -2)
    moved = pd.concat([sample.assign(fare=sample["fare"] + step * e) for e in steps])
    found = display.logits[:, 1] - display.logits[:, 0]
    np.testing.assert_allclose(found, model.decision_function(moved), atol=1e-9)
    with pytest.raises(ValueError, match=r"direction must be 0 in the columns \['port'\]"):
        EpsilonSweepDisplay.from_estimator(model, sample, y[7:8], direction=[1, 1])
