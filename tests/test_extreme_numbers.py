"""Numbers near the ends of their types give finite answers, or one sentence."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sk_adv import AdversarialLogisticRegression
from sk_adv.attacks import fgsm, perturb
from sk_adv.inspection import TransferMatrixDisplay
from sk_adv.linear_model import adversarial_logistic_path

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def model():
    return AdversarialLogisticRegression(epsilon=0.1, C=1.0).fit(X, Y)


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        (np.float32, (1e300, 1e301)),
        (np.float64, (np.inf, np.inf)),
        (np.float32, ([1e39] * 4, 1e40)),
    ],
)
def test_bounds_without_a_number_of_the_dtype_of_the_samples_are_refused(model, dtype, given):
    with pytest.raises(ValueError, match="finite number of the dtype"):
        perturb(model, X.astype(dtype), Y, epsilon=0.1, bounds=given)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "rotate_towards_gradient"])
def test_large_radii_and_samples_give_no_nan(model, attack):
    options = {"norm": 2, "attack": attack, "random_state": 0}
    assert np.isfinite(perturb(model, X, Y, epsilon=1e300, **options)).all()
    assert np.isfinite(perturb(model, X * 1e299, Y, epsilon=0.1, **options)).all()


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_a_large_radius_is_used_up_along_the_gradient(norm):
    module = nn.Linear(4, 3).double()
    step = (fgsm(module, X, Y, 1e200, norm=norm) - X) / 1e200
    small = fgsm(module, X, Y, 1e-3, norm=norm) - X
    np.testing.assert_allclose(step, small / 1e-3, rtol=1e-9, atol=1e-9)


def test_a_penalty_that_would_overflow_is_refused():
    with pytest.raises(ValueError, match=r"penalty 1 / \(C Σ s\) is too large"):
        AdversarialLogisticRegression(C=5e-324).fit(X, Y)
    with pytest.raises(ValueError, match=r"penalty 1 / \(C Σ s\) is too large"):
        AdversarialLogisticRegression(C=1.0).fit(X, Y, np.full(150, 1e-320))


def test_a_radius_beyond_the_dtype_of_the_samples_is_named():
    with pytest.raises(ValueError, match=r"epsilon=1e\+300 is beyond the numbers of torch.float32"):
        fgsm(nn.Linear(4, 3), X.astype(np.float32), Y, 1e300)


@pytest.mark.parametrize("size", [0, 1e-300])
def test_features_that_are_zero_leave_the_shares_of_the_classes(size):
    weight = np.arange(150) + 1.0
    model = AdversarialLogisticRegression(C=np.inf).fit(X * size, Y, weight)
    shares = np.bincount(Y, weight) / weight.sum()
    np.testing.assert_allclose(model.predict_proba(X * size)[0], shares, rtol=1e-6)
    without = AdversarialLogisticRegression(fit_intercept=False).fit(X * size, Y, weight)
    np.testing.assert_allclose(without.predict_proba(X * size), 1 / 3)


def test_a_path_of_one_weighted_class_without_an_intercept_is_that_of_single_fits():
    params = {"C": 1e-3, "fit_intercept": False, "class_weight": {0: 0.0}}
    X2, y2 = X[:100] - X[:100].mean(0), Y[:100]
    path = adversarial_logistic_path(X2, y2, n_epsilons=4, **params)
    for radius, coef, intercept in zip(
        path["epsilons"], path["coefs"], path["intercepts"], strict=True
    ):
        fitted = AdversarialLogisticRegression(epsilon=radius, **params).fit(X2, y2)
        np.testing.assert_allclose(coef, fitted.coef_, atol=1e-6)
        assert intercept == fitted.intercept_ == 0


def test_weights_whose_sum_overflows_are_refused_by_displays_too():
    with pytest.raises(ValueError, match="sum of the weights overflows"):
        TransferMatrixDisplay.from_predictions(Y, [[Y]], sample_weight=np.full(150, 1e308))


def test_a_violation_that_can_not_be_computed_is_infinite_and_warned_of():
    units = X[:100, :3] * [1e-150, 1.0, 1e150]
    with pytest.warns(ConvergenceWarning, match="violation of inf"):
        path = adversarial_logistic_path(units, Y[:100], n_epsilons=2, norm=2, C=1.0)
    assert not np.isnan(path["violations"]).any() and np.isfinite(path["coefs"]).all()
