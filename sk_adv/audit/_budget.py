"""Verdicts within a time for all samples together."""

import time
from dataclasses import dataclass

import numpy as np
from joblib import effective_n_jobs

from sk_adv._perturbations import as_perturbation_set
from sk_adv.attacks._estimators import is_attackable
from sk_adv.attacks._trees import rows_of
from sk_adv.differentiable._intervals import NoBoundsError
from sk_adv.metrics import verify_robustness
from sk_adv.metrics._proofs import decided_samples
from sk_adv.tree._as_trees import is_made_of_trees

# The least seconds for a sample in the first pass, which decides most.
_FIRST_LIMIT = 0.02


class Clock:
    """The seconds that are left of an audit."""

    def __init__(self, seconds):
        self._end = time.monotonic() + seconds

    @property
    def left(self):
        """The seconds that are left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)


@dataclass(frozen=True)
class Verdicts:
    """The status of each sample.

    Attributes
    ----------
    status : ndarray of str of shape (n_samples,)
    passes : list of tuple (rows, time_limit)
        The calls of `verify_robustness`: the positions of the samples, or None for all, and the
        seconds for each.
    is_cut : bool
        Whether more time may decide samples that are unknown.
    seconds : float
        What a pass over all samples takes without long searches.
    """

    status: np.ndarray
    passes: list
    is_cut: bool
    seconds: float

    @property
    def time_limit(self):
        """Seconds that each sample had at most that is still unknown."""
        return self.passes[-1][1]


def verdicts_within(seconds, estimator, X, y, *, time_limit, n_jobs, **options):
    """The verdicts of `verify_robustness`, within about so many seconds for all samples.

    A first pass has little time for each sample. Those that it leaves open share the rest.

    Parameters
    ----------
    seconds : float
        For all samples; bounds and attacks take what they take.
    time_limit : float
        For each sample, as in `verify_robustness`, which takes the options.

    Returns
    -------
    Verdicts
    """
    start, n_workers = time.monotonic(), effective_n_jobs(n_jobs)
    options["n_jobs"] = n_jobs
    limit = min(time_limit, max(_FIRST_LIMIT, seconds * n_workers / len(y) / 2))
    status = verify_robustness(estimator, X, y, time_limit=limit, **options).status
    took = time.monotonic() - start
    passes = [(None, limit)]
    rows = np.flatnonzero(status == "unknown")
    some = rows[:1]
    # A search that is cut off lasts as long as the limit: in less time, none was.
    is_over = not len(rows) or took < 0.9 * limit
    if is_over or not can_search(estimator, rows_of(X, some), y[some], **options):
        return Verdicts(status, passes, False, took)
    most, is_cut = min(time_limit, (seconds - took) * n_workers / len(rows)), True
    if most > 1.5 * limit:
        start = time.monotonic()
        again = verify_robustness(estimator, rows_of(X, rows), y[rows], time_limit=most, **options)
        is_cut = time.monotonic() - start >= 0.9 * most
        status[rows] = again.status
        passes.append((rows, most))
    return Verdicts(status, passes, is_cut and bool((status == "unknown").any()), took)


def can_search(estimator, X, y, *, epsilon, norm, bounds, **_):
    """Whether more time can decide what bounds and attacks leave open, shown by one sample."""
    if is_made_of_trees(estimator):
        return True
    if not is_attackable(estimator):
        return False
    allowed = as_perturbation_set(epsilon, norm, bounds, X)
    try:
        decided_samples(estimator, X, y, estimator.classes_, allowed, time_limit=_FIRST_LIMIT)
    except NoBoundsError:
        return False
    return True
