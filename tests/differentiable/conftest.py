"""Data, and checks that apply to every rule of as_module."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

from sk_adv import as_module


@pytest.fixture(params=[2, 3], ids="{} classes".format)
def data(request):
    """120 samples of 8 features, with two classes and with three; the labels are words."""
    X, y = make_classification(
        120, 8, n_informative=5, n_classes=request.param, class_sep=0.5, random_state=0
    )
    return 3 * X + np.arange(8), np.array(["ant", "bee", "cat"])[y]


@pytest.fixture
def uneven(data):
    """The same data with features in units from 1e-3 to 1e3, the large ones far from zero."""
    X, y = data
    unit = np.logspace(-3, 3, X.shape[1])
    return (X + 100 * (unit > 1)) * unit, y


@pytest.fixture
def assert_agrees():
    """A function that compares a fitted estimator's module with the estimator."""
    return check_agreement


@pytest.fixture
def assert_gradients():
    """A function that compares the gradient of an estimator's module with differences."""
    return check_gradients


def check_agreement(estimator, X, module=None, *, output=None, dtype=torch.float64, atol=1e-6):
    """Check that the softmax is `predict_proba`, or else that the logits are `decision_function`.

    `output` names the method explicitly. Two classes have logits (0, d). X is also moved beyond
    the range of the training data.
    """
    output = output or ("predict_proba" if hasattr(estimator, "predict_proba") else None)
    if module is None:
        module = as_module(estimator, dtype=dtype)
    X = np.concatenate([X, X + 0.5 * (X - X.mean(axis=0))])
    logits = module(torch.as_tensor(X, dtype=dtype))
    assert logits.dtype == dtype
    if output == "predict_proba":
        expected, found = estimator.predict_proba(X), logits.softmax(1)
    else:
        expected, found = estimator.decision_function(X), logits
        if expected.ndim == 1:
            expected = np.stack([np.zeros(len(X)), expected], axis=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=atol, rtol=atol)


def check_gradients(estimator, X, module=None):
    """Compare with differences at the first rows of X, in units of each feature's spread."""
    if module is None:
        module = as_module(estimator, dtype=torch.float64)
    # Away from the training points, where a clipping scaler has its kinks.
    origin = torch.as_tensor(X[:8] + 0.01 * X.std(axis=0))
    spread = torch.as_tensor(X.std(axis=0))
    shift = torch.zeros_like(origin).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda shift: module(origin + spread * shift), shift)
