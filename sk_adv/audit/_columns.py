"""Which columns a model takes as numbers."""

from contextlib import suppress

import numpy as np

from sk_adv.attacks._estimators import is_attackable
from sk_adv.attacks._trees import view_of_trees
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.tree._as_trees import is_made_of_trees


def taken_as_categories(estimator, X):
    """The positions of columns that hold numbers, and that the model encodes as categories.

    No attack changes them, and the verdicts refuse to. Empty where this is not known.

    Parameters
    ----------
    estimator : object
        A fitted classifier.
    X : array-like or frame of shape (n_samples, n_features)

    Returns
    -------
    set of int
    """
    seen = None
    with suppress(NoBoundsError, TypeError):
        if is_made_of_trees(estimator):
            seen = view_of_trees(estimator, X)
        elif is_attackable(estimator):
            seen = split_columns(estimator, X)
    if seen is None:
        return set()
    return set(np.flatnonzero(seen.is_number & ~seen.free).tolist())
