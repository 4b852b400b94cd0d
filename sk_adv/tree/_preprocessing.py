"""Transformers before trees: which column each output reads, and thresholds in raw units."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import _safe_indexing, check_array

from sk_adv._pipelines import active_steps
from sk_adv.tree._thresholds import last_true
from sk_adv.tree._tree_sum import Held, TreeSum


@dataclass(frozen=True)
class ColumnMap:
    """A fitted transformer, each of whose outputs keeps the order of one column of its input.

    Attributes
    ----------
    sources : ndarray of shape (n_outputs,), int
        The column that each output reads; -1 for an output of columns that must not change.
    of_numbers : callable
        The outputs for an array of numbers. Outputs without a source may be anything there.
    of_inputs : callable
        The outputs for an X as the estimator takes it, of shape (n_samples, n_outputs).
    n_columns : int
        Number of columns of the input.
    held : dict of int to str
        The columns that must not change, and the types of the transformers that read them.
    keeps_numbers : bool
        Whether the outputs are the numbers of their columns, so that thresholds stay as they are.
    """

    sources: np.ndarray
    of_numbers: Callable
    of_inputs: Callable
    n_columns: int
    held: dict = field(default_factory=dict)
    keeps_numbers: bool = False


class MixesColumnsError(TypeError):
    """A transformer whose outputs read several columns, or do not keep the order of one."""

    def __init__(self, transformer, why=""):
        super().__init__(
            f"{type(transformer).__name__} stands in front of the trees{why}. Behind a transformer "
            "that mixes columns, or does not keep their order, trees cut the raw inputs along "
            "oblique surfaces, and as_trees can't carry their thresholds back. It can behind "
            "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, QuantileTransformer, "
            "PowerTransformer, KBinsDiscretizer(encode='ordinal'), SimpleImputer, selectors of "
            "features, and a ColumnTransformer. Other ways: attack='square', which needs "
            "predictions alone, a differentiable `surrogate`, or verify pipeline[-1] on the "
            "transformed data, in their units."
        )


@functools.singledispatch
def column_map(transformer) -> ColumnMap:
    """The map of a fitted transformer.

    Raises
    ------
    MixesColumnsError
        If it is not known that each output keeps the order of one column.
    """
    raise MixesColumnsError(transformer)


def column_map_of_steps(transformers: list) -> ColumnMap:
    """The map of fitted transformers one after another."""
    return functools.reduce(_after, map(column_map, transformers))


def _after(first, second):
    def of_numbers(numbers):
        # Numbers of the size of 1e308 overflow in a scaler, and the next one takes no infinity.
        between = first.of_numbers(numbers)
        limit = np.finfo(between.dtype).max
        return second.of_numbers(np.clip(between, -limit, limit))

    is_held = second.sources < 0
    sources = np.where(is_held, -1, first.sources[np.maximum(second.sources, 0)])
    held = {int(first.sources[j]): name for j, name in second.held.items()}
    return ColumnMap(
        sources,
        of_numbers,
        lambda X: second.of_inputs(first.of_inputs(X)),
        first.n_columns,
        first.held | {j: name for j, name in held.items() if j >= 0},
    )


def _dense(values):
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _of_transformer(transformer, sources):
    """The map of a transformer by its own `transform`."""

    def of_numbers(numbers):
        with (
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            config_context(assume_finite=True, transform_output="default"),
        ):
            # The columns' names are lost, which the user's own X keeps.
            warnings.simplefilter("ignore")
            return _dense(transformer.transform(numbers))

    def of_inputs(X):
        return _dense(transformer.transform(X))

    return ColumnMap(np.asarray(sources), of_numbers, of_inputs, transformer.n_features_in_)


@column_map.register(StandardScaler)
@column_map.register(MinMaxScaler)
@column_map.register(MaxAbsScaler)
@column_map.register(RobustScaler)
@column_map.register(QuantileTransformer)
def _(transformer):
    return _of_transformer(transformer, range(transformer.n_features_in_))


@column_map.register(PowerTransformer)
def _(transformer):
    found = _of_transformer(transformer, range(transformer.n_features_in_))
    if transformer.method == "yeo-johnson":
        return found
    # Box-Cox takes positive numbers only.
    smallest = np.finfo(np.float32).tiny
    return replace(found, of_numbers=lambda X: found.of_numbers(np.maximum(X, smallest)))


@column_map.register(KBinsDiscretizer)
def _(transformer):
    if transformer.encode != "ordinal":
        raise MixesColumnsError(transformer)
    return _of_transformer(transformer, range(transformer.n_features_in_))


@column_map.register(SelectorMixin)
def _(selector):
    return _of_transformer(selector, selector.get_support(indices=True))


@column_map.register(SimpleImputer)
def _(imputer):
    missing = imputer.missing_values
    if not (isinstance(missing, Real) and np.isnan(missing)):
        raise MixesColumnsError(
            imputer, f", and replaces {missing!r}, a number among others, and not NaN"
        )
    try:
        statistics = np.asarray(imputer.statistics_, dtype=float)
    except (TypeError, ValueError) as error:
        raise MixesColumnsError(imputer, ", and fills in what are no numbers") from error
    kept = np.arange(len(statistics))
    if not imputer.keep_empty_features:
        kept = kept[~np.isnan(statistics)]
    sources = [*kept, *(imputer.indicator_.features_ if imputer.add_indicator else ())]
    return _of_transformer(imputer, sources)


@column_map.register(FunctionTransformer)
def _(transformer):
    func = transformer.func
    # The trees of HistGradientBoostingClassifier come with such a check of numbers in front.
    is_check = isinstance(func, functools.partial) and func.func is check_array
    if not (func is None or is_check):
        raise MixesColumnsError(transformer)
    return _of_transformer(transformer, range(transformer.n_features_in_))


@column_map.register(FrozenEstimator)
def _(frozen):
    return column_map(frozen.estimator)


@column_map.register(Pipeline)
def _(pipeline):
    steps = active_steps(pipeline)
    if any(map(is_classifier, steps)):
        raise MixesColumnsError(next(filter(is_classifier, steps)))
    return column_map_of_steps(steps or [_identity(pipeline.n_features_in_)])


@column_map.register(ColumnMap)
def _(found):
    return found


def _identity(n_columns):
    return ColumnMap(np.arange(n_columns), lambda X: X, _dense, n_columns)


@column_map.register(ColumnTransformer)
def _(transformer):
    parts = list(_parts(transformer))

    def of_numbers(numbers):
        with np.errstate(all="ignore"):
            return np.hstack([part.of_numbers(numbers[:, columns]) for part, columns in parts])

    def of_inputs(X):
        with config_context(transform_output="default"):
            return _dense(transformer.transform(X))

    held = {}
    for part, columns in parts:
        held |= {int(columns[j]): name for j, name in part.held.items()}
    sources = [
        np.where(part.sources < 0, -1, columns[np.maximum(part.sources, 0)])
        for part, columns in parts
    ]
    sources = np.concatenate(sources) if sources else np.zeros(0, dtype=int)
    return ColumnMap(sources, of_numbers, of_inputs, transformer.n_features_in_, held)


def _parts(transformer):
    """The maps of a ColumnTransformer's parts in the order of its outputs, and their columns."""
    weights = transformer.transformer_weights or {}
    for name, part, columns in transformer.transformers_:
        indices = np.asarray(transformer._transformer_to_input_indices[name], dtype=int)
        if (isinstance(part, str) and part == "drop") or not len(indices):
            continue
        n_outputs = len(range(transformer.output_indices_[name].stop)) - (
            transformer.output_indices_[name].start
        )
        if isinstance(part, str):
            found = _identity(len(indices))
        else:
            try:
                # A transformer that takes one column as a vector is no map of columns.
                found = (
                    _holding(part, indices, n_outputs) if np.isscalar(columns) else column_map(part)
                )
            except MixesColumnsError:
                found = _holding(part, indices, n_outputs)
        weight = weights.get(name)
        if weight is not None:
            found = _weighted(found, weight)
        yield found, indices


def _holding(part, indices, n_outputs):
    """A transformer without a map: its columns stay as they are."""
    return ColumnMap(
        np.full(n_outputs, -1),
        lambda numbers: np.zeros((len(numbers), n_outputs)),
        lambda X: _dense(part.transform(X)),
        len(indices),
        dict.fromkeys(range(len(indices)), type(part).__name__),
    )


def _weighted(found, weight):
    if weight < 0:
        raise ValueError("as_trees needs transformer_weights of at least 0.")
    return replace(
        found,
        of_numbers=lambda X: found.of_numbers(X) * weight,
        of_inputs=lambda X: found.of_inputs(X) * weight,
    )


def carried_back(trees: TreeSum, found: ColumnMap, dtype) -> TreeSum:
    """The trees behind a map of columns, over its input instead of its output.

    Parameters
    ----------
    trees : TreeSum
        Trees over the outputs of the map.
    found : ColumnMap
    dtype : dtype
        In which the map computes.
    """
    n_outputs = len(found.sources)
    is_inner = ~trees.is_leaf
    is_output = is_inner & (trees.feature < n_outputs)
    source = np.where(is_output, found.sources[np.where(is_output, trees.feature, 0)], -1)
    is_carried = source >= 0

    threshold, missing_left = trees.threshold.copy(), trees.missing_left.copy()
    if is_carried.any() and not found.keeps_numbers:
        threshold[is_carried], missing_left[is_carried] = _in_inputs(
            trees.feature[is_carried],
            trees.threshold[is_carried],
            trees.missing_left[is_carried],
            found,
            dtype,
        )
    # Outputs without a source, and the trees' own held coordinates, follow the raw columns.
    feature = np.where(is_carried, source, 0)
    is_held_output = is_output & ~is_carried
    used = np.unique(trees.feature[is_held_output])
    place = np.zeros(n_outputs + 1, dtype=int)
    place[used] = found.n_columns + np.arange(len(used))
    feature = np.where(is_held_output, place[np.minimum(trees.feature, n_outputs)], feature)
    beyond = is_inner & ~is_output
    feature = np.where(beyond, trees.feature - n_outputs + found.n_columns + len(used), feature)
    held = []
    if len(used):
        held.append(Held(lambda X: found.of_inputs(X)[:, used], len(used), found.held))
    for part in trees.held:
        columns = {int(found.sources[j]): name for j, name in part.columns.items()}
        columns = {j: name for j, name in columns.items() if j >= 0} | (
            found.held if -1 in columns else {}
        )
        held.append(
            Held(lambda X, part=part: part.compute(found.of_inputs(X)), part.n_coordinates, columns)
        )
    return replace(
        trees,
        feature=feature,
        threshold=threshold,
        missing_left=missing_left,
        n_columns=found.n_columns,
        held=tuple(held),
    )


def _in_inputs(feature, threshold, missing_left, found, dtype):
    """Thresholds and directions of missing values of some nodes, in the units of the input."""
    # Each distinct question "output c <= t?" has a row of its own for the column that it reads, so
    # that one call of `transform` answers many.
    questions = np.stack([feature.astype(np.float64), threshold], axis=1)
    questions, inverse = np.unique(questions, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    output, limit = questions[:, 0].astype(int), questions[:, 1]
    column = found.sources[output]
    order = np.argsort(column, kind="stable")
    starts = np.searchsorted(column[order], column[order])
    row = np.empty(len(column), dtype=int)
    row[order] = np.arange(len(column)) - starts
    n_rows = row.max() + 1

    def at(numbers):
        inputs = np.zeros((n_rows, found.n_columns), dtype=dtype)
        inputs[row, column] = numbers
        return found.of_numbers(inputs)[row, output]

    limits = last_true(lambda numbers: at(numbers) <= limit, limit.shape, dtype)
    at_missing = at(np.full(len(limit), np.nan, dtype=dtype))[inverse]
    is_missing = np.isnan(at_missing)
    return limits[inverse], np.where(is_missing, missing_left, at_missing <= threshold)


def selection(columns: np.ndarray, n_columns: int) -> ColumnMap:
    """The map to some columns of X, such as those that a member of a bag sees."""
    columns = np.asarray(columns)
    return ColumnMap(
        columns,
        lambda numbers: numbers[:, columns],
        lambda X: _safe_indexing(X, columns, axis=1),
        n_columns,
        keeps_numbers=True,
    )
