"""Which training for which promise: networks on MNIST, attacked and certified.

    python benchmarks/robustness/training.py                        # everything: hours
    python benchmarks/robustness/training.py --only "0.1, certified, small boxes" --seeds 0
    python benchmarks/robustness/training.py --missing              # what has no figures yet
    python benchmarks/robustness/training.py --held-out             # scores on 10,000 held out

All networks have two layers of 512 rectified units and are trained on MNIST's 60,000 digits, with
pixels in [0, 1], on one thread. Settings were chosen with `--held-out`: then a sixth of the
training digits takes the place of the test digits, and no page is written. The figures of each
training are kept in results/training.json beside this file, and the page results/training.md is
written anew from all of them. MNIST is read from the file that `SK_ADV_MNIST` names, or downloaded.
"""

import argparse
import os
import statistics
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from figures import Figures
from skorch.callbacks import LRScheduler
from torch import nn

from sk_adv.datasets import fetch_mnist
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score
from sk_adv.neural_network import AdversarialNet, OverfittingGuard

RESULTS = Path(__file__).parent / "results"
BOUNDS = (0.0, 1.0)
N_ATTACKED = 1000
SEEDS = (0, 1, 2)
SCORES = ("clean", "pgd", "auto", "certified", "certified of all")
PREFACE = """\
# Which training for which promise

Written by `python benchmarks/robustness/training.py`. Two layers of 512 rectified units, trained on
MNIST's 60,000 digits with pixels in [0, 1], without augmentation, on one thread; means over the
seeds, and their range. "clamp" is a first step of the network that cuts each pixel to the middle
of its range, [c, 1 - c]: where a pixel is ink or paper, a small change is then none at all. On the
first 1,000 test digits: accuracy under 40 steps of PGD; under `attack="auto"`, the strongest attack
that we have; and the share that `certified_accuracy_score` proves with `method="auto"`. The truth
lies between the last two. On all 10,000: clean accuracy, and the share that is proved, where the
training aims at it.
Minutes and epochs are of processor time, which other work on the machine hardly changes; "plain
epochs" is the time of an epoch over that of an epoch of ordinary training of the same network in
the same process."""


# The user guide includes the page from here on.
TABLE_BEGINS = "<!-- table -->"


class Digits(nn.Sequential):
    """Two layers of rectified units, behind a clamp of the pixels to [clamp, 1 - clamp]."""

    def __init__(self, clamp=0.0, n_units=512):
        first = [nn.Hardtanh(clamp, 1 - clamp)] if clamp else []
        super().__init__(
            *first,
            nn.Linear(784, n_units),
            nn.ReLU(),
            nn.Linear(n_units, n_units),
            nn.ReLU(),
            nn.Linear(n_units, 10),
        )


CERTIFIED = {"robust_loss": "certified", "initialization": "interval", "alpha": 0.0}
SMALL_BOXES = {**CERTIFIED, "attack": "fgsm_rs", "box_share": 0.4}
LARGE_BOXES = SMALL_BOXES | {"box_share": 0.8}
PGD = {"attack": "pgd", "attack_params": {"n_steps": 7}, "alpha": 0.0}
SINGLE = {"attack": "fgsm_rs", "alpha": 0.0}
TRADES = PGD | {"robust_loss": "trades", "alpha": 1 / 7}
# Radius and name of a training: clamp, epochs, settings.
TRAININGS = {
    "0.1, plain": (0.0, 10, {"alpha": 1.0}),
    "0.1, single step": (0.0, 10, SINGLE),
    "0.1, PGD": (0.0, 10, PGD),
    "0.1, certified, whole set": (0.0, 30, CERTIFIED | {"alpha": 0.5}),
    "0.1, certified, boxes of 0.4": (0.0, 30, SMALL_BOXES),
    "0.1, single step, clamp 0.2": (0.2, 10, SINGLE),
    "0.1, PGD, clamp 0.2": (0.2, 10, PGD),
    "0.1, TRADES, clamp 0.2": (0.2, 10, TRADES),
    "0.1, certified, boxes of 0.4, clamp 0.2": (0.2, 30, SMALL_BOXES),
    "0.3, single step, clamp 0.3": (0.3, 10, SINGLE),
    "0.3, certified, boxes of 0.8, clamp 0.3": (0.3, 40, LARGE_BOXES),
}


def digits(*, held_out):
    """Training digits and labels, and test digits and labels, or held-out ones in their place."""
    mnist = fetch_mnist()
    X, y, is_train = mnist.data, mnist.target, mnist.is_train
    if not held_out:
        return X[is_train], y[is_train], X[~is_train], y[~is_train]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(is_train))
    return X[rows[:50_000]], y[rows[:50_000]], X[rows[50_000:]], y[rows[50_000:]]


def net(name, seed):
    """The net of a training, without weights."""
    clamp, n_epochs, settings = TRAININGS[name]
    torch.manual_seed(seed)
    cosine = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs)
    return AdversarialNet(
        Digits,
        module__clamp=clamp,
        epsilon=float(name.partition(",")[0]),
        bounds=BOUNDS,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=0.002,
        batch_size=200,
        iterator_train__shuffle=True,
        train_split=None,
        max_epochs=n_epochs,
        callbacks=[("cosine", cosine), ("guard", OverfittingGuard())],
        callbacks__train_acc=None,
        verbose=0,
        **settings,
    )


def seconds_of(net, X, y):
    """Processor seconds of a training."""
    start = time.process_time()
    net.fit(X, y)
    return time.process_time() - start


def measured(name, seed, data):
    """The figures of a training."""
    X, y, X_test, y_test = data
    plain = seconds_of(net("0.1, plain", seed).set_params(max_epochs=1), X, y)
    trained = net(name, seed)
    seconds = seconds_of(trained, X, y)
    allowed = {"epsilon": trained.epsilon, "bounds": BOUNDS}
    found = {
        "name": name,
        "seed": seed,
        "minutes": seconds / 60,
        "plain epochs": seconds / trained.max_epochs / plain,
        "clean": trained.score(X_test, y_test),
    }
    if trained.robust_loss == "certified":
        found["certified of all"] = certified_accuracy_score(trained, X_test, y_test, **allowed)
    X_test, y_test = X_test[:N_ATTACKED], y_test[:N_ATTACKED]
    for attack in ("pgd", "auto"):
        found[attack] = adversarial_accuracy_score(
            trained, X_test, y_test, attack=attack, random_state=0, **allowed
        )
    found["certified"] = certified_accuracy_score(trained, X_test, y_test, **allowed)
    return found


def page(figures):
    """The results as Markdown."""
    rows = [
        "| training at ε | epochs | minutes | plain epochs | clean | PGD, of 1,000 "
        "| auto, of 1,000 | certified, of 1,000 | certified, of all |",
        "| :-- |" + " --: |" * 8,
    ]
    for name in TRAININGS:
        of_name = [figure for figure in figures if figure["name"] == name]
        if of_name:
            rows.append(_row(name, of_name))
    libraries = ("torch", "scikit-learn", "skorch")
    versions = ", ".join(f"{library} {version(library)}" for library in libraries)
    machine = f"{os.cpu_count()} cores, one thread. {versions}."
    return "\n".join([PREFACE, "", machine, "", TABLE_BEGINS, "", *rows, ""])


def _row(name, figures):
    def spread(key, form):
        values = [figure[key] for figure in figures if key in figure]
        if not values:
            return "–"
        middle = form.format(statistics.mean(values))
        if len(values) == 1:
            return middle
        return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"

    scores = [spread(key, "{:.1%}") for key in SCORES]
    cells = [name, str(TRAININGS[name][1]), spread("minutes", "{:.1f}")]
    cells += [spread("plain epochs", "{:.1f}"), *scores]
    return "| " + " | ".join(cells) + " |"


def main():
    """Measure the chosen trainings, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--missing", action="store_true", help="only trainings without figures")
    parser.add_argument("--held-out", action="store_true", help="scores on held-out digits")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = digits(held_out=options.held_out)
    figures = Figures(options.output, "training", page, sorted)
    for seed in options.seeds:
        for name in options.only:
            key = f"{name}, seed {seed}"
            if options.missing and key in figures.read():
                continue
            figure = measured(name, seed, data)
            print(figure, flush=True)
            if not options.held_out:
                figures.add(key, figure)


if __name__ == "__main__":
    main()
