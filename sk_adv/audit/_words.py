"""The verdict in words, and numbers as text."""

import math
from fractions import Fraction


def percent(count, total, end=None):
    """A ratio of counts in percent, rounded as `share` does."""
    return share(Fraction(int(count), int(total)), end)


def share(value, end=None):
    """A share in percent with one digit.

    Rounded to the nearest, but to 0 or 100 only if it is just that; or, as the `end` "lower" or
    "upper" of what is known, down or up, so that it never says more than is known.
    """
    scaled = 1000 * value
    # Sums of shares carry a rounding error of their own.
    if end == "lower":
        whole = math.floor(scaled + 1e-9)
    elif end == "upper":
        whole = math.ceil(scaled - 1e-9)
    else:
        whole = round(scaled)
        if whole in (0, 1000) and abs(scaled - whole) > 1e-9:
            whole += 1 if whole == 0 else -1
    return f"{whole / 10:.1f} %"


def radius_text(factor, unit, multiple=1.0):
    """A multiple of the radius, such as "0.2 sd"."""
    number = f"{multiple * factor:.3g}"
    if unit is None:
        return f"{number} × its radius"
    return number if unit == "units" else f"{number} {unit}"


def verdict_in_words(report):
    """The verdict of an `AuditReport` in two sentences."""
    n = report.n_samples
    return (
        f"Of {n} rows {report.n_right} ({percent(report.n_right, n)}) are right. "
        f"If {_what_may_change(report)}, {_how_many(report)} stay right."
    )


def _how_many(report):
    n, lower, upper = report.n_samples, report.verified, report.n_samples - report.falsified
    if not report.unknown:
        return f"exactly {lower} ({percent(lower, n)})"
    at_most = f"at most {upper} ({percent(upper, n, 'upper')})"
    if not lower:
        return at_most
    return f"at least {lower} ({percent(lower, n, 'lower')}) and {at_most}"


def _what_may_change(report):
    columns = report.columns
    free = columns[columns["why_fixed"] == ""]
    chosen = ("has no radius", "was not chosen", "has radius 0")
    texts = [radius_text(*_parsed(text)) for text in free["text"]]
    together = " together" if report.settings["norm"] == "Euclidean" and len(free) > 1 else ""
    if len(free) <= 3 and len(free) < len(columns):
        names = [str(name) for name in free["column"]]
        if report.unit is not None:
            return f"{_listed(names)} may be off{together} by {texts[0]}"
        parts = [f"{name} by {text}" for name, text in zip(names, texts, strict=True)]
        first = parts[0].replace(" by ", " may be off by ", 1)
        return _listed([first, *parts[1:]]) + together
    who = "every measurement"
    if columns["why_fixed"].isin(chosen).any():
        who = f"{len(free)} of the {len(columns)} columns"
    by = "its radius" if report.unit is None else texts[0]
    if not who.startswith("every") and report.unit is None:
        by = "their radii"
    return f"{who} may be off{together} by {by}"


def _parsed(text):
    number, _, unit = text.partition(" ")
    return float(number), unit or "units"


def _listed(words):
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"
