"""Checkpoints that can be read back, and what happens where they can't be written or read."""

import hashlib
import io
import re
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler

from sk_adv.neural_network import AdversarialNet, Checkpoint

OPTIONS = {
    "Adam": (torch.optim.Adam, {}),
    "momentum": (torch.optim.SGD, {"optimizer__momentum": np.float64(0.9)}),
    "decay": (torch.optim.AdamW, {"optimizer__weight_decay": np.float32(0.01)}),
    "betas": (torch.optim.Adam, {"optimizer__betas": tuple(np.array([0.8, 0.9]))}),
    "scheduler": (torch.optim.SGD, {"callbacks": [LRScheduler()]}),
    "exponential": (
        torch.optim.SGD,
        {"callbacks": [LRScheduler("ExponentialLR", gamma=np.float64(0.9))]},
    ),
}


def train(path, n_epochs, digits, n_outputs=10, cls=AdversarialNet, **params):
    """A net trained for some epochs, from the checkpoint if there is one."""
    X, y = digits
    callbacks = [*params.pop("callbacks", []), Checkpoint(path, resume=True)]
    torch.manual_seed(0)
    net = cls(
        torch.nn.Linear(64, n_outputs),
        max_epochs=n_epochs,
        callbacks=callbacks,
        train_split=None,
        verbose=0,
        **params,
    )
    return net.fit(X.astype(np.float32), y)


@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_of_numpy_in_the_state_do_not_keep_a_training_from_going_on(
    name, digits, tmp_path, are_equal
):
    optimizer, options = OPTIONS[name]
    params = {"optimizer": optimizer, "lr": np.logspace(-3, -1, 3)[1], **options}
    expected = train(tmp_path / "whole", 4, digits, **params)
    train(tmp_path / "parts", 2, digits, **params)
    found = train(tmp_path / "parts", 4, digits, **params)
    assert len(found.history) == 4
    assert are_equal(found.module_.state_dict(), expected.module_.state_dict())


def test_a_classifier_with_a_learning_rate_of_numpy_goes_on(
    digits, tmp_path, small, weights, are_equal
):
    params = {"learning_rate_init": np.logspace(-3, -1, 3)[1], "solver": "sgd"}
    expected = small(**params).fit(*digits)
    callbacks = [Checkpoint(tmp_path / "a", resume=True)]
    small(**params, callbacks=callbacks, max_iter=2).fit(*digits)
    assert are_equal(weights(small(**params, callbacks=callbacks).fit(*digits)), weights(expected))


class Odd(Callback):
    """A callback whose state is what it was made with, from a certain epoch on."""

    def __init__(self, value, first=0):
        self.value = value
        self.first = first

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs = len(net.history)

    def state_dict(self):
        return {"parts": [self.value if getattr(self, "n_epochs", 0) >= self.first else 0]}

    def load_state_dict(self, state):
        pass


def test_a_state_that_could_not_be_read_back_is_refused_before_the_first_epoch(
    digits, tmp_path, small
):
    class Float(float):
        pass

    for value in (np.array(["a"]), Float(3), range(3)):
        model = small(callbacks=[Odd(value), Checkpoint(tmp_path / "a")])
        place = re.escape("['parts'][0]")
        with pytest.raises(
            TypeError, match=f"can't hold callbacks.*{place}, of type .*add_safe_globals"
        ):
            model.fit(*digits)
        assert not hasattr(model, "net_") and not list(tmp_path.iterdir())


def test_a_state_that_becomes_unreadable_is_not_written_and_the_training_is_kept(
    digits, tmp_path, small, weights, are_equal
):
    path = tmp_path / "a"
    model = small(callbacks=[Odd(range(3), first=3), Checkpoint(path, resume=True)])
    with pytest.raises(OSError, match="after epoch 3: A checkpoint can't hold"):
        model.fit(*digits)
    assert are_equal(weights(model), weights(small(max_iter=3).fit(*digits)))
    # The file is that of epoch 2.
    again = small(callbacks=[Odd(0), Checkpoint(path)], max_iter=2).fit(*digits)
    assert again.n_iter_ == 2


@contextmanager
def full_disk(n_bytes):
    """No file of this process grows beyond some bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FillsTheDisk(Callback):
    """From the end of the third epoch on nothing can be written."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))


@pytest.mark.parametrize("options", [{}, {"early_stopping": True, "refit_full": True}])
def test_a_disk_that_fills_up_ends_the_training_and_keeps_what_it_has_reached(
    options, digits, tmp_path, small, weights, are_equal
):
    path = tmp_path / "a"
    model = small(callbacks=[FillsTheDisk(), Checkpoint(path, resume=True)], **options)
    message = f"checkpoint {path} can't be written after epoch 3.*disk mounted at /.* MiB free"
    unlimited = full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    with unlimited, pytest.raises(OSError, match=message):
        model.fit(*digits)
    assert model.n_iter_ == 3
    assert list(tmp_path.iterdir()) == [path]
    params = {**options, "refit_full": False, "max_iter": 3}
    assert are_equal(weights(model), weights(small(**params).fit(*digits)))
    # The old file is whole, and a new call goes on from it.
    assert small(callbacks=[Checkpoint(path, resume=True)], **options).fit(*digits).n_iter_ == 5


def test_a_net_keeps_its_training_where_the_disk_fills_up(digits, tmp_path, are_equal):
    X, y = digits
    net = AdversarialNet(
        torch.nn.Linear(64, 10), max_epochs=5, callbacks=[Checkpoint(tmp_path / "a")], verbose=0
    )
    with full_disk(1000), pytest.raises(OSError, match="after epoch 1"):
        net.fit(X.astype(np.float32), y)
    assert len(net.history) == 1
    assert len(net.partial_fit(X.astype(np.float32), y).history) == 6


@pytest.mark.parametrize("path", ["/proc/self/net.pt", "{}/file/net.pt", "{}/file/folder/net.pt"])
def test_a_folder_that_can_not_be_written_to_is_noticed_before_the_first_epoch(
    path, digits, tmp_path, small
):
    (tmp_path / "file").write_text("no folder")
    path, seen = path.format(tmp_path), []

    class Seeing(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net)

    model = small(callbacks=[Seeing(), Checkpoint(path)])
    with pytest.raises(OSError, match=f"checkpoint {path} can't be written: .*Nothing has been"):
        model.fit(*digits)
    assert not seen and not hasattr(model, "net_")


def read_state(path):
    return torch.load(io.BytesIO(path.read_bytes()[:-64]), weights_only=True)


def write_state(path, state):
    """Write a state as a checkpoint does, with a valid checksum."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    path.write_bytes(content + hashlib.blake2b(content).digest())


def other_shape(state):
    state["modules"]["module"]["weight"] = torch.zeros(3, 3)


CHANGES = {
    "older version": lambda state: state.pop("format"),
    "other version": lambda state: state.update(format=3),
    "no rates": lambda state: state.pop("rates"),
    "wrong rates": lambda state: state.update(rates=[0.1, 0.1]),
    "no random state": lambda state: state.pop("random"),
    "wrong random state": lambda state: state.update(random=torch.zeros(3)),
    "no first epoch": lambda state: state["training"].pop("first epoch"),
    "word": lambda state: state["training"].update({"first epoch": "one"}),
    "no weights": lambda state: state["modules"].clear(),
    "other shape": other_shape,
    "history": lambda state: state.update(history="[1,"),
    "other history": lambda state: state.update(history="3"),
    "optimizer": lambda state: state["optimizers"]["optimizer"].clear(),
    "scheduler": lambda state: state["callbacks"].update(LRScheduler=3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_with_a_valid_checksum_and_other_content_gives_one_error_and_changes_nothing(
    name, digits, tmp_path, are_equal
):
    path = tmp_path / "a"
    params = {"callbacks": [LRScheduler("StepLR", step_size=2)]}
    train(path, 2, digits, **params)
    state = read_state(path)
    CHANGES[name](state)
    write_state(path, state)
    content = path.read_bytes()
    torch.manual_seed(0)
    fresh = AdversarialNet(torch.nn.Linear(64, 10)).initialize().module_
    nets = []

    class Keeping(AdversarialNet):
        def initialize(self):
            nets.append(self)
            return super().initialize()

    with pytest.raises(ValueError, match="is not a checkpoint of this training: delete it") as info:
        train(path, 2, digits, cls=Keeping, **params)
    assert ("reads format 2" in str(info.value)) == ("version" in name)
    assert path.read_bytes() == content
    assert are_equal(nets[0].module_.state_dict(), fresh.state_dict())


@pytest.mark.parametrize("state", [[1, 2], torch.ones(3), {}, {"format": 2}])
def test_another_file_with_a_valid_checksum_is_refused(state, digits, tmp_path):
    write_state(tmp_path / "a", state)
    with pytest.raises(ValueError, match="not a checkpoint of this training.*the file (has|lacks)"):
        train(tmp_path / "a", 2, digits)


class TwoModules(AdversarialNet):
    """A decoder behind the module, with a criterion that has weights and an optimizer each."""

    def initialize_module(self):
        super().initialize_module()
        self.decoder_ = torch.nn.Linear(16, 10)
        return self

    def infer(self, X, **params):
        return self.decoder_(self.module_(X).relu())


def test_a_net_of_two_modules_is_saved_and_resumed_as_a_whole(digits, tmp_path, are_equal):
    def trained(name, n_epochs):
        return train(tmp_path / name, n_epochs, digits, 16, TwoModules, lr=0.1)

    expected = trained("whole", 4)
    trained("parts", 2)
    found = trained("parts", 4)
    assert are_equal(found.module_.state_dict(), expected.module_.state_dict())
    assert are_equal(found.decoder_.state_dict(), expected.decoder_.state_dict())
