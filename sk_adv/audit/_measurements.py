"""The parts of an audit, all from the public functions of `sk_adv.metrics`."""

import time

import numpy as np

from sk_adv._arrays import predicted_by
from sk_adv._perturbations import column_names
from sk_adv.attacks import perturb
from sk_adv.attacks._estimators import is_attackable
from sk_adv.attacks._objective import NoGradientError
from sk_adv.attacks._table import resolve_attack
from sk_adv.attacks._trees import rows_of
from sk_adv.audit._budget import Clock, verdicts_within
from sk_adv.audit._fragile_rows import fragile_rows
from sk_adv.metrics import adversarial_contribution
from sk_adv.metrics._reports import error_and_confidence
from sk_adv.metrics._verdicts import STATUSES

# The radii of the curve, as multiples of the audit's own.
MULTIPLES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

# Radii between these are added, so many for each radius of the audit, where they take at most this
# many seconds together.
FINER, _SECONDS_OF_FINER = (20, 8), 5.0

# The attacks that are compared, weak ones first, with their arguments.
ATTACKS = {"uniform_noise": {}, "fgsm": {}, "pgd": {}, "square": {"n_queries": 200}}

# Below this number of samples an accuracy that comes back says little.
_FEWEST_SAMPLES = 30


class Measurements:
    """The parts of an audit, with the notes that they leave."""

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
        attacks = self._attacks(clean, main.status)
        bar.update()
        # Larger radii take the most time and tell the least, so they come last.
        bar.set_description("curve")
        self._add_curve([m for m in MULTIPLES if m < 1], statuses, main, 0.3 * self.clock.left)
        bar.update()
        bar.set_description("rows")
        fragile = fragile_rows(self, statuses, n_fragile)
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
        longer = self.longer(min(limit for *_, limit in self.cut))
        self.notes.append(
            f"The time limit ended the search for {', '.join(where)}. They count as unknown; "
            f"{longer} may decide more of them, and so may another run."
        )

    def longer(self, limit):
        """The limit to raise, where a search ended after so many seconds."""
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
        search = self.search_within(seconds, n_open + 0.2 * n_broken * len(self.at_work))
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
                f"{self.longer(limit)} can find closer ends, and another run other ends."
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

    def _attacks(self, clean, status):
        """Errors and confidences under single attacks, and what the verdicts say."""
        import pandas as pd

        rows = [("none", *error_and_confidence(self.estimator, clean, self.y))]
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
        rows.append(("verdict", float((status == "falsified").mean()), np.nan))
        return pd.DataFrame(rows, columns=["attack", "error", "confidence"])

    def search_within(self, seconds, n_searches):
        """The arguments of a search, with a limit at which so many searches take the seconds."""
        limit = seconds / max(n_searches, 1)
        return self.search | {"time_limit": min(self.search["time_limit"], max(limit, 0.01))}


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
    """The verdicts at a radius, as far as those at other radii imply them."""
    found = np.full(len(statuses[0.0]), "unknown", dtype="<U9")
    for other, status in statuses.items():
        if other > multiple:
            found[status == "verified"] = "verified"
        elif other < multiple:
            found[status == "falsified"] = "falsified"
    return found
