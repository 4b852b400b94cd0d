"""EpsilonSweepDisplay: the logits of a model along a line through one sample."""

from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.compose import ColumnTransformer
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sk_adv._arrays import to_numpy
from sk_adv._validation import check_dense, name_of
from sk_adv.attacks._estimators import check_classifier, check_has_classes, perturb
from sk_adv.differentiable import as_module
from sk_adv.differentiable._as_module import error_of, refused_part
from sk_adv.differentiable._column_transformer import split_columns
from sk_adv.differentiable._columns_in_hand import check_columns
from sk_adv.inspection._drawing import axes_for, frame_of, legend_beside, radius_units
from sk_adv.metrics._certificates import unit_set

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LINE_STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


class EpsilonSweepDisplay:
    """Logits of each class along the line x + ε d through one sample x.

    The true class is drawn in black. Each other class that is predicted somewhere on the line has
    its own colour and line style; all remaining classes are grey. The background is shaded where
    the true class is predicted.

    Parameters
    ----------
    epsilons : array-like of shape (n_radii,)
        The steps ε, increasing; they may be negative.

    logits : array-like of shape (n_radii, n_classes)
        The logits at each step.

    classes : array-like of shape (n_classes,)
        The classes, in the order of the columns of `logits`.

    label : int or str
        The true class of the sample, one of `classes`.

    step_name : str, default="ε (multiples of the direction)"
        Label of the axis of the steps, with their units.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the logits.

    figure_ : matplotlib Figure
        The figure that holds them.

    lines_ : list of matplotlib Line2D
        The logits, in the order of `classes`.

    spans_ : list of matplotlib Patch
        The shaded intervals, in the order of `correct_stretches`.

    Raises
    ------
    ValueError
        If `epsilons` is not increasing, `logits` or `classes` does not fit it, an entry is NaN or
        infinite, or `label` is not among `classes`.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    figure 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.inspection import EpsilonSweepDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> display = EpsilonSweepDisplay.from_estimator(
    ...     model, X[60], y[60], epsilons=np.linspace(-2, 2, 81)
    ... )
    >>> display.logits.shape
    (81, 3)
    >>> display.correct_stretches.round(2)
    array([[-2.  ,  0.64]])
    """

    def __init__(
        self,
        *,
        epsilons: ArrayLike,
        logits: ArrayLike,
        classes: ArrayLike,
        label: object,
        step_name: str = "ε (multiples of the direction)",
    ):
        self.epsilons = _check_steps(epsilons)
        self.logits = check_array(to_numpy(logits), dtype=np.float64, input_name="logits")
        self.classes = np.asarray(classes)
        self.step_name = step_name
        shape = (len(self.epsilons), *self.classes.shape)
        if self.logits.shape != shape or shape[1] < 2:
            raise ValueError(
                "logits must have shape (n_radii, n_classes), with n_radii epsilons and at least "
                f"two classes; got shape {self.logits.shape} for {len(self.epsilons)} epsilons and "
                f"classes of shape {self.classes.shape}."
            )
        if not np.isin(label, self.classes):
            raise ValueError(
                f"The label must be one of the classes {self.classes.tolist()}; got {label!r}."
            )
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: object,
        *,
        epsilons: ArrayLike | None = None,
        direction: str | ArrayLike = "gradient",
        scale: ArrayLike | None = None,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the logits of a fitted classifier along a line through a sample.

        Parameters
        ----------
        estimator : object
            A fitted classifier for which `as_module` has a rule. For any other classifier, pass a
            surrogate that has been fitted to its predictions.

        X : array-like or frame of shape (n_features,), (1, n_features) or (1, ...)
            The sample x. Columns of a frame that an encoder takes stay as they are.

        y : int, str or array-like of shape (1,)
            The true class of x.

        epsilons : array-like of shape (n_radii,), default=None
            The steps ε, increasing. None means 201 steps from -10 to 10, as in the paper's figure.

        direction : "gradient" or array-like of shape (n_features,), default="gradient"
            The direction d. "gradient" is the step of `sk_adv.attacks.fgsm` of radius 1: the sign
            of the loss's gradient at x, or the normalised gradient if `norm=2`.

        scale : array-like of shape (n_features,), default=None
            Unit of the steps for each feature, such as its standard deviation: the line is
            x + ε (scale ∘ d), and the gradient is taken in these units. None means 1 for all
            features.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm in which the gradient direction has length 1.

        bounds : tuple (low, high) or None, default=None
            Valid range of X, to which the points of the line are clipped.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        EpsilonSweepDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or the gradient at x is zero.
        TypeError
            If X is sparse or `as_module` has no rule for the estimator.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        steps = _check_steps(np.linspace(-10, 10, 201) if epsilons is None else epsilons)
        check_dense(X, "A sweep")
        split = split_columns(estimator, X) if hasattr(X, "columns") else None
        if split is not None:
            x = split.values
        else:
            x = check_array(
                np.atleast_2d(to_numpy(X)),
                dtype=np.float64,
                ensure_all_finite="allow-nan",
                allow_nd=True,
                input_name="X",
            )
        if len(x) != 1:
            raise ValueError(
                "X must hold one sample, shape (n_features,) or (1, n_features); "
                f"got shape {np.shape(X)}."
            )
        check_columns(estimator, X)
        _check_has_logits(estimator)
        sample = x if split is None else X
        classes, label = check_classifier(estimator, sample, np.ravel(to_numpy(y)))
        if label[0] not in classes:
            raise ValueError(f"y must be one of the classes {classes.tolist()}; got '{label[0]}'.")
        unit = unit_set(scale, norm, bounds, X if hasattr(X, "columns") else x)
        if isinstance(direction, str) and direction == "gradient":
            # One step of FGSM with radius 1, in the units of `scale`.
            copy = perturb(estimator, sample, label, epsilon=unit.without_bounds())
            line = _difference(copy, x, split)[0]
            name = "the sign of the gradient" if norm == np.inf else "the normalised gradient"
            step_name = f"ε along {name} ({radius_units(scale)})"
        else:
            line = unit.epsilon.numpy() * _check_direction(direction, x.shape[1:])
            if split is not None:
                _check_stays(line, split)
            units = "multiples of it" if scale is None else radius_units(scale)
            step_name = f"ε along the direction ({units})"
        if not np.any(np.nan_to_num(line)):
            raise ValueError(
                "The direction is zero in every feature, so it defines no line: pass another "
                "direction, or a scale that is not 0."
            )
        # In float64, so that rounding does not hide where the logits are linear.
        if split is None:
            module = as_module(estimator, device="cpu", dtype=torch.float64)
        else:
            module, unit = split.module.cpu().double(), unit.restricted_to(split.free)
        with torch.no_grad():
            logits = module(
                unit.clip(torch.from_numpy(x + steps.reshape(-1, *[1] * line.ndim) * line))
            )
        display = cls(
            epsilons=steps, logits=logits, classes=classes, label=label[0], step_name=step_name
        )
        return display.plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        epsilons: ArrayLike,
        logits: ArrayLike,
        *,
        classes: ArrayLike,
        y_true: object,
        step_name: str = "ε (multiples of the direction)",
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw given logits.

        Parameters
        ----------
        epsilons : array-like of shape (n_radii,)
            The steps ε, increasing.

        logits : array-like of shape (n_radii, n_classes)
            The logits at each step.

        classes : array-like of shape (n_classes,)
            The classes, in the order of the columns of `logits`.

        y_true : int or str
            The true class of the sample.

        step_name : str, default="ε (multiples of the direction)"
            Label of the axis of the steps, with their units.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        EpsilonSweepDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If the shapes do not fit each other, or `y_true` is not among `classes`.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        display = cls(
            epsilons=epsilons, logits=logits, classes=classes, label=y_true, step_name=step_name
        )
        return display.plot(ax=ax)

    @property
    def correct_stretches(self) -> np.ndarray:
        """Intervals of ε in which the true class is predicted, of shape (n_stretches, 2).

        Each row holds the first and the last ε. The logits are interpolated linearly between steps.
        """
        true = self.classes == self.label
        margin = self.logits[:, true][:, 0] - self.logits[:, ~true].max(axis=1)
        wins = margin > 0
        before = np.flatnonzero(wins[:-1] != wins[1:])
        step, rise = np.diff(self.epsilons)[before], np.diff(margin)[before]
        crossings = self.epsilons[before] - margin[before] * step / rise
        ends = np.concatenate([self.epsilons[:1], crossings, self.epsilons[-1:]])
        # Correct and wrong intervals alternate.
        return np.column_stack([ends[:-1], ends[1:]])[0 if wins[0] else 1 :: 2]

    def to_frame(self) -> "pd.DataFrame":
        """The logits as a frame.

        Returns
        -------
        pandas.DataFrame
            One row per step, which is the index `epsilon`, and one column per class.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        options = {"index": self.epsilons, "index_name": "epsilon", "columns": self.classes}
        return frame_of(self, self.logits, **options)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the logits.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        EpsilonSweepDisplay
            The display itself.
        """
        self.ax_ = axes_for(self, ax, figsize=(7.4, 4.2))
        self.figure_ = self.ax_.figure
        true = int(np.flatnonzero(self.classes == self.label)[0])
        rivals = [index for index in np.unique(self.logits.argmax(axis=1)) if index != true]
        others = np.setdiff1d(np.arange(len(self.classes)), [true, *rivals])
        styles = [{"color": "0.7", "linewidth": 0.8, "zorder": 1.5}] * len(self.classes)
        styles[true] = {"color": "black", "linewidth": 2.5, "zorder": 3}
        for rank, index in enumerate(rivals):
            line_style = _LINE_STYLES[rank % len(_LINE_STYLES)]
            styles[index] = {"color": f"C{rank}", "linestyle": line_style}
        self.lines_ = [
            self.ax_.plot(self.epsilons, logits, label=str(name), **style)[0]
            for logits, name, style in zip(self.logits.T, self.classes, styles, strict=True)
        ]
        self.spans_ = [
            self.ax_.axvspan(low, high, color="0.92", zorder=0, linewidth=0)
            for low, high in self.correct_stretches
        ]
        self.ax_.set(
            xlabel=self.step_name,
            ylabel="logit",
            xlim=(self.epsilons[0], self.epsilons[-1]),
        )
        legend = {f"{self.classes[true]} (true)": self.lines_[true]}
        legend |= {str(self.classes[index]): self.lines_[index] for index in rivals}
        if len(others):
            legend["others"] = self.lines_[others[0]]
        if self.spans_:
            legend["classified correctly"] = self.spans_[0]
        legend_beside(self.ax_, handles=legend.values(), labels=legend.keys(), title="class")
        return self


def _check_has_logits(estimator):
    """Raise `TypeError` unless there is a rule for a classifier, which gives its logits."""
    check_has_classes(estimator)
    part = refused_part(estimator, exempt=ColumnTransformer)
    if part is not None:
        raise TypeError(
            "EpsilonSweepDisplay draws the logits of models for which as_module has a rule, and "
            f"can't draw this {name_of(estimator)}. Fit a model that has one, such as "
            "LogisticRegression(), to samples and estimator.predict(samples), and pass that."
        ) from error_of(part)


def _check_steps(epsilons):
    """Return the steps as a 1-D array; raise `ValueError` unless they are finite and increasing."""
    try:
        steps = np.asarray(epsilons, dtype=np.float64)
    except (TypeError, ValueError):
        steps = np.empty(0)
    if steps.ndim != 1 or len(steps) < 2 or not np.isfinite(steps).all():
        raise ValueError(
            "epsilons must be a 1-D sequence of at least two finite steps, such as "
            f"numpy.linspace(-10, 10, 201); got {epsilons!r}."
        )
    if (np.diff(steps) <= 0).any():
        raise ValueError(
            "epsilons must be strictly increasing: sort them and drop repeated steps; "
            f"got {epsilons!r}."
        )
    return steps


def _difference(copy, x, split):
    """The perturbation of a sample, 0 in the columns that stay as they are."""
    if split is None:
        return copy - x
    copy = np.where(split.free, np.asarray(copy, dtype=object), x)
    return copy.astype(np.float64) - x


def _check_stays(line, split):
    """Raise `ValueError` if a direction moves columns that have no gradient or are no numbers."""
    moved = [split.names[j] for j in np.flatnonzero((line != 0) & ~split.free)]
    if moved:
        raise ValueError(
            f"direction must be 0 in the columns {moved}, which are no numbers or reach the "
            "classifier through steps without a gradient; or give them a scale of 0."
        )


def _check_direction(direction, feature_shape):
    """Return the direction as an array; raise `ValueError` unless it is one number per feature."""
    try:
        line = np.asarray(to_numpy(direction), dtype=np.float64)
    except (TypeError, ValueError):
        line = None
    if line is None or line.shape != feature_shape or not np.isfinite(line).all():
        raise ValueError(
            'direction must be "gradient" or hold one finite number per feature, shape '
            f"{feature_shape}; got {direction!r}."
        )
    return line
