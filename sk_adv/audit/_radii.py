"""The radius of each column, from numbers and from units of the columns' own spread."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.utils import _safe_indexing

from sk_adv._arrays import column_as_numbers
from sk_adv._perturbations import check_radius

# The units of a radius besides that of the data, and the words for them.
UNITS = {"sd": "standard deviations", "iqr": "interquartile ranges"}
_RADIUS = re.compile(r"\s*([-+.\w]*?)\s*(sd|iqr)?\s*")
_EXAMPLES = "such as 0.1, 0.1sd or 0.1iqr"


@dataclass(frozen=True)
class ColumnRadius:
    """How far one column may change.

    Parameters
    ----------
    column : str or int
        The name of the column, or its position in an array.
    radius : float
        In the units of the column; 0 if it stays as it is.
    text : str
        The radius as it was asked for, such as "0.1 sd".
    why_fixed : str, default=""
        Why the column stays as it is; empty if it may change.
    """

    column: str | int
    radius: float
    text: str
    why_fixed: str = ""


def radius_from_text(texts):
    """The radius that the command line names.

    Parameters
    ----------
    texts : list of str
        Either one radius for all columns, such as ["0.1sd"], or radii by column, such as
        ["age=3,fare=0.1iqr"] or ["age=3", "fare=0.1iqr"].

    Returns
    -------
    str, or dict of str to str

    Raises
    ------
    ValueError
        If a text is neither, or names a column twice.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        parse_radius(texts[0])
        return texts[0]
    found = {}
    for text in texts:
        parts = text.split(",")
        # The name of a column may hold a comma.
        for part in parts if all("=" in part for part in parts) else [text]:
            name, sign, radius = part.rpartition("=")
            if not sign or not name:
                raise ValueError(
                    f"{part!r} names no column: write one radius for all columns, {_EXAMPLES}, or "
                    "one by column, such as age=3,fare=0.1iqr"
                )
            if name in found:
                raise ValueError(f"column {name!r} has two radii, {found[name]} and {radius}")
            parse_radius(radius)
            found[name] = radius
    return found


def parse_radius(text):
    """The number and the unit of a radius such as "0.1sd"; the unit may be None.

    Raises
    ------
    ValueError
        If the text is no such radius.
    """
    number, unit = _RADIUS.fullmatch(text).groups() if _RADIUS.fullmatch(text) else (None, None)
    try:
        value = float(number)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{text!r} is not a radius: write a number of at least 0, {_EXAMPLES}")
    return value, unit


def column_radii(epsilon, X, names, columns=None, categories=()):
    """The radius of each column of X.

    Parameters
    ----------
    epsilon : float, str, array-like, mapping or Series
        As in `audit`.
    X : array-like or frame of shape (n_samples, n_features)
    names : list of str or int
        The names of the columns.
    columns : list or None, default=None
        The columns that may change; None takes all that hold numbers.
    categories : set of int, default=()
        Positions of columns of numbers that the model takes as categories.

    Returns
    -------
    list of ColumnRadius

    Raises
    ------
    ValueError
        If a column is unknown or can't change as was asked, a radius is invalid, or no column can
        change.
    TypeError
        If a radius is not a number.
    """
    chosen = set(names if columns is None else _listed(columns, names))
    asked = set() if columns is None else chosen
    if isinstance(epsilon, Mapping):
        asked = asked | set(epsilon)
    found = []
    for j, (name, given) in enumerate(zip(names, _given(epsilon, names), strict=True)):
        values = numbers_of_column(X, j)
        why = "holds no numbers" if values is None else "is a category for the model"
        if values is not None and j not in categories:
            found.append(_radius_of(name, given, values, is_chosen=name in chosen))
        elif name in asked:
            raise ValueError(f"Column {name!r} {why}, so it has no radius: name other columns.")
        else:
            found.append(ColumnRadius(name, 0.0, "", why))
    if all(column.why_fixed for column in found):
        reasons = sorted({column.why_fixed for column in found})
        raise ValueError(
            f"epsilon={epsilon!r} leaves every column as it is ({'; '.join(reasons)}): give at "
            "least one column of numbers a positive radius."
        )
    return found


def _listed(columns, names):
    columns = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise ValueError(f"columns names {unknown}, which X does not have; X has {names}.")
    return columns


def _given(epsilon, names):
    """One radius per column: a number, a text, or None where a mapping has no entry."""
    if isinstance(epsilon, str):
        return [epsilon] * len(names)
    if isinstance(epsilon, Mapping):
        unknown = [name for name in epsilon if name not in names]
        if unknown:
            raise ValueError(f"epsilon names {unknown}, which X does not have; X has {names}.")
        return [epsilon.get(name) for name in names]
    radii = check_radius(epsilon, (len(names),), names)
    return np.broadcast_to(radii, len(names)).tolist()


def _radius_of(name, given, values, is_chosen):
    if given is None:
        return ColumnRadius(name, 0.0, "", "has no radius")
    if not is_chosen:
        return ColumnRadius(name, 0.0, "", "was not chosen")
    if not isinstance(given, str):
        radius = float(check_radius(given, ()))
        return ColumnRadius(name, radius, f"{radius:g}", "" if radius else "has radius 0")
    number, unit = parse_radius(given)
    if unit is None:
        return ColumnRadius(name, number, f"{number:g}", "" if number else "has radius 0")
    text, radius = f"{number:g} {unit}", number * spread(values, unit)
    if not number:
        return ColumnRadius(name, 0.0, text, "has radius 0")
    if not radius > 0:
        why = f"has no spread: its {_SPREADS[unit]} is 0"
        return ColumnRadius(name, 0.0, text, why if np.isfinite(values).any() else "is empty")
    return ColumnRadius(name, radius, text)


_SPREADS = {"sd": "standard deviation", "iqr": "interquartile range"}


def spread(values, unit):
    """The standard deviation or the interquartile range of a column, without missing values."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        # The standard deviation of equal numbers is not always 0 when rounded.
        return 0.0
    if unit == "sd":
        return float(values.std())
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


def numbers_of_column(X, j):
    """Column j in float64, or None if it holds categories, truth values or other than numbers."""
    column = _safe_indexing(X, j, axis=1)
    # Categories may be named by numbers.
    kind = str(getattr(column, "dtype", "")).lower()
    if kind.startswith(("categor", "enum", "bool")):
        return None
    return column_as_numbers(column)
