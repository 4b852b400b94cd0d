"""Learning-rate schedules, and a progress bar."""

import math

from skorch.callbacks import Callback
from tqdm.auto import tqdm

SCHEDULES = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "exponential": lambda share: 0.01**share,
}


class Schedule(Callback):
    """Set the learning rate of each epoch as a function of the share of completed epochs.

    Parameters
    ----------
    learning_rate : {"constant", "cosine", "exponential"}
    """

    def __init__(self, learning_rate):
        self.learning_rate = learning_rate

    def on_train_begin(self, net, **kwargs):
        """Count the epochs from here."""
        self.n_before_ = len(net.history)

    def on_epoch_begin(self, net, **kwargs):
        """Set the learning rate of all parameter groups."""
        share = (len(net.history) - 1 - self.n_before_) / net.max_epochs
        for group in net.optimizer_.param_groups:
            group["lr"] = net.lr * SCHEDULES[self.learning_rate](share)


class Progress(Callback):
    """A progress bar with one step per epoch, and the figures of the last epoch."""

    bar_ = None

    def on_train_begin(self, net, **kwargs):
        """Draw the bar."""
        self.n_before_ = len(net.history)
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch", desc="training")

    def on_epoch_end(self, net, **kwargs):
        """Advance the bar and show the figures of the epoch."""
        row = net.history[-1]
        names = ("train_loss", "valid_clean_error", "valid_adversarial_error")
        self.bar_.set_postfix({name: f"{row[name]:.4g}" for name in names if name in row})
        self.bar_.update(len(net.history) - self.n_before_ - self.bar_.n)

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        if self.bar_ is not None:
            self.bar_.close()
            self.bar_ = None
