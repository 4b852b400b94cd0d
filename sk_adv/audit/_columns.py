"""Which columns of numbers a model takes as categories."""

from contextlib import suppress

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from sk_adv.attacks._estimators import is_attackable
from sk_adv.attacks._trees import view_of_trees
from sk_adv.differentiable._as_module import parts_of
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.tree._as_trees import is_made_of_trees


def taken_as_categories(estimator, X):
    """The positions of columns that hold numbers, and that reach the model by encoders alone.

    No attack changes them, and verdicts refuse to. Columns that are held fixed for another reason
    are not among them. Empty where this is not known.

    Parameters
    ----------
    estimator : object
        A fitted classifier.
    X : array-like or frame of shape (n_samples, n_features)

    Returns
    -------
    set of int
    """
    view = None
    with suppress(NoBoundsError, TypeError):
        if is_made_of_trees(estimator):
            view = view_of_trees(estimator, X)
        elif is_attackable(estimator):
            view = split_columns(estimator, X)
    if view is None:
        return set()
    encoded, others = set(), set()
    for part, indices in _parts_with_columns(estimator):
        (encoded if _encodes(part) else others).update(indices)
    held = np.flatnonzero(view.is_number & ~view.free).tolist()
    return set(held) & (encoded - others)


def _parts_with_columns(estimator):
    """The transformers that see raw columns in a ColumnTransformer, with their positions."""
    if isinstance(estimator, Pipeline):
        yield from _parts_with_columns(estimator[0])
    elif isinstance(estimator, ColumnTransformer):
        for name, part, _ in estimator.transformers_:
            if not (isinstance(part, str) and part == "drop"):
                yield part, list(estimator._transformer_to_input_indices[name])
    else:
        for part in parts_of(estimator):
            yield from _parts_with_columns(part)


def _encodes(part):
    """Whether a transformer is an encoder of categories, or ends in one, as its name tells."""
    parts = list(part) if isinstance(part, Pipeline) else [part]
    return any(type(step).__name__.endswith("Encoder") for step in parts)
