"""Run experiments, keep their figures, and write the page that compares them with the paper's."""

import json
import platform
import statistics
import time
from importlib import import_module
from pathlib import Path

import torch
from tqdm import tqdm

from _lab.lab import Lab, versions
from _lab.rows import ROWS, Row

EXPERIMENTS = (
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
    """The rows of these ids, or of all; M8 stands for M8a and M8b."""
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
    return row.id == name or row.id[:-1] == name


def reproduce(
    rows: list[Row], lab: Lab, results: Path, *, page: Path, n_seeds: int | None = None
) -> None:
    """Measure rows, one JSON file for each, draw their pictures, and write the page anew."""
    results.mkdir(parents=True, exist_ok=True)
    pictures = page.parent / "_static" / "paper"
    with tqdm(rows, bar_format="{desc:<40} {bar:30} {n}/{total} {elapsed}") as bar:
        for row in bar:
            seeds = range(1 if lab.quick else n_seeds or row.n_seeds)
            start, by_seed = time.perf_counter(), []
            for seed in seeds:
                bar.set_description(f"{row.id}, seed {seed}")
                by_seed.append(row.measure(lab, seed))
            record = {
                "row": row.id,
                "values": {name: [one[name] for one in by_seed] for name in by_seed[0]},
                "seeds": list(seeds),
                "quick": lab.quick,
                "seconds": round(time.perf_counter() - start, 1),
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                "versions": versions(),
            }
            (results / f"{row.id}.json").write_text(json.dumps(record, indent=2) + "\n")
            for name, _, draw in row.pictures:
                bar.set_description(f"{row.id}, picture")
                pictures.mkdir(parents=True, exist_ok=True)
                draw(lab).savefig(pictures / f"{row.id}-{name}.png", dpi=110)
            # After each row, as the next may take hours.
            write_page(results, page)


def write_page(results: Path, page: Path) -> None:
    """The table *row, the paper's figure, ours, verdict*, and the pictures."""
    records = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    lines = [INTRODUCTION, "| row | what | figure | the paper | ours | verdict |"]
    lines.append("| :-- | :-- | :-- | --: | --: | :-- |")
    pictures = []
    for row in ROWS.values():
        record = records.get(row.id)
        if record is None:
            lines.append(f"| {row.id} | {row.title} | | {_paper(row)} | not run | |")
            continue
        lines += _lines(row, record)
        for name, caption, _ in row.pictures:
            pictures.append(
                f"![{caption}](_static/paper/{row.id}-{name}.png)\n\n*{row.id}. {caption}*"
            )
    page.write_text("\n".join(lines) + "\n\n" + "\n\n".join(pictures) + "\n")


def _lines(row, record):
    values = record["values"]
    verdict = row.verdict({name: statistics.mean(found) for name, found in values.items()})
    for index, (name, found) in enumerate(values.items()):
        paper = row.paper.get(name) if isinstance(row.paper, dict) else None
        cells = [row.id, row.title] if index == 0 else ["", ""]
        cells += [name, "" if paper is None else _share(paper), _mean(found)]
        yield "| " + " | ".join([*cells, verdict if index == 0 else ""]) + " |"


def _paper(row):
    if isinstance(row.paper, str):
        return row.paper
    return ", ".join(f"{name} {_share(value)}" for name, value in row.paper.items())


def _share(value):
    return f"{100 * value:.4g} %" if 0 <= value <= 1 else f"{value:.3g}"


def _mean(found):
    mean = _share(statistics.mean(found))
    if len(found) == 1:
        return mean
    spread = statistics.stdev(found)
    return f"{mean} ± {100 * spread:.2g}" if 0 <= statistics.mean(found) <= 1 else mean


INTRODUCTION = """\
# The paper, row by row

I. J. Goodfellow, J. Shlens and C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR
2015, repeated with this library on MNIST. Written by `python -m sk_adv reproduce`; every figure is
the mean over seeds, with the standard deviation where there are several. ε = 0.25 in the max-norm,
not clipped to [0, 1] unless it says so. Beside each FGSM figure stands a stronger attack (PGD: 40
steps, five restarts) or, for linear models, the worst case.
"""
