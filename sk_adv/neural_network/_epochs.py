"""The training loop: epochs without bookkeeping a batch, that can be stopped and resumed."""

import warnings
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring, LRScheduler, PassthroughScoring
from skorch.callbacks.base import Callback
from skorch.dataset import get_len
from torch.utils.data import DataLoader

from sk_adv._devices import check_device
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._batches import TensorBatches, as_weighted_data
from sk_adv.neural_network._checkpoint import Checkpoint
from sk_adv.neural_network._interrupts import DeferredInterrupt
from sk_adv.neural_network._net_checks import (
    check_callbacks,
    check_counts,
    check_criterion,
    check_samples,
)


class QuietNet(NeuralNetClassifier):
    """A skorch classifier that reads its loss back, and tells its callbacks, once an epoch.

    Callbacks that listen to batches or gradients are served all the same. A subclass may bring its
    own checks (`prepare`), floating type of the data (`data_dtype`) and faster ways of taking the
    same steps (`training_steps`).
    """

    # What a checkpoint shall compare besides the net's own parameters and data.
    identity_ = MappingProxyType({})
    # Whether the parameters have been checked and nothing could change since.
    is_fresh_ = False

    def initialize(self):
        """Make the module, the criterion, the optimizer and the callbacks.

        Returns
        -------
        self : AdversarialNet
            The net, with new weights.

        Raises
        ------
        ValueError
            If a parameter of the attack is invalid, or the device is not on this machine.
        TypeError
            If there is something else than a callback among the callbacks, or the criterion is a
            function.
        """
        check_device(self.device)
        check_callbacks(self.callbacks)
        check_criterion(self.criterion)
        super().initialize()
        self.prepare()
        return self

    def prepare(self):
        """Get ready for a training, with the parameters as they are now."""
        check_counts(self)
        self.interrupt_, self.stop_ = DeferredInterrupt(), False
        # A checkpoint holds what the other callbacks have made of an epoch, so it comes last.
        self.callbacks_.sort(key=lambda pair: isinstance(pair[1], Checkpoint))

    def fit(self, X, y=None, **fit_params):
        """Train from new weights, unless `warm_start` is on.

        Parameters
        ----------
        X : as in `partial_fit`
            Training data.

        y : as in `partial_fit`, default=None
            Class indices.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The trained net.
        """
        if not self.warm_start or not self.initialized_:
            self.initialize()
            # All is checked: nothing can change before the training.
            self.is_fresh_ = True
        return self.partial_fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for `max_epochs` epochs more, or for what is left of them after a resumption.

        Parameters
        ----------
        X : ndarray, torch.Tensor, numpy.memmap or torch Dataset of shape (n_samples, ...)
            Training data, of the module's precision.

        y : array-like of shape (n_samples,), default=None
            Class indices, from 0 to n_classes - 1; None if X is a Dataset that gives them.

        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; None takes those of y.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The net, trained further.

        Raises
        ------
        ValueError
            If a parameter of the attack is invalid, does not fit the samples, or a label no
            logit, or a checkpoint is not of this training.
        TypeError
            If X or y is of a type that can't be trained on.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite.
        MemoryError
            If the device is full.
        KeyboardInterrupt
            At the second Ctrl-C; the first ends training with a `ConvergenceWarning`.
        """
        if not self.initialized_:
            self.initialize()
        elif not self.is_fresh_:
            self.prepare()
        self.is_fresh_ = False
        # skorch takes a list for several arrays.
        y = np.asarray(y) if isinstance(y, (list, tuple)) else y
        with self.interrupt_, naming_batch_size(self.batch_size):
            try:
                # skorch's fit passes the name of its method on, which no module sees.
                is_complete = fit_params.keys() <= {"_routing_method"}
                self.sample_shape_ = check_samples(
                    self, plain_module(self), X, y, is_complete=is_complete
                )
                super().partial_fit(X, y, classes=classes, **fit_params)
            finally:
                # The history keeps no epoch that was broken off amid its batches.
                if self.history and "train_batch_count" not in self.history[-1]:
                    self.history.pop()
        if self.interrupt_.insisted:
            # skorch takes it for a wish to end this training, not the search around it.
            raise KeyboardInterrupt
        if self.interrupt_.requested:
            warnings.warn(
                f"Training was interrupted in epoch {len(self.history)}; the network is fitted as "
                "far as it came.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for some epochs; after a resumption, for what is left of them.

        Parameters
        ----------
        X : as in `partial_fit`
            Training data.

        y : as in `partial_fit`
            Class indices.

        epochs : int, default=None
            How many; None means `max_epochs`, less those that a checkpoint has.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The net, trained further.

        Raises
        ------
        ValueError
            If a checkpoint is not of this training, or more than one shall be resumed.
        """
        if epochs is None:
            checkpoints = [part for _, part in self.callbacks_ if isinstance(part, Checkpoint)]
            resumable = [checkpoint for checkpoint in checkpoints if checkpoint.resume]
            if len(resumable) > 1:
                raise ValueError(
                    "Training can go on from one file only; got "
                    f"{[str(checkpoint.path) for checkpoint in resumable]}: leave resume=True on "
                    "one Checkpoint, and turn it off on the others."
                )
            epochs = self.max_epochs - sum(checkpoint.restore(self) for checkpoint in resumable)
        return super().fit_loop(X, y, epochs=epochs, **fit_params)

    def on_epoch_begin(self, net, *args, **kwargs):
        """Begin an epoch, unless training was asked to stop.

        Parameters
        ----------
        net : AdversarialNet
            The net itself, as skorch passes it.

        *args, **kwargs
            As in `skorch.NeuralNet.on_epoch_begin`.
        """
        if self.stop_ or self.interrupt_.requested:
            raise KeyboardInterrupt
        super().on_epoch_begin(net, *args, **kwargs)

    def get_iterator(self, dataset, training=False):
        """Batches of a dataset: of arrays and memory maps by index, else a DataLoader.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            As skorch makes it of X and y.

        training : bool, default=False
            Whether the batches are for training.

        Returns
        -------
        iterable
            Of pairs (X, y), or (X, (y, weight)).
        """
        prefix = "iterator_train" if training else "iterator_valid"
        options = {"batch_size": self.batch_size} | self.get_params_for(prefix)
        is_plain = getattr(self, prefix) is DataLoader and set(options) <= {"batch_size", "shuffle"}
        data = as_weighted_data(dataset, self.device, self.data_dtype) if is_plain else None
        if data is None:
            return super().get_iterator(dataset, training=training)
        if options["batch_size"] == -1:
            options["batch_size"] = len(data)
        return TensorBatches(data, options["batch_size"], options.get("shuffle", False))

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass over the batches; its loss is read back once, at the end.

        Parameters
        ----------
        iterator : iterable or None
            The batches.

        training : bool
            Whether the weights are trained.

        prefix : {"train", "valid"}
            Of the names in the history.

        step_fn : callable
            Called with each batch.

        **fit_params : dict
            Passed to `step_fn`.

        Raises
        ------
        ValueError
            If there is no batch.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite; the weights are then those
            of the epoch before, and the optimizer begins anew.
        """
        if not training or iterator is None:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        before = {name: value.clone() for name, value in self.module_.state_dict().items()}
        is_heard = self._have_listeners()
        if is_heard:
            batches = self.interrupt_.until_requested(iterator)
            super().run_single_epoch(batches, training, prefix, step_fn, **fit_params)
            losses = [batch["train_loss"] for batch in self.history[-1, "batches"]]
            total, n_samples = sum(losses), len(losses)
        else:
            total, n_samples, n_batches = self._run_quietly(iterator, step_fn, fit_params)
        if not n_samples:
            raise ValueError(
                "There is no batch to train on: pass more samples, lower the batch size "
                f"(batch_size={self.batch_size}), or turn iterator_train__drop_last off."
            )
        loss = float(total) / n_samples
        are_finite = all(is_finite(part.detach()) for part in self.module_.parameters())
        if not (np.isfinite(loss) and are_finite):
            self.module_.load_state_dict(before)
            # Moments of the optimizer that are NaN would spoil all further training.
            self.optimizer_.state.clear()
            is_loss = not np.isfinite(loss)
            what = f"The training loss became {loss}" if is_loss else "A weight became not finite"
            epoch = self.history.pop()["epoch"]
            raise FloatingPointError(
                f"{what} in epoch {epoch}. The weights are those of the epoch before, or of the "
                "best one with early_stopping. Lower the learning rate (now "
                f"{self._learning_rate():g}), scale the features to similar ranges, or limit the "
                "weights (max_norm)."
            )
        if not is_heard:
            best = min((row["train_loss"] for row in self.history[:-1]), default=np.inf)
            self.history.record("train_batch_count", n_batches)
            self.history.record("train_loss", loss)
            self.history.record("train_loss_best", bool(loss < best))

    def _run_quietly(self, iterator, step_fn, fit_params):
        """Train on the batches, without a word to anyone; the summed loss stays on the device."""
        keep_freed_memory()
        total = torch.zeros((), device=self.device)
        n_samples = n_batches = 0
        steps = self.training_steps(iterator, step_fn, **fit_params)
        for loss, size in self.interrupt_.until_requested(steps):
            total += loss
            n_samples += size
            n_batches += 1
        return total, n_samples, n_batches

    def training_steps(self, iterator, step_fn, **fit_params):
        """Take a training step on each batch of an epoch.

        Parameters
        ----------
        iterator : iterable
            The batches.

        step_fn : callable
            The step.

        **fit_params : dict
            Passed to `step_fn`.

        Yields
        ------
        loss : torch.Tensor of shape ()
            The loss of the batch, summed over its samples, which the next step may overwrite.
        size : int
            The number of samples.
        """
        for batch in iterator:
            X = batch[0]
            size = len(X) if isinstance(X, torch.Tensor) else get_len(X)
            yield size * step_fn(batch, **fit_params)["loss"].detach(), size

    @property
    def data_dtype(self):
        """The floating type of batches that are read from a memory map."""
        return torch.float32

    def _have_listeners(self):
        """Whether a callback, or a subclass, wants to know of batches or gradients."""
        events = ("on_batch_begin", "on_batch_end", "on_grad_computed")
        for event in events:
            if getattr(type(self), event) is not getattr(NeuralNetClassifier, event):
                return True
        for _, callback in self.callbacks_:
            # These have the methods, but nothing to do in them.
            is_idle = (isinstance(callback, EpochScoring) and not callback.on_train) or (
                type(callback) is LRScheduler and callback.step_every == "epoch"
            )
            if isinstance(callback, PassthroughScoring):
                # Of a score of batches other than the loss, which is recorded in any case.
                if callback.on_train and callback.name != "train_loss":
                    return True
            elif not is_idle and any(
                getattr(type(callback), name) is not getattr(Callback, name) for name in events
            ):
                return True
        return False

    def _learning_rate(self):
        return float(self.optimizer_.param_groups[0]["lr"])


def keep_freed_memory():
    """Keep glibc from handing memory back to the system after each batch, only to ask for it anew.

    Its thresholds rise to the largest block that is freed, up to 32 MiB. Otherwise the page faults
    can cost a tenth of an epoch of small batches. Other allocators don't mind.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def is_finite(tensor):
    """Whether all entries are finite; a finite sum proves it in a tenth of the time."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


@contextmanager
def naming_batch_size(batch_size):
    """Turn torch's error of a full device into a `MemoryError` that says what to try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The device is full: lower batch_size={batch_size}, or train a smaller module. "
            f"({error})"
        ) from error
