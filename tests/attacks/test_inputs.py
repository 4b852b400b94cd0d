"""Inputs of attacks: accepted types, batches, and errors."""

import numpy as np
import pytest
import torch
from torch import nn

from sk_adv.attacks import apgd, auto, fgsm, pgd


def test_batches_do_not_change_fgsm(network, data):
    X, y = data
    np.testing.assert_allclose(
        fgsm(network, X, y, 0.3, batch_size=7), fgsm(network, X, y, 0.3), rtol=1e-12
    )


def test_result_is_of_the_kind_of_its_input(network, data):
    X, y = data
    assert isinstance(fgsm(network, X, y, 0.1), np.ndarray)
    assert isinstance(fgsm(network, torch.as_tensor(X), torch.as_tensor(y), 0.1), torch.Tensor)
    assert fgsm(network, X.astype(np.float32), y, 0.1).dtype == np.float32
    assert fgsm(network, X.round().astype(int), y, 0.1).dtype == np.float64
    assert fgsm(network.float(), X, y, 0.1).dtype == np.float64


def test_images_are_attacked_in_their_own_shape():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3))
    X = np.random.default_rng(0).uniform(size=(4, 1, 6, 6))
    copies = fgsm(module, X, [0, 1, 2, 0], np.full((1, 6, 6), 0.1))
    assert copies.shape == X.shape
    assert abs(copies - X).max() == pytest.approx(0.1)


def test_attack_leaves_module_and_input_alone(network, data):
    X, y = data
    X = torch.as_tensor(X)
    before = X.clone()
    network.train()
    pgd(network, X, y, 0.3, n_steps=2)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(X, before) and not X.requires_grad


@pytest.mark.parametrize("attack", [fgsm, pgd, apgd, auto])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -1.0}, ValueError, "epsilon.*-1"),
        ({"epsilon": np.inf}, ValueError, "epsilon.*inf"),
        ({"epsilon": [0.1, 0.2]}, ValueError, r"epsilon.*\(8,\).*\(2,\)"),
        ({"epsilon": "big"}, TypeError, "epsilon.*big"),
        ({"norm": 1}, ValueError, "norm.*inf or 2.*1"),
        ({"bounds": (1, 0)}, ValueError, "bounds.*low <= high"),
        ({"batch_size": 0}, ValueError, "batch_size.*0"),
        ({"y": np.zeros(3, int)}, ValueError, r"y.*\(50,\).*\(3,\)"),
        ({"y": np.full(50, 3)}, ValueError, "at least 4 classes"),
        ({"y": np.full(50, -1)}, ValueError, "y.*from 0.*-1"),
        ({"y": np.full(50, 0.5)}, ValueError, "y.*integer"),
        ({"y": np.array(["cat"] * 50)}, TypeError, "y.*class indices.*not class names"),
        ({"X": np.full((50, 8), "a")}, TypeError, "X.*real numbers"),
        ({"X": np.zeros((50, 8), complex)}, TypeError, "X.*real numbers.*complex"),
        ({"X": np.zeros((50, 3))}, ValueError, r"can't take X.*\(50, 3\)"),
        ({"epsilon": None}, TypeError, "epsilon.*None"),
        ({"norm": np.array([2, 2])}, ValueError, "norm"),
        ({"X": np.full((50, 8), np.nan)}, ValueError, "X.*NaN"),
        ({"X": np.zeros(8)}, ValueError, "X.*n_features"),
        ({"X": np.zeros((0, 8)), "y": np.zeros(0, int)}, ValueError, "at least one sample"),
        ({"module": lambda X: X}, TypeError, "module.*as_module"),
        ({"module": nn.Linear(8, 1).double()}, ValueError, r"at least 3 classes.*\(50, 1\)"),
    ],
)
def test_bad_input_is_explained(network, data, attack, change, error, message):
    arguments = {"module": network, "X": data[0], "y": data[1], "epsilon": 0.1, **change}
    arguments["y"] = np.asarray(arguments["y"])
    with pytest.raises(error, match=message):
        attack(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps.*0"),
        ({"n_restarts": 1.5}, "n_restarts.*1.5"),
        ({"step_size": -1}, "step_size.*-1"),
        ({"n_restarts": 2, "random_start": False}, "n_restarts=2 needs random_start"),
    ],
)
def test_bad_parameter_of_pgd_is_explained(network, data, change, message):
    with pytest.raises(ValueError, match=message):
        pgd(network, *data, 0.1, **change)


def test_module_without_gradient_is_refused(data):
    class Rounding(nn.Module):
        def forward(self, X):
            return (X[:, :3].detach() > 0).double()

    with pytest.raises(TypeError, match="no gradient"):
        fgsm(Rounding(), *data, 0.1)


def test_sparse_input_is_refused(network, data):
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="sparse.*toarray"):
        fgsm(network, csr_array(data[0]), data[1], 0.1)
    with pytest.raises(TypeError, match="sparse.*to_dense"):
        fgsm(network, torch.as_tensor(data[0]).to_sparse(), data[1], 0.1)


def test_module_that_returns_nan_is_refused(data):
    class Broken(nn.Module):
        def forward(self, X):
            return X[:, :3] * torch.nan

    with pytest.raises(ValueError, match="NaN"):
        fgsm(Broken(), *data, 0.1)


def test_missing_values_stay_missing_and_the_rest_is_attacked_as_if_they_were_filled(
    data, linear_module
):
    X, y = data
    coef = np.linspace(-1, 1, 8)

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear_module(coef)

        def forward(self, X):
            return self.linear(torch.where(X.isnan(), 0.7, X))

    holes = np.random.default_rng(0).random(X.shape) < 0.2
    filled, X = np.where(holes, 0.7, X), np.where(holes, np.nan, X)
    for attack in (fgsm, pgd):
        params = {"random_start": False} if attack is pgd else {}
        expected = attack(linear_module(coef), filled, y % 2, 0.3, **params)
        found = attack(Filling(), X, y % 2, 0.3, **params)
        np.testing.assert_allclose(found, np.where(holes, np.nan, expected), atol=1e-12)
    with pytest.raises(ValueError, match="NaN.*SimpleImputer"):
        fgsm(linear_module(coef), X, y % 2, 0.3)


def test_batches_shrink_as_samples_and_layers_grow():
    sizes = []

    class Counting(nn.Linear):
        def forward(self, X):
            sizes.append(len(X))
            return super().forward(X)[:, :2]

    for n_features, width in ((10, 2), (10_000, 2), (10, 50_000)):
        X = np.zeros((3000, n_features), np.float32)
        fgsm(Counting(n_features, width), X, np.zeros(3000, int), 0.1)
        sizes.append("|")
    text = " ".join(map(str, sizes)).split(" | ")
    assert text[0] == "3000"
    for batches in (text[1], text[2].removesuffix(" |")):
        counts = list(map(int, batches.split()))
        assert sum(counts) == 3000 and max(counts) < 500


@pytest.mark.parametrize("attack", [fgsm, pgd, apgd])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_radius_holds_in_the_precision_of_the_data(network, data, attack, norm, radius_used):
    # 0.3 in float32 is larger than 0.3.
    X, y = 1e-3 * data[0], data[1]
    for bounds in (None, (-0.2, 0.2)):
        copies = attack(network.float(), X, y, 0.3, norm=norm, bounds=bounds)
        assert radius_used(X, copies, np.full(8, 0.3), norm).max() <= 1 + 1e-15


@pytest.mark.parametrize("attack", [fgsm, pgd, apgd])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_samples_outside_of_the_bounds_are_first_brought_into_them(
    network, data, attack, norm, precision
):
    X, y = 3 * data[0], data[1]
    options = {"norm": norm, "bounds": (-1, 1)}
    options |= {} if attack is fgsm else {"random_state": 0}
    network = network.to(precision)
    copies = attack(network, X, y, 0.3, **options)
    np.testing.assert_array_equal(copies, attack(network, X.clip(-1, 1), y, 0.3, **options))
