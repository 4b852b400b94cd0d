"""The form in which an attack sees an estimator: a module, its predictions, or trees."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.utils import check_array
from torch import nn

from sk_adv._arrays import numeric_columns, to_numpy
from sk_adv._perturbations import PerturbationSet, column_names, sample_shape
from sk_adv._warnings import warn
from sk_adv.attacks._predictions import Predictions
from sk_adv.attacks._trees import (
    TreeView,
    predicts_wrongly,
    rows_of,
    search_trees,
    view_of_trees,
)
from sk_adv.attacks._unseen import Together, refused_columns
from sk_adv.differentiable import as_module
from sk_adv.differentiable._as_module import NoRuleError, error_of
from sk_adv.differentiable._column_transformer import (
    SplitColumns,
    columns_without_numbers,
    split_columns,
)
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.tree._as_trees import is_made_of_trees


@dataclass(frozen=True)
class Form:
    """An estimator and X in the form that an attack takes.

    Attributes
    ----------
    values : ndarray or torch.Tensor of shape (n_samples, ...)
        X as numbers.
    free : ndarray of bool of shape (n_features,) or None
        The columns that may change; None: all.
    perturbations : PerturbationSet
        Restricted to the free columns.
    attacked : callable
        `attacked(rows, labels, **context)` gives copies of the values of some rows, with `labels`
        as class indices.
    """

    values: np.ndarray | torch.Tensor
    free: np.ndarray | None
    perturbations: PerturbationSet
    attacked: Callable


def form_of(estimator, X, attack, perturbations, *, classes, device, targeted=False) -> Form:
    """The form of an estimator for an attack; warn about columns that stay as they are."""
    if attack.attack.needs == "any":
        return _strongest(estimator, X, attack, perturbations, classes, device, targeted)
    if attack.attack.takes_trees and is_made_of_trees(estimator):
        return _trees(estimator, X, attack, perturbations, classes)
    if attack.attack.needs == "predictions":
        return _predictions(estimator, X, attack, perturbations, classes)
    return _module(estimator, X, attack, perturbations, device)


def _strongest(estimator, X, attack, perturbations, classes, device, targeted):
    """Trees where there is an exact search, else a module, else predictions."""
    if is_made_of_trees(estimator):
        if not targeted or len(classes) == 2:
            with suppress(NoBoundsError):
                return _trees(estimator, X, attack, perturbations, classes)
    elif error_of(estimator, exempt=ColumnTransformer) is None:
        # Behind a ColumnTransformer there may be steps without a rule.
        try:
            module = _AsModule.of(estimator, X, device)
        except NoRuleError:
            return _predictions(estimator, X, attack, perturbations, classes)
        if module.split is not None and _unseen(module.split, perturbations).any():
            return _together(estimator, X, attack, perturbations, classes, module)
        return module.form(attack, perturbations)
    return _predictions(estimator, X, attack, perturbations, classes)


def _module(estimator, X, attack, perturbations, device):
    module = _AsModule.of(estimator, X, device, asks_model=attack.attack.needs != "nothing")
    return module.form(attack, perturbations)


@dataclass(frozen=True)
class _AsModule:
    """An estimator as a module, and X as numbers; `split` as in `split_columns`."""

    module: nn.Module
    values: np.ndarray | torch.Tensor
    split: SplitColumns | None

    @classmethod
    def of(cls, estimator, X, device, *, asks_model=True):
        """The module of an estimator, or none where the attack does not ask the model."""
        split = split_columns(estimator, X, needs_rules=asks_model)
        if split is not None:
            return cls(split.module.to(device=device), split.values, split)
        # A missing rule is reported before columns without numbers: encoding them would not help.
        module = as_module(estimator, device=device) if asks_model else nn.Identity()
        return cls(module, numeric(X), None)

    def form(self, attack, perturbations, *, warn=True):
        """The form for an attack on the columns that the module sees."""
        free = None
        if self.split is not None:
            free = self.split.free
            if attack.attack.is_exact:
                check_fixed_columns(self.split, perturbations)
            if warn:
                warn_of_fixed_columns(self.split, perturbations)
            perturbations = perturbations.restricted_to(free)

        def attacked(rows, labels, **context):
            return attack(self.module, self.values[rows], labels, perturbations, **context)

        return Form(self.values, free, perturbations, attacked)


def _unseen(split, perturbations):
    """Which columns are numbers that may change, but not by the module's gradient."""
    radii = perturbations.largest_radii((len(split.free),)).numpy()
    return ~split.free & split.is_number & (radii > 0)


def _together(estimator, X, attack, perturbations, classes, module):
    """The form of an estimator whose module does not see all columns that may change."""
    split = module.split
    unseen = np.flatnonzero(_unseen(split, perturbations))
    X = np.asarray(X, dtype=object) if isinstance(X, list) else X
    numbers = numeric_columns(X)

    def asked(may_change):
        values = np.where(may_change, numbers, np.arange(len(numbers))[:, None])
        return Predictions(estimator, classes, X, may_change), values

    predictions, values = asked(split.is_number)
    refused = refused_columns(predictions.predicted, values, perturbations, unseen)
    may_change = split.is_number.copy()
    may_change[refused] = False
    _warn_of_unseen(split, [j for j in unseen if j not in refused], refused)
    warn_of_fixed_columns(replace(split, free=split.is_number), perturbations)
    is_seen = split.free & (perturbations.largest_radii(split.free.shape).numpy() > 0)
    by_gradient = module.form(attack, perturbations, warn=False).attacked
    predictions, values = asked(may_change)
    allowed = perturbations.restricted_to(may_change)
    attacked = Together(
        attack, split.free, by_gradient if is_seen.any() else None, predictions, values, allowed
    )
    return Form(values, may_change, allowed, attacked)


def _warn_of_unseen(split, searched, refused):
    """Say which columns were attacked without a gradient, and which could not be."""
    if searched:
        warn(
            f"as_module has no rule for {_steps(split, searched)}, so that gradients do not see "
            f"the columns {_names(split, searched)}. They were changed by random search, as in "
            "attack='square', which may miss more than gradients do."
        )
    if refused:
        warn(
            f"The columns {_names(split, refused)} stay unperturbed: "
            f"{_steps(split, refused)} refuses numbers that it was not fitted to. Give them a "
            "radius of 0 to silence this warning."
        )


def _steps(split, columns):
    """The types of the steps that hold some columns, in words."""
    names = (split.transformers[j] for j in columns if j in split.transformers)
    return ", ".join(dict.fromkeys(names))


def _names(split, columns):
    return [split.names[j] for j in columns]


@dataclass(frozen=True)
class _Columns:
    """The columns of X for an estimator that is asked for its predictions alone."""

    free: np.ndarray
    names: list
    transformers: dict = field(default_factory=dict)


def _predictions(estimator, X, attack, perturbations, classes):
    free = None
    if len(sample_shape(X)) == 1 and not isinstance(X, torch.Tensor) and columns_without_numbers(X):
        array = np.asarray(X, dtype=object) if isinstance(X, list) else X
        numbers = numeric_columns(array)
        names = column_names(X) or list(range(numbers.shape[1]))
        free = ~np.isin(names, columns_without_numbers(X))
        warn_of_fixed_columns(_Columns(free, names), perturbations)
        perturbations = perturbations.restricted_to(free)
        # The other columns hold the indices of the rows.
        values = np.where(free, numbers, np.arange(len(numbers))[:, None])
        X = array
    else:
        values = numeric(X)
    module = Predictions(estimator, classes, X, free)
    if len(sample_shape(X)) == 1 and isinstance(values, np.ndarray):
        perturbations = _without_refused(module, values, perturbations, column_names(X))

    def attacked(rows, labels, **context):
        return attack(module, values[rows], labels, perturbations, **context)

    return Form(values, free, perturbations, attacked)


def _without_refused(predictions, values, perturbations, names):
    """The perturbations of the columns in which `predict` takes other numbers."""
    radii = perturbations.largest_radii(values.shape[1:]).numpy()
    refused = refused_columns(
        predictions.predicted, values, perturbations, np.flatnonzero(radii > 0)
    )
    if not refused:
        return perturbations
    shown = refused if names is None else [names[j] for j in refused]
    warn(
        f"The columns {shown} stay unperturbed: `predict` refuses numbers that the model was not "
        "fitted to. Give them a radius of 0 to silence this warning."
    )
    return perturbations.restricted_to(~np.isin(np.arange(len(radii)), refused))


def _trees(estimator, X, attack, perturbations, classes):
    X, view, allowed = trees_within(estimator, X, perturbations)
    warn_of_fixed_columns(view, perturbations)

    def attacked(rows, labels, *, targeted=False, **_):
        params = {"time_limit": 10.0, "n_jobs": None} | attack.params
        if targeted:
            if len(classes) > 2:
                raise ValueError(
                    "attack='exact' supports a target only with two classes; got "
                    f"{len(classes)} classes. Use attack='square'."
                )
            labels = 1 - labels
        rows = np.flatnonzero(rows)
        found = _search(
            estimator,
            X if len(rows) == len(view.values) else rows_of(X, rows),
            replace(view, coordinates=view.coordinates[rows]),
            labels,
            classes,
            allowed,
            time_limit=params["time_limit"],
            n_jobs=params["n_jobs"],
        )
        n_unknown = int((found.status == "unknown").sum())
        if n_unknown:
            warn(
                f"{n_unknown} of {len(labels)} samples were not decided within "
                f"{params['time_limit']:g} s each: no misclassified copy was found, and none "
                "excluded. Raise time_limit, or take verify_robustness, which counts them."
            )
        return found.copies

    values = view.values.astype(view.dtype)
    return Form(values, None if view.free.all() else view.free, allowed, attacked)


def trees_within(estimator, X, perturbations):
    """X as arrays or a frame, its `TreeView`, and the perturbations of its free columns."""
    X = to_numpy(X)
    view = view_of_trees(estimator, X)
    check_fixed_columns(view, perturbations)
    return X, view, perturbations.restricted_to(view.free)


def searched(estimator, X, y, classes, perturbations, *, warn=False, **options):
    """The verdicts on all samples of a tree model; those of unknown labels are falsified.

    With `warn`, a warning names the columns that stay as they are. The options are those of
    `search_trees`.

    Returns
    -------
    TreeSearch
    """
    X, view, allowed = trees_within(estimator, X, perturbations)
    if warn:
        warn_of_fixed_columns(view, perturbations)
    labels = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    found = _search(estimator, X, view, labels, classes, allowed, **options)
    status = np.where(np.isin(y, classes), found.status, "falsified")
    return replace(found, status=status)


def _search(estimator, X, view, labels, classes, allowed, **options):
    is_wrong = predicts_wrongly(estimator, X, classes[labels], view.free)
    return search_trees(view, labels, allowed, is_wrong=is_wrong, **options)


def check_fixed_columns(split, perturbations):
    """Raise an error if numbers that may change are held fixed: no worst case is known then."""
    fixed = _fixed_columns(split, perturbations, split.is_number)
    if fixed:
        rules, way = "as_module has no rule", "or register a rule by as_module.register; "
        if isinstance(split, TreeView):
            rules, way = "it is not known how trees see them in raw units", ""
        raise NoBoundsError(
            f"The columns {_names(split, fixed)} reach the classifier through "
            f"{_steps(split, fixed)}, for which {rules}, so that nothing is known of the worst "
            f"case of a perturbation of them. Set their radius to 0 if they can't change, {way}"
            "adversarial_accuracy_score with attack='square' perturbs all numbers."
        )


def _fixed_columns(split, perturbations, among):
    """Positions of columns that a perturbation of this radius should change, but can't."""
    radii = perturbations.largest_radii((len(split.free),)).numpy()
    return np.flatnonzero(~split.free & (radii > 0) & among).tolist()


def warn_of_fixed_columns(split, perturbations):
    """Warn about columns with a positive radius that can't be perturbed."""
    fixed = _fixed_columns(split, perturbations, among=True)
    if fixed:
        steps = _steps(split, fixed)
        through = f" ({steps})" if steps else ""
        warn(
            f"The columns {_names(split, fixed)} stay unperturbed: they are not numeric, or reach "
            f"the classifier through steps without a gradient{through}. Give them a radius of 0 "
            "to silence this warning."
        )


def numeric(X):
    """X as an array or tensor of floating-point numbers; NaN is allowed."""
    if isinstance(X, torch.Tensor):
        return X.detach() if X.is_floating_point() else X.detach().to(torch.float64)
    if isinstance(X, list):
        X = np.asarray(X, dtype=object)
    try:
        return check_array(
            X,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            allow_nd=True,
            input_name="X",
        )
    except (TypeError, ValueError) as error:
        others = columns_without_numbers(X) if len(sample_shape(X)) == 1 else []
        if not others:
            raise
        raise ValueError(
            f"X must hold real numbers; its columns {others} do not. Encode them, or make the "
            "model, or its `surrogate`, a Pipeline that begins with a ColumnTransformer: such "
            "columns then stay unperturbed."
        ) from error
