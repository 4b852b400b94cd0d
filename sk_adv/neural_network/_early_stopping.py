"""Early stopping, on a plateau of the training loss or of the score on held-out samples."""

import torch
from skorch.callbacks import Callback
from skorch.utils import to_device

from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._batches import TensorBatches

# Number of samples per batch of the validation.
_BATCH = 2048


class Plateau(Callback):
    """Stop when the training loss has not improved for some epochs.

    Parameters
    ----------
    tol : float
        Smallest decrease of the loss that counts as progress.
    n_iter_no_change : int
        Training stops after more than this number of epochs without progress.
    """

    def __init__(self, tol, n_iter_no_change):
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def on_train_begin(self, net, **kwargs):
        """Reset the state."""
        self.best_loss_, self.n_idle_ = torch.inf, 0

    def on_epoch_end(self, net, **kwargs):
        """Count the epochs without progress, as in `MLPClassifier`."""
        loss = net.history[-1, "train_loss"]
        self.n_idle_ = self.n_idle_ + 1 if loss > self.best_loss_ - self.tol else 0
        self.best_loss_ = min(loss, self.best_loss_)
        self.on_resume(net)

    def on_resume(self, net):
        """Stop at once if the resumed training had stopped."""
        net.stop_ = self.n_idle_ > self.n_iter_no_change

    def state_dict(self):
        """The state, for a checkpoint."""
        return {"best_loss_": self.best_loss_, "n_idle_": self.n_idle_}

    def load_state_dict(self, state):
        """Restore the state from a checkpoint."""
        vars(self).update(state)


class Validation(Callback):
    """Score held-out samples after each epoch, keep the best weights, and stop on a plateau.

    With few samples many epochs have equal errors. Ties are broken by the smaller loss.

    Parameters
    ----------
    data : WeightedData
        The held-out samples, on the net's device.
    monitor : {"adversarial_error", "clean_error", "loss"}
        The figure to minimise.
    tol : float
        Smallest improvement of the score that counts as progress.
    n_iter_no_change : int
        Training stops after more than this number of epochs without progress.
    """

    def __init__(self, data, monitor, tol, n_iter_no_change):
        self.data = data
        self.monitor = monitor
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def on_train_begin(self, net, **kwargs):
        """Reset the state."""
        self.best_score_, self.best_epoch_, self.best_weights_ = -torch.inf, len(net.history), None
        self.best_loss_, self.n_idle_ = torch.inf, 0

    def on_epoch_end(self, net, **kwargs):
        """Score the net. The score is 1 - error, or the negative loss if `monitor="loss"`."""
        figures = self._measure(net)
        for name, figure in figures.items():
            net.history.record(f"valid_{name}", figure)
        figure = figures[self.monitor]
        score = -figure if self.monitor == "loss" else 1 - figure
        net.history.record("validation_score", score)
        if net.interrupt_.requested:
            # An interrupted epoch does not count.
            return
        loss = figures["loss"]
        is_tie = score == self.best_score_
        is_progress = is_tie and loss <= self.best_loss_ - self.tol
        is_idle = score < self.best_score_ + self.tol and not is_progress
        self.n_idle_ = self.n_idle_ + 1 if is_idle else 0
        if score > self.best_score_ or (is_tie and loss < self.best_loss_):
            self.best_score_, self.best_loss_ = score, loss
            self.best_epoch_ = len(net.history)
            self.best_weights_ = {k: v.clone() for k, v in plain_module(net).state_dict().items()}
        self.on_resume(net)

    def restore_best(self, net):
        """Load the weights of the best epoch into the net."""
        if self.best_weights_ is not None:
            plain_module(net).load_state_dict(self.best_weights_)

    def state_dict(self):
        """The state, for a checkpoint."""
        return {
            "best_score_": self.best_score_,
            "best_loss_": self.best_loss_,
            "best_epoch_": self.best_epoch_,
            "best_weights_": self.best_weights_,
            "n_idle_": self.n_idle_,
        }

    def load_state_dict(self, state):
        """Restore the state from a checkpoint."""
        vars(self).update(state)

    def on_resume(self, net):
        """Stop at once if the resumed training had stopped."""
        net.stop_ = self.n_idle_ > self.n_iter_no_change

    def _measure(self, net):
        """Clean error, adversarial error and mixed loss on the held-out samples."""
        net.module_.eval()
        wrong, losses = torch.zeros(2, device=net.device), torch.zeros(2, device=net.device)
        total = 0
        for X, y in TensorBatches(self.data, _BATCH):
            # Data that does not fit on the device is stored on the host.
            X, y = to_device((X, y), net.device)
            labels, weight = y if isinstance(y, tuple) else (y, torch.ones_like(y))
            copies = net._validation_copies(X, y)
            for k, inputs in enumerate((X, copies)):
                with torch.no_grad():
                    logits, loss = net._loss(inputs, y)
                wrong[k] += (weight * (logits.argmax(1) != labels)).sum()
                losses[k] += len(X) * loss
            total += float(weight.sum())
        clean, adversarial = (wrong / total).tolist()
        mixed = net.alpha * losses[0] + (1 - net.alpha) * losses[1]
        return {
            "clean_error": clean,
            "adversarial_error": adversarial,
            "loss": float(mixed) / len(self.data),
        }
