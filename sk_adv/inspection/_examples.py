"""AdversarialExamplesDisplay: inputs, their adversarial copies, and what a model makes of both."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sk_adv._adversary import perturb
from sk_adv.inspection._drawing import as_images, axes_for, nonzero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_ONE_A_SAMPLE = (
    "labels",
    "input_predictions",
    "input_probabilities",
    "copy_predictions",
    "copy_probabilities",
)


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

    Raises
    ------
    ValueError
        If `copies` differs from `inputs` in shape, one of the others does not hold one entry a
        sample, or `image_shape` does not fit the number of features.

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
        inputs: ArrayLike,
        copies: ArrayLike,
        labels: ArrayLike,
        input_predictions: ArrayLike,
        input_probabilities: ArrayLike,
        copy_predictions: ArrayLike,
        copy_probabilities: ArrayLike,
        image_shape: tuple[int, int] | None = None,
    ):
        inputs = check_array(inputs, input_name="inputs")
        copies = check_array(copies, input_name="copies")
        if copies.shape != inputs.shape:
            raise ValueError(
                f"copies must have the shape of inputs, {inputs.shape}; got {copies.shape}."
            )
        self.inputs = as_images(inputs, image_shape)
        self.copies = as_images(copies, image_shape)
        self.labels = np.asarray(labels)
        self.input_predictions = np.asarray(input_predictions)
        self.input_probabilities = np.asarray(input_probabilities)
        self.copy_predictions = np.asarray(copy_predictions)
        self.copy_probabilities = np.asarray(copy_probabilities)
        for name in _ONE_A_SAMPLE:
            shape = getattr(self, name).shape
            if shape != (len(inputs),):
                raise ValueError(
                    f"{name} must hold one entry a sample of inputs, shape {(len(inputs),)}; "
                    f"got shape {shape}."
                )

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epsilon: ArrayLike,
        attack: str | Callable = "fgsm",
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        image_shape: tuple[int, int] | None = None,
        ax: "Axes | None" = None,
        **attack_params,
    ) -> Self:
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

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid.
        TypeError
            If X is sparse or `as_module` has no rule for the estimator.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
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
        input_predictions, input_probabilities = most_probable(estimator, X)
        copy_predictions, copy_probabilities = most_probable(estimator, copies)
        display = cls(
            inputs=X,
            copies=copies,
            labels=column_or_1d(y),
            input_predictions=input_predictions,
            input_probabilities=input_probabilities,
            copy_predictions=copy_predictions,
            copy_probabilities=copy_probabilities,
            image_shape=image_shape,
        )
        return display.plot(ax=ax)

    @property
    def perturbations(self) -> np.ndarray:
        """The copies less the inputs, as images."""
        return self.copies - self.inputs

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        cmap: "str | Colormap" = "gray_r",
        perturbation_cmap: "str | Colormap" = "coolwarm",
    ) -> Self:
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
        self.ax_ = axes_for(self, ax, figsize=(1.1 * n_samples + 1.2, 4.6 * height / width))
        self.figure_ = self.ax_.figure

        grey = {
            "cmap": cmap,
            "vmin": min(self.inputs.min(), self.copies.min()),
            "vmax": max(self.inputs.max(), self.copies.max()),
        }
        largest = np.abs(self.perturbations).max()
        signed = {
            "cmap": perturbation_cmap,
            "vmin": -nonzero(largest),
            "vmax": nonzero(largest),
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


def most_probable(estimator, X):
    """The most probable class of each sample, and its probability."""
    probability = np.asarray(estimator.predict_proba(X))
    return np.asarray(estimator.classes_)[probability.argmax(axis=1)], probability.max(axis=1)


def _percent(probability):
    # Not "100%" for 99.7 %: it would claim certainty.
    return ">99%" if probability > 0.995 else f"{probability:.0%}"
