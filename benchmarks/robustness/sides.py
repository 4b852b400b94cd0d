"""The attacks that `strongest_attack.py` compares, as functions from clean samples to copies."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import art.attacks.evasion
import foolbox
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from pairs import BOUNDS
from pyautoattack import AutoAttack
from torch import nn

from sk_adv import as_module
from sk_adv._devices import module_device_and_dtype
from sk_adv.attacks import perturb

AUTO_ATTACK_PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")
N_STEPS = 40


class Images(nn.Module):
    """A module of rows of pixels as one of square images, in float32, which AutoAttack needs."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.dtype = module_device_and_dtype(module)[1]

    def forward(self, X):
        """Logits of images of shape (n_samples, 1, height, width)."""
        return self.module(X.flatten(1).to(self.dtype)).float()


@dataclass(frozen=True)
class Pair:
    """A fitted model, samples with their labels, and a radius."""

    estimator: object
    X: np.ndarray
    y: np.ndarray
    epsilon: float

    @property
    def indices(self) -> np.ndarray:
        """The labels as class indices."""
        return np.searchsorted(self.estimator.classes_, self.y)

    def images(self) -> torch.Tensor:
        """The samples as square images."""
        side = round(self.X.shape[1] ** 0.5)
        return torch.from_numpy(self.X).reshape(-1, 1, side, side)

    def holds(self, copies: np.ndarray) -> np.ndarray:
        """Which samples `predict` still classifies correctly; the copies are first brought back."""
        change = np.clip(copies.reshape(self.X.shape) - self.X, -self.epsilon, self.epsilon)
        copies = np.clip(self.X + change, *BOUNDS).astype(self.X.dtype)
        return np.asarray(self.estimator.predict(copies)) == self.y

    def of(self, rows: np.ndarray) -> "Pair":
        """The same for some of the samples."""
        return Pair(self.estimator, self.X[rows], self.y[rows], self.epsilon)


def ours(pair: Pair, **options) -> np.ndarray:
    """sk_adv's "auto", or another attack."""
    options = {"attack": "auto", "random_state": 0} | options
    return perturb(pair.estimator, pair.X, pair.y, epsilon=pair.epsilon, bounds=BOUNDS, **options)


def auto_attack(pair: Pair) -> Iterator[tuple[str, np.ndarray]]:
    """AutoAttack's standard version, part by part: the name, and which samples still hold.

    As in its own run, a part gets the samples that no part before has broken.
    """
    logging.disable(logging.INFO)
    attack = AutoAttack(Images(as_module(pair.estimator)), eps=pair.epsilon, seed=0)
    attack.verbose = False
    holds = pair.holds(pair.X)
    for part in AUTO_ATTACK_PARTS:
        rows = np.flatnonzero(holds)
        if len(rows):
            rest = pair.of(rows)
            attack.attacks_to_run = [part]
            copies, _ = attack.run_standard_evaluation(
                rest.images(), torch.from_numpy(rest.indices), batch_size=len(rows)
            )
            holds[rows] = rest.holds(copies.numpy())
        yield part, holds.copy()


def foolbox_pgd(pair: Pair) -> np.ndarray:
    """Foolbox's projected gradient descent, with its defaults but for the number of steps."""
    model = foolbox.PyTorchModel(
        Images(as_module(pair.estimator)).eval(), bounds=BOUNDS, device="cpu"
    )
    attack = foolbox.attacks.LinfPGD(steps=N_STEPS)
    labels = torch.from_numpy(pair.indices)
    return attack.run(model, pair.images(), labels, epsilon=pair.epsilon).numpy()


def toolbox_pgd(pair: Pair) -> np.ndarray:
    """The Adversarial Robustness Toolbox's, with as many steps as Foolbox's, of the same size."""
    classifier = PyTorchClassifier(
        Images(as_module(pair.estimator)).eval(),
        nn.CrossEntropyLoss(),
        input_shape=tuple(pair.images().shape[1:]),
        nb_classes=len(pair.estimator.classes_),
        clip_values=BOUNDS,
        device_type="cpu",
    )
    attack = art.attacks.evasion.ProjectedGradientDescent(
        classifier,
        eps=pair.epsilon,
        eps_step=2.5 * pair.epsilon / N_STEPS,
        max_iter=N_STEPS,
        num_random_init=1,
        batch_size=len(pair.X),
        verbose=False,
    )
    return attack.generate(pair.images().numpy(), pair.indices)
