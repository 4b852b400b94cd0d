"""The training loop: epochs without bookkeeping per batch, with interrupts and resumption."""

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
from sk_adv.differentiable._networks import predicting_module
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
    """A skorch classifier that reads its loss back, and calls its callbacks, once per epoch.

    If a callback listens to batches or gradients, skorch's own loop runs instead. A subclass can
    override the checks (`prepare`), the dtype of the data (`data_dtype`) and the training steps of
    an epoch (`training_steps`).
    """

    # Further properties that a checkpoint compares.
    identity_ = MappingProxyType({})
    # Whether `prepare` has just run, so that it need not run again.
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
            If a parameter of the attack is invalid, or the device is not available.
        TypeError
            If an entry of `callbacks` is not a callback, or the criterion is a function.
        """
        check_device(self.device)
        check_callbacks(self.callbacks)
        check_criterion(self.criterion)
        super().initialize()
        self.prepare()
        return self

    def prepare(self):
        """Check the parameters and reset the state of the training loop."""
        check_counts(self)
        self.interrupt_, self.stop_ = DeferredInterrupt(), False
        # Checkpoints come last, so that they save the other callbacks' state after the epoch.
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
            self.is_fresh_ = True
        return self.partial_fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for `max_epochs` more epochs, or for the remaining ones of a resumed training.

        Parameters
        ----------
        X : ndarray, torch.Tensor, numpy.memmap or torch Dataset of shape (n_samples, ...)
            Training data, in the module's dtype.

        y : array-like of shape (n_samples,), default=None
            Class indices, from 0 to n_classes - 1. None if X is a Dataset with labels.

        classes : array-like of shape (n_classes,), default=None
            All labels of all calls. None means the labels in y.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The net, trained further.

        Raises
        ------
        ValueError
            If a parameter of the attack is invalid or does not fit the samples, a label has no
            logit, or a checkpoint belongs to another training.
        TypeError
            If X or y has an unsupported type.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite.
        MemoryError
            If the device runs out of memory.
        KeyboardInterrupt
            At the second Ctrl-C. The first one ends the training with a `ConvergenceWarning`.
        """
        if not self.initialized_:
            self.initialize()
        elif not self.is_fresh_:
            self.prepare()
        self.is_fresh_ = False
        # skorch treats a list as several arrays.
        y = np.asarray(y) if isinstance(y, (list, tuple)) else y
        with self.interrupt_, explaining_out_of_memory(self.batch_size):
            try:
                # "_routing_method" comes from skorch's fit and is not passed to the module.
                is_complete = fit_params.keys() <= {"_routing_method"}
                self.sample_shape_ = check_samples(
                    self, predicting_module(self), X, y, is_complete=is_complete
                )
                super().partial_fit(X, y, classes=classes, **fit_params)
            finally:
                # An epoch that was interrupted between two batches is removed from the history.
                if self.history and "train_batch_count" not in self.history[-1]:
                    self.history.pop()
        if self.interrupt_.repeated:
            # skorch caught it, but it should also end a search around this training.
            raise KeyboardInterrupt
        if self.interrupt_.requested:
            warnings.warn(
                f"Training was interrupted in epoch {len(self.history)}; the network keeps the "
                "weights that it has reached.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for some epochs, or for the remaining ones of a resumed training.

        Parameters
        ----------
        X : as in `partial_fit`
            Training data.

        y : as in `partial_fit`
            Class indices.

        epochs : int, default=None
            The number of epochs. None means `max_epochs`, minus those of a resumed checkpoint.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The net, trained further.

        Raises
        ------
        ValueError
            If a checkpoint belongs to another training, or more than one has `resume=True`.
        """
        if epochs is None:
            checkpoints = [part for _, part in self.callbacks_ if isinstance(part, Checkpoint)]
            resumable = [checkpoint for checkpoint in checkpoints if checkpoint.resume]
            if len(resumable) > 1:
                raise ValueError(
                    "Training can resume from only one file; got "
                    f"{[str(checkpoint.path) for checkpoint in resumable]}. Set resume=True on one "
                    "Checkpoint only."
                )
            epochs = self.max_epochs - sum(checkpoint.restore(self) for checkpoint in resumable)
        return super().fit_loop(X, y, epochs=epochs, **fit_params)

    def on_epoch_begin(self, net, *args, **kwargs):
        """Begin an epoch, unless the training was stopped or interrupted.

        Parameters
        ----------
        net : AdversarialNet
            The net itself, which skorch passes.

        *args, **kwargs
            As in `skorch.NeuralNet.on_epoch_begin`.
        """
        if self.stop_ or self.interrupt_.requested:
            raise KeyboardInterrupt
        super().on_epoch_begin(net, *args, **kwargs)

    def get_iterator(self, dataset, training=False):
        """Return the batches of a dataset: by index for arrays and memory maps, else a DataLoader.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The dataset that skorch makes from X and y.

        training : bool, default=False
            Whether the batches are for training.

        Returns
        -------
        iterable
            Pairs (X, y), or (X, (y, weight)).
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
        """Run one pass over the batches, and read the loss back once, at the end.

        Parameters
        ----------
        iterator : iterable or None
            The batches.

        training : bool
            Whether the weights are trained.

        prefix : {"train", "valid"}
            Prefix of the names in the history.

        step_fn : callable
            Called with each batch.

        **fit_params : dict
            Passed to `step_fn`.

        Raises
        ------
        ValueError
            If there is no batch.
        FloatingPointError
            If the training loss or a weight becomes NaN or infinite. The weights are then reset to
            those of the previous epoch, and the optimizer loses its state.
        """
        if not training or iterator is None:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        before = {name: value.clone() for name, value in self.module_.state_dict().items()}
        has_listeners = self._have_listeners()
        if has_listeners:
            batches = self.interrupt_.until_requested(iterator)
            super().run_single_epoch(batches, training, prefix, step_fn, **fit_params)
            losses = [batch["train_loss"] for batch in self.history[-1, "batches"]]
            total, n_samples = sum(losses), len(losses)
        else:
            total, n_samples, n_batches = self._run_without_events(iterator, step_fn, fit_params)
        if not n_samples:
            raise ValueError(
                "There is no batch to train on: pass more samples, lower the batch size "
                f"(batch_size={self.batch_size}), or turn iterator_train__drop_last off."
            )
        loss = float(total) / n_samples
        are_finite = all(is_finite(part.detach()) for part in self.module_.parameters())
        if not (np.isfinite(loss) and are_finite):
            self.module_.load_state_dict(before)
            # The optimizer's moments may be NaN, which would spoil any further training.
            self.optimizer_.state.clear()
            is_loss = not np.isfinite(loss)
            what = f"The training loss became {loss}" if is_loss else "A weight became not finite"
            epoch = self.history.pop()["epoch"]
            raise FloatingPointError(
                f"{what} in epoch {epoch}. The weights are those of the previous epoch, or of the "
                "best epoch with early_stopping. Lower the learning rate (now "
                f"{self._learning_rate():g}), scale the features to similar ranges, or limit the "
                "weights (max_norm)."
            )
        if not has_listeners:
            best = min((row["train_loss"] for row in self.history[:-1]), default=np.inf)
            self.history.record("train_batch_count", n_batches)
            self.history.record("train_loss", loss)
            self.history.record("train_loss_best", bool(loss < best))

    def _run_without_events(self, iterator, step_fn, fit_params):
        """Train on the batches without calling callbacks; the summed loss stays on the device."""
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
            The loss of the batch, summed over its samples. The next step may overwrite it.
        size : int
            The number of samples.
        """
        for batch in iterator:
            X = batch[0]
            size = len(X) if isinstance(X, torch.Tensor) else get_len(X)
            yield size * step_fn(batch, **fit_params)["loss"].detach(), size

    @property
    def data_dtype(self):
        """The dtype of batches that are read from a memory map."""
        return torch.float32

    def _have_listeners(self):
        """Whether a callback, or a subclass of the net, listens to batches or gradients."""
        events = ("on_batch_begin", "on_batch_end", "on_grad_computed")
        for event in events:
            if getattr(type(self), event) is not getattr(NeuralNetClassifier, event):
                return True
        for _, callback in self.callbacks_:
            # These callbacks have the methods, but do nothing in them.
            is_idle = (isinstance(callback, EpochScoring) and not callback.on_train) or (
                type(callback) is LRScheduler and callback.step_every == "epoch"
            )
            if isinstance(callback, PassthroughScoring):
                # The loss is recorded in any case; any other score per batch is not.
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
    """Keep glibc from returning memory to the system after each batch and requesting it again.

    Its thresholds rise to the size of the largest freed block, up to 32 MiB. Otherwise page faults
    can take a tenth of the time of an epoch with small batches. Other allocators are not affected.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def is_finite(tensor):
    """Whether all entries are finite; a finite sum proves this in a tenth of the time."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


@contextmanager
def explaining_out_of_memory(batch_size):
    """Turn torch's out-of-memory error into a `MemoryError` that suggests a smaller batch size."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The device is out of memory: lower batch_size={batch_size}, or train a smaller "
            f"module. ({error})"
        ) from error
