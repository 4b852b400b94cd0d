"""Rules for linear classifiers, and the weights of modules that are linear from end to end."""

import functools

import torch
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.linear_model._base import LinearClassifierMixin
from torch import Tensor, nn

from sk_adv._arrays import to_tensor
from sk_adv._devices import module_device_and_dtype
from sk_adv.differentiable._as_module import as_module
from sk_adv.differentiable._composition import Chain, is_chain, run


def with_zero(decision: Tensor) -> Tensor:
    """Logits (0, d) of a single column d of decision values; several columns as they are."""
    if decision.shape[1] > 1:
        return decision
    return torch.cat([torch.zeros_like(decision), decision], dim=1)


class LinearLogits(nn.Module):
    """Logits of a linear classifier: wₖᵀx + bₖ, or (0, wᵀx + b) for two classes.

    Parameters
    ----------
    coef : array-like of shape (1, n_features) or (n_classes, n_features)
        The rows w.

    intercept : array-like of shape (1,) or (n_classes,)
        The offsets b.
    """

    is_affine = True

    def __init__(self, coef, intercept):
        super().__init__()
        self.register_buffer("coef", torch.as_tensor(coef).clone())
        self.register_buffer("intercept", torch.as_tensor(intercept).clone())

    def forward(self, X):
        """Logits of X, of shape (n_samples, max(n_classes, 2))."""
        return with_zero(X @ self.coef.T + self.intercept)


class OneVsRestLogits(nn.Module):
    """Log-sigmoids of decision values: their softmax is the sigmoids, scaled to a sum of 1."""

    def __init__(self, decision):
        super().__init__()
        self.decision_values = decision

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        return nn.functional.logsigmoid(self.decision_values(X))


class ModifiedHuberLogits(LinearLogits):
    """Decision values d of a classifier whose probabilities, (clip(d, -1, 1) + 1) / 2, reach 0.

    The logarithm of such probabilities is no logit; it serves ensembles, which average them.
    Source: Zhang, "Statistical behavior and consistency of classification methods based on convex
    risk minimization", Annals of Statistics 32, 2004.
    """

    def log_probabilities(self, X):
        """Logarithms of the probabilities, with 0 as the smallest number above it."""
        decision = self(X)
        if decision.shape[1] == 2:
            decision = decision - decision.flip(1)
        share = (decision.clamp(-1, 1) + 1) / 2
        # Where no class has a share, all are equally probable.
        share = torch.where(share.sum(1, keepdim=True) > 0, share, torch.ones_like(share))
        return log_of(share / share.sum(1, keepdim=True))


def log_of(probabilities: Tensor) -> Tensor:
    """Logarithms of probabilities, finite and without a gradient at 0."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def is_affine(module):
    """Whether the module's output is an affine function of its input."""
    if is_chain(module):
        return all(map(is_affine, module))
    # Not by its type: a subclass may compute something else.
    forward = getattr(type(module), "forward", None)
    if forward in (nn.Linear.forward, nn.Identity.forward, nn.Flatten.forward):
        return True
    return getattr(module, "is_affine", False)


@torch.inference_mode(False)
def fold_linear(module, n_features):
    """Weights and offsets of the decision values of a module that is linear from end to end.

    Returns
    -------
    coef : torch.Tensor of shape (n_classes, n_features)
    intercept : torch.Tensor of shape (n_classes,)

    Raises
    ------
    TypeError
        If the module is not linear in its input.
    """
    decision = decision_module(module)
    if not is_affine(decision):
        raise NotLinearError(type(module).__name__)
    device, dtype = module_device_and_dtype(module)
    origin = torch.zeros(1, n_features, device=device, dtype=dtype, requires_grad=True)
    with torch.enable_grad():
        intercept = run(decision, origin)[0]
        rows = [torch.autograd.grad(value, origin, retain_graph=True)[0][0] for value in intercept]
    return torch.stack(rows), intercept.detach()


class NotLinearError(TypeError):
    """A model, of this name, that is not linear where a linear one is needed."""

    def __init__(self, name):
        super().__init__(
            "There is an exact worst case for linear models, pipelines of linear maps before them, "
            f"and tree models, only; got a {name} that is not linear. attack='pgd' takes any model "
            "with gradients, and attack='square' any with predictions."
        )


@functools.singledispatch
def decision_module(module):
    """The module without a last step that keeps the order of the logits, such as a softmax."""
    decision = getattr(module, "decision_values", None)
    return decision if isinstance(decision, nn.Module) else module


@decision_module.register
def _(module: nn.Sequential):
    if not len(module):
        return module
    *steps, last = module
    if isinstance(last, nn.LogSigmoid | nn.LogSoftmax | nn.Softmax):
        return decision_module(Chain(*steps))
    return Chain(*steps, decision_module(last))


def to_dense(values) -> Tensor:
    """A tensor of weights, which are sparse after `sparsify` or a fit on sparse data."""
    return to_tensor(values.toarray() if issparse(values) else values)


def refuse_multilabel(estimator):
    """Raise `ValueError` if the estimator was fitted to several labels per sample."""
    if estimator._label_binarizer.y_type_.startswith("multilabel"):
        name = type(estimator).__name__
        raise ValueError(
            f"This {name} was fitted to multilabel targets, where each sample may have several "
            f"labels; as_module needs one class per sample. Fit one {name} per label."
        )


def linear_logits(estimator, kind=LinearLogits):
    """The logits of an estimator that has `coef_` and `intercept_`."""
    # For two classes a ridge classifier has its one row as a vector.
    coef = torch.atleast_2d(to_dense(estimator.coef_))
    # Without an intercept some estimators have a single zero for all classes.
    intercept = torch.as_tensor(estimator.intercept_, dtype=coef.dtype, device=coef.device)
    return kind(coef, intercept.expand(len(coef)))


@as_module.register(LinearClassifierMixin)
def _(estimator):
    if hasattr(estimator, "_label_binarizer"):
        refuse_multilabel(estimator)
    return linear_logits(estimator)


@as_module.register(SGDClassifier)
def _(estimator):
    if estimator.loss == "modified_huber":
        return linear_logits(estimator, ModifiedHuberLogits)
    linear = linear_logits(estimator)
    if estimator.loss == "log_loss" and len(estimator.classes_) > 2:
        return OneVsRestLogits(linear)
    return linear


@as_module.register(LogisticRegression)
def _(estimator):
    linear = linear_logits(estimator)
    # Until scikit-learn 1.8 several classes could be fitted one against the rest; the normalised
    # sigmoids that predict_proba then gives are the softmax of the log-sigmoids.
    one_vs_rest = (
        estimator.solver == "liblinear" or getattr(estimator, "multi_class", None) == "ovr"
    )
    if one_vs_rest and len(estimator.classes_) > 2:
        return OneVsRestLogits(linear)
    return linear
