"""Rows of the table: the measurement, the paper's result, and the criterion of agreement."""

from collections.abc import Callable
from dataclasses import dataclass, field

from _lab.lab import EPSILON


class NotAvailable(Exception):
    """A row needs something that is missing here; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """One row: a result of the paper and the experiment that repeats it.

    Attributes
    ----------
    id : str
        F1, L1 to L5, M1 to M8, A1 to A6.
    title : str
        The measurement in words.
    paper : dict of str to float, or str
        The paper's figures by our names for them, as shares; or its statement.
    measure : callable
        `measure(lab, seed)` gives a dict of figures.
    verdict : callable
        `verdict(means)` says in words whether ours agrees, from the means over seeds: with
        "agrees", "differs" or both.
    n_seeds : int
    numbers : tuple of str
        Names of figures that are not shares.
    epsilon : float
        The radius.
    on_digits : bool
        Whether the row takes MNIST.
    note : str
        The text below the table: our choices where the paper leaves them open, and the reasons for
        differences.
    """

    id: str
    title: str
    paper: dict | str
    measure: Callable
    verdict: Callable
    n_seeds: int = 3
    numbers: tuple = ()
    epsilon: float = EPSILON
    on_digits: bool = True
    note: str = ""
    pictures: list = field(default_factory=list)


ROWS: dict[str, Row] = {}


def row(row_id: str, title: str, **fields):
    """Enter an experiment into the table, with the fields of `Row`."""

    def enter(measure):
        ROWS[row_id] = Row(row_id, title, measure=measure, **fields)
        return measure

    return enter


def picture(row_id: str, name: str, caption: str):
    """Enter a function `draw(lab)` that returns a matplotlib figure, as a picture of a row."""

    def enter(draw):
        ROWS[row_id].pictures.append((name, caption, draw))
        return draw

    return enter
