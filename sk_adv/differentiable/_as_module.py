"""as_module and the registry of its rules."""

import functools

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier
from torch import nn

from sk_adv._arrays import to_tensor
from sk_adv._devices import module_device_and_dtype, resolve_device
from sk_adv.differentiable._columns_in_hand import columns_in_hand, holding, numbers_for
from sk_adv.differentiable._composition import Chain, casting_its_input


@torch.inference_mode(False)
def as_module(
    estimator: object,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Turn a fitted estimator into a torch module from raw inputs to logits.

    The softmax of the module's output is the estimator's `predict_proba`; column k belongs to
    `estimator.classes_[k]`. If the estimator has no probabilities, the output is its
    `decision_function`. For two classes the logits are `(0, d)`. A `Pipeline` becomes the chain
    of its steps, so gradients and attacks are in the units of the raw input. A transformer becomes
    a module from its input to its output.

    Parameters
    ----------
    estimator : object
        A fitted estimator, one of

        - sk_adv: `AdversarialLogisticRegression`, `AdversarialLogisticRegressionCV`,
          `AdversarialMaxoutClassifier`, `AdversarialNet`;
        - linear models: `LogisticRegression`, `LogisticRegressionCV`, `SGDClassifier`,
          `Perceptron`, `RidgeClassifier`, `RidgeClassifierCV`, `LinearSVC`,
          `LinearDiscriminantAnalysis`;
        - kernels: `SVC` and `NuSVC` (linear, polynomial, RBF and sigmoid kernels),
          `GaussianProcessClassifier` (RBF, Matern with nu 0.5, 1.5, 2.5 or inf,
          `RationalQuadratic`, `DotProduct`, `ConstantKernel`, `WhiteKernel`, and their sums,
          products and powers);
        - Gaussian classes: `QuadraticDiscriminantAnalysis`, `GaussianNB`;
        - networks: `MLPClassifier`, skorch's `NeuralNetClassifier` and
          `NeuralNetBinaryClassifier`, a `torch.nn.Module`;
        - ensembles of these: `VotingClassifier`, `BaggingClassifier`, `OneVsRestClassifier`,
          `StackingClassifier`, `CalibratedClassifierCV`;
        - transformers: `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`, `RobustScaler`,
          `Normalizer`, `PolynomialFeatures`, `PCA`, `IncrementalPCA`, `TruncatedSVD`,
          `SimpleImputer` of numbers, `TfidfTransformer`, selectors of features such as
          `VarianceThreshold` and `SelectKBest`, `FunctionTransformer` over functions that torch
          tensors know;
        - around these: a `Pipeline`, a `ColumnTransformer`, a search such as `GridSearchCV`, a
          `FrozenEstimator`;

        or an estimator of any type for which a rule is registered (see Notes).

    device : str or torch.device, default=None
        Where the module computes. None keeps the device of the estimator's own weights.

    dtype : torch.dtype, default=None
        Floating type of the module's weights, in which it computes; input of another floating
        type is cast. None keeps the estimator's own precision, which is float64 unless it was
        fitted to float32.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without trainable parameters. It is a copy: later changes of the
        estimator do not reach it.

    Raises
    ------
    TypeError
        If there is no rule for the estimator's type or for one of its parts, such as a kernel or a
        criterion; or if `dtype` is no floating type of torch.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If the device is not available, or the estimator was fitted to several labels per sample.

    See Also
    --------
    has_rule : Whether there is a rule, without an error.
    parts_of : The estimators inside a composite one.
    Chain : Modules one after another, for the rule of a composite estimator.

    Notes
    -----
    Some outputs differ from `predict_proba`:

    - An `SVC` or `NuSVC` with `probability=True` gives its `decision_function`, because the
      probabilities that libsvm fits can disagree with its predictions. With three or more classes
      these are the votes and confidences of `decision_function_shape="ovr"`, whatever that
      parameter says. They jump where a vote changes; their gradient is that of the confidences.
    - An `SGDClassifier` with `loss="modified_huber"` gives its `decision_function`, because its
      probabilities reach 0.
    - A hard `VotingClassifier`, and a `BaggingClassifier` of members without probabilities, give
      their members' shares of the votes. A confidence too small to change the prediction is added
      to have a gradient.
    - Sigmoids fitted one class against the rest keep their ratios where all of them underflow;
      scikit-learn makes them uniform.

    A rule is a function from a fitted estimator to a module, registered by
    `as_module.register(Type)`. It serves subclasses too, unless they have a rule of their own.
    With `as_module.register(Type, refuse=function)` the rule takes some estimators of the type
    only: `function` is called with an estimator, fitted or not, and returns None or the error that
    says why there is no module for it. The rule of an estimator made of others calls `as_module`
    on these, and registers them with `parts_of`.

    Each module casts its input to its own precision. So modules of different precision can stand
    one after another in a `torch.nn.Sequential`. A module whose parts each see X itself should have
    an attribute `has_parts = True`; X then reaches them uncast, and each casts it by itself.

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
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(
            f"dtype must be a floating type of torch such as torch.float32; got {dtype!r}."
        )
    device = None if device is None else resolve_device(device)
    with holding(None):
        module = _rule(estimator)
    return _finished(module.to(device=device, dtype=dtype))


def _finished(module):
    return casting_its_input(module.eval().requires_grad_(False))


def as_part(estimator):
    """The module of a part of an estimator whose rule hands its own X on to this part.

    Like `as_module`, but the part may hold encoders of the columns in hand. An estimator whose rule
    is not registered with `passes_columns` takes the columns as numbers.
    """
    columns = columns_in_hand()
    try:
        return _finished(_rule(estimator))
    except TypeError:
        if columns is None or columns.needs_rules:
            raise
        return nn.Identity()


@functools.singledispatch
def _rule(estimator):
    raise _no_rule(estimator)


class NoRuleError(TypeError):
    """An estimator that `as_module` has no rule for."""


def _no_rule(estimator):
    if isinstance(estimator, type):
        return TypeError(
            f"as_module takes a fitted estimator; got the class {estimator.__name__} itself."
        )
    name = type(estimator).__name__
    return NoRuleError(
        f"as_module has no rule for {name}. Either register one with "
        f"`as_module.register({name})`, or use attack='square', which needs predictions alone (or "
        "attack='exact' on tree models), or attack a differentiable surrogate trained on the "
        "model's own predictions (the parameter `surrogate`), or pass a torch.nn.Module."
    )


@functools.singledispatch
def _refusal(estimator):
    """The error of the estimator's own rule, without its parts; None if the rule takes it."""
    return _no_rule(estimator)


def _refuse_none(estimator):
    return None


def _register(estimator_type, *, refuse=_refuse_none, passes_columns=False):
    """Register a rule for a type of estimator; the rule sees fitted estimators only.

    `refuse` returns the error for estimators of this type, fitted or not, that the rule does not
    take, and None for the others. With `passes_columns` the rule calls `as_part` on those parts
    that see the estimator's own X, `as_module` on the others, and reads X itself only behind
    `numbers_for`.
    """

    def decorator(rule):
        @functools.wraps(rule)
        def checked(estimator):
            if not isinstance(estimator, nn.Module):
                check_is_fitted(estimator)
            error = refuse(estimator)
            if error is not None:
                raise error
            before = [] if passes_columns else numbers_for(estimator)
            if not before:
                return rule(estimator)
            with holding(None):
                return Chain(*before, rule(estimator))

        _rule.register(estimator_type, checked)
        _refusal.register(estimator_type, refuse)
        return rule

    return decorator


as_module.register = _register


def classes_of(estimator, X):
    """The label of each column of a fitted classifier's module.

    Parameters
    ----------
    estimator : object
    X : array-like, frame or torch.Tensor of shape (n_samples, ...)
        Samples, one of which is predicted if the labels are class indices.

    Returns
    -------
    ndarray of shape (n_classes,)
    """
    if hasattr(X, "iloc"):
        return _labels(estimator, X.iloc[:1])
    # Objects that become arrays need not have rows themselves.
    return _labels(estimator, X[:1] if hasattr(X, "__getitem__") else np.asarray(X)[:1])


@functools.singledispatch
def _labels(estimator, sample):
    return np.asarray(estimator.classes_)


@_labels.register
def _(net: NeuralNetClassifier, sample):
    # skorch takes `classes_` from the last y that it saw, but predicts the positions of logits.
    module = as_module(net)
    device, dtype = module_device_and_dtype(module)
    values = sample
    if not torch.is_tensor(sample):
        values = to_tensor(check_array(sample, ensure_all_finite=False, allow_nd=True))
    try:
        with torch.no_grad():
            # A copy, as the module's first operation may be in place.
            logits = module(values.to(device, dtype, copy=True))
    except RuntimeError as error:
        shape = tuple(values.shape)
        raise ValueError(f"module can't take X in batches of shape {shape}: {error}") from error
    return np.arange(logits.shape[1])


@_labels.register
def _(pipeline: Pipeline, sample):
    if _labels.dispatch(type(pipeline[-1])) is _labels.dispatch(object):
        return np.asarray(pipeline.classes_)
    return _labels(pipeline[-1], pipeline[:-1].transform(sample) if len(pipeline) > 1 else sample)


@_labels.register
def _(search: BaseSearchCV, sample):
    return _labels(search.best_estimator_, sample)


@_labels.register
def _(frozen: FrozenEstimator, sample):
    return _labels(frozen.estimator, sample)


def classifier_within(estimator):
    """The classifier at the end of pipelines, and inside searches and frozen estimators."""
    if isinstance(estimator, Pipeline):
        return classifier_within(estimator[-1])
    if isinstance(estimator, BaseSearchCV):
        return classifier_within(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return classifier_within(estimator.estimator)
    return estimator


@functools.singledispatch
def parts_of(estimator: object) -> list:
    """The estimators inside a composite one that need rules of their own.

    `has_rule` looks into them, and so does every check before a fit. Register a function for a
    composite estimator of your own by `parts_of.register(Type)`; it is called with fitted and
    unfitted estimators.

    Parameters
    ----------
    estimator : object
        An estimator, fitted or not.

    Returns
    -------
    list of object
        Its parts, fitted or not; an empty list for an estimator that is not composite.

    See Also
    --------
    as_module : Registers the rule itself.
    has_rule : Whether there is a rule for an estimator and all its parts.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.differentiable import parts_of
    >>> parts_of(make_pipeline(StandardScaler(), LogisticRegression()))
    [StandardScaler(), LogisticRegression()]
    >>> parts_of(LogisticRegression())
    []
    """
    return []


def has_rule(estimator: object) -> bool:
    """Whether `as_module` has a rule for an estimator and for all its parts.

    Parameters
    ----------
    estimator : object
        An estimator, fitted or not.

    Returns
    -------
    bool
        False where `as_module` would raise a `TypeError`, or where the estimator's parameters
        leave it without a gradient. For an unfitted estimator the answer rests on its parameters.
        After the fit `as_module` can still refuse it, for example for several labels per sample.

    See Also
    --------
    as_module : Applies the rule.
    parts_of : The parts of a composite estimator.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sk_adv.differentiable import has_rule
    >>> has_rule(make_pipeline(StandardScaler(), LogisticRegression()))
    True
    >>> has_rule(make_pipeline(StandardScaler(), DecisionTreeClassifier()))
    False
    """
    return error_of(estimator) is None


def error_of(estimator, *, exempt=()):
    """The error that `as_module` would raise for an estimator or one of its parts, or None.

    Estimators of the types `exempt` are not looked at.
    """
    part = refused_part(estimator, exempt=exempt)
    return None if part is None else _refusal(part)


def refused_part(estimator, *, exempt=()):
    """The estimator itself, or the first of its parts, that `as_module` refuses; None if none."""
    if isinstance(estimator, exempt):
        return None
    if _refusal(estimator) is not None:
        return estimator
    parts = (refused_part(part, exempt=exempt) for part in parts_of(estimator))
    return next((part for part in parts if part is not None), None)
