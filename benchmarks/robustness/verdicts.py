"""Verdicts of small networks: how many samples are proved, broken, or left open.

    python benchmarks/robustness/verdicts.py                    # all networks, 5 s a sample
    python benchmarks/robustness/verdicts.py --time-limit 15

scikit-learn's `MLPClassifier` on breast cancer, standardised, 143 test samples, one thread. The
limit is elapsed time, so other work on the machine leaves more samples open. The page
results/verdicts.md is written anew.
"""

import argparse
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from sk_adv.metrics import verify_robustness

RESULTS = Path(__file__).parent / "results"
# Hidden units and the radius, in standard deviations.
PROBLEMS = (((30,), 0.3), ((100,), 0.3), ((50, 50), 0.2))
PREFACE = """\
# Verdicts of small networks

Written by `python benchmarks/robustness/verdicts.py`. `MLPClassifier` on breast cancer,
standardised; `verify_robustness` at its defaults on 143 test samples, max-norm, one thread."""


def measured(hidden, epsilon, time_limit):
    """A row of the table: the verdicts on a network, and the time they took."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier(hidden, max_iter=500, random_state=0).fit(X_train, y_train)
    start, processor = time.perf_counter(), time.process_time()
    verdict = verify_robustness(
        model, X_test, y_test, epsilon=epsilon, time_limit=time_limit, random_state=0
    )
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    counts = [(verdict.status == word).sum() for word in ("verified", "falsified", "unknown")]
    units = "-".join(map(str, hidden))
    return [units, f"{epsilon:g}", *map(str, counts), f"{seconds:.0f}", f"{processor:.0f}"]


def main():
    """Measure all networks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time-limit", type=float, default=5.0, help="seconds for each sample")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    header = ["units", "ε", "verified", "falsified", "unknown", "seconds", "of the processor"]
    rows = [header, [":--", *6 * ["--:"]]]
    for hidden, epsilon in PROBLEMS:
        rows.append(measured(hidden, epsilon, options.time_limit))
        print(*rows[-1], flush=True)
    table = [f"| {' | '.join(row)} |" for row in rows]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "scipy"))
    machine = (
        f"{options.time_limit:g} s for each sample. {os.cpu_count()} cores, load "
        f"{os.getloadavg()[1]:.0f}; {versions}."
    )
    options.output.mkdir(parents=True, exist_ok=True)
    page = "\n".join([PREFACE, "", machine, "", *table, ""])
    (options.output / "verdicts.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
