"""Training where the input is cut off from the output, so that no copy can follow a gradient."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sk_adv.attacks import fgsm
from sk_adv.neural_network import AdversarialNet

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class CutOff(torch.nn.Module):
    """A layer that learns, behind an operation through which no gradient passes."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, X):
        return self.layer(X.detach())


def by_fgsm(module, X, y, epsilon, *, norm, bounds):
    return fgsm(module, X, y, epsilon, norm=norm, bounds=bounds)


def by_backward(module, X, y, epsilon, *, norm, bounds):
    X = X.clone().requires_grad_()
    cross_entropy(module(X), y).backward()
    return (X + epsilon * X.grad.sign()).detach()


def by_grad(module, X, y, epsilon, *, norm, bounds):
    X = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(module(X), y), X)
    return (X + epsilon * gradient.sign()).detach()


def in_silence(module, X, y, epsilon, *, norm, bounds):
    X = X.clone().requires_grad_()
    loss = cross_entropy(module(X), y)
    (gradient,) = torch.autograd.grad(loss, X, allow_unused=True)
    return X.detach() if gradient is None else (X + epsilon * gradient.sign()).detach()


def shift(module, X, y, epsilon, *, norm, bounds):
    return X + epsilon


def net_of(module, **params):
    torch.manual_seed(0)
    return AdversarialNet(
        module, **{"epsilon": 0.1, "max_epochs": 2, "train_split": None, "verbose": 0} | params
    )


FOLLOWING = {
    "fgsm": {},
    "fgsm alone": {"alpha": 0},
    "pgd": {"attack": "pgd"},
    "pgd alone": {"attack": "pgd", "alpha": 0},
    "rotation": {"attack": "rotate_towards_gradient"},
    "a function that calls fgsm": {"attack": by_fgsm},
    "backward": {"attack": by_backward},
    "grad": {"attack": by_grad, "alpha": 0},
    "in silence": {"attack": in_silence},
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_an_attack_that_follows_a_gradient_says_that_there_is_none(name):
    net = net_of(CutOff(), **FOLLOWING[name])
    with pytest.raises(TypeError, match="output does not depend on its input") as refused:
        net.fit(X, Y)
    # A net takes no surrogate, but noise.
    message = str(refused.value)
    assert "attack='uniform_noise'" in message and "surrogate" not in message
    # The same attack trains a module that lets the gradient through.
    assert np.isfinite(net_of(torch.nn.Linear(4, 2), **FOLLOWING[name]).fit(X, Y).score(X, Y))


@pytest.mark.parametrize(
    "params",
    [
        {"attack": "uniform_noise"},
        {"attack": "square", "attack_params": {"n_queries": 2}},
        {"attack": shift},
        {"attack": shift, "alpha": 0},
        {"attack": in_silence, "epsilon": 0.0},
        {"alpha": 1},
    ],
)
def test_training_that_needs_no_gradient_on_the_input_goes_on(params):
    module = CutOff()
    before = module.layer.weight.detach().clone()
    net = net_of(module, **params).fit(X, Y)
    assert len(net.history) == 2
    assert not torch.equal(net.module_.layer.weight, before)
