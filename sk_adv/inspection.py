"""Displays of what adversaries do and what models learn: numbers first, drawn with matplotlib.

Each display stores what it shows as attributes, as scikit-learn's displays do: `from_estimator`
computes the numbers and draws them, `plot` draws them again.
"""

import math

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from sk_adv._adversary import perturb
from sk_adv._devices import to_numpy
from sk_adv.metrics import adversarial_accuracy_score

__all__ = ["AdversarialExamplesDisplay", "FilterDisplay", "RobustnessCurveDisplay"]


class FilterDisplay:
    """Weights as images: red for positive, blue for negative, white for zero.

    Parameters
    ----------
    weights : array-like of shape (n_filters, n_features)
        The weights, one filter a row.

    image_shape : tuple (height, width), default=None
        Shape of a filter as an image. None: a square, if `n_features` is the square of a number.

    names : sequence of str of length n_filters, default=None
        Titles of the images.

    Attributes
    ----------
    weights : ndarray of shape (n_filters, height, width)
        The weights as images.

    ax_ : matplotlib Axes
        Where the images were drawn.

    figure_ : matplotlib Figure
        The figure that holds them.

    image_ : matplotlib AxesImage
        All filters, as one picture.

    Raises
    ------
    ValueError
        If `image_shape` does not fit the number of features, or `names` the number of filters.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_adv.inspection import FilterDisplay
    >>> display = FilterDisplay(weights=np.eye(9), image_shape=(3, 3))
    >>> display.plot()
    <sk_adv.inspection.FilterDisplay object at ...>
    """

    def __init__(self, *, weights, image_shape=None, names=None):
        self.weights = _as_images(check_array(weights, input_name="weights"), image_shape)
        self.names = None if names is None else [str(name) for name in names]
        if self.names is not None and len(self.names) != len(self.weights):
            raise ValueError(
                f"names must hold one name a filter, {len(self.weights)}; got {len(self.names)}."
            )

    @classmethod
    def from_estimator(
        cls, estimator, *, image_shape=None, max_filters=100, ax=None, **plot_params
    ):
        """Draw the weights that a fitted model puts on its input.

        Parameters
        ----------
        estimator : object
            A fitted linear classifier (`coef_`), a scikit-learn multilayer perceptron (`coefs_`)
            or an `AdversarialMaxoutClassifier`, of which each piece of each first-layer unit is a
            filter, a unit's pieces one after another. Of a `Pipeline` the last step counts: the
            weights are then in the units of what the steps before it put out.

        image_shape : tuple (height, width), default=None
            Shape of a filter as an image. None: a square.

        max_filters : int or None, default=100
            Only the first so many filters are drawn; None draws all.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        **plot_params : dict
            Further arguments of :meth:`plot`.

        Returns
        -------
        FilterDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no such weights.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        weights, names = _input_weights(estimator)
        display = cls(
            weights=weights[:max_filters],
            image_shape=image_shape,
            names=None if names is None else names[:max_filters],
        )
        return display.plot(ax=ax, **plot_params)

    def plot(self, ax=None, *, n_columns=None, scale="shared", cmap="RdBu_r", colorbar=False):
        """Draw the filters in a grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        n_columns : int, default=None
            Filters a row. None makes the grid about square.

        scale : {"shared", "each"}, default="shared"
            The colours run to the largest absolute weight of all filters, or of each filter. The
            second shows the pattern of weak filters too, but hides that they are weak.

        cmap : str or matplotlib Colormap, default="RdBu_r"
            A diverging colour map; its middle is zero.

        colorbar : bool, default=False
            Whether to draw the scale beside the filters.

        Returns
        -------
        FilterDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `scale` is unknown.
        """
        if scale not in ("shared", "each"):
            raise ValueError(f"scale must be 'shared' or 'each'; got {scale!r}.")
        n_filters, height, width = self.weights.shape
        n_columns = n_columns or math.ceil(math.sqrt(n_filters))
        n_rows = math.ceil(n_filters / n_columns)
        self.ax_ = _axes(self, ax, figsize=(0.9 * n_columns + 1, 0.9 * n_rows * height / width + 1))
        self.figure_ = self.ax_.figure

        images = self.weights
        if scale == "each":
            images = images / _nonzero(np.abs(images).max(axis=(1, 2), keepdims=True))
        margin = 1 if self.names is None else 1 + math.ceil(height / 4)
        mosaic = np.full((n_rows * (height + margin), n_columns * (width + 1)), np.nan)
        for index, image in enumerate(images):
            row, column = divmod(index, n_columns)
            top, left = row * (height + margin) + margin, column * (width + 1)
            mosaic[top : top + height, left : left + width] = image
            if self.names is not None:
                center = left + (width - 1) / 2
                self.ax_.text(center, top - 1, self.names[index], ha="center", va="bottom")
        limit = float(_nonzero(np.abs(images).max()))
        self.image_ = self.ax_.imshow(
            mosaic, cmap=cmap, vmin=-limit, vmax=limit, interpolation="nearest"
        )
        self.ax_.set_axis_off()
        if colorbar:
            label = "weight" if scale == "shared" else "weight / largest of its filter"
            self.figure_.colorbar(self.image_, ax=self.ax_, label=label, shrink=0.8)
        return self


class AdversarialExamplesDisplay:
    """Inputs, perturbations and adversarial copies, with what the model says of them.

    Parameters
    ----------
    inputs : array-like of shape (n_samples, n_features)
        The clean samples.

    copies : array-like of shape (n_samples, n_features)
        Their adversarial copies.

    labels : array-like of shape (n_samples,)
        The true labels.

    input_predictions : array-like of shape (n_samples,)
        What the model predicts for the inputs.

    input_probabilities : array-like of shape (n_samples,)
        The probabilities of these predictions.

    copy_predictions : array-like of shape (n_samples,)
        What the model predicts for the copies.

    copy_probabilities : array-like of shape (n_samples,)
        The probabilities of these predictions.

    image_shape : tuple (height, width), default=None
        Shape of a sample as an image. None: a square, if `n_features` is the square of a number.

    Attributes
    ----------
    inputs : ndarray of shape (n_samples, height, width)
        The inputs as images.

    copies : ndarray of shape (n_samples, height, width)
        The copies as images.

    ax_ : matplotlib Axes
        Where the images were drawn.

    figure_ : matplotlib Figure
        The figure that holds them.

    images_ : ndarray of shape (3, n_samples) of matplotlib AxesImage
        The inputs, perturbations and copies.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.inspection import AdversarialExamplesDisplay
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X, y)
    >>> display = AdversarialExamplesDisplay.from_estimator(model, X[:5], y[:5], epsilon=0.4)
    >>> display.input_predictions
    array([0, 1, 2, 0, 1])
    >>> display.copy_predictions
    array([2, 2, 1, 1, 2])
    """

    def __init__(
        self,
        *,
        inputs,
        copies,
        labels,
        input_predictions,
        input_probabilities,
        copy_predictions,
        copy_probabilities,
        image_shape=None,
    ):
        self.inputs = _as_images(check_array(inputs, input_name="inputs"), image_shape)
        self.copies = _as_images(check_array(copies, input_name="copies"), image_shape)
        self.labels = np.asarray(labels)
        self.input_predictions = np.asarray(input_predictions)
        self.input_probabilities = np.asarray(input_probabilities)
        self.copy_predictions = np.asarray(copy_predictions)
        self.copy_probabilities = np.asarray(copy_probabilities)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        epsilon,
        attack="fgsm",
        norm=np.inf,
        bounds=None,
        image_shape=None,
        ax=None,
        **attack_params,
    ):
        """Attack a fitted classifier and draw the result.

        Parameters
        ----------
        estimator : object
            A fitted classifier with `predict_proba` for which `as_module` has a rule.

        X : array-like of shape (n_samples, n_features)
            The inputs, one column of the picture each: a few.

        y : array-like of shape (n_samples,)
            True labels.

        epsilon : float or array-like of shape (n_features,)
            Radius of the perturbation in the units of X.

        attack : {"fgsm", "pgd"} or callable, default="fgsm"
            Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X, to which the copies are clipped.

        image_shape : tuple (height, width), default=None
            Shape of a sample as an image. None: a square.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        **attack_params : dict
            Further arguments of the attack.

        Returns
        -------
        AdversarialExamplesDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        copies = perturb(
            estimator,
            X,
            y,
            epsilon=epsilon,
            attack=attack,
            norm=norm,
            bounds=bounds,
            **attack_params,
        )
        input_predictions, input_probabilities = _predictions(estimator, X)
        copy_predictions, copy_probabilities = _predictions(estimator, copies)
        display = cls(
            inputs=X,
            copies=copies,
            labels=y,
            input_predictions=input_predictions,
            input_probabilities=input_probabilities,
            copy_predictions=copy_predictions,
            copy_probabilities=copy_probabilities,
            image_shape=image_shape,
        )
        return display.plot(ax=ax)

    @property
    def perturbations(self):
        """The copies less the inputs, as images."""
        return self.copies - self.inputs

    def plot(self, ax=None, *, cmap="gray_r", perturbation_cmap="coolwarm"):
        """Draw a column for each sample: input, perturbation, copy.

        Under each input and copy stands the predicted class and its probability, in red where it
        is wrong. Inputs and copies share one scale of grey, from the smallest to the largest
        value of both.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        cmap : str or matplotlib Colormap, default="gray_r"
            Colours of the inputs and copies.

        perturbation_cmap : str or matplotlib Colormap, default="coolwarm"
            Colours of the perturbations, a diverging map; its middle is zero.

        Returns
        -------
        AdversarialExamplesDisplay
            The display itself.
        """
        n_samples, height, width = self.inputs.shape
        self.ax_ = _axes(self, ax, figsize=(1.1 * n_samples + 1.2, 4.6 * height / width))
        self.figure_ = self.ax_.figure

        grey = {
            "cmap": cmap,
            "vmin": min(self.inputs.min(), self.copies.min()),
            "vmax": max(self.inputs.max(), self.copies.max()),
        }
        largest = np.abs(self.perturbations).max()
        signed = {
            "cmap": perturbation_cmap,
            "vmin": -_nonzero(largest),
            "vmax": _nonzero(largest),
        }
        rows = [
            ("input", self.inputs, grey, self.input_predictions, self.input_probabilities),
            (f"perturbation\nup to ±{largest:.3g}", self.perturbations, signed, None, None),
            ("copy", self.copies, grey, self.copy_predictions, self.copy_probabilities),
        ]
        self.images_ = np.empty((len(rows), n_samples), dtype=object)
        # One picture is 1 wide; coordinates run down the page, as in an image.
        ratio, gap, text = height / width, 0.08, 0.32
        top = 0.0
        for row, (name, images, colors, predictions, probabilities) in enumerate(rows):
            self.ax_.text(-gap, top + ratio / 2, name, ha="right", va="center")
            for column, image in enumerate(images):
                left = column * (1 + gap)
                self.images_[row, column] = self.ax_.imshow(
                    image, extent=(left, left + 1, top + ratio, top), **colors
                )
                if predictions is not None:
                    wrong = predictions[column] != self.labels[column]
                    self.ax_.text(
                        left + 0.5,
                        top + ratio + 0.05,
                        f"{predictions[column]} ({_percent(probabilities[column])})",
                        ha="center",
                        va="top",
                        color="tab:red" if wrong else "black",
                    )
            top += ratio + (gap if predictions is None else text)
        self.ax_.set(xlim=(0, n_samples * (1 + gap) - gap), ylim=(top, 0), aspect="equal")
        self.ax_.set_axis_off()
        return self


class RobustnessCurveDisplay:
    """Error against the radius of the attack.

    Several curves fit on one `ax`.

    Parameters
    ----------
    epsilons : array-like of shape (n_radii,)
        The radii, in the units of X.

    errors : array-like of shape (n_radii,)
        The adversarial error at each: the share of samples misclassified after the attack.

    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the curve was drawn.

    figure_ : matplotlib Figure
        The figure that holds it.

    line_ : matplotlib Line2D
        The curve.

    Raises
    ------
    ValueError
        If `epsilons` and `errors` differ in length.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.inspection import RobustnessCurveDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> model = LogisticRegression().fit(X, y)
    >>> display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=[0, 0.2, 0.4])
    >>> display.errors.round(2)
    array([0.01, 0.18, 0.51])
    """

    def __init__(self, *, epsilons, errors, name=None):
        self.epsilons = np.asarray(epsilons, dtype=float)
        self.errors = np.asarray(errors, dtype=float)
        self.name = name
        if self.epsilons.ndim != 1 or self.epsilons.shape != self.errors.shape:
            raise ValueError(
                "epsilons and errors must be 1-D and of the same length; got shapes "
                f"{self.epsilons.shape} and {self.errors.shape}."
            )

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        epsilons,
        attack="fgsm",
        norm=np.inf,
        bounds=None,
        name=None,
        ax=None,
        curve_kwargs=None,
        **attack_params,
    ):
        """Attack a fitted classifier at each radius and draw its error.

        Parameters
        ----------
        estimator : object
            A fitted classifier for which `as_module` has a rule.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,)
            True labels.

        epsilons : array-like of shape (n_radii,)
            The radii, in the units of X.

        attack : {"fgsm", "pgd"} or callable, default="fgsm"
            Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X, to which the copies are clipped.

        name : str, default=None
            Name of the curve in the legend. None: the estimator's class and the attack.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        curve_kwargs : dict, default=None
            Arguments of matplotlib's `plot` for the curve.

        **attack_params : dict
            Further arguments of the attack.

        Returns
        -------
        RobustnessCurveDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        errors = [
            1
            - adversarial_accuracy_score(
                estimator,
                X,
                y,
                epsilon=epsilon,
                attack=attack,
                norm=norm,
                bounds=bounds,
                **attack_params,
            )
            for epsilon in np.asarray(epsilons, dtype=float)
        ]
        if name is None:
            how = attack.upper() if isinstance(attack, str) else attack.__name__
            name = f"{type(estimator).__name__} ({how})"
        display = cls(epsilons=epsilons, errors=errors, name=name)
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    def plot(self, ax=None, *, name=None, curve_kwargs=None):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        name : str, default=None
            Name of the curve in the legend. None: the display's own.

        curve_kwargs : dict, default=None
            Arguments of matplotlib's `plot` for the curve.

        Returns
        -------
        RobustnessCurveDisplay
            The display itself.
        """
        self.ax_ = _axes(self, ax, figsize=(6.4, 4.2))
        self.figure_ = self.ax_.figure
        from matplotlib.ticker import PercentFormatter

        name = self.name if name is None else name
        style = {"marker": "o", "markersize": 4, "label": name, **(curve_kwargs or {})}
        (self.line_,) = self.ax_.plot(self.epsilons, self.errors, **style)
        self.ax_.set(
            xlabel="radius ε of the perturbation (units of X)",
            ylabel="error under attack (% of samples)",
            ylim=(-0.02, 1.02),
        )
        self.ax_.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        if name is not None:
            self.ax_.legend()
        return self


def _axes(display, ax, figsize):
    """The axes to draw on: the user's, or those of a new figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def _as_images(rows, image_shape):
    """Reshape (n, n_features) to (n, height, width)."""
    n_features = rows.shape[1]
    side = math.isqrt(n_features)
    shape = (side, side) if image_shape is None else tuple(image_shape)
    if len(shape) != 2 or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape must be (height, width) with height * width = {n_features}, the number "
            f"of features; got {image_shape!r}"
            + (f", and {n_features} is not a square." if image_shape is None else ".")
        )
    return rows.reshape(-1, *shape)


def _input_weights(estimator):
    """The weights on the input, (n_filters, n_features), and the filters' names or None."""
    model = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if hasattr(model, "coef_"):
        weights = np.atleast_2d(model.coef_)
        return weights, list(model.classes_) if len(weights) > 1 else None
    if hasattr(model, "coefs_"):
        return model.coefs_[0].T, None
    if hasattr(model, "net_"):
        pieces = model.net_.module_.layers[0].weight
        return to_numpy(pieces.transpose(0, 1).flatten(0, 1)), None
    raise TypeError(
        f"FilterDisplay finds no weights on the input in a {type(model).__name__}: it needs "
        "coef_, coefs_ or a maxout network. Pass them to FilterDisplay(weights=...) instead."
    )


def _predictions(estimator, X):
    """The most probable class of each sample, and its probability."""
    probability = np.asarray(estimator.predict_proba(X))
    return np.asarray(estimator.classes_)[probability.argmax(axis=1)], probability.max(axis=1)


def _percent(probability):
    # Not "100%" for 99.7 %: it would claim certainty.
    return ">99%" if probability > 0.995 else f"{probability:.0%}"


def _nonzero(largest):
    """1 in place of 0, so that a scale for all-zero values exists."""
    return np.where(largest > 0, largest, 1.0)
