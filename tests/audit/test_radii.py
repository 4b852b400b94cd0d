"""Radii by column against NumPy, and what can't be a radius."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OrdinalEncoder

from sk_adv.audit._columns import taken_as_categories
from sk_adv.audit._radii import column_radii, parse_radius, radius_from_text, spread


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(40, 10, 50), "fare": rng.lognormal(size=50)})
    frame.loc[:5, "fare"] = np.nan
    frame["port"] = "S"
    frame["deck"] = pd.Categorical(rng.integers(0, 3, 50))
    frame["is_alone"] = rng.random(50) > 0.5
    frame["mostly_0"] = np.r_[np.zeros(45), np.ones(5)]
    frame["same"] = 0.1
    return frame


def radii(epsilon, frame, **options):
    found = column_radii(epsilon, frame, list(frame.columns), **options)
    return {column.column: column for column in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", (0.1, None)),
        ("3", (3.0, None)),
        ("1e-2sd", (0.01, "sd")),
        (" 0.5 iqr ", (0.5, "iqr")),
        ("0", (0.0, None)),
    ],
)
def test_a_radius_is_a_number_with_a_unit(text, expected):
    assert parse_radius(text) == expected


@pytest.mark.parametrize(
    "text", ["", "sd", "-1", "nan", "inf", "0.1std", "1,5", "much", "0.1 sd sd"]
)
def test_other_texts_are_no_radius(text):
    with pytest.raises(ValueError, match="is not a radius"):
        parse_radius(text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0.1sd"], "0.1sd"),
        (["age=3,fare=0.1iqr"], {"age": "3", "fare": "0.1iqr"}),
        (["age=3", "fare=0.1iqr"], {"age": "3", "fare": "0.1iqr"}),
        (["a,b=3"], {"a,b": "3"}),
        (["a=b=3"], {"a=b": "3"}),
    ],
)
def test_the_command_line_names_one_radius_or_some_by_column(texts, expected):
    assert radius_from_text(texts) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["age=3,age=4"], "has two radii"),
        (["age=3", "0.1"], "names no column"),
        (["=3"], "names no column"),
        (["age=old"], "'old' is not a radius"),
    ],
)
def test_wrong_radii_on_the_command_line_are_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        radius_from_text(texts)


def test_units_are_the_spread_of_each_column_without_gaps(frame):
    sd, iqr = radii("0.2sd", frame), radii({"age": "0.5iqr", "fare": 0.3}, frame)
    fare = frame["fare"].dropna()
    assert np.isclose(sd["age"].radius, 0.2 * frame["age"].std(ddof=0))
    assert np.isclose(sd["fare"].radius, 0.2 * fare.std(ddof=0))
    assert np.isclose(
        iqr["age"].radius, 0.5 * (frame["age"].quantile(0.75) - frame["age"].quantile(0.25))
    )
    assert (iqr["fare"].radius, iqr["fare"].text) == (0.3, "0.3")


def test_categories_and_columns_without_spread_are_fixed_and_say_why(frame):
    found = radii("0.1iqr", frame)
    for name in ("port", "deck", "is_alone"):
        assert (found[name].radius, found[name].why_fixed) == (0, "holds no numbers")
    for name in ("mostly_0", "same"):
        assert found[name].radius == 0
        assert "its interquartile range is 0" in found[name].why_fixed
    assert found["age"].why_fixed == ""
    # Equal numbers have no spread, whatever rounding says.
    assert spread(np.full(50, 0.1), "sd") == 0


def test_a_selection_of_columns_fixes_the_others(frame):
    found = radii("0.1sd", frame, columns=["fare"])
    assert [name for name, column in found.items() if column.radius] == ["fare"]
    assert found["age"].why_fixed == "was not chosen"
    found = radii(np.arange(7.0), frame.drop(columns=[]))
    assert [found[name].radius for name in ("age", "fare", "mostly_0", "same")] == [0, 1, 5, 6]


@pytest.mark.parametrize(
    ("epsilon", "options", "message"),
    [
        ({"height": 1}, {}, "epsilon names .*height.*, which X does not have"),
        (0.1, {"columns": ["height"]}, "columns names .*height.*, which X does not have"),
        ({"port": 1}, {}, "'port' holds no numbers"),
        (0.1, {"columns": ["age", "deck"]}, "'deck' holds no numbers"),
        ({"age": 1}, {"categories": {0}}, "'age' is a category for the model"),
        (0.0, {}, "leaves every column as it is"),
        ({"same": "1sd"}, {}, "its standard deviation is 0"),
        ({"age": -1}, {}, "must be finite and at least 0"),
        ("0.1m", {}, "is not a radius"),
    ],
)
def test_what_can_not_be_done_is_refused(frame, epsilon, options, message):
    with pytest.raises(ValueError, match=message):
        radii(epsilon, frame, **options)


def test_numbers_behind_an_encoder_are_categories(pipeline, forest_of_passengers, passengers):
    X, _ = passengers
    for model in (pipeline, forest_of_passengers):
        assert taken_as_categories(model, X) == {list(X.columns).index("deck")}


def test_numbers_behind_other_steps_are_none(passengers):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier

    X, y = passengers
    X = X.assign(age=X["age"].fillna(30.0))
    bins = KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform")
    others = make_pipeline(OrdinalEncoder())
    columns = make_column_transformer(
        (bins, ["age"]), (others, ["port", "deck"]), ("passthrough", ["fare", "deck"])
    )
    model = make_pipeline(columns, RandomForestClassifier(5, random_state=0)).fit(X, y)
    # "deck" reaches the trees as a number too, and "age" is a number for all that is known.
    assert taken_as_categories(model, X) == set()
