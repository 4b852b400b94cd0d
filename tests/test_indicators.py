import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
)
from sk_adv._indicators import indicator_groups


def one_hot(rng, n, k):
    return np.eye(k)[np.concatenate([np.arange(k), rng.integers(k, size=n - k)])]


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize("n", [12, 300])
def test_groups_are_found_among_columns_of_all_kinds(kind, n):
    rng = np.random.default_rng(n)
    binary = rng.integers(2, size=(n, 4))
    parts = [rng.normal(size=(n, 2)), one_hot(rng, n, 3), binary, np.ones((n, 1))]
    parts += [np.zeros((n, 1)), one_hot(rng, n, 2), one_hot(rng, n, 5), 2 * one_hot(rng, n, 3)]
    X = np.hstack(parts)
    assert indicator_groups(kind(X)) == [[2, 3, 4], [11, 12], [13, 14, 15, 16, 17]]


def test_a_category_that_the_first_rows_lack_belongs_to_its_group():
    labels = np.concatenate([np.zeros(70), np.ones(70), [2, 3]]).astype(int)
    X = np.eye(4)[labels]
    assert indicator_groups(X) == [[0, 1, 2, 3]]
    X[-2, 0] = 1
    assert indicator_groups(X) == []


def test_groups_agree_with_a_search_over_all_runs_of_columns():
    rng = np.random.default_rng(0)
    for _ in range(200):
        parts = [
            one_hot(rng, 12, rng.integers(2, 4))
            if rng.random() < 0.4
            else rng.choice([[0, 1], [0, 2]][rng.integers(2)], size=(12, 1))
            for _ in range(5)
        ]
        X = np.hstack(parts)
        n = X.shape[1]
        mixed = ((X == 0) | (X == 1)).all(0) & (X.min(0) != X.max(0))
        expected = [
            list(range(a, b))
            for a in range(n)
            for b in range(a + 2, n + 1)
            if mixed[a:b].all() and (X[:, a:b].sum(1) == 1).all()
        ]
        assert indicator_groups(X) == expected


def test_pixels_and_words_are_no_groups():
    rng = np.random.default_rng(0)
    digits = load_digits().data > 8
    words = sparse.random(500, 4000, density=0.01, random_state=0, format="csr")
    words.data[:] = 1
    for X in (digits.astype(float), words, (rng.random((200, 300)) < 0.5).astype(float)):
        assert indicator_groups(X) == []


ESTIMATORS = [
    AdversarialLogisticRegression(C=1.0),
    AdversarialMaxoutClassifier((4,), max_iter=1),
    FGSMTransformer(AdversarialLogisticRegression(C=1.0, epsilon=[0.1, 0, 0, 0])),
    FGSMSampler(AdversarialLogisticRegression(C=1.0, epsilon=[0.1, 0, 0, 0])),
]


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.hstack([rng.normal(size=(60, 1)), one_hot(rng, 60, 3)]))
    return X.set_axis(["age", "C", "Q", "S"], axis=1), (X[0] + X[1] > 0.5).astype(int)


def call(estimator, X, y):
    method = "fit_resample" if hasattr(estimator, "fit_resample") else "fit"
    return getattr(estimator, method)(X, y)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_one_radius_for_one_hot_columns_is_warned_of_once(estimator, frame):
    X, y = frame
    with pytest.warns(UserWarning, match="one-hot columns") as caught:
        call(estimator.set_params(epsilon=0.1), X, y)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "['C', 'Q', 'S'] are moved too by epsilon=0.1" in text and "RawUnitsPipeline" in text
    assert caught[0].filename == __file__


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("epsilon", [0.0, [0.1, 0, 0, 0], {"age": 0.1}])
@pytest.mark.filterwarnings("error:The one-hot columns")
def test_radii_by_column_are_not_warned_of(estimator, epsilon, frame):
    call(estimator.set_params(epsilon=epsilon), *frame)
