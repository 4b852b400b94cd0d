"""Rules for scikit-learn's and skorch's networks."""

import copy

import torch
from scipy.special import logit
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from sk_adv.differentiable._core import Chain, as_module
from sk_adv.differentiable._linear import LinearLogits, log_of, refuse_multilabel, with_zero
from sk_adv.differentiable._maps import Affine

_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


@as_module.register(MLPClassifier)
def _(estimator):
    refuse_multilabel(estimator)
    weights = [torch.as_tensor(coef).T for coef in estimator.coefs_]
    biases = [torch.as_tensor(intercept) for intercept in estimator.intercepts_]
    layers = []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        # Made without weights, as drawing them would move torch's generator.
        layer = nn.Linear(*weight.T.shape, device="meta")
        layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        layers += [layer, _ACTIVATIONS[estimator.activation]()]
    return nn.Sequential(*layers, LinearLogits(weights[-1], biases[-1]))


class BinaryLogits(nn.Module):
    """Logits (0, d) of decision values d of shape (n_samples,) or (n_samples, 1).

    A `threshold` on the probability, other than a half, is in its `decision_values`, the larger of
    which is the prediction, and not in the logits, whose softmax are the probabilities.
    """

    is_affine = True

    def __init__(self, threshold=0.5):
        super().__init__()
        if threshold != 0.5:
            shift = [0.0, -float(logit(threshold))]
            self.decision_values = nn.Sequential(BinaryLogits(), Affine(shift=shift))

    def forward(self, decision):
        """Logits of shape (n_samples, 2)."""
        return with_zero(decision.reshape(-1, 1))


class LogProbabilities(nn.Module):
    """Logarithms of what a function makes of a network's output: probabilities of the classes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, output):
        """Logits of shape (n_samples, n_classes)."""
        return log_of(self.function(output))


def plain_module(net):
    """The module of a net, without the shell that `torch.compile` puts around it."""
    return getattr(net.module_, "_orig_mod", net.module_)


def network(net):
    """A copy of the module of a net that returns the first of several outputs, as skorch does."""
    module = copy.deepcopy(plain_module(net))
    # A hook, as a module around it would hide what kind of module it is.
    module.register_forward_hook(_first)
    return module


def _first(module, inputs, output):
    return output[0] if isinstance(output, tuple) else output


def _two_columns(probability):
    probability = probability.reshape(-1, 1)
    return torch.cat([1 - probability, probability], dim=1)


@as_module.register(NeuralNetClassifier)
@as_module.register(NeuralNetBinaryClassifier)
def _(net):
    module = network(net)
    criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)
    if callable(net.predict_nonlinearity):
        # Those of two classes hand on a vector.
        flat = [nn.Flatten(0)] if isinstance(net, NeuralNetBinaryClassifier) else []
        return Chain(module, *flat, LogProbabilities(net.predict_nonlinearity))
    if isinstance(criterion, nn.CrossEntropyLoss):
        return module
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return Chain(module, BinaryLogits(getattr(net, "threshold", 0.5)))
    if isinstance(criterion, nn.BCELoss):
        return Chain(module, LogProbabilities(_two_columns))
    # skorch takes the logarithm of the module's output itself.
    if isinstance(criterion, nn.NLLLoss):
        return Chain(module, LogProbabilities(nn.Identity()))
    name = type(net).__name__
    raise TypeError(
        f"as_module can't tell whether this {name} with criterion={type(criterion).__name__} puts "
        "out logits or probabilities. Set `predict_nonlinearity` to the function that makes "
        "probabilities of its output, or pass the module itself, `net.module_`, if it gives logits."
    )
