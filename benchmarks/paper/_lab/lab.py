"""The laboratory: fitted models out of a cache, and the attacks that every row reports."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import joblib
import torch
from sklearn.base import BaseEstimator, clone

from _lab.digits import Digits, load
from sk_adv.metrics import adversarial_accuracy_score, adversarial_confidence

EPSILON = 0.25
LIBRARIES = ("sk-adv", "numpy", "scikit-learn", "torch", "skorch")


@dataclass
class Lab:
    """Where experiments get their digits and models, and how hard they attack.

    Attributes
    ----------
    cache : Path
        Folder of fitted models, one file for each.
    quick : bool
        5,000 digits, short trainings and weak attacks: does everything still run?
    device : str
        Of networks.
    """

    cache: Path
    quick: bool = False
    device: str = "auto"

    @cached_property
    def digits(self) -> Digits:
        """All ten classes."""
        return load(self.quick)

    @cached_property
    def threes_and_sevens(self) -> Digits:
        """3 versus 7."""
        return self.digits.only(3, 7)

    def fitted(
        self, estimator: BaseEstimator, data: Digits, seed: int | None = None
    ) -> BaseEstimator:
        """The estimator fitted to the training images: from the cache, or fitted now.

        The cache is asked by the estimator's parameters, the digits and the libraries' versions;
        a change of any of them makes another file. What has no parameter `random_state` takes a
        `seed` of torch's generator.
        """
        key = [type(estimator).__name__, _settings(estimator), data.name, versions()]
        text = repr((*key, seed) if seed is not None else tuple(key))
        name = type(estimator).__name__
        path = self.cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.joblib"
        if path.exists():
            return joblib.load(path)
        if seed is not None:
            torch.manual_seed(seed)
        model = clone(estimator).fit(data.X_train, data.y_train)
        self.cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        joblib.dump(model, part)
        part.replace(path)
        return model

    @property
    def pgd(self) -> dict:
        """PGD-40 with five restarts; a quick run takes ten steps and one."""
        steps, restarts = (10, 1) if self.quick else (40, 5)
        return {"attack": "pgd", "n_steps": steps, "n_restarts": restarts, "random_state": 0}

    def figures(
        self, model: BaseEstimator, data: Digits, *, exact: bool = False
    ) -> dict[str, float]:
        """Clean error, FGSM error and confidence; PGD beside them, clipped and not.

        Parameters
        ----------
        model : object
        data : Digits
        exact : bool, default=False
            Whether the model is linear, so that the worst case can be computed: it then takes the
            place of PGD.
        """
        X, y = data.X_test, data.y_test

        def error(**attack):
            return 1 - adversarial_accuracy_score(model, X, y, epsilon=EPSILON, **attack)

        found = {
            "clean error": 1 - model.score(X, y),
            "FGSM error": error(),
            "confidence on FGSM errors": adversarial_confidence(model, X, y, epsilon=EPSILON),
            "FGSM error, clipped": error(bounds=(0, 1)),
        }
        strong = {"attack": "exact"} if exact else self.pgd
        name = "worst case" if exact else "PGD"
        found[f"{name} error"] = error(**strong)
        found[f"{name} error, clipped"] = error(bounds=(0, 1), **strong)
        return {key: float(value) for key, value in found.items()}


def versions() -> dict[str, str]:
    """The libraries that figures depend on."""
    return {name: version(name) for name in LIBRARIES}


def _settings(estimator):
    """Parameters as text, modules and functions by name, in a fixed order."""
    params = estimator.get_params()
    return sorted((name, _text(value)) for name, value in params.items() if name != "device")


def _text(value):
    if isinstance(value, BaseEstimator | torch.nn.Module):
        return type(value).__name__
    return getattr(value, "__qualname__", None) or repr(value)
