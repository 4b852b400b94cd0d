"""The audit of a classifier in memory."""

import platform
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_pandas_support
from tqdm.auto import tqdm

import sk_adv
from sk_adv._arrays import check_samples_kind
from sk_adv._perturbations import check_norm, column_names, sample_shape
from sk_adv._validation import check_dense, name_of
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import check_classifier
from sk_adv.attacks._trees import check_n_jobs, check_time_limit
from sk_adv.audit._budget import Clock
from sk_adv.audit._columns import taken_as_categories
from sk_adv.audit._measurements import ATTACKS, Measurements
from sk_adv.audit._radii import column_radii, numbers_of_column, parse_radius
from sk_adv.audit._report import AuditReport


@tells_once
def audit(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: object = "0.1sd",
    columns: Sequence | None = None,
    feature_names: Sequence | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_fragile: int = 10,
    time_limit: float = 10.0,
    max_seconds: float = 90.0,
    n_jobs: int | None = None,
    random_state: int = 0,
    verbose: bool = False,
    name: str | None = None,
) -> AuditReport:
    """Measure what small changes of the data do to a fitted classifier, in one report.

    The report holds the accuracy under the worst case at a radius and its multiples, between a
    proof and an attack; the columns that the adversary uses; the samples that break first; and
    several attacks side by side. ``python -m sk_adv audit`` makes it from files.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like or frame of shape (n_samples, n_features)
        Samples that the estimator has not been fitted on, in its raw units. Missing values stay
        missing.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, str, array-like, dict or Series, default="0.1sd"
        Radius of the perturbation of each column. A number is in the units of X. A text is a number
        with a unit: "0.1sd" is 0.1 standard deviations of the column in X, with the divisor n, as
        in `numpy.std` and `sklearn.preprocessing.StandardScaler`; in pandas `X.std(ddof=0)`.
        "0.1iqr" is 0.1 of its interquartile ranges. Missing values don't count. A dict has a radius
        of either kind for each column that may change, such as `{"age": 3, "fare": "0.1iqr"}`; an
        array has a number for each.

    columns : sequence or None, default=None
        The columns that may change. None takes all columns of numbers that have a radius. Texts,
        categories and truth values are always fixed, and so are columns of numbers that the
        estimator is known to take as categories.

    feature_names : sequence of str or None, default=None
        Names of the columns of an array. None takes those of a frame, or the positions.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    n_fragile : int, default=10
        Number of samples to list that break first.

    time_limit : float, default=10.0
        Largest number of seconds of search for each sample and radius. What it leaves open is
        unknown.

    max_seconds : float, default=90.0
        About as many seconds for the whole report. It shortens the searches for samples that are
        hard to decide, and may leave out parts; the report says so. Bounds and attacks at the
        radius itself are never cut off. Of trees, each of the samples that break first may take
        `time_limit` besides.

    n_jobs : int or None, default=None
        Number of processes for the searches, as in scikit-learn.

    random_state : int, default=0
        Seeds attacks that draw random numbers.

    verbose : bool, default=False
        Whether to show progress on the standard error stream, if it is a terminal.

    name : str or None, default=None
        Name of the model in the report. None takes the name of its class.

    Returns
    -------
    AuditReport
        With the numbers as attributes, `to_html`, `to_json` and `to_dict`.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If a parameter, X or y is invalid, or no column can change.
    TypeError
        If the estimator is no classifier, or X is sparse.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    sk_adv.metrics.verify_robustness : The verdicts.
    sk_adv.metrics.adversarial_contribution : The columns that the adversary uses.
    sk_adv.metrics.fragile_samples : The samples that break first.
    sk_adv.metrics.adversarial_report : The attacks.

    Notes
    -----
    Each number is that of a public function with the arguments in `settings` and, under its name,
    in `settings["calls"]`; `epsilon`, or `scale`, is the radii in `columns`, times the multiple
    where one is given. `rows` are the positions of the samples of X that the function got, all if
    None. Where a time limit ended a search, a number can differ from run to run, and the notes say
    where.

    A sample is *verified* if a proof excludes that a perturbation makes the estimator misclassify
    it, *falsified* if its own `predict` misclassifies a perturbed copy, and *unknown* otherwise.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.audit import audit
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> report = audit(model, X[1::2], y[1::2], epsilon="0.2sd")
    >>> print(report.verdict)
    Of 75 rows 72 (96.0 %) are right. If every measurement may be off by 0.2 sd,
    exactly 60 (80.0 %) stay right.
    >>> curve = report.curve[report.curve["multiple"].isin([1, 1.5, 2])]
    >>> print(curve[["multiple", "lower", "upper"]].round(2).to_string(index=False))
     multiple  lower  upper
          1.0   0.80   0.80
          1.5   0.67   0.67
          2.0   0.52   0.52
    """
    check_pandas_support("audit")
    start = time.monotonic()
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    _check_positive(max_seconds, "max_seconds")
    if not isinstance(n_fragile, Integral) or n_fragile < 0:
        raise ValueError(f"n_fragile must be an integer of at least 0; got {n_fragile!r}.")
    check_norm(norm)
    check_dense(X, "audit")
    check_samples_kind(X)
    if len(sample_shape(X)) != 1:
        raise ValueError(
            f"audit takes rows of columns, X of shape (n_samples, n_features); got samples of "
            f"shape {sample_shape(X)}."
        )
    _, y = check_classifier(estimator, X, y)
    notes = _notes_on_labels(estimator, y)
    names = _names(X, feature_names)
    found = column_radii(epsilon, X, names, columns, taken_as_categories(estimator, X))
    work = Measurements(
        estimator,
        X,
        y,
        names,
        found,
        threat={"norm": norm, "bounds": bounds, "random_state": random_state},
        search={"time_limit": time_limit, "n_jobs": n_jobs},
        clock=Clock(max_seconds),
    )
    with warnings.catch_warnings(record=True) as caught, _bar(verbose) as bar:
        warnings.simplefilter("always")
        numbers = work.run(n_fragile, bar)
    notes += [*_notes_on_columns(X, found), *work.notes, *_messages(caught)]
    settings = {
        "norm": "max" if norm == np.inf else "Euclidean",
        "bounds": None if bounds is None else str(bounds),
        "random_state": random_state,
        "time_limit": time_limit,
        "max_seconds": max_seconds,
        "n_jobs": n_jobs,
        "attacks": ATTACKS,
        "calls": work.calls,
        "seconds": time.monotonic() - start,
        "estimator": name_of(estimator),
    }
    factor, unit = _common_unit(found)
    return AuditReport(
        name=name_of(estimator) if name is None else name,
        columns=_frame_of(found),
        factor=factor,
        unit=unit,
        notes=notes,
        settings=settings,
        versions=_versions(estimator),
        **numbers,
    )


def _names(X, feature_names):
    names = column_names(X)
    if feature_names is None:
        return list(range(sample_shape(X)[0])) if names is None else names
    given = list(feature_names)
    if len(set(given)) != sample_shape(X)[0]:
        raise ValueError(
            f"feature_names must have one name for each of the {sample_shape(X)[0]} columns of X, "
            f"all different; got {given!r}."
        )
    return given


def _check_positive(value, name):
    if not (isinstance(value, Real) and value > 0):
        raise ValueError(f"{name} must be a number above 0; got {value!r}.")


def _bar(verbose):
    # None: only where the stream is a terminal.
    return tqdm(total=6, unit="part", desc="audit", disable=None if verbose else True, leave=False)


def _frame_of(radii):
    import pandas as pd

    return pd.DataFrame([vars(column) for column in radii])


def _common_unit(radii):
    """The factor and the unit if all columns that may change have the same, else (1, None)."""
    found = {parse_radius(column.text) for column in radii if not column.why_fixed}
    if len(found) > 1:
        return 1.0, None
    ((factor, unit),) = found
    return factor, unit or "units"


def _notes_on_columns(X, radii):
    notes = []
    spreadless = [column for column in radii if column.why_fixed.startswith("has no spread")]
    for column in spreadless:
        notes.append(f"The column {column.column} stays as it is, since it {column.why_fixed}.")
    whole, two = [], []
    for j, column in enumerate(radii):
        if not column.why_fixed:
            values = numbers_of_column(X, j)
            values = np.unique(values[np.isfinite(values)])
            if len(values) <= 2:
                two.append(str(column.column))
            elif (values == np.round(values)).all():
                whole.append(str(column.column))
    if two:
        notes.append(
            f"Columns with two values at most may change too, in small steps: {', '.join(two)}. "
            "Leave them out of `columns` (--columns) if they are categories."
        )
    if whole:
        notes.append(
            f"Columns of whole numbers may change by a part of one: {', '.join(whole)}. Where only "
            "whole steps make sense, give them a radius of at least 1 (--epsilon NAME=1), or leave "
            "them out of `columns` (--columns)."
        )
    return notes


def _notes_on_labels(estimator, y):
    known = np.isin(y, estimator.classes_)
    if known.all():
        return []
    unknown = sorted({str(label) for label in y[~known]})
    if not known.any():
        raise ValueError(
            f"y holds no label that the model knows: it has {unknown[:5]}, and the model "
            f"{[str(label) for label in estimator.classes_[:5]]}."
        )
    return [
        f"{int((~known).sum())} rows have labels that the model has never seen "
        f"({', '.join(unknown[:5])}); they count as wrong."
    ]


def _messages(caught):
    """Different messages of warnings, without scikit-learn's about the names of features."""
    messages = [str(warning.message) for warning in caught]
    known = dict.fromkeys(message for message in messages if "valid feature names" not in message)
    return list(known)


def _versions(estimator):
    names = ["numpy", "scipy", "sklearn", "torch", "pandas"]
    names += [name for name in ("xgboost", "lightgbm", "skorch") if name in sys.modules]
    found = {"sk_adv": sk_adv.__version__, "python": platform.python_version()}
    found |= {name: import_module(name).__version__ for name in names}
    return found | {"platform": platform.platform()}
