"""Fixtures for the tests of the displays."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def binary():
    """A logistic regression on 16 scaled features, and its data, with strings as labels."""
    X, y = make_classification(
        n_samples=60, n_features=16, n_informative=6, flip_y=0.1, random_state=0
    )
    y = np.array(["no", "yes"])[y]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, y)
    return model, X, y


@pytest.fixture(scope="session")
def raw_weights():
    """A function that returns w and b of a scaled linear model in the units of raw X."""

    def of(model):
        scaler, linear = model
        weights = linear.coef_[0] / scaler.scale_
        return weights, linear.intercept_[0] - weights @ scaler.mean_

    return of


@pytest.fixture(scope="session")
def iris():
    """A logistic regression on the three classes of iris, and its data, with strings as labels."""
    bunch = load_iris()
    X, y = bunch.data, bunch.target_names[bunch.target]
    return LogisticRegression(max_iter=1000).fit(X, y), X, y
