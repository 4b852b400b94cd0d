"""The kinds of data that linear models take: frames, tensors, precisions."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import AdversarialLogisticRegressionCV

RESULTS = ["predict", "decision_function", "predict_proba", "predict_log_proba"]
sklearn_version = parse_version(sklearn.__version__)


@pytest.fixture
def dispatch():
    """A function that makes the context in which scikit-learn dispatches tensors."""
    try:
        with sklearn.config_context(array_api_dispatch=True):
            pass
    except ImportError as error:
        pytest.skip(f"scikit-learn does not dispatch tensors here: {error}")
    return lambda: sklearn.config_context(array_api_dispatch=True)


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_fit_as_arrays_and_give_their_names(problem, library):
    X, y, weight = problem()
    names = [f"sensor {k}" for k in range(X.shape[1])]
    frame = library.DataFrame(dict(zip(names, X.T, strict=True)))
    if not hasattr(frame, "__dataframe__") and sklearn_version < parse_version("1.9"):
        pytest.skip("scikit-learn below 1.9 can't read the names of polars 2.")
    labels = library.Series(y)
    found = AdversarialLogisticRegression(epsilon=0.1).fit(
        frame, labels, sample_weight=library.Series(weight)
    )
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-12)
    assert list(found.feature_names_in_) == names
    for result in RESULTS[1:]:
        np.testing.assert_allclose(
            getattr(found, result)(frame), getattr(expected, result)(X), atol=1e-12
        )
    np.testing.assert_array_equal(found.predict(frame), expected.predict(X))


def test_sparse_tensors_are_refused_with_what_to_pass(problem):
    X, y, _ = problem()
    with pytest.raises(TypeError, match="Sparse tensors.*SciPy"):
        AdversarialLogisticRegression().fit(torch.as_tensor(X).to_sparse_csr(), y)


def test_single_precision_is_solved_as_double(problem):
    X, y, _ = problem(300)
    X = X.astype(np.float32)
    found = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X.astype(float), y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-9)


def test_tensors_fit_as_arrays(problem):
    X, y, _ = problem()
    found = AdversarialLogisticRegression(epsilon=0.1).fit(torch.as_tensor(X), y)
    expected = AdversarialLogisticRegression(epsilon=0.1).fit(X, y)
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    for result in RESULTS:
        np.testing.assert_array_equal(
            getattr(found, result)(torch.as_tensor(X)), getattr(expected, result)(X)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "model",
    [
        AdversarialLogisticRegression(epsilon=0.1, C=1.0),
        AdversarialLogisticRegressionCV(epsilons=3, C=1.0, cv=3),
    ],
)
def test_dispatched_tensors_give_tensors(problem, dispatch, dtype, n_classes, model):
    X, y, _ = problem(90, n_classes=n_classes)
    expected = model.fit(X, y)
    expected = {result: getattr(model, result)(X) for result in RESULTS} | {"coef_": model.coef_}
    tensor, labels = torch.as_tensor(X, dtype=dtype), np.unique(y, return_inverse=True)[1]
    with dispatch():
        model.fit(tensor, torch.as_tensor(labels))
        found = {result: getattr(model, result)(tensor) for result in RESULTS}
        found["coef_"] = model.coef_
        assert model.score(tensor, torch.as_tensor(labels)) == pytest.approx(
            np.mean(expected["predict"] == y), abs=1e-6
        )
        for result in ("decision_function", "predict_proba", "predict_log_proba", "coef_"):
            assert isinstance(found[result], torch.Tensor)
            assert found[result].dtype == dtype
            np.testing.assert_allclose(found[result], expected[result], atol=1e-4)
        assert isinstance(found["predict"], torch.Tensor)
        np.testing.assert_array_equal(np.unique(y)[found["predict"]], expected["predict"])


@pytest.mark.skipif(
    sklearn_version < parse_version("1.8"), reason="StandardScaler takes tensors from 1.8 on."
)
def test_dispatched_tensors_run_through_pipelines_and_searches(problem, dispatch):
    X, y, _ = problem(90)
    tensor, labels = torch.as_tensor(X), torch.as_tensor(np.unique(y, return_inverse=True)[1])
    pipeline = make_pipeline(StandardScaler(), AdversarialLogisticRegression(C=1.0))
    grid = {"adversariallogisticregression__epsilon": [0.05, 0.2]}
    expected = cross_val_score(pipeline, X, labels.numpy(), cv=3)
    with dispatch():
        found = cross_val_score(pipeline, tensor, labels, cv=3)
        search = GridSearchCV(pipeline, grid, cv=3).fit(tensor, labels)
        assert isinstance(search.predict(tensor), torch.Tensor)
    np.testing.assert_allclose(found, expected, atol=1e-6)
