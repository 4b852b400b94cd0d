"""FilterDisplay: the weights on a model's input as images."""

import math
from collections.abc import Sequence
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC
from sklearn.utils import check_array, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv._arrays import to_numpy
from sk_adv.differentiable._linear import to_dense
from sk_adv.inspection._drawing import as_images, axes_for, nonzero
from sk_adv.inspection._inputs import check_names
from sk_adv.neural_network import Maxout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


class FilterDisplay:
    """Weights as images: red for positive, blue for negative, white for zero.

    Parameters
    ----------
    weights : array-like of shape (n_filters, n_features)
        The weights, one filter per row.

    image_shape : tuple (height, width), default=None
        Shape of a filter as an image. None means a square, which needs a square number of
        features.

    names : sequence of str of length n_filters, default=None
        Titles of the images.

    Attributes
    ----------
    weights : ndarray of shape (n_filters, height, width)
        The weights as images.

    ax_ : matplotlib Axes
        The axes with the images.

    figure_ : matplotlib Figure
        The figure that holds them.

    image_ : matplotlib AxesImage
        The image of all filters.

    Raises
    ------
    ValueError
        If `image_shape` does not fit the number of features, or `names` the number of filters.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_adv.inspection import FilterDisplay
    >>> display = FilterDisplay(weights=np.eye(9), image_shape=(3, 3)).plot()
    >>> display.weights.shape
    (9, 3, 3)
    """

    def __init__(
        self,
        *,
        weights: ArrayLike,
        image_shape: tuple[int, int] | None = None,
        names: Sequence[str] | None = None,
    ):
        self.weights = as_images(check_array(weights, input_name="weights"), image_shape)
        self.names = None
        if names is not None:
            self.names = check_names(names, len(self.weights), per="filter")

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        *,
        image_shape: tuple[int, int] | None = None,
        max_filters: int | None = 100,
        ax: "Axes | None" = None,
        **plot_params,
    ) -> Self:
        """Draw the weights that a fitted model puts on its input.

        Parameters
        ----------
        estimator : object
            A fitted linear model (`coef_`), a scikit-learn multilayer perceptron (`coefs_`),
            or an `AdversarialMaxoutClassifier`, skorch net or torch module that begins with a
            linear or maxout layer. Each piece of a maxout unit is one filter; the pieces of a unit
            are drawn one after another. For a `Pipeline` the last step is drawn, with weights in
            the units of its own input. For a search such as `GridSearchCV` the best estimator is
            drawn.

        image_shape : tuple (height, width), default=None
            Shape of a filter as an image. None means a square.

        max_filters : int or None, default=100
            Largest number of filters to draw, at least 1. None draws all filters.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        **plot_params : dict
            Further arguments of :meth:`plot`.

        Returns
        -------
        FilterDisplay
            The display, after drawing.

        Raises
        ------
        TypeError
            If the estimator has no such weights, or `max_filters` is not an integer.
        ValueError
            If `max_filters` is less than 1 or `image_shape` does not fit the number of features.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if max_filters is not None:
            check_scalar(max_filters, "max_filters", Integral, min_val=1)
        weights, names = _input_weights(estimator)
        display = cls(
            weights=weights[:max_filters],
            image_shape=image_shape,
            names=None if names is None else names[:max_filters],
        )
        return display.plot(ax=ax, **plot_params)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        n_columns: int | None = None,
        scale: str = "shared",
        cmap: "str | Colormap" = "RdBu_r",
        colorbar: bool = False,
    ) -> Self:
        """Draw the filters in a grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        n_columns : int, default=None
            Number of filters per row, at least 1. None makes the grid about square.

        scale : {"shared", "each"}, default="shared"
            The end of the colour scale: "shared" takes the largest absolute weight of all filters,
            "each" that of each filter. "each" shows the pattern of weak filters too, but hides
            that they are weak.

        cmap : str or matplotlib Colormap, default="RdBu_r"
            A diverging colour map with zero in the middle. The default draws zero in white, but a
            grey print does not show the signs; use "cividis" for that.

        colorbar : bool, default=False
            Whether to draw a colour bar beside the filters.

        Returns
        -------
        FilterDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `scale` is unknown or `n_columns` is less than 1.
        TypeError
            If `n_columns` is not an integer.
        """
        if scale not in ("shared", "each"):
            raise ValueError(f"scale must be 'shared' or 'each'; got {scale!r}.")
        n_filters, height, width = self.weights.shape
        if n_columns is None:
            n_columns = math.ceil(math.sqrt(n_filters))
        check_scalar(n_columns, "n_columns", Integral, min_val=1)
        n_rows = math.ceil(n_filters / n_columns)
        self.ax_ = axes_for(
            self, ax, figsize=(0.9 * n_columns + 1, 0.9 * n_rows * height / width + 1)
        )
        self.figure_ = self.ax_.figure

        images = self.weights
        if scale == "each":
            images = images / nonzero(np.abs(images).max(axis=(1, 2), keepdims=True))
        margin = 1 if self.names is None else 1 + math.ceil(height / 4)
        mosaic = np.full((n_rows * (height + margin), n_columns * (width + 1)), np.nan)
        for index, image in enumerate(images):
            row, column = divmod(index, n_columns)
            top, left = row * (height + margin) + margin, column * (width + 1)
            mosaic[top : top + height, left : left + width] = image
            if self.names is not None:
                center = left + (width - 1) / 2
                self.ax_.text(center, top - 1, self.names[index], ha="center", va="bottom")
        limit = float(nonzero(np.abs(images).max()))
        self.image_ = self.ax_.imshow(
            mosaic, cmap=cmap, vmin=-limit, vmax=limit, interpolation="nearest"
        )
        self.ax_.set_axis_off()
        if colorbar:
            label = "weight" if scale == "shared" else "weight / largest of its filter"
            self.figure_.colorbar(self.image_, ax=self.ax_, label=label, shrink=0.8)
        return self


def _input_weights(estimator):
    """Weights on the input, of shape (n_filters, n_features), and the filters' names or None."""
    model = _classifier_within(estimator)
    if not isinstance(model, nn.Module):
        check_is_fitted(model)
    if hasattr(model, "coef_"):
        weights = np.atleast_2d(to_numpy(to_dense(model.coef_)))
        if len(weights) == 1 or not hasattr(model, "classes_"):
            return weights, None
        if isinstance(model, SVC | NuSVC):
            return weights, [f"{a} vs {b}" for a, b in combinations(model.classes_, 2)]
        return weights, list(model.classes_)
    if hasattr(model, "coefs_"):
        return model.coefs_[0].T, None
    network = getattr(getattr(model, "net_", model), "module_", model)
    # A network needs a first layer with weights whose units see the whole input.
    layers = network.modules() if isinstance(network, nn.Module) else []
    first = next((layer for layer in layers if list(layer.parameters(recurse=False))), None)
    if isinstance(first, nn.Linear):
        return to_numpy(first.weight), None
    if isinstance(first, Maxout):
        return to_numpy(first.weight.transpose(0, 1).flatten(0, 1)), None
    raise TypeError(
        "FilterDisplay needs a model with coef_ or coefs_, or a network that begins with a linear "
        f"or maxout layer; got a {type(model).__name__}. If it has other weights on its input, "
        "pass them to FilterDisplay(weights=...)."
    )


def _classifier_within(estimator):
    """The classifier inside pipelines, searches and frozen estimators."""
    if isinstance(estimator, Pipeline):
        return _classifier_within(estimator[-1])
    if isinstance(estimator, FrozenEstimator):
        return _classifier_within(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return _classifier_within(estimator.best_estimator_)
    return estimator
