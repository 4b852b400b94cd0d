"""Fitted scikit-learn estimators as differentiable torch modules."""

import copy
import functools

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv._devices import module_device_and_dtype, resolve_device

__all__ = ["as_module"]


def as_module(
    estimator: object,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Turn a fitted estimator into a torch module from raw inputs to logits.

    The softmax of the module's output is the estimator's `predict_proba`; column k belongs to
    `estimator.classes_[k]`. For two classes the logits are `(0, decision_function(X))`. A
    `Pipeline` becomes the chain of its steps, so gradients, and attacks, are in the units of the
    raw input. Transformers become modules from their input to their output.

    Parameters
    ----------
    estimator : object
        A fitted `AdversarialLogisticRegression`, `AdversarialMaxoutClassifier`,
        `LogisticRegression`, `StandardScaler`, `MinMaxScaler`, or a `Pipeline`, a search such as
        `GridSearchCV`, or a `FrozenEstimator` of these; a `torch.nn.Module`; or any type for
        which a rule is registered (see Notes).

    device : str or torch.device, default=None
        Where the module computes. None leaves it where the estimator's own weights are.

    dtype : torch.dtype, default=None
        Floating type of the module's weights. None keeps the estimator's own precision.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without trainable parameters. It is a copy: later changes of the
        estimator do not reach it.

    Raises
    ------
    TypeError
        If there is no rule for the estimator's type.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If the device is not available.

    Notes
    -----
    A rule is a function from a fitted estimator to a module, registered by
    `as_module.register(Type)`. It serves subclasses too, unless they have a rule of their own.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv import as_module
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> probabilities = as_module(model)(torch.from_numpy(X)).softmax(1)
    >>> bool(abs(probabilities.numpy() - model.predict_proba(X)).max() < 1e-12)
    True
    """
    device = None if device is None else resolve_device(device)
    module = _rule(estimator)
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)


@functools.singledispatch
def _rule(estimator):
    if isinstance(estimator, type):
        raise TypeError(
            f"as_module takes a fitted estimator; got the class {estimator.__name__} itself."
        )
    name = type(estimator).__name__
    raise TypeError(
        f"as_module has no rule for {name}. Either register one with "
        f"`as_module.register({name})`, or attack a differentiable surrogate trained on the "
        "model's own predictions, or pass a torch.nn.Module."
    )


def check_has_rule(estimator):
    """Raise `TypeError` if `as_module` could not take this estimator once it is fitted."""
    if _rule.dispatch(type(estimator)) is _rule.dispatch(object):
        _rule(estimator)
    if isinstance(estimator, Pipeline):
        for step in _active_steps(estimator):
            check_has_rule(step)
    elif isinstance(estimator, BaseSearchCV | FrozenEstimator):
        check_has_rule(estimator.estimator)


def _register(estimator_type):
    """Register a rule for a type of estimator; the rule sees fitted estimators only."""

    def decorator(rule):
        @functools.wraps(rule)
        def checked(estimator):
            if not isinstance(estimator, nn.Module):
                check_is_fitted(estimator)
            return rule(estimator)

        _rule.register(estimator_type, checked)
        return rule

    return decorator


as_module.register = _register


class Affine(nn.Module):
    """x ∘ scale + shift, clamped to `limits` if they are given."""

    def __init__(self, scale, shift, limits=None):
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale).clone())
        self.register_buffer("shift", torch.as_tensor(shift).clone())
        self.limits = limits

    def forward(self, X):
        """Transform X of shape (n_samples, n_features)."""
        result = X * self.scale + self.shift
        return result if self.limits is None else torch.clamp(result, *self.limits)


class LinearLogits(nn.Module):
    """Logits of a linear classifier: wₖᵀx + bₖ, or (0, wᵀx + b) for two classes.

    Parameters
    ----------
    coef : array-like of shape (1, n_features) or (n_classes, n_features)
        The rows w.

    intercept : array-like of shape (1,) or (n_classes,)
        The offsets b.
    """

    def __init__(self, coef, intercept):
        super().__init__()
        self.register_buffer("coef", torch.as_tensor(coef).clone())
        self.register_buffer("intercept", torch.as_tensor(intercept).clone())

    def forward(self, X):
        """Logits of X, of shape (n_samples, max(n_classes, 2))."""
        decision = X @ self.coef.T + self.intercept
        if decision.shape[1] > 1:
            return decision
        return torch.cat([torch.zeros_like(decision), decision], dim=1)


class Chain(nn.Sequential):
    """Modules one after another, each in its own precision."""

    def forward(self, X):
        """Apply all steps to X."""
        for step in self:
            _, dtype = module_device_and_dtype(step, X.dtype)
            X = step(X.to(dtype))
        return X


def fold_linear(module):
    """Write a chain of affine maps that ends in linear logits as one `LinearLogits`.

    Raises
    ------
    TypeError
        If the module is not linear in its input.
    """
    if isinstance(module, LinearLogits):
        return module
    if isinstance(module, Chain) and len(module):
        *maps, last = module
        folded = fold_linear(last)
        coef, intercept = folded.coef, folded.intercept
        for affine in reversed(maps):
            if not isinstance(affine, Affine) or affine.limits is not None:
                break
            intercept = intercept + coef @ affine.shift.to(coef)
            coef = coef * affine.scale.to(coef)
        else:
            return LinearLogits(coef, intercept)
    raise TypeError(
        "There is an exact value for linear models, and pipelines of linear maps before them, "
        f"only; got a {type(module).__name__} that is not linear."
    )


@as_module.register(nn.Module)
def _(module):
    return copy.deepcopy(module)


@as_module.register(LogisticRegression)
def _(estimator):
    linear = LinearLogits(estimator.coef_, estimator.intercept_)
    # Until scikit-learn 1.8 several classes could be fitted one against the rest; the normalised
    # sigmoids that predict_proba then gives are the softmax of the log-sigmoids.
    one_vs_rest = (
        estimator.solver == "liblinear" or getattr(estimator, "multi_class", None) == "ovr"
    )
    if one_vs_rest and len(estimator.classes_) > 2:
        return nn.Sequential(linear, nn.LogSigmoid())
    return linear


@as_module.register(StandardScaler)
def _(scaler):
    one = torch.ones(scaler.n_features_in_, dtype=torch.float64)
    scale = one / torch.as_tensor(scaler.scale_) if scaler.with_std else one
    shift = -torch.as_tensor(scaler.mean_) * scale if scaler.with_mean else 0 * one
    return Affine(scale, shift)


@as_module.register(MinMaxScaler)
def _(scaler):
    return Affine(scaler.scale_, scaler.min_, scaler.feature_range if scaler.clip else None)


@as_module.register(Pipeline)
def _(pipeline):
    return Chain(*map(as_module, _active_steps(pipeline)))


def _active_steps(pipeline):
    return [step for _, step in pipeline.steps if step is not None and step != "passthrough"]


@as_module.register(BaseSearchCV)
def _(search):
    check_is_fitted(search, "best_estimator_", msg="%(name)s is fitted with refit=False only.")
    return as_module(search.best_estimator_)


@as_module.register(FrozenEstimator)
def _(frozen):
    return as_module(frozen.estimator)
