"""Radii between two ends, and fragile samples, against closed forms, dense grids and verdicts."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sk_adv.metrics import fragile_samples, robustness_radius, verify_robustness

X, Y = load_iris(return_X_y=True)
PLANE = X[:, 2:]
ROWS = np.arange(65, 150, 12)

pytestmark = pytest.mark.usefixtures("few_steps")


def of(kind, A=PLANE):
    model = {
        "linear": LogisticRegression(max_iter=1000),
        "tree": DecisionTreeClassifier(random_state=0),
        "net": make_pipeline(
            StandardScaler(), MLPClassifier(6, solver="lbfgs", alpha=0.1, random_state=0)
        ),
        "neighbors": KNeighborsClassifier(3),
        "kernel": SVC(),
    }[kind]
    # Two classes make attacks on the network quicker.
    rows = slice(50 if kind == "net" else 0, None, 2)
    return model.fit(A[rows], Y[rows])


def distances_on_a_grid(model, A, labels, scale, norm, most=1.0, n=301):
    """The least size of a step on a grid after which the class is another; up to the spacing."""
    line = np.linspace(-most, most, n)
    steps = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    sizes = np.linalg.norm(steps, ord=norm, axis=1)
    found = []
    for x, label in zip(A, labels, strict=True):
        wrong = model.predict(x + steps * scale) != label
        found.append(sizes[wrong].min(initial=np.inf))
    return np.array(found)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["tree", "net", "neighbors"])
def test_the_ends_enclose_the_distance_on_a_dense_grid(kind, norm):
    model, scale = of(kind), np.array([1.0, 0.5])
    A, b = PLANE[ROWS], Y[ROWS]
    lower, upper = robustness_radius(
        model, A, b, norm=norm, scale=scale, return_bracket=True, random_state=0, tol=0.02
    )
    dense = distances_on_a_grid(model, A, b, scale, norm)
    near = dense < 1
    assert near.sum() > 3
    spacing = 1 / 150
    assert (lower <= dense).all()
    # The grid finds the boundary at most a spacing behind it, unless a wedge lies between points.
    # A random search of few steps stays a little behind.
    share = 1.1 if kind == "neighbors" else 1.03
    assert (upper[near] <= share * dense[near] + 1e-9).all()
    assert (lower <= upper).all()
    if kind in ("tree", "net"):
        assert (lower[near] >= dense[near] - 3 * spacing - 0.03).all()
        # Beyond the largest radius neither end is known.
        known = np.isfinite(upper)
        np.testing.assert_allclose(lower[known], upper[known], rtol=0.021)
        assert (lower[~known] >= 1).all()
    wrong = model.predict(A) != b
    assert not upper[wrong].any()
    if kind == "neighbors":
        assert not lower.any()


@pytest.mark.parametrize("kind", ["net", "kernel"])
def test_verdicts_agree_with_both_ends(kind):
    model = of(kind, X)
    A, b = X[ROWS[::2]], Y[ROWS[::2]]
    lower, upper = robustness_radius(model, A, b, return_bracket=True, random_state=0)
    for i in np.flatnonzero(upper)[:3]:
        options = {"random_state": 0, "time_limit": 2.0}
        below = verify_robustness(model, A[[i]], b[[i]], epsilon=lower[i], **options)
        above = verify_robustness(model, A[[i]], b[[i]], epsilon=upper[i] * 1.001, **options)
        assert below.status[0] == ("verified" if lower[i] else "unknown")
        assert above.status[0] == "falsified"


def test_nothing_is_searched_beyond_the_largest_radius():
    model = of("net")
    A, b = PLANE[54:150:24], Y[54:150:24]
    far, free = (
        robustness_radius(model, A, b, return_bracket=True, random_state=0, **options)[1]
        for options in ({"max_radius": 0.2}, {})
    )
    assert np.isinf(far[free > 0.2]).all()
    assert (free > 0.2).any()
    # At the default every sample can become any other.
    assert np.isfinite(free).all()
    assert (free <= np.ptp(A, axis=0).max() * (1 + 1e-9)).all()


def test_open_brackets_are_told_and_the_lower_end_returned():
    model = of("neighbors")
    with pytest.warns(UserWarning, match="return_bracket=True gives the upper ends"):
        found = robustness_radius(model, PLANE[ROWS[:3]], tol=0.3, random_state=0)
    assert not found.any()


def test_trees_out_of_time_still_have_two_ends():
    A, b = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(15, random_state=0).fit(A[::2], b[::2])
    rows = np.arange(1, 9, 2)
    options = {"scale": A.std(axis=0), "return_bracket": True}
    lower, upper = robustness_radius(forest, A[rows], b[rows], time_limit=1e-9, **options)
    exact, same = robustness_radius(forest, A[rows], b[rows], **options)
    np.testing.assert_array_equal(exact, same)
    assert (lower <= exact + 1e-12).all()
    assert (exact <= upper * (1 + 1e-6)).all()


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["linear", "tree", "net"])
def test_fragile_samples_are_those_of_the_smallest_radii(kind, norm):
    model, scale = of(kind), np.array([1.0, 0.5])
    rows = np.arange(51, 150, 8)
    A, b = pd.DataFrame(PLANE[rows], columns=["length", "width"], index=1000 + rows), Y[rows]
    options = {"norm": norm, "scale": scale, "random_state": 0}
    _, upper = robustness_radius(model, A.to_numpy(), b, return_bracket=True, **options)
    if kind != "net":
        found = fragile_samples(model, A.to_numpy(), b, n_samples=4, **options)
    fitted = slice(50 if kind == "net" else 0, None, 2)
    model.fit(pd.DataFrame(PLANE[fitted], columns=A.columns), Y[fitted])
    named = fragile_samples(model, A, b, n_samples=4, **options)
    right = model.predict(A) == b
    found = named if kind == "net" else found
    assert found.attrs["n_misclassified"] == (~right).sum()
    smallest = np.flatnonzero(right)[np.argsort(upper[right])[:4]]
    np.testing.assert_allclose(found["radius_upper"], upper[smallest], rtol=0.03)
    if kind in ("linear", "tree"):
        # Two thresholds may be equally far.
        np.testing.assert_allclose(found["radius_upper"], upper[smallest], rtol=1e-5)
        np.testing.assert_allclose(upper[found.index], upper[smallest], rtol=1e-5)
        np.testing.assert_array_equal(named.index, 1000 + rows[found.index])
        assert (found["radius_lower"] == found["radius_upper"]).all()
    assert found["radius_upper"].is_monotonic_increasing
    for label, row in named.iterrows():
        copy = A.loc[[label]].copy()
        for name, (before, after) in row["changes"].items():
            assert before == copy[name].iloc[0] != after
            copy[name] = after
        assert model.predict(copy)[0] == row["prediction_after"] != row["label"]
        step = (copy - A.loc[[label]]).to_numpy()[0] / scale
        assert np.linalg.norm(step, ord=norm) <= row["radius_upper"] * (1 + 2e-3)
        sizes = [abs(step[list(A.columns).index(name)]) for name in row["changes"]]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["linear", "tree", "net"])
def test_bounds_make_radii_as_large_as_a_dense_grid_within_them(kind, norm):
    model = of(kind)
    rows = np.arange(52, 150, 8)
    A, b = PLANE[rows], Y[rows]
    bounds = (A.min(axis=0), np.array([A[:, 0].max(), 1.75]))
    found = fragile_samples(model, A, b, n_samples=len(A), norm=norm, bounds=bounds, random_state=0)
    inside = np.clip(A, *bounds)
    line = np.linspace(0, 1, 251)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    points = bounds[0] + points * (bounds[1] - bounds[0])
    labels = model.predict(points)
    assert len(found) > 3
    for i, row in found.iterrows():
        dense = np.linalg.norm(points - inside[i], ord=norm, axis=1)[labels != b[i]].min()
        assert row["radius_lower"] <= dense + 1e-9
        assert row["radius_upper"] >= dense - 0.03
        assert row["radius_upper"] <= 1.03 * dense + 1e-9


def test_categories_and_gaps_stay_as_they_are():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["place"] = rng.choice(["north", "south"], size=len(frame))
    encode = make_column_transformer((OneHotEncoder(), ["place"]), (StandardScaler(), list("abcd")))
    scale = {"a": 0.5, "c": 1.0}
    for last in (LogisticRegression(max_iter=1000), DecisionTreeClassifier(random_state=0)):
        model = make_pipeline(encode, last).fit(frame, Y)
        rows, y = frame.iloc[66:150:16], Y[66:150:16]
        found = fragile_samples(model, rows, y, scale=scale, n_samples=2, random_state=0)
        assert len(found) == 2
        for label, row in found.iterrows():
            assert set(row["changes"]) <= {"a", "c"}
            copy = rows.loc[[label]].copy()
            for name, (_, after) in row["changes"].items():
                copy[name] = after
            assert model.predict(copy)[0] == row["prediction_after"] != row["label"]


def test_where_nothing_can_change_no_sample_is_fragile():
    for kind in ("linear", "neighbors", "tree"):
        found = fragile_samples(of(kind), PLANE, Y, scale=0, random_state=0)
        assert not len(found)
        lower, upper = robustness_radius(of(kind), PLANE, Y, scale=0, return_bracket=True)
        right = of(kind).predict(PLANE) == Y
        assert np.isinf(lower[right]).all()
        assert np.isinf(upper[right]).all()


def test_neighbors_of_a_frame_with_categories_and_gaps(few_steps):
    few_steps["n_queries"] = 20
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(50, 2)), columns=["a", "b"])
    y = np.where(frame["a"] + frame["b"] > 0, "up", "down")
    frame["place"] = pd.Categorical(rng.choice(["north", "south"], size=50))
    frame.loc[::7, "b"] = np.nan
    encode = make_column_transformer((OneHotEncoder(), ["place"]), (SimpleImputer(), ["a", "b"]))
    model = make_pipeline(encode, KNeighborsClassifier(3)).fit(frame[:30], y[:30])
    A, b = frame[30:44], y[30:44]
    found = fragile_samples(model, A, b, n_samples=6, scale={"a": 1.0}, random_state=0)
    assert 2 < len(found) <= 6
    assert not found["radius_lower"].any()
    assert found["radius_upper"].is_monotonic_increasing
    line = np.linspace(-3, 3, 601)
    copies = pd.concat([A.assign(a=A["a"] + t) for t in line])
    wrong = model.predict(copies).reshape(len(line), -1) != b
    dense = pd.Series(np.where(wrong, np.abs(line)[:, None], np.inf).min(axis=0), index=A.index)
    np.testing.assert_allclose(found["radius_upper"], dense[found.index], atol=0.03)
    right = dense[dense > 0].sort_values()
    np.testing.assert_allclose(found["radius_upper"], right[: len(found)], atol=0.03)
    for label, row in found.iterrows():
        assert list(row["changes"]) == ["a"]
        copy = A.loc[[label]].assign(a=row["changes"]["a"][1])
        assert model.predict(copy)[0] == row["prediction_after"] != row["label"]


@pytest.mark.parametrize("kind", ["linear", "tree"])
def test_missing_values_behind_an_imputer_stay_missing(kind):
    A, y = PLANE.copy(), Y
    A[::5, 1] = np.nan
    last = of(kind)
    model = make_pipeline(SimpleImputer(strategy="median"), last).fit(A[::2], y[::2])
    rows = np.arange(60, 150, 10)
    options = {"random_state": 0, "return_bracket": True}
    lower, upper = robustness_radius(model, A[rows], y[rows], **options)
    line = np.linspace(-2, 2, 801)
    for i, row in enumerate(rows):
        assert np.isnan(A[row, 1])
        wrong = model.predict(A[row] + line[:, None] * [1, 0]) != y[row]
        dense = np.abs(line)[wrong].min(initial=np.inf)
        assert lower[i] <= dense
        if dense < 2:
            assert dense - 0.006 <= upper[i] <= 1.02 * dense
    found = fragile_samples(model, A[rows], y[rows], n_samples=3, random_state=0)
    assert len(found)
    for i, row in found.iterrows():
        assert list(row["changes"]) == [0]
        copy = A[rows[i]].copy()
        copy[0] = row["changes"][0][1]
        assert model.predict(copy[None])[0] == row["prediction_after"] != row["label"]


class Stubborn(LogisticRegression):
    """Scores as they should be, and predictions that never change."""

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_samples_whose_counterexample_is_not_confirmed_are_listed():
    rows = np.arange(0, 100, 9)
    model = LogisticRegression(max_iter=1000).fit(PLANE[:100], Y[:100])
    stubborn = Stubborn(max_iter=1000).fit(PLANE[:100], Y[:100])
    expected = fragile_samples(model, PLANE[rows], Y[rows], n_samples=20)
    found = fragile_samples(stubborn, PLANE[rows], Y[rows], n_samples=20)
    right = expected[expected["label"] == 0]
    np.testing.assert_array_equal(found.index, right.index)
    for end in ("radius_lower", "radius_upper"):
        np.testing.assert_allclose(found[end], right[end])
    assert found["prediction_after"].isna().all()
    assert not any(found["changes"])
    assert found.attrs["n_misclassified"] == (Y[rows] != 0).sum()


def test_copies_that_are_not_confirmed_end_the_search(monkeypatch):
    from sk_adv.metrics import _brackets as module

    calls = []

    def attacked(estimator, A, y, perturbations, random_state, *, is_quick):
        calls.append(len(y))
        return np.ones(len(y), dtype=bool), A.copy()

    monkeypatch.setattr(module, "attacked", attacked)
    model = of("neighbors")
    A, b = PLANE[ROWS], Y[ROWS]
    lower, upper = robustness_radius(model, A, b, return_bracket=True, random_state=0)
    assert len(calls) < 40
    # What is left are ways to other samples.
    right = model.predict(A) == b
    far = [
        np.abs(A[model.predict(A) != label] - x).max(1).min() for x, label in zip(A, b, strict=True)
    ]
    assert (upper[right] <= np.array(far)[right] + 1e-9).all()
    assert not lower.any()


@pytest.mark.parametrize("kind", ["neighbors", "net"])
def test_the_time_limit_bounds_attacks_proofs_and_searches_together(kind, few_steps, monkeypatch):
    from sk_adv.metrics import _brackets as module

    few_steps["n_queries"] = 20
    calls = []

    def counted(name, real, *args, **options):
        calls.append(name)
        clock[0] += 10.0
        return real(*args, **options)

    for name in ("attacked", "certified_samples", "decided_samples"):
        monkeypatch.setattr(module, name, partial(counted, name, getattr(module, name)))
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    model, A, b = of(kind), PLANE[ROWS], Y[ROWS]
    options = {"return_bracket": True, "random_state": 0}
    lower, upper = robustness_radius(model, A, b, time_limit=1e-9, **options)
    assert calls == (["attacked"] if kind == "neighbors" else ["attacked", "certified_samples"])
    calls.clear()
    longer = robustness_radius(model, A, b, time_limit=1e6, **options)
    assert len(calls) > 4
    # Ends that are found in less time are true as well.
    assert (lower <= longer[1] * (1 + 1e-9)).all()
    assert (longer[0] <= upper * (1 + 1e-9)).all()
    clock[0] = 0.0
    calls.clear()
    robustness_radius(model, A, b, time_limit=80.0 / len(b), **options)
    # A step that began in time is not cut short, and a proof follows in any case.
    assert clock[0] <= 100


def test_fragile_samples_of_trees_out_of_time_are_those_next_to_others():
    forest = RandomForestClassifier(15, random_state=0).fit(X[::2], Y[::2])
    A, b = X[51:150:8], Y[51:150:8]
    found = fragile_samples(forest, A, b, n_samples=3, time_limit=1e-9)
    exact = robustness_radius(forest, A, b)
    assert len(found) == 3
    for i, row in found.iterrows():
        assert row["radius_lower"] <= exact[i] + 1e-12
        assert exact[i] <= row["radius_upper"] * (1 + 1e-6) < np.inf
        copy = A[i].copy()
        for j, (_, after) in row["changes"].items():
            copy[j] = after
        assert forest.predict(copy[None])[0] == row["prediction_after"] != row["label"]


def test_processes_change_nothing():
    A, b = PLANE[ROWS], Y[ROWS]
    with parallel_config(backend="threading"):
        options = {"n_samples": 3, "random_state": 0}
        found = fragile_samples(of("tree"), A, b, n_jobs=2, **options)
        pd.testing.assert_frame_equal(found, fragile_samples(of("tree"), A, b, **options))
        options = {"random_state": 0, "tol": 0.1, "return_bracket": True}
        found = robustness_radius(of("net"), A[:3], b[:3], n_jobs=2, **options)
        np.testing.assert_array_equal(found, robustness_radius(of("net"), A[:3], b[:3], **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_radius": 0}, "max_radius must be a positive number; got 0"),
        ({"tol": -1}, "tol must be a positive number; got -1"),
        ({"tol": None}, "tol must be a positive number"),
        ({"time_limit": -1}, "time_limit"),
    ],
)
def test_bad_input_to_the_search_is_explained(change, message):
    with pytest.raises(ValueError, match=message):
        robustness_radius(of("neighbors"), PLANE, Y, **change)


def test_bad_numbers_of_samples_are_explained():
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1; got 0"):
        fragile_samples(of("linear"), PLANE, Y, n_samples=0)
