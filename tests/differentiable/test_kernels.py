"""Claims that hold for support vector machines and Gaussian processes alike."""

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    Matern,
)
from sklearn.svm import SVC

from sk_adv import as_module
from sk_adv.differentiable._kernels import squared_distances

# The kernel parameters need not be optimal here.
FIT = {"optimizer": None}


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
