"""Claims about TransferMatrixDisplay."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_adv.inspection import TransferMatrixDisplay

EPSILON = 0.4


@pytest.fixture(scope="module")
def models(binary):
    model, X, y = binary
    return {
        "tight": model,
        "loose": clone(model).set_params(logisticregression__C=10).fit(X, y),
        "on half": clone(model).fit(X[::2], y[::2]),
    }


def test_rows_are_sources_and_columns_targets(models, binary, raw_weights):
    _, X, y = binary
    sign = np.where(y == "yes", 1, -1)[:, None]
    # The closed form of the worst case of each linear model.
    copies = [X - EPSILON * sign * np.sign(raw_weights(model)[0]) for model in models.values()]
    expected = [[1 - target.score(copy, y) for target in models.values()] for copy in copies]
    for estimators in (models, list(models.items())):
        display = TransferMatrixDisplay.from_estimators(estimators, X, y, epsilon=EPSILON)
        np.testing.assert_allclose(display.errors, expected)
        assert display.names == list(models)
    assert not np.allclose(display.errors, display.errors.T)
    np.testing.assert_array_equal(display.im_.get_array(), display.errors)
    for index, error in np.ndenumerate(display.errors):
        assert display.text_[index].get_text() == f"{100 * error:.1f}"
        assert display.text_[index].get_position() == index[::-1]
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == list(models)


def test_models_behind_encoders_are_attacked_in_their_numbers():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"port": rng.choice(["C", "Q"], 90), "fare": rng.normal(size=90)})
    y = (X["fare"] + (X["port"] == "Q") + rng.normal(size=90) / 2 > 0.5).to_numpy()
    columns = make_column_transformer((OneHotEncoder(), ["port"]), (StandardScaler(), ["fare"]))
    models = {
        "rising": make_pipeline(columns, LogisticRegression()).fit(X, y),
        "falling": make_pipeline(clone(columns), LogisticRegression()).fit(X, ~y),
        # Without a gradient: a target only.
        "neighbours": make_pipeline(clone(columns), KNeighborsClassifier()).fit(X, y),
    }
    display = TransferMatrixDisplay.from_estimators(models, X, y, epsilon={"fare": EPSILON})
    away = np.where(y, -1, 1)
    for i, sign in enumerate((1, -1)):
        # The closed form of the only number's worst case; the categories stay.
        copies = X.assign(fare=X["fare"] + EPSILON * sign * away)
        expected = [1 - target.score(copies, y) for target in models.values()]
        np.testing.assert_allclose(display.errors[i], expected)
    assert np.isnan(display.errors[2]).all()
    assert display.errors[0, 0] > 1 - models["rising"].score(X, y)


def test_the_matrix_of_predictions_is_their_weighted_error():
    y_true = np.array([0, 1, 1])
    predictions = np.array([[[0, 1, 1], [0, 0, 1]], [[1, 1, 0], [1, 0, 0]]])
    display = TransferMatrixDisplay.from_predictions(
        y_true, predictions, sample_weight=[1, 2, 5], plot_params={"include_values": False}
    )
    np.testing.assert_allclose(display.errors, [[0, 2 / 8], [6 / 8, 1]])
    assert display.names == ["0", "1"]
    assert display.text_ is None


@pytest.mark.parametrize("cmap", ["Blues", "viridis", "gray"])
def test_numbers_stand_out_from_their_cells(cmap):
    errors = np.linspace(0, 1, 25).reshape(5, 5)
    display = TransferMatrixDisplay(errors=errors).plot(cmap=cmap, colorbar=False)

    def luminance(color):
        """Relative luminance, as defined by the contrast guidelines WCAG 2."""
        rgb = np.array(to_rgb(color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for index, text in np.ndenumerate(display.text_):
        cell = luminance(display.im_.cmap(display.im_.norm(errors[index]))[:3])
        dark, light = sorted([cell, luminance(text.get_color())])
        assert (light + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"errors": np.zeros((2, 3))}, r"one row and one column per model; got shape \(2, 3\)"),
        ({"errors": [[0, 50], [1, 2]]}, "values from 0 to 50"),
        ({"errors": [[0.5, -0.5], [0, 1]]}, "values from -0.5"),
        ({"errors": [[0, np.inf], [1, 1]]}, "errors contains infinity"),
        ({"errors": np.eye(2), "names": ["a"]}, "one name per model, 2; got 1"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        TransferMatrixDisplay(**params)


@pytest.mark.parametrize(
    ("y_true", "shape", "message"),
    [
        ([0, 1], (2, 2), r"shape \(n_sources, n_targets, n_samples\)"),
        ([0, 1], (2, 2, 3), r"predictions of shape \(2, 2, 3\)"),
        ([0, 1], (2, 3, 2), "one row and one column per model"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(y_true, shape, message):
    with pytest.raises(ValueError, match=message):
        TransferMatrixDisplay.from_predictions(y_true, np.zeros(shape, dtype=int))


def test_models_need_names(models, binary):
    _, X, y = binary
    for estimators in ({}, list(models.values()), next(iter(models.values()))):
        with pytest.raises(ValueError, match="estimators must be a dict of name"):
            TransferMatrixDisplay.from_estimators(estimators, X, y, epsilon=EPSILON)


def test_a_model_without_a_rule_is_a_target_only_unless_it_has_a_surrogate(models, binary):
    _, X, y = binary
    pair = {"linear": models["tight"], "neighbors": KNeighborsClassifier().fit(X, y)}
    display = TransferMatrixDisplay.from_estimators(pair, X, y, epsilon=EPSILON)
    np.testing.assert_array_equal(np.isnan(display.errors), [[False, False], [True, True]])
    assert [text is None for text in display.text_.ravel()] == [False, False, True, True]
    with_surrogate = TransferMatrixDisplay.from_estimators(
        pair, X, y, epsilon=EPSILON, surrogate=FrozenEstimator(models["tight"])
    )
    np.testing.assert_array_equal(with_surrogate.errors, display.errors[[0, 0]])


def test_transfer_of_the_worst_case_takes_sparse_samples(binary):
    _, X, y = binary
    models = {name: LogisticRegression(C=C).fit(X, y) for name, C in (("a", 1), ("b", 0.01))}
    options = {"epsilon": EPSILON, "attack": "exact"}
    found = TransferMatrixDisplay.from_estimators(models, sparse.csc_array(X), y, **options)
    expected = TransferMatrixDisplay.from_estimators(models, X, y, **options)
    np.testing.assert_allclose(found.errors, expected.errors)
