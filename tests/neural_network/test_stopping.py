"""Training that is interrupted, or diverges."""

import signal
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sk_adv.neural_network import AdversarialNet, Checkpoint


class At(Callback):
    """Call something after a batch."""

    def __init__(self, epoch, action, batch=1):
        self.epoch, self.action, self.batch = epoch, action, batch

    def on_epoch_begin(self, net, **kwargs):
        self.n_batches = 0

    def on_batch_end(self, net, training, **kwargs):
        self.n_batches += training
        if (len(net.history), self.n_batches) == (self.epoch, self.batch):
            self.action()


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def press_ctrl_c_twice():
    press_ctrl_c()
    press_ctrl_c()


@pytest.mark.parametrize("kind", ["plain", "early"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_ends_after_the_batch_and_leaves_a_fitted_estimator(
    kind, epoch, digits, small, early
):
    X, y = digits
    params = early if kind == "early" else {}
    at = At(epoch, press_ctrl_c, batch=2)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(ConvergenceWarning, match=f"interrupted in epoch {epoch}"):
        model = small(**params, callbacks=[at]).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is handler
    assert at.n_batches == 2
    assert model.n_iter_ == len(model.loss_curve_) == epoch
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize("kind", ["plain", "early"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_second_ctrl_c_ends_at_once_and_leaves_a_fitted_estimator(
    kind, epoch, digits, small, early
):
    X, y = digits
    params = early if kind == "early" else {}
    model = small(**params, callbacks=[At(epoch, press_ctrl_c_twice)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == epoch - 1
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(("action", "n_trainings"), [(press_ctrl_c, 5), (press_ctrl_c_twice, 1)])
def test_ctrl_c_ends_a_training_and_a_second_one_the_search_around_it(
    action, n_trainings, digits, small
):
    pressed = []

    def press():
        pressed.append(action)
        action()

    model = small(callbacks=[At(1, press)])
    search = GridSearchCV(model, {"alpha": [0.5, 1.0]}, cv=2)
    ends = pytest.warns(ConvergenceWarning) if n_trainings > 1 else pytest.raises(KeyboardInterrupt)
    with ends:
        search.fit(*digits)
    assert len(pressed) == n_trainings


def test_a_net_that_is_interrupted_warns_and_is_usable(digits):
    X, y = digits[0].astype(np.float32), digits[1]
    params = {"train_split": None, "verbose": 0}
    net = AdversarialNet(torch.nn.Linear(64, 10), callbacks=[At(2, press_ctrl_c)], **params)
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch 2"):
        net.fit(X, y)
    assert net.predict(X).shape == y.shape
    net.set_params(callbacks=[At(2, press_ctrl_c_twice)])
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    assert len(net.history) == 1 and net.predict(X).shape == y.shape


def test_ctrl_c_does_not_spoil_the_checkpoint(digits, tmp_path, small, weights, are_equal):
    X, y = digits
    expected = small(hidden_dropout=0.5).fit(X, y)
    model = small(hidden_dropout=0.5, callbacks=[Checkpoint(tmp_path / "a", resume=True)])
    with pytest.warns(ConvergenceWarning):
        stopped = small(
            hidden_dropout=0.5, callbacks=[At(3, press_ctrl_c), Checkpoint(tmp_path / "a")]
        ).fit(X, y)
    assert stopped.n_iter_ == 3
    resumed = model.fit(X, y)
    np.testing.assert_allclose(resumed.loss_curve_, expected.loss_curve_, rtol=1e-6)
    assert are_equal(weights(resumed), weights(expected))


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "sgd"}])
def test_a_loss_that_is_not_finite_raises_and_keeps_finite_weights(params, digits, small, weights):
    X, y = digits
    for model, data in (
        (small(learning_rate_init=1e38, **params), X),
        (small(**params), X * 1e38),
        (small(callbacks=[At(9, press_ctrl_c)], learning_rate_init=1e38, **params), X),
    ):
        with pytest.raises(FloatingPointError, match=r"epoch 1\b.*Lower the learning rate"):
            model.fit(data, y)
        assert all(torch.isfinite(part).all() for part in weights(model).values())
        assert model.predict(X).shape == y.shape
        assert model.loss_curve_ == []


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_weights_that_the_last_step_makes_infinite_are_noticed(n_epochs, digits, small, weights):
    # With one batch per epoch the loss is finite, as it is computed before the step.
    single = {"batch_size": 1000, "precision": "float32"}
    model = small(**single, learning_rate_init=1e38, max_iter=n_epochs)
    with pytest.raises(FloatingPointError, match="weight became not finite in epoch 1"):
        model.fit(*digits)
    assert all(torch.isfinite(part).all() for part in weights(model).values())


def test_weights_of_the_epoch_before_a_failure_are_kept_and_can_be_trained_further(
    digits, small, weights, are_equal
):
    X, y = digits

    class Explode(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                net.optimizer_.param_groups[0]["lr"] = 1e38

    expected = small(max_iter=2).fit(X, y)
    model = small(callbacks=[Explode()])
    with pytest.raises(FloatingPointError, match=r"in epoch 3\b"):
        model.fit(X, y)
    assert are_equal(weights(model), weights(expected))
    assert model.loss_curve_ == expected.loss_curve_
    model.set_params(callbacks=None).partial_fit(X, y)
    assert np.isfinite(model.loss_curve_).all() and model.n_iter_ == 3


def test_a_full_device_names_the_batch_size():
    class Full(torch.nn.Linear):
        def forward(self, X):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    net = AdversarialNet(Full(3, 2), batch_size=77, verbose=0)
    with pytest.raises(MemoryError, match="lower batch_size=77"):
        net.fit(np.eye(20, 3, dtype=np.float32), np.arange(20) % 2)


def test_training_without_trouble_warns_of_nothing(digits, small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(max_iter=2).fit(*digits)


def test_of_equal_errors_the_smaller_loss_is_best_and_lets_training_go_on(digits, small):
    params = {"epsilon": 0.5, "early_stopping": True, "n_iter_no_change": 2, "max_iter": 9}
    model = small(**params).fit(*digits)
    history = model.net_.history
    errors, losses = (history[:, f"valid_{name}"] for name in ("adversarial_error", "mixed_loss"))
    assert errors[:5] == [1.0] * 5 and model.n_iter_ == 9
    best = min(range(9), key=lambda epoch: (errors[epoch], losses[epoch]))
    assert model.best_iteration_ == best + 1


def test_a_failure_closes_the_bar_and_says_whose_weights_are_kept(digits, small, capsys):
    with pytest.raises(
        FloatingPointError, match="previous epoch, or of the best epoch with early_stop"
    ):
        small(learning_rate_init=1e38, verbose=1).fit(*digits)
    assert capsys.readouterr().err.endswith("\n")
