"""The numbers of an audit, all from the public functions of `sk_adv.metrics`."""

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
from sk_adv._arrays import check_samples_kind, predicted_by
from sk_adv._perturbations import check_norm, column_names, sample_shape
from sk_adv._validation import check_dense, name_of
from sk_adv._warnings import tells_once
from sk_adv.attacks import perturb
from sk_adv.attacks._estimators import check_classifier, is_attackable
from sk_adv.attacks._objective import NoGradientError
from sk_adv.attacks._table import resolve_attack
from sk_adv.attacks._trees import check_n_jobs, check_time_limit, rows_of
from sk_adv.audit._budget import Clock, can_search, verdicts_within
from sk_adv.audit._columns import taken_as_categories
from sk_adv.audit._radii import column_radii, numbers_of_column, parse_radius
from sk_adv.audit._report import AuditReport
from sk_adv.metrics import adversarial_contribution, fragile_samples, verify_robustness
from sk_adv.metrics._reports import error_and_confidence
from sk_adv.metrics._verdicts import STATUSES
from sk_adv.tree._as_trees import is_made_of_trees

# The radii of the curve, as multiples of the audit's own.
MULTIPLES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

# Radii between these are added, so many for each radius of the audit, where they take at most this
# many seconds together.
FINER, _SECONDS_OF_FINER = (20, 8), 5.0

# The attacks that are compared, weak ones first, with their arguments.
ATTACKS = {"uniform_noise": {}, "fgsm": {}, "pgd": {}, "square": {"n_queries": 200}}

# Below this number of samples an accuracy that comes back says little.
_FEWEST_SAMPLES = 30


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
    work = _Work(
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


class _Work:
    """What the parts of an audit share, and the notes that they leave."""

    def __init__(self, estimator, X, y, names, radii, *, threat, search, clock):
        self.estimator, self.X, self.y, self.names = estimator, X, y, names
        self.threat, self.search, self.clock = threat, search, clock
        # The arguments of the public functions that differ from call to call.
        self.notes, self.calls, self.cut = [], {"verify_robustness": []}, []
        radius = np.array([column.radius for column in radii])
        # By name, a column without an entry stays as it is, whatever it holds.
        self.named = column_names(X) is not None
        self.radius = radius
        self.at_work = np.flatnonzero(radius > 0)

    def epsilon(self, multiple=1.0):
        """The radii of the columns, as the public functions take them."""
        radius = multiple * self.radius
        if not self.named:
            return radius
        names = column_names(self.X)
        return {names[j]: float(radius[j]) for j in self.at_work}

    def run(self, n_fragile, bar):
        """The numbers of the report by the names of its attributes."""
        bar.set_description("verdict")
        clean = perturb(
            self.estimator,
            self.X,
            self.y,
            epsilon=self.epsilon(0.0),
            attack="uniform_noise",
            norm=self.threat["norm"],
            bounds=self.threat["bounds"],
            random_state=0,
        )
        right = predicted_by(self.estimator, clean) == self.y
        statuses = {0.0: np.where(right, "verified", "falsified").astype("<U9")}
        main = self._verdicts(1.0, 0.35 * self.clock.left)
        statuses[1.0] = main.status
        bar.update()
        bar.set_description("attacks")
        attacks = self._attacks(right, main.status)
        bar.update()
        # Larger radii take the most time and tell the least, so they come last.
        bar.set_description("curve")
        self._add_curve([m for m in MULTIPLES if m < 1], statuses, main, 0.3 * self.clock.left)
        bar.update()
        bar.set_description("rows")
        fragile = self._fragile(statuses, n_fragile)
        bar.update()
        bar.set_description("columns")
        contribution = self._contribution(main)
        bar.update()
        bar.set_description("curve")
        self._add_curve([m for m in MULTIPLES if m > 1], statuses, main, self.clock.left)
        bar.update()
        self._refine_curve(statuses, main)
        self._note_what_was_cut()
        missed = [multiple for multiple in MULTIPLES if multiple not in statuses]
        for multiple in missed:
            statuses[multiple] = _implied(statuses, multiple)
        if missed:
            self.notes.append(
                "There was no time to search at "
                + ", ".join(f"{multiple:g}" for multiple in missed)
                + " times the radius: there, only what other radii imply is known."
            )
        return {
            "n_samples": len(self.y),
            "n_right": int(right.sum()),
            "status": main.status,
            "curve": _curve(statuses),
            "contribution": contribution,
            "fragile": fragile,
            "attacks": attacks,
        }

    def _verdicts(self, multiple, seconds):
        found = verdicts_within(
            seconds,
            self.estimator,
            self.X,
            self.y,
            epsilon=self.epsilon(multiple),
            **self.threat,
            **self.search,
        )
        for rows, limit in found.passes:
            call = {"multiple": multiple, "rows": rows, "time_limit": limit}
            self.calls["verify_robustness"].append(call)
        if found.is_cut:
            n_open = int((found.status == "unknown").sum())
            self.cut.append((multiple, n_open, found.time_limit))
        return found

    def _note_what_was_cut(self):
        """Say at which radii a time limit left samples unknown."""
        if not self.cut:
            return
        where = [
            f"{n_open} rows at {multiple:g} × the radius ({limit:.2g} s each)"
            for multiple, n_open, limit in sorted(self.cut)
        ]
        longer = self._longer(min(limit for *_, limit in self.cut))
        self.notes.append(
            f"The time limit ended the search for {', '.join(where)}. They count as unknown; "
            f"{longer} may decide more of them, and so may another run."
        )

    def _longer(self, limit):
        """What to raise, where a search ended after so many seconds."""
        if limit < self.search["time_limit"]:
            return "a longer --max-seconds (max_seconds)"
        return "a longer --time-limit (time_limit)"

    def _add_curve(self, multiples, statuses, main, seconds):
        """The verdicts at more radii, for as long as the seconds last."""
        clock, longest = Clock(min(seconds, self.clock.left)), main.seconds
        for i, multiple in enumerate(multiples):
            # At a smaller radius fewer samples need an attack, so a pass takes less.
            enough = clock.left > 0 if multiple < 1 else clock.left > longest
            if enough and multiple not in statuses:
                found = self._verdicts(multiple, clock.left / (len(multiples) - i))
                statuses[multiple] = found.status
                longest = max(longest, found.seconds)

    def _refine_curve(self, statuses, main):
        """More radii, where they take next to no time."""
        start = time.monotonic()
        most = min(_SECONDS_OF_FINER, 0.2 * self.clock.left)
        for n in FINER:
            radii = [k / n for k in range(1, int(n * max(MULTIPLES)))]
            radii = [multiple for multiple in radii if multiple not in statuses]
            if main.seconds * len(radii) < most:
                for multiple in radii:
                    # No more than twice the time, if passes take longer than was expected.
                    if time.monotonic() - start < 2 * most:
                        statuses[multiple] = self._verdicts(multiple, most).status
                return

    def _contribution(self, main):
        """The columns that the adversary uses, on as many rows as there is time for."""
        n, n_broken = len(self.y), int((main.status == "falsified").sum())
        seconds = 0.5 * self.clock.left
        # Each fixed column is a search among the broken samples.
        expected = main.seconds * (1 + len(self.at_work) * n_broken / n)
        rows = np.arange(n)
        if expected > seconds:
            size = int(n * seconds / expected)
            if size < _FEWEST_SAMPLES:
                self.notes.append("There was no time to find the columns that matter.")
                return None
            drawn = np.random.RandomState(self.threat["random_state"]).permutation(n)
            rows = np.sort(drawn[:size])
            self.notes.append(
                f"The columns that matter were measured on {size} of the {n} rows, drawn at "
                "random, as the time for the report was short."
            )
        n_open = int((main.status[rows] == "unknown").sum())
        search = self._search_within(seconds, n_open + 0.2 * n_broken * len(self.at_work))
        start = time.monotonic()
        found = adversarial_contribution(
            self.estimator,
            rows_of(self.X, rows),
            self.y[rows],
            self.epsilon(),
            **self.threat,
            **search,
        )
        took, limit = time.monotonic() - start, search["time_limit"]
        self.calls["adversarial_contribution"] = {
            "rows": rows if len(rows) < n else None,
            "time_limit": limit,
        }
        # A search that is cut off lasts at least as long as the share of a sample and a column.
        is_open = found.kind != "share" and (found.lower < found.upper).any()
        if is_open and took >= 0.2 * limit / len(self.at_work):
            self.notes.append(
                f"The columns that matter were searched within {limit:.2g} s a row: "
                f"{self._longer(limit)} can find closer ends, and another run other ends."
            )
        import pandas as pd

        frame = pd.DataFrame(
            {
                "column": self.names,
                "contribution": found.contribution,
                "lower": found.lower,
                "upper": found.upper,
            }
        ).iloc[self.at_work]
        frame = frame.sort_values(["contribution", "upper"], ascending=False, kind="stable")
        frame.attrs = {
            "kind": found.kind,
            "baseline": found.baseline,
            "rows": rows.tolist() if len(rows) < n else None,
            "time_limit": search["time_limit"],
        }
        return frame.reset_index(drop=True)

    def _fragile(self, statuses, n_samples):
        """The samples that break first, among those that are right."""
        rows = _candidates(statuses, n_samples)
        if not len(rows) or not n_samples:
            return _no_fragile()
        if not self.clock.left:
            self.notes.append("There was no time to find the rows that break first.")
            return _no_fragile()
        # A radius takes several searches.
        search = self._search_within(0.4 * self.clock.left, 5 * len(rows))
        start = time.monotonic()
        found = self._fragile_among(rows, n_samples, search)
        took = time.monotonic() - start
        others = np.zeros(0, dtype=int)
        if is_made_of_trees(self.estimator):
            others = self._may_break_before(found, rows[found.index], rows, search)
            is_short = search["time_limit"] < self.search["time_limit"]
            if is_short and (_is_open(found) or 0 < len(others) <= n_samples):
                # Radii of trees are exact if only there is time, so the few that matter have it.
                some = others if len(others) <= n_samples else []
                again = np.union1d(rows[found.index], some).astype(int)
                search = self.search
                found = self._fragile_among(again, n_samples, search)
                others = self._may_break_before(found, again[found.index], rows, search)
                rows = again
            is_cut = _is_open(found) or len(others) > 0
        else:
            is_cut = _is_open(found) and self._may_be_cut(took, rows, search["time_limit"])
        limit = search["time_limit"]
        self.calls["fragile_samples"] = {
            "rows": rows,
            "n_samples": min(n_samples, len(rows)),
            "time_limit": limit,
        }
        if is_cut:
            self.notes.append(
                f"The rows that break first were searched within {limit:.2g} s a row: "
                f"{self._longer(limit)} can find smaller radii, and another run other ones."
            )
        is_proved = not _is_open(found) and not len(others)
        names = dict(zip(column_names(self.X) or range(len(self.names)), self.names, strict=True))
        found = found.copy()
        found["changes"] = [
            {names[column]: pair for column, pair in changes.items()} for changes in found.changes
        ]
        found.insert(0, "position", rows[np.asarray(found.index, dtype=int)])
        found.index = (
            self.X.index[found["position"]] if hasattr(self.X, "iloc") else found["position"]
        )
        found.attrs = {"rows": rows.tolist(), "time_limit": limit, "is_proved": is_proved}
        return found

    def _fragile_among(self, rows, n_samples, search):
        """The samples that break first, with their positions among the rows as the index."""
        part = rows_of(self.X, rows)
        if hasattr(part, "iloc"):
            # An index need not be unique.
            part = part.reset_index(drop=True)
        return fragile_samples(
            self.estimator,
            part,
            self.y[rows],
            n_samples=min(n_samples, len(rows)),
            scale=self.epsilon(),
            **self.threat,
            **search,
        )

    def _may_break_before(self, found, listed, rows, search):
        """Those of the rows, not found, that may have a smaller radius than the last one found."""
        rest = np.setdiff1d(rows, listed)
        last = found["radius_upper"].max() if len(found) else np.nan
        if not len(rest) or not np.isfinite(last):
            return rest
        # In the Euclidean norm, radii of trees are exact to a relative 1e-6.
        multiple = float(last * (1 - 2e-6))
        call = {"multiple": multiple, "rows": rest, "time_limit": search["time_limit"]}
        self.calls["verify_robustness"].append(call)
        verdict = verify_robustness(
            self.estimator,
            rows_of(self.X, rest),
            self.y[rest],
            epsilon=self.epsilon(multiple),
            **self.threat,
            **search,
        )
        return rest[verdict.status != "verified"]

    def _may_be_cut(self, took, rows, limit):
        """Whether time may have ended a search for radii, which takes such a limit in the mean."""
        some, y = rows_of(self.X, rows[:1]), self.y[rows[:1]]
        threat = {"epsilon": self.epsilon(), **self.threat}
        # A search to the end gets a part of the time of its row; attacks have half of all time.
        if can_search(self.estimator, some, y, **threat):
            return took >= 0.2 * limit
        return took >= 0.5 * limit * len(rows)

    def _attacks(self, right, status):
        """Errors and confidences under single attacks, and what the verdicts say."""
        import pandas as pd

        n = len(self.y)
        rows = []
        skipped, blind = [], []
        for name, params in ATTACKS.items():
            attack = resolve_attack(name, params)
            if attack.attack.needs == "module" and not is_attackable(self.estimator, attack):
                continue
            if not self.clock.left:
                skipped.append(name)
                continue
            try:
                copies = perturb(
                    self.estimator,
                    self.X,
                    self.y,
                    epsilon=self.epsilon(),
                    attack=attack,
                    **self.threat,
                )
            except NoGradientError:
                blind.append(name)
                continue
            rows.append((name, *error_and_confidence(self.estimator, copies, self.y)))
        if blind:
            self.notes.append(
                f"The attacks {', '.join(blind)} were left out: they need a gradient, and none "
                "reaches the columns that may change."
            )
        if skipped:
            self.notes.append(f"There was no time for the attacks {', '.join(skipped)}.")
        confidence = error_and_confidence(self.estimator, self.X, self.y)[1]
        rows.insert(0, ("none", float(1 - right.mean()), confidence))
        rows.append(("verdict", float((status == "falsified").sum() / n), np.nan))
        return pd.DataFrame(rows, columns=["attack", "error", "confidence"])

    def _search_within(self, seconds, n_searches):
        """The arguments of a search, with a limit at which so many searches take the seconds."""
        limit = seconds / max(n_searches, 1)
        return self.search | {"time_limit": min(self.search["time_limit"], max(limit, 0.01))}


def _is_open(found):
    """Whether some radius of `fragile_samples` is not exact."""
    return bool((found["radius_lower"] < found["radius_upper"]).any())


def _curve(statuses):
    import pandas as pd

    rows = []
    for multiple in sorted(statuses):
        counts = [int((statuses[multiple] == word).sum()) for word in STATUSES]
        n = sum(counts)
        lower, upper = counts[0] / n, 1 - counts[1] / n if counts[2] else counts[0] / n
        rows.append((multiple, *counts, lower, upper))
    return pd.DataFrame(rows, columns=["multiple", *STATUSES, "lower", "upper"])


def _implied(statuses, multiple):
    """What the verdicts at other radii say of the one at this radius."""
    found = np.full(len(statuses[0.0]), "unknown", dtype="<U9")
    for other, status in statuses.items():
        if other > multiple:
            found[status == "verified"] = "verified"
        elif other < multiple:
            found[status == "falsified"] = "falsified"
    return found


def _candidates(statuses, n_samples):
    """Positions of right samples, among which are those that break first.

    At the smallest radius that falsifies enough of them, all others that are verified have a larger
    radius than these.
    """
    right = statuses[0.0] == "verified"
    for multiple in sorted(statuses):
        broken = right & (statuses[multiple] == "falsified")
        if broken.sum() >= n_samples:
            return np.flatnonzero(right & (statuses[multiple] != "verified"))
    return np.flatnonzero(right)


def _no_fragile():
    import pandas as pd

    names = ["position", "label", "prediction_after", "radius_lower", "radius_upper", "changes"]
    return pd.DataFrame(columns=names)


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
