"""Rules for torch modules, and for scikit-learn's and skorch's networks."""

import copy

import torch
from scipy.special import logit
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from sk_adv.differentiable._as_module import as_module
from sk_adv.differentiable._composition import Chain
from sk_adv.differentiable._linear import LinearLogits, log_of, refuse_multilabel, with_zero
from sk_adv.differentiable._transformers import Affine

_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


@as_module.register(nn.Module)
def _(module):
    return copied(module)


@as_module.register(MLPClassifier)
def _(estimator):
    refuse_multilabel(estimator)
    weights = [torch.as_tensor(coef).T for coef in estimator.coefs_]
    biases = [torch.as_tensor(intercept) for intercept in estimator.intercepts_]
    layers = []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        # Made without weights, because drawing them would move torch's generator.
        layer = nn.Linear(*weight.T.shape, device="meta")
        layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        layers += [layer, _ACTIVATIONS[estimator.activation]()]
    return nn.Sequential(*layers, LinearLogits(weights[-1], biases[-1]))


class BinaryLogits(nn.Module):
    """Logits (0, d) of decision values d of shape (n_samples,) or (n_samples, 1).

    A `threshold` on the probability other than a half shifts the `decision_values` only, the
    larger of which is the prediction. The softmax of the logits stays the probabilities.
    """

    is_affine = True

    def __init__(self, threshold=0.5):
        super().__init__()
        if threshold != 0.5:
            shift = [0.0, -float(logit(threshold))]
            self.decision_values = nn.Sequential(BinaryLogits(), Affine(shift=shift))

    def forward(self, decision):
        """Logits (0, d), of shape (n_samples, 2)."""
        return with_zero(decision.reshape(-1, 1))


class LogProbabilities(nn.Module):
    """Logarithms of the probabilities that a function makes of a network's output."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, output):
        """Logits of shape (n_samples, n_classes)."""
        return log_of(self.function(output))


def plain(module):
    """A module without the wrapper of `torch.compile`."""
    return getattr(module, "_orig_mod", module)


def plain_module(net):
    """The module of a net, without the wrapper of `torch.compile`."""
    names = [name for name in net._modules if hasattr(net, f"{name}_")]
    if not hasattr(net, "module_") and len(names) != 1:
        raise TypeError(
            f"{type(net).__name__} has no module of the name module_ but {names or 'none'}, so it "
            "can't be told which of them gives the logits: pass the torch module itself."
        )
    return plain(net.module_ if hasattr(net, "module_") else getattr(net, f"{names[0]}_"))


def plain_modules(net):
    """The modules of a net by their names, of which skorch allows several."""
    return {name: plain(getattr(net, f"{name}_")) for name in net._modules}


def copied(module):
    """A deep copy; of activations that the module keeps, which torch does not copy, the values."""
    memo = {}
    for part in module.modules():
        for tensor in _tensors_in(vars(part)):
            if tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
    if isinstance(module, torch.jit.ScriptModule):
        # Else the copies of its weights would belong to a graph.
        with torch.no_grad():
            return Scripted(copy.deepcopy(module))
    return copy.deepcopy(module, memo)


class Scripted(nn.Module):
    """A ScriptModule inside of a module that takes hooks, as ScriptModules don't."""

    def __init__(self, module):
        super().__init__()
        self.module, self.training = module, module.training

    def forward(self, X):
        """The module's output."""
        return self.module(X)


def _tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


# The methods by which skorch's nets come from X to predictions, from the outside in.
_PREDICTING = ("predict", "predict_proba", "forward_iter", "evaluation_step")


def overrides(net, name):
    """Whether a method of a net is neither skorch's nor this library's."""
    method = getattr(net, name)
    library = (getattr(method, "__module__", None) or "").partition(".")[0]
    return name in vars(net) or library not in ("skorch", "sk_adv")


class Inference(nn.Module):
    """The `infer` of a net, which may do more than call one module.

    Parameters
    ----------
    net : skorch.NeuralNet
    modules : dict of str to nn.Module
        The net's modules, or copies of them, by their names.
    fit_params : dict, default=None
        Further arguments of `infer`.
    """

    def __init__(self, net, modules, fit_params=None):
        super().__init__()
        self.parts = nn.ModuleDict(modules)
        self.training = any(part.training for part in self.parts.values())
        self.fit_params = fit_params or {}
        # A copy of the net without its contents, because copying would go through its pickling.
        self.net = object.__new__(type(net))
        vars(self.net).update(vars(net) | {f"{name}_": part for name, part in modules.items()})

    def forward(self, X):
        """Logits of shape (n_samples, n_classes), the first of several outputs."""
        vars(self.net)["device"] = X.device
        return _first(self, X, self.net.infer(X, **self.fit_params))


def network(net):
    """A copy of the module of a net that returns the first of several outputs, as skorch does."""
    # skorch below 1.3 does not tell by itself whether a net is initialized.
    check_is_fitted(net, [f"{name}_" for name in net._modules] or "module_")
    if overrides(net, "infer"):
        return Inference(net, copied(nn.ModuleDict(plain_modules(net))))
    module = copied(plain_module(net))
    # A hook, because a module around it would hide its type.
    module.register_forward_hook(_first)
    return module


def _first(module, inputs, output):
    return output[0] if isinstance(output, tuple) else output


def _two_columns(probability):
    probability = probability.reshape(-1, 1)
    return torch.cat([1 - probability, probability], dim=1)


def refuse_other_predictions(net):
    """The error for a net that makes predictions of its module's output in its own way, or None."""
    own = [name for name in _PREDICTING if overrides(net, name)]
    if not own:
        return None
    name = type(net).__name__
    return TypeError(
        f"as_module can't tell what {name}.{own[0]} makes of the output of the module: {name} "
        f"overrides it. Move its computation into the module, or into {name}.infer, or register a "
        f"rule by `as_module.register({name})`, or attack a differentiable surrogate trained on "
        "the net's own predictions (the parameter `surrogate`)."
    )


def refuse_unknown_criterion(net):
    """The error for a net of which it is not known what its outputs are, or None."""
    error = refuse_other_predictions(net)
    if error is not None:
        return error
    if not (hasattr(net, "criterion_") or isinstance(net.criterion, type | nn.Module)):
        # A function that makes the criterion when the net is initialized.
        return None
    criterion = _criterion_type(net)
    known = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.BCELoss, nn.NLLLoss)
    if callable(net.predict_nonlinearity) or issubclass(criterion, known):
        return None
    name = type(net).__name__
    return TypeError(
        f"as_module can't tell whether this {name} with criterion={criterion.__name__} puts "
        "out logits or probabilities. Set `predict_nonlinearity` to the function that makes "
        "probabilities of its output, or pass the module itself, `net.module_`, if it gives logits."
    )


def _criterion_type(net):
    criterion = getattr(net, "criterion_", net.criterion)
    criterion = plain(criterion)
    return criterion if isinstance(criterion, type) else type(criterion)


@as_module.register(NeuralNetClassifier, refuse=refuse_unknown_criterion)
@as_module.register(NeuralNetBinaryClassifier, refuse=refuse_unknown_criterion)
def _(net):
    module = network(net)
    criterion = _criterion_type(net)
    if callable(net.predict_nonlinearity):
        # Nets of two classes give a vector to the nonlinearity.
        flat = [nn.Flatten(0)] if isinstance(net, NeuralNetBinaryClassifier) else []
        return Chain(module, *flat, LogProbabilities(net.predict_nonlinearity))
    if issubclass(criterion, nn.CrossEntropyLoss):
        return module
    if issubclass(criterion, nn.BCEWithLogitsLoss):
        return Chain(module, BinaryLogits(getattr(net, "threshold", 0.5)))
    if issubclass(criterion, nn.BCELoss):
        return Chain(module, LogProbabilities(_two_columns))
    # NLLLoss: the module gives probabilities, of which skorch takes the logarithm itself.
    return Chain(module, LogProbabilities(nn.Identity()))
