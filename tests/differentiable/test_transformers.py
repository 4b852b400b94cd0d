"""Transformers as modules, alone and before a classifier."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from sk_adv import as_module
from sk_adv.differentiable import has_rule
from sk_adv.differentiable._linear import is_affine

LINEAR = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((-1, 2)),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False, quantile_range=(10, 90)),
    RobustScaler(with_scaling=False),
    PCA(3),
    PCA(3, whiten=True),
    IncrementalPCA(2),
    TruncatedSVD(3),
    VarianceThreshold(1.0),
    SelectKBest(k=3),
    SelectFromModel(LogisticRegression(max_iter=1000)),
    FunctionTransformer(),
]
NONLINEAR = [
    MinMaxScaler(clip=True),
    Normalizer("l1"),
    Normalizer("l2"),
    Normalizer("max"),
    PolynomialFeatures(3),
    PolynomialFeatures((2, 3), interaction_only=True, include_bias=False),
    PolynomialFeatures(0),
    SimpleImputer(),
    SimpleImputer(add_indicator=True),
    FunctionTransformer(np.exp),
    FunctionTransformer(lambda X, power: abs(X) ** power, kw_args={"power": 1.5}),
]


@pytest.mark.parametrize("transformer", [*LINEAR, *NONLINEAR], ids=repr)
def test_module_transforms_as_the_transformer_does(transformer, data):
    X, y = data
    transformer = clone(transformer).fit(X / 4, y)
    X = X / 4 * 1.5
    found = as_module(transformer)(torch.as_tensor(X)).numpy()
    np.testing.assert_allclose(found, transformer.transform(X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("transformer", [*LINEAR, *NONLINEAR], ids=repr)
def test_classifier_behind_it_is_met_in_raw_units(
    transformer, uneven, assert_agrees, assert_gradients
):
    X, y = uneven
    if isinstance(transformer, FunctionTransformer | PolynomialFeatures | Normalizer):
        # Sums and powers of features need features in similar units.
        X = X / X.std(axis=0) / 4
    model = make_pipeline(clone(transformer), StandardScaler(), LogisticRegression()).fit(X, y)
    assert_agrees(model, X)
    if not isinstance(transformer, MinMaxScaler):
        assert_gradients(model, X)


@pytest.mark.parametrize("transformer", LINEAR, ids=repr)
def test_linear_maps_are_known_as_such(transformer, data):
    module = as_module(clone(transformer).fit(*data))
    assert is_affine(module)
    a, b = torch.as_tensor(data[0][:5]), torch.as_tensor(data[0][5:10])
    torch.testing.assert_close(module(0.3 * a + 0.7 * b), 0.3 * module(a) + 0.7 * module(b))


@pytest.mark.parametrize("transformer", NONLINEAR, ids=repr)
def test_other_maps_are_not(transformer, data):
    assert not is_affine(as_module(clone(transformer).fit(data[0] / 4)))


def test_components_from_sparse_data_may_run_backwards_in_memory():
    X = sparse.random(30, 6, density=0.5, random_state=0, format="csr")
    transformer = PCA(2, svd_solver="arpack").fit(X)
    assert min(transformer.components_.strides) < 0
    found = as_module(transformer)(torch.as_tensor(X.toarray())).numpy()
    np.testing.assert_allclose(found, transformer.transform(X), atol=1e-12)


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_offsets_that_dwarf_the_spread_do_no_harm(offset):
    X = offset + np.random.default_rng(0).normal(size=(50, 3))
    for scaler in (StandardScaler(), RobustScaler()):
        found = as_module(scaler.fit(X))(torch.as_tensor(X)).numpy()
        np.testing.assert_allclose(found, scaler.transform(X), rtol=1e-12, atol=1e-12)


def test_unit_norm_of_a_zero_sample_has_a_finite_gradient():
    for norm in ("l1", "l2", "max"):
        module = as_module(Normalizer(norm).fit(np.eye(3)))
        X = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        module(X).sum().backward()
        assert torch.equal(module(X), X) and torch.isfinite(X.grad).all()


@pytest.mark.parametrize("norm", [None, "l1", "l2"])
@pytest.mark.parametrize("use_idf", [True, False])
def test_tf_idf_agrees_and_is_linear_before_it_is_normalised(norm, use_idf):
    X = np.random.default_rng(0).poisson(0.7, (40, 5)).astype(float)
    tfidf = TfidfTransformer(norm=norm, use_idf=use_idf).fit(X)
    X[0] = 0
    module = as_module(tfidf)
    np.testing.assert_allclose(module(torch.as_tensor(X)), tfidf.transform(X).toarray())
    assert is_affine(module) == (norm is None)


def test_tf_idf_with_logarithms_is_refused():
    tfidf = TfidfTransformer(sublinear_tf=True)
    assert not has_rule(tfidf)
    with pytest.raises(TypeError, match="sublinear_tf=True.*False"):
        as_module(tfidf.fit(np.eye(3)))


def test_gradient_of_a_monomial_at_zero_is_right():
    module = as_module(PolynomialFeatures(3).fit(np.eye(2)))
    X = torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, X)


@pytest.mark.parametrize("missing_value", [np.nan, -1.0])
@pytest.mark.parametrize(
    "params",
    [
        {"strategy": "mean"},
        {"strategy": "median", "add_indicator": True},
        {"strategy": "most_frequent"},
        {"strategy": "constant", "fill_value": 7.5},
        {"strategy": "mean", "keep_empty_features": True},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_imputer_fills_and_indicates_as_scikit_learn_does(missing_value, params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4)).round(1)
    X[rng.random(X.shape) < 0.2] = missing_value
    X[:, 2] = missing_value
    imputer = SimpleImputer(missing_values=missing_value, **params).fit(X)
    found = as_module(imputer)(torch.as_tensor(X)).numpy()
    np.testing.assert_array_equal(found, imputer.transform(X))


def test_gradient_passes_by_what_was_missing():
    X = np.array([[1.0, np.nan], [3.0, 5.0]])
    module = as_module(SimpleImputer().fit(X))
    X = torch.as_tensor(X).requires_grad_(True)
    module(X).sum().backward()
    assert X.grad.tolist() == [[1, 0], [1, 1]]


def test_imputer_of_words_is_refused():
    X = np.array([["ant"], ["bee"], ["ant"]], dtype=object)
    imputer = SimpleImputer(strategy="most_frequent", missing_values=None).fit(X)
    with pytest.raises(TypeError, match="SimpleImputer of numbers"):
        as_module(imputer)


@pytest.mark.parametrize(
    ("function", "reason"),
    [(np.sort, ""), (lambda X: 1 / 0, "zero"), (lambda X: (X > 0) * 1.0, "no gradient")],
)
def test_function_that_tensors_do_not_know_is_refused(function, reason):
    with pytest.raises(TypeError, match=f"FunctionTransformer.*{reason}.*surrogate"):
        as_module(FunctionTransformer(function))
