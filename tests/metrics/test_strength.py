"""The order of certificates, multi-step and single-step attacks, on many fitted models."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.metrics import certified_accuracy_score

MAXOUT = {"hidden_layer_sizes": (10,), "n_pieces": 2, "max_iter": 15, "random_state": 0}
PERCEPTRON = {"hidden_layer_sizes": (10,), "max_iter": 30, "tol": 0.1, "random_state": 0}
LINEAR = {
    "logistic": LogisticRegression(),
    "weak penalty": LogisticRegression(C=1e4, max_iter=1000),
    "support vectors": LinearSVC(),
    "ridge": RidgeClassifier(),
    "discriminant": LinearDiscriminantAnalysis(),
    "perceptron": Perceptron(),
    "adversarial": AdversarialLogisticRegression(epsilon=0.2),
    "components": make_pipeline(PCA(3), LogisticRegression()),
}
NETWORKS = {
    "relu": MLPClassifier(**PERCEPTRON, learning_rate_init=0.02),
    "tanh": MLPClassifier(**PERCEPTRON, learning_rate_init=0.02, activation="tanh"),
    "maxout": AdversarialMaxoutClassifier(**MAXOUT, alpha=1, learning_rate_init=0.02),
    "adversarial maxout": AdversarialMaxoutClassifier(
        **MAXOUT, epsilon=0.2, learning_rate_init=0.02
    ),
    "clamped maxout": make_pipeline(
        MinMaxScaler(clip=True),
        AdversarialMaxoutClassifier(**MAXOUT, epsilon=0.05, learning_rate_init=0.02),
    ),
}
MODELS = {**LINEAR, **NETWORKS}
DATA = {"two classes": load_breast_cancer, "three classes": load_iris}
SHARES = (0.05, 0.2)  # of the features' standard deviations
N_TESTS = len(MODELS) * len(DATA) * len(SHARES) * 2


PGD = {"attack": "pgd", "attack_params": {"n_steps": 20}, "random_state": 0}


def is_right(model, X, y, **attack):
    return model.predict(perturb(model, X, y, **attack)) == y


def is_right_around(model, X, y, epsilon, norm, n_steps=32):
    """Whether many corners, or points on the sphere, of the set are all classified as y."""
    rng = np.random.default_rng(0)
    if X.shape[1] == 4 and norm == np.inf:
        steps = np.array(list(itertools.product([-1, 1], repeat=4)))
    elif norm == np.inf:
        steps = rng.choice([-1, 1], (n_steps, X.shape[1]))
    else:
        steps = rng.normal(size=(n_steps, X.shape[1]))
        steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    # Rounding must not move a copy out of the set.
    return np.all([model.predict(X + (1 - 1e-9) * epsilon * step) == y for step in steps], axis=0)


def test_there_are_twenty_models():
    assert len(MODELS) * len(DATA) >= 20


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_certified_accuracy_is_below_that_under_pgd_and_that_below_fgsm(name, data):
    X, y = DATA[data](return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:100]
    X, y = X[rows], y[rows]
    model = make_pipeline(StandardScaler(), clone(MODELS[name])).fit(X, y)
    for norm, share in itertools.product((np.inf, 2), SHARES):
        # The length of a max-norm step on a quarter of the features.
        epsilon = share * X.std(axis=0) * (1 if norm == np.inf else (X.shape[1] / 4) ** 0.5)
        options = {"epsilon": epsilon, "norm": norm}
        certified = certified_accuracy_score(model, X, y, **options)
        one_step = is_right(model, X, y, attack="fgsm", **options)
        many_steps = is_right(model, X, y, **options, **PGD)
        assert certified <= many_steps.mean()

        # A sample is right if it withstands all attacks.
        right = one_step & many_steps & is_right_around(model, X, y, epsilon, norm)
        if name in LINEAR:
            right &= is_right(model, X, y, attack="exact", **options)
            assert certified == pytest.approx(right.mean(), abs=1e-12)
        assert certified <= right.mean()
        if name in NETWORKS and share == min(SHARES):
            assert certified > 0.5

        # If PGD is at least as strong as FGSM, then FGSM alone fools at most half of the samples
        # that only one of them fools, up to chance: a sign test at 1 %, divided among all tests.
        fgsm_only = int((many_steps & ~one_step).sum())
        either = int((many_steps != one_step).sum())
        if either:
            assert binomtest(fgsm_only, either, alternative="greater").pvalue > 0.01 / N_TESTS
