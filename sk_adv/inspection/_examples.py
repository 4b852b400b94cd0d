"""AdversarialExamplesDisplay: inputs, their adversarial copies, and what a model makes of both."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.multiclass import unique_labels

from sk_adv._devices import to_numpy
from sk_adv.attacks._estimators import perturb
from sk_adv.differentiable._as_module import classes_of
from sk_adv.inspection._drawing import as_images, axes_for, fitting_size, nonzero

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


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

    copy_predictions : array-like of shape (n_samples,)
        What the model predicts for the copies.

    input_probabilities : array-like of shape (n_samples,), default=None
        The probabilities of the predictions for the inputs. None: of a model that has none.

    copy_probabilities : array-like of shape (n_samples,), default=None
        The probabilities of the predictions for the copies.

    image_shape : tuple (height, width) or (height, width, 3), default=None
        Shape of a sample as an image; the second has the colours red, green and blue. None: a
        square, if `n_features` is the square of a number.

    Attributes
    ----------
    inputs : ndarray of shape (n_samples, height, width) or (n_samples, height, width, 3)
        The inputs as images.

    copies : ndarray of the shape of inputs
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
        copy_predictions: ArrayLike,
        input_probabilities: ArrayLike | None = None,
        copy_probabilities: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
    ):
        # Of unsigned integers, as files of images hold them, the difference would wrap around.
        inputs = check_array(inputs, dtype=np.float64, allow_nd=True, input_name="inputs")
        copies = check_array(copies, dtype=np.float64, allow_nd=True, input_name="copies")
        if copies.shape != inputs.shape:
            raise ValueError(
                f"copies must have the shape of inputs, {inputs.shape}; got {copies.shape}."
            )
        self.inputs = as_images(inputs, image_shape, color=True)
        self.copies = as_images(copies, image_shape, color=True)

        def one_a_sample(name, values):
            values = np.asarray(values)
            if values.shape != (len(inputs),):
                raise ValueError(
                    f"{name} must hold one entry a sample of inputs, shape {(len(inputs),)}; "
                    f"got shape {values.shape}."
                )
            return values

        self.labels = one_a_sample("labels", labels)
        self.input_predictions = one_a_sample("input_predictions", input_predictions)
        self.copy_predictions = one_a_sample("copy_predictions", copy_predictions)
        # Words never equal numbers: all predictions would look wrong.
        unique_labels(self.labels, self.input_predictions, self.copy_predictions)
        self.input_probabilities = self.copy_probabilities = None
        if input_probabilities is not None:
            self.input_probabilities = one_a_sample("input_probabilities", input_probabilities)
        if copy_probabilities is not None:
            self.copy_probabilities = one_a_sample("copy_probabilities", copy_probabilities)

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
            A fitted classifier for which `as_module` has a rule. Without `predict_proba` only the
            predicted classes are drawn.

        X : array-like of shape (n_samples, n_features)
            The inputs, one column of the picture each: a few.

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
            The class to move towards, in place of away from the true one.

        surrogate : estimator, default=None
            For models without gradients, as in `sk_adv.metrics.adversarial_accuracy_score`.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers; the others ignore it.

        device : str or torch.device, default=None
            Where the attack runs; None is where the estimator's weights are.

        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a sample as an image. None: a square.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        Returns
        -------
        AdversarialExamplesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or y and the classes differ in kind.
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
            The clean samples, one column of the picture each: a few.

        copies : array-like of shape (n_samples, n_features)
            Their adversarial copies.

        y_true : array-like of shape (n_samples,)
            True labels.

        input_proba : array-like of shape (n_samples, n_classes)
            The probabilities that a model gives to the classes of the samples.

        copy_proba : array-like of shape (n_samples, n_classes)
            Those of the copies.

        classes : array-like of shape (n_classes,), default=None
            The classes, one a column of the probabilities. None: 0 to n_classes - 1.

        image_shape : tuple (height, width) or (height, width, 3), default=None
            Shape of a sample as an image. None: a square.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        Returns
        -------
        AdversarialExamplesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit each other.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        input_proba = check_array(input_proba, input_name="input_proba")
        copy_proba = check_array(copy_proba, input_name="copy_proba")
        classes = np.arange(input_proba.shape[1]) if classes is None else np.asarray(classes)
        if not classes.shape == input_proba.shape[1:] == copy_proba.shape[1:]:
            raise ValueError(
                "input_proba and copy_proba must have one column a class; got shapes "
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
        """The copies less the inputs, as images."""
        return self.copies - self.inputs

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        cmap: "str | Colormap" = "gray_r",
        perturbation_cmap: "str | Colormap" = "gray_r",
    ) -> Self:
        """Draw a column for each sample: input, perturbation, copy.

        Under each input and copy stands the predicted class and its probability, in bold red where
        it is wrong. Inputs and copies share one scale, from the smallest to the largest value of
        both. In colour images a perturbation of 0 is grey.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        cmap : str or matplotlib Colormap, default="gray_r"
            Colours of the inputs and copies; unused for colour images.

        perturbation_cmap : str or matplotlib Colormap, default="gray_r"
            Colours of the perturbations; the middle of the map is zero. That of the default is
            grey, and what adds ink is darker in a grey print too. Unused for colour images.

        Returns
        -------
        AdversarialExamplesDisplay
            The display itself.
        """
        n_samples, height, width = self.inputs.shape[:3]
        captions = {of: self._captions(of) for of in ("input", "copy")}
        # One picture is 1 wide; coordinates run down the page, as in an image.
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
                # Matplotlib maps no colour images to a range: they have to lie in [0, 1].
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
        """Texts under the images of inputs or copies, as arguments of matplotlib's `text`."""
        predictions = getattr(self, f"{of}_predictions")
        probabilities = getattr(self, f"{of}_probabilities")
        texts = [str(prediction) for prediction in predictions]
        if probabilities is not None:
            # A long name and its probability fit under a picture on two lines only.
            classes = [*self.labels, *self.input_predictions, *self.copy_predictions]
            space = "\n" if max(len(str(name)) for name in classes) > 5 else " "
            texts = [
                f"{s}{space}({_percent(p)})" for s, p in zip(texts, probabilities, strict=True)
            ]
        # Bold as well as red, for prints in grey.
        styles = ({"color": "black"}, {"color": "tab:red", "weight": "bold"})
        return [
            {"s": text, **styles[int(prediction != label)]}
            for text, prediction, label in zip(texts, predictions, self.labels, strict=True)
        ]


def _predict(estimator, X):
    """The predicted class of each sample and its probability, None if the model has none."""
    predicted = np.asarray(to_numpy(estimator.predict(X)))
    if not hasattr(estimator, "predict_proba"):
        return predicted, None
    column = np.searchsorted(classes_of(estimator, X), predicted)
    probabilities = np.asarray(to_numpy(estimator.predict_proba(X)))
    return predicted, probabilities[np.arange(len(predicted)), column]


def _percent(probability):
    # Not "100%" for 99.7 %: it would claim certainty.
    return ">99%" if probability > 0.995 else f"{probability:.0%}"
