"""The training loop against autograd, repetition, and skorch's own loop."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EpochScoring, Freezer, GradientNormClipping, LRScheduler
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from sk_adv.attacks import fgsm, pgd
from sk_adv.neural_network import AdversarialNet
from sk_adv.neural_network._batches import TensorBatches, WeightedData
from sk_adv.neural_network._cuda_graph import CudaGraphStep, may_be_captured
from sk_adv.neural_network._listeners import has_listeners
from sk_adv.neural_network._losses import SigmoidCrossEntropy

EPSILON = 0.25


class Seeing(nn.Sequential):
    """A network that records its inputs and its mode."""

    def __init__(self, n_features=4, n_classes=3):
        super().__init__(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))
        self.seen = []

    def forward(self, X):
        self.seen.append((X.detach().clone(), self.training))
        return super().forward(X)


def one_step(alpha=0.5, n_samples=50, module=Seeing, **params):
    torch.manual_seed(0)
    net = AdversarialNet(
        module, epsilon=EPSILON, alpha=alpha, classes=range(3), verbose=0, **params
    ).initialize()
    X, y = torch.randn(n_samples, 4), torch.randint(0, 3, (n_samples,))
    net.train_step_single((X, y))
    return net.module_, X, y


@pytest.mark.parametrize(("alpha", "n_passes"), [(0, 1), (0.5, 2), (1, 1)])
def test_noise_of_signs_moves_each_feature_by_epsilon_and_costs_no_pass(alpha, n_passes):
    module, X, _ = one_step(alpha, attack="sign_noise", n_samples=500)
    assert len(module.seen) == n_passes
    assert all(is_training for _, is_training in module.seen)
    if alpha < 1:
        noise = module.seen[-1][0] - X
        torch.testing.assert_close(noise.abs(), torch.full_like(noise, EPSILON))
        assert abs(float(noise.mean())) < 0.1 * EPSILON
    if alpha > 0:
        assert torch.equal(module.seen[0][0], X)


def test_uniform_noise_fills_the_box_evenly():
    params = {"attack": "uniform_noise"}
    module, X, _ = one_step(n_samples=2000, **params)
    share = ((module.seen[-1][0] - X) / EPSILON + 1) / 2
    assert share.min() >= 0 and share.max() <= 1
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "sign_noise"])
def test_copies_stay_within_the_bounds(attack):
    module, *_ = one_step(attack=attack, bounds=(-0.5, 0.7))
    copies = module.seen[-1][0]
    assert copies.min() == -0.5 and copies.max() == torch.tensor(0.7)


@pytest.mark.filterwarnings("error")
def test_bounds_of_a_frame_may_be_read_only():
    low, high = np.full(4, -0.5), np.full(4, 0.7)
    low.flags.writeable = high.flags.writeable = False  # like the arrays of a pandas frame
    torch.set_warn_always(True)  # the default is once per process
    try:
        module, *_ = one_step(bounds=(low, high))
    finally:
        torch.set_warn_always(False)
    assert module.seen[-1][0].min() == -0.5


@pytest.mark.parametrize(("alpha", "n_clean"), [(0, 0), (0.5, 1), (1, 1)])
def test_pgd_trains_on_the_copies_that_the_attack_makes(alpha, n_clean):
    params = {"n_steps": 3, "random_start": False}
    module, X, y = one_step(alpha, attack="pgd", attack_params=params)
    in_training = [shown for shown, is_training in module.seen if is_training]
    n_evaluated = len(module.seen) - len(in_training)
    assert (n_evaluated == 0) == (alpha == 1)
    assert len(in_training) == n_clean + (alpha < 1)
    if alpha < 1:
        expected = pgd(module, X, y, EPSILON, **params)
        torch.testing.assert_close(in_training[-1], torch.as_tensor(expected))
    if n_clean:
        assert torch.equal(in_training[0], X)


def test_the_seed_of_the_training_fixes_the_random_starts_of_pgd(digits, small, weights, are_equal):
    pgd_ = {"attack": "pgd", "attack_params": {"n_steps": 2}, "max_iter": 1}
    assert are_equal(*(weights(small(**pgd_).fit(*digits)) for _ in range(2)))


def test_a_function_is_called_with_the_perturbation_and_its_own_parameters():
    calls = []

    def attack(module, X, y, epsilon, *, norm, bounds, shift):
        calls.append((module.training, float(epsilon), norm, bounds))
        return X + shift

    module, X, _ = one_step(attack=attack, attack_params={"shift": 2.0}, norm=2)
    assert calls == [(False, EPSILON, 2, None)]
    torch.testing.assert_close(module.seen[-1][0], X + 2)


def test_attack_fgsm_as_a_function_trains_like_its_name_with_no_dropout(digits, small, weights):
    named, called = (
        small(attack=attack, max_iter=2, precision="float64").fit(*digits)
        for attack in ("fgsm", fgsm)
    )
    torch.testing.assert_close(weights(named), weights(called))


class Normed(nn.Sequential):
    def __init__(self, norm=None):
        super().__init__(norm or nn.BatchNorm1d(4), nn.Linear(4, 3))
        self.seen = []

    def forward(self, X):
        if self.training:
            self.seen.append(X.detach())
        return super().forward(X)


@pytest.mark.parametrize(
    ("params", "alpha", "n_passes"),
    [
        ({"attack": "fgsm"}, 1, 1),
        ({"attack": "fgsm"}, 0.5, 2),
        ({"attack": "pgd"}, 0.5, 2),
        ({"attack": "sign_noise"}, 0.5, 2),
        ({"attack": "pgd", "robust_loss": "trades"}, 0.5, 2),
        # There are no clean samples.
        ({"attack": "fgsm"}, 0, 1),
        ({"attack": "pgd"}, 0, 1),
    ],
)
def test_clean_samples_alone_set_the_running_statistics(params, alpha, n_passes):
    module, X, _ = one_step(alpha, module=Normed, **params)
    assert len(module.seen) == n_passes
    assert torch.equal(module.seen[0], X) == (alpha > 0)
    assert module[0].num_batches_tracked == 1
    torch.testing.assert_close(module[0].running_mean, 0.1 * module.seen[0].mean(0))
    assert module.training
    assert module[0].track_running_stats


def test_copies_are_normalised_by_their_own_statistics():
    normed = []

    class Listening(Normed):
        def __init__(self):
            super().__init__()
            self[0].register_forward_hook(lambda layer, given, output: normed.append(output))

    module, *_ = one_step(module=Listening)
    for shown, output in zip(module.seen, normed, strict=True):
        expected = (shown - shown.mean(0)) / (shown.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(output, expected)
    assert not torch.equal(*module.seen)


class Forgetful(Normed):
    """Keeps no activations of its first layer, and computes them again in the backward pass."""

    def forward(self, X):
        return self[1](checkpoint(self[0], X, use_reentrant=False))


class ByInstance(nn.InstanceNorm1d):
    """An instance norm over two channels of two features."""

    def __init__(self):
        super().__init__(2, track_running_stats=True)

    def forward(self, X):
        return super().forward(X.unflatten(1, (2, 2))).flatten(1)


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (nn.BatchNorm1d(4, momentum=None), Normed),
        (nn.BatchNorm1d(4, affine=False), Normed),
        (nn.BatchNorm1d(4), Forgetful),
        (ByInstance(), Normed),
    ],
)
@pytest.mark.parametrize("mode", ["fgsm", "trades", "frozen"])
def test_copies_leave_statistics_of_every_kind(norm, kind, mode):
    def module():
        made = kind(copy.deepcopy(norm))
        made[0].train(mode != "frozen")
        return made

    params = {"attack": "pgd", "robust_loss": "trades"} if mode == "trades" else {}
    plain, mixed = (one_step(a, module=module, **p)[0][0] for a, p in ((1, {}), (0.5, params)))
    before, plain, mixed = (list(layer.buffers()) for layer in (norm, plain, mixed))
    assert all(map(torch.equal, before, plain)) == (mode == "frozen")
    if mode == "trades" and kind is Forgetful:
        # One backward pass serves both, and repeats no update of the clean samples either.
        plain = list(one_step(1, module=lambda: Normed(copy.deepcopy(norm)))[0][0].buffers())
    assert all(map(torch.equal, plain, mixed))


def test_layers_without_running_statistics_get_none():
    layer = one_step(module=lambda: Normed(nn.BatchNorm1d(4, track_running_stats=False)))[0][0]
    assert layer.running_mean is None and not layer.track_running_stats


def net_of(**params):
    torch.manual_seed(0)
    return AdversarialNet(
        nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)),
        **{"max_epochs": 3, "verbose": 0, "lr": 0.1, "iterator_train__shuffle": True} | params,
    )


def single(digits):
    return digits[0].astype(np.float32), digits[1]


class BatchListener(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


@pytest.mark.parametrize("alpha", [1, 0.5, 0])
def test_listening_to_batches_changes_neither_weights_nor_losses(alpha, digits, weights, are_equal):
    X, y = single(digits)
    quiet, heard = (
        net_of(alpha=alpha, callbacks=callbacks).fit(X, y) for callbacks in ([], [BatchListener()])
    )
    assert are_equal(weights(quiet), weights(heard))
    for name in ("train_loss", "valid_loss", "valid_acc"):
        np.testing.assert_allclose(quiet.history[:, name], heard.history[:, name], rtol=1e-6)
    assert quiet.history[:, "train_loss_best"] == heard.history[:, "train_loss_best"]
    assert not has_listeners(quiet) and has_listeners(heard)


def test_the_steps_of_a_graph_give_the_weights_of_the_ordinary_loop(digits, weights, are_equal):
    X, y = single(digits)
    options = {"optimizer": torch.optim.Adam, "lr": 0.01, "train_split": None}
    falling = LRScheduler("StepLR", step_size=1, gamma=0.5)
    ordinary = net_of(**options, callbacks=[falling]).fit(X, y)
    net = net_of(**options).initialize()
    data = WeightedData(torch.as_tensor(X), torch.as_tensor(y))
    batches = net.get_iterator(data, training=True)
    losses = []
    for epoch in range(3):
        net.optimizer_.param_groups[0]["lr"] = 0.01 * 0.5**epoch
        static = CudaGraphStep(net, data, net.batch_size)
        losses.append(sum(len(rows) * float(static(rows)) for rows in batches.rows()) / len(X))
    assert are_equal(weights(net), weights(ordinary))
    np.testing.assert_allclose(losses, ordinary.history[:, "train_loss"], rtol=1e-6)


@pytest.mark.parametrize(("step_every", "is_heard"), [("epoch", False), ("batch", True)])
def test_a_schedule_of_epochs_leaves_the_batches_unheard(step_every, is_heard):
    net = net_of(callbacks=[LRScheduler("StepLR", step_size=1, step_every=step_every)])
    assert has_listeners(net.initialize()) == is_heard


@pytest.mark.parametrize(
    ("params", "is_captured"),
    [
        ({}, True),
        ({"attack": "sign_noise"}, False),
        ({"attack": "pgd", "alpha": 1}, True),
        ({"optimizer": torch.optim.Adam}, True),
        # A draw from torch's random state of the CPU, or work that differs from batch to batch.
        ({"attack": "pgd"}, False),
        ({"attack": fgsm}, True),
        ({"attack": "uniform_noise"}, False),
        # An optimizer that keeps its count of steps on the CPU.
        ({"optimizer": torch.optim.Adagrad}, False),
    ],
)
def test_only_steps_that_do_the_same_for_each_batch_may_be_captured(params, is_captured):
    net = net_of(**params).initialize()
    data = WeightedData(torch.zeros(6, 64), torch.zeros(6, dtype=torch.int64))
    batches = net.get_iterator(data, training=True)
    assert not may_be_captured(net, batches)
    # The decision can be tested without CUDA.
    net.device = "cuda"
    # The data has stayed on the host.
    assert not may_be_captured(net, batches)
    with FakeTensorMode():
        data.X = torch.zeros(6, 64, device="cuda")
    assert may_be_captured(net, batches) == is_captured
    on_disk = WeightedData(np.zeros((6, 64)), data.y)
    for streamed in (TensorBatches(on_disk, 2), torch.utils.data.DataLoader(data, 2)):
        assert not may_be_captured(net, streamed)
    net.compile = True
    assert not may_be_captured(net, batches)


def test_partial_fit_goes_on_where_fit_ended(digits, weights, are_equal):
    X, y = single(digits)
    whole, parts = net_of(max_epochs=4).fit(X, y), net_of(max_epochs=2).fit(X, y)
    assert are_equal(weights(parts.partial_fit(X, y)), weights(whole))
    assert len(parts.history) == 4


def test_parameters_of_the_module_and_the_attack_can_be_set_after_training(digits):
    X, y = single(digits)
    net = AdversarialNet(Seeing, module__n_features=64, module__n_classes=10, verbose=0)
    net.set_params(max_epochs=1).fit(X, y)
    net.set_params(module__n_classes=12, epsilon=0.125, train_split=None).fit(X, y)
    assert net.module_[2].out_features == 12
    shown = net.module_.seen[-2:]
    torch.testing.assert_close((shown[1][0] - shown[0][0]).abs().max(), torch.tensor(0.125))
    net.set_params(epsilon=0.5).partial_fit(X, y)
    last = net.module_.seen[-2:]
    torch.testing.assert_close((last[1][0] - last[0][0]).abs().max(), torch.tensor(0.5))


def test_skorch_callbacks_see_learning_rates_scores_and_gradients(digits):
    X, y = single(digits)
    norms = []

    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            parts = [part.grad.norm() for _, part in named_parameters if part.grad is not None]
            norms.append(float(torch.stack(parts).norm()))

    net = net_of(
        callbacks=[
            ("rate", LRScheduler("StepLR", step_size=1, gamma=0.5, event_name="rate")),
            ("train_acc", EpochScoring("accuracy", on_train=True, name="train_acc")),
            ("valid_f1", EpochScoring("f1_macro", name="valid_f1")),
            ("clip", GradientNormClipping(0.01)),
            ("norms", Norms()),
        ]
    ).fit(X, y)
    assert net.history[:, "rate"] == [0.1, 0.05, 0.025]
    assert all(
        0 <= value <= 1 for name in ("train_acc", "valid_f1") for value in net.history[:, name]
    )
    assert len(norms) == 3 * len(net.get_iterator(WeightedData(None, y[:480]), training=True))
    np.testing.assert_allclose(norms, 0.01, rtol=1e-3)


def test_frozen_layers_stay(digits):
    X, y = single(digits)
    net = net_of(callbacks=[Freezer("0.*")])
    before = net.module[0].weight.clone(), net.module[2].weight.clone()
    net.fit(X, y)
    assert torch.equal(net.module_[0].weight, before[0])
    assert not torch.equal(net.module_[2].weight, before[1])


def test_the_validation_loss_of_the_history_is_the_clean_loss_of_the_held_out_part(digits):
    X, y = single(digits)
    seen = []

    class Parts(Callback):
        def on_epoch_end(self, net, dataset_valid, **kwargs):
            rows = np.asarray(dataset_valid.indices)
            with torch.no_grad():
                logits = net.module_.eval()(torch.as_tensor(X[rows]))
            seen.append(float(cross_entropy(logits, torch.as_tensor(y[rows]))))

    net = net_of(callbacks=[Parts()]).fit(X, y)
    np.testing.assert_allclose(net.history[:, "valid_loss"], seen, rtol=1e-5)


def test_grid_search_over_the_perturbation_of_any_module(digits):
    X, y = single(digits)
    net = net_of(train_split=None, max_epochs=5, optimizer=torch.optim.Adam, lr=0.01)
    search = GridSearchCV(net, {"epsilon": [0.05, 0.2], "alpha": [0.5, 1.0]}, cv=2)
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    again.partial_fit(X, y)


class Plain(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return torch.as_tensor(self.X[row]), int(self.y[row])


def test_a_torch_dataset_gives_the_weights_of_its_arrays(digits, weights):
    X, y = single(digits)
    options = {"train_split": None, "iterator_train__shuffle": False}
    array = net_of(**options).fit(X, y)
    torch.testing.assert_close(weights(net_of(**options).fit(Plain(X, y), None)), weights(array))


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, SigmoidCrossEntropy])
def test_the_gradient_of_a_weighted_batch_is_that_of_the_weighted_mean(criterion):
    torch.manual_seed(0)
    net = AdversarialNet(Seeing, epsilon=EPSILON, alpha=0.3, criterion=criterion).initialize()
    X, y, weight = torch.randn(20, 4), torch.randint(0, 3, (20,)), torch.rand(20)
    net.train_step_single((X, (y, weight)))
    module = net.module_
    found = [part.grad.clone() for part in module.parameters()]
    clean, copies = (shown for shown, _ in module.seen)
    loss = criterion(reduction="none")
    expected = 0.3 * loss(module(clean), y) + 0.7 * loss(module(copies), y)
    expected = torch.autograd.grad((weight * expected).mean(), list(module.parameters()))
    torch.testing.assert_close(found, list(expected))
    # A weight that is not 0 changes the length of a sample's gradient, not its direction.
    steps = torch.autograd.grad(loss(module(X.requires_grad_()), y).sum(), X)[0]
    torch.testing.assert_close(copies, X.detach() + EPSILON * steps.sign())


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_memory_map_is_read_in_the_order_and_precision_of_the_array(
    precision, digits, tmp_path, weights, are_equal
):
    X, y = digits[0].astype(precision), digits[1]
    mapped = np.memmap(tmp_path / "X", dtype=precision, mode="w+", shape=X.shape)
    mapped[:] = X
    array, streamed = (net_of(precision=precision).fit(Z, y) for Z in (X, mapped))
    assert are_equal(weights(array), weights(streamed))
    assert array.history[:, "valid_loss"] == streamed.history[:, "valid_loss"]


@pytest.mark.parametrize("kind", [list, np.int32, np.uint8, torch.as_tensor])
def test_class_indices_may_be_integers_of_any_kind(kind, digits, weights, are_equal):
    X, y = single(digits)
    other = y.astype(kind) if isinstance(kind, type) and kind is not list else kind(y)
    assert are_equal(*(weights(net_of(max_epochs=1).fit(X, labels)) for labels in (y, other)))
