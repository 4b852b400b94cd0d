"""The columns of raw X while `as_module` walks down to the estimators that see them.

A module sees numbers only. So an encoder of categories becomes a table of its outputs on one given
X, and the module looks up the row of each sample (see `_column_transformer.py`). The estimators
that encode may stand deep inside a vote or a calibration; several of them may see the same X, and
each may encode other columns. The columns in hand are what these estimators share: a rule that
hands its own X on to its parts calls `as_part` on them, and `as_part` keeps the columns in hand;
`as_module` puts them down, because its estimator may see something else.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.utils import check_array

from sk_adv.differentiable._composition import Select


@dataclass(frozen=True)
class ColumnsInHand:
    """An X with columns of several kinds, as one of the estimators inside a composite sees it.

    Attributes
    ----------
    X : array-like or frame of shape (n_samples, n_columns)
        The samples as this estimator gets them.

    positions : ndarray of int of shape (n_columns,)
        Their columns among those of the whole.

    is_number, free : ndarray of bool
        For the columns of the whole: which hold numbers, and which of these no estimator has taken
        for a table so far. All estimators write to the same `free`.

    transformers : dict of int to str
        For the columns of the whole that are held fixed: the type of the step that has no rule.

    needs_rules : bool
        Whether the module will be called. If not, a part without a rule may be left out.
    """

    X: object
    positions: np.ndarray
    is_number: np.ndarray
    free: np.ndarray
    transformers: dict = field(default_factory=dict)
    needs_rules: bool = True

    @property
    def row_column(self):
        """The column, behind those of the whole, that holds the number of the row."""
        return len(self.free)

    def are_numbers(self, indices=slice(None)):
        """Whether columns of this X hold numbers."""
        return self.is_number[self.positions[indices]].all()

    def hold(self, indices, step):
        """Note that columns of this X are held fixed, because of a step without a rule."""
        self.free[self.positions[indices]] = False
        for position in self.positions[indices].tolist():
            self.transformers.setdefault(position, type(step).__name__)

    def of_features(self, features):
        """The columns for an estimator that sees some of them, as an array like scikit-learn's."""
        array = check_array(self.X, dtype=None, ensure_all_finite=False)
        return replace(self, X=array[:, features], positions=self.positions[features])


_IN_HAND = ContextVar("columns in hand", default=None)


def columns_in_hand():
    """The columns of raw X that the present rule's estimator sees, or None if they are unknown."""
    return _IN_HAND.get()


@contextmanager
def holding(columns):
    """Take columns in hand, or put them down (None), for as long as the context lasts."""
    token = _IN_HAND.set(columns)
    try:
        yield
    finally:
        _IN_HAND.reset(token)


def check_columns(estimator, X):
    """Raise `ValueError` unless a frame has the columns of the fit in their order."""
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and hasattr(X, "columns") and list(fitted) != list(X.columns):
        raise ValueError(
            f"X must have the columns that {type(estimator).__name__} was fitted on, in their "
            f"order, {list(fitted)}; got {list(X.columns)}."
        )


_ENCODE = (
    "Encode them, or make each model that sees them, or its `surrogate`, a Pipeline that begins "
    "with a ColumnTransformer: such columns then stay unperturbed."
)


def numbers_for(estimator, remedy=_ENCODE):
    """The steps before the module of an estimator that takes all columns in hand as numbers.

    The message for columns that hold none ends in `remedy`.

    Returns
    -------
    list of nn.Module
        Empty without columns in hand.

    Raises
    ------
    ValueError
        If the columns are not those of the fit in their order, or one does not hold numbers.
    """
    columns = columns_in_hand()
    if columns is None:
        return []
    check_columns(estimator, columns.X)
    if not columns.are_numbers():
        names = getattr(columns.X, "columns", range(len(columns.positions)))
        is_number = columns.is_number[columns.positions]
        others = [name for name, known in zip(names, is_number, strict=True) if not known]
        raise ValueError(
            f"X must hold real numbers where {type(estimator).__name__} sees it; its columns "
            f"{others} do not. {remedy}"
        )
    return [Select(columns.positions)]
