"""Run experiments, and keep their figures and pictures."""

import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from matplotlib import pyplot as plt
from tqdm import tqdm

from _lab.lab import Lab, machine, versions
from _lab.page import write_page
from _lab.rows import ROWS, NotAvailable, Row

EXPERIMENTS = (
    "photograph",
    "linear",
    "maxout",
    "controls",
    "transfer",
    "rubbish",
    "rbf",
    "ensemble",
    "sweep",
    "rotation",
    "big",
)


def rows_named(names: list[str] | None) -> list[Row]:
    """The rows of these ids, or of all; M8 stands for M8a and M8b, and so on."""
    for experiment in EXPERIMENTS:
        import_module(experiment)
    if names is None:
        return list(ROWS.values())
    unknown = [name for name in names if not any(_is(row, name) for row in ROWS.values())]
    if unknown:
        raise SystemExit(
            f"--only: there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}."
        )
    return [row for row in ROWS.values() if any(_is(row, name) for name in names)]


def _is(row, name):
    return row.id == name or row.id.rstrip("ab") == name


def reproduce(
    rows: list[Row],
    lab: Lab,
    results: Path,
    *,
    page: Path,
    n_seeds: int | None = None,
    skip: bool = False,
) -> None:
    """Measure rows, one JSON file for each, draw their pictures, and write the page anew.

    With `skip`, a row that needs something unavailable is left out, and a line says why. Without
    it, such a row ends the run.
    """
    results.mkdir(parents=True, exist_ok=True)
    pictures = page.parent / "_static" / "paper"
    pictures.mkdir(parents=True, exist_ok=True)
    with tqdm(rows, bar_format="{desc:<20} {bar:30} {n}/{total} rows, {elapsed}") as bar:
        for row in bar:
            bar.set_description(row.id)
            try:
                for record in records(row, lab, range(1 if lab.quick else n_seeds or row.n_seeds)):
                    text = json.dumps(record, indent=2, ensure_ascii=False)
                    (results / f"{row.id}.json").write_text(text + "\n")
            except NotAvailable as error:
                if not skip:
                    raise SystemExit(f"{row.id} can't be run: {error}.") from error
                tqdm.write(f"{row.id} is not run: {error}.")
                write_page(results, page)
                continue
            for name, _, draw in row.pictures:
                bar.set_description(f"{row.id}, {name}")
                figure = draw(lab)
                figure.savefig(pictures / f"{row.id}-{name}.png", dpi=110, bbox_inches="tight")
                plt.close(figure)
            # After each row, as the next may take hours.
            write_page(results, page)


def records(row: Row, lab: Lab, seeds: range) -> Iterator[dict]:
    """The figures so far, after each seed, with all settings needed to repeat them."""
    by_seed, seconds = [], []
    lab.used.clear()
    lab.attacks.clear()
    for seed in tqdm(seeds, desc=row.id, unit="seed", leave=False):
        start, spent = time.perf_counter(), lab.seconds_of_training
        by_seed.append(row.measure(lab, seed))
        training = lab.seconds_of_training - spent
        seconds.append(round(time.perf_counter() - start - training, 1))
        yield {
            "row": row.id,
            "values": {name: [one[name] for one in by_seed] for name in by_seed[0]},
            "seeds": list(seeds[: len(by_seed)]),
            "quick": lab.quick,
            "settings": {
                "epsilon": row.epsilon,
                "attacks": dict(lab.attacks),
                "models": list(lab.used.values()),
            },
            "seconds of measuring": seconds,
            "measured on": machine(),
            "versions": versions(),
        }
