"""The training step in bfloat16 on the CPU, against autograd in float64 and torch's optimizers."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sk_adv.neural_network import AdversarialNet, MaxoutNet, _blockwise_optimizer
from sk_adv.neural_network._bfloat16 import ExplicitStep, dropout_factors, may_be_explicit
from sk_adv.neural_network._blockwise_optimizer import BlockwiseOptimizer
from sk_adv.neural_network._losses import LogOddsCrossEntropy

# Many samples, so that those with almost equal pieces matter little.
N = 2000
X = torch.rand(N, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def shifted(module, X, y, epsilon, *, norm, bounds):
    """Copies that do not depend on rounding."""
    return X + epsilon


def net_of(**params):
    """A net of small maxout layers that is ready to train."""
    torch.manual_seed(0)
    return AdversarialNet(
        MaxoutNet,
        **{
            "module__n_features": 12,
            "module__n_classes": 3,
            "module__hidden_layer_sizes": (10, 8),
            "module__n_pieces": 3,
            "precision": "bfloat16",
            "lr": 1.0,
            "train_split": None,
            "verbose": 0,
        }
        | params,
    ).initialize()


def change(net, batch):
    """The loss and the old minus the new weights of one plain descent step with rate 1."""
    before = [parameter.detach().clone() for parameter in net.module_.parameters()]
    loss = ExplicitStep(net)(batch)["loss"]
    after = net.module_.parameters()
    return loss, [old - new.detach() for old, new in zip(before, after, strict=True)]


def reference(net, batch, copies, alpha, masks=(None, None)):
    """J̄ and its gradient by autograd in float64, with given dropout masks for the two losses."""
    module = copy.deepcopy(net.module_).double()
    y, weight = batch[1] if isinstance(batch[1], tuple) else (batch[1], torch.ones(N))
    total = 0
    for inputs, share, factors in zip((batch[0], copies), (alpha, 1 - alpha), masks, strict=True):
        if share:
            ones = [torch.ones(())] * 3
            first, *hidden = (factor.double() for factor in factors or ones)
            H = inputs.double() * first
            for layer, factor in zip(module.layers, hidden, strict=True):
                H = layer(H) * factor
            losses = torch.nn.functional.cross_entropy(module.output(H), y, reduction="none")
            total = total + share * (weight * losses).mean()
    gradient = torch.autograd.grad(total, list(module.parameters()))
    return total.detach(), gradient


def assert_close(found, expected):
    """Assert equality up to the rounding of bfloat16, in the Euclidean norm."""
    for one, other in zip(found, expected, strict=True):
        assert torch.linalg.vector_norm(one - other) < 0.05 * torch.linalg.vector_norm(other)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weight", [None, torch.linspace(0, 2, N)])
def test_the_step_is_along_the_gradient_of_the_mixed_loss(alpha, weight):
    net = net_of(alpha=alpha, attack=shifted, epsilon=0.2)
    batch = X, Y if weight is None else (Y, weight)
    expected_loss, gradient = reference(net, batch, X + 0.2, alpha)
    loss, found = change(net, batch)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=0.01, atol=0)
    assert_close(found, gradient)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_the_copies_of_the_step_are_those_of_fgsm(norm):
    net = net_of(alpha=0.5, epsilon=np.linspace(0, 0.3, 12), norm=norm, bounds=(0, 1))
    step, seen = ExplicitStep(net), []
    take = step._pass
    step._pass = lambda inputs, *rest, **options: (
        seen.append(inputs) or take(inputs, *rest, **options)
    )
    expected = net._craft(X, Y)
    step((X, Y))
    assert torch.equal(seen[0], X)
    # The gradient is computed in bfloat16, so its sign may differ where it is almost zero.
    gap = (seen[1] - expected).abs()
    assert (gap > 0.01).float().mean() < 0.02
    assert (seen[1] - X).abs().max() > 0.1


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_dropout_multiplies_both_losses_by_masks_of_their_own(share):
    net = net_of(
        alpha=0.4,
        attack=shifted,
        epsilon=0.2,
        module__input_dropout=share / 2,
        module__hidden_dropout=share,
    )
    torch.manual_seed(1)
    shapes = [(N, 12), (N, 10), (N, 8)]
    shares = [share / 2, share, share]
    masks = [[*map(dropout_factors, shapes, shares)] for _ in range(2)]
    assert not torch.equal(masks[0][1], masks[1][1])
    expected_loss, gradient = reference(net, (X, Y), X + 0.2, 0.4, masks)
    torch.manual_seed(1)
    loss, found = change(net, (X, Y))
    torch.testing.assert_close(loss.double(), expected_loss, rtol=0.01, atol=0)
    assert_close(found, gradient)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    factors = dropout_factors((1000, 999), share).float()
    dropped = (factors == 0).float().mean()
    # Five standard deviations.
    assert abs(dropped - share) < 5 * (share * (1 - share) / factors.numel()) ** 0.5
    assert factors.unique().numel() == 2
    # bfloat16 has eight digits.
    torch.testing.assert_close(float(factors.max()), 1 / (1 - share), rtol=2**-8, atol=0)
    rows = torch.corrcoef(factors[:40])
    assert (rows - torch.eye(40)).abs().max() < 0.2


def test_no_dropout_draws_nothing():
    state = torch.get_rng_state()
    assert dropout_factors((3, 4), 0.0) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_of_equal_pieces_one_gets_the_gradient():
    net = net_of(alpha=1.0)
    for layer in net.module_.layers:
        layer.weight.data[:] = layer.weight.data[:1].clone()
        layer.bias.data[:] = layer.bias.data[:1].clone()
    _, gradient = reference(net, (X, Y), X, 1.0)
    _, found = change(net, (X, Y))
    for one, other in zip(found[:4], gradient[:4], strict=True):
        # torch may choose any of its implementations.
        assert_close([one.sum(0)], [other.sum(0)])
        assert (one != 0).any(-1).reshape(3, -1).any(-1).tolist() == [True, False, False]


OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "weight decay": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    "Adam": (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.01}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_by_blocks_are_those_of_torch_up_to_rounding(name, monkeypatch):
    monkeypatch.setattr(_blockwise_optimizer, "_NUMBERS_PER_BLOCK", 40)
    kind, options = OPTIMIZERS[name]
    torch.manual_seed(0)
    start, slopes = torch.randn(3, 5, 7), torch.randn(4, 3, 5, 7)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    blockwise = BlockwiseOptimizer(kind([ours], **options, fused=True))
    whole = kind([theirs], **options, fused=True)
    visited = []
    for slope in slopes:
        blockwise.step(ours, slope.view(15, 7), lambda rows, block: visited.append(len(block)))
        theirs.grad = slope
        whole.step()
    assert visited == 4 * [5, 5, 5]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    state, expected = blockwise.optimizer.state[ours], whole.state[theirs]
    assert {key for key, value in expected.items() if value is not None} == set(state)
    for key in state:
        torch.testing.assert_close(state[key], expected[key], rtol=1e-6, atol=1e-7)


def test_a_step_limits_the_norms_of_all_layers():
    net = net_of(module__max_norm=0.3)
    change(net, (X, Y))
    for part in (*net.module_.layers, net.module_.output):
        norms = torch.linalg.vector_norm(part.weight, dim=-1)
        assert norms.max() < 0.3 * (1 + 1e-6)
    assert norms.max() > 0.29


class Listener(Callback):
    """Listens to each batch, so that skorch's own loop runs."""

    def on_batch_end(self, net, **kwargs):
        """Do nothing."""


def test_training_learns_as_the_path_through_autograd_does(digits, small):
    options = {"precision": "bfloat16", "max_iter": 15, "epsilon": 0.1, "learning_rate_init": 0.005}
    quick = small(**options).fit(*digits)
    slow = small(**options, callbacks=[Listener()]).fit(*digits)
    np.testing.assert_allclose(quick.loss_curve_, slow.loss_curve_, rtol=0.05)
    assert abs(quick.score(*digits) - slow.score(*digits)) < 0.03


@pytest.mark.parametrize(
    ("params", "is_explicit"),
    [
        ({}, True),
        ({"optimizer": torch.optim.Adam}, True),
        ({"precision": "float32"}, False),
        ({"optimizer": torch.optim.Adagrad}, False),
        ({"module": torch.nn.Sequential(torch.nn.Linear(12, 3))}, False),
        ({"criterion": LogOddsCrossEntropy, "compile": True}, False),
    ],
)
def test_only_maxout_networks_in_bfloat16_are_written_out(params, is_explicit):
    if "module" in params:
        params = {"module": params["module"], "train_split": None, "precision": "bfloat16"}
        net = AdversarialNet(**params).initialize()
    else:
        net = net_of(**params)
    assert may_be_explicit(net) == is_explicit


def test_a_hook_of_the_module_is_heard(digits):
    net, calls = net_of(), []
    net.module_.layers[0].register_forward_hook(lambda *args: calls.append(args))
    assert not may_be_explicit(net)
    net.partial_fit(X, Y)
    assert calls


def test_frozen_weights_stay(digits):
    net = net_of(max_epochs=2)
    net.module_.layers[0].weight.requires_grad_(False)
    before = net.module_.layers[0].weight.clone()
    net.partial_fit(X, Y)
    assert torch.equal(net.module_.layers[0].weight, before)
