"""TransferMatrixDisplay: errors of models on adversarial copies made against other models."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sk_adv.inspection._drawing import axes_for, frame_of
from sk_adv.inspection._inputs import check_names, error_rates, named_estimators
from sk_adv.metrics import transfer_error_matrix

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


class TransferMatrixDisplay:
    """Error of each model on the adversarial copies made against each of the models.

    Row i, column j holds the error of model j, the target, on copies made against model i, the
    source. It shows how well an adversary can attack the target with another model alone.

    Parameters
    ----------
    errors : array-like of shape (n_sources, n_targets)
        The share of the copies that each target misclassifies, in [0, 1], or NaN without copies.
        Sources and targets are the same models in the same order.

    names : sequence of str of length n_sources, default=None
        Names of the models. With None they are numbered from 0.

    Attributes
    ----------
    im_ : matplotlib AxesImage
        The matrix, as colours from 0 to 1.

    text_ : ndarray of shape (n_sources, n_targets) of matplotlib Text, or None
        The errors in %, with None in place of NaN. None as a whole if no values were drawn.

    ax_ : matplotlib Axes
        The axes with the matrix.

    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    ValueError
        If `errors` is not a square matrix of numbers in [0, 1], or `names` does not fit it.

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : A similar display of a matrix.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 8.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.inspection import TransferMatrixDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> models = {
    ...     "even rows": LogisticRegression(max_iter=1000).fit(X[::2], y[::2]),
    ...     "odd rows": LogisticRegression(max_iter=1000).fit(X[1::2], y[1::2]),
    ... }
    >>> display = TransferMatrixDisplay.from_estimators(models, X, y, epsilon=2)
    >>> display.errors.shape
    (2, 2)
    >>> bool((display.errors.diagonal() >= display.errors.T).all())
    True
    """

    def __init__(self, *, errors: ArrayLike, names: Sequence[str] | None = None):
        self.errors = check_array(
            errors, dtype=np.float64, ensure_all_finite="allow-nan", input_name="errors"
        )
        n_sources, n_targets = self.errors.shape
        if n_sources != n_targets or (self.errors < 0).any() or (self.errors > 1).any():
            raise ValueError(
                "errors must be shares in [0, 1], with one row and one column per model; got "
                f"shape {self.errors.shape} and values from {np.nanmin(self.errors):g} to "
                f"{np.nanmax(self.errors):g}."
            )
        names = range(n_sources) if names is None else names
        self.names = check_names(names, n_sources, per="model")

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, object] | Sequence[tuple[str, object]],
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
        ax: "Axes | None" = None,
        plot_params: dict | None = None,
    ) -> Self:
        """Make copies against each fitted classifier and draw the error of all of them on these.

        Parameters
        ----------
        estimators : dict of str to object, or list of (str, object)
            Fitted classifiers by name. Classifiers that the attack does not take are only targets,
            unless a `surrogate` is given.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

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
            For models without gradients, as in `sk_adv.metrics.transfer_error_matrix`.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers; the others ignore it.

        device : str or torch.device, default=None
            Device of the attack. None means the device of the estimator's weights.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        plot_params : dict, default=None
            Further arguments of :meth:`plot`.

        Returns
        -------
        TransferMatrixDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or the names are not all different.
        TypeError
            If X is sparse and the attack not exact.
        sklearn.exceptions.NotFittedError
            If an estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimators")
        names, fitted = named_estimators(estimators)
        errors = transfer_error_matrix(
            fitted,
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
        return cls(errors=errors, names=names).plot(ax=ax, **(plot_params or {}))

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        predictions: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        sample_weight: ArrayLike | None = None,
        ax: "Axes | None" = None,
        plot_params: dict | None = None,
    ) -> Self:
        """Draw the errors of given predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.

        predictions : array-like of shape (n_sources, n_targets, n_samples)
            The predicted classes of each target for the copies made against each source.

        names : sequence of str of length n_sources, default=None
            Names of the models. With None they are numbered from 0.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the errors.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        plot_params : dict, default=None
            Further arguments of :meth:`plot`.

        Returns
        -------
        TransferMatrixDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If the shapes do not fit each other, or labels and predictions differ in type.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        errors = error_rates(y_true, predictions, sample_weight, ["n_sources, n_targets"])
        return cls(errors=errors, names=names).plot(ax=ax, **(plot_params or {}))

    def to_frame(self) -> "pd.DataFrame":
        """The errors as a frame.

        Returns
        -------
        pandas.DataFrame
            One row per source, which is the index `source`, and one column per target.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(
            self, self.errors, index=self.names, index_name="source", columns=self.names
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        include_values: bool = True,
        values_format: str = ".1f",
        cmap: "str | Colormap" = "Blues",
        xticks_rotation: float | str = 30,
        colorbar: bool = True,
    ) -> Self:
        """Draw the matrix; cells without copies are hatched.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        include_values : bool, default=True
            Whether to write the error, in %, into each cell.

        values_format : str, default=".1f"
            Format of the errors in %.

        cmap : str or matplotlib Colormap, default="Blues"
            A colour map. If its lightness is monotonic, a print in grey can be read.

        xticks_rotation : float, "vertical" or "horizontal", default=30
            Rotation of the targets' names, in degrees.

        colorbar : bool, default=True
            Whether to draw a colour bar beside the matrix.

        Returns
        -------
        TransferMatrixDisplay
            The display itself.
        """
        n_models = len(self.errors)
        side = max(0.8 * n_models + 2, 4.2)
        self.ax_ = axes_for(self, ax, figsize=(side + 1, side))
        self.figure_ = self.ax_.figure
        from matplotlib.ticker import PercentFormatter

        # NaN cells are transparent, so the hatched background shows through.
        self.ax_.patch.set(hatch="////", edgecolor="0.7")
        self.im_ = self.ax_.imshow(self.errors, cmap=cmap, vmin=0, vmax=1)
        self.text_ = None
        if include_values:
            self.text_ = np.empty(self.errors.shape, dtype=object)
            for source, target in np.ndindex(*self.errors.shape):
                error = self.errors[source, target]
                if np.isnan(error):
                    continue
                red, green, blue, _ = self.im_.cmap(self.im_.norm(error))
                # Perceived lightness of the colour: its luma (Rec. 601).
                is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
                self.text_[source, target] = self.ax_.text(
                    target,
                    source,
                    format(100 * error, values_format),
                    ha="center",
                    va="center",
                    color="black" if is_light else "white",
                )
        ticks = range(n_models)
        self.ax_.set(xlabel="copies classified by", ylabel="copies made against")
        self.ax_.set_yticks(ticks, self.names)
        self.ax_.set_xticks(ticks, self.names, rotation=xticks_rotation)
        if xticks_rotation not in (0, "horizontal", "vertical"):
            for label in self.ax_.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        if colorbar:
            self.figure_.colorbar(
                self.im_,
                ax=self.ax_,
                label="error under attack (%)",
                format=PercentFormatter(xmax=1, symbol=""),
            )
        return self
