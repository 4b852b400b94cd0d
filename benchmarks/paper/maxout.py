"""M2: the error under attack of an adversarially trained maxout network, on all of MNIST.

    python benchmarks/paper/maxout.py

Trains `AdversarialMaxoutClassifier` on the 60,000 training images and prints its errors on the
10,000 test images: clean, under FGSM, and under projected gradient descent beside it, since a
network that was trained on FGSM copies may hold against nothing else. The paper's figure is
17.9 % under FGSM (section 6). Set SK_ADV_MNIST to a file mnist.npz where the network is out of
reach. The run is saved after each epoch, and goes on from there if it is called again.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.datasets import fetch_mnist
from sk_adv.metrics import adversarial_accuracy_score, adversarial_confidence
from sk_adv.neural_network import Checkpoint

EPSILON = 0.25
PGD = {"attack": "pgd", "n_steps": 40, "step_size": 0.02, "n_restarts": 1, "random_state": 0}
RESULTS = Path(__file__).parent / "results"


def main():
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    mnist = fetch_mnist()
    X, y = mnist.data.astype(np.float32), mnist.target
    X_train, y_train = X[mnist.is_train], y[mnist.is_train]
    X_test, y_test = X[~mnist.is_train], y[~mnist.is_train]
    model = AdversarialMaxoutClassifier(
        (240, 240),
        n_pieces=5,
        epsilon=EPSILON,
        alpha=0.5,
        input_dropout=arguments.input_dropout,
        hidden_dropout=arguments.hidden_dropout,
        max_norm=arguments.max_norm,
        learning_rate="cosine",
        max_iter=arguments.epochs,
        tol=-np.inf,
        callbacks=[Checkpoint(arguments.checkpoint, resume=True)],
        random_state=arguments.seed,
        verbose=2,
    )
    start = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    figures = measure(model, X_test, y_test)
    settings = {k: v for k, v in vars(arguments).items() if k != "checkpoint"}
    record = {
        "figures": figures,
        "settings": settings | {"epsilon": EPSILON, "alpha": 0.5, "bounds": None, "pgd": PGD},
        "training_seconds": seconds,
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy", "skorch")},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"maxout-seed{arguments.seed}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    for name, value in figures.items():
        print(f"{name:32s}{100 * value:7.2f} %")
    print(f"trained in {seconds:.0f} s; written to {path}")


def measure(model, X, y):
    """Errors, and confidence on errors, as shares."""
    fgsm, pgd = {"epsilon": EPSILON}, {"epsilon": EPSILON, **PGD}
    return {
        "clean error": 1 - model.score(X, y),
        "FGSM error": 1 - adversarial_accuracy_score(model, X, y, **fgsm),
        "FGSM confidence on errors": adversarial_confidence(model, X, y, **fgsm),
        "PGD-40 error": 1 - adversarial_accuracy_score(model, X, y, **pgd),
        "PGD-40 error at 0.1": 1
        - adversarial_accuracy_score(model, X, y, **pgd | {"epsilon": 0.1, "step_size": 0.01}),
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--input-dropout", type=float, default=0.1)
    parser.add_argument("--hidden-dropout", type=float, default=0.25)
    parser.add_argument("--max-norm", type=float, default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--checkpoint", default="maxout.pt", help="file of the interrupted run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
