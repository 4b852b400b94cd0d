"""What the displays share: axes, images, units, colour scales, legends, frames."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support, check_pandas_support


def axes_for(display, ax, figsize):
    """Return `ax`, or the axes of a new figure if it is None."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    # Images have a fixed aspect ratio; "compressed" removes the gaps that it leaves.
    return plt.subplots(figsize=figsize, layout="compressed")[1]


def frame_of(display, values, *, index, index_name, **options):
    """The numbers of a display as a pandas frame, by its method `to_frame`."""
    check_pandas_support(f"{type(display).__name__}.to_frame")
    import pandas as pd

    return pd.DataFrame(values, index=pd.Index(index, name=index_name), **options)


def as_images(rows, image_shape, *, color=False):
    """Reshape (n, n_features) to (n, height, width), or (n, height, width, 3) for colour images.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features) or (n, channels, height, width)
        The second shape is that of a convolutional network's input.
    image_shape : tuple of int or None
        None means a square.
    color : bool, default=False
        Whether colour images are allowed.

    Raises
    ------
    ValueError
        If `image_shape` is not a tuple of positive integers with the product n_features, or is
        None and n_features is not a square number.
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
            + (f", and {n_features} is not a square number." if image_shape is None else ".")
        )
    return rows.reshape(-1, *shape)


def fitting_size(ax, across, texts):
    """Font size in points, at most the default, at which the texts fit side by side.

    Parameters
    ----------
    ax : matplotlib Axes
    across : float
        Number of texts that share the width of the axes.
    texts : list of str
        A letter is taken to be 0.7 times as wide as the font size.
    """
    import matplotlib as mpl

    width = 72 * ax.get_window_extent().width / ax.figure.dpi / across
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return min(mpl.rcParams["font.size"], width / (0.7 * longest))


def nonzero(largest):
    """Replace 0 by 1, so that all-zero values can be divided by their largest entry."""
    return np.where(largest > 0, largest, 1.0)


def radius_units(scale):
    """The unit of a radius, for an axis label."""
    return "units of X" if scale is None else "multiples of scale"


def legend_beside(ax, **params):
    """Draw the legend to the right of the axes, so that it hides no curve."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, **params)
