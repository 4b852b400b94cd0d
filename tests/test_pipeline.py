import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.linear_model import AdversarialLogisticRegressionCV
from sk_adv.metrics import certified_accuracy_score, verify_robustness
from sk_adv.neural_network import AdversarialNet
from sk_adv.pipeline import RawUnitsPipeline

NUMBERS, WORDS = ["age", "fare"], ["sex", "port"]
RADII = {"age": 3.0, "fare": 5.0}


@pytest.fixture(scope="module")
def passengers():
    """A frame like that of the Titanic: numbers with gaps, categories, and who survived."""
    rng = np.random.default_rng(0)
    n = 240
    X = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], n),
            "age": rng.normal(30, 14, n).clip(1, 80),
            "port": rng.choice(["C", "Q", "S"], n, p=[0.2, 0.1, 0.7]),
            "fare": rng.lognormal(3, 1, n),
        }
    )
    chance = 1.5 * (X["sex"] == "female") + 0.03 * X["fare"] - 0.03 * X["age"] - 0.5
    y = np.where(rng.logistic(size=n) < chance, "yes", "no")
    X.loc[rng.random(n) < 0.15, "age"] = np.nan
    return X, y


def prepared(scaler=None, encoder=None):
    numbers = make_pipeline(SimpleImputer(strategy="median"), scaler or StandardScaler())
    return make_column_transformer(
        (encoder or OneHotEncoder(), WORDS), (numbers, NUMBERS), verbose_feature_names_out=False
    )


def pipeline(columns=None, **params):
    classifier = AdversarialLogisticRegression(**{"epsilon": RADII} | params)
    return RawUnitsPipeline([("columns", columns or prepared()), ("linear", classifier)])


def optimum_in_raw_units(X, y, norm, weight):
    """The least worst-case loss over the unscaled columns, by a conic solver."""
    numbers = X[NUMBERS].fillna(X[NUMBERS].median()).to_numpy()
    D = np.hstack([pd.get_dummies(X[WORDS]).to_numpy(dtype=float), numbers])
    epsilon = np.array([0.0] * 5 + list(RADII.values()))
    w, b = cp.Variable(D.shape[1]), cp.Variable()
    penalty = cp.norm(cp.multiply(epsilon, w), 1 if norm == np.inf else 2)
    margin = cp.multiply(np.where(y == "yes", 1, -1), D @ w + b)
    loss = cp.sum(cp.multiply(weight, cp.logistic(penalty - margin))) / weight.sum()
    return cp.Problem(cp.Minimize(loss)).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((5, -1 + 7)), RobustScaler()])
def test_training_solves_the_problem_in_raw_units(passengers, norm, scaler):
    X, y = passengers
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    model = pipeline(prepared(scaler), norm=norm)
    model.fit(X, y, linear__sample_weight=weight)
    optimum = optimum_in_raw_units(X, y, norm, weight)
    assert model[-1].objective_ == pytest.approx(optimum, abs=1e-6)


def test_radii_are_those_of_each_fold(passengers):
    X, y = passengers
    folds = StratifiedKFold(3)
    grid = [{"age": 1.0}, {"age": 4.0, "fare": 10.0}]
    search = GridSearchCV(pipeline(), {"linear__epsilon": grid}, cv=folds).fit(X, y)
    for candidate, epsilon in enumerate(grid):
        for fold, (train, test) in enumerate(folds.split(X, y)):
            columns = prepared().fit(X.iloc[train])
            scale = columns.named_transformers_["pipeline"][-1].scale_
            radii = np.array([epsilon.get(name, 0.0) for name in NUMBERS]) / scale
            by_hand = AdversarialLogisticRegression(epsilon=[0.0] * 5 + radii.tolist())
            by_hand.fit(columns.transform(X.iloc[train]), y[train])
            score = by_hand.score(columns.transform(X.iloc[test]), y[test])
            assert search.cv_results_[f"split{fold}_test_score"][candidate] == score
    best = search.best_estimator_
    scale = best["columns"].named_transformers_["pipeline"][-1].scale_
    expected = [search.best_params_["linear__epsilon"].get(name, 0.0) for name in NUMBERS]
    np.testing.assert_allclose(best.radii_, [0.0] * 5 + (expected / scale).tolist())


def test_parameters_stay_as_they_were_given(passengers):
    X, y = passengers
    model = pipeline()
    again = clone(model.fit(X, y))
    assert model[-1].epsilon == RADII
    assert again.get_params()["linear__epsilon"] == RADII
    again.set_params(linear__epsilon={"fare": 1.0}).fit(X, y)
    assert (again.radii_ > 0).sum() == 1
    with pytest.raises(ValueError, match="wages"):
        again.set_params(linear__epsilon={"wages": 1.0}).fit(X, y)
    assert again[-1].epsilon == {"wages": 1.0}


def test_one_set_of_radii_serves_training_attack_and_proof(passengers):
    X, y = passengers
    model = pipeline().fit(X, y)
    plain = make_pipeline(prepared(), LogisticRegression()).fit(X, y)
    copies = perturb(model, X, y, epsilon=RADII)
    assert ((copies[NUMBERS] - X[NUMBERS]).abs().max() <= pd.Series(RADII) + 1e-9).all()
    assert (copies[WORDS] == X[WORDS]).all(axis=None)
    verdict = verify_robustness(model, X, y, epsilon=RADII)
    proved = certified_accuracy_score(model, X, y, epsilon=RADII)
    assert (model.predict(copies) == y).mean() == proved == (verdict.status == "verified").mean()
    assert proved > certified_accuracy_score(plain, X, y, epsilon=RADII)


def test_radii_and_bounds_are_the_image_of_the_raw_box():
    X = np.random.default_rng(0).normal([0, 50, 3, 1], [1, 20, 0.1, 2], (60, 4))
    y = (X[:, 1] > X[:, 3] + 50).astype(int)
    epsilon, low, high = [0.1, 0.0, 0.3, 0.2], [-1, 0, -np.inf, -2.0], [1, np.inf, 3.5, np.inf]
    steps = [
        ("flip", FlippingScaler()),
        ("scale", MinMaxScaler((3, 7))),
        ("same", FunctionTransformer()),
        ("chosen", SelectKBest(k=3).set_output(transform="default")),
        ("last", Seen(epsilon=epsilon, bounds=(low, high), max_iter=1)),
    ]
    model = RawUnitsPipeline(steps).fit(X, y)
    chosen = model["chosen"].get_support(indices=True)
    seen_radius, (seen_low, seen_high) = model[-1].seen_
    for k, j in enumerate(chosen):
        # The ends of the raw interval, through the pipeline itself.
        ends = np.tile(X[:1], (2, 1))
        ends[:, j] = X[0, j] - epsilon[j], X[0, j] + epsilon[j]
        image = model[:-1].transform(ends)[:, k]
        assert seen_radius[k] == pytest.approx(abs(image[1] - image[0]) / 2, abs=1e-12)
        if epsilon[j]:
            ends[:, j] = np.nan_to_num([low[j], high[j]], neginf=-1e9, posinf=1e9)
            image = np.sort(model[:-1].transform(ends)[:, k])
            shown = np.array([seen_low[k], seen_high[k]])
            known = np.isfinite(shown)
            np.testing.assert_allclose(shown[known], image[known])
            assert (abs(image[~known]) > 1e6).all()
        else:
            assert (seen_low[k], seen_high[k]) == (-np.inf, np.inf)


class FlippingScaler(StandardScaler):
    """A scaler that turns the first and last column round."""

    def fit(self, X, y=None):
        super().fit(X)
        self.scale_ = self.scale_ * [-1, 1, 1, -1]
        return self


class Seen(AdversarialMaxoutClassifier):
    """A classifier that keeps the radius and the bounds of its fit."""

    def fit(self, X, y):
        self.seen_ = self.epsilon, self.bounds
        return super().fit(X, y)


def test_networks_and_searches_take_radii_in_raw_units(passengers):
    X, y = passengers
    search = AdversarialLogisticRegressionCV(epsilons=[0.5, 1], scale=RADII, cv=3)
    model = RawUnitsPipeline([("columns", prepared()), ("search", search)]).fit(X, y)
    one = pipeline(epsilon={k: model[-1].epsilon_ * r for k, r in RADII.items()}, C=100).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), one.predict_proba(X), atol=1e-5)


def test_a_network_of_any_module_takes_radii_in_raw_units(passengers):
    X, y = passengers
    net = AdversarialNet(
        torch.nn.Linear(7, 2),
        epsilon=RADII,
        bounds=({"age": 0.0}, None),
        precision="float64",
        max_epochs=1,
        verbose=0,
        train_split=None,
    )
    model = RawUnitsPipeline([("columns", prepared()), ("net", net)])
    model.fit(X, (y == "yes").astype(int))
    scaler = model["columns"].named_transformers_["pipeline"][-1]
    perturbations = model["net"].perturbation_
    expected = [0.0] * 5 + (list(RADII.values()) / scaler.scale_).tolist()
    np.testing.assert_allclose(perturbations.epsilon, expected)
    assert perturbations.bounds[0][5] == pytest.approx(-scaler.mean_[0] / scaler.scale_[0])
    assert perturbations.bounds[0].isinf().sum() == 6


def test_columns_that_can_not_change_may_pass_through_any_step(passengers):
    X, y = passengers
    columns = make_column_transformer(
        (QuantileTransformer(n_quantiles=20), ["fare"]),
        (make_pipeline(OneHotEncoder(sparse_output=False), PCA(2)), WORDS),
        (SimpleImputer(add_indicator=True), ["age"]),
        remainder="drop",
    )
    model = pipeline(columns, epsilon={"age": 3.0}).fit(X, y)
    assert model.radii_.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0]


STEPS = [
    (PCA(), "PCA"),
    (PowerTransformer(), "PowerTransformer"),
    (QuantileTransformer(n_quantiles=20), "QuantileTransformer"),
    (KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), "KBins"),
    (PolynomialFeatures(1), "PolynomialFeatures"),
    (MinMaxScaler(clip=True), "MinMaxScaler"),
    (MaxAbsScaler(), None),
    (FunctionTransformer(np.log1p), "FunctionTransformer"),
]


@pytest.mark.parametrize(("step", "name"), STEPS)
def test_what_is_no_box_behind_a_step_is_refused_by_names(passengers, step, name):
    X, y = passengers
    model = pipeline(prepared(step))
    if name is None:
        model.fit(X, y)
        return
    with pytest.raises(TypeError, match=rf"\['age', 'fare'\] can't be carried through {name}"):
        model.fit(X, y)


def test_a_radius_for_categories_is_refused_by_name(passengers):
    X, y = passengers
    message = r"\['sex', 'port'\] can't be carried through OneHotEncoder.*dict by column name"
    with pytest.raises(TypeError, match=message):
        pipeline(epsilon=0.1).fit(X, y)


def test_a_column_in_two_places_is_refused(passengers):
    X, y = passengers
    columns = make_column_transformer((StandardScaler(), ["fare"]), ("passthrough", ["fare"]))
    with pytest.raises(ValueError, match=r"\['fare'\] reach the last step in several columns"):
        pipeline(columns, epsilon={"fare": 1.0}).fit(X, y)


@pytest.mark.parametrize("last", [LogisticRegression(), SGDClassifier(), "passthrough"])
def test_a_last_step_without_a_radius_is_refused(passengers, last):
    model = RawUnitsPipeline([("columns", prepared()), ("last", last)])
    with pytest.raises(TypeError, match="last step of a RawUnitsPipeline must have a radius"):
        model.fit(*passengers)


CHECKED = RawUnitsPipeline(
    [("scale", StandardScaler()), ("linear", AdversarialLogisticRegression(C=1.0))]
)
CHANGED = "a pipeline fits its steps themselves, as in scikit-learn"


@parametrize_with_checks(
    [CHECKED],
    expected_failed_checks=lambda _: {
        "check_dont_overwrite_parameters": CHANGED,
        "check_estimators_overwrite_params": CHANGED,
    },
)
def test_pipeline_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_it_is_an_ordinary_pipeline_beside(passengers):
    X, y = passengers
    model = pipeline().fit(X, y)
    assert isinstance(model, Pipeline)
    assert model[:-1].transform(X).shape == (len(X), 7)
    assert cross_val_score(model, X, y, cv=3).min() > 0.5
