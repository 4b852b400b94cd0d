"""Certificates, and the exact attack, of linear models in which categories are encoded."""

import itertools

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    certified_accuracy_score,
    robustness_radius,
)

NUMBERS = ["age", "fare"]
RADII = {"age": 0.3, "fare": 0.2}


def encoded(classifier):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        (OneHotEncoder(), ["port", "deck"]),
    )
    return make_pipeline(columns, classifier)


def in_a_vote(model):
    """A vote of the model and one that takes the deck as a number."""
    columns = make_column_transformer((StandardScaler(), ["deck", *NUMBERS]))
    other = make_pipeline(columns, LogisticRegression())
    return VotingClassifier([("model", model), ("other", other)], voting="soft")


def right_everywhere(model, X, y, radii):
    """Whether the model's own predictions hold at all corners of the box of each sample."""
    corners = itertools.product(*[(-r, r) for r in radii.values()])
    return np.all(
        [
            model.predict(X.assign(**{name: X[name] + s for name, s in zip(radii, c, strict=True)}))
            == y
            for c in corners
        ],
        axis=0,
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("classifier", [LogisticRegression(), RidgeClassifier(), LinearSVC()])
@pytest.mark.parametrize("around", [OneVsRestClassifier, FrozenEstimator])
def test_closed_forms_agree_with_the_corners_of_the_box(classifier, classes, around, trips):
    X, y = trips
    if classes == 2:
        y = np.where(y == "top", "top", "not")
    pipeline = encoded(classifier).fit(X, y)
    model = around(pipeline).fit(X, y)
    right = right_everywhere(model, X, y, RADII)
    assert 0.2 < right.mean() < model.score(X, y)
    assert certified_accuracy_score(model, X, y, epsilon=RADII) == right.mean()
    attack = {"epsilon": RADII, "attack": "exact"}
    assert adversarial_accuracy_score(model, X, y, **attack) == right.mean()
    radius = robustness_radius(model, X, y, scale=RADII)
    np.testing.assert_array_equal(radius > 1, right)
    report = adversarial_report(model, X, y, [0, 1], ["exact"], scale=RADII)
    np.testing.assert_allclose(report["error"], 1 - np.array([model.score(X, y), right.mean()]))
    np.testing.assert_allclose(report["certified_error"], report["error"])


def test_a_number_that_is_scaled_and_encoded_is_fixed_in_both_places(trips):
    X, y = trips
    columns = make_column_transformer(
        (OneHotEncoder(), ["deck", "port"]), (StandardScaler(), ["deck", *NUMBERS])
    )
    for classifier in (LogisticRegression(), OneVsRestClassifier(LogisticRegression())):
        model = make_pipeline(columns, classifier).fit(X, y)
        right = right_everywhere(model, X, y, RADII)
        assert certified_accuracy_score(model, X, y, epsilon=RADII) == right.mean()
        radius = robustness_radius(model, X, y, scale=RADII)
        np.testing.assert_array_equal(radius > 1, right)
        # Just inside its radius a sample keeps its class at every corner, just outside it does not.
        row = int(np.flatnonzero(radius)[0])
        for factor, keeps in ((1 - 1e-9, True), (1 + 1e-9, False)):
            radii = {name: factor * radius[row] * unit for name, unit in RADII.items()}
            one = slice(row, row + 1)
            assert right_everywhere(model, X.iloc[one], y[one], radii)[0] == keeps


@pytest.mark.parametrize("around", [OneVsRestClassifier, in_a_vote])
def test_no_certificate_holds_a_number_fixed_that_may_change(around, trips):
    X, y = trips
    model = around(encoded(LogisticRegression())).fit(X, y)
    for score in (certified_accuracy_score, adversarial_accuracy_score):
        attack = {} if score is certified_accuracy_score else {"attack": "exact"}
        with pytest.raises(TypeError, match=r"\['deck'\].*through OneHotEncoder"):
            score(model, X, y, epsilon=RADII | {"deck": 1.0}, **attack)
    with pytest.warns(UserWarning, match="stay unperturbed"):
        report = adversarial_report(model, X, y, [1.0], ["fgsm"])
    assert np.isnan(report["certified_error"][0])


def test_missing_values_are_imputed_in_every_member(trips):
    X, y = trips
    X = X.assign(age=X["age"].where(X["age"] < 1))
    model = OneVsRestClassifier(encoded(LogisticRegression())).fit(X, y)
    right = right_everywhere(model, X, y, RADII)
    assert certified_accuracy_score(model, X, y, epsilon=RADII) == right.mean()
