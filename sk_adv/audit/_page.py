"""The report as one page of HTML, made from the numbers as JSON holds them."""

import math
import re
from html import escape

from sk_adv.audit._charts import bars, curve_chart, share_bar
from sk_adv.audit._style import STYLE
from sk_adv.audit._words import percent, radius_text, share
from sk_adv.metrics._verdicts import STATUSES

# Columns with a bar, and changes of a sample, that are shown.
_BARS, _CHANGES = 12, 5

_ATTACKS = {
    "none": "The rows as they are",
    "uniform_noise": "Random noise of this size",
    "fgsm": "One step along the gradient (fgsm)",
    "pgd": "Many steps along the gradient (pgd)",
    "square": "Random search by the model's answers alone (square)",
    "verdict": "All that was found: the falsified rows",
}
_UNITS = {
    "sd": "sd: standard deviation of each column in these data, divisor n",
    "iqr": "iqr: interquartile range of each column in these data",
    "units": "in the units of the data",
    None: "multiples of the radius of each column",
}


def page(numbers):
    """The page.

    Parameters
    ----------
    numbers : dict
        What `AuditReport.to_dict` returns.

    Returns
    -------
    str
    """
    sections = [
        _head(numbers),
        _curve(numbers),
        _columns(numbers),
        _fragile(numbers),
        _attacks(numbers),
        _allowed(numbers),
        _notes(numbers),
        _settings(numbers),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {escape(numbers['name'])}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(filter(None, sections))}</main>\n</body>\n</html>\n"
    )


def _head(numbers):
    verdict = numbers["verdict"]
    n, counts = verdict["n_samples"], {status: verdict[status] for status in STATUSES}
    meanings = {
        "verified": "proved to stay right",
        "unknown": "neither proved nor broken",
        "falsified": "wrong, or made wrong by a change within the radius",
    }
    # At least so many are verified and falsified, and at most so many unknown.
    ends = {"verified": "lower", "unknown": "upper", "falsified": "lower"}
    if not counts["unknown"]:
        ends = dict.fromkeys(ends)
    items = "".join(
        f'<li><span class="key {status}"></span><span><b>{_number(counts[status])}</b> '
        f"({percent(counts[status], n, ends[status])}) {status}: {meaning}</span></li>"
        for status, meaning in meanings.items()
    )
    proofless = ""
    if not counts["verified"] and counts["unknown"]:
        proofless = (
            "<p>Nothing could be proved about this model. The rows that are left may break too: "
            "the accuracy can be lower than the verdict says, and not higher.</p>\n"
        )
    return (
        f'<p class="kicker">Audit of {escape(numbers["name"])}</p>\n'
        f"<h1>{escape(verdict['text'])}</h1>\n{share_bar(counts)}"
        f'<ul class="counts">{items}</ul>\n{proofless}'
    )


def _curve(numbers):
    radius, curve = numbers["radius"], numbers["curve"]
    n = numbers["verdict"]["n_samples"]
    unit = _UNITS[radius["unit"]]
    labels, rows = [], []
    for point in curve:
        # Not all points of a fine curve have a text.
        if not (4 * point["multiple"]).is_integer():
            labels.append("")
            continue
        labels.append(f"{point['multiple'] * radius['factor']:.3g}")
        text = radius_text(radius["factor"], radius["unit"], point["multiple"])
        low, high = ("lower", "upper") if point["unknown"] else (None, None)
        rows.append(
            [
                _data(point["multiple"], text),
                *(_number(point[status]) for status in ("verified", "unknown", "falsified")),
                _data(point["lower"], percent(point["verified"], n, low)),
                _data(point["upper"], percent(n - point["falsified"], n, high)),
            ]
        )
    titles = ["radius", *("verified", "unknown", "falsified"), "at least right", "at most right"]
    table = _table(titles, rows, "nnnnn")
    keys = "".join(
        f'<li><span class="key {status}"></span>{status}</li>'
        for status in ("falsified", "unknown", "verified")
    )
    return (
        '<section id="curve"><h2>How it falls with the radius</h2>\n'
        "<p>At each radius, every row is proved to stay right, broken by a change that the model "
        "itself gets wrong, or neither. The accuracy in the worst case runs between the two. The "
        "dashed line is the radius of this audit.</p>\n"
        f'<figure><ul class="counts">{keys}</ul>{curve_chart(curve, labels, f"radius ({unit})")}'
        f"<figcaption>{len(curve)} radii were measured. Between two of them, what is proved at the "
        "larger one is verified, what is broken at the smaller one is falsified, and the rest is "
        f"unknown.</figcaption></figure>\n{_folded('The numbers', table)}</section>\n"
    )


def _columns(numbers):
    found = numbers["contribution"]
    if found is None:
        return ""
    is_open = found["kind"] != "share" and not numbers["verdict"]["verified"]
    if found["kind"] == "share":
        text = (
            "The model is linear, so each column has an exact share of the worst change: its "
            "weight times its radius. The longest bar is the largest share, whatever its size."
        )
    else:
        low, high = found["baseline"]
        is_proved = all(row["lower"] == row["upper"] for row in found["columns"])
        ends = (
            "All shares are proved."
            if is_proved
            else "Nothing is proved of these shares: they are what the attacks found."
            if is_open
            else "What comes back in the worst case is proved to lie between the two ends in "
            "brackets; the faint part of a bar leads to the upper one."
        )
        where = "the rows"
        if found["rows"] is not None:
            where = f"{len(found['rows'])} rows, drawn at random,"
        text = (
            f"With all columns free, {_between(low, high)} of {where} stay right. Each bar is the "
            "share of rows that can be broken, but no longer if this column can't change. "
            f"{ends} A row that two columns can each break alone comes back for neither. The "
            "longest bar is the largest share, whatever its size."
        )
    shown = found["columns"][:_BARS]
    drawn = bars(
        [
            (
                str(row["column"]),
                row["contribution"],
                row["contribution"] if is_open else row["upper"],
                _share_of(row, "contribution") if is_open else _contribution_of(row),
            )
            for row in shown
        ]
    )
    rest = ""
    if len(found["columns"]) > _BARS:
        rows = [
            [
                escape(str(row["column"])),
                *(_share_of(row, end) for end in ("contribution", "lower", "upper")),
            ]
            for row in found["columns"]
        ]
        table = _table(["column", "comes back", "at least", "at most"], rows, "nnn")
        rest = _folded(f"All {len(rows)} columns", table)
    return (
        '<section id="columns"><h2>The columns that matter</h2>\n'
        f"<p>{text}</p>\n{drawn}\n{rest}</section>\n"
    )


def _contribution_of(row):
    text = _share_of(row, "contribution")
    if row["upper"] - row["lower"] < 1e-9:
        return text
    return f"{text} ({_between(row['lower'], row['upper'])})"


def _share_of(row, end):
    is_exact = row["upper"] - row["lower"] < 1e-9
    return _data(row[end], share(row[end], None if is_exact else end))


def _fragile(numbers):
    samples = numbers["fragile"]["samples"]
    title = '<section id="fragile"><h2>The rows that break first</h2>\n'
    if not samples:
        if any("rows that break first" in note for note in numbers["notes"]):
            return ""
        return f"{title}<p>No row is right, so none can be broken.</p></section>\n"
    radius = numbers["radius"]
    rows = [
        [
            f"row {escape(sample['row'])}",
            escape(str(sample["label"])),
            escape(_or_dash(sample["prediction_after"])),
            _data(sample["radius_upper"], _radius(sample, radius)),
            _changes(sample["changes"]),
        ]
        for sample in samples
    ]
    titles = ["", "label", "taken for", "smallest radius", "what changes"]
    like = radius_text(radius["factor"], radius["unit"])
    unit = "" if radius["unit"] is None else f", {like}"
    is_proved = numbers["fragile"]["is_proved"]
    besides = "" if is_proved else " It is not proved that no other row needs less."
    counted = ""
    if "data" in numbers["settings"]:
        counted = " Row 0 is the first row of the file below its header."
    return (
        f"{title}<p>Among the rows that are right, these need the least change to be wrong. The "
        f"radius is measured like that of the audit{unit}.{besides}{counted}</p>\n"
        f"{_table(titles, rows, as_cards=True)}</section>\n"
    )


def _radius(sample, radius):
    low, high = sample["radius_lower"], sample["radius_upper"]
    factor, unit = radius["factor"], radius["unit"]
    suffix = {"units": "", None: " × its radius"}.get(unit, f" {unit}")
    if high is None:
        return f"above {_rounded(low * factor)}{suffix}"
    ends = [_rounded(low * factor), _rounded(high * factor, up=True)]
    if high - low <= 1e-6 * high:
        return f"{_digits(high * factor)}{suffix}"
    return f"{ends[0]} to {ends[1]}{suffix}"


def _rounded(value, *, up=False):
    """A number with three digits, rounded down or up."""
    if not value:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    whole = math.ceil(value / unit - 1e-9) if up else math.floor(value / unit + 1e-9)
    return _digits(whole * unit)


def _digits(value):
    """A number with three digits, zeros at the end included."""
    if not value:
        return "0"
    value = float(f"{value:.2e}")
    return f"{value:.{max(2 - math.floor(math.log10(abs(value))), 0)}f}"


def _changes(changes):
    if not changes:
        return "–"
    lines = []
    for name, (before, after) in list(changes.items())[:_CHANGES]:
        pair = [_data(value, _value(value, before, after)) for value in (before, after)]
        lines.append(f'<span class="change">{escape(str(name))} {" → ".join(pair)}</span>')
    if len(changes) > _CHANGES:
        lines.append(f'<span class="change soft">and {len(changes) - _CHANGES} more</span>')
    return "".join(lines)


def _value(value, before, after):
    """A value with as many digits as show the change."""
    if not isinstance(value, int | float) or not isinstance(before, int | float):
        return escape(_or_dash(value))
    change = abs(after - before) if isinstance(after, int | float) else 0
    if not change:
        return f"{value:g}"
    digits = max(0, 1 - math.floor(math.log10(change)))
    if digits > 12:
        return f"{value:.6g}"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _attacks(numbers):
    n = numbers["verdict"]["n_samples"]
    rows = [
        [
            escape(_ATTACKS.get(row["attack"], row["attack"])),
            _data(row["error"], percent(round(row["error"] * n), n, _end_of(row, numbers))),
            _data(row["confidence"], _confidence(row["confidence"])),
        ]
        for row in numbers["attacks"]
    ]
    unknown = numbers["verdict"]["unknown"]
    besides = ""
    if unknown:
        besides = (
            f" Of {unknown} rows besides, nothing is known: they may be wrong in the worst case."
        )
    return (
        '<section id="attacks"><h2>Attacks side by side</h2>\n'
        "<p>The error at the radius of this audit under each attack. A weak attack that finds "
        f"little does not show that the model is strong.{besides}</p>\n"
        + _table(["attack", "wrong rows", "mean confidence when wrong"], rows, "nn")
        + "</section>\n"
    )


def _end_of(row, numbers):
    """The falsified rows are a lower end where others are unknown."""
    is_lower = row["attack"] == "verdict" and numbers["verdict"]["unknown"]
    return "lower" if is_lower else None


def _confidence(value):
    return "–" if value is None else f"{100 * value:.1f} %"


def _allowed(numbers):
    rows = []
    for column in numbers["radius"]["columns"]:
        if column["why_fixed"]:
            how, size = f"fixed: it {escape(column['why_fixed'])}", _data(0.0, "0")
        else:
            how = escape(column["text"])
            size = _data(column["radius"], f"{column['radius']:.4g}")
        rows.append([escape(str(column["column"])), how, size])
    kind = numbers["settings"]["norm"]
    how = (
        "Each column may change by up to its radius, all at once."
        if kind == "max"
        else "All changes, each divided by its radius, have a Euclidean length of at most 1."
    )
    unit = numbers["radius"]["unit"]
    words = f" ({_UNITS[unit]})" if unit in ("sd", "iqr") else ""
    table = _table(["column", "radius as asked", "in units of the column"], rows, "-n")
    n_free = sum(not column["why_fixed"] for column in numbers["radius"]["columns"])
    return (
        '<section id="allowed"><h2>What may change</h2>\n'
        f"<p>{how} Missing values stay missing.{words}</p>\n"
        f"{_folded(f'{n_free} of {len(rows)} columns may change', table)}</section>\n"
    )


def _notes(numbers):
    if not numbers["notes"]:
        return ""
    items = "".join(f"<li>{_with_options(note)}</li>" for note in numbers["notes"])
    return f'<section id="notes"><h2>Notes</h2>\n<ul class="notes">{items}</ul></section>\n'


def _with_options(text):
    """Escaped text in which no line breaks inside of an option of the command line."""
    return re.sub(r"--[\w-]+", r'<span class="option">\g<0></span>', escape(text))


def _settings(numbers):
    rows = [
        [escape(name), _setting(value)]
        for name, value in numbers["settings"].items()
        if value is not None and name != "calls"
    ]
    rows += [[escape(name), escape(version)] for name, version in numbers["versions"].items()]
    return (
        '<section id="settings"><h2>Settings and versions</h2>\n'
        f"{_folded('Show', _table(['', ''], rows, ''))}</section>\n"
        "<footer>Made by sk_adv. Exact shares are rounded to the nearest; where a share is known "
        "to lie between two ends, the lower one is rounded down and the upper one up. The JSON "
        "file has the same numbers, and the arguments of the functions that gave them."
        "</footer>\n"
    )


def _setting(value):
    if isinstance(value, dict):
        return escape(", ".join(f"{key} {entry or ''}".strip() for key, entry in value.items()))
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _between(low, high):
    if abs(high - low) < 1e-9:
        return share(low)
    return f"{share(low, 'lower')} to {share(high, 'upper')}"


def _number(count):
    return _data(count, str(count))


def _data(value, text):
    return f'<data value="{"" if value is None else escape(str(value))}">{text}</data>'


def _or_dash(value):
    return "–" if value is None else str(value)


def _table(titles, rows, kinds="", *, as_cards=False):
    """A table in a box of its own, which scrolls where the screen is narrow.

    `kinds` has an "n" for each column of numbers but the first. As cards, each row stands by itself
    on a narrow screen.
    """
    kinds = f"-{kinds}".ljust(len(titles), "-")
    classes = [' class="n"' if kind == "n" else "" for kind in kinds]
    head = "".join(f"<th{kind}>{title}</th>" for kind, title in zip(classes, titles, strict=True))
    head = f"<thead><tr>{head}</tr></thead>" if any(titles) else ""
    body = ""
    for row in rows:
        body += f'<tr><th scope="row">{row[0]}</th>'
        for kind, title, cell in zip(classes[1:], titles[1:], row[1:], strict=True):
            named = f' data-title="{title}"' if as_cards else ""
            body += f"<td{kind}{named}>{f'<div>{cell}</div>' if as_cards else cell}</td>"
        body += "</tr>"
    cards = ' class="cards"' if as_cards else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table{cards}>{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def _folded(title, content):
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
