"""Charts of the benchmarks, drawn from the tables that these have written.

Every number in a chart is read from a table in `benchmarks/*/results/*.md`. The pictures go to
`docs/benchmarks/charts/`, anew with each build.
"""

import math
import re
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
THOUSANDS = "{x:,.0f}"  # how a large number is written at an axis


def tables(path):
    """The first table below each heading of a page, by heading: a list of dicts of cells."""
    found, heading = {}, ""
    rows = []
    for line in [*path.read_text().split("\n"), ""]:
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
        elif rows:
            header, _, *body = rows
            found.setdefault(heading, [dict(zip(header, row, strict=True)) for row in body])
            rows = []
    return found


def number(cell):
    """The number that a cell begins with: of "1,024.5 (met: ≤ 2)" it is 1024.5; NaN if none."""
    match = re.match(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?", cell)
    return float(match[0].replace(",", "")) if match else float("nan")


def numbers(rows, column):
    return [number(row[column]) for row in rows]


def strongest_attack(figure):
    """Accuracy and seconds under "auto", against those under AutoAttack."""
    (rows,) = tables(BENCHMARKS / "robustness/results/strongest_attack.md").values()
    accuracy, seconds = figure.subplots(1, 2)
    data = sorted({row["data"] for row in rows})
    for name, marker, color in zip(data, "o^", (BLUE, ORANGE), strict=True):
        some = [row for row in rows if row["data"] == name]
        style = {"alpha": 0.75, "color": color, "label": name, "s": 32}
        pairs = numbers(some, "AutoAttack"), numbers(some, "auto")
        accuracy.scatter(*pairs, marker=marker, **style)
        # A time that the table rounds to 0.0 s is drawn at its margin.
        times = [
            [max(value, 0.05) for value in numbers(some, column)]
            for column in ("AutoAttack, s", "auto, s")
        ]
        seconds.scatter(*times, marker=marker, **style)
    accuracy.set(
        title=f"accuracy left, {len(rows)} pairs", xlabel="under AutoAttack", ylabel="under “auto”"
    )
    seconds.set(
        xscale="log", yscale="log", title="processor seconds", xlabel="AutoAttack", ylabel="“auto”"
    )
    for ax in (accuracy, seconds):
        ends = [min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])]
        ax.plot(ends, ends, color=GREY, linewidth=1, zorder=0, label="equal")
        ax.legend()


def training(figure):
    """Clean accuracy, accuracy under attack and certified accuracy of each training."""
    (rows,) = tables(BENCHMARKS / "robustness/results/training.md").values()
    ax, height = figure.subplots(), range(len(rows))[::-1]
    columns = {
        "clean": ("clean", "D", GREY),
        "under “auto”": ("auto, of 1,000", "o", ORANGE),
        "certified": ("certified, of 1,000", "s", BLUE),
    }
    ax.hlines(
        height,
        numbers(rows, "certified, of 1,000"),
        numbers(rows, "auto, of 1,000"),
        color="0.85",
        linewidth=8,
        zorder=0,
    )
    for label, (column, marker, color) in columns.items():
        ax.scatter(numbers(rows, column), height, s=40, color=color, marker=marker, label=label)
    ax.set_yticks(height, [row["training at ε"] for row in rows])
    ax.set(xlabel="accuracy on MNIST (%)", xlim=(-2, 102))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def verdicts(figure):
    """Verdicts of small networks on the test samples."""
    (rows,) = tables(BENCHMARKS / "robustness/results/verdicts.md").values()
    ax, start = figure.subplots(), [0.0] * len(rows)
    names = [f"{row['units']} units, ε = {row['ε']}" for row in rows]
    looks = {
        "verified": (BLUE, "white"),
        "unknown": ("#D9D9D9", "black"),
        "falsified": (ORANGE, "black"),
    }
    for verdict, (color, text) in looks.items():
        widths = numbers(rows, verdict)
        bars = ax.barh(names, widths, left=start, color=color, label=verdict)
        ax.bar_label(
            bars, [f"{w:.0f}" if w else "" for w in widths], label_type="center", color=text
        )
        start = [a + b for a, b in zip(start, widths, strict=True)]
    ax.invert_yaxis()
    ax.set(xlabel=f"of {start[0]:.0f} test samples")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def trees(figure):
    """Processor time per sample of each side."""
    rows = tables(BENCHMARKS / "speed/results/trees.md")["Breast cancer"]
    rows = [row for row in rows if "raw units" not in row["model"]]
    models = list(dict.fromkeys(row["model"] for row in rows))
    sides = list(dict.fromkeys(row["side"] for row in rows))
    ax = figure.subplots()
    hatches = ("", "//", "..")
    for place, (side, color, hatch) in enumerate(
        zip(sides, (BLUE, ORANGE, GREEN), hatches, strict=True)
    ):
        some = [row for row in rows if row["side"] == side]
        at = [models.index(row["model"]) + 0.27 * (place - 1) for row in some]
        times = numbers(some, "CPU ms / sample")
        bars = ax.barh(at, times, 0.25, color=color, label=side, hatch=hatch, edgecolor="white")
        flaws = {"unknown": "unknown", "false certificates": "certified falsely"}
        labels = [
            ", ".join(
                [f" {time:g}"]
                + [
                    f"{number(row[key]):.0f} {name}"
                    for key, name in flaws.items()
                    if number(row[key])
                ]
            )
            for time, row in zip(times, some, strict=True)
        ]
        ax.bar_label(bars, labels, fontsize=9)
    ax.set_yticks(range(len(models)), models)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="processor milliseconds per sample (log scale)")
    ax.set_xlim(right=ax.get_xlim()[1] * 40)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def linear(figure):
    """Time to the optimum against the radius on two threads, beside L1-penalised solvers."""
    found = tables(BENCHMARKS / "speed/results/linear.md")
    rows = [row for row in found["MNIST 3 versus 7, against L1"] if row["threads"] == "2"]
    ax = figure.subplots()
    sides = {"ours": ("o-", BLUE), "liblinear": ("s--", ORANGE), "celer": ("^:", GREEN)}
    for side, (style, color) in sides.items():
        times = numbers(rows, side)
        if all(map(math.isnan, times)):  # not installed when the table was measured
            continue
        name = "sk_adv" if side == "ours" else f"{side} (L1)"
        ax.plot(numbers(rows, "ε"), times, style, color=color, label=name)
    ax.set(xscale="log", yscale="log", xlabel="radius ε, or an L1 penalty as sparse")
    ax.set(ylabel="seconds")
    ax.legend()


def networks(figure):
    """Training samples per second of each side."""
    found = tables(BENCHMARKS / "speed/results/networks.md")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, size in zip(panels, (100, 500), strict=True):
        rows = found[f"Batches of {size}"]
        colors = [BLUE if row["side"].startswith("sk_adv") else GREY for row in rows]
        rates = numbers(rows, "samples / s")
        bars = ax.barh([row["side"] for row in rows], rates, color=colors)
        ax.bar_label(bars, [f" {rate:,.0f}" for rate in rates], fontsize=9)
        ax.set(title=f"batches of {size}", xlabel="samples per second")
        ax.locator_params(axis="x", nbins=5)
        ax.xaxis.set_major_formatter(THOUSANDS)
        ax.set_xlim(right=1.25 * max(rates))
    panels[0].invert_yaxis()


def attacks(figure):
    """Adversarial copies per second of each side."""
    rows = tables(BENCHMARKS / "speed/results/attacks.md")["FGSM"]
    ax = figure.subplots()
    rates = numbers(rows, "copies / s")
    colors = [BLUE if row["side"].startswith("sk_adv") else GREY for row in rows]
    bars = ax.barh([row["side"].replace("`", "") for row in rows], rates, color=colors)
    ax.bar_label(bars, [f" {rate:,.0f}" for rate in rates], fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="copies per second")
    ax.xaxis.set_major_formatter(THOUSANDS)
    ax.set_xlim(right=1.15 * max(rates))


CHARTS = {
    strongest_attack: (9, 4.2),
    training: (8, 4.4),
    verdicts: (8, 2.6),
    trees: (8, 3.8),
    linear: (7, 4),
    networks: (9.5, 3.6),
    attacks: (8, 3.2),
}


def draw(app):
    """Draw all charts into the folder of the pages."""
    from matplotlib.figure import Figure

    folder = Path(app.srcdir) / "benchmarks" / "charts"
    folder.mkdir(exist_ok=True)
    for chart, size in CHARTS.items():
        figure = Figure(figsize=size, layout="constrained")
        chart(figure)
        for ax in figure.axes:
            ax.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{chart.__name__}.png", dpi=130)


def setup(app):
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
