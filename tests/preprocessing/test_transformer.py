"""FGSMTransformer against the closed form of a linear model, in every container."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from sk_adv import AdversarialMaxoutClassifier, FGSMSampler, FGSMTransformer, as_module
from sk_adv.attacks import fgsm, pgd


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def model(cancer):
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(*cancer)


def signs(y):
    return np.where(y == 1, 1, -1)[:, None]


def test_copies_of_a_linear_model_are_the_closed_form(cancer, model):
    X, y = cancer
    epsilon = 0.2 * X.std().to_numpy()
    direction = np.sign(model[-1].coef_)
    predicted, true = signs(model.predict(X)), signs(y)
    assert (predicted != true).any()
    for labels, sign in (("predicted", predicted), ("true", true)):
        attack = FGSMTransformer(FrozenEstimator(model), epsilon=epsilon, labels=labels).fit(X, y)
        expected = X - epsilon * direction * sign
        np.testing.assert_allclose(attack.transform(X, y), expected)
        np.testing.assert_allclose(attack.fit_transform(X, y), expected)
    # Without y the predictions are used.
    np.testing.assert_allclose(attack.transform(X), X - epsilon * direction * predicted)


def test_euclidean_copies_have_the_radius_and_stay_in_bounds(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=2.0, norm=2).fit(X, y)
    lengths = np.linalg.norm(attack.transform(X) - X, axis=1)
    np.testing.assert_allclose(lengths, 2)
    attack.set_params(bounds=(X.min().to_numpy(), X.max().to_numpy()))
    copies = attack.transform(X)
    assert (copies >= X.min()).all().all() and (copies <= X.max()).all().all()


def test_classifier_is_cloned_unless_frozen(cancer, model):
    X, y = cancer
    inner = LogisticRegression(max_iter=10_000)
    attack = FGSMTransformer(inner).fit(X, y)
    assert not hasattr(inner, "coef_")
    assert attack.estimator_ is not inner
    frozen = FGSMTransformer(FrozenEstimator(model)).fit(X[:50], y[:50])
    np.testing.assert_array_equal(frozen.estimator_.predict(X), model.predict(X))


def test_pandas_frame_keeps_columns_and_index(cancer, model):
    X, y = cancer
    shuffled = X.sample(frac=1, random_state=0)
    copies = FGSMTransformer(FrozenEstimator(model)).fit(X, y).transform(shuffled)
    assert isinstance(copies, pd.DataFrame)
    assert copies.index.equals(shuffled.index) and copies.columns.equals(X.columns)


def test_polars_frame_keeps_columns(cancer):
    X, y = cancer
    X = pl.from_pandas(X)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    copies = FGSMTransformer(model).fit(X, y).transform(X)
    assert isinstance(copies, pl.DataFrame) and copies.columns == X.columns


def test_tensor_stays_a_tensor():
    X, y = load_iris(return_X_y=True)
    attack = FGSMTransformer(LogisticRegression(), epsilon=0.5).fit(X, y)
    copies = attack.transform(torch.as_tensor(X))
    assert isinstance(copies, torch.Tensor)
    np.testing.assert_array_equal(copies.numpy(), attack.transform(X))


def test_set_output_and_feature_names(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model)).set_output(transform="pandas").fit(X, y)
    copies = attack.transform(X)
    assert list(copies.columns) == list(attack.get_feature_names_out()) == list(X.columns)


def test_pgd_by_name_or_as_a_function_reaches_the_same_corner_of_the_box(cancer, model):
    X, y = cancer
    epsilon = 0.2 * X.std().to_numpy()
    corner = X - epsilon * np.sign(model[-1].coef_) * signs(y)
    for attack in ("pgd", pgd, partial(pgd, n_steps=5)):
        transformer = FGSMTransformer(
            FrozenEstimator(model), epsilon=epsilon, attack=attack, labels="true", random_state=0
        ).fit(X, y)
        np.testing.assert_allclose(transformer.transform(X, y), corner)


def test_targeted_copies_move_towards_the_class(cancer, model):
    X, y = cancer
    frozen, direction = FrozenEstimator(model), np.sign(model[-1].coef_)
    for target, sign in ((0, -1), (1, 1)):
        for labels in ("true", "predicted"):
            attack = FGSMTransformer(frozen, epsilon=0.5, target=target, labels=labels).fit(X, y)
            np.testing.assert_allclose(attack.transform(X, y), X + 0.5 * sign * direction)


def test_targeted_copies_of_three_classes_follow_the_gradient_of_the_softmax():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    model = LogisticRegression(max_iter=1000).fit(X, names)
    # ∇ log Σ_{k≠t} exp z_k - z_t, with q the softmax over the classes other than t = 1.
    others = model.predict_proba(X)[:, [0, 2]]
    q = others / others.sum(axis=1, keepdims=True)
    gradient = q @ model.coef_[[0, 2]] - model.coef_[1]
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=0.3, target="b").fit(X, names)
    np.testing.assert_allclose(attack.transform(X), X - 0.3 * np.sign(gradient))


@pytest.mark.parametrize("attack", ["pgd", "uniform_noise", "sign_noise"])
def test_random_attacks_are_seeded(cancer, attack):
    X, y = cancer
    X, y = StandardScaler().fit_transform(X)[:100], y[:100]
    network = AdversarialMaxoutClassifier((5,), alpha=1, max_iter=5, random_state=0).fit(X, y)
    transformer = FGSMTransformer(
        FrozenEstimator(network), epsilon=0.25, attack=attack, random_state=0
    ).fit(X, y)
    copies = transformer.transform(X)
    np.testing.assert_array_equal(transformer.transform(X), copies)
    np.testing.assert_array_equal(clone(transformer).fit_transform(X, y), copies)
    assert (transformer.set_params(random_state=1).transform(X) != copies).any()
    assert 0 < abs(copies - X).max() <= 0.25 * (1 + 1e-5)


def test_attack_without_randomness_ignores_the_seed(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), random_state=0).fit(X, y)
    copies = attack.transform(X)
    assert attack.set_params(random_state=1).transform(X).equals(copies)


def test_no_more_samples_than_batch_size_go_through_the_module_at_once(cancer, model):
    X, y = cancer
    sizes = []

    def recorded_fgsm(module, *args, **kwargs):
        module.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
        return fgsm(module, *args, **kwargs)

    transformer = FGSMTransformer(FrozenEstimator(model), attack=recorded_fgsm).fit(X, y)
    copies = transformer.transform(X)
    assert max(sizes) > 100
    sizes.clear()
    assert transformer.set_params(batch_size=100).transform(X).equals(copies)
    assert max(sizes) == 100


def test_module_is_sent_to_the_device_asked_for_and_else_stays_where_it_is(cancer):
    class Logits(nn.Linear):
        sent_to = []

        def to(self, device=None, dtype=None):
            self.sent_to.append(device)
            return super().to(device=device, dtype=dtype)

    class Classifier(LogisticRegression):
        pass

    as_module.register(Classifier)(lambda model: Logits(model.n_features_in_, 2))
    X, y = cancer[0].to_numpy(), cancer[1]
    FGSMTransformer(Classifier(C=1e-6)).fit(X, y).transform(X)
    assert set(Logits.sent_to) == {None}
    FGSMTransformer(Classifier(C=1e-6), device="cpu").fit(X, y).transform(X)
    assert torch.device("cpu") in Logits.sent_to


def test_cloned_and_pickled_transformers_give_the_same_copies(cancer):
    X, y = cancer[0][:100], cancer[1][:100]
    parameters = {
        "epsilon": 0.2,
        "norm": 2,
        "bounds": (0, 5000),
        "labels": "true",
        "stage": "test",
        "attack": "pgd",
        "surrogate": make_pipeline(StandardScaler(), LogisticRegression()),
        "target": 1,
        "batch_size": 50,
        "device": "cpu",
        "random_state": 0,
    }
    attack = FGSMTransformer(DecisionTreeClassifier(random_state=0), **parameters)
    assert attack.get_params(deep=False).items() >= parameters.items()
    copies = clone(attack).fit(X, y).transform(X, y)
    assert not copies.equals(X)
    by_setting = FGSMTransformer(DecisionTreeClassifier(random_state=0)).set_params(**parameters)
    assert by_setting.fit(X, y).transform(X, y).equals(copies)
    assert pickle.loads(pickle.dumps(by_setting)).transform(X, y).equals(copies)


@pytest.fixture(scope="module")
def people():
    """A frame with a category and missing numbers, and labels that depend on both."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(size=200), "size": rng.normal(size=200)})
    X["town"] = rng.choice(["Bonn", "Ulm"], size=200)
    y = (X["age"] + X["size"] + (X["town"] == "Ulm") > 0.5).to_numpy()
    X.loc[::10, "size"] = np.nan
    return X, y


def test_categories_and_missing_values_stay_as_they_are(people):
    X, y = people
    columns = ColumnTransformer(
        [("number", SimpleImputer(), ["age", "size"]), ("name", OneHotEncoder(), ["town"])]
    )
    attack = FGSMTransformer(make_pipeline(columns, LogisticRegression()), epsilon=0.25)
    with pytest.warns(UserWarning, match="town"):
        copies = attack.fit(X, y).transform(X)
    assert copies["town"].equals(X["town"])
    missing = X["size"].isna()
    assert copies["size"].isna().equals(missing)
    coef = attack.estimator_[-1].coef_[0, :2]
    sign = np.where(attack.estimator_.predict(X), 1, -1)
    np.testing.assert_allclose(copies["age"], X["age"] - 0.25 * sign * np.sign(coef[0]))
    expected = (X["size"] - 0.25 * sign * np.sign(coef[1]))[~missing]
    np.testing.assert_allclose(copies["size"][~missing], expected)


def test_missing_values_are_refused_where_the_classifier_refuses_them(people):
    X, y = people[0][["age", "size"]], people[1]
    with pytest.raises(ValueError, match="LogisticRegression does not accept missing values"):
        FGSMTransformer(LogisticRegression()).fit(X, y)


def test_tag_allows_missing_values_where_classifier_and_surrogate_do():
    def allows(*args, **kwargs):
        return get_tags(FGSMTransformer(*args, **kwargs)).input_tags.allow_nan

    tree, linear = DecisionTreeClassifier(), LogisticRegression()
    assert allows(tree)
    assert not allows(linear)
    assert not allows(tree, surrogate=linear)


def test_unfitted_transformer_is_refused(cancer):
    with pytest.raises(NotFittedError, match="not fitted"):
        FGSMTransformer(LogisticRegression()).transform(cancer[0])


def test_frozen_classifier_that_is_not_fitted_is_refused(cancer):
    with pytest.raises(NotFittedError, match="LogisticRegression|FrozenEstimator"):
        FGSMTransformer(FrozenEstimator(LogisticRegression())).fit(*cancer)


def test_frozen_classifier_brings_its_own_classes(cancer, model):
    X, y = cancer
    benign = y == 1
    attack = FGSMTransformer(FrozenEstimator(model), target=0).fit(X[benign], y[benign])
    copies = attack.transform(X[benign])
    np.testing.assert_allclose(copies, X[benign] - 0.25 * np.sign(model[-1].coef_))


def test_regressor_is_refused(cancer):
    with pytest.raises(TypeError, match="must be a classifier; got LinearRegression"):
        FGSMTransformer(LinearRegression(), surrogate=LogisticRegression()).fit(*cancer)


class Untouchable(ClassifierMixin, BaseEstimator):
    """A classifier that must not be fitted."""

    def fit(self, X, y):
        raise AssertionError("The classifier was fitted.")

    def predict(self, X):
        raise AssertionError("The classifier was asked.")


def test_classifier_without_a_rule_is_refused_before_it_is_fitted(cancer):
    with pytest.raises(TypeError, match="Untouchable.*register.*surrogate"):
        FGSMTransformer(Untouchable()).fit(*cancer)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"labels": "guessed"}, "labels.*guessed"),
        ({"stage": "predict"}, "stage.*predict"),
        ({"attack": "tickle"}, "attack.*fgsm.*tickle"),
        ({"attack": 1}, "attack.*1"),
        ({"attack": "sign_noise", "target": 1}, "sign_noise.*no direction"),
        ({"target": 2}, r"target.*\[0, 1\].*2"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"random_state": "now"}, "random_state.*now"),
        ({"surrogate": "logistic"}, "surrogate.*logistic"),
    ],
)
def test_wrong_parameter_is_named_before_the_classifier_is_fitted(cancer, parameters, message):
    parameters = {"surrogate": LogisticRegression(), **parameters}
    with pytest.raises((TypeError, ValueError), match=message):
        FGSMTransformer(Untouchable(), **parameters).fit(*cancer)


@pytest.mark.parametrize("kind", [FGSMTransformer, FGSMSampler])
@pytest.mark.parametrize(
    ("attack", "params", "is_random"),
    [
        ("fgsm", None, False),
        ("pgd", None, True),
        ("pgd", {"random_start": False}, False),
        ("uniform_noise", None, True),
        ("sign_noise", None, True),
        ("unknown", None, False),
    ],
)
def test_a_random_attack_is_tagged(kind, attack, params, is_random):
    transformer = kind(LogisticRegression(), attack=attack, attack_params=params)
    assert get_tags(transformer).non_deterministic is is_random


class Drawing(LogisticRegression):
    """A classifier that says that it draws random numbers."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags


@pytest.mark.parametrize("kind", [FGSMTransformer, FGSMSampler])
@pytest.mark.parametrize(
    "models",
    [
        {"estimator": Drawing()},
        {"estimator": LogisticRegression(), "surrogate": Drawing()},
        {"estimator": FrozenEstimator(Drawing())},
    ],
)
def test_a_random_classifier_or_surrogate_is_tagged(kind, models):
    assert get_tags(kind(**models)).non_deterministic
    same = {name: LogisticRegression() for name in models}
    assert not get_tags(kind(**same)).non_deterministic


@pytest.mark.parametrize("attack", ["pgd", "uniform_noise"])
def test_transformers_with_random_attacks_pass_the_checks_of_scikit_learn(attack):
    transformer = FGSMTransformer(LogisticRegression(), attack=attack)
    check_estimator(transformer, on_fail="raise", on_skip=None)


@pytest.mark.parametrize("kind", [FGSMTransformer, FGSMSampler])
@pytest.mark.parametrize(
    "models",
    [
        {"estimator": LogisticRegression(C=0.01)},
        {"estimator": DecisionTreeClassifier(max_depth=2), "surrogate": LogisticRegression()},
    ],
)
def test_weights_reach_the_classifier_and_the_surrogate(cancer, kind, models):
    X, y = cancer
    weight = np.where(y == 1, 0.2, 3.0)
    fitted = kind(**models, epsilon=0.5).fit(StandardScaler().fit_transform(X), y, weight)
    expected = clone(models["estimator"]).fit(StandardScaler().fit_transform(X), y, weight)
    attacked = fitted.estimator_
    if "surrogate" in models:
        predicted = expected.predict(StandardScaler().fit_transform(X))
        attacked, expected = fitted.surrogate_, clone(models["surrogate"])
        expected.fit(StandardScaler().fit_transform(X), predicted, weight)
    np.testing.assert_allclose(attacked.coef_, expected.coef_)


def test_weights_pass_through_a_pipeline(cancer):
    X, y = cancer
    weight = np.where(y == 1, 0.2, 3.0)
    transformer = FGSMTransformer(LogisticRegression(C=0.01), stage="train")
    pipeline = make_pipeline(StandardScaler(), transformer, LogisticRegression())
    pipeline.fit(X, y, fgsmtransformer__sample_weight=weight)
    expected = LogisticRegression(C=0.01).fit(StandardScaler().fit_transform(X), y, weight)
    np.testing.assert_allclose(pipeline[1].estimator_.coef_, expected.coef_)
    with config_context(enable_metadata_routing=True):
        scaler, last = StandardScaler(), LogisticRegression()
        pipeline = make_pipeline(
            scaler.set_fit_request(sample_weight=False),
            transformer.set_fit_request(sample_weight=True),
            last.set_fit_request(sample_weight=False),
        )
        pipeline.fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(pipeline[1].estimator_.coef_, expected.coef_)
