"""Data and a linear pipeline that is attacked in raw units."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="package")
def cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y.map({0: "malignant", 1: "benign"})


@pytest.fixture(scope="package")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="package")
def model(cancer):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*cancer)


@pytest.fixture(scope="package")
def margins():
    """A function that computes the worst-case margins of a scaled linear model with two classes."""
    return worst_margins


def worst_margins(model, X, y, epsilon):
    """Signed decision values at the worst case, in closed form."""
    scaler, linear = model
    sign = np.where(y == linear.classes_[1], 1, -1)
    weights = linear.coef_[0] / scaler.scale_
    return sign * model.decision_function(X) - abs(weights) @ np.broadcast_to(epsilon, X.shape[1:])
