"""RobustnessCurveDisplay: error against the radius of an attack."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from tqdm.auto import tqdm

from sk_adv.attacks._estimators import fit_surrogate
from sk_adv.attacks._table import resolve_attacks
from sk_adv.inspection._drawing import axes_for, frame_of, legend_beside, radius_units
from sk_adv.inspection._inputs import error_rates, legend_name, named_by_class, named_estimators
from sk_adv.metrics import adversarial_accuracy_score
from sk_adv.metrics._certificates import unit_set
from sk_adv.metrics._reports import check_radii, with_n_jobs

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes

# Models differ in markers as well as colours, so that a print in grey can be read.
_MARKERS = "os^Dv*PX"
_LINE_STYLES = ("-", "--", ":", "-.")


class RobustnessCurveDisplay:
    """Error as a function of the radius of the attack, for one or more models and attacks.

    Several displays can also share one `ax`.

    Parameters
    ----------
    epsilons : array-like of shape (n_radii,)
        The radii, in the units of X, or as multiples of `scale`.

    errors : array-like of shape (n_radii,) or (n_curves, n_radii)
        The adversarial error at each radius: the share of samples misclassified after the attack,
        in [0, 1], or NaN if unknown.

    name : str, or list of str of length n_curves, default=None
        Names of the curves in the legend.

    n_attacks : int, default=1
        Number of attacks per model. The curves of one model stand next to each other in `errors`.
        They differ in the style and the width of the line, and share colour and marker if there
        are several models. With one attack the models differ in line style too.

    scale : array-like of shape (n_features,), default=None
        Unit of the radius for each feature: radius ε stands for `ε * scale`. None means 1 for all
        features.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the curves.

    figure_ : matplotlib Figure
        The figure that holds them.

    line_ : matplotlib Line2D or list of Line2D
        The curve, or the list of curves if `errors` is 2-D.

    lines_ : list of matplotlib Line2D
        The list of curves, also if there is only one.

    Raises
    ------
    ValueError
        If `epsilons` is not 1-D, is empty or holds an invalid radius, `errors` or `name` does not
        fit it, an error is outside [0, 1], or `n_attacks` does not divide the number of curves.
    TypeError
        If `n_attacks` is not an integer.

    See Also
    --------
    sklearn.metrics.RocCurveDisplay : A similar display of one or more curves.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.inspection import RobustnessCurveDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> display = RobustnessCurveDisplay.from_estimator(
    ...     model, X, y, epsilons=[0, 0.2, 0.4], scale=X.std(axis=0)
    ... )
    >>> display.errors.round(2)
    array([0.01, 0.18, 0.51])
    >>> weak = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3)).fit(X, y)
    >>> display = RobustnessCurveDisplay.from_estimator(
    ...     {"C = 1": model, "C = 0.001": weak},
    ...     X,
    ...     y,
    ...     epsilons=[0, 0.2, 0.4],
    ...     scale=X.std(axis=0),
    ...     attacks={
    ...         "one step": "fgsm",
    ...         "five": {"attack": "pgd", "attack_params": {"n_steps": 5}},
    ...     },
    ... )
    >>> display.name
    ['C = 1 (one step)', 'C = 1 (five)', 'C = 0.001 (one step)', 'C = 0.001 (five)']
    >>> display.errors.shape
    (4, 3)
    """

    def __init__(
        self,
        *,
        epsilons: ArrayLike,
        errors: ArrayLike,
        name: str | Sequence[str] | None = None,
        n_attacks: int = 1,
        scale: ArrayLike | None = None,
    ):
        self.epsilons = check_radii(epsilons)
        self.errors = np.asarray(errors, dtype=float)
        self.scale = scale
        if self.errors.ndim not in (1, 2) or self.errors.shape[-1:] != self.epsilons.shape:
            raise ValueError(
                "errors must have shape (n_radii,) or (n_curves, n_radii), of the same length as "
                f"epsilons; got shapes {self.errors.shape} and {self.epsilons.shape}."
            )
        if (self.errors < 0).any() or (self.errors > 1).any():
            raise ValueError(
                "errors must be shares in [0, 1]; got values from "
                f"{np.nanmin(self.errors):g} to {np.nanmax(self.errors):g}."
            )
        n_curves = len(np.atleast_2d(self.errors))
        check_scalar(n_attacks, "n_attacks", Integral, min_val=1)
        if n_curves % n_attacks:
            raise ValueError(
                f"n_attacks must divide the number of curves, {n_curves}; got {n_attacks!r}."
            )
        self.n_attacks = n_attacks
        self.name = self._check_name(name)

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epsilons: ArrayLike,
        attacks: str | Callable | Sequence | Mapping = "auto",
        attack_params: dict | None = None,
        scale: ArrayLike | None = None,
        norm: float = np.inf,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        surrogate: object = None,
        random_state: int | np.random.RandomState | None = None,
        device: "str | torch.device | None" = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        name: str | Sequence[str] | None = None,
        ax: "Axes | None" = None,
        curve_kwargs: dict | Sequence[dict] | None = None,
    ) -> Self:
        """Attack fitted classifiers at each radius and draw their errors.

        Parameters
        ----------
        estimator : object, or dict of str to object, or list of (str, object)
            A fitted classifier that the attacks take, as in
            `sk_adv.metrics.adversarial_accuracy_score`, or several classifiers by name.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,)
            True labels.

        epsilons : array-like of shape (n_radii,)
            The radii, in the units of X, or as multiples of `scale`.

        attacks : str, callable, or sequence or mapping of these, default="auto"
            One attack or several, as in `sk_adv.metrics.adversarial_report`. The default is the
            strongest attack that the model allows; "fgsm" is the cheapest, and flatters networks. A
            sequence or mapping gives one curve per model and attack. The keys of a mapping are
            shown in the legend.

        attack_params : dict or None, default=None
            Further arguments of every attack.

        scale : float, array-like, dict or Series, default=None
            Unit of the radius for each feature, such as its standard deviation: radius ε stands for
            `ε * scale`. None means 1 for all features.

        norm : {numpy.inf, 2}, default=numpy.inf
            The norm that bounds the perturbation.

        bounds : tuple (low, high) or None, default=None
            Valid range of X, to which the copies are clipped.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the error.

        surrogate : estimator, default=None
            For models without gradients, as in `adversarial_accuracy_score`. It is fitted once per
            model.

        random_state : int, RandomState instance or None, default=None
            Seeds attacks that draw random numbers; the others ignore it.

        device : str or torch.device, default=None
            Device of the attacks. None means the device of the estimator's weights.

        n_jobs : int or None, default=None
            Number of processes, as in scikit-learn, for the searches of attacks that have such an
            argument, as "auto" and "exact" have on tree models. `attack_params` overrides it.

        verbose : bool, default=False
            Whether to show a progress bar over models, attacks and radii.

        name : str, or list of str of length n_curves, default=None
            Names of the curves in the legend. None means the names of model and attack; a single
            model is named after its class.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        curve_kwargs : dict, or list of dict of length n_curves, default=None
            Arguments of matplotlib's `plot`: one dict for all curves, or one dict per curve.

        Returns
        -------
        RobustnessCurveDisplay
            The display, after drawing. Its `errors` are 2-D if `estimator` or `attacks` is a
            sequence or a mapping. The curves of one model are then consecutive rows.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid. Radii, scale and attacks are checked before the first
            attack runs.
        TypeError
            If X is sparse and an attack neither "auto" nor exact, or an attack needs gradients and
            `as_module` has no rule for an estimator.
        sklearn.exceptions.NotFittedError
            If an estimator is not fitted.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        # All arguments are checked before the first attack, since a curve may take minutes.
        radii = check_radii(epsilons)
        unit = unit_set(scale, norm, bounds, X)
        named = with_n_jobs(resolve_attacks(attacks, attack_params), n_jobs)
        names_of_attacks = list(named)
        if not isinstance(attacks, Mapping):
            names_of_attacks = list(map(legend_name, named))
        is_one_attack = isinstance(attacks, str) or callable(attacks)
        is_one_model = not isinstance(estimator, Mapping | list | tuple)
        one = is_one_model and is_one_attack
        if is_one_model:
            estimator = {type(estimator).__name__: estimator}
        models = list(zip(*named_estimators(estimator), strict=True))
        options = {"sample_weight": sample_weight, "random_state": random_state, "device": device}
        errors = []
        total = len(models) * len(named) * len(radii)
        with tqdm(total=total, unit="attack", desc="attacking", disable=not verbose) as bar:
            for _, model in models:
                if surrogate is not None:
                    options["surrogate"] = FrozenEstimator(fit_surrogate(surrogate, model, X))
                for attack in named.values():
                    errors.append([])
                    for radius in radii:
                        options |= {"attack": attack, "epsilon": unit.scaled(radius)}
                        errors[-1].append(1 - adversarial_accuracy_score(model, X, y, **options))
                        bar.update()
        names = [f"{model} ({name})" for model, _ in models for name in names_of_attacks]
        display = cls(
            epsilons=radii,
            errors=errors[0] if one else errors,
            name=name if name is not None else names[0] if one else names,
            n_attacks=len(named),
            scale=scale,
        )
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping | Sequence,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epsilons: ArrayLike,
        **params,
    ) -> Self:
        """Draw the curves of several fitted classifiers in one figure.

        Each classifier has its own colour and marker, and with one attack its own style of line;
        with several attacks each attack has a style of line.

        Parameters
        ----------
        estimators : dict of str to object, list of (str, object), or list of object
            Fitted classifiers by name. Without names they are called by their classes, and those
            of one class are numbered.

        X : array-like of shape (n_samples, n_features)
            Clean samples.

        y : array-like of shape (n_samples,)
            True labels.

        epsilons : array-like of shape (n_radii,)
            The radii, in the units of X, or as multiples of `scale`.

        **params : dict
            Further arguments of `from_estimator`, such as `attacks` and `scale`.

        Returns
        -------
        RobustnessCurveDisplay
            The display, after drawing, with one row of `errors` per classifier and attack.

        Raises
        ------
        ValueError
            If `estimators` are none, a name occurs twice, or an argument of `from_estimator` is
            invalid.
        TypeError
            As `from_estimator`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sk_adv.inspection import RobustnessCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> models = [LogisticRegression(C=C, max_iter=1000).fit(X, y) for C in (1, 100)]
        >>> display = RobustnessCurveDisplay.from_estimators(
        ...     models, X, y, epsilons=[0, 0.5], attacks="fgsm"
        ... )
        >>> display.name
        ['LogisticRegression 1', 'LogisticRegression 2']
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimators")
        names, models = named_estimators(named_by_class(estimators))
        attacks = params.get("attacks", "auto")
        if params.get("name") is None and (isinstance(attacks, str) or callable(attacks)):
            # The legend need not name an attack that all curves share.
            params["name"] = names
        named = list(zip(names, models, strict=True))
        return cls.from_estimator(named, X, y, epsilons=epsilons, **params)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        predictions: ArrayLike,
        *,
        epsilons: ArrayLike,
        sample_weight: ArrayLike | None = None,
        name: str | Sequence[str] | None = None,
        n_attacks: int = 1,
        scale: ArrayLike | None = None,
        ax: "Axes | None" = None,
        curve_kwargs: dict | Sequence[dict] | None = None,
    ) -> Self:
        """Draw the error from predictions for the adversarial copies of each radius.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.

        predictions : array-like of shape (n_radii, n_samples) or (n_curves, n_radii, n_samples)
            The predicted classes of the copies of each radius.

        epsilons : array-like of shape (n_radii,)
            The radii, in the units of X, or as multiples of `scale`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the error.

        name : str, or list of str of length n_curves, default=None
            Names of the curves in the legend.

        n_attacks : int, default=1
            Number of attacks per model. The curves of one model stand next to each other.

        scale : array-like of shape (n_features,), default=None
            Unit of the radius for each feature. None means 1 for all features.

        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        curve_kwargs : dict, or list of dict of length n_curves, default=None
            Arguments of matplotlib's `plot`: one dict for all curves, or one dict per curve.

        Returns
        -------
        RobustnessCurveDisplay
            The display, after drawing.

        Raises
        ------
        ValueError
            If the shapes do not fit each other, or labels and predictions differ in type.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        shapes = ["n_radii", "n_curves, n_radii"]
        errors = error_rates(y_true, predictions, sample_weight, shapes)
        display = cls(epsilons=epsilons, errors=errors, name=name, n_attacks=n_attacks, scale=scale)
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    def to_frame(self) -> "pd.DataFrame":
        """The errors as a frame.

        Returns
        -------
        pandas.DataFrame
            One row per radius, which is the index `epsilon`, and one column per curve, by its name;
            a single curve without one is called "error", and several have their positions.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        names = self.name
        if self.errors.ndim == 1:
            names = ["error" if names is None else names]
        errors = np.atleast_2d(self.errors).T
        return frame_of(self, errors, index=self.epsilons, index_name="epsilon", columns=names)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | Sequence[str] | None = None,
        curve_kwargs: dict | Sequence[dict] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        name : str, or list of str of length n_curves, default=None
            Names of the curves in the legend. None means the names of the display.

        curve_kwargs : dict, or list of dict of length n_curves, default=None
            Arguments of matplotlib's `plot`: one dict for all curves, or one dict per curve.

        Returns
        -------
        RobustnessCurveDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `name` or `curve_kwargs` does not fit the number of curves.
        """
        name = self.name if name is None else self._check_name(name)
        curves = np.atleast_2d(self.errors)
        names = name if isinstance(name, list) else [name]
        own = [curve_kwargs or {}] * len(curves)
        if isinstance(curve_kwargs, list | tuple):
            own = list(curve_kwargs)
        is_dict = curve_kwargs is None or all(isinstance(item, dict) for item in own)
        if len(own) != len(curves) or not is_dict:
            raise ValueError(
                f"curve_kwargs must be a dict, or a list of {len(curves)} dicts, one per curve; "
                f"got {len(own) if is_dict else repr(curve_kwargs)}."
            )
        many, several = len(curves) > 4, self.n_attacks > 1
        self.ax_ = axes_for(self, ax, figsize=(8.8 if many else 6.4, 4.2))
        self.figure_ = self.ax_.figure
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D
        from matplotlib.ticker import PercentFormatter

        # Curves of other displays on these axes already use the first markers.
        n_before = len(self.ax_.lines)
        self.lines_ = []
        for index, errors in enumerate(curves):
            model, attack = divmod(index, self.n_attacks)
            is_one_model = len(curves) == self.n_attacks
            look = n_before + (attack if is_one_model else model)
            # Attacks may make the same errors: a curve is wider than those drawn over it.
            n_above = min(self.n_attacks - 1 - attack, 3)
            style = {
                "marker": _MARKERS[look % len(_MARKERS)],
                "markersize": 5 + 2 * n_above,
                "linewidth": 1.5 + 1.2 * n_above,
                "linestyle": _LINE_STYLES[(attack if several else index) % len(_LINE_STYLES)],
                "label": None if name is None else names[index],
            }
            if attack and not is_one_model:
                style["color"] = self.lines_[-1].get_color()
            style |= normalize_kwargs(own[index], Line2D)
            self.lines_ += self.ax_.plot(self.epsilons, errors, **style)
        self.line_ = self.lines_[0] if self.errors.ndim == 1 else self.lines_
        self.ax_.set(
            xlabel=f"radius ε ({radius_units(self.scale)})",
            ylabel="error under attack (%)",
            ylim=(-0.02, 1.02),
        )
        self.ax_.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
        if name is not None and many:
            legend_beside(self.ax_)
        elif name is not None:
            self.ax_.legend()
        return self

    def _check_name(self, name):
        """Return None, one name if `errors` is 1-D, or a list with one name per curve."""
        if name is None or (isinstance(name, str) and self.errors.ndim == 1):
            return name
        if isinstance(name, str) or self.errors.ndim == 1 or len(name) != len(self.errors):
            raise ValueError(
                "name must be a str if errors is 1-D, and hold one name per curve if it is 2-D; "
                f"got {name!r} for errors of shape {self.errors.shape}."
            )
        return list(name)
