"""The laboratory: fitted models out of a cache, and the attacks that every row reports."""

import hashlib
import inspect
import time
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from skorch.callbacks import Callback

from _lab.digits import Digits, load
from sk_adv.metrics import adversarial_accuracy_score, adversarial_confidence

EPSILON = 0.25
LIBRARIES = ("sk-adv", "numpy", "scikit-learn", "torch", "skorch")
# Parameters that do not change a model.
IRRELEVANT = ("device", "verbose")


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
    used : dict of str to dict
        The models that were asked for, by their names in the cache: settings, digits, seconds of
        training, and what a search has chosen.
    seconds_of_training : float
        That this laboratory itself has spent on what was not in the cache.
    """

    cache: Path
    quick: bool = False
    device: str = "auto"
    used: dict = field(default_factory=dict)
    seconds_of_training: float = 0.0

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
        name = type(estimator).__name__
        key = repr((name, _parameters(estimator), data.name, seed, versions()))
        path = self.cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.joblib"
        if path.exists():
            model, seconds = joblib.load(path)
        else:
            if seed is not None:
                torch.manual_seed(seed)
            start = time.perf_counter()
            model = clone(estimator).fit(data.X_train, data.y_train)
            seconds = time.perf_counter() - start
            self.seconds_of_training += seconds
            self.cache.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            joblib.dump((model, seconds), part)
            part.replace(path)
        seed = getattr(estimator, "random_state", seed)
        self.used[path.stem] = {
            "model": describe(estimator),
            "digits": data.name,
            **({} if seed is None else {"seed": seed}),
            **({"chosen": _plain(model.best_params_)} if hasattr(model, "best_params_") else {}),
            "seconds": round(seconds, 1),
        }
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


def describe(estimator: BaseEstimator) -> str:
    """The estimator as it would be written, with what differs from the defaults, but no seed."""
    signature = inspect.signature(type(estimator).__init__).parameters
    changed = [
        f"{name}={_text(value)}"
        for name, value in estimator.get_params(deep=False).items()
        if name not in (*IRRELEVANT, "random_state")
        and (name not in signature or repr(value) != repr(signature[name].default))
    ]
    return f"{type(estimator).__name__}({', '.join(changed)})"


def _parameters(estimator):
    """All parameters as text, modules and functions by name, in a fixed order."""
    return sorted(
        (name, _text(value))
        for name, value in estimator.get_params().items()
        if name not in IRRELEVANT
    )


def _text(value):
    if isinstance(value, BaseEstimator | Callback):
        return describe(value)
    if isinstance(value, torch.nn.Module):
        return type(value).__name__
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return getattr(value, "__qualname__", None) or repr(value)


def _plain(params):
    """Parameters as Python's own numbers."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
    }
