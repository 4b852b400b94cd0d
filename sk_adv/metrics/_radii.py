"""The distance of each sample to the decision boundary, and the most fragile samples."""

import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_pandas_support

from sk_adv._arrays import blocks_of, check_samples_kind, predicted_by
from sk_adv._collections import (
    array_of,
    check_collection,
    each_of,
    in_memory,
    is_collection,
    partitions_of,
)
from sk_adv._perturbations import check_scale, column_names, sample_shape
from sk_adv._validation import check_dense, name_of
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import check_classifier, check_has_classes, check_takes
from sk_adv.attacks._partitions import seeds_of
from sk_adv.attacks._trees import check_n_jobs, check_time_limit, rows_of
from sk_adv.metrics._brackets import brackets_of
from sk_adv.metrics._certificates import unit_set
from sk_adv.metrics._deciding import (
    numbers_in_container_of,
    numbers_of,
    predicted_labels,
    within_bounds,
)

if TYPE_CHECKING:
    import pandas as pd


@tells_once
def robustness_radius(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    norm: float = np.inf,
    scale: ArrayLike | None = None,
    time_limit: float = 10.0,
    n_jobs: int | None = None,
    return_bracket: bool = False,
    max_radius: float | None = None,
    tol: float = 0.01,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Smallest radius at which a perturbation changes the prediction of each sample.

    It is exact for linear models and for tree models. For a sample of class y and a linear model it
    is the distance to the nearest boundary,

        min over k ≠ y of ((w_y - w_k)ᵀx + b_y - b_k) / ‖s ∘ (w_y - w_k)‖_* ,

    with s the scale and ‖·‖_* the dual norm, L1 for the max-norm and L2 for the Euclidean norm.
    For a tree model it is one of the finitely many radii at which a threshold comes within reach,
    and is found by searches at some of them; in the Euclidean norm to a relative 1e-6.

    For all other models it lies in a bracket. The lower end is a radius at which the sample is
    proved to keep its class; the upper end is the size of a perturbation after which the
    estimator's own `predict` gives another class. The radius that is returned is the lower end.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like, frame, sparse matrix, torch.Tensor or dask collection of shape \
            (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units. A SciPy matrix, which is made dense in small
        blocks, is taken for linear models and tree models.

    y : array-like or dask collection of shape (n_samples,), default=None
        True labels. The radius of a misclassified sample is 0. None uses the predictions as
        labels.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    scale : float, array-like, dict or Series, default=None
        Unit of the radius for each feature, such as its standard deviation: radius ε stands for
        `epsilon = ε * scale`. Features of scale 0 stay unperturbed. None means 1 for all features.

    time_limit : float, default=10.0
        Seconds of search for each sample; for models other than trees in the mean over the samples,
        attacks and proofs included. Of these, one round takes place in any case. Where the time
        does not suffice, the radius is a lower bound, and a warning says so.

    n_jobs : int or None, default=None
        For tree models, and networks that can be searched to the end: number of processes, as in
        scikit-learn.

    return_bracket : bool, default=False
        Whether to return both ends.

    max_radius : float, default=None
        The largest radius that is searched. A sample that no attack breaks within it has the upper
        end infinity, and a lower end of at most this. None means the radius at which each sample
        could become any other sample of X: the range of each feature, divided by its scale, and of
        these the largest, or in the Euclidean norm their length. Radii that are exact are not
        limited.

    tol : float, default=0.01
        The search ends where the attack fails at a radius that is smaller than the upper end by
        this part of it, and proofs fail at one that is as much larger than the lower end. Where
        attacks and proofs meet, the ends differ by this part.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers.

    Returns
    -------
    radius : ndarray or dask array of shape (n_samples,)
        The radii, in multiples of the scale, or their lower ends; infinite where no perturbation
        changes the prediction. Those of a dask collection are lazy, and found by partition.

    lower, upper : ndarray or dask array of shape (n_samples,)
        With `return_bracket`, in place of `radius`: both ends, which are equal for radii that are
        exact. The upper end is infinite where no counterexample is known.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is a sparse tensor, or sparse and the model neither linear nor a sum of trees; or
        numbers that may change reach a tree model through steps of which nothing is known.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Warns
    -----
    UserWarning
        If radii are lower ends of brackets that are open, and `return_bracket` is False.

    See Also
    --------
    fragile_samples : The samples of the smallest radii, and what changes them.
    verify_robustness : The verdicts at one radius.

    Notes
    -----
    *The search.* The upper end begins at the nearest sample of X with another prediction, shortened
    towards the sample as far as `predict` allows. The attack "auto" (`sk_adv.attacks.auto`) then
    looks for nearer ones by bisection over the radius, and each is shortened in the same way. The
    lower end rises by bisection too, by the bounds of `certified_accuracy_score`; at last
    the search to the end of `verify_robustness` closes what it can. All samples are searched at
    once, each at a radius of its own. Radii below a millionth of `max_radius` are not told apart
    from 0. Models without proofs, such as nearest neighbours, have the lower end 0.

    *Dask collections.* The default of `max_radius` is that of each partition.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import certified_accuracy_score, robustness_radius
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> radius = robustness_radius(model, X, y)
    >>> bool(certified_accuracy_score(model, X, y, epsilon=0.3) == (radius > 0.3).mean())
    True

    A network, whose radii lie in brackets:

    >>> from sklearn.neural_network import MLPClassifier
    >>> net = MLPClassifier(8, max_iter=500, random_state=0, tol=1e-2).fit(X, y)
    >>> lower, upper = robustness_radius(
    ...     net, X[:5], y[:5], return_bracket=True, max_radius=4, random_state=0
    ... )
    >>> bool((upper <= 1.05 * lower).all())
    True
    """
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    _check_search(max_radius, tol)
    options = {"time_limit": time_limit, "n_jobs": n_jobs, "max_radius": max_radius, "tol": tol}
    if is_collection(X):
        check_collection(X)
        check_takes(estimator, X)
        partitions = partitions_of(X, y)
        options |= {"norm": norm, "scale": check_scale(in_memory(scale), partitions.like)}
        seeds = seeds_of(random_state, len(partitions))
        options["return_bracket"] = return_bracket
        each = {"random_state": seeds}
        found = partitions.map(_radii, each=each, estimator=estimator, options=options)
        ends = [
            array_of(each_of(end, found), np.empty(0), partitions.known_lengths) for end in _ENDS
        ]
        return tuple(ends) if return_bracket else ends[0]
    check_has_classes(estimator)
    check_samples_kind(X)
    labels = predicted_by(estimator, X) if y is None else y
    classes, labels = check_classifier(estimator, X, labels, accept_sparse=True)
    lower, upper = np.zeros(len(labels)), np.zeros(len(labels))
    for rows, block in blocks_of(X):
        unit = unit_set(scale, norm, None, block)
        found = brackets_of(
            estimator,
            block,
            labels[rows],
            classes,
            unit,
            random_state=random_state,
            given=X,
            **options,
        )
        lower[rows], upper[rows] = found.lower, found.upper
    if return_bracket:
        return lower, upper
    n_open = int((lower < upper / (1 + tol) * (1 - 1e-9)).sum())
    if n_open:
        warnings.warn(
            f"{n_open} of {len(lower)} radii are lower bounds: within time_limit={time_limit:g} "
            "seconds neither a proof nor an attack says how much larger they are. "
            "return_bracket=True gives the upper ends too.",
            UserWarning,
            stacklevel=2,
        )
    return lower


def _radii(X, y, sample_weight, estimator, options, random_state):
    if not X.shape[0]:
        return np.empty(0), np.empty(0)
    found = robustness_radius(estimator, X, y, random_state=random_state, **options)
    return found if options["return_bracket"] else (found, found)


def _lower(found):
    return found[0]


def _upper(found):
    return found[1]


_ENDS = (_lower, _upper)


def _check_search(max_radius, tol):
    """Raise `ValueError` unless the parameters of the search over radii are positive numbers."""
    for name, value in (("max_radius", max_radius), ("tol", tol)):
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if value is None and name == "max_radius":
            continue
        if not (is_number and 0 < value < np.inf):
            raise ValueError(f"{name} must be a positive number; got {value!r}.")


@tells_once
def fragile_samples(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    n_samples: int = 10,
    norm: float = np.inf,
    scale: ArrayLike | None = None,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    time_limit: float = 10.0,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: bool = False,
) -> "pd.DataFrame":
    """The samples that the smallest perturbations misclassify, and what these change.

    Only samples that are classified correctly are listed. The others have radius 0; their number is
    in `attrs["n_misclassified"]`.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like, frame or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Clean samples, in the estimator's raw units. The samples are first clipped to `bounds`.

    y : array-like of shape (n_samples,), default=None
        True labels. None uses the predictions as labels.

    n_samples : int, default=10
        The number of samples to list.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    scale : float, array-like, dict or Series, default=None
        Unit of the radius for each feature, such as its standard deviation: radius ε stands for
        `epsilon = ε * scale`. Features of scale 0, as those that a dict does not name, stay
        unperturbed. None means 1 for all features.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    time_limit : float, default=10.0
        Seconds of search for each sample, as in `robustness_radius`.

    n_jobs : int or None, default=None
        Number of processes for the searches, as in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers.

    verbose : bool, default=False
        Whether to show a progress bar of the search.

    Returns
    -------
    pandas.DataFrame
        One row per sample, the most fragile first, with the index labels of X, or the positions of
        its rows, and the columns

        - `label`: the label y;
        - `prediction_after`: the class that `predict` gives to the counterexample; None where none
          is known, or `predict` confirms none;
        - `radius_lower`, `radius_upper`: the ends of the radius, in multiples of the scale, as in
          `robustness_radius`; equal for models whose radii are exact;
        - `changes`: a dict of the columns that the counterexample changes, each with its value
          before and after, the largest change, relative to the scale, first; empty where no
          counterexample is known.

        Samples that are proved to withstand all perturbations are left out.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse or a dask collection; or numbers that may change reach a tree model through
        steps of which nothing is known.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    robustness_radius : The radii of all samples.

    Notes
    -----
    Samples are ordered by the upper end of their radius, and of equal ones by the lower end. Linear
    models and tree models have exact radii, unless time runs out. For other models the search
    leaves out samples that withstand an attack at the radius of `n_samples` others; it is not
    proved that none of them is more fragile.

    The counterexample has the size of the upper end. Where the radius is exact, it lies beyond the
    boundary by a relative 1e-9, or as much more as rounding needs before `predict` changes. Where
    `predict` changes nowhere near the boundary, the sample is listed without a counterexample.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import fragile_samples
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> found = fragile_samples(model, X, y, n_samples=3, scale=X.std())
    >>> found[["label", "prediction_after", "radius_upper"]].round(3)
         label  prediction_after  radius_upper
    133      2                 1         0.012
    126      2                 1         0.021
    119      2                 1         0.025
    >>> found.attrs["n_misclassified"]
    4
    """
    check_pandas_support("fragile_samples")
    import pandas as pd

    if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
        raise ValueError(f"n_samples must be an integer of at least 1; got {n_samples!r}.")
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    check_has_classes(estimator)
    check_samples_kind(X)
    check_dense(X, f"fragile_samples of a {name_of(estimator)}")
    labels = predicted_by(estimator, X) if y is None else y
    classes, labels = check_classifier(estimator, X, labels)
    unit = unit_set(scale, norm, bounds, X)
    options = {"time_limit": time_limit, "n_jobs": n_jobs, "verbose": verbose}
    options |= {"random_state": random_state, "n_smallest": int(n_samples), "with_copies": True}
    found = brackets_of(estimator, X, labels, classes, unit, **options)
    clean = within_bounds(estimator, X, labels, unit)
    is_right = predicted_labels(estimator, clean) == labels
    rows = np.flatnonzero(is_right & np.isfinite(found.lower))
    rows = rows[np.lexsort((found.lower[rows], found.upper[rows]))][:n_samples]
    before, copies = numbers_of(clean)[rows], found.copies[rows]
    after = _classes_after(estimator, X, rows, copies, found.is_found[rows])
    copies[~found.is_found[rows]] = before[~found.is_found[rows]]
    shape = sample_shape(X)
    names = column_names(X)
    if names is None:
        names = list(range(shape[0])) if len(shape) == 1 else list(np.ndindex(shape))
    sizes = unit.epsilon.expand(shape).numpy().ravel()
    table = pd.DataFrame(
        {
            "label": labels[rows],
            "prediction_after": after,
            "radius_lower": found.lower[rows],
            "radius_upper": found.upper[rows],
            "changes": [_changes(*pair, sizes, names) for pair in zip(before, copies, strict=True)],
        },
        index=X.index[rows] if hasattr(X, "iloc") else rows,
    )
    table.attrs["n_misclassified"] = int((~is_right).sum())
    return table


def _classes_after(estimator, X, rows, copies, is_found):
    """The classes of the counterexamples, None where there is none."""
    if not len(rows):
        return []
    after = predicted_labels(estimator, numbers_in_container_of(rows_of(X, rows), copies))
    return after if is_found.all() else np.where(is_found, after.astype(object), None)


def _changes(before, after, scale, names):
    """What changes, by column, the largest change relative to the scale first."""
    before, after = (np.ravel(values).astype(np.float64) for values in (before, after))
    step = np.where(before == after, 0.0, np.abs(after - before))
    step = np.nan_to_num(step / np.where(scale > 0, scale, 1.0))
    order = [j for j in np.argsort(-step, kind="stable") if step[j] > 0]
    return {names[j]: (float(before[j]), float(after[j])) for j in order}
