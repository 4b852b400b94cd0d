"""Ensembles of classifiers against scikit-learn's own output."""

import numpy as np
import pytest
import sklearn
import torch
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.fixes import parse_version
from torch import nn

from sk_adv import AdversarialMaxoutClassifier, as_module
from sk_adv.attacks import fgsm, log_odds_against
from sk_adv.attacks._estimators import check_attackable
from sk_adv.differentiable import decision_values, log_probabilities
from sk_adv.differentiable._linear import fold_linear


class Prototypes(ClassifierMixin, BaseEstimator):
    """p ∝ exp(-‖x - μₖ‖² / 20), μₖ the mean of class k.

    It has no decision_function, and can be fitted to a single class.
    """

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict_proba(self, X):
        return softmax(-(((X[:, None] - self.means_) ** 2).sum(axis=2)) / 20, axis=1)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class PrototypeLogits(nn.Module):
    def __init__(self, means):
        super().__init__()
        self.means = nn.Parameter(torch.as_tensor(means))

    def forward(self, X):
        return -((X[:, None] - self.means) ** 2).sum(2) / 20


@as_module.register(Prototypes)
def _(prototypes):
    return PrototypeLogits(prototypes.means_)


SCALED = make_pipeline(StandardScaler(), LogisticRegression())
PERCEPTRON = make_pipeline(StandardScaler(), Perceptron())
CLIPPED = OneVsRestClassifier(SGDClassifier(loss="modified_huber", random_state=0))
MEMBERS = [("line", LogisticRegression()), ("pipe", SCALED), ("near", Prototypes())]
LINES = [("hinge", Perceptron()), ("ridge", RidgeClassifier()), ("line", LogisticRegression())]
HARD = VotingClassifier(LINES)
SOFT = VotingClassifier(MEMBERS, voting="soft", weights=[2, 0.5, 1])
STACKED = StackingClassifier(LINES, cv=3)


def bagging(estimator, **params):
    return BaggingClassifier(estimator, n_estimators=4, random_state=0, **params)


# There BaggingClassifier draws samples by weights, which VotingClassifier hands to the pipelines.
not_in_1_6 = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="scikit-learn 1.6 can't fit bags of votes of pipelines.",
)

WITH_PROBABILITIES = [
    VotingClassifier(MEMBERS, voting="soft"),
    SOFT,
    VotingClassifier([*MEMBERS, ("gone", "drop")], voting="soft", weights=[1, 0, 3, 9]),
    bagging(SCALED, max_features=0.5),
    bagging(Prototypes(), bootstrap_features=True),
    pytest.param(bagging(SOFT), marks=not_in_1_6),
    OneVsRestClassifier(LogisticRegression()),
    OneVsRestClassifier(Prototypes()),
    STACKED,
    StackingClassifier(MEMBERS, passthrough=True, cv=3),
    StackingClassifier([*LINES, ("gone", "drop")], SCALED, cv=3),
    StackingClassifier(MEMBERS[:2], cv=3, stack_method="decision_function"),
    VotingClassifier(
        [("stack", STACKED), ("search", GridSearchCV(bagging(SCALED), {}, cv=2))], voting="soft"
    ),
    # A vote among probabilities: its share has the right value, but no gradient.
    VotingClassifier(
        [("near", Prototypes()), ("votes", bagging(RidgeClassifier()))], voting="soft"
    ),
]
WITH_DECISIONS = [
    OneVsRestClassifier(RidgeClassifier()),
    OneVsRestClassifier(PERCEPTRON),
    StackingClassifier(LINES, RidgeClassifier(), cv=3),
    StackingClassifier(LINES, OneVsRestClassifier(Perceptron()), cv=3, passthrough=True),
]
WITH_VOTES = [
    HARD,
    VotingClassifier([*LINES, ("soft", SOFT)], weights=[0.3, 0.1, 0.2, 0.3]),
    VotingClassifier([*LINES, ("bag", make_pipeline(StandardScaler(), bagging(SCALED)))]),
    VotingClassifier([*LINES, ("several are sure", CLIPPED)], weights=[1, 1, 1, 5]),
    VotingClassifier([*LINES, ("gone", "drop")], weights=[1, 5, 2, 9]),
    bagging(RidgeClassifier()),
    bagging(PERCEPTRON, max_features=0.5),
]


@pytest.mark.parametrize("estimator", WITH_PROBABILITIES)
def test_softmax_is_predict_proba(estimator, data, assert_agrees, assert_gradients):
    X, y = data
    estimator.fit(X[:80], y[:80])
    assert_agrees(estimator, X, output="predict_proba", atol=1e-10)
    assert_gradients(estimator, X[:4])


@pytest.mark.parametrize("estimator", WITH_DECISIONS)
def test_logits_are_the_decision_function(estimator, data, assert_agrees, assert_gradients):
    X, y = data
    estimator.fit(X[:80], y[:80])
    assert_agrees(estimator, X, output="decision_function", atol=1e-10)
    assert_gradients(estimator, X[:4])


@pytest.mark.parametrize("estimator", WITH_VOTES)
def test_gradient_of_votes_matches_finite_differences(estimator, data, assert_gradients):
    X, y = data
    assert_gradients(estimator.fit(X[:80], y[:80]), X[:4])


@pytest.mark.parametrize("estimator", WITH_VOTES)
def test_votes_decide_and_the_first_of_equals(estimator, data):
    X, y = data
    estimator.fit(X[:80], y[:80])
    # Also far from the data, where the confidence is at its bound.
    X = np.concatenate([X, 1e4 * X])
    logits = as_module(estimator)(torch.from_numpy(X)).numpy()
    votes = count_votes(estimator, X)
    leads = votes > votes.max(axis=1, keepdims=True) - 1e-9
    alone = leads.sum(axis=1) == 1
    found = logits.argmax(axis=1)
    assert alone.any()
    assert np.array_equal(estimator.classes_[found[alone]], estimator.predict(X[alone]))
    assert np.array_equal(found, leads.argmax(axis=1))
    # The classes have the order of their votes, and are separated by a margin.
    for i, j in np.ndindex(votes.shape[1], votes.shape[1]):
        more = votes[:, i] > votes[:, j] + 1e-9
        assert (logits[more, i] > logits[more, j]).all()


def count_votes(estimator, X):
    """Votes counted from the members' own predict."""
    members = estimator.estimators_
    features = getattr(estimator, "estimators_features_", [slice(None)] * len(members))
    weights = getattr(estimator, "_weights_not_none", None) or np.ones(len(members))
    votes = np.zeros((len(X), len(estimator.classes_)))
    for member, columns, weight in zip(members, features, weights, strict=True):
        votes[np.arange(len(X)), member.predict(X[:, columns])] += weight
    return votes


@pytest.mark.parametrize("first", [LogisticRegression(), HARD], ids=["a vote", "votes"])
def test_equal_votes_go_where_predict_sends_them(first):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 5, 200)
    model = VotingClassifier([("first", first), ("second", SCALED)]).fit(X, y)
    votes = np.sort(count_votes(model, X))
    assert (votes[:, -1] == votes[:, -2]).any()
    found = as_module(model)(torch.from_numpy(X)).argmax(1)
    assert np.array_equal(found, model.predict(X))


@pytest.mark.parametrize("estimator", [HARD, bagging(PERCEPTRON)])
def test_attack_on_votes_does_more_than_noise(estimator):
    X, y = (values[:300] for values in load_digits(return_X_y=True))
    epsilon = 0.25 * X.std(axis=0)
    copies = fgsm(as_module(estimator.fit(X, y)), X, y, epsilon)
    noise = epsilon * np.random.default_rng(0).choice([-1, 1], X.shape)
    assert estimator.score(copies, y) < estimator.score(X + noise, y) - 0.1


@pytest.mark.parametrize("member", [Prototypes(), SCALED, make_pipeline(Perceptron())])
def test_bagging_takes_members_that_have_seen_some_classes_only(member, assert_agrees):
    X, y = make_classification(200, 5, n_informative=4, n_redundant=0, n_classes=4, random_state=1)
    keep = np.concatenate([np.flatnonzero(y == label)[:n] for label, n in enumerate([15, 9, 1, 1])])
    model = bagging(member, max_samples=0.8).fit(X[keep], y[keep])
    assert {len(fitted.classes_) for fitted in model.estimators_} - {4}
    if hasattr(model.estimators_[0], "predict_proba"):
        assert_agrees(model, X, atol=1e-10)
    else:
        # Far from the data, where all decision values are below the logarithm of any probability.
        X = 1e4 * X
        shares = log_probabilities(as_module(model), torch.from_numpy(X)).exp()
        np.testing.assert_allclose(shares, model.predict_proba(X), atol=1e-12)


def test_bagging_takes_members_of_one_class(assert_agrees, assert_gradients):
    X = np.random.default_rng(0).normal(size=(12, 3))
    y = np.array(["no"] * 10 + ["yes"] * 2)
    model = bagging(Prototypes(), max_samples=3).fit(X, y)
    assert {len(fitted.classes_) for fitted in model.estimators_} == {1, 2}
    assert_agrees(model, X, atol=1e-10)
    assert_gradients(model, X[:4])


def test_bagging_of_searches_mixes_votes_and_probabilities(data, assert_agrees):
    X, y = data
    search = GridSearchCV(
        make_pipeline(LogisticRegression()),
        {"logisticregression": [RidgeClassifier(), LogisticRegression(C=1e-3)]},
        cv=2,
    )
    model = BaggingClassifier(search, n_estimators=8, max_samples=0.2, random_state=0).fit(X, y)
    assert len({hasattr(fitted, "predict_proba") for fitted in model.estimators_}) == 2
    assert_agrees(model, X, output="predict_proba", atol=1e-10)


@pytest.mark.parametrize(
    "estimator",
    [bagging(SCALED, max_features=0.5), bagging(RidgeClassifier()), OneVsRestClassifier(SCALED)],
)
def test_decision_function_of_what_predicts_otherwise(estimator, data):
    X, y = data
    expected = estimator.fit(X, y).decision_function(X)
    if expected.ndim == 1:
        expected = np.stack([0 * expected, expected], axis=1)
    found = decision_values(as_module(estimator), torch.from_numpy(X))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_stacking_takes_members_fitted_before(data, assert_agrees):
    X, y = data
    others = np.array(["ant", "bee", "cat", "dog"])[np.arange(len(X)) % 4]
    members = [
        ("same", LogisticRegression().fit(X, y)),
        # Members with other classes than the ensemble: fewer, or more.
        ("two", LogisticRegression().fit(X, y == "ant")),
        ("four", Prototypes().fit(X, others)),
        ("ridge", RidgeClassifier().fit(X, others)),
    ]
    assert_agrees(StackingClassifier(members, cv="prefit").fit(X, y), X, atol=1e-10)


def test_votes_of_frozen_members_count_by_their_labels(data):
    X, y = data
    codes = np.unique(y, return_inverse=True)[1]
    some = codes != 0 if codes.max() == 2 else codes >= 0
    frozen = FrozenEstimator(RidgeClassifier().fit(X[some], codes[some]))
    model = VotingClassifier([*LINES[:2], ("frozen", frozen)]).fit(X, codes)
    found = log_probabilities(as_module(model), torch.from_numpy(X)).exp()
    np.testing.assert_allclose(found, count_votes(model, X) / 3, atol=1e-12)


@pytest.mark.parametrize(
    "meta",
    [
        lambda members: VotingClassifier(members, voting="soft"),
        lambda members: StackingClassifier(members, SCALED, cv=2, passthrough=True),
        pytest.param(
            lambda members: bagging(VotingClassifier(members, voting="soft")), marks=not_in_1_6
        ),
    ],
)
def test_members_keep_their_own_precision(meta, data, assert_agrees):
    X, y = data
    # In float32, 1e4 + x is rounded to a thousandth.
    X = X + 1e4
    network = AdversarialMaxoutClassifier((8, 8), max_iter=3, random_state=0)
    single = FrozenEstimator(network.fit(X.astype(np.float32), y))
    model = meta([("line", SCALED), ("net", single)]).fit(X, y)
    module = as_module(model)
    dtypes = {tensor.dtype for tensor in module.state_dict().values()}
    assert {torch.float32, torch.float64} <= dtypes
    assert_agrees(model, X, module)


@pytest.mark.parametrize("estimator", [SOFT, bagging(SCALED), OneVsRestClassifier(SCALED), HARD])
def test_nothing_underflows_far_out(estimator, data):
    X, y = data
    module = as_module(estimator.fit(X, y))
    X = torch.from_numpy(1e4 * X).requires_grad_(True)
    logits = module(X)
    loss = log_odds_against(logits, logits.argmax(1))
    (gradient,) = torch.autograd.grad(loss.sum(), X)
    assert logits.isfinite().all() and gradient.isfinite().all()
    # The mean over members that are certain of different classes is really constant.
    sure = torch.tensor(True) if estimator is HARD else loss < -100
    assert sure.any() and (gradient != 0).any(dim=1)[sure].all()


def test_mean_of_tiny_probabilities_is_exact(data):
    X, y = data
    model = VotingClassifier(MEMBERS[:2], voting="soft", weights=[1, 3]).fit(X, y)
    X = 1e4 * X
    scores = []
    for member in model.estimators_:
        scores.append(member.decision_function(X))
        if scores[-1].ndim == 1:
            scores[-1] = np.stack([np.zeros(len(X)), scores[-1]], axis=1)
    log_p = [log_softmax(score, axis=1) for score in scores]
    expected = logsumexp(log_p, axis=0, b=np.array([0.25, 0.75])[:, None, None])
    assert expected.min() < -1000
    found = as_module(model)(torch.from_numpy(X))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_one_vs_rest_of_one_class_is_constant():
    X = np.random.default_rng(0).normal(size=(5, 2))
    with pytest.warns(UserWarning, match="present in all"):
        model = OneVsRestClassifier(LogisticRegression()).fit(X, ["only"] * 5)
    module = as_module(model)
    inputs = torch.from_numpy(X).requires_grad_(True)
    found = module(inputs)
    np.testing.assert_allclose(found.detach().softmax(1), model.predict_proba(X), atol=1e-12)
    assert not torch.autograd.grad(found.sum(), inputs)[0].any()
    found = decision_values(module, torch.from_numpy(X))[:, 1]
    np.testing.assert_allclose(found, model.decision_function(X))


METAS = [
    lambda part: VotingClassifier([("gone", "drop"), ("part", part)]),
    lambda part: StackingClassifier([("line", LogisticRegression()), ("part", part)]),
    lambda part: StackingClassifier([("line", LogisticRegression())], part),
    bagging,
    OneVsRestClassifier,
]


@pytest.mark.parametrize("meta", METAS)
def test_part_without_a_rule_is_named_before_and_after_fit(meta):
    X, y = make_classification(30, random_state=0)
    check_attackable(meta(make_pipeline(LogisticRegression())))
    model = meta(make_pipeline(DecisionTreeClassifier()))
    for refuse in (lambda: check_attackable(model), lambda: as_module(clone(model).fit(X, y))):
        with pytest.raises(TypeError, match="no rule for DecisionTreeClassifier"):
            refuse()


def test_the_default_of_bagging_is_a_tree():
    with pytest.raises(TypeError, match="no rule for DecisionTreeClassifier"):
        check_attackable(BaggingClassifier())


def test_what_has_no_gradient_or_logits_is_refused():
    X, y = make_classification(30, random_state=0)
    predicted = StackingClassifier(LINES, stack_method="predict")
    for refuse in (lambda: check_attackable(predicted), lambda: as_module(predicted.fit(X, y))):
        with pytest.raises(ValueError, match="predictions have no gradient.*stack_method"):
            refuse()
    model = VotingClassifier(LINES, weights=[1, -1, 1]).fit(X, y)
    with pytest.raises(ValueError, match=r"weights=\[1, -1, 1\]"):
        as_module(model)


@pytest.mark.parametrize(
    "model",
    [
        OneVsRestClassifier(LogisticRegression()),
        StackingClassifier([("near", KNeighborsClassifier())], KNeighborsClassifier()),
    ],
)
def test_several_labels_a_sample_are_refused(model):
    X, y = make_multilabel_classification(60, random_state=0)
    with pytest.raises(ValueError, match="one label per sample.*fitted with several"):
        as_module(model.fit(X, y))


@pytest.mark.parametrize(
    "meta",
    [
        lambda part: StackingClassifier([("part", part)], cv=2, stack_method="decision_function"),
        lambda part: CalibratedClassifierCV(part, cv=2),
        lambda part: CalibratedClassifierCV(FrozenEstimator(part), cv=2),
        lambda part: CalibratedClassifierCV(bagging(part), cv=2),
    ],
)
def test_columns_for_pairs_of_classes_are_refused(meta, data):
    X, y = data
    part = make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(X, y)
    model = meta(part).fit(X, y)
    if len(model.classes_) == 2:
        as_module(model)
    else:
        with pytest.raises(ValueError, match="decision_function_shape='ovo'.*Set it to 'ovr'"):
            as_module(model)


@pytest.mark.parametrize(
    "member", [LogisticRegression(), make_pipeline(StandardScaler(), LinearSVC())]
)
def test_linear_members_against_the_rest_are_linear(member, data):
    X, y = data
    model = OneVsRestClassifier(member).fit(X, y)
    coef, intercept = fold_linear(as_module(model), X.shape[1])
    expected = model.decision_function(X)
    found = X @ coef.numpy().T + intercept.numpy()
    found = found if expected.ndim == 2 else found[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-9)
