"""as_module, the registry of its rules, and what all rules have in common."""

import functools

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sk_adv._devices import module_device_and_dtype, resolve_device


def as_module(
    estimator: object,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Turn a fitted estimator into a torch module from raw inputs to logits.

    The softmax of the module's output is the estimator's `predict_proba`; column k belongs to
    `estimator.classes_[k]`. Of an estimator without probabilities the output is the
    `decision_function`. For two classes the logits are `(0, d)`. A `Pipeline` becomes the chain
    of its steps, so gradients, and attacks, are in the units of the raw input. Transformers
    become modules from their input to their output.

    Parameters
    ----------
    estimator : object
        A fitted estimator, of

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
          `SimpleImputer` of numbers, selectors of features such as `VarianceThreshold` and
          `SelectKBest`, `FunctionTransformer` over functions that torch tensors know;
        - around these: a `Pipeline`, a `ColumnTransformer`, a search such as `GridSearchCV`, a
          `FrozenEstimator`;

        or any type for which a rule is registered (see Notes).

    device : str or torch.device, default=None
        Where the module computes. None leaves it where the estimator's own weights are.

    dtype : torch.dtype, default=None
        Floating type of the module's weights, and so of the tensors that it is to be called on.
        None keeps the estimator's own precision, which is float64 unless it was fitted to float32.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without trainable parameters. It is a copy: later changes of the
        estimator do not reach it.

    Raises
    ------
    TypeError
        If there is no rule for the estimator's type, or for what it is made of: a kernel, a
        criterion; or if `dtype` is no floating type of torch.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If the device is not available, or the estimator was fitted to several labels a sample.

    Notes
    -----
    The output is the `decision_function` of an `SVC` or `NuSVC` with `probability=True` too, as
    what libsvm fits for `predict_proba` can disagree with it, and of an `SGDClassifier` with
    `loss="modified_huber"`, whose probabilities reach 0. Where three or more classes vote in an
    `SVC` or `NuSVC`, the output is the votes and confidences of `decision_function_shape="ovr"`,
    whatever that parameter says. It jumps where a vote changes, and has the gradient of the
    confidences. Where members vote, in a `VotingClassifier` that is hard or a `BaggingClassifier`
    of members without probabilities, the output is their shares of votes and, to give a gradient, a
    confidence that never changes what is predicted. Sigmoids fitted one class against the rest are
    not made uniform where all underflow, as scikit-learn does, but keep their ratios.

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
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(
            f"dtype must be a floating type of torch such as torch.float32; got {dtype!r}."
        )
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
        "model's own predictions (the parameter `surrogate`), or pass a torch.nn.Module."
    )


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


@functools.singledispatch
def parts_of(estimator):
    """The estimators inside an unfitted one that need rules of their own."""
    return []


def check_has_rule(estimator):
    """Raise `TypeError` if `as_module` could not take this estimator once it is fitted."""
    if _rule.dispatch(type(estimator)) is _rule.dispatch(object):
        _rule(estimator)
    for part in parts_of(estimator):
        check_has_rule(part)


def has_rule(estimator):
    """Whether `as_module` takes this estimator."""
    known = _rule.dispatch(type(estimator)) is not _rule.dispatch(object)
    return known and all(map(has_rule, parts_of(estimator)))


def run(module: nn.Module, X: Tensor) -> Tensor:
    """Call a module on X in the module's own precision."""
    return module(_in_precision_of(module, X))


def _in_precision_of(module, X):
    # What is made of others leaves it to each of them: the first one's would round X for the rest.
    if getattr(module, "has_parts", False):
        return X
    _, dtype = module_device_and_dtype(module, X.dtype)
    return X.to(dtype)


# scikit-learn's meta-estimators combine `decision_function`s, `predict_proba`s or `predict`s. All
# follow from the logits, unless a module says otherwise by a method of the name below.


def decision_values(module: nn.Module, X: Tensor) -> Tensor:
    """The estimator's `decision_function`, (n_samples, n_classes); of two classes (0, d)."""
    return _face(module, "decision_values", X)


def log_probabilities(module: nn.Module, X: Tensor) -> Tensor:
    """The logarithm of the estimator's `predict_proba`, (n_samples, n_classes)."""
    if hasattr(module, "log_probabilities"):
        return _face(module, "log_probabilities", X)
    return run(module, X).log_softmax(1)


def preferences(module: nn.Module, X: Tensor) -> Tensor:
    """Numbers the largest of which, or the first of these, is the class of `predict`."""
    if hasattr(module, "preferences"):
        return _face(module, "preferences", X)
    return decision_values(module, X)


def _face(module, name, X):
    return getattr(module, name, module)(_in_precision_of(module, X))


class Chain(nn.Sequential):
    """Modules one after another, each in its own precision."""

    has_parts = True

    def forward(self, X):
        """Apply all steps to X."""
        for step in self:
            X = run(step, X)
        return X

    def decision_values(self, X):
        """The last step's, of what comes out of the others."""
        return decision_values(self[-1], self._before_last(X))

    def log_probabilities(self, X):
        """The last step's, of what comes out of the others."""
        return log_probabilities(self[-1], self._before_last(X))

    def preferences(self, X):
        """The last step's, of what comes out of the others."""
        return preferences(self[-1], self._before_last(X))

    def _before_last(self, X):
        for step in self[:-1]:
            X = run(step, X)
        return X
