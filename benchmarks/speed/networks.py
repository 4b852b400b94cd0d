"""Networks against loops and libraries, on the same data, in the same run.

    python benchmarks/speed/networks.py                 # all sections
    python benchmarks/speed/networks.py --only digits   # one section
    python benchmarks/speed/networks.py --quick         # small sizes: does everything still run?

Tables are printed, and written to results/networks.md beside this file; a quick run writes nothing
unless it is told where. "x" after a number is the median of a ratio of two times, each ratio taken
within one round of the same run.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from _harness import network_peers as peers
from _harness.command import Section, parse_arguments, run_sections
from _harness.report import table, three_digits
from _harness.timing import alternate, limit_threads, median
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialMaxoutClassifier

BATCH_SIZES = (100, 500)
# Largest ratios of our adversarial epoch to our plain one, the three-pass loop and the bare loop.
MNIST_TARGETS = {"plain": 2.4, "three-pass": 0.85, "bare": 1.08}
DIGITS_TARGETS = {"bare": 1.3}
# Seconds of a whole fit on digits, on two cores.
FIT_TARGET = 10
# Largest ratio of an epoch of a wide network in bfloat16 to its matrix products alone.
WIDE_TARGET = 1.5
# Large enough for the full rate.
MATRIX_SIZE = 2048
LIBRARIES = ("numpy", "scikit-learn", "torch", "skorch", "adversarial-robustness-toolbox")

PREFACE = """\
# Speed of the networks

Written by `python benchmarks/speed/networks.py`; benchmarks/README.md says what is compared. All
sides of a table were trained in the same run, one after the other in turn, on the CPU, in float32
unless it says otherwise.
Times are those of training epochs alone: for our estimator and skorch from `on_train_begin` to
`on_train_end` of a skorch callback, so with all that happens between batches and epochs, and
without the checks and the conversion of data before; for the loops by a clock around the epoch; for
the Adversarial Robustness Toolbox (ART) by one around its `fit`. Each ratio is the median of the
ratios within one round: "/ plain" to `sk_adv, alpha=1`, "/ three-pass" to the three-pass loop,
"/ bare" to the bare loop that does the same, plain or adversarial. "Of the machine's rate" is the
speed of the multiplications in all matrix products of a side, as a share of the speed of one large
`torch.mm` in the same round. Before the clocks started, the bare loops and our estimator trained
from the same weights, in the same order and with the same dropout masks, and ended at the same
weights, bit for bit."""


@dataclass(frozen=True)
class Side:
    """A side of the comparison: its maker, its matrix products, and its bare loop.

    Attributes
    ----------
    make : callable
        Makes the side for a problem.
    passes : tuple of str
        The passes of a training step; see `multiplications`.
    bare : str
        The bare loop of the same kind.
    """

    make: Callable
    passes: tuple[str, ...]
    bare: str


TRAIN = ("forward", "weights", "inner")
CRAFT_AND_TRAIN = ("forward", "weights", "inner", "input")

SIDES = {
    "sk_adv, alpha=1": Side(partial(peers.ours, alpha=1), TRAIN, "bare loop, plain"),
    "sk_adv, alpha=0.5": Side(
        partial(peers.ours, alpha=peers.ALPHA), CRAFT_AND_TRAIN + TRAIN, "bare loop, adversarial"
    ),
    "bare loop, adversarial": Side(
        peers.bare_adversarial, CRAFT_AND_TRAIN + TRAIN, "bare loop, adversarial"
    ),
    "three-pass loop": Side(
        peers.three_pass, CRAFT_AND_TRAIN + TRAIN + TRAIN, "bare loop, adversarial"
    ),
    "ART, AdversarialTrainer": Side(
        peers.toolbox, CRAFT_AND_TRAIN + TRAIN, "bare loop, adversarial"
    ),
    "skorch, plain": Side(peers.skorch_plain, TRAIN, "bare loop, plain"),
    "bare loop, plain": Side(peers.bare_plain, TRAIN, "bare loop, plain"),
}
PLAIN, OURS, THREE_PASS = "sk_adv, alpha=1", "sk_adv, alpha=0.5", "three-pass loop"
OUR_FIT = "AdversarialMaxoutClassifier(alpha=1)"


def multiplications(problem, passes):
    """Multiplications per sample in the matrix products of a training step.

    A layer from n to m numbers takes n m of them in each of the passes:

    - "forward": z = W x;
    - "weights": the gradient on W, δ xᵀ, summed over the batch;
    - "inner": the gradient on x, Wᵀ δ, in all layers but the first;
    - "input": the same in the first layer, which only the attack needs.

    A maxout layer has `n_pieces` rows of W for each unit. The gradients of pieces that were not the
    largest are zero. Their products are counted too, as they are computed.
    """
    widths = problem.hidden_layer_sizes
    n_inputs = (problem.X.shape[1], *widths)
    n_outputs = (*(problem.n_pieces * width for width in widths), problem.n_classes())
    layers = [n * m for n, m in zip(n_inputs, n_outputs, strict=True)]
    cost = {
        "forward": sum(layers),
        "weights": sum(layers),
        "inner": sum(layers[1:]),
        "input": layers[0],
    }
    return sum(cost[name] for name in passes)


def mnist_section(options, input_dropout=0.0, hidden_dropout=0.0):
    """Random data of MNIST's shape, in small and in large batches."""
    rng = np.random.default_rng(0)
    n_rows = 1000 if options.quick else options.rows
    X = rng.random((n_rows, 784), dtype=np.float32)
    y = rng.integers(10, size=n_rows)
    text = (
        f"{n_rows:,} rows of 784 uniform random numbers with random labels of ten classes; two "
        "hidden layers of 240 units of 5 pieces; Adam; ε = 0.25; one epoch at a time."
    )
    if hidden_dropout:
        text += (
            f" Dropout of {input_dropout:.0%} of the inputs and {hidden_dropout:.0%} of the units, "
            "on all sides; only ART turns it off while it makes its copies."
        )
    for batch_size in BATCH_SIZES:
        problem = peers.Problem(X, y, batch_size, 0.25, input_dropout, hidden_dropout)
        epochs = epochs_table(problem, options, MNIST_TARGETS, n_epochs=1)
        text += f"\n\n### Batches of {batch_size}\n\n{epochs}"
    return text


def digits_section(options):
    """scikit-learn's digits: small steps, in which overhead counts, and whole fits."""
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    problem = peers.Problem(X.astype(np.float32), y, batch_size=200, epsilon=0.25)
    n_epochs = 2 if options.quick else 20
    epochs = epochs_table(problem, options, DIGITS_TARGETS, n_epochs)
    n_rows = 300 if options.quick else len(X)
    return (
        f"1,797 rows of 64 standardised features, ten classes; the same layers; Adam; ε = 0.25; "
        f"{n_epochs} epochs at a time, and the seconds of one.\n\n"
        f"### Batches of {problem.batch_size}\n\n{epochs}\n\n"
        f"### Whole fits\n\n{fits_table(X[:n_rows], y[:n_rows], options)}"
    )


def wide_section(options):
    """The paper's largest layers in bfloat16, on one thread and on more."""
    rng = np.random.default_rng(0)
    n_rows, n_units = (200, 64) if options.quick else (6_000, 1_600)
    X = rng.random((n_rows, 784), dtype=np.float32)
    y = rng.integers(10, size=n_rows)
    text = (
        f"{n_rows:,} rows of 784 uniform random numbers with random labels of ten classes; two "
        f'hidden layers of {n_units:,} units of 5 pieces; `precision="bfloat16"`, SGD with '
        "momentum, `max_norm`, dropout of 20 % of the inputs and half of the units; ε = 0.25; one "
        "epoch at a time. *Products* are the matrix products of the same epoch in bfloat16 and "
        "nothing else, into memory that is there already. *Through autograd* is the same "
        "estimator with a callback that listens to batches, for which training takes the way of "
        "any other module.\n\n"
    )
    rows = []
    for n_threads in sorted({1, options.threads}):
        limit_threads(n_threads)
        for batch_size in (100, 200):
            problem = peers.Problem(X, y, batch_size, 0.25, 0.2, 0.5, (n_units, n_units))
            rows += wide_rows(problem, n_threads, options)
    limit_threads(options.threads)
    header = ["threads", "batch", "epoch", "side", "s / epoch", "GFLOP/s", "/ products"]
    return text + table(header, rows)


def wide_rows(problem, n_threads, options):
    """The rows of a table, for one size of a batch."""
    half = {"precision": "bfloat16", "solver": "sgd", "max_norm": 1.9365, "momentum": 0.5}
    slow = {**half, "callbacks": (peers.BatchListener(),)}
    rows = []
    for kind, alpha, passes in (
        ("plain", 1, TRAIN),
        ("adversarial", peers.ALPHA, CRAFT_AND_TRAIN + TRAIN),
    ):
        sides = {
            "products": peers.bare_products(problem, alpha < 1),
            "sk_adv": peers.ours(problem, alpha, **half),
            "through autograd": peers.ours(problem, alpha, **slow),
        }
        calls = {name: partial(side, 1) for name, side in sides.items()}
        alternate(calls, repeats=1)
        rounds = [
            {name: timing.result for name, timing in alternate(calls, repeats=1).items()}
            for _ in range(options.repeats)
        ]
        n_operations = 2e-9 * len(problem.X) * multiplications(problem, passes)
        for name in sides:
            ratio = median(rounds, name, "products")
            target = WIDE_TARGET if name == "sk_adv" and not options.quick else None
            seconds = median(rounds, name)
            cells = [three_digits(seconds), f"{n_operations / seconds:.0f}"]
            cells.append(f"{ratio:.2f} x{verdict(ratio, target)}")
            rows.append([n_threads, problem.batch_size, kind, name, *cells])
    return rows


def epochs_table(problem, options, targets, n_epochs):
    """Train all sides in turn and compare their epochs."""
    peers.check_same_arithmetic(problem.first(5 * problem.batch_size // 2))
    made = {name: side.make(problem) for name, side in SIDES.items()}
    calls = {name: partial(side, n_epochs) for name, side in made.items() if callable(side)}
    calls["product"] = partial(peers.matrix_product(MATRIX_SIZE), 1)
    # The first round starts the threads and takes memory that is used again later.
    alternate(calls, repeats=1)
    rounds = []
    for _ in range(options.repeats):
        # Each side reads its own clock, so that its preparations are not timed.
        timings = alternate(calls, repeats=1)
        rounds.append({name: timing.result for name, timing in timings.items()})

    # Verdicts on a quick run would mean nothing.
    targets = {} if options.quick else targets
    rows = []
    for name, side in SIDES.items():
        n_multiplications = multiplications(problem, side.passes)
        work = f"{n_multiplications / 1e6:.2f}"
        if name not in calls:
            rows.append([name, *["-"] * 5, work, "-"])
            continue
        references = {"plain": PLAIN, "three-pass": THREE_PASS, "bare": side.bare}
        ratios = [
            f"{median(rounds, name, under):.2f} x"
            + verdict(median(rounds, name, under), targets.get(column) if name == OURS else None)
            for column, under in references.items()
        ]
        # A product of two matrices of size n takes n³ multiplications.
        in_products = len(problem.X) * n_multiplications / MATRIX_SIZE**3
        rows.append(
            [
                name,
                three_digits(median(rounds, name)),
                f"{len(problem.X) / median(rounds, name):,.0f}",
                *ratios,
                work,
                f"{in_products * median(rounds, 'product', name):.0%}",
            ]
        )
    header = ["side", "s / epoch", "samples / s", "/ plain", "/ three-pass", "/ bare"]
    header += ["10⁶ mult. / sample", "of the machine's rate"]
    rate = 2e-9 * MATRIX_SIZE**3 / median(rounds, "product")
    missing = [f"{name} {side}." for name, side in made.items() if not callable(side)]
    return "\n\n".join(
        [
            table(header, rows),
            f"The machine's rate: {rate:.0f} GFLOP/s in `torch.mm` of two float32 "
            f"matrices of {MATRIX_SIZE:,} × {MATRIX_SIZE:,}.",
            *missing,
        ]
    )


def fits_table(X, y, options):
    """Whole fits with default parameters, from arrays to a fitted estimator."""
    calls = {
        OUR_FIT: lambda: AdversarialMaxoutClassifier(alpha=1, random_state=0, device="cpu").fit(
            X, y
        ),
        "MLPClassifier()": lambda: MLPClassifier(random_state=0).fit(X, y),
    }
    rounds = [alternate(calls, repeats=1) for _ in range(options.repeats)]
    rows = []
    for name in calls:
        times = [timings[name].seconds for timings in rounds]
        ratio = statistics.median(
            timings[name].seconds / timings["MLPClassifier()"].seconds for timings in rounds
        )
        model = rounds[-1][name].result
        seconds = three_digits(statistics.median(times))
        if name == OUR_FIT and not options.quick:
            seconds += verdict(statistics.median(times), FIT_TARGET)
        rows.append([name, seconds, model.n_iter_, f"{n_weights(model):,}", f"{ratio:.2f} x"])
    header = ["estimator", "s / fit", "epochs", "weights", "/ MLPClassifier"]
    return (
        f"{len(X):,} rows in float64, as `StandardScaler` gives them. Default parameters; both "
        "stop when the loss stands still. The networks are not of the same size: `MLPClassifier` "
        "has one layer of 100 units, and trains in the precision of X.\n\n" + table(header, rows)
    )


def n_weights(model):
    """Number of weights and offsets of a fitted network."""
    if isinstance(model, MLPClassifier):
        return sum(part.size for part in (*model.coefs_, *model.intercepts_))
    return sum(part.numel() for part in model.net_.module_.parameters())


def verdict(value, target):
    """The text in brackets after a figure that has a target."""
    if target is None:
        return ""
    return f" ({'met' if value <= target else 'missed'}: ≤ {target:g})"


SECTIONS = {
    "mnist": Section("MNIST shapes", mnist_section),
    "dropout": Section(
        "MNIST shapes, with dropout",
        partial(mnist_section, input_dropout=0.2, hidden_dropout=0.5),
    ),
    "wide": Section("Wide layers in bfloat16", wide_section),
    "digits": Section("Digits", digits_section),
}


if __name__ == "__main__":
    rows = {"type": int, "default": 12_000, "help": "of random data (default: 12,000)"}
    run_sections(
        parse_arguments(__doc__, SECTIONS, repeats=9, rows=rows),
        SECTIONS,
        report=Path(__file__).parent / "results" / "networks.md",
        preface=PREFACE,
        libraries=LIBRARIES,
    )
