"""The attack "auto" where columns that may change pass a step that as_module has no rule for."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from sk_adv.attacks import perturb
from sk_adv.audit import audit
from sk_adv.metrics import (
    _deciding,
    adversarial_accuracy_score,
    certified_accuracy_score,
    fragile_samples,
    robustness_radius,
    verify_robustness,
)

RADII = {"a": 0.3, "b": 0.3}
FEW = {"n_steps": 5, "n_queries": 60}
SQUARE = {"attack_params": {"n_queries": 60}, "attack": "square"}
STEPS = {
    "quantiles": make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=20)),
    "power": PowerTransformer(),
    "bins": make_pipeline(
        SimpleImputer(), KBinsDiscretizer(4, encode="ordinal", strategy="uniform")
    ),
}


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    """A prediction of a pipeline on a frame takes milliseconds, and attacks ask for a thousand."""
    few = partial(perturb, attack_params=FEW)

    def quick(*args, **options):
        return (few if options["attack"] == "auto" else perturb)(*args, **options)

    monkeypatch.setattr(_deciding, "perturb", quick)
    for name in ("AUTO_AT_OWN_RADII", "QUICK_AT_OWN_RADII"):
        attack = replace(getattr(_deciding, name), params=FEW)
        monkeypatch.setattr(_deciding, name, attack)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(30, 3)), columns=["a", "b", "c"])
    X["kind"] = rng.choice(["p", "q"], len(X))
    y = (
        X["a"] + X["b"] + 0.5 * (X["kind"] == "p") + 0.4 * rng.normal(size=len(X)) > 0.2
    ).to_numpy()
    return X, y


def fitted(step, samples, unseen):
    """A model in which some columns pass a step without a rule; kind is encoded, c is dropped."""
    rest = [name for name in "ab" if name not in unseen]
    parts = [(step, unseen), *([(StandardScaler(), rest)] if rest else [])]
    columns = make_column_transformer(*parts, (OneHotEncoder(), ["kind"]))
    return make_pipeline(columns, LogisticRegression()).fit(*samples)


def broken_on_a_grid(model, X, y, radii):
    """Which samples `predict` gets wrong somewhere on a dense grid over the perturbations."""
    line = np.linspace(-1, 1, 21)
    steps = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2) * list(radii.values())
    copies = X.iloc[np.repeat(np.arange(len(X)), len(steps))].reset_index(drop=True)
    copies[list(radii)] += np.tile(steps, (len(X), 1))
    return (model.predict(copies).reshape(len(X), -1) != y[:, None]).any(axis=1)


@pytest.mark.filterwarnings("ignore:as_module has no rule")
@pytest.mark.parametrize(
    ("name", "unseen"), [("quantiles", ["a", "b"]), ("power", ["a"]), ("bins", ["a"])]
)
def test_auto_breaks_what_random_search_breaks_and_what_a_grid_does(samples, name, unseen):
    X, y = samples
    model = fitted(STEPS[name], samples, unseen)
    options = {"epsilon": RADII, "random_state": 0, "attack_params": FEW}
    searched = perturb(model, X, y, **(options | SQUARE))
    found = perturb(model, X, y, attack="auto", **options)
    pd.testing.assert_frame_equal(found[["c", "kind"]], X[["c", "kind"]])
    assert (abs(found[["a", "b"]] - X[["a", "b"]]) <= 0.3 + 1e-12).all(axis=None)
    is_broken = model.predict(found) != y
    assert (is_broken >= (model.predict(searched) != y)).all()
    on_grid = broken_on_a_grid(model, X, y, RADII)
    assert (is_broken >= on_grid).all() and model.score(X, y) > 1 - on_grid.mean()
    assert adversarial_accuracy_score(model, X, y, **options) == (~is_broken).mean()
    verdict = verify_robustness(model, X, y, epsilon=RADII, random_state=0)
    assert not ((verdict.status == "verified") & on_grid).any()
    np.testing.assert_array_equal(verdict.status == "falsified", is_broken)
    with pytest.raises(TypeError, match="There is no certificate"):
        certified_accuracy_score(model, X, y, epsilon=RADII)


@pytest.mark.filterwarnings("ignore:as_module has no rule")
def test_a_target_and_the_euclidean_norm_are_kept(samples):
    X, y = samples
    model = fitted(STEPS["quantiles"], samples, ["a"])
    options = {"epsilon": RADII, "random_state": 0, "norm": 2, "target": True}
    options["attack_params"] = FEW
    searched = perturb(model, X, y, **(options | SQUARE))
    found = perturb(model, X, y, attack="auto", **options)
    assert (model.predict(found) >= model.predict(searched)).all()
    assert model.predict(found).mean() > model.predict(X).mean()
    assert (np.linalg.norm(found[["a", "b"]] - X[["a", "b"]], axis=1) <= 0.3 + 1e-12).all()


@pytest.mark.filterwarnings("ignore:as_module has no rule")
def test_gaps_stay_and_bounds_hold(samples):
    X, y = samples
    X = X.assign(a=X["a"].where(X["a"] < 1))
    model = fitted(STEPS["quantiles"], (X, y), ["a"])
    found = perturb(
        model, X, y, epsilon=RADII, attack="auto", bounds=(-0.9, 0.8), attack_params=FEW
    )
    np.testing.assert_array_equal(found["a"].isna(), X["a"].isna())
    assert found[["a", "b"]].min(axis=None) >= -0.9 and found[["a", "b"]].max(axis=None) <= 0.8


def test_a_step_without_a_rule_behind_the_first_one_is_searched(samples):
    X, y = samples[0][["a", "b"]], samples[1]
    columns = make_column_transformer(
        (QuantileTransformer(n_quantiles=20), [0]), (StandardScaler(), [1])
    )
    model = make_pipeline(SimpleImputer(), columns, LogisticRegression()).fit(X, y)
    options = {"epsilon": RADII, "random_state": 0, "attack_params": FEW}
    score = adversarial_accuracy_score(model, X, y, **(options | SQUARE))
    verdict = verify_robustness(model, X, y, epsilon=RADII, random_state=0)
    assert verdict.upper == pytest.approx(score)
    assert score == adversarial_accuracy_score(model, X, y, **options)
    assert score < model.score(X, y) and verdict.lower == 0


def test_encoders_that_refuse_new_numbers_stay_and_are_named(samples):
    X, y = samples
    X = X.assign(c=X["c"].round())
    columns = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    with pytest.warns(UserWarning, match=r"\['c'\] stay unperturbed: OneHotEncoder refuses"):
        found = perturb(model, X, y, epsilon=RADII | {"c": 1.0}, attack="auto", attack_params=FEW)
    assert found["c"].equals(X["c"]) and model.score(found, y) < model.score(X, y)


def encoded(samples, classifier):
    """Samples with a column of whole numbers that an encoder takes for categories; a model."""
    X, y = samples[0].assign(c=samples[0]["c"].round()).iloc[:8], samples[1][:8]
    columns = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    return make_pipeline(columns, classifier).fit(X, y), X, y


@pytest.mark.filterwarnings("ignore:.*radii are lower bounds")
@pytest.mark.parametrize(
    "call",
    [
        partial(robustness_radius, time_limit=0.01),
        partial(fragile_samples, n_samples=1, time_limit=0.01),
    ],
)
def test_radii_leave_numbers_that_encoders_refuse(samples, call):
    model, X, y = encoded(samples, LogisticRegression())
    with pytest.warns(UserWarning, match=r"\['c'\] stay unperturbed: OneHotEncoder refuses"):
        call(model, X, y, scale=RADII | {"c": 1.0})


def test_searches_leave_numbers_that_encoders_refuse(samples):
    model, X, y = encoded(samples, DecisionTreeClassifier(max_depth=3))
    with pytest.warns(UserWarning, match=r"\['c'\] stay unperturbed: `predict` refuses"):
        found = perturb(model, X, y, epsilon=RADII | {"c": 1.0}, **SQUARE)
    assert found["c"].equals(X["c"]) and not found["a"].equals(X["a"])


def test_errors_that_are_no_matter_of_columns_are_not_hidden(samples):
    class Broken(DecisionTreeClassifier):
        def predict_proba(self, X):
            raise ValueError("the model is broken")

        predict = predict_proba

    X, y = samples[0][["a", "b"]], samples[1]
    model = Broken().fit(X, y)
    with pytest.raises(ValueError, match="the model is broken"):
        perturb(model, X, y, epsilon=0.1, **SQUARE)


def test_whole_numbers_with_gaps_are_never_proved_to_stay(samples):
    X, y = samples
    X = X.assign(a=(10 * X["a"]).round().astype("Int64").mask(X["a"] > 1.5))
    model = fitted(SimpleImputer(), (X, y), ["a"])
    radii = {"a": 3.0, "b": 0.3}
    verdict = verify_robustness(model, X, y, epsilon=radii)
    numbers = X.assign(a=X["a"].astype("Float64"))
    on_grid = broken_on_a_grid(model, numbers, y, radii)
    np.testing.assert_array_equal(verdict.status == "verified", ~on_grid)


@pytest.mark.parametrize("names", [["a", "b"], ["b"]])
def test_one_warning_names_the_step_and_the_columns(samples, names):
    X, y = samples
    model = fitted(STEPS["quantiles"], samples, ["a", "b"])
    radii = dict.fromkeys(names, 0.3)
    for call in (
        lambda: verify_robustness(model, X, y, epsilon=radii, random_state=0),
        lambda: fragile_samples(model, X[:3], y[:3], scale=radii, n_samples=1),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        (message,) = [str(one.message) for one in caught]
        assert (
            f"has no rule for QuantileTransformer, so that gradients do not see the columns {names}"
            in message
        )
        assert "random search" in message and caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:as_module has no rule", "ignore:The columns")
def test_an_audit_goes_on_where_no_gradient_reaches_the_columns(samples):
    X, y = samples
    # The column c is dropped, so that the module takes it for one that may change.
    model = fitted(STEPS["quantiles"], samples, ["a", "b"])
    report = audit(model, X[:12], y[:12], epsilon=RADII, max_seconds=2)
    errors = report.attacks.set_index("attack")["error"]
    assert errors["verdict"] >= errors.get("square", 0) - 1e-9 and report.verified == 0
    if "pgd" not in errors:
        assert any("pgd" in note for note in report.notes)


def test_an_array_for_a_model_of_a_frame_is_told_of_once(samples):
    X, y = samples[0][["a", "b"]], samples[1]
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    searched = make_pipeline(QuantileTransformer(n_quantiles=20), LogisticRegression()).fit(X, y)
    for model in (scaled, searched):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fragile_samples(model, X[:6].to_numpy(), y[:6], scale=0.3, n_samples=1)
        (message,) = [str(one.message) for one in caught]
        assert "X does not have valid feature names" in message
