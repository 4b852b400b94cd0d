"""Attacks against loops and libraries, on the same module and images, in the same run.

    python benchmarks/speed/attacks.py                # all sections
    python benchmarks/speed/attacks.py --only fgsm    # one section
    python benchmarks/speed/attacks.py --quick        # small sizes: does everything still run?

Tables are printed, and written to results/attacks.md beside this file; a quick run writes nothing
unless it is told where. "x" after a number is the median of a ratio of two times, each ratio taken
within one round of the same run.
"""

from pathlib import Path

import torch
from _harness import attack_peers as peers
from _harness.command import Section, parse_arguments, run_sections
from _harness.report import table, three_digits
from _harness.timing import alternate, median

from sk_adv.datasets import fetch_mnist, load_mnist_sample
from sk_adv.neural_network import MaxoutNet

# ART's own.
TOOLBOX_BATCH = 32
BATCH_SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)
N_STEPS = 5
# Smallest ratios of our throughput to that of a bare loop, Foolbox and ART.
TARGETS = {"bare": 0.95, "foolbox": 1.2, "art": 2.0}
LIBRARIES = ("numpy", "torch", "foolbox", "adversarial-robustness-toolbox")

PREFACE = """\
# Speed of the attacks

Written by `python benchmarks/speed/attacks.py`; benchmarks/README.md says what is compared. All
sides of a table ran one after the other in turn, on the CPU in float32: each takes the images as an
array and returns their copies as an array. The module has two maxout layers of 240 units of 5
pieces and random weights, since the time of a step does not depend on them; after training, the
float32 cross-entropy that the other libraries use loses its gradient where the module is sure, and
the copies would differ. ε = 0.25, copies clipped to [0, 1]. "sk_adv / side" is our number of copies
per second over the side's, the median of the ratios within one round. Before the clocks started,
all sides made the same copies, up to the few pixels whose gradient is zero but for rounding."""


def load_problem(options, **params):
    """The 10,000 test images, or 1,000 of the sample; a module with random weights."""
    if options.quick:
        digits = load_mnist_sample()
        X, y = digits.data[::5], digits.target[::5]
    else:
        digits = fetch_mnist()
        X, y = digits.data[~digits.is_train], digits.target[~digits.is_train]
    torch.manual_seed(0)
    return peers.Problem(MaxoutNet(X.shape[1], 10).eval(), X, y, **params)


def fgsm_section(options):
    """One step, with a module as training leaves it."""
    problem = load_problem(options)
    return (
        f"{len(problem.X):,} images of MNIST. The weights require gradients, as training leaves "
        "them. Foolbox and ART, which call `backward`, compute those too; ours and the bare loop "
        "ask for the gradient on the images alone.\n\n"
        f"{comparison(problem, options, {} if options.quick else TARGETS)}"
    )


def frozen_section(options):
    """One step, with a module as `as_module` gives it."""
    problem = load_problem(options)
    problem.module.requires_grad_(False)
    return (
        f"The same {len(problem.X):,} images; no weight requires a gradient, as in what "
        f"`as_module` gives, so no side computes any.\n\n{comparison(problem, options, {})}"
    )


def pgd_section(options):
    """A few steps."""
    problem = load_problem(options, n_steps=N_STEPS)
    return (
        f"{len(problem.X):,} images of MNIST, {N_STEPS} steps of {problem.step_size():g} from the "
        "clean image, with a module whose weights require gradients.\n\n"
        f"{comparison(problem, options, {})}"
    )


def batches_section(options):
    """Ours and the bare loop by the size of a batch."""
    problem = load_problem(options)
    sizes = [size for size in BATCH_SIZES if size <= len(problem.X)]
    calls = {}
    for size in sizes:
        calls["sk_adv", size] = peers.ours(problem, size)
        calls["bare loop", size] = peers.bare(problem, size)
    # Starts the threads, and takes memory that is used again later. Elsewhere the check does that.
    alternate(calls, repeats=1)
    rounds = timed_rounds(calls, options)
    rows = []
    for size in sizes:
        own, loop = ("sk_adv", size), ("bare loop", size)
        rates = [f"{len(problem.X) / median(rounds, side):,.0f}" for side in (own, loop)]
        rows.append([f"{size:,}", *rates, f"{median(rounds, loop, own):.2f} x"])
    header = ["images in a batch", "sk_adv, copies / s", "bare loop, copies / s", "sk_adv / loop"]
    return (
        f"FGSM on the {len(problem.X):,} images and the module of the first section.\n\n"
        f"{table(header, rows)}"
    )


def comparison(problem, options, targets):
    """A table of all sides, which says which targets were met."""
    default = peers.default_batch_size(problem)
    same = f"batches of {default:,}"
    # Each side with the target for our ratio to it.
    sides = {
        f"sk_adv, its default, {same}": (peers.ours(problem), None),
        f"bare loop, {same}": (peers.bare(problem, default), "bare"),
        "bare loop, batches of 500": (peers.bare(problem, 500), "bare"),
        f"Foolbox, `run`, {same}": (peers.foolbox_copies(problem, default), "foolbox"),
        f"Foolbox, called, {same}": (peers.foolbox_call(problem, default), "foolbox"),
        f"ART, {same}": (peers.toolbox(problem, default), "art"),
        f"ART, its default, batches of {TOOLBOX_BATCH}": (
            peers.toolbox(problem, TOOLBOX_BATCH),
            "art",
        ),
    }
    calls = {name: call for name, (call, _) in sides.items()}
    # A flipped sign changes the next steps of its image, too.
    share = peers.check_same_copies(calls, 1e-5 if problem.n_steps is None else 1e-3)
    rounds = timed_rounds(calls, options)
    own = next(iter(sides))
    rows = []
    for name, (_, target) in sides.items():
        seconds, ratio = median(rounds, name), median(rounds, name, own)
        verdict = ""
        if target in targets:
            least = targets[target]
            verdict = f" ({'met' if ratio >= least else 'missed'}: ≥ {least:g})"
        rate = f"{len(problem.X) / seconds:,.0f}"
        rows.append([name, three_digits(seconds), rate, f"{ratio:.2f} x{verdict}"])
    return (
        f"{table(['side', 's', 'copies / s', 'sk_adv / side'], rows)}\n\n"
        f"At most {share:.1g} of the pixels differ from ours."
    )


def timed_rounds(calls, options):
    """The seconds of all sides, round by round."""
    rounds = [alternate(calls, repeats=1) for _ in range(options.repeats)]
    return [{name: timing.seconds for name, timing in timings.items()} for timings in rounds]


SECTIONS = {
    "fgsm": Section("FGSM", fgsm_section),
    "frozen": Section("FGSM without trainable weights", frozen_section),
    "batches": Section("FGSM by the size of a batch", batches_section),
    "pgd": Section("PGD", pgd_section),
}


if __name__ == "__main__":
    run_sections(
        parse_arguments(__doc__, SECTIONS, repeats=9),
        SECTIONS,
        report=Path(__file__).parent / "results" / "attacks.md",
        preface=PREFACE,
        libraries=LIBRARIES,
    )
