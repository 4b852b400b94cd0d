"""AdversarialContributionDisplay: what each column gives to an adversary."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sk_adv.inspection._drawing import axes_for
from sk_adv.inspection._inputs import check_names
from sk_adv.metrics import AdversarialContribution, adversarial_contribution

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LABELS = {
    "share": "share of the worst change of the margin (%)",
    "accuracy": "accuracy under attack that comes back when fixed (%)",
}


class AdversarialContributionDisplay:
    """Bars of what each column gives to an adversary, the most important at the top.

    A bar ends at the contribution. Of linear models that is the exact share. Of others it is the
    accuracy under attack that comes back when the column is fixed, and a thin line leads from the
    lower to the upper end of what comes back under the worst case, where the two differ.

    Parameters
    ----------
    contribution : array-like of shape (n_columns,)
        The contributions, in [0, 1].

    columns : sequence of length n_columns, default=None
        The names of the columns. None means their indices.

    lower, upper : array-like of shape (n_columns,), default=None
        The ends between which each contribution lies. None means the contribution itself.

    kind : {"share", "accuracy"}, default="accuracy"
        What the contributions are, as in `sk_adv.metrics.AdversarialContribution`.

    name : str, default=None
        Title of the picture, such as the model's name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the bars.

    figure_ : matplotlib Figure
        The figure that holds them.

    bars_ : matplotlib BarContainer
        The bars, from the top down.

    errors_ : matplotlib LineCollection or None
        The lines between the ends; None if all contributions are exact.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a number is outside [0, 1], a contribution does not lie
        between its ends, or `kind` is unknown.

    See Also
    --------
    sk_adv.metrics.adversarial_contribution : The numbers alone.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.inspection import AdversarialContributionDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> display = AdversarialContributionDisplay.from_estimator(model, X, y, 0.3)
    >>> display.contribution.round(2)
    array([0.14, 0.14, 0.45, 0.28])
    >>> [label.get_text() for label in display.ax_.get_yticklabels()][:2]
    ['petal length (cm)', 'petal width (cm)']
    """

    def __init__(
        self,
        *,
        contribution: ArrayLike,
        columns: Sequence | None = None,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        kind: str = "accuracy",
        name: str | None = None,
    ):
        self.contribution = np.asarray(contribution, dtype=float)
        if self.contribution.ndim != 1:
            raise ValueError(
                f"contribution must have shape (n_columns,); got shape {self.contribution.shape}."
            )
        n_columns = len(self.contribution)
        self.lower = self.contribution if lower is None else np.asarray(lower, dtype=float)
        self.upper = self.contribution if upper is None else np.asarray(upper, dtype=float)
        for end, label in ((self.lower, "lower"), (self.upper, "upper")):
            if end.shape != (n_columns,):
                raise ValueError(
                    f"{label} must have one number for each of the {n_columns} columns; got shape "
                    f"{end.shape}."
                )
        ends = (0, self.lower, self.contribution, self.upper, 1)
        if not all((np.subtract(*pair) <= 1e-9).all() for pair in pairwise(ends)):
            raise ValueError(
                "contribution must lie between lower and upper, and these in [0, 1]; got "
                f"contribution={contribution!r}, lower={lower!r}, upper={upper!r}."
            )
        if kind not in _LABELS:
            raise ValueError(f"kind must be 'share' or 'accuracy'; got {kind!r}.")
        names = range(n_columns) if columns is None else columns
        self.columns = check_names(names, n_columns, per="column")
        self.kind, self.name = kind, name

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: ArrayLike,
        epsilon: ArrayLike,
        *,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        time_limit: float = 10.0,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        name: str | None = None,
        max_columns: int = 20,
        ax: "Axes | None" = None,
    ) -> Self:
        """Find what each column gives to an adversary, and draw it.

        Parameters
        ----------
        estimator : object
            A fitted classifier.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,)
            True labels.

        epsilon : float, array-like, dict or Series
            Radius of the perturbation in the units of X.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        time_limit : float, default=10.0
            Seconds of search for each sample, and as much again for the fixed columns together.

        n_jobs : int or None, default=None
            Number of processes for the searches, as in scikit-learn.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers.

        verbose : bool, default=False
            Whether to show a progress bar.

        name : str, default=None
            Title of the picture. None means the name of the estimator's class.

        max_columns : int, default=20
            The largest number of columns to draw.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        AdversarialContributionDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid.
        TypeError
            As in `sk_adv.metrics.adversarial_contribution`.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        _check_max_columns(max_columns)
        found = adversarial_contribution(
            estimator,
            X,
            y,
            epsilon,
            norm=norm,
            bounds=bounds,
            sample_weight=sample_weight,
            time_limit=time_limit,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        display = cls(
            contribution=found.contribution,
            columns=found.columns,
            lower=found.lower,
            upper=found.upper,
            kind=found.kind,
            name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax, max_columns=max_columns)

    def to_frame(self) -> "pd.DataFrame":
        """The numbers as a frame.

        Returns
        -------
        pandas.DataFrame
            As `sk_adv.metrics.AdversarialContribution.to_frame` gives them.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self._numbers().to_frame()

    def plot(
        self, ax: "Axes | None" = None, *, name: str | None = None, max_columns: int = 20
    ) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        name : str, default=None
            Title of the picture. None means the name of the display.

        max_columns : int, default=20
            The largest number of columns to draw; the title says how many are left out.

        Returns
        -------
        AdversarialContributionDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `max_columns` is less than 1.
        """
        _check_max_columns(max_columns)
        order = self._numbers().order()
        shown = order[:max_columns]
        self.ax_ = axes_for(self, ax, figsize=(6.4, 1.2 + 0.3 * len(shown)))
        self.figure_ = self.ax_.figure
        from matplotlib.ticker import PercentFormatter

        places = np.arange(len(shown))
        self.bars_ = self.ax_.barh(places, self.contribution[shown], color="#0072B2")
        self.errors_ = None
        if (self.lower < self.upper)[shown].any():
            ends = self.lower[shown], self.upper[shown]
            self.errors_ = self.ax_.hlines(places, *ends, color="#E69F00", linewidth=3)
        title = self.name if name is None else name
        n_more = len(order) - len(shown)
        if n_more:
            title = f"{title or ''} ({n_more} more columns are not shown)".strip()
        self.ax_.set(xlabel=_LABELS[self.kind], title=title)
        self.ax_.set_yticks(places, [self.columns[j] for j in shown])
        self.ax_.set_ylim(len(shown) - 0.5, -0.5)
        self.ax_.set_xlim(left=0)
        self.ax_.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        return self

    def _numbers(self):
        ends = self.contribution, self.lower, self.upper
        return AdversarialContribution(self.columns, self.kind, *ends, (np.nan, np.nan))


def _check_max_columns(max_columns):
    check_scalar(max_columns, "max_columns", Integral, min_val=1)
