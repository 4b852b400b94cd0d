"""AdversarialExamplesDisplay: inputs, their adversarial copies, and a model's predictions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.multiclass import unique_labels

from sk_adv._arrays import predicted_by, readable, to_numpy
from sk_adv._collections import check_in_memory
from sk_adv.attacks._estimators import perturb
from sk_adv.differentiable._as_module import classes_of
from sk_adv.inspection._drawing import as_images, axes_for, fitting_size, nonzero

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


class AdversarialExamplesDisplay:
    """Inputs, perturbations and adversarial copies as images, with the model's predictions.

    Parameters
    ----------
    inputs : array-like of shape (n_samples, n_features)
        The clean samples.

    copies : array-like of shape (n_samples, n_features)
        Their adversarial copies.

    labels : array-like of shape (n_samples,)
        The true labels.

    input_predictions : array-like of shape (n_samples,)
        The model's predictions for the inputs.

    copy_predictions : array-like of shape (n_samples,)
        The model's predictions for the copies.

    input_probabilities : array-like of shape (n_samples,), default=None
        Probabilities of the predicted classes of the inputs. None if the model gives none.

    copy_probabilities : array-like of shape (n_samples,), default=None
        Probabilities of the predicted classes of the copies.

    image_shape : tuple (height, width) or (height, width, 3), default=None
        Shape of a sample as an image, in grey or in red, green and blue. None means a square,
        which needs a square number of features.

    Attributes
    ----------
    inputs : ndarray of shape (n_samples, height, width) or (n_samples, height, width, 3)
        The inputs as images.

    copies : ndarray of the shape of inputs
        The copies as images.

    ax_ : matplotlib Axes
        The axes with the images.

    figure_ : matplotlib Figure
        The figure that holds them.

    images_ : ndarray of shape (3, n_samples) of matplotlib AxesImage
        The inputs, perturbations and copies.

    Raises
    ------
    ValueError
        If `copies` and `inputs` differ in shape, one of the other arrays does not hold one entry
        per sample, or `image_shape` does not fit the number of features.

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
        copy_predictions: ArrayLike,
        input_probabilities: ArrayLike | None = None,
        copy_probabilities: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
    ):
        # As floats: differences of unsigned integers, common in image files, would wrap around.
        inputs, copies = to_numpy(inputs), to_numpy(copies)
        inputs = check_array(inputs, dtype=np.float64, allow_nd=True, input_name="inputs")
        copies = check_array(copies, dtype=np.float64, allow_nd=True, input_name="copies")
        if copies.shape != inputs.shape:
            raise ValueError(
                f"copies must have the shape of inputs, {inputs.shape}; got {copies.shape}."
            )
        self.inputs = as_images(inputs, image_shape, color=True)
        self.copies = as_images(copies, image_shape, color=True)
        n_samples = len(inputs)
        self.labels = _one_per_sample(labels, "labels", n_samples)
        self.input_predictions = _one_per_sample(input_predictions, "input_predictions", n_samples)
        self.copy_predictions = _one_per_sample(copy_predictions, "copy_predictions", n_samples)
        # Without this check, strings and numbers would never be equal, and all look misclassified.
        unique_labels(self.labels, self.input_predictions, self.copy_predictions)
        self.input_probabilities = self.copy_probabilities = None
        if input_probabilities is not None:
            self.input_probabilities = _one_per_sample(
                input_probabilities, "input_probabilities", n_samples
            )
        if copy_probabilities is not None:
            self.copy_probabilities = _one_per_sample(
                copy_probabilities, "copy_probabilities", n_samples
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
        attack_params: dict | None = None,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        target: object = None,
        surrogate: object = None,
        random_state: int | np.random.RandomState | None = None,
        device: "str | torch.device | None" = None,
        image_shape: tuple[int, ...] | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Attack a fitted classifier and draw the result.

        Parameters
        ----------
        estimator : object
            A fitted classifier that the attack takes, as in `sk_adv.attacks.perturb`. Without
            `predict_proba` only the predicted classes are shown.

        X : array-like of shape (n_samples, n_features)
            A few inputs, each drawn as one column of images.

        y : array-like of shape (n_samples,)
            True labels.

        epsilon : float, array-like, dict or Series
            Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

        attack : str or callable, default="fgsm"
            Name of an attack, or a function with the signature of `sk_adv.attacks.fgsm`.

        attack_params : dict or None, default=None
            Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X, to which the copies are clipped.

        target : label, default=None
            Class to move the samples towards, instead of away from the true class.

        surrogate : estimator, default=None
            For models without gradients, as in `sk_adv.metrics.adversarial_accuracy_score`.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers; the others ignore it.

        device : str or torch.device, default=None
            Device of the attack. None means the device of the estimator's weights.

        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a sample as an image. None means a square.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        AdversarialExamplesDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or y and the classes differ in type.
        TypeError
            If X is sparse or the attack does not take the estimator.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_in_memory(X, y)
        copies = perturb(
            estimator,
            X,
            y,
            epsilon=epsilon,
            attack=attack,
            attack_params=attack_params,
            norm=norm,
            bounds=bounds,
            target=target,
            surrogate=surrogate,
            random_state=random_state,
            device=device,
        )
        input_predictions, input_probabilities = _predict(estimator, X)
        copy_predictions, copy_probabilities = _predict(estimator, copies)
        display = cls(
            inputs=X,
            copies=copies,
            labels=column_or_1d(y),
            input_predictions=input_predictions,
            copy_predictions=copy_predictions,
            input_probabilities=input_probabilities,
            copy_probabilities=copy_probabilities,
            image_shape=image_shape,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike,
        copies: ArrayLike,
        y_true: ArrayLike,
        input_proba: ArrayLike,
        copy_proba: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw samples and copies with the most probable class of each.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A few clean samples, each drawn as one column of images.

        copies : array-like of shape (n_samples, n_features)
            Their adversarial copies.

        y_true : array-like of shape (n_samples,)
            True labels.

        input_proba : array-like of shape (n_samples, n_classes)
            The model's class probabilities of the samples.

        copy_proba : array-like of shape (n_samples, n_classes)
            The model's class probabilities of the copies.

        classes : array-like of shape (n_classes,), default=None
            The classes, in the order of the columns. None means 0 to n_classes - 1.

        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a sample as an image. None means a square.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        AdversarialExamplesDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If the shapes do not fit each other.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        check_in_memory(X, copies, y_true, input_proba, copy_proba)
        input_proba = check_array(input_proba, input_name="input_proba")
        copy_proba = check_array(copy_proba, input_name="copy_proba")
        classes = np.arange(input_proba.shape[1]) if classes is None else np.asarray(classes)
        if not classes.shape == input_proba.shape[1:] == copy_proba.shape[1:]:
            raise ValueError(
                "input_proba and copy_proba must have one column per class; got shapes "
                f"{input_proba.shape} and {copy_proba.shape} for classes of shape {classes.shape}."
            )
        display = cls(
            inputs=X,
            copies=copies,
            labels=column_or_1d(y_true),
            input_predictions=classes[input_proba.argmax(axis=1)],
            copy_predictions=classes[copy_proba.argmax(axis=1)],
            input_probabilities=input_proba.max(axis=1),
            copy_probabilities=copy_proba.max(axis=1),
            image_shape=image_shape,
        )
        return display.plot(ax=ax)

    @property
    def perturbations(self) -> np.ndarray:
        """The copies minus the inputs, as images."""
        return self.copies - self.inputs

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        cmap: "str | Colormap" = "gray_r",
        perturbation_cmap: "str | Colormap" = "gray_r",
    ) -> Self:
        """Draw one column per sample: input, perturbation, copy.

        The predicted class and its probability are written below each input and copy, in bold red
        if the class is wrong. Inputs and copies share one colour scale, from the smallest to the
        largest value of both. In colour images a perturbation of 0 is grey.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        cmap : str or matplotlib Colormap, default="gray_r"
            Colour map of the inputs and copies. Colour images ignore it.

        perturbation_cmap : str or matplotlib Colormap, default="gray_r"
            Colour map of the perturbations, with zero in the middle. With the default, zero is
            grey and positive perturbations are darker. Colour images ignore it.

        Returns
        -------
        AdversarialExamplesDisplay
            The display itself.
        """
        n_samples, height, width = self.inputs.shape[:3]
        captions = {of: self._captions(of) for of in ("input", "copy")}
        # Each image has width 1; the y coordinate increases downwards.
        ratio, gap = height / width, 0.08
        text = 0.5 if "\n" in captions["input"][0]["s"] else 0.32
        across, down = n_samples * (1 + gap) - gap, 3 * ratio + 2 * text + gap
        self.ax_ = axes_for(self, ax, figsize=(1.1 * across + 1.4, 1.1 * down + 0.2))
        self.figure_ = self.ax_.figure
        size = fitting_size(self.ax_, across, [c["s"] for row in captions.values() for c in row])

        low, high = np.min([self.inputs, self.copies]), np.max([self.inputs, self.copies])
        largest = np.abs(self.perturbations).max()
        reach = float(nonzero(largest))
        shared, signed = (cmap, low, high), (perturbation_cmap, -reach, reach)
        rows = [
            ("input", self.inputs, shared, captions["input"]),
            (f"perturbation\nup to ±{largest:.3g}", self.perturbations, signed, None),
            ("copy", self.copies, shared, captions["copy"]),
        ]
        self.images_ = np.empty((len(rows), n_samples), dtype=object)
        top = 0.0
        for row, (name, images, (colors, least, most), under) in enumerate(rows):
            self.ax_.text(-gap, top + ratio / 2, name, ha="right", va="center")
            if images.ndim == 4:
                # Matplotlib does not rescale colour images; their values must lie in [0, 1].
                images = (images - least) / nonzero(most - least)
            for column, image in enumerate(images):
                left = column * (1 + gap)
                extent = (left, left + 1, top + ratio, top)
                self.images_[row, column] = self.ax_.imshow(
                    image, extent=extent, cmap=colors, vmin=least, vmax=most
                )
                if under is not None:
                    middle, below = left + 0.5, top + ratio + 0.05
                    style = {"ha": "center", "va": "top", "size": size, **under[column]}
                    self.ax_.text(middle, below, **style)
            top += ratio + (gap if under is None else text)
        self.ax_.set(xlim=(0, across), ylim=(down, 0), aspect="equal")
        self.ax_.set_axis_off()
        return self

    def _captions(self, of):
        """Captions of the inputs or the copies, as arguments of matplotlib's `text`."""
        predictions = getattr(self, f"{of}_predictions")
        probabilities = getattr(self, f"{of}_probabilities")
        texts = [str(prediction) for prediction in predictions]
        if probabilities is not None:
            # A long class name and its probability need two lines.
            classes = [*self.labels, *self.input_predictions, *self.copy_predictions]
            space = "\n" if max(len(str(name)) for name in classes) > 5 else " "
            texts = [
                f"{s}{space}({_percent(p)})" for s, p in zip(texts, probabilities, strict=True)
            ]
        # Bold as well as red, so that a print in grey can be read.
        styles = ({"color": "black"}, {"color": "tab:red", "weight": "bold"})
        return [
            {"s": text, **styles[int(prediction != label)]}
            for text, prediction, label in zip(texts, predictions, self.labels, strict=True)
        ]


def _one_per_sample(values, name, n_samples):
    """Return the values as an array; raise `ValueError` unless there is one per sample."""
    values = np.asarray(to_numpy(values))
    if values.shape != (n_samples,):
        raise ValueError(
            f"{name} must hold one entry per sample of inputs, shape {(n_samples,)}; "
            f"got shape {values.shape}."
        )
    return values


def _predict(estimator, X):
    """The predicted classes and their probabilities, or None without `predict_proba`."""
    predicted = predicted_by(estimator, X)
    if not hasattr(estimator, "predict_proba"):
        return predicted, None
    column = np.searchsorted(classes_of(estimator, X), predicted)
    probabilities = np.asarray(to_numpy(estimator.predict_proba(readable(estimator, X))))
    return predicted, probabilities[np.arange(len(predicted)), column]


def _percent(probability):
    # Rounding 99.7% to "100%" would suggest certainty.
    return ">99%" if probability > 0.995 else f"{probability:.0%}"
