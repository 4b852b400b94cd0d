"""Where single columns of raw X go in fitted transformers, if they are shifted and scaled only."""

import functools
from dataclasses import dataclass

from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from sk_adv._pipelines import active_steps
from sk_adv.differentiable._column_transformer import fitted_parts
from sk_adv.differentiable._composition import Select, is_chain
from sk_adv.differentiable._pipeline import as_transformer
from sk_adv.differentiable._transformers import Affine, Fill


@dataclass(frozen=True)
class Line:
    """A column of the output that is slope * x + offset, for one column x of the raw input.

    Attributes
    ----------
    source : int
        The position of the raw column.
    slope, offset : float
    """

    source: int
    slope: float = 1.0
    offset: float = 0.0

    def then(self, slope, offset):
        """The line behind a further shift and scale."""
        return Line(self.source, slope * self.slope, slope * self.offset + offset)


class NotCarriedError(TypeError):
    """A transformer that does more to some columns than shift and scale each of them.

    Attributes
    ----------
    transformer : object
    sources : list of int
        The positions of the columns in the raw input.
    """

    def __init__(self, transformer, lines):
        self.transformer = transformer
        self.sources = sorted({line.source for line in lines.values()})
        super().__init__(f"{type(transformer).__name__} does not shift and scale single columns.")


@functools.singledispatch
def carry(transformer, lines: dict[int, Line]) -> dict[int, Line]:
    """The lines behind a fitted transformer, by the position of the column in its output.

    Columns without a line may go through any transformer.

    Parameters
    ----------
    transformer : object
    lines : dict of int to Line
        Some columns of its input, by their positions.

    Raises
    ------
    NotCarriedError
        If it is not known that the transformer shifts and scales each of these columns.
    """
    if not lines:
        return {}
    try:
        carried = _through(as_transformer(transformer), lines)
    except TypeError as error:
        raise NotCarriedError(transformer, lines) from error
    if carried is None:
        raise NotCarriedError(transformer, lines)
    # A line of slope 0 no longer moves.
    return {position: line for position, line in carried.items() if line.slope}


@carry.register(Pipeline)
def _(pipeline, lines):
    return functools.reduce(lambda lines, step: carry(step, lines), active_steps(pipeline), lines)


@carry.register(FrozenEstimator)
def _(frozen, lines):
    return carry(frozen.estimator, lines)


@carry.register(ColumnTransformer)
def _(transformer, lines):
    found = {}
    for part, indices, _, weight, outputs in fitted_parts(transformer):
        own = {place: lines[j] for place, j in enumerate(indices.tolist()) if j in lines}
        for place, line in carry(part, own).items():
            weighted = line if weight is None else line.then(weight, 0.0)
            found[outputs.start + place] = weighted
    return {position: line for position, line in found.items() if line.slope}


@functools.singledispatch
def _through(module, lines):
    """The lines behind a module; None if it may do more than shift and scale their columns."""
    if not is_chain(module):
        return None
    for step in module:
        lines = None if lines is None else _through(step, lines)
    return lines


@_through.register(nn.Identity)
def _(module, lines):
    return lines


@_through.register(Select)
def _(module, lines):
    places = enumerate(module.indices.tolist())
    return {place: lines[j] for place, j in places if j in lines}


@_through.register(Fill)
def _(module, lines):
    # Its indicators of missing values do not change with the values that are there.
    return _through(module.kept, lines)


@_through.register(Affine)
def _(module, lines):
    if module.limits is not None:
        return None
    entries = {name: getattr(module, name) for name in ("center", "scale", "shift")}

    def at(position):
        center, scale, shift = (
            float(values[position] if values.ndim else values) for values in entries.values()
        )
        return scale, shift - center * scale

    return {position: line.then(*at(position)) for position, line in lines.items()}
