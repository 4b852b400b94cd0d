"""The demo's work: digits, models trained plainly and adversarially, and attacks on them."""

import time
import warnings
from dataclasses import dataclass

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.fixes import parse_version
from skorch.callbacks import LRScheduler
from torch import nn

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.datasets import load_mnist_sample
from sk_adv.metrics import (
    adversarial_accuracy_score,
    certified_accuracy_score,
    make_adversarial_scorer,
)
from sk_adv.metrics._reports import error_and_confidence
from sk_adv.neural_network import AdversarialNet

# scikit-learn 1.8 renamed penalty="l1".
L1 = (
    {"l1_ratio": 1.0}
    if parse_version(sklearn.__version__) >= parse_version("1.8")
    else {"penalty": "l1"}
)


@dataclass(frozen=True)
class Settings:
    """All settings of the demo; the defaults take less than two minutes on two cores."""

    seed: int = 0
    n_per_class: int = 500
    test_size: float = 0.2
    # The attack of the table, on pixels from 0 to 1.
    epsilon: float = 0.25
    pgd_steps: int = 40
    # The grids of the linear models.
    n_folds: int = 5
    Cs: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    epsilons: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25)
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5)
    # The networks are measured on so many test digits.
    n_measured: int = 300
    # The maxout networks.
    hidden_layer_sizes: tuple[int, ...] = (240, 240)
    n_pieces: int = 2
    hidden_dropout: float = 0.2
    max_iter: int = 30
    # The networks that hold: a clamp of the pixels to [clamp, 1 - clamp] before rectified units.
    clamp: float = 0.3
    n_units: int = 200
    n_epochs: int = 30
    box_share: float = 0.6
    # The curves of the networks; PGD takes most of their time.
    curve_epsilons: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    n_curve_digits: int = 200


@dataclass(frozen=True)
class Digits:
    """Training and test digits of one task."""

    name: str
    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray

    def only(self, name: str, classes: tuple[int, ...]) -> "Digits":
        """The digits of some classes."""
        train, test = np.isin(self.y_train, classes), np.isin(self.y_test, classes)
        return Digits(
            name, self.X_train[train], self.X_test[test], self.y_train[train], self.y_test[test]
        )


@dataclass(frozen=True)
class Model:
    """A fitted model with its digits, its training time and its chosen parameters."""

    name: str
    digits: Digits
    estimator: BaseEstimator
    seconds: float
    chosen: str


@dataclass(frozen=True)
class Result:
    """A model's row of the table; errors and confidence are shares from 0 to 1.

    The confidence is NaN if there is no error. `uncertified` is the share of digits of which no
    proof says that they stay right.
    """

    clean_error: float
    fgsm_error: float
    confidence: float
    pgd_error: float
    strongest_error: float
    uncertified: float


# Data


def load_digits(settings: Settings) -> Digits:
    """Split the first `n_per_class` digits of each class into training and test."""
    sample = load_mnist_sample()
    rows = np.concatenate(
        [np.flatnonzero(sample.target == digit)[: settings.n_per_class] for digit in range(10)]
    )
    X_train, X_test, y_train, y_test = train_test_split(
        sample.data[rows],
        sample.target[rows],
        test_size=settings.test_size,
        stratify=sample.target[rows],
        random_state=settings.seed,
    )
    return Digits("Ten classes", X_train, X_test, y_train, y_test)


# (a) 3 versus 7


def pipeline(classifier: BaseEstimator) -> Pipeline:
    """Put a scaler before the classifier; attacks go through it, in units of raw pixels."""
    return Pipeline([("scale", MinMaxScaler()), ("classify", classifier)])


def fit_logistic_regression(digits: Digits) -> Model:
    """Fit logistic regression with scikit-learn's defaults."""
    estimator = pipeline(LogisticRegression(max_iter=1000))
    started = time.perf_counter()
    estimator.fit(digits.X_train, digits.y_train)
    seconds = time.perf_counter() - started
    return Model("Logistic regression", digits, estimator, seconds, "C=1 (L2), not tuned")


def tune_l1(digits: Digits, settings: Settings) -> Model:
    """Choose the strength of an L1 penalty by the accuracy under attack."""
    classifier = LogisticRegression(**L1, solver="liblinear", random_state=settings.seed)
    search = search_under_attack(classifier, {"classify__C": settings.Cs}, digits, settings)
    chosen = f"C={search.best_params_['classify__C']:g}"
    return Model(
        "L1 logistic regression, tuned", digits, search.best_estimator_, search.refit_time_, chosen
    )


def tune_adversarial(digits: Digits, settings: Settings) -> Model:
    """Choose the training radius and the weight of the clean loss by the accuracy under attack."""
    grid = {"classify__epsilon": settings.epsilons, "classify__alpha": settings.alphas}
    search = search_under_attack(AdversarialLogisticRegression(), grid, digits, settings)
    best = search.best_params_
    chosen = f"epsilon={best['classify__epsilon']:g}, alpha={best['classify__alpha']:g}"
    return Model(
        "Adversarial logistic regression, tuned",
        digits,
        search.best_estimator_,
        search.refit_time_,
        chosen,
    )


def search_under_attack(
    classifier: BaseEstimator, grid: dict, digits: Digits, settings: Settings
) -> GridSearchCV:
    """Search a grid by cross-validation; FGSM is exact here, so this scores robust accuracy."""
    search = GridSearchCV(
        pipeline(classifier),
        grid,
        scoring=make_adversarial_scorer(epsilon=settings.epsilon, attack="fgsm"),
        cv=StratifiedKFold(settings.n_folds, shuffle=True, random_state=settings.seed),
    )
    return search.fit(digits.X_train, digits.y_train)


# (b) Ten classes


def train_network(name: str, digits: Digits, alpha: float, settings: Settings) -> Model:
    """Train a maxout network; alpha = 1 makes no adversarial copies."""
    network = AdversarialMaxoutClassifier(
        settings.hidden_layer_sizes,
        settings.n_pieces,
        epsilon=settings.epsilon,
        alpha=alpha,
        hidden_dropout=settings.hidden_dropout,
        max_iter=settings.max_iter,
        random_state=settings.seed,
    )
    return fitted(name, digits, network, f"alpha={alpha:g}")


def train_against_attacks(digits: Digits, settings: Settings) -> Model:
    """Train a network on copies by single steps from random starts alone."""
    network = clamped_network(settings, alpha=0.0, attack="fgsm_rs")
    return fitted("Trained to resist attacks", digits, network, "fgsm_rs, alpha=0")


def train_for_certificates(digits: Digits, settings: Settings) -> Model:
    """Train a network on the worst case by intervals, in small boxes around such copies."""
    network = clamped_network(
        settings,
        alpha=0.2,
        attack="fgsm_rs",
        robust_loss="certified",
        box_share=settings.box_share,
        initialization="interval",
    )
    chosen = f"certified, box_share={settings.box_share:g}, alpha=0.2"
    return fitted("Trained for certificates", digits, network, chosen)


def clamped_network(settings: Settings, **params) -> AdversarialNet:
    """Make a net of two layers of rectified units behind a clamp of the pixels."""
    cosine = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=settings.n_epochs)
    torch.manual_seed(settings.seed)
    return AdversarialNet(
        nn.Sequential(
            nn.Hardtanh(settings.clamp, 1 - settings.clamp),
            nn.Linear(784, settings.n_units),
            nn.ReLU(),
            nn.Linear(settings.n_units, settings.n_units),
            nn.ReLU(),
            nn.Linear(settings.n_units, 10),
        ),
        epsilon=settings.epsilon,
        optimizer=torch.optim.Adam,
        lr=0.003,
        batch_size=100,
        iterator_train__shuffle=True,
        train_split=None,
        max_epochs=settings.n_epochs,
        callbacks=[("cosine", cosine)],
        callbacks__print_log=None,
        verbose=0,
        **params,
    )


def fitted(name: str, digits: Digits, network: BaseEstimator, chosen: str) -> Model:
    """Fit a network and note the time."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The table shows what the guard of the training warns of.
        warnings.filterwarnings("ignore", "Catastrophic overfitting", ConvergenceWarning)
        network.fit(digits.X_train, digits.y_train)
    return Model(name, digits, network, time.perf_counter() - started, chosen)


# Attacks


def measure(model: Model, settings: Settings) -> Result:
    """Errors on test digits: clean, after attacks of growing strength, and what is not proved."""
    rows = slice(settings.n_measured)
    estimator, X, y = model.estimator, model.digits.X_test[rows], model.digits.y_test[rows]
    copies = perturb(estimator, X, y, epsilon=settings.epsilon, attack="fgsm")
    fgsm_error, confidence = error_and_confidence(estimator, copies, y)
    after_pgd, after_strongest = (
        adversarial_accuracy_score(
            estimator,
            X,
            y,
            epsilon=settings.epsilon,
            attack=attack,
            attack_params=params,
            random_state=settings.seed,
        )
        for attack, params in (("pgd", pgd_params(settings)), ("auto", None))
    )
    return Result(
        clean_error=1 - estimator.score(X, y),
        fgsm_error=fgsm_error,
        confidence=confidence,
        pgd_error=1 - after_pgd,
        strongest_error=1 - after_strongest,
        uncertified=1 - certified_accuracy_score(estimator, X, y, epsilon=settings.epsilon),
    )


def pgd_params(settings: Settings) -> dict:
    """The parameters of PGD besides the radius."""
    return {"n_steps": settings.pgd_steps}
