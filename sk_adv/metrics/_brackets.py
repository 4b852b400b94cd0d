"""The smallest radius of each sample between two ends: a proof below, a counterexample above."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from sk_adv._perturbations import sample_shape
from sk_adv._validation import check_dense, name_of
from sk_adv.attacks._estimators import is_attackable
from sk_adv.attacks._forms import searched, trees_within
from sk_adv.attacks._trees import predicts_wrongly, radii_of_trees, rows_of
from sk_adv.attacks._unseen import refused_columns
from sk_adv.differentiable import Enclosure
from sk_adv.differentiable._intervals import NoBoundsError, enclose_linear
from sk_adv.differentiable._linear import NotLinearError
from sk_adv.metrics._deciding import (
    attacked,
    numbers_in_container_of,
    numbers_of,
    predicted_labels,
    within_bounds,
)
from sk_adv.metrics._proofs import (
    batches,
    certified_samples,
    decided_samples,
    indices,
    inside_set,
    precision_of,
)
from sk_adv.tree._as_trees import is_made_of_trees

# Other samples of X that are tried as counterexamples of each sample.
_N_NEIGHBORS = 3
# Halvings of the way to a counterexample, by `predict` alone.
_N_HALVINGS = 16
# Radii below this part of the largest one are not told apart from 0.
_RESOLUTION = 1e-6
# The next radius, as a part of the last, as long as the lower end is 0.
_FALL = 0.25
# Bounds that prove less than this part of the upper end are left at 0.
_LEAST_PROVED = 1e-4
# Rounds of a search to the end; with a good attack the first one is the last.
_N_SEARCHES = 8
# The part of the time after which quick attacks make way for proofs and attacks in full.
_SHARE_OF_QUICK = 0.5
# The least time of a search to the end, in seconds.
_LEAST_TIME = 1e-3
# Ends that differ by the tolerance and rounding have met.
_ROUNDING = 1 + 1e-9
# Counterexamples of a linear model lie this much beyond the boundary; rounding decides which do.
_BEYOND = (1e-9, 1e-7, 1e-5, 1e-3)
# The most halvings and doublings of a radius within bounds.
_N_STEPS = 64


@dataclass(frozen=True, eq=False)
class Brackets:
    """The ends of the radii of samples, in units of the scale.

    Attributes
    ----------
    lower : ndarray of shape (n_samples,)
        No smaller perturbation changes the class.
    upper : ndarray of shape (n_samples,)
        The size of the counterexample; equal to `lower` where the radius is exact; infinite where
        neither is known.
    copies : ndarray of shape (n_samples, ...) or None
        The counterexamples as numbers, which `predict` gets wrong; the samples themselves where
        there is none.
    is_found : ndarray of bool of shape (n_samples,)
        Whether there is a counterexample.
    """

    lower: np.ndarray
    upper: np.ndarray
    copies: np.ndarray | None = None
    is_found: np.ndarray | None = None


def largest_radius(X, unit):
    """The radius at which each sample can become any other one, by the ranges of the features.

    Where `bounds` limit a feature, its range is that of the bounds. Where all ranges are 0, the
    largest absolute value stands for them, or else the scale itself.
    """
    numbers = numbers_of(X).astype(np.float64)
    n_samples, shape = len(numbers), numbers.shape[1:]
    flat = numbers.reshape(n_samples, -1)
    scale = unit.epsilon.expand(shape).numpy().ravel()
    is_free = (scale > 0) & ~np.isnan(flat).all(axis=0)
    if not is_free.any():
        return 1.0
    flat, scale = flat[:, is_free], scale[is_free]
    width = np.nanmax(flat, axis=0) - np.nanmin(flat, axis=0)
    if unit.bounds is not None:
        ends = [torch.as_tensor(end).expand(shape).numpy().ravel() for end in unit.bounds]
        room = (ends[1] - ends[0])[is_free]
        width = np.where(np.isfinite(room), room, width)
    for size in (width, np.nanmax(np.abs(flat), axis=0)):
        found = float(np.linalg.norm(size / scale, ord=unit.norm))
        if found > 0:
            return found
    return 1.0


def brackets_of(
    estimator,
    X,
    y,
    classes,
    unit,
    *,
    time_limit,
    n_jobs,
    max_radius=None,
    tol=0.01,
    random_state=None,
    verbose=False,
    n_smallest=None,
    with_copies=False,
    given=None,
):
    """The ends of the radius of each sample, by the best means that the estimator allows.

    Parameters
    ----------
    estimator : object
    X : array-like, frame or torch.Tensor of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
    unit : PerturbationSet
        With the scale as its radii.
    time_limit, n_jobs, max_radius, tol, random_state, verbose : see robustness_radius
    n_smallest : int, default=None
        The number of samples of interest: those with the smallest radii. Of the others nothing is
        said but that their radii are larger.
    with_copies : bool, default=False
        Whether counterexamples are needed where radii are exact.
    given : array-like, default=None
        What X is a part of.

    Returns
    -------
    Brackets
    """
    options = {"time_limit": time_limit, "n_jobs": n_jobs, "verbose": verbose}
    if is_made_of_trees(estimator):
        return _of_trees(estimator, X, y, classes, unit, n_smallest=n_smallest, **options)
    if is_attackable(estimator):
        try:
            return _of_linear(estimator, X, y, classes, unit, with_copies=with_copies)
        except (NotLinearError, NoBoundsError):
            pass
    check_dense(X if given is None else given, f"The radius of a {name_of(estimator)}")
    settings = {"max_radius": max_radius, "tol": tol, "random_state": random_state}
    search = _Search(estimator, X, y, classes, unit, **settings)
    return search.run(**options, n_smallest=n_smallest)


def _sizes(copies, clean, unit):
    """The lengths of perturbations in units of the scale; features of scale 0 don't count."""
    scale = unit.epsilon.expand(clean.shape[1:]).numpy().ravel()
    moves = scale > 0
    steps = (copies.astype(np.float64) - clean).reshape(len(clean), -1)
    steps = np.nan_to_num(steps[:, moves]) / scale[moves]
    return np.linalg.norm(steps, ord=unit.norm, axis=1) if moves.any() else np.zeros(len(clean))


def _of_linear(estimator, X, y, classes, unit, *, with_copies):
    """Exact radii, by the closed form, or within bounds by bisection of the worst margin."""
    known, labels = indices(classes, y)
    radii, parts = np.zeros(len(y)), []
    for rows, batch, module, allowed, _ in batches(estimator, X, unit):
        inside = allowed.clip(batch)
        region = enclose_linear(module, Enclosure.of(inside, allowed.without_bounds()))
        # 0 / 0 is NaN, which fmax turns into 0: the sample lies on a boundary.
        ratios = [-gap / gain for gap, gain, _ in region.rivals(labels[rows])]
        radii[rows] = np.fmax(torch.stack(ratios).amin(0).numpy(), 0)
        if allowed.bounds is not None:
            radii[rows] = _within_room(module, batch, labels[rows], allowed, radii[rows])
        if with_copies:
            parts.append((rows, batch, module, allowed))
    radii = np.where(known, radii, 0.0)
    if not with_copies:
        return Brackets(radii, radii)
    copies, is_found = numbers_of(X).copy(), np.zeros(len(y), dtype=bool)
    for part in parts:
        _beyond_boundary(estimator, X, y, labels, radii, part, copies, is_found)
    return Brackets(radii, radii, copies, is_found)


def _within_room(module, batch, labels, allowed, lower):
    """The radii at which the worst margin within the bounds is 0, from those without bounds."""

    def is_safe(radii):
        own = allowed.scaled_each(radii, batch.shape[1:])
        region = enclose_linear(module, Enclosure.of(batch, own))
        worst = torch.stack([gap + gain for gap, gain, _ in region.rivals(labels)]).amax(0)
        return (worst < 0).numpy()

    upper = np.where(np.isfinite(lower), lower, 0.0)
    is_open = is_safe(upper) & (upper > 0)
    for _ in range(_N_STEPS):
        if not is_open.any():
            break
        lower = np.where(is_open, upper, lower)
        upper = np.where(is_open, 2 * upper, upper)
        is_open &= is_safe(upper)
    never, moved = is_open | np.isinf(lower), upper > lower
    lower = np.where(np.isinf(lower), upper, lower)
    for _ in range(_N_STEPS if moved.any() else 0):
        middle = (lower + upper) / 2
        safe = is_safe(middle)
        lower, upper = np.where(safe, middle, lower), np.where(safe, upper, middle)
    return np.where(never, np.inf, upper)


def _beyond_boundary(estimator, X, y, labels, radii, part, copies, is_found):
    """Write counterexamples a hair beyond the boundary, where `predict` confirms one."""
    rows, batch, module, allowed = part
    wrong = _confirms(estimator, X, y, allowed, batch)
    for beyond in _BEYOND:
        here = np.arange(len(y))[rows]
        left = np.flatnonzero(~is_found[here] & np.isfinite(radii[here]))
        if not len(left):
            return
        here = here[left]
        own = allowed.scaled_each(radii[here] * (1 + beyond), batch.shape[1:])
        region = enclose_linear(module, Enclosure.of(batch[left], own))
        steps = worst_steps(region, labels[here])[0]
        found = inside_set(batch[left], steps, own, precision_of(X))
        confirmed, free = wrong(here, found)
        is_found[here[confirmed]] = True
        copies[np.ix_(here[confirmed], free)] = found[confirmed][:, free]


def _confirms(estimator, X, y, allowed, batch):
    """A function that tells which copies `predict` gets wrong, and which columns are theirs."""
    free = np.ones(batch.shape[1], dtype=bool)
    if batch.ndim == 2:
        free = allowed.largest_radii(batch.shape[1:]).numpy() > 0
    wrong = predicts_wrongly(estimator, X, y, free)
    return lambda rows, found: (wrong(rows, found), free)


def worst_steps(region, labels):
    """The worst perturbation of each sample, and the weights of the rival that it helps."""
    worst = torch.full(labels.shape, -torch.inf, dtype=torch.float64)
    steps = directions = 0.0
    coef = region.coef
    if coef is None:
        coef = torch.eye(region.centre.shape[1], dtype=region.centre.dtype)
    for k, (gap, gain, step) in enumerate(region.rivals(labels)):
        better = (gap + gain > worst)[:, None]
        worst = torch.maximum(worst, gap + gain)
        steps = torch.where(better, step, steps)
        directions = torch.where(better, coef[k] - coef[labels], directions)
    return steps, directions


def _of_trees(estimator, X, y, classes, unit, *, n_smallest, **options):
    """Radii by a search of the trees, which are exact unless time runs out."""
    known, labels = np.isin(y, classes), np.searchsorted(classes, y).clip(max=len(classes) - 1)
    array, view, allowed = trees_within(estimator, X, unit)
    wrong = predicts_wrongly(estimator, array, classes[labels], view.free)
    n = view.trees.n_columns
    copies = view.values.astype(view.dtype)
    lower, upper = np.zeros(len(y)), np.zeros(len(y))
    is_found = np.zeros(len(y), dtype=bool)
    rows, near = np.flatnonzero(known), None
    if n_smallest is not None and n_smallest < len(rows):
        near = _Neighbors(estimator, X, y, unit).found()
        limit = np.sort(near.upper[near.is_right])[n_smallest - 1 : n_smallest]
        if len(limit) and np.isfinite(limit[0]):
            # Samples that are verified at this radius are not among the smallest.
            at_limit = searched(estimator, X, y, classes, unit.scaled(limit[0]), **options)
            is_far = near.is_right & (at_limit.status == "verified")
            lower, upper = np.where(is_far, limit[0], lower), np.where(is_far, near.upper, upper)
            copies[is_far] = near.copies[is_far]
            is_found |= is_far & np.isfinite(near.upper)
            rows = np.flatnonzero(known & ~is_far)
    found = radii_of_trees(
        replace(view, coordinates=view.coordinates[rows]),
        labels[rows],
        allowed,
        is_wrong=lambda some, points: wrong(rows[some], points),
        **options,
    )
    lower[rows] = [radius.value for radius in found]
    upper[rows] = [radius.value if radius.is_exact else radius.upper for radius in found]
    held = [i for i, radius in enumerate(found) if radius.point is not None]
    here = rows[held]
    points = np.array([found[i].point[:n] for i in held], dtype=view.dtype).reshape(-1, n)
    confirmed = wrong(here, points) if len(here) else np.zeros(0, dtype=bool)
    copies[here[confirmed]], is_found[here[confirmed]] = points[confirmed], True
    is_open = np.zeros(len(y), dtype=bool)
    is_open[rows] = [not radius.is_exact for radius in found]
    upper[is_open & ~is_found] = np.inf
    if is_open.any():
        near = near or _Neighbors(estimator, X, y, unit).found()
        is_nearer = is_open & near.is_right & (near.upper < upper)
        upper[is_nearer], copies[is_nearer] = near.upper[is_nearer], near.copies[is_nearer]
        is_found |= is_nearer
    return Brackets(lower, upper, copies, is_found)


class _Neighbors:
    """Counterexamples that are, in all columns that may change, other samples of X.

    Attributes
    ----------
    clean : ndarray of shape (n_samples, ...)
        The samples within the bounds, as numbers.
    is_right : ndarray of bool of shape (n_samples,)
        Whether they are classified correctly.
    upper, copies : ndarray
        As in `Brackets`.
    """

    def __init__(self, estimator, X, y, unit):
        self.estimator, self.X, self.y, self.unit = estimator, X, y, unit
        clean = within_bounds(estimator, X, y, unit)
        self.predicted = predicted_labels(estimator, clean)
        self.is_right = self.predicted == y
        self.clean = numbers_of(clean)
        self.copies = self.clean.copy()
        self.upper = np.where(self.is_right, np.inf, 0.0)

    def found(self):
        """Try the nearest samples of other predictions, and shorten the way to them."""
        shape, n = self.clean.shape[1:], len(self.y)
        scale = self.unit.epsilon.expand(shape).numpy().ravel()
        flat = self.clean.reshape(n, -1).astype(np.float64)
        moves = (scale > 0) & ~np.isnan(flat).all(axis=0)
        moves[self._refused(flat, np.flatnonzero(moves))] = False
        if not moves.any():
            return self
        places = np.nan_to_num(flat[:, moves] / scale[moves])
        metric = "chebyshev" if self.unit.norm == np.inf else "euclidean"
        for label in np.unique(self.predicted):
            own = np.flatnonzero(self.is_right & (self.predicted == label))
            others = np.flatnonzero(self.predicted != label)
            if not len(own) or not len(others):
                continue
            near = NearestNeighbors(n_neighbors=min(_N_NEIGHBORS, len(others)), metric=metric)
            for rank in near.fit(places[others]).kneighbors(places[own], return_distance=False).T:
                copies = self.clean[own].copy().reshape(len(own), -1)
                new = self.clean.reshape(n, -1)[others[rank]]
                # A missing value stays, and none can become missing.
                can_move = moves & ~np.isnan(copies) & ~np.isnan(new)
                copies = np.where(can_move, new, copies).reshape(len(own), *shape)
                self.note(own, copies)
        return self

    def _refused(self, flat, columns):
        """Columns in which `predict` takes no other numbers, so that attacks leave them too."""
        if self.clean.ndim != 2:
            return []
        rows = np.tile(np.arange(len(self.y))[:5], 2)
        part = rows_of(self.X, rows)

        def predicted(numbers):
            copies = numbers_in_container_of(part, numbers.numpy().astype(self.clean.dtype))
            return predicted_labels(self.estimator, copies)

        return refused_columns(predicted, flat, self.unit, columns)

    def note(self, rows, copies):
        """Keep copies that `predict` gets wrong, as short as it allows."""
        if not len(rows):
            return
        is_wrong = self._is_wrong(rows, copies)
        broken = rows[is_wrong]
        if len(broken):
            shorter = self._shortened(broken, copies[is_wrong])
            sizes = _sizes(shorter, self.clean[broken], self.unit)
            better = sizes < self.upper[broken]
            self.copies[broken[better]] = shorter[better]
            self.upper[broken[better]] = sizes[better]

    def _shortened(self, rows, copies):
        """The points next to the samples, on the ways to copies, that `predict` gets wrong."""
        clean = self.clean[rows].astype(np.float64)
        step = copies.astype(np.float64) - clean
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(_N_HALVINGS):
            middle = (low + high) / 2
            at = clean + middle.reshape(-1, *[1] * (clean.ndim - 1)) * step
            at = np.where(np.isnan(step) | (step == 0), self.clean[rows], at)
            at = at.astype(copies.dtype)
            is_wrong = self._is_wrong(rows, at)
            copies = np.where(is_wrong.reshape(-1, *[1] * (clean.ndim - 1)), at, copies)
            low, high = np.where(is_wrong, low, middle), np.where(is_wrong, middle, high)
        return copies

    def _is_wrong(self, rows, copies):
        part = rows_of(self.X, rows)
        predicted = predicted_labels(self.estimator, numbers_in_container_of(part, copies))
        return predicted != self.y[rows]


class _Search:
    """The search for both ends of the radii, all samples at their own radii at a time."""

    def __init__(self, estimator, X, y, classes, unit, *, max_radius, tol, random_state):
        self.estimator, self.X, self.y, self.classes, self.unit = estimator, X, y, classes, unit
        self.tol, self.random_state = tol, random_state
        self.shape = sample_shape(X)
        self.most = largest_radius(X, unit) if max_radius is None else float(max_radius)
        self.near = _Neighbors(estimator, X, y, unit)
        self.lower = np.zeros(len(y))
        # The largest radii at which attacks have failed.
        self.withstood = np.zeros(len(y))
        self.n_smallest = None

    def run(self, *, time_limit, n_jobs, verbose, n_smallest=None):
        """Bracket the radii, in `time_limit` seconds for each sample in the mean.

        At least one round of attacks and one of proofs take place, however long these are.
        """
        self.n_smallest = n_smallest
        self.deadline = time.monotonic() + time_limit * len(self.y)
        middle = self.deadline - (1 - _SHARE_OF_QUICK) * time_limit * len(self.y)
        near = self.near.found()
        too_far = near.upper > self.most
        near.upper[too_far], near.copies[too_far] = np.inf, near.clean[too_far]
        if self.unit.epsilon.any():
            with tqdm(unit="radius", desc="searching radii", disable=not verbose) as self.bar:
                self._break(is_quick=True, deadline=middle)
                if is_attackable(self.estimator):
                    self._prove()
                    self._decide(time_limit, n_jobs)
                if not self._is_late():
                    self._break(is_quick=False, deadline=self.deadline)
        else:
            self.lower[near.is_right] = np.inf
        return Brackets(self.lower, near.upper, near.copies, np.isfinite(near.upper))

    def _is_late(self):
        return time.monotonic() > self.deadline

    def _break(self, *, is_quick, deadline):
        """Bring the upper ends down by attacks, until one fails just below them."""
        near, failed = self.near, self.lower.copy()
        # An attack in full mostly fails just below what a quick one has found.
        is_first = np.full(len(self.y), not is_quick)
        while True:
            ends = np.minimum(near.upper, self.most)
            is_open = near.is_right & (ends > _RESOLUTION * self.most)
            is_known = np.isfinite(near.upper)
            is_open &= failed * np.where(is_known, 1 + self.tol, 1.0) * _ROUNDING < ends
            rows = np.flatnonzero(is_open & self._may_be_small())
            if not len(rows):
                return
            at_end = np.where(is_known, ends / (1 + self.tol), ends)[rows]
            radii = self._between(failed[rows], ends[rows])
            radii = np.where(is_first[rows] | ~is_known[rows], at_end, radii)
            # A radius at which a sample withstands the attack is not among the smallest.
            limit = self._limit()
            radii = np.where(ends[rows] > limit, np.minimum(at_end, limit), radii)
            self.bar.update(len(rows))
            own = self.unit.scaled_each(radii, self.shape)
            X, y = rows_of(self.X, rows), self.y[rows]
            is_broken, copies = attacked(
                self.estimator, X, y, own, self.random_state, is_quick=is_quick
            )
            near.note(rows[is_broken], copies[is_broken])
            # An attack whose copies are not confirmed has failed too.
            is_nearer = near.upper[rows] < ends[rows] / (1 + self.tol / 2)
            left = rows[~is_nearer]
            failed[left] = radii[~is_nearer]
            self.withstood[left] = np.maximum(self.withstood[left], radii[~is_nearer])
            is_first[rows] = False
            if time.monotonic() > deadline:
                return

    def _limit(self):
        """The largest upper end among the samples of interest."""
        near = self.near
        if self.n_smallest is None or self.n_smallest >= near.is_right.sum():
            return np.inf
        return np.partition(near.upper[near.is_right], self.n_smallest - 1)[self.n_smallest - 1]

    def _may_be_small(self):
        """Which samples neither a proof nor an attack that failed excludes from the smallest."""
        return np.maximum(self.lower, self.withstood) < self._limit()

    def _between(self, low, high):
        """The next radii, between two ends."""
        return np.where(low > 0, np.sqrt(low * high), _FALL * high)

    def _prove(self):
        """Bring the lower ends up by bounds."""
        near = self.near
        ends = np.minimum(near.upper, self.most)
        unproved, is_first = ends.copy(), np.isinf(near.upper)
        while True:
            is_open = is_first | (self.lower * (1 + self.tol) * _ROUNDING < unproved)
            is_open &= near.is_right & (unproved > _LEAST_PROVED * ends)
            rows = np.flatnonzero(is_open & self._may_be_small())
            if not len(rows):
                return
            radii = self._between(self.lower[rows], unproved[rows])
            radii = np.where(is_first[rows], ends[rows], radii)
            is_first[rows] = False
            self.bar.update(len(rows))
            own = self.unit.scaled_each(radii, self.shape)
            X, y = rows_of(self.X, rows), self.y[rows]
            try:
                proved = certified_samples(self.estimator, X, y, self.classes, own)
            except NoBoundsError:
                return
            self.lower[rows[proved]] = radii[proved]
            unproved[rows[~proved]] = radii[~proved]
            if self._is_late():
                return

    def _decide(self, time_limit, n_jobs):
        """Close the brackets by searches to the end, as far as these get."""
        near = self.near
        unknown = np.minimum(near.upper, self.most)
        is_first = np.ones(len(self.y), dtype=bool)
        for _ in range(_N_SEARCHES):
            unknown = np.minimum(unknown, near.upper)
            is_open = near.is_right & (self.lower * (1 + self.tol) * _ROUNDING < unknown)
            rows = np.flatnonzero(is_open & self._may_be_small())
            if not len(rows) or self._is_late():
                return
            # Most attacks find the nearest counterexample, so that the first search is the last.
            close = np.clip(near.upper[rows] / (1 + self.tol), self.lower[rows], self.most)
            middle = self._between(self.lower[rows], unknown[rows])
            radii = np.where(is_first[rows], close, middle)
            # Half of the time that is left is for later rounds.
            left = (self.deadline - time.monotonic()) / len(rows) / 2
            limit = max(min(left, time_limit), _LEAST_TIME)
            try:
                found = self._searched(rows, radii, time_limit=limit, n_jobs=n_jobs)
            except NoBoundsError:
                return
            self.lower[rows[found.is_proved]] = radii[found.is_proved]
            broken, is_open = rows[found.is_broken], ~found.is_proved & ~found.is_broken
            if len(broken):
                copies = near.clean[broken].copy()
                copies[:, found.free] = found.copies[found.is_broken][:, found.free]
                near.note(broken, copies)
            is_first[rows] = found.is_broken
            unknown[rows[is_open]] = radii[is_open]

    def _searched(self, rows, radii, **options):
        self.bar.update(len(rows))
        own = self.unit.scaled_each(radii, self.shape)
        X, y = rows_of(self.X, rows), self.y[rows]
        return decided_samples(self.estimator, X, y, self.classes, own, **options)
