"""Rules for transformers of numerical features."""

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.decomposition._base import _BasePCA
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from torch import nn

from sk_adv._arrays import to_tensor
from sk_adv.differentiable._as_module import as_module
from sk_adv.differentiable._composition import Chain, Select


class Affine(nn.Module):
    """(x - center) ∘ scale + shift, clamped to `limits` if these are given."""

    def __init__(self, *, center=0.0, scale=1.0, shift=0.0, limits=None):
        super().__init__()
        for name, value in (("center", center), ("scale", scale), ("shift", shift)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64).clone())
        self.limits = limits

    def forward(self, X):
        """Transform X of shape (n_samples, n_features)."""
        result = (X - self.center) * self.scale + self.shift
        return result if self.limits is None else torch.clamp(result, *self.limits)

    @property
    def is_affine(self):
        """Whether nothing is clamped."""
        return self.limits is None


class Projection(nn.Module):
    """W (x - center)."""

    is_affine = True

    def __init__(self, weight, center):
        super().__init__()
        self.register_buffer("weight", to_tensor(weight).clone())
        self.register_buffer("center", to_tensor(center).clone())

    def forward(self, X):
        """Map X of shape (n_samples, n_features) to (n_samples, n_components)."""
        return (X - self.center) @ self.weight.T


class UnitNorm(nn.Module):
    """x / ‖x‖; a sample of norm 0 stays as it is."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, X):
        """Transform X of shape (n_samples, n_features)."""
        norm = torch.linalg.vector_norm(X, ord=self.order, dim=1, keepdim=True)
        return X / torch.where(norm == 0, 1, norm)


class Monomials(nn.Module):
    """Products of powers: Π_j x_j^{p_j}, for each row p of `powers`."""

    def __init__(self, powers):
        super().__init__()
        n_features = powers.shape[1]
        degree = max(1, powers.sum(1).max())
        # The factors of each product; a constant 1 behind the features fills up the short ones.
        factors = [np.repeat(np.arange(n_features), row) for row in powers]
        factors = [
            np.pad(row, (0, degree - len(row)), constant_values=n_features) for row in factors
        ]
        self.register_buffer("factors", torch.as_tensor(np.array(factors)))

    def forward(self, X):
        """Map X of shape (n_samples, n_features) to (n_samples, n_products)."""
        return torch.cat([X, torch.ones_like(X[:, :1])], dim=1)[:, self.factors].prod(2)


class Fill(nn.Module):
    """Replace missing values as a `SimpleImputer` does, and append its indicator columns.

    Missing values of feature j become `fill[j]`. A feature whose `fill` is NaN had no values in the
    fit, and is dropped. An indicator column is 1 where its feature is missing, and 0 elsewhere.
    """

    def __init__(self, missing_value, fill, indicated):
        super().__init__()
        self.missing_value = missing_value
        self.kept = Select(np.flatnonzero(~np.isnan(fill)))
        self.indicated = Select(indicated)
        self.register_buffer("fill", torch.as_tensor(fill[~np.isnan(fill)]))

    def forward(self, X):
        """Map X of shape (n_samples, n_features) to (n_samples, n_kept + n_indicated)."""
        missing = X.isnan() if np.isnan(self.missing_value) else X.eq(self.missing_value)
        filled = torch.where(self.kept(missing), self.fill, self.kept(X))
        return torch.cat([filled, self.indicated(missing).to(filled)], dim=1)


class Function(nn.Module):
    """A function of tensors."""

    def __init__(self, function, keywords):
        super().__init__()
        self.function = function
        self.keywords = keywords

    def forward(self, X):
        """The function's value at X."""
        return self.function(X, **self.keywords)


@as_module.register(StandardScaler)
def _(scaler):
    return Affine(
        center=scaler.mean_ if scaler.with_mean else 0.0,
        scale=1 / scaler.scale_ if scaler.with_std else 1.0,
    )


@as_module.register(RobustScaler)
def _(scaler):
    return Affine(
        center=scaler.center_ if scaler.with_centering else 0.0,
        scale=1 / scaler.scale_ if scaler.with_scaling else 1.0,
    )


@as_module.register(MinMaxScaler)
def _(scaler):
    limits = scaler.feature_range if scaler.clip else None
    return Affine(scale=scaler.scale_, shift=scaler.min_, limits=limits)


@as_module.register(MaxAbsScaler)
def _(scaler):
    # Clipping came with scikit-learn 1.8.
    return Affine(
        scale=1 / scaler.scale_, limits=(-1, 1) if getattr(scaler, "clip", False) else None
    )


@as_module.register(Normalizer)
def _(normalizer):
    return UnitNorm({"l1": 1, "l2": 2, "max": np.inf}[normalizer.norm])


def refuse_logarithms(tfidf):
    """The error for `sublinear_tf`, or None."""
    if not tfidf.sublinear_tf:
        return None
    return TypeError(
        "as_module takes a TfidfTransformer without sublinear_tf, whose logarithm of counts jumps "
        "at 0; got sublinear_tf=True. Set it to False, or pass a differentiable surrogate (the "
        "parameter `surrogate`)."
    )


@as_module.register(TfidfTransformer, refuse=refuse_logarithms)
def _(tfidf):
    weights = [Affine(scale=tfidf.idf_)] if hasattr(tfidf, "idf_") else []
    norms = [] if tfidf.norm is None else [UnitNorm({"l1": 1, "l2": 2}[tfidf.norm])]
    return Chain(*weights, *norms)


@as_module.register(PolynomialFeatures)
def _(expansion):
    return Monomials(expansion.powers_)


@as_module.register(_BasePCA)
def _(pca):
    weight = pca.components_
    if pca.whiten:
        deviation = np.sqrt(pca.explained_variance_)
        weight = weight / np.maximum(deviation, np.finfo(deviation.dtype).eps)[:, None]
    return Projection(weight, pca.mean_)


@as_module.register(TruncatedSVD)
def _(svd):
    return Projection(svd.components_, np.zeros(svd.components_.shape[1], svd.components_.dtype))


@as_module.register(SelectorMixin)
def _(selector):
    return Select(selector.get_support(indices=True))


def refuse_other_than_numbers(imputer):
    """The error for an imputer that looks for, or fills in, anything but numbers, or None."""
    fill = getattr(imputer, "statistics_", [])
    try:
        np.asarray(fill, dtype=np.float64)
        float(imputer.missing_values)
    except (TypeError, ValueError):
        return TypeError(
            f"as_module takes a SimpleImputer of numbers only; this one fills in {fill!r} for "
            f"{imputer.missing_values!r}."
        )
    return None


@as_module.register(SimpleImputer, refuse=refuse_other_than_numbers)
def _(imputer):
    fill = np.asarray(imputer.statistics_, dtype=np.float64)
    indicated = imputer.indicator_.features_ if imputer.add_indicator else []
    return Fill(float(imputer.missing_values), fill, indicated)


def _function_of_tensors(transformer):
    function = transformer.func
    if isinstance(function, np.ufunc):
        function = getattr(torch, function.__name__, function)
    return Function(function, transformer.kw_args or {})


def refuse_without_gradient(transformer):
    """The error for a function that has no gradient on torch tensors, or None."""
    # Before the fit the number of features is not known, and the function may need several.
    return _gradient_error(transformer) if hasattr(transformer, "n_features_in_") else None


def _gradient_error(transformer):
    if transformer.func is None:
        return None
    X = torch.ones(1, getattr(transformer, "n_features_in_", 1), requires_grad=True)
    try:
        is_differentiable = _function_of_tensors(transformer)(X).requires_grad
    except Exception as error:
        return TypeError(_NOT_OF_TENSORS.format(transformer, error))
    if is_differentiable:
        return None
    return TypeError(_NOT_OF_TENSORS.format(transformer, "its result has no gradient"))


@as_module.register(FunctionTransformer, refuse=refuse_without_gradient)
def _(transformer):
    # It needs no fit, so that the function may not have been tried yet.
    error = _gradient_error(transformer)
    if error is not None:
        raise error
    return nn.Identity() if transformer.func is None else _function_of_tensors(transformer)


_NOT_OF_TENSORS = (
    "as_module takes a FunctionTransformer whose function is differentiable on torch tensors, or a "
    "NumPy ufunc of a name that torch has; {} is not: {}. Write it with operators that arrays and "
    "tensors share, or pass a differentiable surrogate (the parameter `surrogate`)."
)
