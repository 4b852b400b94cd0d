"""The rule for ColumnTransformer, and modules for frames with columns that are not numbers."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_features
from torch import nn

from sk_adv._arrays import column_as_numbers
from sk_adv.differentiable._as_module import as_module, as_part, parts_of
from sk_adv.differentiable._columns_in_hand import (
    ColumnsInHand,
    check_columns,
    columns_in_hand,
    holding,
)
from sk_adv.differentiable._composition import Chain, Select, run
from sk_adv.differentiable._linear import is_affine
from sk_adv.differentiable._pipeline import (
    as_transformer,
    has_transformer_rule,
    refuse_classifiers,
    step_without_rule,
    transformers_with_rules,
)
from sk_adv.differentiable._transformers import Affine


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


class Recall(nn.Module):
    """X with the fixed columns, which hold the index of the row, as numbers again, and the index.

    One estimator may hold a column fixed that another reads as a number.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows, n_fixed), float64
        The fixed columns; NaN in those that hold no numbers, which no module reads.

    fixed : ndarray of int of shape (n_fixed,)
        Their positions.
    """

    def __init__(self, numbers, fixed):
        super().__init__()
        # As the first parameter it sets the precision of an attack. In float64 an index is exact,
        # which it may not be in the precision of a network.
        self.numbers = nn.Parameter(torch.as_tensor(numbers), requires_grad=False)
        self.register_buffer("fixed", torch.as_tensor(fixed, dtype=torch.int64))

    def forward(self, X):
        """The columns of X of shape (n_samples, n_features), and one more with the index."""
        index = X[:, self.fixed[:1]]
        return torch.cat([X.index_copy(1, self.fixed, self.of_rows(index)), index], dim=1)

    def of_rows(self, index):
        """The fixed columns of the rows with these indices, of shape (n_samples, 1)."""
        return self.numbers[index.squeeze(1).long()]


@dataclass(frozen=True)
class SplitColumns:
    """X as numbers for a module; the columns that are not `free` hold the indices of the rows.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features), float64
    module : torch.nn.Module
        The estimator, for these samples only.
    free : ndarray of bool of shape (n_features,)
        The columns that reach the classifier through differentiable steps only, in every estimator
        inside a composite one.
    is_number : ndarray of bool of shape (n_features,)
        The columns that hold numbers.
    names : list
        Names, or indices, of all columns.
    transformers : dict of int to str
        For the other columns: the type of the step that has no rule.
    """

    values: np.ndarray
    module: nn.Module
    free: np.ndarray
    is_number: np.ndarray
    names: list
    transformers: dict


@torch.inference_mode(False)
def split_columns(estimator, X, *, needs_rules=True):
    """Numbers and a module for X if it has columns that only a ColumnTransformer takes, else None.

    Some columns go through a transformer without a rule, such as an encoder of categories, or are
    not numbers. They are transformed here, once, and the module looks the results up. The
    `ColumnTransformer` may be inside a composite estimator that hands X on to its parts; a column
    that one part encodes is held fixed for all of them. If the columns are in another order than
    in `fit`, this raises a `ValueError`.

    Without `needs_rules` the module may be of no use, as parts without a rule are left out of it.
    """
    names = list(X.columns) if hasattr(X, "columns") else list(range(_num_features(X)))
    check_columns(estimator, X)
    if isinstance(X, torch.Tensor) or not _transforms_columns(estimator):
        return None
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    numbers = [column_as_numbers(_safe_indexing(X, j, axis=1)) for j in range(len(names))]
    is_number = np.array([column is not None for column in numbers])
    columns = ColumnsInHand(
        X, np.arange(len(names)), is_number, is_number.copy(), needs_rules=needs_rules
    )
    with holding(columns):
        module = as_part(estimator)
    fixed = np.flatnonzero(~columns.free)
    if not len(fixed):
        return None
    missing = np.full(len(X), np.nan)
    numbers = np.stack([missing if column is None else column for column in numbers], axis=1)
    values = np.where(columns.free, numbers, np.arange(len(X))[:, None])
    module = Chain(Recall(numbers[:, fixed], fixed), module).eval()
    return SplitColumns(values, module, columns.free, is_number, names, columns.transformers)


def _transforms_columns(estimator):
    """Whether a `ColumnTransformer` is among an estimator's parts, or their parts."""
    return isinstance(estimator, ColumnTransformer) or any(
        map(_transforms_columns, parts_of(estimator))
    )


def fitted_parts(transformer):
    """Iterate over the fitted transformers in use, in the order of their outputs.

    Yields the transformer, the indices of its columns, whether it takes its one column as a
    vector, the weight of its output, and the slice of the outputs that is its own.
    """
    weights = transformer.transformer_weights or {}
    for name, part, columns in transformer.transformers_:
        indices = np.asarray(transformer._transformer_to_input_indices[name], dtype=int)
        if part == "passthrough":
            part = FunctionTransformer()
        if not (isinstance(part, str) and part == "drop") and len(indices):
            outputs = transformer.output_indices_[name]
            yield part, indices, np.isscalar(columns), weights.get(name), outputs


def _weighted(module, weight):
    return module if weight is None else Chain(module, Affine(scale=weight))


def columns_without_numbers(X):
    """The names, or indices, of the columns of X that do not hold numbers."""
    names = X.columns if hasattr(X, "columns") else range(_num_features(X))
    return [
        name
        for j, name in enumerate(names)
        if column_as_numbers(_safe_indexing(X, j, axis=1)) is None
    ]


def _transformers(transformer):
    """The transformers in use, fitted or not."""
    if hasattr(transformer, "transformers_"):
        return [part for part, *_ in fitted_parts(transformer)]
    parts = [part for _, part, _ in transformer.transformers] + [transformer.remainder]
    return [part for part in parts if not isinstance(part, str)]


def refuse_classifiers_in(transformer):
    """The error for the first classifier among its transformers, or None."""
    # With columns in hand it becomes a table.
    return None if columns_in_hand() else refuse_classifiers(_transformers(transformer))


@as_module.register(ColumnTransformer, refuse=refuse_classifiers_in, passes_columns=True)
def _(transformer):
    columns = columns_in_hand()
    if columns is None:
        return Columns(
            _weighted(Chain(Select(indices), as_transformer(part)), weight)
            for part, indices, _, weight, _ in fitted_parts(transformer)
        )
    check_columns(transformer, columns.X)
    with holding(None):
        return Columns(
            _weighted(_module_or_table(part, indices, is_single, columns), weight)
            for part, indices, is_single, weight, _ in fitted_parts(transformer)
        )


def _module_or_table(part, indices, is_single, columns):
    """A transformer's module if it has a rule and its columns hold numbers, else its outputs."""
    if columns.are_numbers(indices) and has_transformer_rule(part):
        return Chain(Select(columns.positions[indices]), as_transformer(part))
    columns.hold(indices, step_without_rule(part))
    rows = part.transform(_safe_indexing(columns.X, indices[0] if is_single else indices, axis=1))
    rows = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
    return Table(rows.astype(np.float64), columns.row_column)


@parts_of.register(ColumnTransformer)
def _(transformer):
    return transformers_with_rules(_transformers(transformer))
