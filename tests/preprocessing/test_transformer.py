"""FGSMTransformer against the closed form of a linear model, in pipelines and containers."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv import FGSMTransformer


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def model(cancer):
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(*cancer)


def test_copies_of_a_linear_model_are_the_closed_form(cancer, model):
    X, y = cancer
    epsilon = 0.2 * X.std().to_numpy()
    direction = np.sign(model[-1].coef_)
    predicted = np.where(model.predict(X) == 1, 1, -1)[:, None]
    true = np.where(y == 1, 1, -1)[:, None]
    assert (predicted != true).any()
    for labels, sign in (("predicted", predicted), ("true", true)):
        attack = FGSMTransformer(FrozenEstimator(model), epsilon=epsilon, labels=labels).fit(X, y)
        expected = X - epsilon * direction * sign
        np.testing.assert_allclose(attack.transform(X, y), expected)
        np.testing.assert_allclose(attack.fit_transform(X, y), expected)
    # Without y the predictions stand in for the true labels.
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


def test_in_a_pipeline_it_attacks_what_comes_after(cancer):
    X, y = cancer
    X = pd.DataFrame(StandardScaler().fit_transform(X), columns=X.columns)
    clean = cross_val_score(DecisionTreeClassifier(random_state=0), X, y).mean()
    attacked = make_pipeline(
        FGSMTransformer(LogisticRegression(), epsilon=0.0), DecisionTreeClassifier(random_state=0)
    )
    assert cross_val_score(attacked, X, y).mean() == clean
    attacked.set_params(fgsmtransformer__epsilon=0.5)
    attacked.fit(X, y)
    copies = attacked[0].transform(X)
    assert np.isclose(abs(copies - X), 0.5).all()


def test_unfitted_transformer_is_refused(cancer):
    with pytest.raises(NotFittedError, match="not fitted"):
        FGSMTransformer(LogisticRegression()).transform(cancer[0])


def test_classifier_without_a_rule_is_refused_before_it_is_used(cancer):
    with pytest.raises(TypeError, match="DecisionTreeClassifier.*register"):
        FGSMTransformer(DecisionTreeClassifier()).fit(*cancer)


def test_unknown_labels_parameter_is_named(cancer):
    with pytest.raises(ValueError, match="labels.*guessed"):
        FGSMTransformer(LogisticRegression(), labels="guessed").fit(*cancer)
