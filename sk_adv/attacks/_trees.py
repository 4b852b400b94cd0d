"""The exact worst case of tree models, for all samples of X."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.utils import _safe_indexing
from tqdm.auto import tqdm

from sk_adv._arrays import in_container_of, predicted_by, to_numpy, to_tensor
from sk_adv._perturbations import column_names
from sk_adv.differentiable._columns_in_hand import check_columns
from sk_adv.tree import as_trees
from sk_adv.tree._radius import smallest_radius
from sk_adv.tree._reach import Region
from sk_adv.tree._tree_sum import TreeSum
from sk_adv.tree._worst_case import worst_case

# Samples of one task of a worker: enough to make the transfer of the trees small.
_SAMPLES_PER_TASK = 16


@dataclass(frozen=True)
class TreeView:
    """A tree model and X as its sum of trees sees them.

    Attributes
    ----------
    trees : TreeSum
    coordinates : ndarray of shape (n_samples, n_coordinates), float64
        The raw columns of X, and what the trees see of columns that stay as they are.
    dtype : dtype
        The floating type of X.
    free : ndarray of bool of shape (n_features,)
        The columns that may change.
    is_number : ndarray of bool of shape (n_features,)
        The columns that hold numbers.
    names : list
        Names, or indices, of all columns.
    transformers : dict of int to str
        For the columns that are not free: the type of the transformer.
    """

    trees: TreeSum
    coordinates: np.ndarray
    dtype: np.dtype
    free: np.ndarray
    is_number: np.ndarray
    names: list
    transformers: dict = field(default_factory=dict)

    @property
    def values(self):
        """The raw columns of X."""
        return self.coordinates[:, : self.trees.n_columns]


def view_of_trees(estimator, X) -> TreeView:
    """A fitted tree model as a sum of trees, and X as it sees it."""
    array = to_numpy(X)
    check_columns(estimator, array)
    dtype = _floating_type(array)
    trees = as_trees(estimator, dtype=dtype)
    coordinates = trees.coordinates(array)
    values = coordinates[:, : trees.n_columns]
    if np.isinf(values).any():
        raise ValueError("X must be finite; it contains infinity.")
    held = trees.held_columns
    is_number = ~np.isnan(values).all(axis=0)
    free = is_number.copy()
    free[list(held)] = False
    names = column_names(X) or list(range(values.shape[1]))
    return TreeView(
        trees,
        coordinates,
        np.dtype(dtype),
        free,
        is_number,
        names,
        dict(held),
    )


def _floating_type(X):
    """float32 if all of X is, in which case transformers compute in it; else float64."""
    types = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    is_single = {str(kind).lower() for kind in types} == {"float32"}
    return np.float32 if is_single else np.float64


def regions(view: TreeView, perturbations) -> list:
    """The perturbation set around the samples, one region for each.

    `perturbations` is restricted to the free columns.
    """
    n = view.trees.n_columns
    values = to_tensor(view.values.astype(view.dtype))
    allowed = perturbations.to(dtype=values.dtype)
    center = view.coordinates.copy()
    center[:, :n] = allowed.clip(values).numpy()
    low, high = center.copy(), center.copy()
    # The ball lies around the sample within the bounds.
    inside = to_tensor(center[:, :n].astype(view.dtype))
    low[:, :n], high[:, :n] = (end.numpy() for end in allowed.box(inside))
    radii = [None] * len(center)
    if perturbations.norm == 2:
        radii = np.zeros(center.shape)
        radii[:, :n] = perturbations.epsilon.expand(len(center), n).numpy()
    return [Region(*parts) for parts in zip(low, high, center, radii, strict=True)]


@dataclass(frozen=True)
class TreeSearch:
    """The verdicts of a search, and the points that it found.

    Attributes
    ----------
    status : ndarray of shape (n_samples,)
        "verified", "falsified" or "unknown".
    copies : ndarray of shape (n_samples, n_features)
        Misclassified points of the falsified samples; the others as they are, within the bounds.
    """

    status: np.ndarray
    copies: np.ndarray


def search_trees(
    view: TreeView,
    labels: np.ndarray,
    perturbations,
    *,
    is_wrong: Callable,
    time_limit: float,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> TreeSearch:
    """Look for a misclassified point around each sample, until there is none or time is up.

    Parameters
    ----------
    view : TreeView
    labels : ndarray of shape (n_samples,)
        The indices of the true classes.
    perturbations : PerturbationSet
        Restricted to the free columns.
    is_wrong : callable
        `is_wrong(rows, copies)`: whether the estimator's own `predict` misclassifies copies of
        these samples.
    time_limit : float
        Seconds for each sample.
    n_jobs : int, default=None
        Number of processes, as in scikit-learn.
    verbose : bool, default=False
        Whether to show a progress bar.
    """
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    around = regions(view, perturbations)
    # Held coordinates are computed; workers need the nodes alone.
    trees = replace(view.trees, held=())
    options = {"time_limit": time_limit, "dtype": view.dtype.type}
    # Not all backends give results one after another.
    jobs = Parallel(n_jobs=n_jobs, return_as="generator" if verbose else "list")(
        delayed(_search)(trees, around[start:end], labels[start:end], options)
        for start, end in _tasks(len(labels))
    )
    cases = []
    with tqdm(total=len(labels), unit="sample", desc="verifying", disable=not verbose) as bar:
        for part in jobs:
            cases += part
            bar.update(len(part))
    n = view.trees.n_columns
    # In X's own type, in which transformers compute as for X.
    copies = np.array([case.point[:n] for case in cases], dtype=view.dtype).reshape(-1, n)
    is_proved = np.array([case.is_proved for case in cases], dtype=bool)
    status = np.where(is_proved, "verified", "unknown").astype("<U9")
    suspects = np.flatnonzero([case.is_suspect for case in cases])
    if len(suspects):
        confirmed = is_wrong(suspects, copies[suspects])
        status[suspects[confirmed]] = "falsified"
        for row in suspects[~confirmed]:
            # The estimator breaks a tie in its own way, or rounds a sum.
            at = _at_row(is_wrong, row, view)
            case = worst_case(trees, around[row], int(labels[row]), is_wrong=at, **options)
            if case.is_misclassified and at(case.point):
                status[row], copies[row] = "falsified", case.point[:n]
            else:
                status[row] = "verified" if case.is_proved else "unknown"
    for row in np.flatnonzero(status != "falsified"):
        copies[row] = around[row].center[:n]
    return TreeSearch(status, copies)


def _tasks(n_samples):
    """The first sample of each task, and the one after the last."""
    starts = range(0, n_samples, _SAMPLES_PER_TASK)
    return [(start, start + _SAMPLES_PER_TASK) for start in starts]


def _search(trees, around, labels, options):
    return [
        worst_case(trees, region, int(label), **options)
        for region, label in zip(around, labels, strict=True)
    ]


def _at_row(is_wrong, row, view):
    """Whether the estimator misclassifies a point, in coordinates, as a copy of one sample."""
    n = view.trees.n_columns
    return lambda point: is_wrong(np.array([row]), point[None, :n].astype(view.dtype))[0]


def rows_of(X, rows):
    """Some rows of X in its container."""
    return X[rows] if isinstance(X, torch.Tensor) else _safe_indexing(X, rows)


def predicts_wrongly(estimator, X, y, free):
    """A function that tells whether the estimator misclassifies copies of some rows of X."""
    is_list = isinstance(X, list)
    X = np.asarray(X, dtype=object if not free.all() else None) if is_list else X

    def is_wrong(rows, copies):
        container = in_container_of(rows_of(X, rows), copies, free=free)
        return predicted_by(estimator, container) != y[rows]

    return is_wrong


def radii_of_trees(
    view: TreeView,
    labels,
    unit,
    *,
    is_wrong: Callable,
    time_limit: float,
    n_jobs: int | None,
    verbose: bool = False,
) -> list:
    """The smallest radius of each sample, in multiples of the radii of `unit`.

    Parameters
    ----------
    view : TreeView
    labels : ndarray of shape (n_samples,)
        The indices of the classes.
    unit : PerturbationSet
        Restricted to the free columns.
    is_wrong, time_limit, n_jobs, verbose : see search_trees

    Returns
    -------
    list of Radius
    """
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    n = view.trees.n_columns
    scale = np.zeros(view.coordinates.shape[1])
    scale[:n] = unit.epsilon.expand(n).numpy()
    trees = replace(view.trees, held=())
    center, bounds = view.coordinates, None
    if unit.bounds is not None:
        allowed = unit.to(dtype=to_tensor(view.values.astype(view.dtype)).dtype)
        center = center.copy()
        center[:, :n] = allowed.clip(to_tensor(view.values.astype(view.dtype))).numpy()
        bounds = np.full((2, center.shape[1]), [[-np.inf], [np.inf]])
        bounds[:, :n] = [to_tensor(end).expand(n).numpy() for end in allowed.bounds]

    def of(row, **options):
        arguments = (trees, center[row], scale, int(labels[row]), unit.norm)
        options |= {"time_limit": time_limit, "dtype": view.dtype.type, "bounds": bounds}
        return delayed(smallest_radius)(*arguments, **options)

    jobs = Parallel(n_jobs=n_jobs, return_as="generator" if verbose else "list")(
        of(row) for row in range(len(labels))
    )
    bar = {"total": len(labels), "unit": "sample", "desc": "radii", "disable": not verbose}
    radii = list(tqdm(jobs, **bar))
    for row in np.flatnonzero([radius.is_tied for radius in radii]):
        function, arguments, options = of(row, is_wrong=_at_row(is_wrong, row, view))
        radii[row] = function(*arguments, **options)
    return radii


def check_n_jobs(n_jobs):
    """Raise `ValueError` unless a number of processes is None or an integer other than 0."""
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or not n_jobs):
        raise ValueError(f"n_jobs must be None or an integer other than 0; got {n_jobs!r}.")


def check_time_limit(time_limit):
    """Raise `ValueError` unless a time limit is a positive number of seconds."""
    if not isinstance(time_limit, Real) or isinstance(time_limit, bool) or not time_limit > 0:
        raise ValueError(
            f"time_limit must be a positive number of seconds for each sample; got {time_limit!r}."
        )
