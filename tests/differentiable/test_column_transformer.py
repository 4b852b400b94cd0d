"""ColumnTransformer as a module, and attacks on frames in which some columns are not numeric."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from sk_adv import as_module
from sk_adv.attacks import fgsm, perturb
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score

EPSILON = {"age": 2.0, "fare": 5.0}


@pytest.mark.parametrize(
    "columns",
    [
        ColumnTransformer([("a", StandardScaler(), [5, 1]), ("b", MinMaxScaler(), slice(2, 4))]),
        ColumnTransformer([("a", StandardScaler(), [0, 1])], remainder="passthrough"),
        ColumnTransformer([("a", "passthrough", [6, 0]), ("b", "drop", [1])], remainder="drop"),
        ColumnTransformer([("a", StandardScaler(), [])], remainder=StandardScaler()),
        make_column_transformer((make_pipeline(SimpleImputer(), MinMaxScaler()), [2, 2, 7])),
        ColumnTransformer(
            [("a", StandardScaler(), [5, 1]), ("b", "passthrough", [3])],
            remainder=MinMaxScaler(),
            transformer_weights={"a": 3, "remainder": 0.2},
        ),
        make_column_transformer(
            (LinearDiscriminantAnalysis(n_components=1), [0, 1, 2]),
            (make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()), [3, 4]),
            (RFE(LogisticRegression()), [5, 6]),
        ),
    ],
    ids=range(7),
)
def test_module_of_numeric_columns_agrees(columns, uneven, assert_agrees, assert_gradients):
    X, y = uneven
    model = make_pipeline(columns, StandardScaler(), LogisticRegression()).fit(X, y)
    assert_agrees(model, X)
    assert_gradients(model, X)


def test_columns_by_name_are_found(data, assert_agrees):
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    columns = make_column_transformer((StandardScaler(), ["h", "b"]), ("passthrough", ["c"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    module = as_module(model)
    found = module(torch.as_tensor(X)).softmax(1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(frame), atol=1e-10)


def test_linear_columns_have_an_exact_certificate(data):
    X, y = data
    columns = make_column_transformer((StandardScaler(), [5, 1]), (MinMaxScaler(), [1, 2]))
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    weights = np.zeros((len(model[-1].coef_), 8))
    inner = model[-1].coef_ / np.concatenate(
        [columns.transformers_[0][1].scale_, 1 / columns.transformers_[1][1].scale_]
    )
    np.add.at(weights, (slice(None), [5, 1, 1, 2]), inner)
    if len(weights) == 1:
        sign = np.where(y == model.classes_[1], 1, -1)
        safe = sign * model.decision_function(X) > 0.3 * abs(weights).sum()
        assert certified_accuracy_score(model, X, y, epsilon=0.3) == safe.mean()
    assert certified_accuracy_score(model, X, y, epsilon=0.3) < model.score(X, y)


@pytest.fixture(scope="module")
def passengers():
    """A frame of two numeric columns with missing values, and three of other kinds."""
    rng = np.random.default_rng(0)
    n = 200
    X = pd.DataFrame(
        {
            "name": [f"passenger {i} {'mr' if i % 3 else 'ms'}" for i in range(n)],
            "age": rng.integers(1, 80, n).astype(float),
            "port": rng.choice(["C", "Q", "S", None], n),
            "fare": rng.uniform(5, 100, n),
            "deck": pd.Categorical(rng.choice(["A", "B"], n)),
        },
        index=np.arange(n)[::-1],
    )
    X.loc[rng.choice(n, 20), "age"] = np.nan
    score = X["age"].fillna(40) / 20 - X["fare"] / 30 + (X["port"] == "Q") * 2 + rng.normal(size=n)
    return X, np.where(score > score.median(), "lost", "saved")


@pytest.fixture(scope="module")
def model(passengers):
    port = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["fare", "age"]),
        (port, ["port"]),
        (OrdinalEncoder(), ["deck"]),
        (CountVectorizer(min_df=50), "name"),
    )
    return make_pipeline(columns, LogisticRegression(C=0.1)).fit(*passengers)


def expected_copies(model, X, y):
    """FGSM in closed form: the sign of each number's own weight; missing values stay missing."""
    towards = np.where(y == model.classes_[1], -1, 1)
    expected = X.copy()
    for weight, name in zip(model[-1].coef_[0], ["fare", "age"], strict=False):
        expected[name] = X[name] + EPSILON[name] * np.sign(weight) * towards
    return expected


EPSILONS = np.array([1.0, EPSILON["age"], 1.0, EPSILON["fare"], 1.0])


def test_numbers_are_attacked_and_other_columns_stay_and_are_named(passengers, model):
    X, y = passengers
    with pytest.warns(UserWarning, match=r"\['name', 'port', 'deck'\].*Encoder.*radius of 0"):
        copies = perturb(model, X, y, epsilon=EPSILONS)
    pd.testing.assert_frame_equal(copies, expected_copies(model, X, y))
    assert copies["age"].isna().sum() == X["age"].isna().sum() > 0


def test_transformer_weights_scale_numbers_and_categories(passengers):
    X, y = passengers
    columns = ColumnTransformer(
        [("number", StandardScaler(), ["fare"]), ("category", OrdinalEncoder(), ["deck"])],
        transformer_weights={"number": 3, "category": 0.2},
    )
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    split = split_columns(model, X)
    found = split.module(torch.from_numpy(split.values)).softmax(1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-10)


def test_radius_zero_for_the_other_columns_silences_the_warning(passengers, model):
    X, y = passengers
    epsilon = EPSILONS * [0, 1, 0, 1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = adversarial_accuracy_score(model, X, y, epsilon=epsilon)
    attack = {"attack": "pgd", "attack_params": {"batch_size": 7}, "bounds": (0, 90)}
    with pytest.warns(UserWarning, match="22 of 200 samples lie outside"):
        bounded = perturb(model, X, y, epsilon=epsilon, **attack)
    assert score == model.score(expected_copies(model, X, y), y) < model.score(X, y)
    # The radius is measured from the samples as clipped to the bounds.
    inside = X.assign(age=X["age"].clip(0, 90), fare=X["fare"].clip(0, 90))
    expected = expected_copies(model, inside, y)
    expected[["age", "fare"]] = expected[["age", "fare"]].clip(0, 90)
    pd.testing.assert_frame_equal(bounded, expected)


@pytest.mark.filterwarnings("ignore:The columns")
def test_searches_and_frozen_estimators_around_the_columns_are_looked_into(passengers, model):
    X, y = passengers
    search = GridSearchCV(model, {}, cv=2).fit(X, y)
    for wrapped in (search, FrozenEstimator(model), make_pipeline(model)):
        copies = perturb(wrapped, X, y, epsilon=EPSILONS)
        pd.testing.assert_frame_equal(copies, expected_copies(model, X, y))


@pytest.mark.filterwarnings("ignore:The columns")
def test_polars_frames_and_mixed_arrays_keep_their_other_columns(passengers):
    X, y = passengers
    X = X.drop(columns=["name", "deck"]).reset_index(drop=True).fillna({"age": 40, "port": "C"})
    columns = make_column_transformer((StandardScaler(), [2, 0]), (OneHotEncoder(), [1]))
    model = make_pipeline(columns, LogisticRegression(C=0.1))
    expected = expected_copies(model.fit(X, y), X, y)
    epsilon = EPSILONS[[1, 2, 3]]
    frame = pl.DataFrame({name: X[name].to_list() for name in X})
    copies = perturb(model.fit(frame, y), frame, y, epsilon=epsilon)
    assert copies.columns == frame.columns and copies["port"].equals(frame["port"])
    np.testing.assert_allclose(copies["fare"].to_numpy(), expected["fare"])
    array = X.to_numpy(dtype=object)
    copies = perturb(model.fit(array, y), array, y, epsilon=epsilon)
    assert (copies[:, 1] == array[:, 1]).all()
    np.testing.assert_allclose(copies[:, [0, 2]].astype(float), expected[["age", "fare"]])


@pytest.mark.filterwarnings("ignore:The columns")
def test_categories_that_are_numbers_stay_as_they_are(data):
    X, y = data
    X = X.copy()
    X[:, 3] = X[:, 3].round() % 3
    columns = make_column_transformer(
        (StandardScaler(), [0, 1, 2]), (OneHotEncoder(handle_unknown="ignore"), [3])
    )
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    copies = perturb(model, X, y, epsilon=0.5)
    np.testing.assert_array_equal(copies[:, 3:], X[:, 3:])
    np.testing.assert_allclose(abs(copies[:, :3] - X[:, :3]), 0.5)
    assert model.score(copies, y) < model.score(X, y)


@pytest.mark.filterwarnings("ignore:The columns")
@pytest.mark.parametrize("make", [np.array, pd.DataFrame, np.ndarray.tolist])
def test_whole_numbers_beside_categories_become_real(make):
    X = np.random.default_rng(0).integers(0, 9, (60, 3))
    y = X[:, 0] > X[:, 1]
    columns = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), [2]))
    X = make(X)
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    steps = np.asarray(perturb(model, X, y, epsilon=0.4), dtype=float) - np.asarray(X)
    np.testing.assert_allclose(abs(steps), np.broadcast_to([0.4, 0.4, 0], steps.shape))


@pytest.mark.filterwarnings("ignore:The columns")
@pytest.mark.parametrize(
    "transformer",
    [
        FunctionTransformer(np.sort),
        make_pipeline(StandardScaler(), FunctionTransformer(np.sort)),
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0])),
    ],
    ids=["sort", "pipeline", "nested"],
)
def test_numbers_behind_a_transformer_without_a_gradient_stay(transformer, data):
    X, y = data
    columns = make_column_transformer((StandardScaler(), [0, 1, 2]), (transformer, [3]))
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    copies = perturb(model, X, y, epsilon=0.5)
    np.testing.assert_array_equal(copies[:, 3:], X[:, 3:])
    np.testing.assert_allclose(abs(copies[:, :3] - X[:, :3]), 0.5)


def test_columns_in_another_order_are_refused(passengers, model):
    X, y = passengers
    with pytest.raises(ValueError, match="columns.*order"):
        perturb(model, X[X.columns[::-1]], y, epsilon=1.0)
    X = X[["fare", "age"]].fillna(0)
    with pytest.raises(ValueError, match="columns.*order"):
        perturb(LogisticRegression().fit(X, y), X[["age", "fare"]], y, epsilon=1.0)


def test_columns_without_numbers_are_named_where_they_can_not_stay(passengers, model):
    X, y = passengers
    late = make_pipeline(FunctionTransformer(), model).fit(X, y)
    with pytest.raises(ValueError, match=r"\['name', 'port', 'deck'\].*ColumnTransformer"):
        perturb(late, X, y, epsilon=1.0)


@pytest.mark.parametrize("shape", [(8,), (1, 120, 8)])
def test_samples_of_another_shape_are_refused(data, shape):
    X, y = data
    model = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(ValueError, match=f"n_samples, n_features.*{re.escape(str(shape))}"):
        perturb(model, np.resize(X, shape), y[: shape[0]], epsilon=1.0)


def test_complex_numbers_and_several_labels_are_refused(data):
    X, y = data
    model = LogisticRegression(max_iter=1000)
    with pytest.raises(ValueError, match="real numbers"):
        perturb(model.fit(X, y), X + 1j, y, epsilon=1.0)
    several = MultiOutputClassifier(model).fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="one label.*MultiOutputClassifier.*estimators_"):
        perturb(several, X, y, epsilon=1.0)


def test_public_module_names_the_transformer_without_a_rule(model):
    with pytest.raises(TypeError, match="CountVectorizer|OneHotEncoder|SimpleImputer"):
        as_module(model)


@pytest.mark.filterwarnings("ignore:The columns")
def test_nothing_but_categories_has_no_gradient(passengers):
    X, y = passengers
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["port"])), LogisticRegression()
    )
    with pytest.raises(TypeError, match="no gradient"):
        perturb(model.fit(X, y), X, y, epsilon=1.0)


def test_missing_values_without_an_imputer_are_explained(data):
    X, y = data
    model = LogisticRegression().fit(X, y)
    X = np.where(X > 5, np.nan, X)
    with pytest.raises(ValueError, match="NaN.*SimpleImputer"):
        perturb(model, X, y, epsilon=0.1)


def test_imputed_values_have_no_gradient_and_stay_missing(data):
    X, y = data
    X = np.where(X > 5, np.nan, X)
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(X, y)
    copies = perturb(model, X, y, epsilon=0.1)
    np.testing.assert_array_equal(np.isnan(copies), np.isnan(X))
    filled = model[0].transform(X)
    indices = np.searchsorted(model.classes_, y)
    expected = fgsm(as_module(model[1:]), filled, indices, 0.1)
    np.testing.assert_allclose(copies, np.where(np.isnan(X), np.nan, expected))
