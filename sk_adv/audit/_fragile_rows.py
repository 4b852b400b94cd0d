"""The samples that break first, within the time of an audit."""

import time

import numpy as np

from sk_adv._perturbations import column_names
from sk_adv.attacks._trees import rows_of
from sk_adv.audit._budget import can_search
from sk_adv.metrics import fragile_samples, verify_robustness
from sk_adv.tree._as_trees import is_made_of_trees


def fragile_rows(work, statuses, n_samples):
    """The samples that break first, among those that are right."""
    rows = _candidates(statuses, n_samples)
    if not len(rows) or not n_samples:
        return _no_fragile()
    if not work.clock.left:
        work.notes.append("There was no time to find the rows that break first.")
        return _no_fragile()
    # A radius takes several searches.
    search = work.search_within(0.4 * work.clock.left, 5 * len(rows))
    start = time.monotonic()
    found = _among(work, rows, n_samples, search)
    took = time.monotonic() - start
    others = np.zeros(0, dtype=int)
    if is_made_of_trees(work.estimator):
        found, others, rows, search = _among_exact(work, found, rows, n_samples, search)
        is_cut = _is_open(found) or len(others) > 0
    else:
        is_cut = _is_open(found) and _may_be_cut(work, took, rows, search["time_limit"])
    limit = search["time_limit"]
    work.calls["fragile_samples"] = {
        "rows": rows,
        "n_samples": min(n_samples, len(rows)),
        "time_limit": limit,
    }
    if is_cut:
        work.notes.append(
            f"The rows that break first were searched within {limit:.2g} s a row: "
            f"{work.longer(limit)} can find smaller radii, and another run other ones."
        )
    is_proved = not _is_open(found) and not len(others)
    names = dict(zip(column_names(work.X) or range(len(work.names)), work.names, strict=True))
    found = found.copy()
    found["changes"] = [
        {names[column]: pair for column, pair in changes.items()} for changes in found.changes
    ]
    found.insert(0, "position", rows[np.asarray(found.index, dtype=int)])
    found.index = work.X.index[found["position"]] if hasattr(work.X, "iloc") else found["position"]
    found.attrs = {"rows": rows.tolist(), "time_limit": limit, "is_proved": is_proved}
    return found


def _among(work, rows, n_samples, search):
    """The samples that break first, with their positions among the rows as the index."""
    part = rows_of(work.X, rows)
    if hasattr(part, "iloc"):
        # An index need not be unique.
        part = part.reset_index(drop=True)
    return fragile_samples(
        work.estimator,
        part,
        work.y[rows],
        n_samples=min(n_samples, len(rows)),
        scale=work.epsilon(),
        **work.threat,
        **search,
    )


def _among_exact(work, found, rows, n_samples, search):
    """The same of trees, whose radii are exact if only there is time: the few that matter have it.

    Returns
    -------
    found : DataFrame
    others : ndarray
        Rows that may have a smaller radius than the last one found.
    rows, search
        Among which rows the last search was, and its arguments.
    """
    others = _may_break_before(work, found, rows[found.index], rows, search)
    is_short = search["time_limit"] < work.search["time_limit"]
    if is_short and (_is_open(found) or 0 < len(others) <= n_samples):
        some = others if len(others) <= n_samples else []
        rows, search = np.union1d(rows[found.index], some).astype(int), work.search
        found = _among(work, rows, n_samples, search)
        others = _may_break_before(work, found, rows[found.index], rows, search)
    return found, others, rows, search


def _may_break_before(work, found, listed, rows, search):
    """Those of the rows, not found, that may have a smaller radius than the last one found."""
    rest = np.setdiff1d(rows, listed)
    last = found["radius_upper"].max() if len(found) else np.nan
    if not len(rest) or not np.isfinite(last):
        return rest
    # In the Euclidean norm, radii of trees are exact to a relative 1e-6.
    multiple = float(last * (1 - 2e-6))
    call = {"multiple": multiple, "rows": rest, "time_limit": search["time_limit"]}
    work.calls["verify_robustness"].append(call)
    verdict = verify_robustness(
        work.estimator,
        rows_of(work.X, rest),
        work.y[rest],
        epsilon=work.epsilon(multiple),
        **work.threat,
        **search,
    )
    return rest[verdict.status != "verified"]


def _may_be_cut(work, took, rows, limit):
    """Whether time may have ended a search for radii, which takes such a limit in the mean."""
    some, y = rows_of(work.X, rows[:1]), work.y[rows[:1]]
    threat = {"epsilon": work.epsilon(), **work.threat}
    # A search to the end gets a part of the time of its row; attacks have half of all time.
    if can_search(work.estimator, some, y, **threat):
        return took >= 0.2 * limit
    return took >= 0.5 * limit * len(rows)


def _is_open(found):
    """Whether some radius of `fragile_samples` is not exact."""
    return bool((found["radius_lower"] < found["radius_upper"]).any())


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
