"""Which columns an adversary uses: shares of a linear model's worst case, or accuracy regained."""

import html
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils._optional_dependencies import check_pandas_support
from tqdm.auto import tqdm

from sk_adv._perturbations import as_perturbation_set, column_names, sample_shape
from sk_adv._validation import check_dense, joint_weight
from sk_adv._warnings import tells_once
from sk_adv.attacks._estimators import check_classifier, is_attackable
from sk_adv.attacks._trees import check_n_jobs, check_time_limit, rows_of
from sk_adv.differentiable import Enclosure
from sk_adv.differentiable._intervals import NoBoundsError, enclose_linear
from sk_adv.differentiable._linear import NotLinearError
from sk_adv.metrics._brackets import worst_steps
from sk_adv.metrics._certificates import certified_accuracy_score
from sk_adv.metrics._deciding import decide, numbers_in_container_of, numbers_of, predicted_labels
from sk_adv.metrics._proofs import batches, indices
from sk_adv.metrics._scores import adversarial_accuracy_score
from sk_adv.tree._as_trees import is_made_of_trees

if TYPE_CHECKING:
    import pandas as pd

# Numbers of the samples that are searched together: 8 MiB.
_NUMBERS = 2**20
# Samples that are searched together, before the time that is left is shared out anew: attacks work
# on many samples in little more time than on one, searches of trees do not.
_PAIRS, _PAIRS_OF_TREES = 1024, 128
# The least time of a search, in seconds.
_LEAST_TIME = 1e-3
# Rows of the table that a notebook shows.
_ROWS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class AdversarialContribution:
    """What each column gives to the adversary: the result of `adversarial_contribution`.

    Parameters
    ----------
    columns : list
        The names of the columns, or their indices; for samples of more than one dimension the
        index of each position, a tuple.
    kind : {"share", "accuracy"}
        "share": the part of the worst change of the margin that goes through the column, for linear
        models. "accuracy": the accuracy under attack that comes back when the column is fixed.
    contribution : ndarray of shape (n_columns,)
        Of "share", the mean share. Of "accuracy", the share of samples that the strongest attack
        breaks, and no longer breaks once the column is fixed.
    lower, upper : ndarray of shape (n_columns,)
        Of "share", the contribution itself. Of "accuracy", what is certain: the gain of the
        accuracy under the worst case lies between these, and so does `contribution`. They are equal
        where it is known exactly; without proofs `lower` is 0.
    baseline : tuple (lower, upper) of float
        The accuracy under the worst case with no column fixed: at least the share of the verified
        samples, at most one minus that of the falsified ones.

    See Also
    --------
    adversarial_contribution : Makes it.
    sk_adv.inspection.AdversarialContributionDisplay : Draws it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.metrics import adversarial_contribution
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> found = adversarial_contribution(model, X, y, epsilon=0.3)
    >>> found
    AdversarialContribution(kind='share', 4 columns, largest: 'petal length (cm)' 0.452)
    >>> found.to_frame().head(2).round(2)
                       contribution  lower  upper
    petal length (cm)          0.45   0.45   0.45
    petal width (cm)           0.28   0.28   0.28
    """

    columns: list
    kind: str
    contribution: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    baseline: tuple

    def to_frame(self) -> "pd.DataFrame":
        """The numbers as a frame.

        Returns
        -------
        pandas.DataFrame
            One row per column of X, by its name, with `contribution`, and the ends `lower` and
            `upper` of what is certain; the largest contribution first, and of equal ones that with
            the larger lower end, then the larger upper end.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        check_pandas_support("AdversarialContribution.to_frame")
        import pandas as pd

        order = self.order()
        names = [self.columns[j] for j in order]
        numbers = {name: getattr(self, name)[order] for name in ("contribution", "lower", "upper")}
        return pd.DataFrame(numbers, index=pd.Index(names, tupleize_cols=False))

    def order(self) -> np.ndarray:
        """The positions of the columns, the largest contribution first.

        Returns
        -------
        ndarray of int of shape (n_columns,)
            Of equal contributions, the one with the larger lower end stands first, then the one
            with the larger upper end.
        """
        return np.lexsort((-self.upper, -self.lower, -self.contribution))

    def __repr__(self) -> str:
        text = f"AdversarialContribution(kind={self.kind!r}, {len(self.columns)} columns"
        if len(self.columns):
            first = self.order()[0]
            text += f", largest: {self.columns[first]!r} {self.contribution[first]:.3g}"
        return f"{text})"

    def _repr_html_(self) -> str:
        what = "share of the worst change of the margin"
        if self.kind == "accuracy":
            what = (
                "accuracy under attack that comes back when the column is fixed; "
                "under the worst case it lies between lower and upper"
            )
        order = self.order()
        rows = "".join(
            f"<tr><th>{html.escape(str(self.columns[j]))}</th>"
            + "".join(f"<td>{v[j]:.1%}</td>" for v in (self.contribution, self.lower, self.upper))
            + "</tr>"
            for j in order[:_ROWS_SHOWN]
        )
        n_more = len(order) - _ROWS_SHOWN
        more = f"<tr><th>{n_more} more</th><td colspan=3></td></tr>" if n_more > 0 else ""
        return (
            f"<table><caption>{what}</caption><thead><tr><th>column</th><th>contribution</th>"
            f"<th>lower</th><th>upper</th></tr></thead><tbody>{rows}{more}</tbody></table>"
        )


@tells_once
def adversarial_contribution(
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
) -> AdversarialContribution:
    """Which columns an adversary uses, and how much each of them gives.

    For linear models, also behind linear transformers in a `Pipeline`, it is exact: the share of
    the worst change of the margin that goes through each column. For two classes with the weight
    vector w, and without bounds, that is

        ε_j abs(w_j) / Σ_i ε_i abs(w_i)   or, in the Euclidean norm,   (ε_j w_j)² / Σ_i (ε_i w_i)² .

    For all other models it is the accuracy under attack that comes back when the column is fixed,
    one column at a time: the share of samples that are falsified, by the verdicts of
    `verify_robustness`, and no longer are once the column is fixed. The verdicts also bracket what
    comes back of the accuracy under the worst case, between `lower` and `upper`.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like, frame, sparse matrix or torch.Tensor of shape (n_samples, n_features) or \
            (n_samples, ...)
        Clean samples, in the estimator's raw units. A SciPy matrix is taken for linear models.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`. Columns of
        radius 0 contribute 0.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the perturbed samples are restricted.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in all shares and means.

    time_limit : float, default=10.0
        Seconds of search for each sample, as in `verify_robustness`. For all fixed columns together
        there is as much once more, in the mean over the samples. What it leaves open is unknown.
        Attacks are not cut short.

    n_jobs : int or None, default=None
        Number of processes for the searches, as in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers.

    verbose : bool, default=False
        Whether to show a progress bar over the samples that are searched once more.

    Returns
    -------
    AdversarialContribution
        With `columns`, `kind`, `contribution`, `lower`, `upper` and `baseline`.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse and the model not linear, X is a dask collection, or numbers that may change
        reach the classifier through steps of which nothing is known, as in `verify_robustness`.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    verify_robustness : The verdicts that stand behind the accuracies.
    sk_adv.inspection.AdversarialContributionDisplay : The contributions as a picture.

    Notes
    -----
    *Linear models.* Of each sample of class y, the rival k counts that has the largest score
    z_k - z_y after the worst perturbation η, and column j has the share
    (w_k - w_y)_j η_j / Σ_i (w_k - w_y)_i η_i. The contribution is the mean of the shares over the
    samples, whether they are classified correctly or not. Samples that no perturbation moves, and
    those of labels that the estimator has never seen, are left out of it. With two classes and
    without bounds or missing values the shares of all samples are the same.

    *Other models.* The gain of each sample lies between two ends. It is 0 if the sample is verified
    while all columns may change. If it is falsified then, the gain is 1 if it is verified with the
    column fixed, 0 if it is falsified again, and else between 0 and 1. If it is unknown at first,
    the gain is 0 if it is falsified with the column fixed, and else between 0 and 1. `lower` and
    `upper` are the weighted means of the two ends. `contribution`, between them, counts the samples
    that are falsified at first, and not falsified with the column fixed: what comes back as far as
    the strongest attack tells. Without proofs, as for a nearest neighbours classifier, `lower` is
    0, and the samples that no attack breaks at first stand in all the upper ends.

    Contributions need not sum to anything: a sample that each of two columns alone can break comes
    back for neither.

    Each column costs little, as most verdicts follow from others. A counterexample that does not
    touch the column stays one, and so does one that `predict` gets wrong after the column has been
    put back. Only the other falsified samples are searched once more; then, as far as the time
    suffices, those that were unknown, if there are proofs for the model at all: what an attack does
    not break, it hardly breaks with a column less.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sk_adv.metrics import adversarial_contribution
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> forest = RandomForestClassifier(random_state=0).fit(X[::2], y[::2])
    >>> found = adversarial_contribution(forest, X[1::2], y[1::2], epsilon=0.3)
    >>> [round(end, 2) for end in found.baseline]
    [0.73, 0.73]
    >>> found.to_frame().head(2).round(2)
                       contribution  lower  upper
    petal width (cm)           0.19   0.19   0.19
    petal length (cm)          0.05   0.05   0.05
    """
    check_time_limit(time_limit)
    check_n_jobs(n_jobs)
    classes, y = check_classifier(estimator, X, y, accept_sparse=True)
    weight = joint_weight(y, sample_weight, None)
    weight = np.ones(len(y)) if weight is None else weight
    perturbations = as_perturbation_set(epsilon, norm, bounds, X)
    radii = perturbations.epsilon.expand(sample_shape(X)).numpy()
    names = _names(X, radii.shape)
    search = {"time_limit": time_limit, "n_jobs": n_jobs, "random_state": random_state}
    share = _shares(estimator, X, y, classes, perturbations, weight)
    if share is not None:
        baseline = _accuracies(estimator, X, y, classes, perturbations, weight, search)
        return AdversarialContribution(names, "share", share, share, share, baseline)
    check_dense(X, f"adversarial_contribution of a {type(estimator).__name__}")
    fixing = _Fixing(estimator, X, y, classes, perturbations, weight, search)
    gains = fixing.gains(np.flatnonzero(radii.ravel() > 0), verbose)
    return AdversarialContribution(names, "accuracy", *gains, fixing.baseline)


def _names(X, shape):
    names = column_names(X)
    if names is not None:
        return names
    return list(range(shape[0])) if len(shape) == 1 else list(np.ndindex(shape))


def _shares(estimator, X, y, classes, perturbations, weight):
    """The mean share of each column in the worst change of the margin; None if it is not linear."""
    if is_made_of_trees(estimator) or not is_attackable(estimator):
        return None
    known, labels = indices(classes, y)
    total, counted = 0.0, 0.0
    try:
        for rows, batch, module, allowed, _ in batches(estimator, X, perturbations):
            region = enclose_linear(module, Enclosure.of(batch, allowed))
            steps, directions = worst_steps(region, labels[rows])
            parts = (steps * directions).numpy()
            change = parts.sum(axis=1)
            counts = weight[rows] * known[rows] * (change > 0)
            total = total + (counts / np.where(change > 0, change, 1.0)) @ parts
            counted += counts.sum()
    except (NotLinearError, NoBoundsError):
        return None
    return total / counted if counted else np.zeros(parts.shape[1])


def _accuracies(estimator, X, y, classes, perturbations, weight, search):
    """The ends of a linear model's accuracy under the worst case."""
    if not sparse.issparse(X):
        status, _ = decide(estimator, X, y, classes, perturbations, verbose=False, **search)
        return _ends(status, weight)
    options = {"epsilon": perturbations, "sample_weight": weight}
    lower = certified_accuracy_score(estimator, X, y, **options)
    return lower, adversarial_accuracy_score(estimator, X, y, attack="exact", **options)


def _ends(status, weight):
    lower = float(np.average(status == "verified", weights=weight))
    if "unknown" not in status:
        return lower, lower
    return lower, float(1 - np.average(status == "falsified", weights=weight))


class _Fixing:
    """The verdicts on samples while all columns may change, and once one of them is fixed."""

    def __init__(self, estimator, X, y, classes, perturbations, weight, search):
        self.estimator, self.X, self.y, self.classes = estimator, X, y, classes
        self.perturbations, self.weight, self.search = perturbations, weight, search
        self.status, self.copies = self._decided(slice(None), perturbations)
        self.baseline = _ends(self.status, weight)
        # The samples within the bounds, around which the perturbation set lies.
        allowed = perturbations.to(dtype=torch.float64)
        clean = numbers_of(X)
        inside = allowed.clip(torch.as_tensor(clean.astype(np.float64))).numpy()
        self.clean = inside.astype(self.copies.dtype)
        self.broken = np.flatnonzero(self.status == "falsified")

    def gains(self, at_work, verbose):
        """What comes back when a position is fixed, for each position, and its two ends."""
        found = [self._of_use(j) for j in at_work]
        pairs = self._pairs(at_work, found)
        unknown = np.zeros(0, dtype=int)
        if is_made_of_trees(self.estimator) or is_attackable(self.estimator):
            unknown = np.flatnonzero(self.status == "unknown")
        open_pairs = self._pairs(at_work, [unknown] * len(at_work))
        n_positions = int(np.prod(self.clean.shape[1:]))
        total, n_pairs = self.weight.sum(), len(pairs[0]) + len(open_pairs[0])
        self.deadline = time.monotonic() + self.search["time_limit"] * len(self.y)
        with tqdm(total=n_pairs, unit="sample", desc="fixing", disable=not verbose) as bar:
            status = self._statuses(*pairs, bar)
            again = self._statuses(*open_pairs, bar, may_end=True)

        def mass(rows, fixed, counts):
            sums = np.bincount(fixed, self.weight[rows] * counts, minlength=n_positions)
            return sums / total

        contribution = mass(*pairs, status != "falsified")
        lower = mass(*pairs, status == "verified")
        # Samples that are unknown at first may come back, unless the others break them.
        upper = contribution.copy()
        upper[at_work] += self.weight[self.status == "unknown"].sum() / total
        upper = np.maximum(upper - mass(*open_pairs, again == "falsified"), contribution)
        return contribution, lower, upper

    def _pairs(self, at_work, found):
        """The samples of each position, one after another, and the positions."""
        rows = np.concatenate([*found, np.zeros(0, dtype=int)]).astype(int)
        return rows, np.repeat(at_work, [len(part) for part in found]).astype(int)

    def _statuses(self, rows, fixed, bar, *, may_end=False):
        """The status of each sample with a position fixed; "" where time has run out."""
        status = np.full(len(rows), "", dtype="<U9")
        most = _PAIRS_OF_TREES if is_made_of_trees(self.estimator) else _PAIRS
        size = max(1, min(most, _NUMBERS // max(1, int(np.prod(self.clean.shape[1:])))))
        # Many columns at once, except in the Euclidean norm, where attacks would spend length on
        # fixed columns, which other samples move.
        ends = np.arange(size, len(rows), size)
        if self.perturbations.norm == 2:
            ends = np.union1d(ends, np.flatnonzero(np.diff(fixed)) + 1)
        for start, end in pairwise([0, *map(int, ends), len(rows)]):
            left = self.deadline - time.monotonic()
            if start == end or (may_end and left < 0):
                break
            limit = max(_LEAST_TIME, min(self.search["time_limit"], left / (len(rows) - start)))
            status[start:end] = self._with_fixed(rows[start:end], fixed[start:end], limit)
            bar.update(end - start)
        return status

    def _with_fixed(self, rows, fixed, time_limit):
        """The status of some samples, each with one position fixed."""
        shape = self.clean.shape[1:]
        is_one = len(np.unique(fixed)) == 1
        n_sets = 1 if is_one else len(rows)
        radii = self.perturbations.epsilon.expand(n_sets, *shape).clone()
        radii.view(n_sets, -1)[torch.arange(n_sets), torch.as_tensor(fixed[:n_sets])] = 0.0
        radii = radii[0] if is_one else radii
        with warnings.catch_warnings():
            # The first search has told of it.
            warnings.filterwarnings("ignore", "The columns .* stay unperturbed")
            warnings.filterwarnings("ignore", "as_module has no rule for")
            allowed = self.perturbations.with_radius(radii)
            return self._decided(rows, allowed, time_limit=time_limit)[0]

    def _of_use(self, j):
        """The broken samples whose counterexample needs the position."""
        before = self.clean.reshape(len(self.y), -1)[self.broken, j]
        after = self.copies.reshape(len(self.y), -1)[self.broken, j]
        rows = self.broken[~((before == after) | (np.isnan(before) & np.isnan(after)))]
        if not len(rows):
            return rows
        restored = self.copies[rows].copy()
        restored.reshape(len(rows), -1)[:, j] = self.clean.reshape(len(self.y), -1)[rows, j]
        part = rows_of(self.X, rows)
        predicted = predicted_labels(self.estimator, numbers_in_container_of(part, restored))
        return rows[predicted == self.y[rows]]

    def _decided(self, rows, perturbations, **options):
        X = self.X if isinstance(rows, slice) else rows_of(self.X, rows)
        options = self.search | {"verbose": False} | options
        return decide(self.estimator, X, self.y[rows], self.classes, perturbations, **options)
