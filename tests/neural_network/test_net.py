"""One training step against the gradient of the training loss."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sk_adv.attacks import fgsm
from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping
from sk_adv.neural_network._batches import TensorBatches, WeightedData
from sk_adv.neural_network._losses import LogOddsCrossEntropy, SigmoidCrossEntropy


class CountingNet(nn.Sequential):
    """A small network that counts how many samples pass through it."""

    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.n_passes = 0

    def forward(self, X):
        self.n_passes += 1
        return super().forward(X)


class SeeingNet(CountingNet):
    """A small network that records its inputs."""

    def forward(self, X):
        self.seen = [*getattr(self, "seen", []), X.detach().clone()]
        return super().forward(X)


def step(alpha, norm=np.inf, bounds=None):
    """Gradients on the weights after one step, and the net."""
    torch.manual_seed(0)
    net = AdversarialNet(
        CountingNet, epsilon=0.3, alpha=alpha, norm=norm, bounds=bounds, classes=range(3)
    ).initialize()
    # Training uses the samples as they are, while attacks clip them to the bounds first.
    X, y = torch.randn(20, 4).clamp(-0.5, 0.5), torch.randint(0, 3, (20,))
    result = net.train_step_single((X, y))
    return net, X, y, result


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("bounds", [None, (-0.5, 0.5)])
def test_step_has_the_gradient_of_the_mixed_loss_with_constant_copies(alpha, norm, bounds):
    net, X, y, result = step(alpha, norm, bounds)
    module = net.module_
    found = [parameter.grad.clone() for parameter in module.parameters()]
    copies = fgsm(module, X, y, 0.3, norm=norm, bounds=bounds)
    loss = nn.functional.cross_entropy
    expected = alpha * loss(module(X), y) + (1 - alpha) * loss(module(copies), y)
    for gradient, reference in zip(
        found, torch.autograd.grad(expected, list(module.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, reference)
    torch.testing.assert_close(result["loss"].detach(), expected.detach())


@pytest.mark.parametrize("alpha", [0, 0.5])
@pytest.mark.parametrize("log_odds", [60.0, 1000.0])
def test_copies_of_samples_that_the_network_is_sure_of_go_the_right_way(alpha, log_odds):
    # The probability of the true class rounds to 1 in float32; its cross-entropy has no gradient.
    class Sure(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.weight.data = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
            self.bias.data = torch.tensor([0.0, log_odds])
            self.seen = []

        def forward(self, X):
            self.seen.append(X.detach())
            return super().forward(X)

    net = AdversarialNet(Sure, epsilon=0.5, alpha=alpha, classes=range(2)).initialize()
    net.train_step_single((torch.zeros(1, 2), torch.tensor([1])))
    assert torch.equal(net.module_.seen[-1], torch.tensor([[-0.5, 0.5]]))


@pytest.mark.parametrize(("alpha", "n_passes"), [(0, 2), (0.5, 2), (1, 1)])
def test_step_costs_two_passes_and_one_without_an_adversary(alpha, n_passes):
    net, *_ = step(alpha)
    assert net.module_.n_passes == n_passes


def test_batches_hold_every_sample_once_in_an_order_that_the_seed_fixes():
    data = WeightedData(torch.arange(10.0)[:, None], torch.arange(10))

    def epoch(shuffle):
        torch.manual_seed(0)
        batches = list(TensorBatches(data, batch_size=4, shuffle=shuffle))
        assert [len(X) for X, _ in batches] == [4, 4, 2]
        assert all(torch.equal(X[:, 0].long(), y) for X, y in batches)
        return torch.cat([y for _, y in batches])

    assert torch.equal(epoch(shuffle=False), data.y)
    assert torch.equal(epoch(shuffle=True).sort().values, data.y)
    assert torch.equal(epoch(shuffle=True), epoch(shuffle=True))
    assert not torch.equal(epoch(shuffle=True), data.y)
    assert len(TensorBatches(data, batch_size=4)) == 3


CRITERIA = {
    "softmax": (nn.CrossEntropyLoss, {}),
    "smoothed": (nn.CrossEntropyLoss, {"label_smoothing": 0.9}),
    "sigmoids": (SigmoidCrossEntropy, {}),
    "margins": (nn.MultiMarginLoss, {}),
}


def gradient_on(X, y, module, loss):
    X = X.clone().requires_grad_()
    return torch.autograd.grad(loss(module(X), y), X)[0]


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_copies_go_up_the_criterion(name, attack, alpha):
    criterion, options = CRITERIA[name]
    torch.manual_seed(0)
    one_step = {"n_steps": 1, "step_size": 0.1, "random_start": False}
    net = AdversarialNet(
        SeeingNet,
        criterion=criterion,
        **{f"criterion__{key}": value for key, value in options.items()},
        epsilon=0.1,
        alpha=alpha,
        attack=attack,
        attack_params=one_step if attack == "pgd" else None,
    ).initialize()
    X, y = 3 * torch.randn(300, 4), torch.randint(0, 3, (300,))
    net.train_step_single((X, y))
    copies = net.module_.seen[-1]
    ascent = gradient_on(X, y, net.module_, criterion(**options))
    torch.testing.assert_close(copies, X + 0.1 * ascent.sign())


@pytest.mark.parametrize(
    "options",
    [{"label_smoothing": 0.3}, {"weight": torch.tensor([1.0, 2.0, 5.0])}, {"ignore_index": 1}, {}],
)
def test_the_default_loss_is_the_cross_entropy_with_its_options(options):
    torch.manual_seed(0)
    logits, y = torch.randn(30, 3, requires_grad=True), torch.randint(0, 3, (30,))
    for reduction in ("mean", "sum", "none"):
        losses = [
            loss(**options, reduction=reduction)(logits, y)
            for loss in (LogOddsCrossEntropy, nn.CrossEntropyLoss)
        ]
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), logits)[0] for loss in losses))


def test_the_net_of_independent_sigmoids_gives_the_probabilities_of_its_classifier(digits, small):
    X, y = digits[0].astype(np.float32), digits[1]
    model = small(output_activation="sigmoid", max_iter=1).fit(X, y)
    np.testing.assert_allclose(model.net_.predict_proba(X), model.predict_proba(X), rtol=1e-5)


def fitted(module, X, y, **params):
    torch.manual_seed(0)
    net = AdversarialNet(module, max_epochs=2, train_split=None, verbose=0, **params).fit(X, y)
    return net.module_.state_dict()


class TwoOutputs(nn.Linear):
    def forward(self, X):
        return super().forward(X), X


class Converting(nn.Linear):
    def forward(self, X):
        return super().forward(X.float() / 16)


OPTIONS = {"module__in_features": 64, "module__out_features": 10}


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_of_several_outputs_the_first_is_trained_and_predicted(attack, digits, are_equal):
    X, y = digits[0].astype(np.float32), digits[1]
    one, two = (
        fitted(module, X, y, attack=attack, **OPTIONS) for module in (nn.Linear, TwoOutputs)
    )
    assert are_equal(one, two)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_integers_are_trained_on_as_the_floating_point_numbers_that_they_are(
    alpha, digits, are_equal
):
    pixels, y = (16 * digits[0]).astype(np.uint8), digits[1]
    whole, real = (
        fitted(Converting, X, y, alpha=alpha, epsilon=2.0, **OPTIONS)
        for X in (pixels, pixels.astype(np.float32))
    )
    assert are_equal(whole, real)


def test_labels_of_a_dataset_may_be_integers_of_any_kind(digits, are_equal):
    X, y = torch.from_numpy(digits[0].astype(np.float32)), torch.from_numpy(digits[1])
    byte, whole = (
        fitted(nn.Linear, TensorDataset(X, labels), None, **OPTIONS) for labels in (y.byte(), y)
    )
    assert are_equal(byte, whole)


def test_the_loss_of_an_epoch_weighs_the_batches_of_several_inputs_by_their_samples():
    class Sum(nn.Linear):
        def forward(self, one, other):
            return super().forward(one + other)

    torch.manual_seed(0)
    one, other, y = torch.randn(30, 4), torch.randn(30, 4), torch.randint(0, 3, (30,))
    net = AdversarialNet(
        Sum(4, 3), alpha=1, lr=0, batch_size=20, max_epochs=1, train_split=None, verbose=0
    ).fit({"one": one, "other": other}, y)
    expected = nn.functional.cross_entropy(net.module_(one, other), y).detach()
    np.testing.assert_allclose(net.history[-1, "train_loss"], float(expected), rtol=1e-6)


def test_held_out_copies_go_up_the_criterion(digits, small):
    X, y = torch.from_numpy(digits[0].astype(np.float32)), torch.from_numpy(digits[1])
    net = small(output_activation="sigmoid", epsilon=0.1).fit(X, y).net_
    stopping = RobustEarlyStopping("loss", data=WeightedData(X, y))
    stopping.on_train_begin(net)
    figures = stopping._measure(net)
    copies = X + 0.1 * gradient_on(X, y, net.module_, SigmoidCrossEntropy()).sign()
    errors = (net.module_(copies).argmax(1) != y).float().mean()
    np.testing.assert_allclose(figures["adversarial_error"], float(errors), rtol=1e-6)
