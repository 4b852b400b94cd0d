"""VerdictDisplay: shares of verified, unknown and falsified samples against the radius."""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support
from tqdm.auto import tqdm

from sk_adv.inspection._drawing import axes_for, frame_of, radius_units
from sk_adv.metrics import verify_robustness
from sk_adv.metrics._certificates import unit_set
from sk_adv.metrics._reports import check_radii

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Wong, "Points of view: Color blindness", Nature Methods 2011: told apart by all, and in grey.
_COLORS = {"verified": "#0072B2", "unknown": "#D9D9D9", "falsified": "#E69F00"}


class VerdictDisplay:
    """Shares of samples that are verified, unknown and falsified, stacked, against the radius.

    The accuracy under the worst case runs inside the band of the unknown samples; where nothing is
    unknown, it is the line between the other two.

    Parameters
    ----------
    epsilons : array-like of shape (n_radii,)
        The radii, in the units of X, or as multiples of `scale`.

    verified, falsified : array-like of shape (n_radii,)
        Shares of the samples at each radius. The rest is unknown.

    name : str, default=None
        Title of the picture, such as the model's name.

    scale : array-like of shape (n_features,), default=None
        Unit of the radius for each feature: radius ε stands for `ε * scale`. None means 1 for all
        features.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the shares.

    figure_ : matplotlib Figure
        The figure that holds them.

    bands_ : list of matplotlib PolyCollection
        The bands of verified, unknown and falsified samples.

    Raises
    ------
    ValueError
        If `epsilons` is not 1-D, is empty, holds an invalid radius or does not grow, or the shares
        do not fit it, are negative, or exceed 1 together.

    See Also
    --------
    sk_adv.metrics.verify_robustness : The verdicts of a single radius.
    RobustnessCurveDisplay : Errors under attacks alone.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sk_adv.inspection import VerdictDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(random_state=0).fit(X[::2], y[::2])
    >>> display = VerdictDisplay.from_estimator(
    ...     forest, X[1::2], y[1::2], epsilons=[0, 0.1, 0.2, 0.4]
    ... )
    >>> display.verified.round(2)
    array([0.96, 0.93, 0.85, 0.56])
    >>> bool((display.unknown == 0).all())
    True
    """

    def __init__(
        self,
        *,
        epsilons: ArrayLike,
        verified: ArrayLike,
        falsified: ArrayLike,
        name: str | None = None,
        scale: ArrayLike | None = None,
    ):
        self.epsilons = check_radii(epsilons)
        if (np.diff(self.epsilons) <= 0).any():
            raise ValueError(f"epsilons must grow from one to the next; got {epsilons!r}.")
        self.verified = np.asarray(verified, dtype=float)
        self.falsified = np.asarray(falsified, dtype=float)
        for share, label in ((self.verified, "verified"), (self.falsified, "falsified")):
            if share.shape != self.epsilons.shape:
                raise ValueError(
                    f"{label} must have one share for each of the {len(self.epsilons)} radii; got "
                    f"shape {share.shape}."
                )
        rest = 1 - self.verified - self.falsified
        if not (min(self.verified.min(), self.falsified.min()) >= 0 and rest.min() > -1e-9):
            raise ValueError(
                "verified and falsified must be shares of at least 0 that do not exceed 1 "
                f"together; got {verified!r} and {falsified!r}."
            )
        # Sums of shares are rounded.
        self.unknown = np.where(np.abs(rest) < 1e-9, 0.0, rest)
        self.name = name
        self.scale = scale

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epsilons: ArrayLike,
        scale: ArrayLike | None = None,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        time_limit: float = 10.0,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Verify a fitted classifier at each radius and draw the shares.

        Parameters
        ----------
        estimator : object
            A fitted classifier.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,)
            True labels.

        epsilons : array-like of shape (n_radii,)
            Growing radii, in the units of X, or as multiples of `scale`.

        scale : float, array-like, dict or Series, default=None
            Unit of the radius for each feature, such as its standard deviation: radius ε stands for
            `ε * scale`. None means 1 for all features.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the shares.

        time_limit : float, default=10.0
            Seconds of search for each sample and radius of a tree model.

        n_jobs : int or None, default=None
            Number of processes for tree models, as in scikit-learn.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers.

        verbose : bool, default=False
            Whether to show a progress bar over the radii.

        name : str, default=None
            Title of the picture. None means the name of the estimator's class.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        VerdictDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid.
        TypeError
            As in `sk_adv.metrics.verify_robustness`.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        radii = check_radii(epsilons)
        unit = unit_set(scale, norm, bounds, X)
        options = {"time_limit": time_limit, "n_jobs": n_jobs, "random_state": random_state}
        verdicts = [
            verify_robustness(
                estimator, X, y, epsilon=unit.scaled(radius), sample_weight=sample_weight, **options
            )
            for radius in tqdm(radii, unit="radius", desc="verifying", disable=not verbose)
        ]
        display = cls(
            epsilons=radii,
            verified=[verdict.lower for verdict in verdicts],
            falsified=[1 - verdict.upper for verdict in verdicts],
            name=type(estimator).__name__ if name is None else name,
            scale=scale,
        )
        return display.plot(ax=ax)

    def to_frame(self) -> "pd.DataFrame":
        """The shares as a frame.

        Returns
        -------
        pandas.DataFrame
            One row per radius, which is the index `epsilon`, with the columns `verified`, `unknown`
            and `falsified`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        shares = {label: getattr(self, label) for label in _COLORS}
        return frame_of(self, shares, index=self.epsilons, index_name="epsilon")

    def plot(self, ax: "Axes | None" = None, *, name: str | None = None) -> Self:
        """Draw the shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        name : str, default=None
            Title of the picture. None means the name of the display.

        Returns
        -------
        VerdictDisplay
            The display itself.
        """
        self.ax_ = axes_for(self, ax, figsize=(6.4, 4.2))
        self.figure_ = self.ax_.figure
        from matplotlib.ticker import PercentFormatter

        epsilons, shares = self.epsilons, [self.verified, self.unknown, self.falsified]
        if len(epsilons) == 1:
            # A single radius has no width of its own.
            epsilons = epsilons[0] + np.array([-0.5, 0.5])
            shares = [np.repeat(share, 2) for share in shares]
            self.ax_.set_xticks(self.epsilons)
        labels = ["verified", "unknown", "falsified"]
        self.bands_ = self.ax_.stackplot(
            epsilons, *shares, labels=labels, colors=[_COLORS[label] for label in labels]
        )
        self.ax_.set(
            xlabel=f"radius ε ({radius_units(self.scale)})",
            ylabel="share of samples (%)",
            xlim=(epsilons[0], epsilons[-1]),
            ylim=(0, 1),
            title=self.name if name is None else name,
        )
        self.ax_.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        handles, names = self.ax_.get_legend_handles_labels()
        # From top to bottom, as the bands lie.
        self.ax_.legend(handles[::-1], names[::-1], loc="lower left")
        return self
