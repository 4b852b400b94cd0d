"""Pipelines whose radii are in the units of the raw data."""

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from sk_adv._arrays import to_numpy
from sk_adv._collections import check_in_memory
from sk_adv._perturbations import PerturbationSet, sample_shape
from sk_adv._pipelines import active_steps
from sk_adv.differentiable._carried_columns import Line, NotCarriedError, carry

__all__ = ["RawUnitsPipeline"]


class RawUnitsPipeline(Pipeline):
    """A pipeline whose last step trains against perturbations of the raw input.

    In a `Pipeline`, `epsilon` and `bounds` of an adversarial classifier are in the units of the
    data that reach it, behind scalers and encoders. Here they are in the units of the X that is
    passed to `fit`, by the names of its columns. Each `fit` carries them through the transformers
    that it has just fitted,

        ε'_k = abs(slope_k) ε_j ,   low'_k, high'_k = slope_k (low_j, high_j) + offset_k ,

    where column k of the last step is slope_k x_j + offset_k, for column j of X. So in a search or
    a cross-validation three years are three years in each fold. Columns that come from no column
    of positive radius, such as those of an encoder of categories, get the radius 0. Everything else
    is as in `Pipeline`.

    Parameters
    ----------
    steps : list of (str, estimator)
        The steps. The last one has the parameters `norm` and `epsilon`, or `norm` and `scale`, such
        as `AdversarialLogisticRegression`, `AdversarialMaxoutClassifier`, `AdversarialNet` and
        `AdversarialLogisticRegressionCV`. Its `epsilon` (or `scale`) and `bounds` are those of
        the raw X, as in `sk_adv.attacks.perturb`.

    transform_input : list of str, default=None
        As in `Pipeline`.

    memory : str or object with the joblib.Memory interface, default=None
        As in `Pipeline`.

    verbose : bool, default=False
        As in `Pipeline`.

    Attributes
    ----------
    radii_ : ndarray of shape (n_columns,)
        The radii with which the last step was fitted, one for each of its columns, in their units.
        All other attributes are those of `Pipeline`.

    See Also
    --------
    sk_adv.attacks.perturb : Attacks any fitted pipeline, in raw units too.
    sklearn.pipeline.Pipeline : A pipeline whose last step knows nothing of raw units.

    Notes
    -----
    *Which steps.* The carried set is the exact image of the raw one, or there is an error. Columns
    of positive radius may pass through `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`,
    `RobustScaler`, `SimpleImputer`, selectors of features, `ColumnTransformer`, pipelines of these,
    and whatever has a rule of `as_module` that shifts, scales or selects. Behind a step that bends
    columns (`PowerTransformer`, `QuantileTransformer`, `KBinsDiscretizer`, scalers with
    `clip=True`) or mixes them (`PCA`, `PolynomialFeatures`), the set is no box any more. Columns of
    radius 0 may pass through any step.

    *Missing values.* An imputer fills in a number, and training moves it like any other, though
    there is no value to perturb. The training set of perturbations is then larger than the raw one.

    *The last step alone.* After the fit its parameters are as they were given. Its own `fit` would
    take them in the units of its own input.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.pipeline import RawUnitsPipeline
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"age": rng.normal(40, 12, 300), "sex": rng.choice(["f", "m"], 300)})
    >>> y = (X["age"] + 20 * (X["sex"] == "f") > 50).astype(int)
    >>> columns = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["sex"]))
    >>> linear = AdversarialLogisticRegression(epsilon={"age": 3})
    >>> model = RawUnitsPipeline([("columns", columns), ("linear", linear)]).fit(X, y)
    >>> model.radii_.round(2).tolist()  # three years in standard deviations; the sex stays
    [0.25, 0.0, 0.0]
    """

    def __init__(
        self,
        steps: Sequence,
        *,
        transform_input: list | None = None,
        memory: object = None,
        verbose: bool = False,
    ):
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)

    def fit(self, X: ArrayLike, y: ArrayLike = None, **params) -> Self:
        """Fit the transformers, carry the radii through them, and fit the last step.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,)
            Class labels.

        **params : dict of str to object
            As in `Pipeline`, such as `linear__sample_weight` for a step named "linear".

        Returns
        -------
        self : RawUnitsPipeline
            The fitted pipeline.

        Raises
        ------
        ValueError
            If the radius or the bounds do not fit X, or a column of positive radius reaches the
            last step in several columns.
        TypeError
            If the last step has no radius, a column of positive radius passes through a step that
            does more than shift, scale, fill in or select single columns, or X is a dask
            collection.
        """
        check_in_memory(X, y)
        if isinstance(X, torch.Tensor):
            # scikit-learn can't read a tensor that has a gradient.
            X = X.detach()
        last = self.steps[-1][1]
        given = {name: getattr(last, name) for name in _names_in(last)}
        self._raw = _raw_set(given, last.norm, X), _names_of_columns(X)
        try:
            super().fit(X, y, **params)
        finally:
            last.set_params(**given)
            del self._raw
        return self

    def _fit(self, X, *args, **kwargs):
        transformed = super()._fit(X, *args, **kwargs)
        if hasattr(self, "_raw"):
            self._hand_over(transformed)
        return transformed

    def _hand_over(self, transformed):
        """Give the last step its radius and bounds in the units of the transformed samples."""
        raw, names = self._raw
        last = self.steps[-1][1]
        epsilon = np.broadcast_to(raw.epsilon.numpy(), len(names))
        lines = {j: Line(j) for j in np.flatnonzero(epsilon).tolist()}
        lines = _carried(active_steps(self)[:-1], lines, names)
        _refuse_columns_twice(lines, names)
        (n_columns,) = sample_shape(transformed)
        self.radii_ = np.zeros(n_columns)
        low, high = np.full(n_columns, -np.inf), np.full(n_columns, np.inf)
        if raw.bounds is not None:
            raw_low, raw_high = (np.broadcast_to(to_numpy(end), len(names)) for end in raw.bounds)
        for k, line in lines.items():
            self.radii_[k] = abs(line.slope) * epsilon[line.source]
            if raw.bounds is not None:
                ends = [line.slope * end[line.source] + line.offset for end in (raw_low, raw_high)]
                low[k], high[k] = sorted(ends)
        radius, *bounds = _names_in(last)
        last.set_params(**{radius: self.radii_})
        if bounds and raw.bounds is not None:
            last.set_params(bounds=(low, high))


def _names_in(estimator):
    """The parameters of an estimator that are in the units of X: the radius, and `bounds`."""
    has_parameters = hasattr(estimator, "get_params") and not isinstance(estimator, type)
    parameters = estimator.get_params(deep=False) if has_parameters else {}
    radius = "epsilon" if "epsilon" in parameters else "scale"
    # Other estimators have an epsilon that is no radius.
    if not {radius, "norm"} <= parameters.keys():
        raise TypeError(
            "The last step of a RawUnitsPipeline must have a radius, like "
            f"AdversarialLogisticRegression; got {estimator!r}."
        )
    return [radius, *(["bounds"] if "bounds" in parameters else [])]


def _raw_set(given, norm, X):
    """The perturbation set of the raw samples."""
    radius, bounds = given.get("epsilon", given.get("scale")), given.get("bounds")
    # A scale of None is 1 for all features.
    raw = PerturbationSet(1.0 if radius is None else radius, norm, bounds, like=X)
    if len(sample_shape(X)) != 1:
        raise ValueError(f"X must have shape (n_samples, n_features); got {tuple(np.shape(X))}.")
    return raw


def _names_of_columns(X):
    return list(X.columns) if hasattr(X, "columns") else list(range(*sample_shape(X)))


def _carried(steps, lines, names):
    for step in steps:
        try:
            lines = carry(step, lines)
        except NotCarriedError as error:
            columns = [names[j] for j in error.sources]
            raise TypeError(
                f"The radius of the columns {columns} can't be carried through "
                f"{type(error.transformer).__name__}: they may only pass through steps that "
                "shift, scale, fill in or select single columns, such as StandardScaler (or "
                "MinMaxScaler without clip) and SimpleImputer. Choose such steps for them, or "
                "leave them out of epsilon: a dict by column name holds the others fixed."
            ) from error
    return lines


def _refuse_columns_twice(lines, names):
    counts = Counter(line.source for line in lines.values())
    twice = [names[j] for j, count in sorted(counts.items()) if count > 1]
    if twice:
        raise ValueError(
            f"The columns {twice} reach the last step in several columns each, which move "
            "together, while one radius for each would let them move apart: hand them on once, or "
            "leave them out of epsilon."
        )
