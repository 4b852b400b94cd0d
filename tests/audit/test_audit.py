"""The numbers of an audit against the public functions and against `predict`."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from sk_adv.audit import _budget as budget
from sk_adv.audit import _fragile_rows, _measurements, audit
from sk_adv.audit._fragile_rows import _candidates
from sk_adv.audit._measurements import Measurements, _implied
from sk_adv.audit._words import percent, radius_text, share
from sk_adv.metrics import (
    adversarial_contribution,
    adversarial_report,
    fragile_samples,
    robustness_radius,
    verify_robustness,
)

SQUARE = {"square": {"attack": "square", "attack_params": {"n_queries": 20}}}


@pytest.mark.parametrize("kind", ["pipeline", "forest_of_passengers", "network", "rule"])
def test_every_number_is_that_of_a_public_function(kind, request):
    model = request.getfixturevalue(kind)
    if kind in ("pipeline", "forest_of_passengers"):
        X, y = request.getfixturevalue("passengers")
        asked = {"age": 3, "fare": "0.1sd"}
    else:
        X, y = request.getfixturevalue("numbers")
        asked = {0: "0.3sd", 1: 2}
        X, y = X[:8], y[:8]
    n_fragile = 1 if kind in ("rule", "network") else 3
    # With time enough, all searches have the same limit, that of the functions.
    found = audit(model, X, y, epsilon=asked, n_fragile=n_fragile, max_seconds=1e6)
    calls = found.settings["calls"]
    same = {"random_state": 0}
    epsilon = found.columns["radius"].to_numpy()
    if hasattr(X, "columns"):
        epsilon = {name: radius for name, radius in zip(X.columns, epsilon, strict=True) if radius}

    def times(multiple):
        if isinstance(epsilon, dict):
            return {name: multiple * radius for name, radius in epsilon.items()}
        return multiple * epsilon

    assert found.n_right == (model.predict(X) == y).sum()
    for point in found.curve.itertuples():
        verdict = verify_robustness(model, X, y, epsilon=times(point.multiple), **same)
        if point.multiple == 0:
            # What can't change is proved, also of models of which nothing else is.
            counts = {"verified": found.n_right, "falsified": len(y) - found.n_right, "unknown": 0}
        else:
            counts = verdict.counts
            assert (point.lower, point.upper) == (verdict.lower, pytest.approx(verdict.upper))
        assert {status: getattr(point, status) for status in counts} == counts
        if point.multiple == 1:
            np.testing.assert_array_equal(found.status, verdict.status)

    contribution = adversarial_contribution(model, X, y, epsilon, **same)
    frame = contribution.to_frame()
    assert found.contribution.attrs["kind"] == contribution.kind
    assert found.contribution.attrs["baseline"] == contribution.baseline
    ours = found.contribution.set_index("column")
    for name in ("contribution", "lower", "upper"):
        np.testing.assert_array_equal(ours[name], frame.loc[ours.index, name])
    assert ours["contribution"].is_monotonic_decreasing

    rows = calls["fragile_samples"]["rows"]
    assert found.fragile.attrs["rows"] == rows.tolist()
    part = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    fragile = fragile_samples(model, part, y[rows], n_samples=n_fragile, scale=epsilon, **same)
    pd.testing.assert_frame_equal(
        found.fragile.drop(columns="position").reset_index(drop=True),
        fragile.reset_index(drop=True),
    )
    labels = X.index[found.fragile["position"]] if hasattr(X, "iloc") else found.fragile["position"]
    assert found.fragile.index.tolist() == labels.tolist()

    names = [name for name in found.attacks["attack"] if name not in ("none", "verdict", "square")]
    attacks = {name: name for name in names} | SQUARE
    expected = adversarial_report(model, X, y, [0, 1], attacks, scale=epsilon, random_state=0)
    ours = found.attacks.set_index("attack")
    clean = expected[(expected["epsilon"] == 0) & (expected["attack"] == "square")]
    columns = ["error", "confidence"]
    np.testing.assert_allclose(ours.loc["none", columns].astype(float), clean[columns].iloc[0])
    at_radius = expected[expected["epsilon"] == 1].set_index("attack")[columns]
    pd.testing.assert_frame_equal(ours.loc[at_radius.index, columns], at_radius)
    assert ours.loc["verdict", "error"] == found.falsified / len(y)


def test_the_rows_that_break_first_are_those_of_all_rows(pipeline, passengers):
    X, y = passengers
    epsilon = {"age": 3.0, "fare": 4.0}
    found = audit(pipeline, X, y, epsilon=epsilon, n_fragile=5).fragile
    radii = robustness_radius(pipeline, X, y, scale=epsilon)
    right = pipeline.predict(X) == y
    expected = np.sort(radii[right])[:5]
    np.testing.assert_allclose(found["radius_upper"], expected)
    for row in found.itertuples():
        copy = X.iloc[[row.position]].copy()
        for column, (before, after) in row.changes.items():
            assert before == copy[column].iloc[0]
            copy[column] = after
        assert pipeline.predict(copy)[0] == row.prediction_after != y[row.position]


@pytest.mark.parametrize("kind", ["verify_robustness", "adversarial_contribution"])
def test_the_arguments_of_each_call_are_told(report, pipeline, passengers, kind, monkeypatch):
    X, y = passengers
    seen = []
    module = budget if kind == "verify_robustness" else _measurements
    function = getattr(module, kind)

    def recorded(estimator, X, y, *args, time_limit, **options):
        seen.append((len(y), time_limit))
        return function(estimator, X, y, *args, time_limit=time_limit, **options)

    monkeypatch.setattr(module, kind, recorded)
    calls = audit(pipeline, X, y).settings["calls"][kind]
    calls = calls if isinstance(calls, list) else [calls]
    told = [(len(y) if c["rows"] is None else len(c["rows"]), c["time_limit"]) for c in calls]
    assert told == seen
    if kind == "verify_robustness":
        assert sorted(call["multiple"] for call in calls) == [0.5, 1.0, 2.0]


def test_radii_that_the_clock_left_open_are_told(rule, numbers):
    X, y = numbers
    short = audit(rule, X, y, epsilon="0.2sd", n_fragile=2, max_seconds=0.5)
    assert any(
        "rows that break first were searched within" in note and "--max-seconds" in note
        for note in short.notes
    )
    assert not short.fragile.attrs["is_proved"]
    found = audit(rule, X, y, epsilon="0.2sd", n_fragile=2, time_limit=1e-4)
    assert any("--time-limit" in note for note in found.notes)


def test_radii_of_trees_have_the_time_that_was_asked_for(
    forest_of_passengers, passengers, monkeypatch
):
    X, y = passengers
    epsilon, limits = {"age": 3.0, "fare": 4.0}, []

    def slow(estimator, X, y, *, time_limit, **options):
        limits.append(time_limit)
        found = fragile_samples(estimator, X, y, time_limit=10.0, **options)
        if time_limit < 10:
            # As if the machine were busy.
            found["radius_lower"] /= 2
        return found

    monkeypatch.setattr(_fragile_rows, "fragile_samples", slow)
    found = audit(forest_of_passengers, X, y, epsilon=epsilon, n_fragile=4)
    assert limits[0] < 10
    assert limits[1:] == [10.0]
    radii = robustness_radius(forest_of_passengers, X, y, scale=epsilon)
    expected = np.sort(radii[forest_of_passengers.predict(X) == y])[:4]
    np.testing.assert_allclose(found.fragile["radius_upper"], expected)
    np.testing.assert_array_equal(found.fragile["radius_lower"], found.fragile["radius_upper"])
    assert found.fragile.attrs["is_proved"]
    assert len(found.fragile.attrs["rows"]) == 4
    assert not any("rows that break first" in note for note in found.notes)


def test_more_radii_where_they_take_no_time(pipeline, passengers, monkeypatch):
    monkeypatch.setattr(_measurements, "FINER", (1000000, 4))
    X, y = passengers
    curve = audit(pipeline, X, y, epsilon={"age": 3, "fare": 4}).curve
    assert curve["multiple"].tolist() == [k / 4 for k in range(9)]
    radii = robustness_radius(pipeline, X, y, scale={"age": 3, "fare": 4})
    right = pipeline.predict(X) == y
    expected = [(right & (radii > multiple)).sum() for multiple in curve["multiple"]]
    assert curve["verified"].tolist() == expected


def test_candidates_hold_the_most_fragile_samples():
    rng = np.random.default_rng(0)
    radii = rng.uniform(0, 3, 40)
    statuses = {m: np.where(radii > m, "verified", "falsified") for m in (0.0, 0.5, 1.0, 2.0)}
    statuses[0.0][:] = "verified"
    for n in (1, 5, 20, 40):
        assert set(np.argsort(radii)[:n]) <= set(_candidates(statuses, n))
    assert len(_candidates(statuses, 5)) < 20


def test_larger_radii_imply_proofs_and_smaller_ones_faults():
    statuses = {
        0.0: np.array(["verified", "verified", "falsified"]),
        1.0: np.array(["falsified", "unknown", "falsified"]),
        2.0: np.array(["falsified", "verified", "falsified"]),
    }
    assert _implied(statuses, 1.5).tolist() == ["falsified", "verified", "falsified"]
    assert _implied(statuses, 0.5).tolist() == ["unknown", "verified", "falsified"]


def test_without_time_what_is_open_is_unknown_and_said(pipeline, passengers):
    # The clock has run out when the first verdicts are there.
    X, y = passengers
    found = audit(pipeline, X, y, epsilon="0.1sd", max_seconds=1e-9)
    whole = audit(pipeline, X, y, epsilon="0.1sd")
    sides = [whole.curve[["lower", "upper"]].to_numpy(), found.curve[["lower", "upper"]].to_numpy()]
    assert (sides[1][:, 0] <= sides[0][:, 0]).all()
    assert (sides[1][:, 1] >= sides[0][:, 1]).all()
    assert found.curve["unknown"].iloc[-1] > 0
    assert found.contribution is None
    assert found.fragile.empty
    text = " ".join(found.notes)
    for part in ("search at", "columns that matter", "rows that break first", "attacks"):
        assert part in text
    # No number is made up in the page.
    assert "The columns that matter</h2>" not in found._repr_html_()


def test_a_search_that_was_cut_off_goes_on_for_open_rows_only(monkeypatch):
    calls = []

    class Verdict:
        def __init__(self, status):
            self.status = np.array(status, dtype="<U9")

    def verify(estimator, X, y, *, time_limit, **options):
        calls.append((len(y), time_limit))
        clock.now += 1.0 if len(calls) == 1 else 0.1
        return Verdict(["verified", "unknown"] if len(calls) == 1 else ["falsified"])

    class clock:
        now = 0.0
        monotonic = staticmethod(lambda: clock.now)

    monkeypatch.setattr(budget, "verify_robustness", verify)
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(budget, "can_search", lambda *args, **options: True)
    X, y = np.zeros((2, 1)), np.zeros(2)
    found = budget.verdicts_within(4.0, None, X, y, time_limit=10.0, n_jobs=1)
    assert calls == [(2, 1.0), (1, 3.0)]
    assert found.status.tolist() == ["verified", "falsified"]
    assert [limit for _, limit in found.passes] == [1.0, 3.0]
    assert found.passes[1][0].tolist() == [1]
    assert not found.is_cut


def test_fewer_rows_serve_for_the_columns_where_time_is_short(pipeline, passengers, monkeypatch):
    monkeypatch.setattr(_measurements, "_FEWEST_SAMPLES", 5)
    seen = []

    def slow(self, multiple, seconds, verdicts=Measurements._verdicts):
        found = verdicts(self, multiple, seconds)
        if multiple == 1:
            # As if a pass took most of the time.
            object.__setattr__(found, "seconds", 70.0)
        return found

    def recorded(estimator, X, y, *args, **options):
        seen.append(len(y))
        return adversarial_contribution(estimator, X, y, *args, **options)

    monkeypatch.setattr(Measurements, "_verdicts", slow)
    monkeypatch.setattr(_measurements, "adversarial_contribution", recorded)
    X, y = passengers
    found = audit(pipeline, X, y, epsilon="0.1sd", max_seconds=100)
    rows = found.contribution.attrs["rows"]
    assert seen == [len(rows)]
    assert 5 <= len(rows) < len(y)
    assert any(f"{len(rows)} of the {len(y)} rows" in note for note in found.notes)


# What may change


def test_categories_and_gaps_stay(report, passengers):
    columns = report.columns.set_index("column")
    assert columns.loc["deck", "why_fixed"] == "is a category for the model"
    assert columns.loc["port", "why_fixed"] == "holds no numbers"
    changed = set().union(*report.fragile["changes"])
    assert changed <= {"age", "fare"}
    missing = passengers[0]["age"].isna().to_numpy()
    for row in report.fragile.itertuples():
        assert not (missing[row.position] and "age" in row.changes)


def test_numbers_that_the_model_transforms_are_not_fixed_in_silence(passengers):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    X, y = passengers
    X = X[["fare", "deck"]]
    columns = make_column_transformer(
        (FunctionTransformer(np.sin), ["fare"]), ("passthrough", ["deck"])
    )
    model = make_pipeline(columns, RandomForestClassifier(5, random_state=0)).fit(X, y)
    with pytest.raises(TypeError, match="Set their radius to 0"):
        audit(model, X, y)
    assert audit(model, X, y, columns=["deck"]).falsified > 0


def test_notes_tell_of_whole_numbers_two_values_and_no_spread(numbers):
    X, y = numbers
    X = np.column_stack([X[:, 0], np.round(X[:, 1]), X[:, 2] > 0, np.r_[1.0, np.zeros(13)]])
    found = audit(LogisticRegression().fit(X, y), X, y, epsilon={0: 0.1, 1: 1, 2: 0.1, 3: "1iqr"})
    text = " ".join(found.notes)
    assert "whole numbers may change by a part of one: 1." in text
    assert "two values at most may change too, in small steps: 2." in text
    assert "The column 3 stays as it is, since it has no spread" in text


def test_arrays_frames_and_names_give_the_same(numbers):
    X, y = numbers
    names = ["a", "b", "c", "d"]
    model = LogisticRegression().fit(X, y)
    one = audit(model, X, y, epsilon={"b": "0.2sd"}, feature_names=names).to_dict()
    frame = pd.DataFrame(X, columns=names)
    two = audit(LogisticRegression().fit(frame, y), frame, y, epsilon={"b": "0.2sd"}).to_dict()
    for found in (one, two):
        # Shares of the seconds that are left.
        del found["contribution"]["time_limit"], found["fragile"]["time_limit"]
    for part in ("verdict", "radius", "curve", "contribution", "fragile"):
        assert one[part] == two[part]


def test_labels_that_the_model_does_not_know_count_as_wrong(pipeline, passengers):
    X, y = passengers
    y = y.astype(object)
    y[:3] = "perhaps"
    found = audit(pipeline, X, y)
    assert "3 rows have labels that the model has never seen (perhaps)" in " ".join(found.notes)
    assert (found.status[:3] == "falsified").all()
    with pytest.raises(ValueError, match="y holds no label that the model knows"):
        audit(pipeline, X, np.full(len(y), "other"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seconds": 0}, "max_seconds must be a number above 0"),
        ({"n_fragile": -1}, "n_fragile must be an integer of at least 0"),
        ({"norm": 1}, "norm must be"),
        ({"time_limit": 0}, "time_limit"),
        ({"feature_names": ["a"]}, "feature_names must have one name"),
    ],
)
def test_wrong_arguments_are_refused(numbers, options, message):
    X, y = numbers
    with pytest.raises(ValueError, match=message):
        audit(LogisticRegression().fit(X, y), X, y, **options)


def test_what_is_no_classifier_of_rows_is_refused(numbers):
    X, y = numbers
    with pytest.raises(TypeError, match="must be a classifier"):
        audit(LinearRegression().fit(X, y), X, y)


# Words


def test_percentages_never_say_more_than_is_known():
    for n in (7, 143, 199, 200, 999):
        for count in range(n + 1):
            low, near, high = (
                float(percent(count, n, end)[:-2]) for end in ("lower", None, "upper")
            )
            exact = 100 * count / n
            assert low <= exact + 1e-9
            assert high >= exact - 1e-9
            assert high - low < 0.1 + 1e-9
            assert abs(near - exact) <= 0.05 + 1e-9
            # Two exact shares, and the ends that they are, make up a whole.
            assert np.isclose(near + float(percent(n - count, n)[:-2]), 100)
            assert np.isclose(low + float(percent(n - count, n, "upper")[:-2]), 100)
    assert (share(0.3), share(0.1 + 0.2, "upper")) == ("30.0 %", "30.0 %")
    assert (share(0.5101), share(0.4899)) == ("51.0 %", "49.0 %")
    # All and none are said of all and none only.
    assert (percent(9999, 10000), percent(1, 10000)) == ("99.9 %", "0.1 %")
    assert (percent(9, 9), percent(0, 9)) == ("100.0 %", "0.0 %")


def test_the_verdict_says_exactly_only_where_nothing_is_unknown(report, open_report):
    n, verified = report.n_samples, report.verified
    assert report.unknown == 0
    assert report.verdict == (
        f"Of {n} rows {report.n_right} ({100 * report.n_right / n:.1f} %) are right. If age may be "
        f"off by 3 and fare by 0.1 iqr, exactly {verified} ({100 * verified / n:.1f} %) stay right."
    )
    n, upper = open_report.n_samples, open_report.n_samples - open_report.falsified
    assert open_report.verified == 0
    assert open_report.verdict.endswith(
        f"If every measurement may be off by 0.2 sd, at most {upper} "
        f"({-(-1000 * upper // n) / 10} %) stay right."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 0.5}, "If every measurement may be off by 0.5,"),
        ({"epsilon": "0.1sd", "norm": 2}, "If every measurement may be off together by 0.1 sd,"),
        ({"epsilon": [0.1, 1, 0.1, 0.1]}, "If every measurement may be off by its radius,"),
        ({"epsilon": "1sd", "columns": [0]}, "If 0 may be off by 1 sd,"),
        ({"epsilon": "1sd", "columns": [0, 1, 2]}, "If 0, 1 and 2 may be off by 1 sd,"),
    ],
)
def test_the_verdict_names_what_may_change(numbers, options, words):
    X, y = numbers
    assert words in audit(LogisticRegression().fit(X, y), X, y, **options).verdict


def test_radii_as_text():
    assert radius_text(0.1, "sd", 2) == "0.2 sd"
    assert radius_text(3.0, "units") == "3"
    assert radius_text(1.0, None, 0.5) == "0.5 × its radius"
