"""Composite modules by rules of third parties: precision, chains, responses of the parts."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from sk_adv import AdversarialMaxoutClassifier, as_module
from sk_adv.attacks import fgsm, pgd
from sk_adv.differentiable import (
    Chain,
    decision_values,
    has_rule,
    log_probabilities,
    parts_of,
    preferences,
)
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score

NETWORK = AdversarialMaxoutClassifier((8, 8), max_iter=40, random_state=0)


class Scaled(ClassifierMixin, BaseEstimator):
    """A classifier with its own scaler, as a third party could write it."""

    compose = nn.Sequential

    def __init__(self, classifier):
        self.classifier = classifier

    def fit(self, X, y):
        self.scaler_ = StandardScaler().fit(X)
        # In single precision: scikit-learn's estimators then have float32 weights.
        scaled = self.scaler_.transform(X).astype(np.float32)
        self.classifier_ = clone(self.classifier).fit(scaled, y)
        self.classes_ = self.classifier_.classes_
        return self

    def predict(self, X):
        return self.classifier_.predict(self.scaler_.transform(X))

    def predict_proba(self, X):
        return self.classifier_.predict_proba(self.scaler_.transform(X))

    def decision_function(self, X):
        return self.classifier_.decision_function(self.scaler_.transform(X))


class Chained(Scaled):
    compose = Chain


@as_module.register(Scaled)
def _(estimator):
    return estimator.compose(as_module(estimator.scaler_), as_module(estimator.classifier_))


@parts_of.register(Scaled)
def _(estimator):
    return [estimator.classifier]


@pytest.mark.parametrize("kind", [Scaled, Chained])
def test_parts_of_different_precision_may_follow_each_other(kind, data, assert_agrees):
    X, y = data
    model = kind(NETWORK).fit(X, y)
    module = as_module(model)
    dtypes = {tensor.dtype for tensor in [*module.parameters(), *module.buffers()]}
    assert {torch.float64, torch.float32} <= dtypes
    probabilities = module(torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    assert_agrees(model, X)


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_attacks_take_a_plain_sequential_of_two_precisions(attack, uneven):
    X, y = uneven
    codes = np.unique(y, return_inverse=True)[1]
    model = make_pipeline(StandardScaler(), NETWORK).fit(X, y)
    # The network keeps its weights in float32, the scaler its own in float64.
    module = nn.Sequential(as_module(model[0]), as_module(model[1]))
    options = {} if attack is fgsm else {"random_state": 0, "n_steps": 5}
    epsilon = 0.2 * X.std(axis=0)
    found = attack(module, X, codes, epsilon, **options)
    np.testing.assert_allclose(found, attack(as_module(model), X, codes, epsilon, **options))
    assert model.score(found, y) < model.score(X, y)


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_either_part_may_be_the_coarser_one(dtypes, data):
    X, y = data
    scalers = [StandardScaler().fit(X.astype(dtype)) for dtype in dtypes]
    model = LogisticRegression().fit(X, y)
    module = nn.Sequential(*map(as_module, scalers), as_module(model))
    scaled = scalers[1].transform(scalers[0].transform(X))
    found = module(torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(scaled), atol=1e-5)


@pytest.mark.parametrize("kind", [Scaled, Chained])
def test_metrics_take_an_estimator_of_two_precisions(kind, uneven):
    X, y = uneven
    epsilon = 0.1 * X.std(axis=0)
    model = kind(NETWORK).fit(X, y)
    plain = make_pipeline(model.scaler_, model.classifier_)
    for score in (adversarial_accuracy_score, certified_accuracy_score):
        expected = score(plain, X, y, epsilon=epsilon)
        assert score(model, X, y, epsilon=epsilon) == pytest.approx(expected, abs=1 / len(y))
    linear = kind(LogisticRegression()).fit(X, y)
    exact = adversarial_accuracy_score(linear, X, y, epsilon=epsilon, attack="exact")
    assert exact == certified_accuracy_score(linear, X, y, epsilon=epsilon) < linear.score(X, y)


@pytest.mark.parametrize("kind", [Scaled, Chained])
@pytest.mark.parametrize(
    "classifier",
    [SGDClassifier(loss="log_loss", random_state=0), SGDClassifier("modified_huber")],
    ids=["log loss", "modified Huber"],
)
def test_a_sequence_answers_as_its_last_part(kind, classifier, data):
    X, y = data
    model = kind(classifier).fit(X, y)
    module, inputs = as_module(model), torch.from_numpy(X)
    values = decision_values(module, inputs).numpy()
    expected = model.decision_function(X)
    np.testing.assert_allclose(values[:, 1] if expected.ndim == 1 else values, expected, atol=1e-4)
    found = log_probabilities(module, inputs).exp().numpy()
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-4)
    nested = nn.Sequential(nn.Identity(), module)
    assert torch.equal(decision_values(nested, inputs), decision_values(module, inputs))


@pytest.mark.parametrize("kind", [Scaled, Chained])
def test_ensembles_take_a_sequence_for_the_classifier_that_it_ends_in(kind, data, assert_agrees):
    X, y = data
    member = kind(SGDClassifier(loss="log_loss", random_state=0))
    soft = VotingClassifier([("a", member), ("b", LogisticRegression())], voting="soft")
    for model in (CalibratedClassifierCV(member, cv=2), soft):
        assert_agrees(model.fit(X, y), X, as_module(model), atol=1e-4)


@pytest.mark.parametrize("kind", [Scaled, Chained])
def test_votes_that_are_tied_go_where_predict_sends_them(kind):
    rng = np.random.default_rng(19)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 5, 200)
    model = kind(SVC(kernel="linear", C=0.1)).fit(X, y)
    scaled = model.scaler_.transform(X)
    tied = model.classifier_.decision_function(scaled).argmax(1) != model.predict(X)
    assert tied.any()
    choices = preferences(as_module(model), torch.from_numpy(X)).argmax(1)
    np.testing.assert_array_equal(choices, model.predict(X))


def test_chain_casts_between_modules_of_other_origin():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4).double(), nn.Linear(4, 2)]
    X = torch.randn(5, 3, dtype=torch.float64)
    expected = layers[1](layers[0](X).float())
    assert torch.equal(Chain(*layers)(X), expected)
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Sequential(*layers)(X)


def test_what_is_no_floating_number_is_not_cast():
    torch.manual_seed(0)
    embedding = nn.Sequential(nn.Embedding(4, 3), nn.Flatten())
    X = torch.tensor([[0, 3], [1, 2]])
    assert torch.equal(as_module(embedding)(X), embedding(X))


def test_modules_can_be_copied_and_pickled_with_their_casts(data):
    X, y = data
    module = as_module(make_pipeline(StandardScaler(), NETWORK).fit(X, y))
    single = torch.from_numpy(X).float()
    before = module(single)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), as_module(module)):
        assert torch.equal(copied(single), before)
        assert copied(torch.from_numpy(X)).dtype == before.dtype == torch.float32


def test_composites_of_third_parties_are_looked_into():
    assert has_rule(Scaled(LogisticRegression()))
    assert not has_rule(Scaled(RandomForestClassifier()))
    assert has_rule(BaggingClassifier(Scaled(make_pipeline(StandardScaler(), SVC()))))
    assert not has_rule(BaggingClassifier(Scaled(SVC(kernel="precomputed"))))
