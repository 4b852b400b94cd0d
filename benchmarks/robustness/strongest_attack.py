"""attack="auto" against the parts of AutoAttack, and PGD of other libraries.

    python benchmarks/robustness/strongest_attack.py                      # all 45 pairs: hours
    python benchmarks/robustness/strongest_attack.py --data digits        # one data set
    python benchmarks/robustness/strongest_attack.py --models SVC linear --epsilons 0.1
    python benchmarks/robustness/strongest_attack.py --missing            # those not measured yet

A pair is a model with a radius. All sides attack the same 300 held-out digits in the same process,
on one thread, one after the other; the estimator's own `predict` judges the copies. The figures of
each pair are kept in results/strongest_attack.json beside this file, and the page
results/strongest_attack.md is written anew from all of them after each pair. The models are kept
in a folder (`--cache`).

AutoAttack comes from `pip install --no-deps pyautoattack==0.2.0`.
"""

import argparse
import importlib.metadata
import os
import time
import warnings
from pathlib import Path

import sides
import torch
from figures import Figures
from pairs import EPSILONS, MODELS, N_SAMPLES, PAIRS, trained

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "torch",
    "scikit-learn",
    "pyautoattack",
    "foolbox",
    "adversarial-robustness-toolbox",
)
PREFACE = f"""\
# The strongest attack

Written by `python benchmarks/robustness/strongest_attack.py`. Accuracy of each model on
{N_SAMPLES} held-out digits after an attack of radius ε in the max-norm, with pixels in [0, 1],
judged by `predict`. "AutoAttack" is its standard version: the parts APGD-CE, APGD-T, FAB-T and
Square, each for the samples that those before have left, so that the figure after Square is the
union of all. Foolbox and ART run 40 steps of PGD. Seconds are processor seconds of one thread,
which other work on the machine hardly changes; "copies / s" is the number of samples over them. The
last column is the accuracy under "auto" less that under AutoAttack, in points: below 0, "auto" is
the stronger."""


def measured(data, model, epsilon, cache):
    """Accuracy and processor seconds of all sides on a pair."""
    estimator, X, y = trained(data, model, cache)
    pair = sides.Pair(estimator, X, y, epsilon)
    found = {"data": data, "model": model, "epsilon": epsilon, "n_samples": len(X)}
    found["clean"] = float(pair.holds(X).mean())
    start = time.process_time()
    found["auto"] = float(pair.holds(sides.ours(pair)).mean())
    found["auto seconds"] = time.process_time() - start
    start = time.process_time()
    for part, holds in sides.auto_attack(pair):
        found[part] = float(holds.mean())
        found[f"{part} seconds"] = time.process_time() - start
    for name, side in {"Foolbox": sides.foolbox_pgd, "ART": sides.toolbox_pgd}.items():
        start = time.process_time()
        found[name] = float(pair.holds(side(pair)).mean())
        found[f"{name} seconds"] = time.process_time() - start
    found["load"] = os.getloadavg()[1]
    return found


def page(figures):
    """The results as Markdown."""
    header = (
        "| data | model | ε | clean | APGD-CE | APGD-T | FAB-T | AutoAttack | auto | Foolbox PGD "
        "| ART PGD | AutoAttack, s | auto, s | AutoAttack, copies / s | auto, copies / s "
        "| Foolbox, copies / s | ART, copies / s | difference |"
    )
    rows = [_row(figure) for figure in figures]
    gaps = [100 * (figure["auto"] - figure["square"]) for figure in figures]
    faster = [figure["auto seconds"] <= figure["square seconds"] for figure in figures]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    loads = [figure["load"] for figure in figures]
    summary = (
        f'{len(figures)} of {len(PAIRS)} pairs measured. The accuracy under "auto" is at most 0.5 '
        f"points above AutoAttack's on {sum(gap <= 0.5 + 1e-9 for gap in gaps)} of them; the "
        f"largest difference is {max(gaps):.1f} points. It took at most AutoAttack's time on "
        f"{sum(faster)} of them.\n\n"
        f"Load of the machine (processes over 5 minutes) while they ran: {min(loads):.0f} to "
        f"{max(loads):.0f}, {os.cpu_count()} cores. {versions}."
    )
    rule = "|" + " :-- | :-- |" + " --: |" * (header.count("|") - 3)
    return "\n".join([PREFACE, "", summary, "", header, rule, *rows, ""])


def _row(figure):
    def rate(name):
        return f"{figure['n_samples'] / max(figure[f'{name} seconds'], 1e-3):,.1f}"

    accuracies = [
        f"{figure[name]:.3f}"
        for name in ("clean", "apgd-ce", "apgd-t", "fab-t", "square", "auto", "Foolbox", "ART")
    ]
    cells = [
        figure["data"],
        figure["model"],
        f"{figure['epsilon']:g}",
        *accuracies,
        f"{figure['square seconds']:.1f}",
        f"{figure['auto seconds']:.1f}",
        *map(rate, ("square", "auto", "Foolbox", "ART")),
        f"{100 * (figure['auto'] - figure['square']):+.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    """Measure the chosen pairs, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["digits", "MNIST"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epsilons", nargs="+", type=float, default=EPSILONS)
    parser.add_argument("--missing", action="store_true", help="only pairs without figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sk_adv_robustness")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen = [
        (data, model, epsilon)
        for data, model, epsilon in PAIRS
        if data in options.data and model in options.models and epsilon in options.epsilons
    ]
    figures = Figures(options.output, "strongest_attack", page, _in_order)
    for pair in chosen:
        key = _name(*pair)
        if options.missing and key in figures.read():
            continue
        figure = measured(*pair, options.cache)
        figures.add(key, figure)
        gap = 100 * (figure["auto"] - figure["square"])
        print(
            f"{key}: auto {figure['auto']:.3f}, AutoAttack {figure['square']:.3f} ({gap:+.1f}), "
            f"{figure['auto seconds']:.0f} and {figure['square seconds']:.0f} s",
            flush=True,
        )


def _name(data, model, epsilon):
    return f"{data}, {model}, {epsilon:g}"


def _in_order(names):
    return [name for name in (_name(*pair) for pair in PAIRS) if name in names]


if __name__ == "__main__":
    main()
