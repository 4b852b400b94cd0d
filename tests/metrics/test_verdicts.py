"""Verdicts against the closed form, grids of the estimators' own predictions, and attacks."""

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sk_adv.inspection import RobustnessCurveDisplay
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    certified_accuracy_score,
    make_adversarial_scorer,
    robustness_radius,
    verify_robustness,
)

X, Y = load_breast_cancer(return_X_y=True)
SCALE = X.std(axis=0)
TRAIN, TEST = np.arange(0, 569, 2), np.arange(1, 41, 2)


def of(kind):
    model = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(15, random_state=0),
        "boosting": make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=20)),
        "net": make_pipeline(
            StandardScaler(), MLPClassifier(8, max_iter=60, random_state=0, tol=1e-2)
        ),
        "naive Bayes": make_pipeline(StandardScaler(), BernoulliNB()),
        "kernel": make_pipeline(StandardScaler(), SVC()),
    }[kind]
    return model.fit(X[TRAIN], Y[TRAIN])


KINDS = ["linear", "forest", "boosting", "net", "naive Bayes", "kernel"]


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_bracket_every_attack_and_copies_are_confirmed(kind, norm):
    model, A, b = of(kind), X[TEST], Y[TEST]
    options = {"epsilon": 0.2 * SCALE, "norm": norm, "bounds": (X.min(axis=0), X.max(axis=0))}
    verdict = verify_robustness(model, A, b, random_state=0, **options)
    assert 0 <= verdict.lower <= verdict.upper <= model.score(A, b)
    if "unknown" not in verdict.status:
        assert verdict.lower == verdict.upper
    if kind in ("linear", "forest", "boosting"):
        assert "unknown" not in verdict.status
    if kind in ("naive Bayes", "kernel"):
        assert "verified" not in verdict.status

    wrong = verdict.status == "falsified"
    copies = verdict.counterexamples
    assert (model.predict(copies[wrong]) != b[wrong]).all()
    np.testing.assert_array_equal(copies[~wrong], A[~wrong])
    lengths = np.linalg.norm((copies - A) / options["epsilon"], ord=norm, axis=1)
    assert lengths.max() <= 1 + 1e-9
    assert (copies >= options["bounds"][0]).all()
    assert (copies <= options["bounds"][1]).all()

    for attack, params in [
        ("square", {"n_queries": 50}),
        ("uniform_noise", {}),
        ("pgd", {"n_steps": 5}),
    ]:
        surrogate = None
        if attack == "pgd" and kind in ("forest", "boosting", "naive Bayes"):
            surrogate = make_pipeline(StandardScaler(), LogisticRegression())
        score = adversarial_accuracy_score(
            model,
            A,
            b,
            attack=attack,
            attack_params=params,
            surrogate=surrogate,
            random_state=0,
            **options,
        )
        assert score >= verdict.lower


def test_linear_verdicts_are_those_of_the_closed_form():
    model, A, b = of("linear"), X[TEST], Y[TEST]
    weights = model[-1].coef_[0] / model[0].scale_
    signed = np.where(b == 1, 1, -1) * model.decision_function(A)
    certain = signed > (0.2 * SCALE * np.abs(weights)).sum()
    verdict = verify_robustness(model, A, b, epsilon=0.2 * SCALE)
    np.testing.assert_array_equal(verdict.status == "verified", certain)


@pytest.mark.parametrize("kind", ["forest", "boosting"])
def test_all_doors_agree_on_trees(kind):
    model, A, b = of(kind), X[TEST], Y[TEST]
    verdict = verify_robustness(model, A, b, epsilon=0.2 * SCALE)
    exact = {"attack": "exact", "epsilon": 0.2 * SCALE}
    assert adversarial_accuracy_score(model, A, b, **exact) == verdict.upper
    assert certified_accuracy_score(model, A, b, epsilon=0.2 * SCALE) == verdict.lower
    assert make_adversarial_scorer(**exact)(model, A, b) == verdict.upper
    radii = robustness_radius(model, A, b, scale=SCALE)
    np.testing.assert_array_equal(radii > 0.2, verdict.status == "verified")
    report = adversarial_report(model, A, b, [0.2], ["exact", "square"], scale=SCALE)
    assert report["certified_error"].to_list() == pytest.approx([1 - verdict.lower] * 2)
    assert report["error"][0] == pytest.approx(1 - verdict.upper)
    curve = RobustnessCurveDisplay.from_estimator(
        model, A, b, epsilons=[0.2], scale=SCALE, attacks="exact"
    )
    assert curve.errors == pytest.approx([1 - verdict.upper])


def test_the_container_and_its_types_are_kept():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=120),
            "kind": rng.choice(["x", "y"], 120),
            "n": rng.integers(0, 9, 120),
        }
    )
    y = np.where((frame["a"] > 0) ^ (frame["kind"] == "x"), "yes", "no")
    encoders = make_column_transformer(
        (OneHotEncoder(), ["kind"]), (StandardScaler(), ["a"]), remainder="passthrough"
    )
    for last in (RandomForestClassifier(9, random_state=0), KNeighborsClassifier()):
        model = make_pipeline(encoders, last).fit(frame[:80], y[:80])
        rest = frame[100:]
        verdict = verify_robustness(model, rest, y[100:], epsilon={"a": 0.5}, random_state=0)
        copies = verdict.counterexamples
        pd.testing.assert_frame_equal(copies[["kind", "n"]], rest[["kind", "n"]])
        wrong = verdict.status == "falsified"
        assert wrong.any()
        assert (model.predict(copies[wrong]) != y[100:][wrong]).all()
        assert (copies["a"] - rest["a"]).abs().max() <= 0.5 + 1e-9

    model = RandomForestClassifier(9, random_state=0).fit(X[TRAIN].astype(np.float32), Y[TRAIN])
    for A in (X[TEST].astype(np.float32), torch.tensor(X[TEST], dtype=torch.float32)):
        verdict = verify_robustness(model, A, Y[TEST], epsilon=0.2 * SCALE)
        assert type(verdict.counterexamples) is type(A)
        assert verdict.counterexamples.dtype == A.dtype
        wrong = verdict.status == "falsified"
        assert (model.predict(verdict.counterexamples[wrong]) != Y[TEST][wrong]).all()
    verdict = verify_robustness(model, X[TEST].tolist(), Y[TEST], epsilon=0.2 * SCALE)
    np.testing.assert_array_equal(verdict.status == "falsified", wrong)


def test_weights_count_in_both_ends():
    model, A, b = of("forest"), X[TEST], Y[TEST]
    plain = verify_robustness(model, A, b, epsilon=0.2 * SCALE)
    weight = np.where(plain.status == "verified", 3.0, 1.0)
    verdict = verify_robustness(model, A, b, epsilon=0.2 * SCALE, sample_weight=weight)
    n = (plain.status == "verified").sum()
    assert verdict.lower == pytest.approx(3 * n / (3 * n + len(b) - n))


def test_what_time_leaves_open_is_unknown_and_never_hidden():
    # Many full trees and a large radius: a search of a second and more for each sample.
    model = ExtraTreesClassifier(60, random_state=0).fit(X[TRAIN], Y[TRAIN])
    A, b = X[TEST][:10], Y[TEST][:10]
    exact = verify_robustness(model, A, b, epsilon=0.4 * SCALE, time_limit=60)
    hurried = verify_robustness(model, A, b, epsilon=0.4 * SCALE, time_limit=1e-9)
    assert "unknown" not in exact.status
    assert "unknown" in hurried.status
    assert hurried.lower <= exact.lower <= exact.upper <= hurried.upper
    assert hurried.lower < hurried.upper
    with pytest.warns(UserWarning, match="not decided within 1e-09 s each"):
        adversarial_accuracy_score(
            model,
            A,
            b,
            epsilon=0.4 * SCALE,
            attack="exact",
            attack_params={"time_limit": 1e-9},
        )
    with pytest.warns(UserWarning, match="radii are lower bounds"):
        radii = robustness_radius(model, A[:3], b[:3], scale=SCALE, time_limit=1e-9)
    assert (radii <= robustness_radius(model, A[:3], b[:3], scale=SCALE) + 1e-12).all()


def test_processes_find_the_same():
    model, A, b = of("forest"), X[TEST], Y[TEST]
    one = verify_robustness(model, A, b, epsilon=0.2 * SCALE)
    # Forked processes start at once, those of the default backend after an import of torch.
    with parallel_config(backend="multiprocessing"):
        two = verify_robustness(model, A, b, epsilon=0.2 * SCALE, n_jobs=2)
    np.testing.assert_array_equal(one.status, two.status)


def test_the_printed_forms_count_the_samples():
    A, b = load_iris(return_X_y=True)
    model = DecisionTreeClassifier(random_state=0).fit(A[::2], b[::2])
    verdict = verify_robustness(model, A[1::2], b[1::2], epsilon=0.3)
    counts = [int((verdict.status == name).sum()) for name in ("verified", "falsified")]
    assert repr(verdict).startswith(
        f"RobustnessVerdict(verified={counts[0]}, falsified={counts[1]}, unknown=0, lower="
    )
    page = verdict._repr_html_()
    assert page.startswith("<table>")
    assert f"<td>{counts[0]}</td>" in page


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": -1}, ValueError, "epsilon must be finite and at least 0"),
        ({"epsilon": 0.1, "norm": 1}, ValueError, "norm must be numpy.inf or 2"),
        ({"epsilon": 0.1, "time_limit": 0}, ValueError, "time_limit must be a positive number"),
        ({"epsilon": 0.1, "time_limit": "1s"}, ValueError, "time_limit must be a positive number"),
        ({"epsilon": [0.1, 0.2]}, ValueError, "one entry per feature"),
        ({"epsilon": 0.1, "bounds": (1, 0)}, ValueError, "low <= high"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(options, error, message):
    with pytest.raises(error, match=message):
        verify_robustness(of("forest"), X[TEST], Y[TEST], **options)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (DecisionTreeRegressor().fit(X[:50], Y[:50]), TypeError, "must be a classifier"),
        (RandomForestClassifier(), Exception, "not fitted yet"),
        (
            DecisionTreeClassifier().fit(X[:50], np.column_stack([Y, Y])[:50]),
            ValueError,
            "one label per sample",
        ),
        (
            make_pipeline(PCA(5), DecisionTreeClassifier()).fit(X[:50], Y[:50]),
            TypeError,
            "PCA stands in front of the trees",
        ),
    ],
)
def test_models_without_a_verdict_are_told_in_a_sentence(model, error, message):
    with pytest.raises(error, match=message):
        verify_robustness(model, X[:9], Y[:9], epsilon=0.1)


def test_numbers_that_an_unknown_step_reads_are_not_held_in_silence():
    encoders = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0, 1]))
    model = make_pipeline(encoders, DecisionTreeClassifier()).fit(X[:50], Y[:50])
    with pytest.raises(TypeError, match=r"The columns \[0, 1\] reach the classifier through"):
        certified_accuracy_score(model, X[:9], Y[:9], epsilon=0.1)


def test_a_verdict_counts_its_samples():
    verdict = verify_robustness(of("forest"), X[TEST], Y[TEST], epsilon=0.1 * SCALE)
    for name in ("verified", "falsified", "unknown"):
        assert getattr(verdict, name) == (verdict.status == name).sum()


def test_a_progress_bar_counts_the_samples(capsys):
    verify_robustness(of("forest"), X[TEST], Y[TEST], epsilon=0.1 * SCALE, verbose=True)
    shown = capsys.readouterr().err
    assert "verifying" in shown
    assert f"{len(TEST)}/{len(TEST)}" in shown
