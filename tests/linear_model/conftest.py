"""Problems for the tests of linear models."""

import numpy as np
import pytest
from sklearn.datasets import make_classification


@pytest.fixture
def problem():
    """A function that draws data."""
    return draw_problem


def draw_problem(n_samples=60, n_features=8, n_classes=2, seed=0):
    """Overlapping classes, labels as words, uneven weights."""
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=n_features - 2,
        n_classes=n_classes,
        flip_y=0.3,
        class_sep=0.3,
        random_state=seed,
    )
    weight = np.random.default_rng(seed).uniform(0.2, 2.0, size=n_samples)
    return X, np.array(["ant", "bee", "cat", "dog"])[y], weight
