"""What the displays have in common: axes, samples as images, scales about zero."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support


def axes_for(display, ax, figsize):
    """The axes to draw on: the user's, or those of a new figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def as_images(rows, image_shape):
    """Reshape (n, n_features) to (n, height, width); None stands for a square.

    Raises
    ------
    ValueError
        If `image_shape` is no pair of positive integers whose product is n_features, or is None
        and n_features is not the square of a number.
    """
    n_features = rows.shape[1]
    if image_shape is None:
        shape = (math.isqrt(n_features),) * 2
    else:
        shape = tuple(image_shape) if np.iterable(image_shape) else ()
    is_pair = len(shape) == 2 and all(isinstance(side, Integral) and side > 0 for side in shape)
    if not is_pair or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape must be (height, width) with height * width = {n_features}, the number "
            f"of features; got {image_shape!r}"
            + (f", and {n_features} is not a square." if image_shape is None else ".")
        )
    return rows.reshape(-1, *shape)


def nonzero(largest):
    """1 in place of 0, so that a scale for all-zero values exists."""
    return np.where(largest > 0, largest, 1.0)
