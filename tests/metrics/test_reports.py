"""Reports and transfer matrices, entry by entry against the underlying scores."""

import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from sk_adv.attacks import perturb, pgd
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
    certified_accuracy_score,
    transfer_error_matrix,
)

PGD = partial(pgd, n_steps=5, random_state=0)


@pytest.fixture(scope="module")
def linear(iris):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*iris)


@pytest.fixture(scope="module")
def forest(iris):
    return RandomForestClassifier(20, random_state=0).fit(*iris)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_report_holds_the_scores_of_each_radius_and_attack(iris, linear, norm):
    X, y = iris
    scale, bounds = X.std(axis=0), (0, 6)
    attacks = {"one step": "fgsm", "many": PGD, "worst": "exact"}
    report = adversarial_report(
        linear, X, y, epsilons=[0, 0.5], attacks=attacks, norm=norm, bounds=bounds, scale=scale
    )
    assert list(report.columns) == ["epsilon", "attack", "error", "confidence", "certified_error"]
    rows = iter(report.itertuples(index=False))
    for epsilon in (0, 0.5):
        options = {"epsilon": epsilon * scale, "norm": norm, "bounds": bounds}
        for name, attack in attacks.items():
            error = 1 - adversarial_accuracy_score(linear, X, y, attack=attack, **options)
            confidence = adversarial_confidence(linear, X, y, attack=attack, **options)
            certified = 1 - certified_accuracy_score(linear, X, y, **options)
            assert next(rows) == (epsilon, name, error, confidence, certified)
    assert next(rows, None) is None
    worst = report[report["attack"] == "worst"]
    np.testing.assert_array_equal(worst["error"], worst["certified_error"])
    assert report["error"].max() > 0.3


def test_attacks_are_named_by_their_functions(iris, linear):
    report = adversarial_report(linear, *iris, epsilons=[0.1], attacks=[PGD, "fgsm"])
    assert list(report["attack"]) == ["pgd", "fgsm"]
    with pytest.raises(ValueError, match="attacks.*pgd.*mapping"):
        adversarial_report(linear, *iris, epsilons=[0.1], attacks=[PGD, "pgd"])


def test_by_default_a_single_step_does_not_stand_alone(iris, linear):
    assert list(adversarial_report(linear, *iris, epsilons=[0.1])["attack"]) == ["fgsm", "auto"]


def test_what_is_unknown_is_missing(iris, linear, forest):
    X, y = iris
    silent = LinearSVC().fit(X, y)
    report = adversarial_report(silent, X, y, epsilons=[0.2], attacks=["fgsm"])
    assert report["confidence"].isna().all() and report["certified_error"].notna().all()
    options = {"epsilons": [0.8], "attacks": ["fgsm"], "surrogate": linear}
    report = adversarial_report(KNeighborsClassifier().fit(X, y), X, y, **options)
    assert report["confidence"].notna().all() and report["certified_error"].isna().all()
    assert report["error"][0] > 0.1
    # Of a forest it is known, also if the copies come from a surrogate.
    report = adversarial_report(forest, X, y, **options)
    worst = perturb(forest, X, y, epsilon=0.8, attack="exact")
    assert report["certified_error"][0] == pytest.approx(1 - forest.score(worst, y))
    assert report["error"][0] <= report["certified_error"][0]
    perfect = adversarial_report(linear, X, linear.predict(X), epsilons=[0], attacks=["fgsm"])
    assert perfect["error"][0] == 0 and perfect["confidence"].isna().all()


def test_the_surrogate_of_a_report_is_fitted_once(iris, forest):
    fits = []

    class Counted(LogisticRegression):
        def fit(self, X, y):
            fits.append(y)
            return super().fit(X, y)

    report = adversarial_report(forest, *iris, epsilons=[0.1, 0.2], surrogate=Counted(max_iter=999))
    assert len(report) == 4
    (labels,) = fits
    np.testing.assert_array_equal(labels, forest.predict(iris[0]))


def test_report_says_that_pandas_is_missing(iris, linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="adversarial_report.*pandas"):
        adversarial_report(linear, *iris, epsilons=[0.1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilons": []}, "epsilons"),
        ({"epsilons": 0.1}, "epsilons.*0.1"),
        ({"epsilons": [0.1, -1]}, "epsilons.*-1"),
        ({"epsilons": ["small"]}, "epsilons.*small"),
        ({"attacks": []}, "attacks.*at least one"),
        ({"attacks": {"a": {"n_steps": 3}}}, "attacks.*'attack'.*n_steps"),
        ({"attacks": ["fgsm", "fgms"]}, "attack.*fgms"),
        ({"scale": [1, 2]}, r"scale.*\(4,\).*\(2,\)"),
        ({"norm": 1}, "norm"),
        ({"bounds": (1, 0)}, "bounds"),
        ({"bounds": ([0, 1], 2)}, r"bounds.*\(4,\).*\(2,\)"),
        ({"attacks": None}, "attacks.*None"),
        ({"y": [0, 1]}, "2.*150"),
    ],
)
def test_bad_input_is_explained_before_any_attack(iris, linear, change, message):
    def attack(*args, **kwargs):
        raise AssertionError("the attack has run")

    class Surrogate(LogisticRegression):
        fit = attack

    X, y = iris
    arguments = {"y": y, "epsilons": [0.1], "attacks": [attack], **change}
    with pytest.raises(ValueError, match=message):
        adversarial_report(linear, X, surrogate=Surrogate(), **arguments)


def test_transfer_is_the_error_of_each_on_the_copies_of_each(iris, linear, forest):
    X, y = (pd.DataFrame(iris[0], columns=list("abcd")), iris[1])
    models = {
        "scaled": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y),
        "neighbours": KNeighborsClassifier().fit(X, y),
        "forest": RandomForestClassifier(20, random_state=0).fit(X, y),
        "svm": LinearSVC().fit(X, y),
    }
    options = {"epsilon": 0.5, "norm": 2, "attack": "exact", "bounds": (0, 6)}
    found = transfer_error_matrix(models, X, y, **options)
    for i, (name, source) in enumerate(models.items()):
        if name == "neighbours":
            assert np.isnan(found[i]).all()
            continue
        copies = perturb(source, X, y, **options)
        expected = [1 - target.score(copies, y) for target in models.values()]
        np.testing.assert_array_equal(found[i], expected)
        assert found[i, i] == 1 - adversarial_accuracy_score(source, X, y, **options)


def test_transfer_from_a_forest_goes_through_a_surrogate(iris, linear, forest):
    X, y = iris
    found = transfer_error_matrix([linear, forest], X, y, epsilon=0.5, surrogate=linear)
    np.testing.assert_array_equal(
        found[0], transfer_error_matrix([linear, forest], X, y, epsilon=0.5)[0]
    )
    options = {"epsilon": 0.5, "attack": "fgsm", "surrogate": linear}
    expected = adversarial_accuracy_score(forest, X, y, **options)
    assert found[1, 1] == 1 - expected


def test_bad_input_to_the_matrix_is_explained(iris, linear, forest):
    X, y = iris
    for single in (linear, forest, make_pipeline(linear)):
        with pytest.raises(TypeError, match=r"sequence or mapping[\s\S]*into a list"):
            transfer_error_matrix(single, X, y, epsilon=0.1)
    # The target is checked although no copies are made against a forest.
    with pytest.raises(ValueError, match="epsilon"):
        transfer_error_matrix([forest], X, y, epsilon=-1)
    with pytest.raises(ValueError, match="4 features.*2"):
        transfer_error_matrix([linear, LogisticRegression().fit(X[:, :2], y)], X, y, epsilon=0.1)
    with pytest.raises(ValueError, match="at least one"):
        transfer_error_matrix([], *iris, epsilon=0.1)
    with pytest.raises(NotFittedError):
        transfer_error_matrix([linear, LogisticRegression()], *iris, epsilon=0.1)
    with pytest.raises(ValueError, match="epsilon"):
        transfer_error_matrix([linear], *iris, epsilon=-1)


def test_models_behind_encoders_are_attacked_themselves(iris):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 5.8, "l", "s"))
    model = make_pipeline(
        make_column_transformer(
            (StandardScaler(), list("abcd")), (OneHotEncoder(sparse_output=False), ["kind"])
        ),
        LogisticRegression(),
    ).fit(frame, y)
    radii = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}
    errors = transfer_error_matrix([model], frame, y, radii)
    direct = 1 - adversarial_accuracy_score(model, frame, y, epsilon=radii, attack="fgsm")
    assert errors.tolist() == [[direct]] and direct > 0.3
    # A surrogate is for the models that need one.
    with_surrogate = transfer_error_matrix([model], frame, y, radii, surrogate=model)
    assert with_surrogate.tolist() == errors.tolist()
    report = adversarial_report(model, frame, y, [1.0], ["exact"], scale=radii)
    assert report["error"][0] == report["certified_error"][0]


def test_weights_count_samples_as_often_as_they_say(iris):
    X, y = iris
    model = LogisticRegression(max_iter=1000).fit(X, y)
    times = np.arange(150) % 3
    options = {"epsilons": [0, 0.3], "attacks": "fgsm", "bounds": (0.5, 6)}
    weighted = adversarial_report(model, X, y, sample_weight=times, **options)
    repeated = adversarial_report(model, np.repeat(X, times, 0), np.repeat(y, times), **options)
    pd.testing.assert_frame_equal(weighted, repeated)
    options = {"epsilon": 0.3, "attack": "fgsm"}
    assert adversarial_confidence(model, X, y, sample_weight=times, **options) == pytest.approx(
        adversarial_confidence(model, np.repeat(X, times, 0), np.repeat(y, times), **options)
    )
    # Where the samples that are wrong have no weight, there is no confidence.
    right = model.predict(perturb(model, X, y, epsilon=0.3)) == y
    with pytest.warns(UndefinedMetricWarning):
        found = adversarial_confidence(model, X, y, sample_weight=right, **options)
    assert np.isnan(found)
