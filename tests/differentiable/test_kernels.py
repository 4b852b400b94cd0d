"""Support vector machines and Gaussian processes as modules."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from sk_adv import as_module
from sk_adv.differentiable._core import log_probabilities
from sk_adv.differentiable._kernels import squared_distances
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
COVARIANCES = [
    None,
    2.0 * RBF(5.0) + WhiteKernel(0.1),
    1.5 * RBF(np.linspace(3, 9, 8), "fixed"),
    ConstantKernel(2.0) * Matern(5.0, nu=0.5) + ConstantKernel(0.3),
    Matern(5.0, nu=1.5),
    Matern(np.linspace(3, 9, 8), "fixed", nu=2.5),
    Matern(5.0, nu=np.inf),
    RationalQuadratic(5.0, 0.7),
    0.01 * DotProduct() ** 2,
]
# The fits here need not be the best ones.
FIT = {"optimizer": None}


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
    # libsvm's own prediction is by votes, and ties of votes aside the module's is the same.
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


def test_gradient_at_a_support_vector_is_exact(data):
    X, y = data
    for model in (SVC(gamma=2.0), GaussianProcessClassifier(Matern(5.0, nu=1.5), **FIT)):
        at_training_points = torch.from_numpy(X[:6]).requires_grad_(True)
        assert torch.autograd.gradcheck(as_module(model.fit(X, y)), at_training_points)


def test_later_changes_of_the_model_do_not_reach_the_module(data):
    X, y = data[0], data[1] == "bee"
    X_test = torch.from_numpy(X)
    machine, process = SVC().fit(X, y), GaussianProcessClassifier(**FIT).fit(X, y)
    modules = [as_module(machine), as_module(process)]
    before = [module(X_test) for module in modules]
    for weights in (machine.support_vectors_, machine.dual_coef_, machine.intercept_):
        weights[:] = 1
    inner = process.base_estimator_
    inner.kernel_.theta = inner.kernel_.theta + 1
    inner.kernel_.set_params(k1=ConstantKernel(5.0))
    for weights in (inner.X_train_, inner.y_train_, inner.pi_, inner.W_sr_, inner.L_):
        weights[:] = 1
    assert all(map(torch.equal, before, [module(X_test) for module in modules]))


def test_distances_do_not_cancel_far_from_zero():
    points = np.random.default_rng(0).normal(size=(30, 5)) + 1e6
    points[1] = points[0] + 1e-3
    exact = ((points[:, None] - points) ** 2).sum(2)
    found = squared_distances(torch.from_numpy(points), torch.from_numpy(points))
    np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-13)
    single = torch.from_numpy(points - 1e6).float()
    found = squared_distances(single, single)
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-6)
    spread = 1e8 * single
    assert (squared_distances(spread, spread) >= 0).all()
    spread = spread.double()
    assert (squared_distances(spread, spread) >= 0).all()


@pytest.mark.parametrize("kernel", COVARIANCES, ids=repr)
def test_module_is_the_gaussian_process(kernel, data, assert_agrees, assert_gradients):
    X, y = data
    model = GaussianProcessClassifier(kernel, **FIT).fit(X[:80], y[:80])
    assert_agrees(model, X, atol=1e-8)
    assert_agrees(model, X, dtype=torch.float32, atol=1e-4)
    assert_gradients(model, X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_kernel_is_the_fitted_one(data, assert_agrees):
    X, y = data
    model = GaussianProcessClassifier(1.0 * RBF(np.ones(8)), max_iter_predict=20).fit(
        X[:40], y[:40]
    )
    assert_agrees(model, X)


def test_gaussian_process_stands_units_far_apart(uneven, assert_agrees, assert_gradients):
    X, y = uneven
    kernel = 4.0 * RBF(2 * X.std(axis=0), "fixed")
    model = GaussianProcessClassifier(kernel, **FIT).fit(X[:80], y[:80])
    assert_agrees(model, X)
    assert_agrees(model, X, dtype=torch.float32, atol=1e-3)
    assert_gradients(model, X)
    # Without length scales nothing is near anything, and single precision must not overflow.
    model = GaussianProcessClassifier(**FIT).fit(X, y)
    assert_agrees(model, X, dtype=torch.float32, atol=1e-5)


def test_process_that_is_sure_of_itself_has_finite_log_odds():
    X, y = make_classification(random_state=0)
    model = GaussianProcessClassifier(RBF(5.0), **FIT).fit(X, y)
    X = torch.from_numpy(X).requires_grad_(True)
    sign = torch.from_numpy(model.predict(X.detach().numpy()) * 2 - 1)
    for scale in (1, 10, 100, 1e4):
        module = as_module(model)
        # The latent mean, not its variance, grows.
        module.processes[0].residual *= scale
        log_odds = module(X)[:, 1]
        (gradient,) = torch.autograd.grad(log_odds.sum(), X)
        assert log_odds.isfinite().all()
        assert gradient.isfinite().all()
        assert torch.equal(log_odds.sign(), sign.double())
    # The probabilities are at their smallest here: all that is left of p is a tiny number.
    assert log_odds.min() < -600


def test_votes_of_processes_are_refused():
    X, y = make_classification(60, n_informative=4, n_classes=3, random_state=0)
    model = GaussianProcessClassifier(multi_class="one_vs_one", **FIT).fit(X, y)
    with pytest.raises(TypeError, match="one_vs_one.*neither.*one_vs_rest.*surrogate"):
        as_module(model)
    is_two = y < 2
    assert as_module(clone(model).fit(X[is_two], y[is_two]))(torch.from_numpy(X)).shape == (60, 2)


@pytest.mark.parametrize("kernel", [ExpSineSquared(), 2.0 * RBF() + Matern(nu=1.0)], ids=repr)
def test_kernels_without_a_formula_here_are_named(kernel):
    X, y = make_classification(20, random_state=0)
    model = GaussianProcessClassifier(kernel, **FIT).fit(X, y)
    with pytest.raises(TypeError, match="(ExpSine|Matern).*knows RBF.*surrogate"):
        as_module(model)
