"""ColumnTransformer: its rule for numbers, and frames in which some columns are no numbers."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_features
from torch import nn

from sk_adv.differentiable._core import Chain, as_module, parts_of, run
from sk_adv.differentiable._linear import is_affine
from sk_adv.differentiable._maps import Affine, Select
from sk_adv.differentiable._wrappers import active_steps, as_transformer


class Columns(nn.Module):
    """Parts that each see some columns of X, their outputs side by side."""

    has_parts = True

    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, X):
        """Transform X of shape (n_samples, n_features)."""
        return torch.cat([run(part, X) for part in self.parts], dim=1)

    @property
    def is_affine(self):
        """Whether all parts are."""
        return all(map(is_affine, self.parts))


class Table(nn.Module):
    """Rows that were computed beforehand; X holds their numbers in one of its columns."""

    def __init__(self, rows, column):
        super().__init__()
        self.register_buffer("rows", torch.as_tensor(rows))
        self.column = column

    def forward(self, X):
        """Rows of the numbers in X."""
        return self.rows[X[:, self.column].long()]


@dataclass(frozen=True)
class SplitColumns:
    """X as numbers for a module, where the columns that are not `free` stand for rows of X.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features), float64
    module : torch.nn.Module
        The estimator, for these samples only.
    free : ndarray of bool of shape (n_features,)
        The columns that reach the classifier by differentiable steps alone.
    names : list
        Names, or numbers, of all columns.
    transformers : list of str
        What the other columns go through.
    """

    values: np.ndarray
    module: nn.Module
    free: np.ndarray
    names: list
    transformers: list


def split_columns(estimator, X):
    """Numbers and a module for X if a ColumnTransformer has to take it apart, else None.

    Columns in another order than those that the estimator was fitted on raise a `ValueError`.

    Columns that go through a transformer without a rule, such as an encoder of categories, or that
    are no numbers, are transformed here, once; the module looks the results up.
    """
    names = list(X.columns) if hasattr(X, "columns") else list(range(_num_features(X)))
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and hasattr(X, "columns") and list(fitted) != names:
        raise ValueError(
            f"X must have the columns that {type(estimator).__name__} was fitted on, in their "
            f"order, {list(fitted)}; got {names}."
        )
    steps = _steps(estimator)
    if not steps or not isinstance(steps[0], ColumnTransformer) or isinstance(X, torch.Tensor):
        return None
    transformer = steps[0]
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    columns = [_as_numbers(_safe_indexing(X, j, axis=1)) for j in range(len(names))]
    is_number = np.array([column is not None for column in columns])
    free, parts, through = is_number.copy(), [], []
    for part, indices, is_single, weight in _parts(transformer):
        module = _module_or_none(part) if is_number[indices].all() else None
        if module is None:
            rows = part.transform(_safe_indexing(X, indices[0] if is_single else indices, axis=1))
            rows = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
            module = Table(rows.astype(np.float64), int(indices[0]))
            free[indices] = False
            through.append(type(part).__name__)
        else:
            module = Chain(Select(indices), module)
        parts.append(_weighted(module, weight))
    if free.all():
        return None
    values = np.empty((len(X), len(names)))
    for j, column in enumerate(columns):
        values[:, j] = column if free[j] else np.arange(len(X))
    module = Chain(Columns(parts), *map(as_module, steps[1:])).eval().requires_grad_(False)
    return SplitColumns(values, module, free, names, through)


def _steps(estimator):
    """The steps of an estimator, out of searches, frozen estimators and nested pipelines."""
    if isinstance(estimator, BaseSearchCV):
        return _steps(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return _steps(estimator.estimator)
    if isinstance(estimator, Pipeline):
        first, *others = active_steps(estimator) or [None]
        return [*_steps(first), *others]
    return [estimator]


def _parts(transformer):
    """The fitted transformers in use, in the order of their outputs; the columns of each.

    Then whether the transformer takes its one column as a vector, and the weight of its output.
    """
    weights = transformer.transformer_weights or {}
    for name, part, columns in transformer.transformers_:
        indices = np.asarray(transformer._transformer_to_input_indices[name], dtype=int)
        if part == "passthrough":
            part = FunctionTransformer()
        if not (isinstance(part, str) and part == "drop") and len(indices):
            yield part, indices, np.isscalar(columns), weights.get(name)


def _weighted(module, weight):
    return module if weight is None else Chain(module, Affine(scale=weight))


def _module_or_none(part):
    try:
        return as_transformer(part)
    except TypeError:
        return None


def columns_without_numbers(X):
    """The names, or numbers, of the columns of X that are no numbers."""
    names = X.columns if hasattr(X, "columns") else range(_num_features(X))
    return [
        name for j, name in enumerate(names) if _as_numbers(_safe_indexing(X, j, axis=1)) is None
    ]


def _as_numbers(column):
    """A column as floating point numbers, or None if it is of another kind."""
    array = np.asarray(column)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    try:
        # Columns of an array of mixed types, and numbers with gaps.
        kinds = {type(value) for value in array if value is not None}
        if kinds and all(issubclass(kind, Real) for kind in kinds):
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    return None


@as_module.register(ColumnTransformer)
def _(transformer):
    return Columns(
        _weighted(Chain(Select(indices), as_transformer(part)), weight)
        for part, indices, _, weight in _parts(transformer)
    )


@parts_of.register(ColumnTransformer)
def _(transformer):
    # Without a rule its columns just stay unperturbed.
    return []
