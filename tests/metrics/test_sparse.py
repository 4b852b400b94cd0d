"""Sparse X, where a closed form takes it block by block: the results of a dense X."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from sk_adv import AdversarialLogisticRegression, FGSMSampler, FGSMTransformer, _arrays
from sk_adv.attacks import perturb
from sk_adv.differentiable import Enclosure
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
    certified_accuracy_score,
    make_adversarial_scorer,
    robustness_radius,
    transfer_error_matrix,
)

MODELS = [
    make_pipeline(MaxAbsScaler(), LogisticRegression()),
    AdversarialLogisticRegression(epsilon=0.01, C=1.0),
    LinearSVC(),
]


@pytest.fixture
def counts(monkeypatch):
    """Mostly zeros, three classes, in blocks of a few rows."""
    monkeypatch.setattr(_arrays, "_BLOCK_ENTRIES", 200)
    X, y = make_classification(120, 20, n_informative=10, n_classes=3, random_state=0)
    return np.where(abs(X) > 1, X, 0), np.array(["art", "law", "war"])[y]


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_certificate_radius_and_exact_attack_are_those_of_the_dense_samples(
    counts, container, model, norm
):
    X, y = counts
    model.fit(X, y)
    given, options = container(X), {"epsilon": 0.05, "norm": norm}
    np.testing.assert_allclose(
        robustness_radius(model, given, y, norm=norm), robustness_radius(model, X, y, norm=norm)
    )
    np.testing.assert_allclose(
        robustness_radius(model, given, norm=norm), robustness_radius(model, X, norm=norm)
    )
    for bounds in (None, (-1, 1)):
        certified = certified_accuracy_score(model, given, y, bounds=bounds, **options)
        assert certified == certified_accuracy_score(model, X, y, bounds=bounds, **options)
        attacked = adversarial_accuracy_score(
            model, given, y, attack="exact", bounds=bounds, **options
        )
        assert attacked == pytest.approx(certified)
        clean = certified_accuracy_score(model, given, y, epsilon=0, bounds=bounds)
        assert clean == model.score(X if bounds is None else X.clip(*bounds), y)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro"])
def test_scorers_and_confidence_take_sparse_samples(counts, scoring):
    X, y = counts
    model = LogisticRegression().fit(X, y)
    copies = perturb(model, X, y, epsilon=0.05, attack="exact")
    scorer = make_adversarial_scorer(scoring, epsilon=0.05, attack="exact")
    expected = get_scorer(scoring)(model, copies, y)
    assert scorer(model, sparse.csr_array(X), y) == pytest.approx(expected)
    weight = np.arange(len(y))
    assert scorer(model, sparse.csr_array(X), y, sample_weight=weight) == pytest.approx(
        get_scorer(scoring)(model, copies, y, sample_weight=weight)
    )
    options = {"epsilon": 0.05, "attack": "exact"}
    assert adversarial_confidence(model, sparse.csr_array(X), y, **options) == pytest.approx(
        adversarial_confidence(model, X, y, **options)
    )
    scores = cross_val_score(model, sparse.csr_array(X), y, scoring=scorer, cv=3)
    np.testing.assert_allclose(scores, cross_val_score(model, X, y, scoring=scorer, cv=3))


CONTAINERS = [sparse.csr_array, sparse.csc_matrix, sparse.coo_array]


@pytest.mark.parametrize(("model", "container"), zip(MODELS, CONTAINERS, strict=True))
def test_reports_and_transfer_are_those_of_the_dense_samples(counts, model, container):
    X, y = counts
    model, given = model.fit(X, y), container(X)
    options = {"scale": X.std(axis=0), "sample_weight": np.arange(len(y))}
    for bounds in (None, (-1, 1)):
        options |= {"epsilons": [0, 0.05], "attacks": {"worst": "exact"}, "bounds": bounds}
        found = adversarial_report(model, given, y, **options)
        pd.testing.assert_frame_equal(found, adversarial_report(model, X, y, **options))
        np.testing.assert_allclose(found["error"], found["certified_error"], atol=1e-12)
    models, attack = [model, LogisticRegression().fit(X, y)], {"epsilon": 0.1, "attack": "exact"}
    errors = transfer_error_matrix(models, X, y, **attack)
    np.testing.assert_allclose(transfer_error_matrix(models, given, y, **attack), errors)


@pytest.mark.parametrize("surrogate", [LogisticRegression(), FrozenEstimator(MODELS[0])])
def test_a_linear_surrogate_is_fitted_once_to_all_sparse_samples(counts, surrogate):
    X, y = counts
    MODELS[0].fit(X, y)
    neighbours = KNeighborsClassifier(algorithm="brute").fit(X, y)
    options = {"surrogate": surrogate, "attack": "exact", "epsilon": 0.2}
    copies = perturb(neighbours, X, y, **options)
    given = sparse.csr_array(X)
    assert neighbours.score(copies, y) < 1
    assert adversarial_accuracy_score(neighbours, given, y, **options) == neighbours.score(
        copies, y
    )
    matrix = transfer_error_matrix([neighbours, MODELS[0]], given, y, **options)
    expected = [1 - target.score(copies, y) for target in (neighbours, MODELS[0])]
    np.testing.assert_allclose(matrix[0], expected)
    options["epsilons"], options["attacks"] = [options.pop("epsilon")], options.pop("attack")
    report = adversarial_report(neighbours, given, y, **options)
    assert report["error"][0] == pytest.approx(1 - neighbours.score(copies, y))


def test_tf_idf_of_sparse_counts_has_a_closed_form_before_it_is_normalised(counts):
    X, y = counts
    given = sparse.csr_array(abs(X))
    model = make_pipeline(TfidfTransformer(norm=None), LogisticRegression()).fit(given, y)
    weight = model[-1].coef_ * model[0].idf_
    values, own = model.decision_function(given), np.searchsorted(model.classes_, y)
    rows = np.arange(len(y))
    reach = 0.1 * abs(weight[own][:, None] - weight).sum(axis=2)
    ahead = values[rows, own][:, None] - values - reach
    ahead[rows, own] = np.inf
    safe = (ahead > 0).all(axis=1)
    assert 0 < safe.mean() < model.score(given, y)
    report = adversarial_report(model, given, y, [0.1], "exact")
    np.testing.assert_allclose(report[["error", "certified_error"]], 1 - safe.mean())
    np.testing.assert_array_equal(robustness_radius(model, given, y) > 0.1, safe)


@pytest.mark.parametrize("kind", [FGSMTransformer, FGSMSampler])
def test_transformers_and_samplers_say_that_they_need_dense_samples(counts, kind):
    X, y = counts
    with pytest.raises(TypeError, match="dense.*toarray"):
        kind(LogisticRegression()).fit(sparse.csr_array(X), y)


def test_the_strongest_attack_takes_sparse_samples_and_is_exact_on_linear_models(counts):
    X, y = counts
    model = LogisticRegression().fit(X, y)
    found = adversarial_accuracy_score(model, sparse.csr_array(X), y, epsilon=0.05)
    assert found == adversarial_accuracy_score(model, X, y, epsilon=0.05, attack="exact")


def test_other_attacks_still_say_that_they_need_dense_samples(counts):
    X, y = counts
    model = LogisticRegression().fit(X, y)
    given = sparse.csr_array(X)
    with pytest.raises(TypeError, match="dense X.*toarray.*attack='exact'"):
        adversarial_accuracy_score(model, given, y, epsilon=0.05, attack="fgsm")
    with pytest.raises(TypeError, match="dense X.*toarray.*attack='exact'"):
        adversarial_report(model, given, y, [0.05], ["exact", "fgsm"])
    with pytest.raises(TypeError, match="dense X.*toarray.*attack='exact'"):
        transfer_error_matrix([model], given, y, 0.05)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_certificates_never_hold_more_than_a_block_of_rows(counts, container, monkeypatch):
    X, y = counts
    model = LogisticRegression().fit(X, y)
    expected, sizes, of = robustness_radius(model, X, y), [], Enclosure.of

    def record(batch, *args, **options):
        sizes.append(batch.numel())
        return of(batch, *args, **options)

    monkeypatch.setattr(Enclosure, "of", record)
    np.testing.assert_array_equal(robustness_radius(model, container(X), y), expected)
    certified_accuracy_score(model, container(X), y, epsilon=0.1)
    assert max(sizes) <= 200
    assert sum(sizes) == 2 * X.size
