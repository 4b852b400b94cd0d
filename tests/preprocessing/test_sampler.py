"""FGSMSampler against the closed form of a linear model and imbalanced-learn's own samplers."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from imblearn.base import is_sampler
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.utils import estimator_checks
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline as make_scikit_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags

from sk_adv import FGSMSampler, FGSMTransformer
from sk_adv.metrics import adversarial_accuracy_score


@pytest.mark.parametrize("labels", ["true", "predicted"])
def test_worst_cases_follow_the_samples_with_their_true_labels(cancer, model, labels):
    X, y = cancer
    away_from = y if labels == "true" else model.predict(X)
    copies = X - 0.5 * np.sign(model.coef_) * np.where(away_from == 1, 1, -1)[:, None]
    sampler = FGSMSampler(LogisticRegression(C=0.01), epsilon=0.5, labels=labels)
    resampled, y_resampled = sampler.fit_resample(X, y)
    np.testing.assert_allclose(resampled, np.vstack([X, copies]))
    np.testing.assert_array_equal(y_resampled, np.concatenate([y, y]))
    np.testing.assert_array_equal(X.to_numpy()[sampler.sample_indices_], np.vstack([X, X]))
    np.testing.assert_array_equal(sampler.classes_, [0, 1])


PARAMETERS = [
    {"norm": 2, "epsilon": 2.0},
    {"bounds": (-1, 1)},
    {"attack": "sign_noise", "random_state": 0},
    {"attack": "pgd", "random_state": 0, "batch_size": 100},
    {"target": 1},
    {"surrogate": LogisticRegression(C=1e-4)},
    {"device": "cpu", "epsilon": np.arange(30) / 30},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda parameters: next(iter(parameters)))
def test_parameters_mean_what_they_mean_to_the_transformer(cancer, model, parameters):
    X, y = cancer
    transformer = FGSMTransformer(FrozenEstimator(model), labels="true", **parameters)
    resampled, _ = FGSMSampler(FrozenEstimator(model), **parameters).fit_resample(X, y)
    copies = transformer.fit_transform(X, y)
    assert not copies.equals(X)
    np.testing.assert_array_equal(resampled, np.vstack([X, copies]))


def test_frames_and_series_are_given_as_imbalanced_learns_own_samplers_give_them(cancer):
    X, y = cancer
    X = X.sample(frac=1, random_state=0)
    y = y[X.index].map({0: "malignant", 1: "benign"}).astype("category")
    ours = FGSMSampler(LogisticRegression()).fit_resample(X, y)
    theirs = RandomOverSampler(sampling_strategy={"malignant": 357}).fit_resample(X, y)
    for own, other in zip(ours, theirs, strict=True):
        assert type(own) is type(other)
        assert own.index.equals(pd.RangeIndex(len(own)))
        assert other.index.equals(pd.RangeIndex(len(other)))
    assert list(ours[0].columns) == list(theirs[0].columns)
    assert ours[0].dtypes.equals(theirs[0].dtypes)
    assert (ours[1].name, ours[1].dtype) == (theirs[1].name, theirs[1].dtype)


def test_polars_frames_and_tensors_stay_what_they_are():
    X, y = load_iris(return_X_y=True)
    model = FrozenEstimator(LogisticRegression(max_iter=1000).fit(X, y))
    expected, _ = FGSMSampler(model).fit_resample(X, y)
    frame = pl.DataFrame(X, schema=["a", "b", "c", "d"])
    resampled, y_resampled = FGSMSampler(model).fit_resample(frame, pl.Series("kind", y))
    assert isinstance(resampled, pl.DataFrame) and isinstance(y_resampled, pl.Series)
    np.testing.assert_array_equal(resampled.to_numpy(), expected)
    tensors = FGSMSampler(model).fit_resample(torch.tensor(X), torch.tensor(y))
    assert all(isinstance(item, torch.Tensor) for item in tensors)
    np.testing.assert_array_equal(tensors[0], expected)
    np.testing.assert_array_equal(tensors[1], np.concatenate([y, y]))


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame, pl.DataFrame, torch.as_tensor])
def test_integers_become_floats_rather_than_lose_the_perturbation(container):
    X, y = load_iris(return_X_y=True)
    X = np.rint(10 * X).astype(int)
    model = LogisticRegression(C=0.01)
    resampled, _ = FGSMSampler(model, epsilon=0.5).fit_resample(container(X), y)
    np.testing.assert_array_equal(abs(np.asarray(resampled)[150:] - X).max(axis=1), 0.5)


@pytest.mark.parametrize("library", [pd, pl])
def test_truth_values_become_numbers_where_they_may_change_and_else_stay(library):
    rng = np.random.default_rng(0)
    X = library.DataFrame(
        {"size": rng.normal(size=100), "smokes": rng.random(100) > 0.5, "age": np.arange(100)}
    )
    y = (X["size"] + X["smokes"] > 0.5).to_numpy()
    model = LogisticRegression()
    for_all, _ = FGSMSampler(model, epsilon=0.25).fit_resample(X, y)
    assert all("float64" in str(kind).lower() for kind in for_all.dtypes)
    copies = np.asarray(for_all)[100:]
    np.testing.assert_allclose(abs(copies - np.asarray(X, dtype=float)), 0.25)
    for_one, _ = FGSMSampler(model, epsilon={"size": 0.25}).fit_resample(X, y)
    assert list(for_one.dtypes) == list(X.dtypes)
    np.testing.assert_array_equal(np.asarray(for_one)[100:, 1:], np.asarray(X)[:, 1:])
    np.testing.assert_allclose(abs(for_one["size"].to_numpy()[100:] - X["size"].to_numpy()), 0.25)


@pytest.mark.parametrize("epsilon", [0.25, {"size": 0.25}])
def test_selectors_by_type_behind_the_sampler_see_truth_values(epsilon):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=100), "smokes": rng.random(100) > 0.5})
    y = X["smokes"] ^ (rng.random(100) > 0.9)
    columns = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        ("passthrough", make_column_selector(dtype_include="bool")),
    )
    sampler = FGSMSampler(LogisticRegression(), epsilon=epsilon)
    model = make_pipeline(sampler, columns, LogisticRegression()).fit(X, y)
    # The label is the truth value, but for a tenth: without its column nothing is known.
    assert model.score(X, y) == np.mean(X["smokes"] == y) > 0.8
    numbers, truth = (columns for _, _, columns in model[1].transformers_[:2])
    assert [*numbers, *truth] == ["size", "smokes"]
    assert truth == ([] if epsilon == 0.25 else ["smokes"])


@pytest.mark.parametrize("kind", ["boolean", "Int64", "Float64"])
def test_columns_of_pandas_own_types_become_plain_numbers(kind):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=100), "count": rng.integers(0, 2, 100)})
    y = X["size"] + X["count"] > 0.5
    resampled, _ = FGSMSampler(LogisticRegression()).fit_resample(X.astype({"count": kind}), y)
    expected, _ = FGSMSampler(LogisticRegression()).fit_resample(X, y)
    pd.testing.assert_frame_equal(resampled, expected)


def test_categories_are_repeated_as_they_are():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=100), "town": rng.choice(["Bonn", "Ulm"], 100)})
    X["town"] = X["town"].astype("category")
    y = X["size"] > 0
    columns = make_column_transformer(("passthrough", ["size"]), (OneHotEncoder(), ["town"]))
    model = make_scikit_pipeline(columns, LogisticRegression())
    with pytest.warns(UserWarning, match="town"):
        resampled, _ = FGSMSampler(model, epsilon=0.25).fit_resample(X, y)
    assert resampled["town"].equals(pd.concat([X["town"], X["town"]], ignore_index=True))
    # The label is the sign of the number, so the worst perturbation moves it towards 0.
    np.testing.assert_allclose(resampled["size"][100:], X["size"] - 0.25 * np.where(y, 1, -1))


INHERENT = {
    "check_samplers_fit": "There is one copy of each sample, and no strategy to choose others by.",
    "check_samplers_sparse": "A perturbation changes zeros too, so that X has to be dense.",
    "check_samplers_pandas_sparse": "Columns of pandas that are sparse would be filled in too.",
    "check_samplers_string": "Text alone has no direction in which it could be perturbed.",
}
SAMPLERS = {
    "linear": FGSMSampler(LogisticRegression()),
    "pgd": FGSMSampler(LogisticRegression(), norm=2, attack="pgd", random_state=0),
    "surrogate": FGSMSampler(
        DecisionTreeClassifier(random_state=0), labels="predicted", surrogate=LogisticRegression()
    ),
    "imputed": FGSMSampler(make_scikit_pipeline(SimpleImputer(), LogisticRegression())),
}


def checks_of_imbalanced_learn():
    """Each sampler with each check, of which some fail by what the sampler is."""
    for kind, sampler in SAMPLERS.items():
        for name, check in vars(estimator_checks).items():
            own = getattr(check, "__module__", None) == estimator_checks.__name__
            if not own or not name.startswith("check_") or "classifier" in name:
                continue
            reason = INHERENT.get(name)
            if name == "check_samplers_nan" and kind != "imputed":
                reason = "The classifier takes no NaN, or the surrogate takes none."
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason)]
            yield pytest.param(sampler, check, marks=marks, id=f"{kind}-{name}")


@pytest.mark.parametrize(("sampler", "check"), [*checks_of_imbalanced_learn()])
def test_sampler_passes_the_checks_of_imbalanced_learn(sampler, check):
    check("FGSMSampler", sampler)


def test_sampler_has_the_tags_of_imbalanced_learn(cancer):
    sampler = FGSMSampler(LogisticRegression())
    assert is_sampler(sampler)
    listed = list(estimator_checks.estimator_checks_generator(sampler))
    assert len(listed) > 10
    for tags in (get_tags(sampler), get_tags(RandomOverSampler())):
        assert tags.input_tags.dataframe and tags.sampler_tags.sample_indices
    assert get_tags(sampler).target_tags.required
    assert not get_tags(sampler).input_tags.sparse


@pytest.mark.parametrize("container", [np.asarray, np.ndarray.tolist, pd.DataFrame, torch.tensor])
def test_one_hot_labels_are_the_classes_of_their_columns(container):
    X, y = load_iris(return_X_y=True)
    one_hot = container(np.eye(3, dtype=int)[y])
    expected, _ = FGSMSampler(LogisticRegression(C=0.01)).fit_resample(X, y)
    sampler = FGSMSampler(LogisticRegression(C=0.01))
    resampled, y_resampled = sampler.fit_resample(X, one_hot)
    np.testing.assert_array_equal(resampled, expected)
    assert type(y_resampled) is type(one_hot)
    np.testing.assert_array_equal(y_resampled, np.eye(3)[np.tile(y, 2)])
    np.testing.assert_array_equal(sampler.classes_, [0, 1, 2])
    np.testing.assert_array_equal(sampler.fit(X, one_hot).estimator_.classes_, [0, 1, 2])


def test_one_hot_labels_are_named_as_a_frozen_classifier_names_its_classes():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    sampler = FGSMSampler(FrozenEstimator(LogisticRegression(C=0.01).fit(X, names)))
    expected, _ = sampler.fit_resample(X, names)
    resampled, _ = sampler.fit_resample(X, np.eye(3)[y])
    np.testing.assert_array_equal(resampled, expected)
    with pytest.raises(ValueError, match="one column per class.*virginica.*got 4 columns"):
        sampler.fit_resample(X, np.eye(4)[y])


def test_several_labels_a_sample_are_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="1d array"):
        FGSMSampler(LogisticRegression()).fit_resample(X, np.eye(3)[y] + np.eye(3)[y - 1])


def test_lists_stay_lists():
    X, y = load_iris(return_X_y=True)
    expected = FGSMSampler(LogisticRegression(C=0.01)).fit_resample(X, y)
    found = FGSMSampler(LogisticRegression(C=0.01)).fit_resample(X.tolist(), y.tolist())
    for own, other in zip(found, expected, strict=True):
        assert isinstance(own, list)
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("routing", [False, True])
def test_in_a_pipeline_it_acts_in_training_only(cancer, model, recorder, routing):
    X, y = cancer
    pipeline = make_pipeline(FGSMSampler(FrozenEstimator(model), epsilon=0.5), recorder)
    with config_context(enable_metadata_routing=routing):
        pipeline.fit(X, y).predict(X)
    copies = X - 0.5 * np.sign(model.coef_) * np.where(y == 1, 1, -1)[:, None]
    np.testing.assert_allclose(pipeline[-1].fitted_on_, np.vstack([X, copies]))
    assert pipeline[-1].asked_ is X


def test_cross_validation_scores_on_clean_samples(cancer):
    X, y = cancer
    tree, folds = DecisionTreeClassifier(random_state=0), StratifiedKFold(3)
    expected = []
    for train, test in folds.split(X, y):
        linear = LogisticRegression(C=0.01).fit(X.iloc[train], y.iloc[train])
        sign = np.where(y.iloc[train] == 1, 1, -1)[:, None]
        copies = X.iloc[train] - 0.5 * np.sign(linear.coef_) * sign
        twice = clone(tree).fit(np.vstack([X.iloc[train], copies]), np.tile(y.iloc[train], 2))
        expected.append(twice.score(X.iloc[test].to_numpy(), y.iloc[test]))
    pipeline = make_pipeline(FGSMSampler(LogisticRegression(C=0.01), epsilon=0.5), tree)
    scores = cross_validate(pipeline, X, y, cv=folds)["test_score"]
    np.testing.assert_allclose(scores, expected)
    search = GridSearchCV(pipeline, {"fgsmsampler__epsilon": [0.0, 0.5]}, cv=folds).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][1], np.mean(expected))


@pytest.mark.parametrize("others", [[], [RandomOverSampler(random_state=0)]], ids=len)
def test_pipeline_with_samplers_can_be_attacked(cancer, model, others):
    X, y = cancer
    sampler, after = FGSMSampler(FrozenEstimator(model), epsilon=0.1), LogisticRegression(C=0.01)
    pipeline = make_pipeline(sampler, *others, after).fit(X, y)
    worst = X - 0.3 * np.sign(pipeline[-1].coef_) * np.where(y == 1, 1, -1)[:, None]
    assert adversarial_accuracy_score(pipeline, X, y, epsilon=0.3) == pipeline.score(worst, y)
