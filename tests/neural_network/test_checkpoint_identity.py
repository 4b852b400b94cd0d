"""Settings that identify a training: a checkpoint of another training is refused."""

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler

from sk_adv.neural_network import AdversarialNet, Checkpoint


def shrinking(share):
    # The closure holds a module and the function itself, whose contents must not be compared.
    import functools

    def attack(module, X, y, epsilon, norm, bounds):
        return X - share * epsilon * X if functools and attack else X

    return attack


class Shrinking:
    def __init__(self, share):
        self.share = share

    def __call__(self, module, X, y, epsilon, norm, bounds):
        return X - self.share * epsilon * X


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (shrinking(0.1), shrinking(0.2)),
        (Shrinking(0.1), Shrinking(0.2)),
        (Shrinking(0.1).__call__, Shrinking(0.2).__call__),
        (
            lambda module, X, y, epsilon, norm, bounds: X.sin(),
            lambda module, X, y, epsilon, norm, bounds: X.cos(),
        ),
        (
            lambda module, X, y, epsilon, norm, bounds, share=0.1: share * X,
            lambda module, X, y, epsilon, norm, bounds, share=0.2: share * X,
        ),
    ],
    ids=["closure", "attribute", "method", "code", "default"],
)
def test_a_checkpoint_of_another_attack_of_the_same_name_is_refused(
    one, other, digits, tmp_path, small
):
    params = {"callbacks": [Checkpoint(tmp_path / "a", resume=True)]}
    small(attack=one, max_iter=1, **params).fit(*digits)
    assert small(attack=one, **params).fit(*digits).n_iter_ == 5
    with pytest.raises(ValueError, match="attack: "):
        small(attack=other, **params).fit(*digits)


class Scaled(torch.nn.Linear):
    """A module whose attribute is missing from its `repr`."""

    def __init__(self, scale):
        super().__init__(64, 10)
        self.scale = scale

    def forward(self, X):
        return self.scale * super().forward(X)


def train_net(digits, path, n_epochs, **params):
    torch.manual_seed(0)
    return AdversarialNet(
        params.pop("module", torch.nn.Linear(64, 10)),
        max_epochs=n_epochs,
        callbacks=[*params.pop("callbacks", []), Checkpoint(path, resume=True)],
        train_split=None,
        verbose=0,
        **params,
    ).fit(digits[0].astype(np.float32), digits[1])


def test_modules_are_compared_by_their_attributes_and_losses_by_their_buffers(digits, tmp_path):
    train_net(digits, tmp_path / "a", 1, module=Scaled(1.0))
    with pytest.raises(ValueError, match="module: "):
        train_net(digits, tmp_path / "a", 2, module=Scaled(2.0))
    weight = torch.arange(10.0)
    train_net(digits, tmp_path / "b", 1, criterion=torch.nn.CrossEntropyLoss(weight))
    train_net(digits, tmp_path / "b", 2, criterion=torch.nn.CrossEntropyLoss(weight))
    with pytest.raises(ValueError, match="buffers of the criterion: "):
        train_net(digits, tmp_path / "b", 2, criterion=torch.nn.CrossEntropyLoss(weight + 1))


@pytest.mark.parametrize("name", ["lr", "optimizer__lr"])
def test_training_goes_on_at_another_initial_learning_rate(name, digits, tmp_path):
    train_net(digits, tmp_path / "a", 1, **{name: 0.1})
    net = train_net(digits, tmp_path / "a", 2, **{name: 0.001})
    assert net.optimizer_.param_groups[0]["lr"] == 0.001
    scheduler = LRScheduler("StepLR", step_size=1)
    train_net(digits, tmp_path / "b", 1, callbacks=[scheduler], **{name: 0.1})
    with pytest.raises(ValueError, match="initial learning rate: "):
        train_net(digits, tmp_path / "b", 2, callbacks=[scheduler], **{name: 0.001})


def test_a_schedule_over_all_epochs_can_not_be_stretched(digits, tmp_path, small):
    params = {"learning_rate": "cosine", "callbacks": [Checkpoint(tmp_path / "a", resume=True)]}
    small(**params, max_iter=4).fit(*digits)
    with pytest.raises(ValueError, match="number of epochs of the schedule: 4 in the file, 8 now"):
        small(**params, max_iter=8).fit(*digits)


def test_equal_numbers_of_other_types_are_the_same_parameter(digits, tmp_path, small):
    callbacks = [Checkpoint(tmp_path / "a", resume=True)]
    for alpha in (1, 1.0, np.float64(1), np.int64(1)):
        assert small(alpha=alpha, callbacks=callbacks).fit(*digits).n_iter_ == 5


def test_a_fresh_fit_does_not_write_over_the_file_of_a_warm_start(digits, tmp_path, small):
    path = tmp_path / "a"
    callbacks = [Checkpoint(path, resume=True)]
    small(callbacks=callbacks, warm_start=True).fit(*digits).fit(*digits)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"\(first epoch: 6 in the file, 1 now"):
        small(callbacks=callbacks).fit(*digits)
    assert path.read_bytes() == content


def test_a_compiled_training_goes_on_without_compilation(digits, tmp_path, small, monkeypatch):
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiler(module, backend="eager"))
    params = {"early_stopping": True, "callbacks": [Checkpoint(tmp_path / "a", resume=True)]}
    first = small(**params, compile=True, max_iter=2).fit(*digits)
    resumed = small(**params, max_iter=2).fit(*digits)
    assert resumed.loss_curve_ == first.loss_curve_
    np.testing.assert_array_equal(resumed.predict(digits[0]), first.predict(digits[0]))
