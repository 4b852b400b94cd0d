"""The page that compares our figures with the paper's."""

import json
import re
import statistics
from pathlib import Path

from _lab.rows import ROWS, Row

INTRODUCTION = """\
# The paper, row by row

I. J. Goodfellow, J. Shlens and C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR
2015, repeated with this library on {digits}. This page was written by

    python -m sk_adv reproduce{option}

and one row of it, say M2, is measured again by `python -m sk_adv reproduce{option} --only M2`.
MNIST is read from the file that `SK_ADV_MNIST` names, or downloaded. Each figure is the mean over
seeds, with the standard deviation where there are several; A5 and rows without randomness have one.
Errors are shares of the {n_test} test digits, or of the threes and sevens among them, unless the
row or its note says otherwise. The perturbation is ε = 0.25 in the max-norm on pixels in [0, 1],
not clipped to [0, 1] unless it says so. Where an error under FGSM is a row's result, one under a
stronger attack stands beside it, PGD with {attack}, or, for linear models, that of the worst case.
F1 is about two photographs, and takes no MNIST.
"""
FULL = {
    "digits": "all of MNIST",
    "option": "",
    "n_test": "10,000",
    "attack": "40 steps and five restarts",
}
QUICK = {
    "digits": "5,000 digits, with short trainings and a weak attack, so that its figures are no "
    "results",
    "option": " --quick",
    "n_test": "1,000",
    "attack": "10 steps and one start",
}
NOT_COMPARED = "not compared"
OUTCOMES = ("agrees", "agrees in part", "differs", NOT_COMPARED)


def write_page(results: Path, page: Path) -> None:
    """A summary, the table *row, the paper's figure, ours, verdict*, notes, pictures, settings."""
    records = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    rows = sorted(ROWS.values(), key=lambda row: ("FLMA".index(row.id[0]), row.id))
    shown = [row for row in rows if row.id in records]
    notes = [f"**{row.id}.** {row.note}" for row in shown if row.note]
    is_quick = any(record["quick"] for record in records.values())
    pictures = [
        f"![{caption}](_static/paper/{row.id}-{name}.png)\n\n*{row.id}. {caption}*"
        for row in shown
        for name, caption, _ in row.pictures
    ]
    blocks = [
        INTRODUCTION.format(**QUICK if is_quick else FULL),
        "## In short",
        *_summary(shown, records),
        "## The table",
        "<details>",
        f"<summary>All {len(rows)} rows, with every figure</summary>",
        "\n".join(_table(rows, records)),
        "</details>",
        "## Notes: what the paper leaves open, and where ours differs",
        *notes,
        "## Pictures",
        *pictures,
        "## Settings",
        "Parameters that are not named have their defaults. Seconds are those of each training "
        "and, for each seed, of measuring.",
        "<details>",
        "<summary>The models of each row</summary>",
        *(_settings(row, records[row.id]) for row in shown),
        "</details>",
    ]
    page.write_text("\n\n".join(blocks) + "\n")


def _summary(rows, records):
    """How many rows agree, counted from their verdicts, and which."""
    outcomes = {outcome: [] for outcome in OUTCOMES}
    for row in rows:
        verdict = _verdict(row, records[row.id]["values"])
        outcomes[outcome_of(verdict)].append((row, verdict))
    compared = [name for name in OUTCOMES if name != NOT_COMPARED]
    n_compared = sum(len(outcomes[name]) for name in compared)
    agree, in_part, differ = (len(outcomes[name]) for name in compared)
    yield (
        f"**{agree} of {n_compared} rows agree with the paper**, {in_part} agree in part, and "
        f"{differ} differ."
    )
    lines = ["| outcome | rows |", "| :-- | :-- |"]
    for name, found in outcomes.items():
        if found:
            lines.append(f"| {name} | {', '.join(row.id for row, _ in found)} |")
    yield "\n".join(lines)
    contrary = [*outcomes["agrees in part"], *outcomes["differs"]]
    if contrary:
        yield "Where they do not agree, or only in part:"
        yield "\n".join(f"- **{row.id}**, {row.title}: {verdict}." for row, verdict in contrary)


def outcome_of(verdict: str) -> str:
    """Which of `OUTCOMES` a verdict says, by its words "agrees" and "differs"."""
    says = {word for word in ("agrees", "differs") if re.search(rf"\b{word}\b", verdict)}
    if len(says) == 2:
        return "agrees in part"
    return says.pop() if says else NOT_COMPARED


def _verdict(row: Row, values):
    try:
        return row.verdict({name: statistics.mean(found) for name, found in values.items()})
    except KeyError:
        return "measured before the experiment was changed: to be run again"


def _table(rows, records):
    yield "| row | what | figure | the paper | ours | verdict |"
    yield "| :-- | :-- | :-- | --: | --: | :-- |"
    for row in rows:
        if row.id in records:
            yield from _lines(row, records[row.id]["values"])
        else:
            yield f"| {row.id} | {row.title} | | {_paper(row)} | not run | |"


def _lines(row: Row, values):
    verdict = _verdict(row, values)
    for index, (name, found) in enumerate(values.items()):
        show = _numbers if name in row.numbers else _shares
        if isinstance(row.paper, dict):
            paper = show([row.paper[name]]) if name in row.paper else ""
        else:
            paper = row.paper if index == 0 else ""
        first = [row.id, row.title, name, paper, show(found), verdict]
        cells = first if index == 0 else ["", "", name, paper, show(found), ""]
        # An unescaped bar ends the cell.
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _paper(row):
    if isinstance(row.paper, str):
        return row.paper
    return ", ".join(f"{name} {_shares([value])}" for name, value in row.paper.items())


def _shares(found):
    mean = f"{100 * statistics.mean(found):.2f}"
    return f"{mean} ± {100 * statistics.stdev(found):.2f} %" if len(found) > 1 else f"{mean} %"


def _numbers(found):
    mean = f"{statistics.mean(found):.3g}"
    return f"{mean} ± {statistics.stdev(found):.2g}" if len(found) > 1 else mean


def _settings(row, record):
    """The models of a row; models that differ only in the seed share a line."""
    lines = [
        f"**{row.id}**: seeds {_listed(record['seeds'])}; measured in "
        f"{_listed(round(seconds) for seconds in record['seconds of measuring'])} s "
        f"({record['measured on']})."
    ]
    alike = {}
    for model in record["settings"]["models"]:
        alike.setdefault((model["model"], model["digits"]), []).append(model)
    for (description, digits), models in alike.items():
        seeds = [model["seed"] for model in models if "seed" in model]
        seconds = [round(model["seconds"]) for model in models if "seconds" in model]
        elsewhere = {model.get("trained on") for model in models} - {record["measured on"], None}
        lines.append(
            f"- `{description}` on {digits}"
            + (f", seeds {_listed(seeds)}" if seeds else "")
            + "".join(f", which chose {_chosen(model)}" for model in models if "chosen" in model)
            + (f": {_listed(seconds)} s" if seconds else ": not trained here")
            + "".join(f" ({machine})" for machine in sorted(elsewhere))
            + "."
        )
    return "\n".join(lines)


def _chosen(model):
    return _listed(f"{name} = {value:.3g}" for name, value in model["chosen"].items())


def _listed(values):
    return ", ".join(map(str, values))
