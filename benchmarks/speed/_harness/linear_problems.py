"""Two-class and ten-class problems for the linear models, all in float64."""

import numpy as np
from scipy import sparse

from sk_adv.datasets import fetch_mnist, load_mnist_sample


def mnist(quick: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST as (X_train, y_train, X_test, y_test); quick: 2,500 digits for each part."""
    if quick:
        digits = load_mnist_sample()
        # The sample is sorted by class.
        train, test = np.split(np.random.default_rng(0).permutation(len(digits.target)), 2)
    else:
        digits = fetch_mnist()
        train, test = np.flatnonzero(digits.is_train), np.flatnonzero(~digits.is_train)
    X, y = digits.data.astype(np.float64), digits.target
    return X[train], y[train], X[test], y[test]


def mnist_3_vs_7(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """The training images of 3 and 7: 12,396 rows; quick: about 500."""
    X, y, _, _ = mnist(quick)
    chosen = (y == 3) | (y == 7)
    return X[chosen], y[chosen]


def dense_problem(n_samples: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal features; the label depends on the first 50."""
    rng = np.random.default_rng(0)
    X = np.empty((n_samples, n_features))
    rng.standard_normal(out=X)
    weights = rng.uniform(0.5, 1.5, 50) * rng.choice([-1, 1], 50)
    return X, _noisy_labels(X[:, :50] @ weights, rng)


def sparse_problem(n_samples: int, n_features: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """100 normal entries per row of a CSR matrix; the label depends on one feature in fifty."""
    rng = np.random.default_rng(0)
    per_row, informative = 100, n_features // 50
    # One entry in each of 100 strata of columns: sorted, and none twice.
    width = n_features // per_row
    columns = rng.integers(width, size=(n_samples, per_row), dtype=np.int32)
    columns += width * np.arange(per_row, dtype=np.int32)
    starts = np.arange(0, n_samples * per_row + 1, per_row, dtype=np.int32)
    entries = rng.standard_normal(n_samples * per_row)
    X = sparse.csr_matrix((entries, columns.ravel(), starts), shape=(n_samples, n_features))
    weights = np.zeros(n_features)
    weights[rng.choice(n_features, informative, replace=False)] = rng.uniform(
        0.5, 1.5, informative
    ) * rng.choice([-1, 1], informative)
    return X, _noisy_labels(X @ weights, rng)


def _noisy_labels(signal, rng):
    """Labels -1 and +1 of a noisy linear model, so that the classes overlap."""
    return np.where(signal / signal.std() + 0.5 * rng.logistic(size=len(signal)) > 0, 1, -1)
