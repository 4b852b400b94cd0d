"""Sums of trees against the estimators' own scores, to the last bit of each threshold."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier
from xgboost.callback import EarlyStopping

from sk_adv.metrics import verify_robustness
from sk_adv.tree import as_trees

CALIBRATED = ("calibrated forest", "isotonic boosting")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_are_the_estimators_on_both_sides_of_each_threshold(ensembles, family, dtype):
    model, X, _, _, _ = ensembles.random_case(family, seed=3)
    trees = as_trees(model, dtype=dtype)
    rows = [X.astype(dtype)]
    inner = np.flatnonzero(~trees.is_leaf & np.isfinite(trees.threshold))
    for node in inner[:60]:
        limit = dtype(trees.threshold[node])
        assert float(limit) == trees.threshold[node] or dtype == np.float32
        for value in (limit, np.nextafter(limit, dtype(np.inf))):
            changed = X[:5].astype(dtype)
            changed[:, trees.feature[node]] = value
            rows.append(changed)
    points = np.concatenate(rows)
    found = trees.scores(points)
    order = list(trees.preferred)
    predicted = model.classes_[np.take(order, found[:, order].argmax(axis=1))]
    np.testing.assert_array_equal(predicted, model.predict(points))
    if family not in CALIBRATED:
        expected = ensembles.scores(model, points)
        atol = 1e-5 if family.startswith("xgboost") else 1e-12
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.fixture
def shop():
    """Two numbers and two categories, one of which decides with a number."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, 300),
            "city": rng.choice(["a", "b", "c", "d"], 300),
            "size": rng.normal(0, 1, 300),
            "kind": rng.choice(["x", "y"], 300),
        }
    )
    y = np.where((frame["age"] > 40) ^ frame["city"].isin(["a", "c"]), "yes", "no")
    return frame, y


def boosting_of_categories(frame):
    return HistGradientBoostingClassifier(
        max_iter=10, categorical_features=["city", "kind"], random_state=0
    ), frame.astype({"city": "category", "kind": "category"})


def forest_behind_encoders(frame):
    encoders = make_column_transformer(
        (OneHotEncoder(), ["city"]),
        (OrdinalEncoder(), ["kind"]),
        (StandardScaler(), ["size", "age"]),
    )
    return make_pipeline(encoders, RandomForestClassifier(10, random_state=0)), frame


@pytest.mark.parametrize("make", [boosting_of_categories, forest_behind_encoders])
def test_categories_are_held_and_named(shop, make):
    model, frame = make(shop[0])
    model.fit(frame, shop[1])
    trees = as_trees(model)
    found = trees.scores(frame)
    if isinstance(model, HistGradientBoostingClassifier):
        found = found[:, 1]
        np.testing.assert_allclose(found, model.decision_function(frame), atol=1e-12)
    else:
        np.testing.assert_allclose(found, model.predict_proba(frame), atol=1e-12)
    assert set(trees.held_columns) == {1, 3}


def test_an_integer_category_is_held_too():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=400), rng.integers(0, 12, 400)])
    y = ((X[:, 0] > 0) ^ np.isin(X[:, 1], [1, 4, 7])).astype(int)
    X[::17, 1] = np.nan
    model = HistGradientBoostingClassifier(categorical_features=[1], max_iter=10).fit(X, y)
    unseen = np.column_stack([rng.normal(size=50), rng.integers(0, 20, 50)])
    trees = as_trees(model)
    for points in (X, unseen):
        np.testing.assert_allclose(
            trees.scores(points)[:, 1], model.decision_function(points), atol=1e-12
        )
    assert set(trees.held_columns) == {1}


X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
Y3 = np.digitize(X[:, 0], [-0.5, 0.5])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LogisticRegression().fit(X, Y), "LogisticRegression is no sum of decision trees"),
        (RandomForestRegressor(2).fit(X, Y), "it is a regressor"),
        (make_pipeline(PCA(), DecisionTreeClassifier()).fit(X, Y), "PCA stands in front"),
        (make_pipeline(KMeans(2), DecisionTreeClassifier()).fit(X, Y), "KMeans stands in front"),
        (
            VotingClassifier([("a", DecisionTreeClassifier())], voting="hard").fit(X, Y),
            "use voting='soft'",
        ),
        (
            VotingClassifier([("a", LogisticRegression())], voting="soft").fit(X, Y),
            "it has a LogisticRegression in it",
        ),
        (
            VotingClassifier([("a", XGBClassifier(n_estimators=2))], voting="soft").fit(X, Y),
            "a mean over models is none",
        ),
        (CalibratedClassifierCV(DecisionTreeClassifier()).fit(X, Y), "ensemble=False"),
        (
            CalibratedClassifierCV(DecisionTreeClassifier(), ensemble=False).fit(X, Y3),
            "monotone for two only",
        ),
        (XGBClassifier(booster="gblinear", n_estimators=2).fit(X, Y), "has no trees"),
        (DecisionTreeClassifier, "got the class"),
    ],
)
def test_what_is_no_sum_of_trees_is_refused_in_a_sentence(model, message):
    with pytest.raises(TypeError, match=message):
        as_trees(model)


def test_unfitted_models_and_several_labels_are_refused():
    with pytest.raises(NotFittedError):
        as_trees(RandomForestClassifier())
    with pytest.raises(ValueError, match="one label per sample"):
        as_trees(DecisionTreeClassifier().fit(X, np.column_stack([Y, Y])))


def test_a_rule_of_ones_own_can_be_registered():
    class Renamed(DecisionTreeClassifier):
        pass

    @as_trees.register(Renamed)
    def _(model, dtype):
        return as_trees(model.inner, dtype=dtype)

    model = Renamed().fit(X, Y)
    model.inner = DecisionTreeClassifier(random_state=0).fit(X, Y)
    np.testing.assert_array_equal(as_trees(model).scores(X), model.inner.predict_proba(X))


def test_early_stopping_of_xgboost_is_followed():
    rng = np.random.default_rng(0)
    noisy = Y ^ (rng.random(60) < 0.3)
    model = XGBClassifier(n_estimators=50, early_stopping_rounds=2, n_jobs=1)
    model.fit(X[:40], noisy[:40], eval_set=[(X[40:], noisy[40:])], verbose=False)
    assert model.best_iteration < 45
    expected = model.predict(X, output_margin=True)
    np.testing.assert_allclose(as_trees(model).scores(X)[:, 1], expected, atol=1e-5)


def labelled(n_classes=2, n_samples=300):
    A, b = make_classification(
        n_samples, 4, n_informative=3, n_redundant=0, flip_y=0.15, random_state=0
    )
    return A, b if n_classes == 2 else np.array([1, 2, 3])[np.where(A[:, 0] > 2, 0, b + 1)]


def test_members_that_lack_a_class_keep_their_places():
    A, b = labelled(3)
    member = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3))
    model = BaggingClassifier(member, n_estimators=12, max_samples=0.03, random_state=0).fit(A, b)
    assert min(len(part.classes_) for part in model.estimators_) < 3
    np.testing.assert_allclose(as_trees(model).scores(A), model.predict_proba(A), atol=1e-12)


def test_early_stopping_by_a_callback_is_followed_too():
    A, b = labelled()
    model = XGBClassifier(n_estimators=60, max_depth=3, callbacks=[EarlyStopping(3)], n_jobs=1)
    model.fit(A[:200], b[:200], eval_set=[(A[200:], b[200:])], verbose=False)
    expected = model.predict(A, output_margin=True)
    np.testing.assert_allclose(as_trees(model).scores(A)[:, 1], expected, atol=1e-5)


def test_a_constant_is_filled_in_as_the_pipeline_does():
    A, b = labelled()
    A[::7, 1] = np.nan
    fill = SimpleImputer(strategy="constant", fill_value=3.0)
    model = make_pipeline(fill, DecisionTreeClassifier(random_state=0)).fit(A, b)
    np.testing.assert_array_equal(as_trees(model).scores(A), model.predict_proba(A))


def test_what_would_be_read_wrongly_is_refused():
    A, b = labelled()
    boosted = XGBClassifier(n_estimators=3, n_jobs=1).fit(A, b)
    with pytest.raises(TypeError, match="calibrates probabilities"):
        as_trees(CalibratedClassifierCV(FrozenEstimator(boosted)).fit(A, b))
    with pytest.raises(TypeError, match="linear_tree=True"):
        as_trees(LGBMClassifier(n_estimators=3, linear_tree=True, verbose=-1).fit(A, b))
    A[::5, 0] = 0
    zeros = make_pipeline(SimpleImputer(missing_values=0), DecisionTreeClassifier()).fit(A, b)
    with pytest.raises(TypeError, match="replaces 0, a number among others"):
        as_trees(zeros)
    with pytest.raises(TypeError, match="NoneType is no sum of decision trees"):
        as_trees(None)


def test_columns_in_another_order_are_refused():
    A, b = labelled()
    frame = pd.DataFrame(A, columns=list("abcd"))
    parts = make_column_transformer((StandardScaler(), ["a", "b"]), (StandardScaler(), ["c", "d"]))
    model = make_pipeline(parts, DecisionTreeClassifier(random_state=0)).fit(frame, b)
    with pytest.raises(ValueError, match="in their order"):
        verify_robustness(model, frame[list("dcba")], b, epsilon=0.1)


@pytest.mark.parametrize("as_frame", [False, True])
def test_samples_in_single_precision_are_decided(as_frame):
    A, b = labelled()
    single = A.astype(np.float32)
    model = make_pipeline(
        StandardScaler(),
        KBinsDiscretizer(5, encode="ordinal", strategy="uniform"),
        GradientBoostingClassifier(n_estimators=9, random_state=0),
    ).fit(A, b)
    if as_frame:
        single = pd.DataFrame(single, columns=list("abcd"))
        model.fit(single, b)
    verdict = verify_robustness(model, single, b, epsilon=0.1)
    assert "unknown" not in verdict.status
    wrong = verdict.status == "falsified"
    assert (model.predict(verdict.counterexamples[wrong]) != b[wrong]).all()
