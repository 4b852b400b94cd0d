"""Gaussian processes as modules."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
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

from sk_adv import as_module

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
# The kernel parameters need not be optimal here.
FIT = {"optimizer": None}


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
    # Without length scales all samples are far apart, and float32 must not overflow.
    model = GaussianProcessClassifier(**FIT).fit(X, y)
    assert_agrees(model, X, dtype=torch.float32, atol=1e-5)


def test_process_that_is_sure_of_itself_has_finite_log_odds():
    X, y = make_classification(random_state=0)
    model = GaussianProcessClassifier(RBF(5.0), **FIT).fit(X, y)
    X = torch.from_numpy(X).requires_grad_(True)
    sign = torch.from_numpy(model.predict(X.detach().numpy()) * 2 - 1)
    for scale in (1, 10, 100, 1e4):
        module = as_module(model)
        # The latent mean grows, not its variance.
        module.processes[0].residual *= scale
        log_odds = module(X)[:, 1]
        (gradient,) = torch.autograd.grad(log_odds.sum(), X)
        assert log_odds.isfinite().all()
        assert gradient.isfinite().all()
        assert torch.equal(log_odds.sign(), sign.double())
    # The smallest probability is tiny here.
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
