"""The training loop: epochs without bookkeeping per batch, with interrupts and resumption."""

import inspect
import warnings
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight
from skorch import NeuralNetClassifier
from skorch.dataset import get_len
from torch.utils.data import DataLoader

from sk_adv._arrays import to_numpy
from sk_adv._devices import check_device
from sk_adv.differentiable._networks import Inference, plain_module, plain_modules
from sk_adv.neural_network._batches import TensorBatches, WeightedSamples, as_weighted_data
from sk_adv.neural_network._checkpoint import Checkpoint
from sk_adv.neural_network._data_checks import check_batches, check_kind
from sk_adv.neural_network._interrupts import DeferredInterrupt
from sk_adv.neural_network._listeners import has_listeners, is_overridden
from sk_adv.neural_network._net_checks import (
    check_callbacks,
    check_counts,
    check_parts,
    check_samples,
    check_trainable,
)
from sk_adv.neural_network._parts import (
    device_of,
    modules_of,
    optimizers_of,
    plain_numbers,
    release_graphs,
    take_weights,
    weights_of,
)


class QuietNet(NeuralNetClassifier):
    """A skorch classifier that reads its loss back, and calls its callbacks, once per epoch.

    If a callback listens to batches or gradients, skorch's own loop runs instead. A subclass can
    override the checks (`prepare`), the dtype of the data (`data_dtype`) and the training steps of
    an epoch (`training_steps`).
    """

    # Further properties that a checkpoint compares.
    identity_ = MappingProxyType({})
    # Whether nothing was trained since the parts were made.
    is_fresh_ = False
    # Whether the history keeps the batches of all epochs, and not of the last one only.
    keeps_batches_ = True
    # Weights of the samples of the training that runs.
    sample_weight_ = None
    # The type that the module wants integers to be; None means as they are.
    integers_as_ = None
    # The number of batches of an epoch, as far as it is known.
    n_batches_ = 1
    # Whether the module computes in place in its input.
    changes_input_ = True

    @torch.inference_mode(False)
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
        if self.device is not None:
            check_device(self.device)
        self.check_training_readiness()
        check_callbacks(self.callbacks)
        check_parts(self)
        super().initialize()
        check_trainable(modules_of(self))
        self.is_fresh_ = False
        self.prepare()
        self.is_fresh_ = True
        return self

    def prepare(self):
        """Check the parameters and reset the state of the training loop."""
        check_counts(self)
        self.interrupt_, self.stop_ = DeferredInterrupt(), False
        # Checkpoints come last, so that they save the other callbacks' state after the epoch.
        self.callbacks_.sort(key=lambda pair: isinstance(pair[1], Checkpoint))

    def refresh(self):
        """Take up parameters that were changed in the midst of a training."""

    def get_params_for(self, prefix):
        """Parameters of a part of the net, with Python's numbers in place of NumPy's.

        Parameters
        ----------
        prefix : str
            The name of the part, such as "module".

        Returns
        -------
        dict
            The parameters, without the prefix.
        """
        return plain_numbers(super().get_params_for(prefix))

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Arguments of an optimizer, with Python's numbers in place of NumPy's.

        Parameters
        ----------
        prefix : str
            The name of the optimizer.

        named_parameters : iterator
            Pairs of names and parameters.

        Returns
        -------
        args : tuple
            The groups of parameters.
        settings : dict
            The learning rate and others.
        """
        args, settings = super().get_params_for_optimizer(prefix, named_parameters)
        return plain_numbers(args), plain_numbers(settings)

    def set_params(self, **params):
        """Set parameters; those of optimizers take effect at once.

        Parameters
        ----------
        **params : dict
            As in `skorch.NeuralNet.set_params`.

        Returns
        -------
        self : AdversarialNet
            The net.
        """
        at_once = {
            name: plain_numbers(value)
            for name, value in params.items()
            if self._is_virtual_param(name)
        }
        return super().set_params(**(params | at_once))

    def fit(self, X, y=None, sample_weight=None, **fit_params):
        """Train from new weights, unless `warm_start` is on.

        Parameters
        ----------
        X : as in `partial_fit`
            Training data.

        y : as in `partial_fit`, default=None
            Class indices.

        sample_weight : as in `partial_fit`, default=None
            Weights of the samples.

        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        self : AdversarialNet
            The trained net.
        """
        if sample_weight is not None:
            fit_params["sample_weight"] = sample_weight
        return super().fit(X, y, **fit_params)

    @torch.inference_mode(False)
    def partial_fit(self, X, y=None, classes=None, sample_weight=None, **fit_params):
        """Train for `max_epochs` more epochs, or for the remaining ones of a resumed training.

        Parameters
        ----------
        X : ndarray, torch.Tensor, numpy.memmap or torch Dataset of shape (n_samples, ...)
            Training data, in the module's dtype.

        y : array-like of shape (n_samples,), default=None
            Class indices, from 0 to n_classes - 1. None if X is a Dataset with labels.

        classes : array-like of shape (n_classes,), default=None
            All labels of all calls. None means the labels in y.

        sample_weight : array-like of shape (n_samples,), default=None
            Factors of the losses of the samples. Samples that `train_split` holds out are scored
            without them. A module whose `forward` has a parameter of this name is given them
            instead.

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
        self.prepare()
        self.is_fresh_ = False
        # skorch treats a list as several arrays.
        y = np.asarray(y) if isinstance(y, (list, tuple)) else y
        check_kind(self, X, y)
        # Gradients on samples would be added to those that the user's tensor has.
        X = X.detach() if isinstance(X, torch.Tensor) else X
        if sample_weight is not None and _has_parameter(plain_module(self).forward):
            fit_params["sample_weight"] = sample_weight
        elif sample_weight is not None:
            self.sample_weight_ = _check_sample_weight(
                to_numpy(sample_weight), np.empty(get_len(X)), ensure_non_negative=True
            )
        with self.interrupt_, explaining_out_of_memory(self.batch_size):
            try:
                super().partial_fit(X, y, classes=classes, **fit_params)
            finally:
                # An epoch that was interrupted between two batches is removed from the history.
                if self.history and "train_batch_count" not in self.history[-1]:
                    self.history.pop()
                self.sample_weight_ = None
                for part in modules_of(self).values():
                    release_graphs(part)
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
        # Callbacks may have made another module, or changed a parameter, as the training began.
        self.refresh()
        is_trained = (self.max_epochs if epochs is None else epochs) > 0
        # "_routing_method" comes from skorch's fit and is not passed to the module. A subclass
        # would see a call of its `infer`.
        is_complete = fit_params.keys() <= {"_routing_method"} and not is_overridden(self, "infer")
        module = self.as_one_module()
        self.sample_shape_ = check_samples(
            self, module, X, y, is_complete=is_trained and is_complete
        )
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

    def notify(self, method_name, **cb_kwargs):
        """Tell all callbacks of an event, with batches as the user passed them, without weights.

        Parameters
        ----------
        method_name : str
            The callbacks' method for the event, such as "on_batch_end".

        **cb_kwargs : dict
            Passed to that method.
        """
        batch = cb_kwargs.get("batch")
        if batch is not None and cb_kwargs["training"] and self.sample_weight_ is not None:
            X, (y, _) = batch
            cb_kwargs["batch"] = X, y
        super().notify(method_name, **cb_kwargs)

    def forward_iter(self, X, *args, **kwargs):
        """Yield the module's output for each batch of samples.

        Parameters
        ----------
        X : as in `partial_fit`
            Samples.

        *args, **kwargs
            As in `skorch.NeuralNet.forward_iter`.

        Yields
        ------
        torch.Tensor or tuple
            The output for a batch.

        Raises
        ------
        TypeError
            If X is of another kind than the training data.
        """
        check_kind(self, X, prefix="iterator_valid")
        for output in super().forward_iter(X, *args, **kwargs):
            # skorch turns outputs into NumPy's arrays, which know no bfloat16.
            is_half = isinstance(output, torch.Tensor) and output.dtype == torch.bfloat16
            yield output.float() if is_half else output

    def as_one_module(self, **fit_params):
        """The computation of the net on a batch as one module, which attacks differentiate.

        Parameters
        ----------
        **fit_params : dict
            Passed to the module's `forward`.

        Returns
        -------
        torch.nn.Module
            The module itself, unless a subclass overrides `infer`.
        """
        if fit_params or is_overridden(self, "infer"):
            return Inference(self, plain_modules(self), fit_params)
        return plain_module(self)

    def get_split_datasets(self, X, y=None, **fit_params):
        """The training part of the data, with the weights of the samples, and the held-out part.

        Parameters
        ----------
        X : as in `partial_fit`
            Training data.

        y : as in `partial_fit`, default=None
            Class indices.

        **fit_params : dict
            Passed to `train_split`.

        Returns
        -------
        dataset_train : torch.utils.data.Dataset
            The training part.
        dataset_valid : torch.utils.data.Dataset or None
            The held-out part.
        """
        train, valid = super().get_split_datasets(X, y, **fit_params)
        if self.sample_weight_ is not None:
            train = WeightedSamples.of(train, self.sample_weight_)
        return train, valid

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
        data, size = None, options["batch_size"]
        if is_plain and size is not None:
            data = as_weighted_data(dataset, device_of(self), self.data_dtype)
        if data is None:
            batches = super().get_iterator(dataset, training=training)
            if isinstance(batches, DataLoader) and not (training or batches.num_workers):
                # Else torch draws a seed for workers from its global state.
                batches.generator = batches.generator or torch.Generator()
            return batches
        size = len(data) if size == -1 else int(size)
        return TensorBatches(data, size, options.get("shuffle", False))

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
        self.n_batches_ = _length_of(iterator)
        before = weights_of(self)
        is_heard = has_listeners(self)
        if is_heard:
            batches = self.interrupt_.until_requested(iterator)
            super().run_single_epoch(batches, training, prefix, step_fn, **fit_params)
            losses = [batch["train_loss"] for batch in self.history[-1, "batches"]]
            sizes = [1] * len(losses)
        else:
            losses, sizes = self._run_without_events(iterator, step_fn, fit_params)
        if not losses:
            raise ValueError(
                "There is no batch to train on: pass more samples, lower the batch size "
                f"(batch_size={self.batch_size}), or turn iterator_train__drop_last off."
            )
        loss = np.average(losses, weights=sizes)
        weights = (weight for part in modules_of(self).values() for weight in part.parameters())
        if not (np.isfinite(loss) and all(is_finite(weight.detach()) for weight in weights)):
            take_weights(self, before)
            # The optimizers' moments may be NaN, which would spoil any further training.
            for optimizer in optimizers_of(self).values():
                optimizer.state.clear()
            check_batches(iterator)
            is_loss = not np.isfinite(loss)
            what = f"The training loss became {loss}" if is_loss else "A weight became not finite"
            epoch = self.history.pop()["epoch"]
            raise FloatingPointError(
                f"{what} in epoch {epoch}. The weights are those of the previous epoch, or of the "
                "best epoch with early_stopping. Lower the learning rate (now "
                f"{self._learning_rate():g}), scale the features to similar ranges, or limit the "
                "weights (max_norm)."
            )
        if not is_heard:
            best = min((row["train_loss"] for row in self.history[:-1]), default=np.inf)
            self.history.record("train_batch_count", len(losses))
            self.history.record("train_loss", float(loss))
            self.history.record("train_loss_best", bool(loss < best))

    def _run_without_events(self, iterator, step_fn, fit_params):
        """Train on the batches without calling callbacks; return their losses and sizes.

        The losses are read back once, at the end. The history has a row for each batch all the
        same.
        """
        keep_freed_memory()
        if not self.keeps_batches_ and len(self.history) > 1:
            self.history[-2]["batches"].clear()
        losses, sizes = [], []
        steps = self.training_steps(iterator, step_fn, **fit_params)
        for loss, size in self.interrupt_.until_requested(steps):
            losses.append(loss)
            sizes.append(size)
        losses = torch.stack(losses).flatten().tolist() if losses else []
        for row, loss, size in zip(self.history[-1]["batches"], losses, sizes, strict=True):
            row.update(train_loss=loss, train_batch_size=size)
        return losses, sizes

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
            The loss of the batch.
        size : int
            The number of samples.
        """
        for batch in self.counted(iterator):
            X = batch[0]
            size = len(X) if isinstance(X, torch.Tensor) else get_len(X)
            yield step_fn(batch, **fit_params)["loss"].detach(), size

    def counted(self, batches):
        """Begin a row of the history with each batch, for all who count the batches there.

        Parameters
        ----------
        batches : iterable
            The batches, or the numbers of their rows.

        Yields
        ------
        object
            The same.
        """
        rows = self.history[-1]["batches"]
        for batch in batches:
            rows.append({})
            yield batch

    @property
    def data_dtype(self):
        """The dtype of batches that are read from a memory map."""
        return torch.float32

    def _learning_rate(self):
        optimizer, *_ = optimizers_of(self).values()
        return float(optimizer.param_groups[0]["lr"])


def _length_of(iterator):
    """The number of batches; 1 if the iterator does not tell."""
    try:
        return max(len(iterator), 1)
    except TypeError:
        return 1


def _has_parameter(function, name="sample_weight"):
    return name in inspect.signature(function).parameters


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
