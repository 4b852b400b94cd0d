"""Encoders of categories inside composite models: calibrated, voting, stacked, bagged, nested."""

import itertools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from skorch import NeuralNetClassifier

from sk_adv import FGSMSampler, FGSMTransformer, as_module
from sk_adv._devices import module_device_and_dtype
from sk_adv.attacks import perturb
from sk_adv.differentiable import decision_values, log_probabilities
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.metrics import (
    adversarial_accuracy_score,
    transfer_error_matrix,
)

NUMBERS = ["age", "fare"]
RADII = {"age": 0.3, "fare": 0.2}


def encoded(classifier, numbers=None, names=("port", "age", "deck", "fare")):
    """A pipeline that encodes both categories; by position, for arrays, if names are numbers."""
    port, age, deck, fare = names
    columns = make_column_transformer(
        (numbers or StandardScaler(), [fare, age]),
        (OneHotEncoder(handle_unknown="ignore"), [port]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [deck]),
    )
    return make_pipeline(columns, classifier)


def other():
    """A pipeline that takes the deck as a number, and drops the port."""
    columns = ColumnTransformer([("numbers", MinMaxScaler(), ["deck", "age", "fare"])])
    return make_pipeline(columns, LogisticRegression())


BASE = encoded(LogisticRegression())
SOFT = VotingClassifier([("a", BASE), ("b", other())], voting="soft", weights=[2, 1])
POSITIONS = encoded(LogisticRegression(), names=range(4))
MODELS = {
    "sigmoid": CalibratedClassifierCV(encoded(LinearSVC()), cv=2),
    "calibrated": CalibratedClassifierCV(BASE, cv=2, ensemble=False),
    "soft": SOFT,
    "stacking": StackingClassifier(
        [("a", BASE), ("b", encoded(LinearSVC(), MinMaxScaler()))], cv=2
    ),
    "one vs rest": OneVsRestClassifier(BASE),
    "bagging": BaggingClassifier(POSITIONS, 3, max_samples=0.7, random_state=0),
    "search": GridSearchCV(SOFT, {"weights": [[1, 1], [1, 2]]}, cv=2),
    "nested": make_pipeline(make_pipeline(BASE[0], "passthrough"), StandardScaler(), BASE[1]),
    "votes in votes": VotingClassifier(
        [("a", CalibratedClassifierCV(SOFT, cv=2)), ("b", OneVsRestClassifier(other()))],
        voting="soft",
    ),
}


def to_polars(X):
    return pl.DataFrame({name: X[name].to_list() for name in X})


each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
quiet = pytest.mark.filterwarnings("ignore:The columns")


def fitted(model, X, y, classes):
    if classes == 2:
        y = np.where(y == "top", "top", "not")
    return clone(model).fit(X, y), y


@pytest.mark.parametrize("classes", [2, 3])
@each_model
def test_the_module_has_the_probabilities_of_the_model(model, classes, trips):
    X, _ = trips
    model, _ = fitted(model, *trips, classes)
    split = split_columns(model, X)
    values = torch.from_numpy(split.values)
    found = log_probabilities(split.module, values).exp()
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-9)
    if hasattr(model, "decision_function"):
        found = decision_values(split.module, values).numpy()
        found = found[:, 1] - found[:, 0] if classes == 2 else found
        np.testing.assert_allclose(found, model.decision_function(X), atol=1e-9)
    # Samples may come in any order, and more than once.
    rows = np.r_[80:90, 5, 5]
    found = split.module(values[rows]).softmax(1)
    np.testing.assert_allclose(found, model.predict_proba(X.iloc[rows]), atol=1e-9)


@quiet
@each_model
def test_fgsm_follows_the_slopes_of_the_models_own_probabilities(model, trips):
    X, _ = trips
    model, y = fitted(model, *trips, 2)
    copies = perturb(model, X, y, epsilon=RADII)
    own = np.where(y == model.classes_[0], 0, 1)
    expected = X.copy()
    for name in NUMBERS:
        moved = [model.predict_proba(X.assign(**{name: X[name] + d})) for d in (-1e-5, 1e-5)]
        slope = np.diff([p[np.arange(len(y)), own] for p in moved], axis=0)[0]
        expected[name] = X[name] - RADII[name] * np.sign(slope)
    pd.testing.assert_frame_equal(copies, expected)


@each_model
def test_categories_stay_and_are_named_also_where_only_one_member_encodes_them(model, trips):
    X, y = trips
    model = clone(model).fit(X, y)
    with pytest.warns(UserWarning, match=r"\['port', 'deck'\] stay.*OneHotEncoder.*Ordinal"):
        copies = perturb(model, X, y, epsilon=0.3)
    pd.testing.assert_frame_equal(copies[["port", "deck"]], X[["port", "deck"]])
    moved = (copies[NUMBERS] - X[NUMBERS]).abs()
    np.testing.assert_allclose(moved, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacked = adversarial_accuracy_score(
            model, X, y, epsilon=RADII, attack="pgd", random_state=0
        )
    assert attacked < model.score(X, y) - 0.1


@quiet
@pytest.mark.parametrize("make", [to_polars, lambda X: X.to_numpy(dtype=object)])
def test_copies_keep_the_container_of_x(make, trips):
    X, y = trips
    model = VotingClassifier([("a", POSITIONS), ("b", POSITIONS)], voting="soft")
    expected = perturb(model.fit(X, y), X, y, epsilon=RADII)
    given = make(X)
    epsilon = [0, RADII["age"], 0, RADII["fare"]]
    copies = perturb(model.fit(given, y), given, y, epsilon=epsilon)
    assert type(copies) is type(given)
    assert getattr(copies, "schema", None) == getattr(given, "schema", None)
    for j, name in enumerate(X):
        column = np.asarray(copies[:, j])
        np.testing.assert_array_equal(
            column.astype(expected[name].to_numpy().dtype), expected[name]
        )


def test_missing_values_are_imputed_in_every_member(trips):
    X, y = trips
    X = X.assign(age=X["age"].where(X["age"] < 1), port=X["port"].where(X["fare"] < 1))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    base = encoded(LogisticRegression(), numbers)
    members = [("a", base), ("b", OneVsRestClassifier(base))]
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    split = split_columns(vote, X)
    found = split.module(torch.from_numpy(split.values)).softmax(1)
    np.testing.assert_allclose(found, vote.predict_proba(X), atol=1e-9)
    copies = perturb(vote, X, y, epsilon=RADII)
    assert copies.isna().equals(X.isna())


def test_members_without_encoders_see_the_numbers_as_they_are(trips):
    X, y = trips
    X = X.drop(columns="port")
    encoder = make_column_transformer((StandardScaler(), NUMBERS), (OneHotEncoder(), ["deck"]))
    members = [
        LogisticRegression(),
        make_pipeline(LinearDiscriminantAnalysis(), LogisticRegression()),
        make_pipeline(encoder, MLPClassifier((5,), max_iter=50, random_state=0)),
        make_pipeline("passthrough", StandardScaler(), LogisticRegression()),
    ]
    members = [(str(i), member) for i, member in enumerate(members)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack = StackingClassifier(members, LogisticRegression(), cv=2, passthrough=True).fit(X, y)
        hard = VotingClassifier(members).fit(X, y)
    split = split_columns(stack, X)
    assert split.free.tolist() == [True, False, True]
    found = split.module(torch.from_numpy(split.values)).softmax(1)
    np.testing.assert_allclose(found, stack.predict_proba(X), atol=1e-9)
    split = split_columns(hard, X)
    found = split.module(torch.from_numpy(split.values)).argmax(1).numpy()
    np.testing.assert_array_equal(hard.classes_[found], hard.predict(X))


def test_bagged_members_see_their_own_features(trips):
    X, y = trips
    codes = X.assign(port=OrdinalEncoder().fit_transform(X[["port"]]))
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0]))
    encoder.set_params(remainder=StandardScaler())
    member = make_pipeline(encoder, LogisticRegression())
    options = {"max_features": 3, "random_state": 3}
    model = BaggingClassifier(member, 2, **options).fit(codes.round(), y)
    first = {int(features[0]) for features in model.estimators_features_}
    split = split_columns(model, codes.round())
    assert set(np.flatnonzero(~split.free)) == first
    found = split.module(torch.from_numpy(split.values)).softmax(1)
    np.testing.assert_allclose(found, model.predict_proba(codes.round()), atol=1e-9)


@quiet
def test_noise_leaves_the_categories_of_forests_as_they_are(trips):
    X, y = trips
    forest = encoded(RandomForestClassifier(5, random_state=0))
    for model in (forest, VotingClassifier([("a", forest), ("b", other())], voting="soft")):
        noise = {"epsilon": 0.5, "attack": "sign_noise", "random_state": 0}
        copies = perturb(model.fit(X, y), X, y, **noise)
        pd.testing.assert_frame_equal(copies[["port", "deck"]], X[["port", "deck"]])
        np.testing.assert_allclose((copies[NUMBERS] - X[NUMBERS]).abs(), 0.5)
        with pytest.raises(TypeError, match="no rule for RandomForestClassifier"):
            perturb(model, X, y, epsilon=0.5)


@quiet
def test_transfer_and_transformers_take_composite_models(trips):
    X, y = trips
    models = [clone(SOFT).fit(X, y), clone(MODELS["stacking"]).fit(X, y)]
    errors = transfer_error_matrix(models, X, y, RADII)
    copies = [perturb(model, X, y, epsilon=RADII) for model in models]
    expected = [[1 - target.score(rows, y) for target in models] for rows in copies]
    np.testing.assert_allclose(errors, expected)
    step = FGSMTransformer(FrozenEstimator(models[0]), epsilon=RADII, labels="true")
    pd.testing.assert_frame_equal(step.fit_transform(X, y), copies[0])
    doubled, _ = FGSMSampler(FrozenEstimator(models[0]), epsilon=RADII).fit_resample(X, y)
    pd.testing.assert_frame_equal(
        doubled[90:].reset_index(drop=True), copies[0].reset_index(drop=True)
    )


def test_what_sees_text_without_an_encoder_is_named(trips):
    X, y = trips
    late = make_pipeline(FunctionTransformer(), BASE)
    model = VotingClassifier([("a", BASE), ("b", late)], voting="soft").fit(X, y)
    with pytest.raises(ValueError, match=r"FunctionTransformer.*\['port'\].*ColumnTransformer"):
        perturb(model, X, y, epsilon=RADII)
    with pytest.raises(TypeError, match="no rule for OneHotEncoder"):
        as_module(clone(SOFT).fit(X, y))
    last = make_column_transformer(
        (OneHotEncoder(), [3]), remainder="passthrough", verbose_feature_names_out=False
    )
    stack = StackingClassifier(
        [("a", BASE)], make_pipeline(last, LogisticRegression()), cv=2, passthrough=True
    )
    with pytest.raises(ValueError, match=r"StackingClassifier.*\['port'\].*passthrough=False"):
        perturb(stack.fit(X, y), X, y, epsilon=RADII)


def test_a_model_without_a_rule_is_named_before_its_categories(trips):
    X, y = trips
    model = FixedThresholdClassifier(BASE).fit(X, y == "top")
    with pytest.raises(TypeError, match="no rule for FixedThresholdClassifier.*surrogate"):
        perturb(model, X, y == "top", epsilon=RADII)


def test_columns_in_another_order_are_refused_inside_a_model_too(trips):
    X, y = trips
    model = clone(MODELS["sigmoid"]).fit(X, y)
    with pytest.raises(ValueError, match="columns.*order"):
        perturb(model, X[X.columns[::-1]], y, epsilon=RADII)


@quiet
def test_pgd_never_leaves_the_set_nor_beats_a_search_over_a_grid(trips):
    X, y = trips
    model = clone(SOFT).fit(X, y)
    copies = perturb(model, X, y, epsilon=RADII, attack="pgd", bounds=(-1, 1), random_state=0)
    inside = X.assign(**{name: X[name].clip(-1, 1) for name in NUMBERS})
    for name in NUMBERS:
        assert ((copies[name] - inside[name]).abs() <= RADII[name] + 1e-12).all()
        assert copies[name].abs().max() <= 1
    own = np.searchsorted(model.classes_, y)
    grid = itertools.product(np.linspace(-1, 1, 5), repeat=2)
    least = np.min(
        [
            model.predict_proba(
                inside.assign(
                    age=(inside["age"] + 0.3 * a).clip(-1, 1),
                    fare=(inside["fare"] + 0.2 * b).clip(-1, 1),
                )
            )[np.arange(len(y)), own]
            for a, b in grid
        ],
        axis=0,
    )
    found = model.predict_proba(copies)[np.arange(len(y)), own]
    # The attack lowers the odds against each rival, and comes close to the least probability.
    assert np.quantile(found - least, 0.9) < 0.02
    assert (found > least - 0.005).all()


def test_models_are_attacked_in_inference_mode_too(trips):
    X, y = trips
    model = clone(SOFT).fit(X, y)
    with torch.inference_mode():
        copies = perturb(model, X, y, epsilon=RADII)
    pd.testing.assert_frame_equal(copies, perturb(model, X, y, epsilon=RADII))


class Half(torch.nn.Module):
    """A network in float16, which holds no whole numbers above 2,048 exactly."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 3).half()

    def forward(self, X):
        return self.linear(X.half()).float()


def test_row_numbers_are_exact_before_networks_of_low_precision(trips):
    X, y = (np.tile(part, (24, 1)) for part in (trips[0], np.arange(90)[:, None] % 3))
    net = NeuralNetClassifier(
        Half, criterion=torch.nn.CrossEntropyLoss, max_epochs=0, train_split=None
    )
    model = encoded(net, names=range(4)).fit(X, y.ravel())
    split = split_columns(model, X)
    _, dtype = module_device_and_dtype(split.module)
    found = split.module(torch.from_numpy(split.values).to(dtype)).softmax(1)
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-3)
