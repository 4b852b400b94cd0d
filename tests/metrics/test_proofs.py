"""Bounds and searches of networks of every kind, against attacks and random points."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from torch import nn

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.metrics import adversarial_report, certified_accuracy_score, verify_robustness
from sk_adv.neural_network import AdversarialNet, Maxout

# Models of each kind and norm. SK_ADV_SEEDS=20 makes 220 models, each in both norms.
N_SEEDS = int(os.environ.get("SK_ADV_SEEDS", "1"))
METHODS = ("interval", "crown", "alpha-crown", "exact")


def mlp(seed, **params):
    return MLPClassifier((8, 6), max_iter=60, learning_rate_init=0.02, random_state=seed, **params)


def net(seed, *layers):
    torch.manual_seed(seed)
    module = nn.Sequential(*layers)
    return AdversarialNet(module, epsilon=0.1, max_epochs=8, lr=0.1, verbose=0)


MODELS = {
    "relu": lambda seed: mlp(seed),
    "tanh": lambda seed: mlp(seed, activation="tanh"),
    "sigmoid": lambda seed: mlp(seed, activation="logistic"),
    "identity": lambda seed: mlp(seed, activation="identity"),
    "scaled": lambda seed: make_pipeline(StandardScaler(), PCA(4), mlp(seed)),
    "clipped": lambda seed: make_pipeline(MinMaxScaler(clip=True), mlp(seed)),
    "imputed": lambda seed: make_pipeline(SimpleImputer(add_indicator=True), mlp(seed)),
    "columns": lambda seed: make_pipeline(
        make_column_transformer((OneHotEncoder(), ["c"]), (StandardScaler(), [0, 1, 2, 3, 4])),
        mlp(seed),
    ),
    "maxout": lambda seed: make_pipeline(
        StandardScaler(),
        AdversarialMaxoutClassifier((6, 5), 3, epsilon=0.1, max_iter=15, random_state=seed),
    ),
    "net": lambda seed: net(
        seed, nn.Linear(5, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.1), nn.Dropout(0.1),
        Maxout(8, 4, 2), nn.Linear(4, 3), nn.LogSoftmax(1),
    ),
    "images": lambda seed: net(
        seed, nn.Conv1d(1, 3, 2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 3)
    ),
}  # fmt: skip


def case(kind, seed):
    """A fitted model, and samples, of two classes or three."""
    n_classes = 3 if kind in ("net", "images") else 2 + seed % 2
    X, y = make_classification(
        140, 5, n_informative=4, n_redundant=0, n_classes=n_classes, random_state=seed
    )
    free = np.ones(5, dtype=bool)
    if kind in ("net", "images"):
        X = X.astype(np.float32)
    if kind == "images":
        X = X[:, None]
    if kind == "imputed":
        X[np.random.default_rng(seed).random(X.shape) < 0.05] = np.nan
    if kind == "columns":
        X = pd.DataFrame(X)
        X.columns = X.columns.astype(str)
        X["c"] = np.where(y > 0, "a", "b")
        X.loc[::3, "c"] = "a"
    model = MODELS[kind](seed)
    if kind == "columns":
        model = make_pipeline(
            make_column_transformer((OneHotEncoder(), ["c"]), (StandardScaler(), list("01234"))),
            mlp(seed),
        )
    return model.fit(X[:100], y[:100]), X[100:], y[100:], free


def random_points(X, radii, norm, rng):
    """One random point of each sample's set."""
    if isinstance(X, pd.DataFrame):
        moved = X.copy()
        numbers = X.iloc[:, :5].to_numpy()
        moved.iloc[:, :5] = random_points(numbers, radii, norm, rng)
        return moved
    steps = rng.uniform(-1, 1, X.shape)
    if norm == np.inf:
        steps = np.where(rng.random(X.shape) < 0.7, np.sign(steps), steps)
    else:
        steps = rng.normal(size=X.shape)
        steps /= np.linalg.norm(steps.reshape(len(X), -1), axis=1).reshape(-1, *[1] * (X.ndim - 1))
    return (X + 0.999 * steps * radii).astype(X.dtype)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_no_attack_and_no_point_breaks_a_proof_and_each_method_proves_more(kind, norm):
    for seed in range(N_SEEDS):
        model, X, y, _ = case(kind, seed)
        radius = [0.05, 0.15, 0.4][(seed + len(kind)) % 3]
        radii = radius * np.array([1.0, 0.5, 1.0, 0.0, 1.0])
        epsilon = dict(zip("01234", radii, strict=True)) if kind == "columns" else radii
        if kind == "images":
            epsilon = radii[None]
        options = {"epsilon": epsilon, "norm": norm}
        search = {"time_limit": 2}
        shares = [
            certified_accuracy_score(model, X, y, method=method, **options, **search)
            for method in METHODS
        ]
        assert shares == sorted(shares)
        verdict = verify_robustness(model, X, y, random_state=0, **options, **search)
        assert shares[2] - 0.05 <= verdict.lower <= verdict.upper <= model.score(X, y)
        if kind in ("relu", "scaled", "clipped", "columns", "maxout", "net") and norm == np.inf:
            # An imputer's missing values stay, and its programs are as small.
            assert "unknown" not in verdict.status
            assert shares[3] == verdict.lower

        verified = verdict.status == "verified"
        for attack, params in [("pgd", {"n_steps": 20, "n_restarts": 2}), ("fgsm", {})]:
            copies = perturb(
                model, X, y, attack=attack, attack_params=params, random_state=0, **options
            )
            assert (model.predict(copies) == y)[verified].all()
        rng = np.random.default_rng(seed)
        for _ in range(1000 if N_SEEDS > 1 else 50):
            points = random_points(X, radii, norm, rng)
            assert (model.predict(points) == y)[verified].all()
        wrong = verdict.status == "falsified"
        if wrong.any():
            copies = verdict.counterexamples
            copies = copies[wrong] if not isinstance(copies, pd.DataFrame) else copies.loc[wrong]
            assert (model.predict(copies) != y[wrong]).all()


def test_relaxations_prove_most_of_what_intervals_do_not():
    X, y = load_breast_cancer(return_X_y=True)
    deep = MLPClassifier((20, 20), max_iter=100, random_state=0)
    model = make_pipeline(StandardScaler(), deep).fit(X[::2], y[::2])
    options = {"epsilon": 0.2 * X.std(axis=0)}
    found = [
        certified_accuracy_score(model, X[1::2], y[1::2], method=method, **options)
        for method in ("interval", "auto")
    ]
    assert found[0] + 0.1 < found[1]
    report = adversarial_report(model, X[1::2], y[1::2], epsilons=[0.2], scale=X.std(axis=0))
    assert report["certified_error"].iloc[-1] == pytest.approx(1 - found[1])


def test_an_unknown_method_is_refused():
    model, X, y, _ = case("relu", 0)
    with pytest.raises(ValueError, match="auto, interval, crown, alpha-crown, exact; got 'milp'"):
        certified_accuracy_score(model, X, y, epsilon=0.1, method="milp")
