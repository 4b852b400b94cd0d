"""The laboratory: fitted models from a cache, and the attacks that every row reports."""

import hashlib
import inspect
import os
import platform
import re
import sys
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from tqdm import tqdm

from _lab.digits import Digits, load
from sk_adv.metrics import adversarial_accuracy_score, adversarial_confidence
from sk_adv.neural_network import Checkpoint

EPSILON = 0.25
CONFIDENCE = "confidence on FGSM errors"
LIBRARIES = ("sk-adv", "numpy", "scikit-learn", "torch", "skorch")
# Parameters that do not change a model.
IRRELEVANT = ("device", "verbose")


@dataclass
class Lab:
    """The digits, models and attacks of the experiments.

    Attributes
    ----------
    cache : Path
        Folder of fitted models, one file for each.
    quick : bool
        5,000 digits, short trainings and weak attacks: does everything still run?
    device : str
        The device of networks.
    photo_model : str
        The network that row F1 shows photographs to, a name of `_lab.pretrained.NETWORKS`.
    used : dict of str to dict
        The models that were asked for, by their names in the cache: settings, digits, seconds of
        training, and the choice of a search.
    attacks : dict of str to dict
        The stronger attacks that were asked for.
    seconds_of_training : float
        Time that this laboratory itself has spent on models that were not in the cache.
    """

    cache: Path
    quick: bool = False
    device: str = "cpu"
    photo_model: str = "efficientnet-lite0"
    used: dict = field(default_factory=dict)
    attacks: dict = field(default_factory=dict)
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
        self,
        estimator: BaseEstimator,
        data: Digits,
        seed: int | None = None,
        *,
        resumable: bool = False,
    ) -> BaseEstimator:
        """The estimator fitted to the training images: from the cache, or fitted now.

        The name of a file in the cache depends on the estimator's parameters, the source of classes
        and functions that the experiments themselves define, the digits and the libraries'
        versions. It does not depend on this library's code: delete the cache when that changes. An
        estimator without the parameter `random_state` takes a `seed` of torch's generator.

        A `resumable` training of an `AdversarialNet` or an `AdversarialMaxoutClassifier` saves each
        epoch in the cache. If it is killed, the next call goes on from there.
        """
        name = type(last_step(estimator)).__name__
        key = repr((_source(type(estimator)), _parameters(estimator), data.checksum, seed, _key()))
        path = self.cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.joblib"
        if path.exists():
            model, origin = joblib.load(path)
        else:
            tqdm.write(f"training {name} on {data.name}")
            if seed is not None:
                torch.manual_seed(seed)
            checkpoint = path.with_suffix(".checkpoint")
            start = time.perf_counter()
            with warnings.catch_warnings():
                # Ctrl-C ends the experiments, and not just one training.
                warnings.filterwarnings("error", "Training was interrupted")
                model = clone(estimator)
                if resumable:
                    _save_epochs(model, checkpoint)
                model.fit(data.X_train, data.y_train)
            seconds = time.perf_counter() - start
            self.seconds_of_training += seconds
            if resumable:
                last_step(model).set_params(callbacks=last_step(estimator).callbacks)
                seconds = sum(_net_of(model).history[:, "dur"])
            self.cache.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            origin = {"seconds": round(seconds, 1), "trained on": machine(model)}
            joblib.dump((model, origin), part)
            part.replace(path)
            checkpoint.unlink(missing_ok=True)
        seed = getattr(last_step(estimator), "random_state", seed)
        self.used[path.stem] = {
            "model": describe(estimator),
            "digits": data.name,
            **({} if seed is None else {"seed": seed}),
            **({"chosen": _plain(model.best_params_)} if hasattr(model, "best_params_") else {}),
            **origin,
        }
        return model

    @property
    def pgd_params(self) -> dict:
        """PGD-40 with five restarts; a quick run takes ten steps and one."""
        steps, restarts = (10, 1) if self.quick else (40, 5)
        params = {"n_steps": steps, "n_restarts": restarts, "random_state": 0}
        self.attacks["PGD"] = {"attack": "pgd", **params}
        return params

    @property
    def pgd(self) -> dict:
        """The same as arguments of the metrics."""
        params = self.pgd_params
        seed = params.pop("random_state")
        return {"attack": "pgd", "attack_params": params, "random_state": seed}

    def figures(
        self,
        model: BaseEstimator,
        data: Digits,
        *,
        exact: bool = False,
        n_for_pgd: int | None = None,
    ) -> dict[str, float]:
        """Clean error, FGSM error and confidence; PGD beside them, clipped and not.

        Parameters
        ----------
        model : object
        data : Digits
        exact : bool, default=False
            Whether the model is linear. The worst case is then computed in place of PGD.
        n_for_pgd : int, default=None
            The number of test digits that PGD attacks, from the first on, for models with costly
        passes. None: all.
        """
        X, y = data.X_test, data.y_test

        def error(n_digits=None, **attack):
            return error_under(model, X[:n_digits], y[:n_digits], **attack)

        found = {
            "clean error": 1 - model.score(X, y),
            "FGSM error": error(),
            CONFIDENCE: adversarial_confidence(model, X, y, epsilon=EPSILON, attack="fgsm"),
            "FGSM error, clipped": error(bounds=(0, 1)),
        }
        strong = {"attack": "exact"} if exact else self.pgd
        name = "worst case" if exact else "PGD"
        found[f"{name} error"] = error(n_for_pgd, **strong)
        found[f"{name} error, clipped"] = error(n_for_pgd, bounds=(0, 1), **strong)
        return {key: float(value) for key, value in found.items()}


def _save_epochs(model, path):
    """Let a network save each epoch of its training, and go on from the last one saved."""
    network = last_step(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(path, resume=True)
    network.set_params(callbacks=[*(network.callbacks or ()), checkpoint])


def machine(model: BaseEstimator | None = None) -> str:
    """The machine, for the records of training and measuring."""
    module = getattr(_net_of(model), "module_", None)
    device = "cpu" if module is None else next(module.parameters()).device.type
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, threads: {torch.get_num_threads()}, "
        f"device: {device}"
    )


def _net_of(model):
    """The skorch net of a fitted network; any other model's last step."""
    network = last_step(model)
    return getattr(network, "net_", network)


def last_step(model: BaseEstimator) -> BaseEstimator:
    """The last step of a pipeline; any other model itself."""
    return model[-1] if isinstance(model, Pipeline) else model


def error_under(model, X, y, *, epsilon: float = EPSILON, **attack) -> float:
    """The error of a model under an attack, by default FGSM."""
    attack = {"attack": "fgsm"} | attack
    return float(1 - adversarial_accuracy_score(model, X, y, epsilon=epsilon, **attack))


def versions() -> dict[str, str]:
    """The libraries that figures depend on."""
    return {name: version(name) for name in LIBRARIES}


def _key():
    """The versions without their build tags, so that models trained elsewhere count."""
    return [number.partition("+")[0] for number in versions().values()]


def describe(estimator: BaseEstimator) -> str:
    """The estimator's constructor call: parameters that differ from the defaults, but no seed."""
    if isinstance(estimator, Pipeline):
        return f"make_pipeline({', '.join(describe(step) for _, step in estimator.steps)})"
    defaults = {}
    for base in reversed(type(estimator).__mro__):
        signature = inspect.signature(base.__init__).parameters.values()
        defaults |= {parameter.name: repr(parameter.default) for parameter in signature}
    changed = [
        f"{name}={_shown(value)}"
        for name, value in estimator.get_params(deep=False).items()
        if name not in (*IRRELEVANT, "random_state")
        and not name.startswith("_")
        and repr(value) != defaults.get(name)
    ]
    return f"{type(estimator).__name__}({', '.join(changed)})"


def _parameters(estimator):
    """All parameters as text in a fixed order."""
    if isinstance(estimator, Pipeline):
        return [(_source(type(step)), _parameters(step)) for _, step in estimator.steps]
    return sorted(
        (name, _text(value), _source(value))
        for name, value in estimator.get_params().items()
        if name not in IRRELEVANT and not name.startswith("_")
    )


def _shown(value):
    """A parameter on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, np.ndarray):
        return f"[{', '.join(f'{entry:.3g}' for entry in value)}]"
    return _text(value)


def _text(value):
    if isinstance(value, BaseEstimator | Callback):
        return describe(value)
    if isinstance(value, torch.nn.Module):
        return type(value).__name__
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    # An address in memory differs between runs.
    return getattr(value, "__qualname__", None) or re.sub(" at 0x[0-9a-f]+", "", repr(value))


def _source(value):
    """The code of a function, a class or a value's class that the experiments define."""
    if isinstance(value, list):
        return [_source(entry) for entry in value]
    kind = value if inspect.isclass(value) else type(value)
    code = value if inspect.isfunction(value) else kind
    path = getattr(sys.modules[code.__module__], "__file__", None)
    is_own = path is not None and Path(__file__).parents[1] in Path(path).parents
    return inspect.getsource(code) if is_own else kind.__qualname__


def _plain(params):
    """Parameters as Python's own numbers."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
    }
