"""Data and a linear pipeline that is attacked in raw units."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_adv.attacks import _own_radii
from sk_adv.attacks._table import ConfiguredAttack
from sk_adv.metrics import _deciding


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


@pytest.fixture
def few_steps(monkeypatch):
    """The effort of "auto" in verdicts and radii: little, and enough for a few columns."""
    real = _deciding.perturb
    params = {"n_steps": 8, "n_queries": 60}
    own_radii = ConfiguredAttack("auto", _own_radii.AUTO_AT_OWN_RADII.attack, params)

    def perturb(*args, attack, **options):
        if attack == "auto":
            options["attack_params"] = params
        elif not isinstance(attack, str):
            attack = own_radii
        return real(*args, attack=attack, **options)

    monkeypatch.setattr(_deciding, "perturb", perturb)
    return params


def worst_margins(model, X, y, epsilon):
    """Signed decision values at the worst case, in closed form."""
    scaler, linear = model
    sign = np.where(y == linear.classes_[1], 1, -1)
    weights = linear.coef_[0] / scaler.scale_
    return sign * model.decision_function(X) - abs(weights) @ np.broadcast_to(epsilon, X.shape[1:])
