"""Fixtures for the tests of the audit."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_adv.attacks import auto
from sk_adv.audit import _measurements, audit


class Rule(ClassifierMixin, BaseEstimator):
    """A classifier of which the library knows `predict` alone."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[(np.asarray(X)[:, 0] > 0).astype(int)]


@pytest.fixture(autouse=True, scope="module")
def short_reports():
    """Short attacks and few radii, as most tests make a whole report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_measurements.ATTACKS, "square", {"n_queries": 20})
        patch.setitem(auto.__kwdefaults__, "n_queries", 50)
        patch.setitem(auto.__kwdefaults__, "n_steps", 20)
        patch.setattr(_measurements, "MULTIPLES", (0.0, 0.5, 1.0, 2.0))
        patch.setattr(_measurements, "FINER", ())
        yield


@pytest.fixture(scope="session")
def passengers():
    """A frame with categories, gaps, whole numbers and a category that is a number; labels."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.integers(1, 80, 60).astype(float),
            "fare": rng.lognormal(3, 1, 60),
            "port": rng.choice(["C", "Q", "S"], 60),
            "deck": rng.integers(0, 3, 60),
        },
        index=np.arange(60) + 1000,
    )
    score = X["age"] / 20 - np.log(X["fare"]) + (X["port"] == "Q") + X["deck"]
    y = np.where(score + rng.normal(size=60) > score.median(), "yes", "no")
    X.loc[rng.random(60) < 0.2, "age"] = np.nan
    return X, y


@pytest.fixture(scope="session")
def numbers():
    """An array of 14 samples of four features, and labels."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(14, 4)) * [1, 10, 1, 0.1]
    return X, (X[:, 0] + X[:, 1] / 10 + rng.normal(size=14) / 4 > 0).astype(int)


def columns_of_passengers():
    gaps = make_pipeline(SimpleImputer(), StandardScaler())
    return make_column_transformer((gaps, ["age", "fare"]), (OneHotEncoder(), ["port", "deck"]))


@pytest.fixture(scope="session")
def pipeline(passengers):
    """A logistic regression behind a ColumnTransformer."""
    return make_pipeline(columns_of_passengers(), LogisticRegression()).fit(*passengers)


@pytest.fixture(scope="session")
def forest_of_passengers(passengers):
    """A forest behind a ColumnTransformer."""
    forest = RandomForestClassifier(5, random_state=0)
    return make_pipeline(columns_of_passengers(), forest).fit(*passengers)


@pytest.fixture(scope="session")
def network(numbers):
    """A small network, whose searches end."""
    network = MLPClassifier((4,), max_iter=400, random_state=0, learning_rate_init=0.02)
    return make_pipeline(StandardScaler(), network).fit(*numbers)


@pytest.fixture(scope="session")
def rule(numbers):
    """A model of which nothing can be proved."""
    return Rule().fit(*numbers)


@pytest.fixture(scope="session")
def report(pipeline, passengers):
    return audit(pipeline, *passengers, epsilon={"age": 3, "fare": "0.1iqr"})


@pytest.fixture(scope="session")
def open_report(rule, numbers):
    return audit(rule, *numbers, epsilon="0.2sd", n_fragile=1)
