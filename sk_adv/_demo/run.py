"""The demo trains plain and adversarial models on real digits, attacks and compares them.

(a) 3 versus 7: logistic regression with scikit-learn's defaults, with an L1 penalty, and trained
    against the worst case. The last two are tuned by cross-validation under attack.
(b) Ten classes: a maxout network, trained plainly and on FGSM copies, and networks that are trained
    to hold: against the strongest attack, and for certificates.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sk_adv._demo.figures import (
    draw_curves,
    draw_examples,
    draw_filters,
    draw_overview,
    draw_weights,
)
from sk_adv._demo.models import (
    Result,
    Settings,
    fit_logistic_regression,
    load_digits,
    measure,
    train_against_attacks,
    train_for_certificates,
    train_network,
    tune_adversarial,
    tune_l1,
)
from sk_adv._demo.report import write_report
from sk_adv._demo.words import conclude, describe, lead, make_table, notes, pictures


def run(output: Path, settings: Settings) -> dict[str, Result]:
    """Run the demo; print the table and write figures and report into an existing folder.

    Parameters
    ----------
    output : Path
        The folder.

    settings : Settings
        Sizes, grids and seed.

    Returns
    -------
    dict of str to Result
        The results by model name.
    """
    started = time.perf_counter()
    n_stages = 1 + 7 + 7 + 5  # load, train, attack, draw
    bar_format = "{desc:<50} {bar:30} {elapsed}"
    with one_thread(), tqdm(total=n_stages, bar_format=bar_format, leave=False) as bar:
        with stage(bar, "Loading 5,000 digits"):
            ten = load_digits(settings)
            two = ten.only("3 versus 7", (3, 7))

        with stage(bar, "Fitting logistic regression"):
            plain_linear = fit_logistic_regression(two)
        with stage(bar, "Tuning L1 logistic regression under attack"):
            l1_linear = tune_l1(two, settings)
        with stage(bar, "Tuning adversarial logistic regression"):
            adversarial_linear = tune_adversarial(two, settings)
        with stage(bar, "Training a maxout network plainly"):
            plain_network = train_network("Maxout, plain", ten, 1.0, settings)
        with stage(bar, "Training a maxout network on FGSM copies"):
            fgsm_network = train_network("Maxout, on FGSM copies", ten, 0.5, settings)
        with stage(bar, "Training a network to resist attacks"):
            resisting = train_against_attacks(ten, settings)
        with stage(bar, "Training a network for certificates"):
            certified = train_for_certificates(ten, settings)
        linear = [plain_linear, l1_linear, adversarial_linear]
        maxout = [plain_network, fgsm_network]
        networks = [*maxout, resisting, certified]

        results = {}
        for model in linear + networks:
            with stage(bar, f"Attacking: {model.name}"):
                results[model.name] = measure(model, settings)

        with stage(bar, "Drawing error against ε"):
            curves = draw_curves(output / "curves.png", linear, networks, settings)
        with stage(bar, "Drawing weights"):
            draw_weights(output / "weights.png", linear)
        with stage(bar, "Drawing filters"):
            draw_filters(output / "filters.png", maxout)
        with stage(bar, "Drawing adversarial digits"):
            draw_examples(output / "digits_3_7.png", [plain_linear, adversarial_linear], settings)
            draw_examples(output / "digits.png", [plain_network, resisting], settings)
        with stage(bar, "Drawing the overview"):
            draw_overview(output / "overview.png", plain_linear, curves, settings)

    table = make_table(linear + networks, results, settings)
    conclusion = conclude(networks, results, settings)
    seconds = time.perf_counter() - started
    report = output / "report.html"
    write_report(
        report,
        title="Training, attacking and defending on real digits",
        conclusion=conclusion,
        lead=lead(ten, settings),
        table=table,
        notes=notes(two, settings),
        pictures=pictures(output, settings),
        settings=describe(settings, linear + networks, seconds),
    )
    print(f"{fill(conclusion, 100)}\n")
    print(f"Attacks at ε = {settings.epsilon:g} (max-norm, pixels from 0 to 1, not clipped)\n")
    print(table.text())
    print(f"\nThe report: {report.resolve()}")
    print(f"Done in {seconds:.0f} s. The figures lie beside the report, in {output.resolve()}")
    return results


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core.

    On matrices this small a second thread gains little. Where other programs share the cores, the
    threads wait for each other, and a run can take ten times as long.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def stage(bar: tqdm, description: str) -> Iterator[None]:
    """Show the description of a stage; advance the bar at its end."""
    bar.set_description_str(description)
    yield
    bar.update()
