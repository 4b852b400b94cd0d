"""RobustnessCurveDisplay: error against the radius of an attack."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sk_adv._validation import check_epsilon
from sk_adv.inspection._drawing import axes_for
from sk_adv.metrics import adversarial_accuracy_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        If `epsilons` is not 1-D, holds no radius or an invalid one, or `errors` differs from it
        in length.

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

    def __init__(self, *, epsilons: ArrayLike, errors: ArrayLike, name: str | None = None):
        self.epsilons = _check_radii(epsilons)
        self.errors = np.asarray(errors, dtype=float)
        self.name = name
        if self.epsilons.shape != self.errors.shape:
            raise ValueError(
                "epsilons and errors must be 1-D and of the same length; got shapes "
                f"{self.epsilons.shape} and {self.errors.shape}."
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epsilons: ArrayLike,
        attack: str | Callable = "fgsm",
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        name: str | None = None,
        ax: "Axes | None" = None,
        curve_kwargs: dict | None = None,
        **attack_params,
    ) -> Self:
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

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid; an invalid radius is found before any attack runs.
        TypeError
            If X is sparse or `as_module` has no rule for the estimator.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        # Before the first attack, since a curve may take minutes.
        radii = _check_radii(epsilons)
        if name is None:
            name = f"{type(estimator).__name__} ({_attack_name(attack)})"
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
            for epsilon in radii
        ]
        display = cls(epsilons=radii, errors=errors, name=name)
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        curve_kwargs: dict | None = None,
    ) -> Self:
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
        self.ax_ = axes_for(self, ax, figsize=(6.4, 4.2))
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


def _check_radii(epsilons):
    """The radii as a 1-D array, each finite and at least 0, or `ValueError`."""
    try:
        radii = np.asarray(epsilons, dtype=float)
    except (TypeError, ValueError):
        radii = None
    if radii is None or radii.ndim != 1 or not len(radii):
        raise ValueError(
            "epsilons must be a 1-D sequence of one radius or more, such as [0, 0.1, 0.2]; "
            f"got {epsilons!r}."
        )
    return check_epsilon(radii, radii.shape, name="epsilons")


def _attack_name(attack):
    """What the legend calls an attack; of a `functools.partial` the function in it."""
    if isinstance(attack, str):
        return attack.upper()
    if isinstance(attack, functools.partial):
        return _attack_name(attack.func)
    return getattr(attack, "__name__", type(attack).__name__)
