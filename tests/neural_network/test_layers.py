"""The maxout layer against its definition."""

import numpy as np
import torch

from sk_adv.neural_network import Maxout, MaxoutNet


def test_maxout_is_the_largest_linear_piece():
    torch.manual_seed(0)
    layer = Maxout(3, 4, n_pieces=5).double()
    X = np.random.default_rng(0).normal(size=(6, 3))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = [[max(weight[k, u] @ x + bias[k, u] for k in range(5)) for u in range(4)] for x in X]
    np.testing.assert_allclose(layer(torch.from_numpy(X)).detach().numpy(), expected)


def test_maxout_gradient_matches_finite_differences():
    torch.manual_seed(0)
    layer = Maxout(3, 4).double()
    X = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, X)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    module = MaxoutNet(20, 3, hidden_layer_sizes=(16,), input_dropout=0.5, hidden_dropout=0.5)
    X = torch.randn(5, 20)
    assert not torch.equal(module.train()(X), module(X))
    assert torch.equal(module.eval()(X), module(X))


def test_sizes_are_as_asked_for():
    module = MaxoutNet(20, 3, hidden_layer_sizes=(16, 8), n_pieces=4)
    assert [tuple(layer.weight.shape) for layer in module.layers] == [(4, 16, 20), (4, 8, 16)]
    assert module(torch.zeros(2, 20)).shape == (2, 3)
    assert "n_features=20, n_units=16, n_pieces=4" in repr(module)
