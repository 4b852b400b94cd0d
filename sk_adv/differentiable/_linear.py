"""Rules for linear classifiers, and the weights of what is linear from end to end."""

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._base import LinearClassifierMixin
from torch import nn

from sk_adv._devices import module_device_and_dtype
from sk_adv.differentiable._core import Chain, as_module, run


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
        decision = X @ self.coef.T + self.intercept
        if decision.shape[1] > 1:
            return decision
        return torch.cat([torch.zeros_like(decision), decision], dim=1)


class OneVsRestLogits(nn.Module):
    """Log-sigmoids of decision values: their softmax is the sigmoids, scaled to a sum of 1."""

    def __init__(self, decision):
        super().__init__()
        self.decision_values = decision

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        return nn.functional.logsigmoid(self.decision_values(X))


def is_affine(module):
    """Whether the module's output is an affine function of its input, by its type."""
    if isinstance(module, nn.Sequential):
        return all(map(is_affine, module))
    if isinstance(module, nn.Linear | nn.Identity | nn.Flatten):
        return True
    return getattr(module, "is_affine", False)


def fold_linear(module, n_features):
    """Weights and offsets of the decision values of what is linear from end to end.

    Returns
    -------
    coef : torch.Tensor of shape (n_classes, n_features)
    intercept : torch.Tensor of shape (n_classes,)

    Raises
    ------
    TypeError
        If the module is not linear in its input.
    """
    decision = _decision_module(module)
    if not is_affine(decision):
        raise TypeError(
            "There is an exact value for linear models, and pipelines of linear maps before them, "
            f"only; got a {type(module).__name__} that is not linear."
        )
    device, dtype = module_device_and_dtype(module)
    origin = torch.zeros(1, n_features, device=device, dtype=dtype, requires_grad=True)
    with torch.enable_grad():
        intercept = run(decision, origin)[0]
    rows = [torch.autograd.grad(value, origin, retain_graph=True)[0][0] for value in intercept]
    return torch.stack(rows), intercept.detach()


def _decision_module(module):
    if isinstance(module, Chain) and len(module):
        return Chain(*module[:-1], _decision_module(module[-1]))
    decision = getattr(module, "decision_values", None)
    return decision if isinstance(decision, nn.Module) else module


@as_module.register(LinearClassifierMixin)
def _(estimator):
    return LinearLogits(estimator.coef_, estimator.intercept_)


@as_module.register(LogisticRegression)
def _(estimator):
    linear = LinearLogits(estimator.coef_, estimator.intercept_)
    # Until scikit-learn 1.8 several classes could be fitted one against the rest; the normalised
    # sigmoids that predict_proba then gives are the softmax of the log-sigmoids.
    one_vs_rest = (
        estimator.solver == "liblinear" or getattr(estimator, "multi_class", None) == "ovr"
    )
    if one_vs_rest and len(estimator.classes_) > 2:
        return OneVsRestLogits(linear)
    return linear
