"""The rule for ColumnTransformer, and modules for frames with columns that are not numbers."""

from dataclasses import dataclass

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

from sk_adv._arrays import column_as_numbers
from sk_adv._pipelines import active_steps
from sk_adv.differentiable._as_module import as_module, parts_of
from sk_adv.differentiable._composition import Chain, run
from sk_adv.differentiable._linear import is_affine
from sk_adv.differentiable._pipeline import (
    as_transformer,
    has_transformer_rule,
    refuse_classifiers,
    transformers_with_rules,
)
from sk_adv.differentiable._transformers import Affine, Select


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
        """Whether all parts are affine."""
        return all(map(is_affine, self.parts))


class Table(nn.Module):
    """Rows that were computed beforehand; one column of X holds their indices."""

    def __init__(self, rows, column):
        super().__init__()
        self.register_buffer("rows", torch.as_tensor(rows))
        self.column = column

    def forward(self, X):
        """The rows that X names."""
        return self.rows[X[:, self.column].long()]


@dataclass(frozen=True)
class SplitColumns:
    """X as numbers for a module; the columns that are not `free` hold the indices of the rows.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features), float64
    module : torch.nn.Module
        The estimator, for these samples only.
    free : ndarray of bool of shape (n_features,)
        The columns that reach the classifier through differentiable steps only.
    is_number : ndarray of bool of shape (n_features,)
        The columns that hold numbers.
    names : list
        Names, or indices, of all columns.
    transformers : list of str
        Types of the transformers of the other columns.
    """

    values: np.ndarray
    module: nn.Module
    free: np.ndarray
    is_number: np.ndarray
    names: list
    transformers: list


def check_columns(estimator, X):
    """Raise `ValueError` unless a frame has the columns of the fit in their order."""
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and hasattr(X, "columns") and list(fitted) != list(X.columns):
        raise ValueError(
            f"X must have the columns that {type(estimator).__name__} was fitted on, in their "
            f"order, {list(fitted)}; got {list(X.columns)}."
        )


def split_columns(estimator, X):
    """Numbers and a module for X if it has columns that only a ColumnTransformer takes, else None.

    Some columns go through a transformer without a rule, such as an encoder of categories, or are
    not numbers. They are transformed here, once, and the module looks the results up. If the
    columns are in another order than in `fit`, this raises a `ValueError`.
    """
    names = list(X.columns) if hasattr(X, "columns") else list(range(_num_features(X)))
    check_columns(estimator, X)
    steps = _steps(estimator)
    if not steps or not isinstance(steps[0], ColumnTransformer) or isinstance(X, torch.Tensor):
        return None
    transformer = steps[0]
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    columns = [column_as_numbers(_safe_indexing(X, j, axis=1)) for j in range(len(names))]
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
    return SplitColumns(values, module, free, is_number, names, through)


def _steps(estimator):
    """The steps of an estimator, taken out of searches, frozen estimators and nested pipelines."""
    if isinstance(estimator, BaseSearchCV):
        return _steps(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return _steps(estimator.estimator)
    if isinstance(estimator, Pipeline):
        first, *others = active_steps(estimator) or [None]
        return [*_steps(first), *others]
    return [estimator]


def _parts(transformer):
    """Iterate over the fitted transformers in use, in the order of their outputs.

    Yields the transformer, the indices of its columns, whether it takes its one column as a
    vector, and the weight of its output.
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
    return as_transformer(part) if has_transformer_rule(part) else None


def columns_without_numbers(X):
    """The names, or indices, of the columns of X that do not hold numbers."""
    names = X.columns if hasattr(X, "columns") else range(_num_features(X))
    return [
        name for j, name in enumerate(names) if column_as_numbers(_safe_indexing(X, j, axis=1)) is None
    ]


def _transformers(transformer):
    """The transformers in use, fitted or not."""
    if hasattr(transformer, "transformers_"):
        return [part for part, *_ in _parts(transformer)]
    parts = [part for _, part, _ in transformer.transformers] + [transformer.remainder]
    return [part for part in parts if not isinstance(part, str)]


def refuse_classifiers_in(transformer):
    """The error for the first classifier among its transformers, or None."""
    return refuse_classifiers(_transformers(transformer))


@as_module.register(ColumnTransformer, refuse=refuse_classifiers_in)
def _(transformer):
    return Columns(
        _weighted(Chain(Select(indices), as_transformer(part)), weight)
        for part, indices, _, weight in _parts(transformer)
    )


@parts_of.register(ColumnTransformer)
def _(transformer):
    return transformers_with_rules(_transformers(transformer))
