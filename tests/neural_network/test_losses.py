"""Losses in half precision against those in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from sk_adv.attacks import log_odds_against
from sk_adv.neural_network import AdversarialNet
from sk_adv.neural_network._losses import (
    LogOddsCrossEntropy,
    SigmoidCrossEntropy,
    scaled_sigmoids,
)

HALVES = [torch.float16, torch.bfloat16]


def logits_and_labels(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (40,), generator=generator)
    return logits.to(dtype), labels


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scale", [0.1, 1, 30, 10000])
def test_losses_of_half_precision_are_those_of_the_same_logits_in_double(dtype, scale):
    half, y = logits_and_labels(dtype, scale)
    logits = half.double()
    signs = 2 * nn.functional.one_hot(y, 5) - 1
    true = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    expected = {
        LogOddsCrossEntropy(): cross_entropy(logits, y),
        LogOddsCrossEntropy(reduction="none"): cross_entropy(logits, y, reduction="none"),
        SigmoidCrossEntropy(): softplus(-signs * logits).sum(1).mean(),
        log_odds_against: others - true,
    }
    for loss, value in expected.items():
        torch.testing.assert_close(loss(half, y).double(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scale", [0.1, 1, 30])
def test_sigmoids_of_half_precision_are_those_of_the_same_logits_in_double(dtype, scale):
    half, _ = logits_and_labels(dtype, scale)
    found, sigmoids = scaled_sigmoids(half), half.double().sigmoid()
    assert found.dtype == dtype
    expected = sigmoids / sigmoids.sum(1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_losses_of_half_precision_are_those_in_double(dtype):
    half, y = logits_and_labels(dtype, 3)
    logits = half.double().requires_grad_(True)
    (expected,) = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), logits)
    half.requires_grad_(True)
    (found,) = torch.autograd.grad(LogOddsCrossEntropy(reduction="sum")(half, y), half)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=eps, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_a_module_of_half_precision_is_trained_on_the_loss_of_its_logits(dtype, norm, attack):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(200, 4, generator=generator).to(dtype)
    y = (X[:, 0] > 0).long()
    torch.manual_seed(0)
    module = nn.Linear(4, 2).to(dtype)
    expected = cross_entropy(module(X).double(), y).item()
    options = {"epsilon": np.full(4, 0.1), "norm": norm, "attack": attack}
    net = AdversarialNet(
        module, alpha=0.5, lr=1e-9, batch_size=200, max_epochs=1, train_split=None, verbose=0
    )
    assert net.set_params(**options).fit(X, y).history[0, "train_loss"] < 2 * expected
    net.set_params(alpha=1).partial_fit(X, y)
    # Sums over a batch are larger than the largest number in float16.
    assert net.history[1, "train_loss"] == pytest.approx(expected, rel=1e-5)
