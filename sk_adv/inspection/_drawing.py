"""What the displays draw alike: axes, samples as images, units, scales about zero."""

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

    # Pictures keep their aspect: "compressed" leaves no gap between them and their labels.
    return plt.subplots(figsize=figsize, layout="compressed")[1]


def as_images(rows, image_shape, *, color=False):
    """Reshape (n, n_features) to (n, height, width); None stands for a square.

    With `color`, (height, width, 3) is taken too. Rows of shape (n, channels, height, width), as
    convolutional networks take them, are images already.

    Raises
    ------
    ValueError
        If `image_shape` is no tuple of positive integers whose product is n_features, or is None
        and n_features is not the square of a number.
    """
    if rows.ndim == 4 and image_shape is None and rows.shape[1] in ((1, 3) if color else (1,)):
        return np.moveaxis(rows, 1, -1) if rows.shape[1] == 3 else rows[:, 0]
    rows = rows.reshape(len(rows), -1)
    n_features = rows.shape[1]
    if image_shape is None:
        shape = (math.isqrt(n_features),) * 2
    else:
        shape = tuple(image_shape) if np.iterable(image_shape) else ()
    is_image = len(shape) == 2 or (color and len(shape) == 3 and shape[2] == 3)
    is_image = is_image and all(isinstance(side, Integral) and side > 0 for side in shape)
    if not is_image or math.prod(shape) != n_features:
        raise ValueError(
            "image_shape must be (height, width)"
            + (" or (height, width, 3)" if color else "")
            + f" with product {n_features}, the number of features; got {image_shape!r}"
            + (f", and {n_features} is not a square." if image_shape is None else ".")
        )
    return rows.reshape(-1, *shape)


def fitting_size(ax, across, texts):
    """Font size, in points and at most the usual, at which texts fit side by side.

    `across` of them share the width of the axes; a letter is about 0.7 of the font size wide.
    """
    import matplotlib as mpl

    width = 72 * ax.get_window_extent().width / ax.figure.dpi / across
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return min(mpl.rcParams["font.size"], width / (0.7 * longest))


def nonzero(largest):
    """1 in place of 0, so that a scale for all-zero values exists."""
    return np.where(largest > 0, largest, 1.0)


def radius_units(scale):
    """What one unit of a radius is, for the label of its axis."""
    return "units of X" if scale is None else "multiples of scale"


def legend_beside(ax, **params):
    """Draw the legend to the right of the axes, where it hides no curve."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, **params)
