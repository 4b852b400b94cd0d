"""Modules against their estimators, and gradients against finite differences."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE, RFECV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier, as_module
from sk_adv.attacks import fgsm
from sk_adv.linear_model import AdversarialLogisticRegressionCV

NETWORK = AdversarialMaxoutClassifier((16, 16), max_iter=3, random_state=0)
ESTIMATORS = [
    LogisticRegression(),
    LogisticRegression(fit_intercept=False),
    AdversarialLogisticRegression(epsilon=0.1, alpha=0.3),
    NETWORK,
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
    make_pipeline(StandardScaler(with_std=False), LogisticRegression()),
    make_pipeline(MinMaxScaler((-1, 2)), AdversarialLogisticRegression(epsilon=0.1)),
    make_pipeline(MinMaxScaler(clip=True), "passthrough", LogisticRegression()),
    make_pipeline(StandardScaler(), NETWORK),
    GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}),
    RandomizedSearchCV(LogisticRegression(), {"C": [0.1, 1]}, n_iter=1, random_state=0),
    AdversarialLogisticRegressionCV(epsilons=3, cv=2),
    RFE(LogisticRegression()),
    make_pipeline(RFECV(LogisticRegression(), cv=2), LogisticRegression()),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_softmax_of_the_module_is_predict_proba(estimator, data, assert_agrees):
    X, y = data
    # Beyond the training range too, where a clipping scaler clips.
    assert_agrees(estimator.fit(X[:80], y[:80]), 1.5 * X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_of_the_module_matches_finite_differences(estimator, data, assert_gradients):
    X, y = data
    assert_gradients(estimator.fit(X, y), 0.9 * X)


def test_two_class_logits_are_zero_and_the_decision_function():
    X, y = make_classification(random_state=0)
    model = LogisticRegression().fit(X, y)
    logits = as_module(model)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(logits[:, 0], 0)
    np.testing.assert_allclose(logits[:, 1], model.decision_function(X), rtol=1e-12)


def test_attack_through_a_pipeline_is_in_raw_units():
    X, y = make_classification(random_state=0)
    X = X * np.logspace(-3, 3, X.shape[1])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    epsilon = 0.1 * X.std(axis=0)
    copies = fgsm(as_module(model), X, y, epsilon)
    # The closed form in raw units: the weights behind the scaler are coef / scale.
    step = np.sign(model[-1].coef_) * np.where(y == 1, -1, 1)[:, None]
    np.testing.assert_allclose(copies, X + epsilon * step, rtol=1e-12)


def test_module_is_a_frozen_copy():
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train()
    module = as_module(original)
    assert not module.training and original.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    before = module(torch.ones(1, 3))
    original[0].weight.data.zero_()
    assert torch.equal(module(torch.ones(1, 3)), before)
    assert as_module(original, dtype=torch.float64)[0].weight.dtype == torch.float64
    assert original[0].weight.dtype == torch.float32


def test_frozen_estimator_is_the_estimator_inside():
    X, y = make_classification(random_state=0)
    model = LogisticRegression().fit(X, y)
    inside = as_module(FrozenEstimator(model))(torch.from_numpy(X))
    assert torch.equal(inside, as_module(model)(torch.from_numpy(X)))


def test_third_party_can_register_a_rule():
    class Constant(BaseEstimator):
        def fit(self, X, y):
            self.logits_ = np.bincount(y) / len(y)
            return self

    @as_module.register(Constant)
    def _(estimator):
        module = nn.Linear(2, 2)
        module.bias.data = torch.as_tensor(estimator.logits_, dtype=torch.float32)
        module.weight.data.zero_()
        return module

    fitted = make_pipeline(StandardScaler(), Constant()).fit(np.eye(2), np.array([0, 1]))
    assert torch.equal(as_module(fitted)(torch.ones(1, 2).double()), torch.full((1, 2), 0.5))
    with pytest.raises(NotFittedError):
        as_module(Constant())


@pytest.mark.parametrize("estimator", [*ESTIMATORS, FrozenEstimator(LogisticRegression())])
def test_unfitted_estimator_is_refused(estimator):
    from sklearn.base import clone

    with pytest.raises(NotFittedError, match="not fitted"):
        as_module(clone(estimator))


@pytest.mark.parametrize(
    "estimator", [DecisionTreeClassifier(), make_pipeline(DecisionTreeClassifier())]
)
def test_unknown_estimator_is_named_with_the_ways_on(estimator):
    estimator.fit(np.eye(2), [0, 1])
    with pytest.raises(TypeError, match="DecisionTreeClassifier.*register.*surrogate.*Module"):
        as_module(estimator)


def test_what_has_no_module_is_explained():
    with pytest.raises(TypeError, match="the class LogisticRegression itself"):
        as_module(LogisticRegression)
    search = GridSearchCV(LogisticRegression(), {}, refit=False, cv=2).fit(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(NotFittedError, match="refit=False"):
        as_module(search)


@pytest.mark.parametrize("dtype", [torch.int64, np.float32, "float32"])
def test_what_is_no_floating_type_of_torch_is_refused(dtype):
    with pytest.raises(TypeError, match="dtype.*torch.float32; got"):
        as_module(nn.Linear(1, 2), dtype=dtype)


def test_missing_device_is_refused():
    with pytest.raises(ValueError, match="device='cuda:99'.*cpu"):
        as_module(nn.Linear(1, 2), device="cuda:99")
    with pytest.raises(ValueError, match="device='meta'.*cpu"):
        as_module(nn.Linear(1, 2), device="meta")


@pytest.mark.parametrize("solver", [{}, {"solver": "eigen", "shrinkage": 0.1}], ids=str)
def test_discriminant_analysis_can_be_a_step_before_the_last(solver, data, assert_agrees):
    X, y = data
    for n_components in (None, 1):
        reduce = LinearDiscriminantAnalysis(**solver, n_components=n_components)
        assert_agrees(make_pipeline(StandardScaler(), reduce, LogisticRegression()).fit(X, y), X)


def test_other_classifiers_as_transformers_are_refused(data):
    vote = VotingClassifier([("a", LogisticRegression())], voting="soft")
    model = make_pipeline(vote, LogisticRegression()).fit(*data)
    with pytest.raises(TypeError, match="VotingClassifier as a transformer.*surrogate"):
        as_module(model)


def test_empty_pipeline_passes_everything_on(data):
    module = as_module(make_pipeline("passthrough").fit(*data))
    X = torch.as_tensor(data[0])
    assert torch.equal(module(X), X)
