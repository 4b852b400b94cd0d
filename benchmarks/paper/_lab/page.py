"""The page that sets our figures beside the paper's."""

import json
import statistics
from pathlib import Path

from _lab.rows import ROWS, Row

INTRODUCTION = """\
# The paper, row by row

I. J. Goodfellow, J. Shlens and C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR
2015, repeated with this library on all of MNIST. This page was written by

    python -m sk_adv reproduce

and one row of it, say M2, is measured again by `python -m sk_adv reproduce --only M2`. MNIST is
read from the file that `SK_ADV_MNIST` names, or downloaded. Each figure is the mean over seeds,
with the standard deviation where there are several; errors are shares of the 10,000 test digits.
The perturbation is ε = 0.25 in the max-norm on pixels in [0, 1], not clipped to [0, 1] unless it
says so. Beside each FGSM figure stands a stronger attack, PGD with 40 steps and five restarts, or,
for linear models, the worst case.

## The table
"""


def write_page(results: Path, page: Path) -> None:
    """The table *row, the paper's figure, ours, verdict*; notes, pictures and settings."""
    records = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    shown = [row for row in ROWS.values() if row.id in records]
    notes = [f"**{row.id}.** {row.note}" for row in ROWS.values() if row.note]
    pictures = [
        f"![{caption}](_static/paper/{row.id}-{name}.png)\n\n*{row.id}. {caption}*"
        for row in shown
        for name, caption, _ in row.pictures
    ]
    blocks = [
        INTRODUCTION,
        "\n".join(_table(records)),
        "## Notes: what the paper leaves open, and where ours differs",
        *notes,
        "## Pictures",
        *pictures,
        "## Settings",
        "Parameters that are not named have their defaults. Seconds are those of one training, and "
        "of measuring one seed, on the machine named.",
        *(_settings(row, records[row.id]) for row in shown),
    ]
    page.write_text("\n\n".join(blocks) + "\n")


def _table(records):
    yield "| row | what | figure | the paper | ours | verdict |"
    yield "| :-- | :-- | :-- | --: | --: | :-- |"
    for row in ROWS.values():
        if row.id in records:
            yield from _lines(row, records[row.id]["values"])
        else:
            yield f"| {row.id} | {row.title} | | {_paper(row)} | not run | |"


def _lines(row: Row, values):
    verdict = row.verdict({name: statistics.mean(found) for name, found in values.items()})
    for index, (name, found) in enumerate(values.items()):
        if isinstance(row.paper, dict):
            paper = _share(row.paper[name]) if name in row.paper else ""
        else:
            paper = row.paper if index == 0 else ""
        first = [row.id, row.title, name, paper, _mean(found), verdict]
        cells = first if index == 0 else ["", "", name, paper, _mean(found), ""]
        # A bar would end the cell.
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _paper(row):
    if isinstance(row.paper, str):
        return row.paper
    return ", ".join(f"{name} {_share(value)}" for name, value in row.paper.items())


def _share(value):
    return f"{100 * value:.2f} %" if 0 <= value <= 1 else f"{value:.3g}"


def _mean(found):
    mean = statistics.mean(found)
    if len(found) == 1:
        return _share(mean)
    spread = statistics.stdev(found)
    if 0 <= mean <= 1:
        return f"{100 * mean:.2f} ± {100 * spread:.2f} %"
    return f"{mean:.3g} ± {spread:.2g}"


def _settings(row, record):
    """The models that a row has used, those that differ by the seed only on one line."""
    lines = [
        f"**{row.id}**: seeds {', '.join(map(str, record['seeds']))}; measured in "
        f"{', '.join(f'{seconds:.0f}' for seconds in record['seconds of measuring'])} s on "
        f"{record['machine']}."
    ]
    for model in record["settings"]["models"]:
        chosen = f", which chose {model['chosen']}" if "chosen" in model else ""
        lines.append(
            f"- `{model['model']}` on {model['digits']}{chosen}: {model['seconds']:.0f} s."
        )
    return "\n".join(lines)
