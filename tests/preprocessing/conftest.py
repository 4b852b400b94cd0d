"""Fixtures: scaled data in a frame, a linear model of it, and a recording classifier."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that records its data."""

    def fit(self, X, y):
        self.classes_, self.fitted_on_ = np.unique(y), X
        return self

    def predict(self, X):
        self.asked_ = X
        return np.full(len(X), self.classes_[0])


@pytest.fixture(scope="package")
def cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return StandardScaler().set_output(transform="pandas").fit_transform(X), y


@pytest.fixture(scope="package")
def model(cancer):
    return LogisticRegression(C=0.01).fit(*cancer)


@pytest.fixture
def recorder():
    return Recorder()
