"""Support vector machines as modules."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from sk_adv import as_module
from sk_adv.differentiable import log_probabilities
from sk_adv.differentiable._linear import fold_linear

MACHINES = [
    machine(kernel=kernel, **params)
    for machine in (SVC, NuSVC)
    for kernel, params in [
        ("linear", {}),
        ("poly", {}),
        ("poly", {"degree": 2, "coef0": 1.5, "gamma": 0.01}),
        ("rbf", {}),
        ("rbf", {"gamma": "auto", "class_weight": "balanced"}),
        ("sigmoid", {"gamma": 0.01, "coef0": -0.5}),
    ]
]


@pytest.mark.parametrize("machine", MACHINES, ids=repr)
def test_module_is_libsvms_decision(machine, data, assert_agrees, assert_gradients):
    X, y = data
    machine.fit(X[:80], y[:80])
    assert_agrees(machine, X, atol=1e-7 if machine.kernel == "linear" else 1e-9)
    assert_agrees(machine, X, dtype=torch.float32, atol=1e-2)
    assert_gradients(machine, X)


def test_features_may_have_units_far_apart(uneven, assert_agrees, assert_gradients):
    X, y = uneven
    for machine in (SVC(), make_pipeline(StandardScaler(), SVC(kernel="poly"))):
        assert_agrees(machine.fit(X[:80], y[:80]), X, atol=1e-9)
        assert_gradients(machine, X)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
def test_six_pairs_of_four_classes_vote(kernel, assert_agrees):
    X, y = make_classification(200, 8, n_informative=6, n_classes=4, random_state=0)
    machine = SVC(kernel=kernel).fit(X[:150], y[:150])
    assert_agrees(machine, X, atol=1e-9)
    # libsvm predicts by votes. Except for ties, the module predicts the same.
    votes = as_module(machine)(torch.from_numpy(X))
    top = votes.sort(1).values.round()
    has_one_winner = top[:, -1] > top[:, -2]
    assert has_one_winner.sum() > 150
    predicted = machine.predict(X)
    np.testing.assert_array_equal(votes.argmax(1)[has_one_winner], predicted[has_one_winner])


@pytest.mark.parametrize("break_ties", [False, True])
def test_a_machine_votes_as_it_predicts_where_its_pairs_are_tied(break_ties):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 5, 200)
    machine = SVC(kernel="linear", C=0.1, break_ties=break_ties)
    model = BaggingClassifier(machine, n_estimators=4, random_state=0).fit(X, y)
    values = model.estimators_[0].decision_function(X)
    tied = values.argmax(axis=1) != model.estimators_[0].predict(X)
    assert tied.any() != break_ties
    found = as_module(model).log_probabilities(torch.from_numpy(X)).exp()
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-12)


def test_decisions_asked_for_one_by_one_are_voted_all_the_same(data, assert_agrees):
    X, y = data
    one_by_one = SVC(decision_function_shape="ovo").fit(X, y)
    assert_agrees(SVC().fit(X, y), X, as_module(one_by_one))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_machine_may_be_fitted_to_sparse_samples(kernel, data, assert_agrees):
    X, y = data
    machine = SVC(kernel=kernel).fit(sparse.csr_array(X), y)
    assert sparse.issparse(machine.support_vectors_)
    assert_agrees(machine, X)


def test_linear_machine_of_two_classes_is_linear_from_end_to_end():
    X, y = make_classification(random_state=0)
    machine = SVC(kernel="linear").fit(X, y)
    coef, intercept = fold_linear(as_module(machine), X.shape[1])
    np.testing.assert_allclose(coef[1:], machine.coef_)
    np.testing.assert_allclose(intercept[1:], machine.intercept_)
    with pytest.raises(TypeError, match="not linear"):
        fold_linear(as_module(SVC().fit(X, y)), X.shape[1])


@pytest.mark.parametrize("kernel", [rbf_kernel, "precomputed"])
def test_kernels_that_are_no_functions_of_torch_are_refused(kernel):
    X, y = make_classification(20, 20, random_state=0)
    with pytest.raises(TypeError, match="NuSVC.*kernel=.*as_module.register.*surrogate"):
        as_module(NuSVC(kernel=kernel).fit(X @ X.T, y))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_probabilities_of_libsvm_are_refused():
    X, y = make_classification(random_state=0)
    machine = make_pipeline(StandardScaler(), SVC(probability=True)).fit(X, y)
    with pytest.raises(TypeError, match="CalibratedClassifierCV"):
        log_probabilities(as_module(machine), torch.from_numpy(X))
