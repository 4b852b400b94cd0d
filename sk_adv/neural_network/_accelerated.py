"""Adversarial training with skorch's AccelerateMixin, by one process or several."""

import torch
from skorch.dataset import unpack_data
from torch import nn

from sk_adv._randomness import generator_on
from sk_adv.differentiable._networks import plain
from sk_adv.neural_network._accelerator_checks import (
    check_accelerator,
    check_equal,
    check_equal_parts,
)
from sk_adv.neural_network._batches import TensorBatches
from sk_adv.neural_network._divisors import divisors, is_sum
from sk_adv.neural_network._epoch_end import EpochEnd
from sk_adv.neural_network._interrupts import SharedInterrupt
from sk_adv.neural_network._listeners import EVENTS, is_accelerate_mixin
from sk_adv.neural_network._parts import modules_of, optimizers_of
from sk_adv.neural_network._processes import Processes
from sk_adv.neural_network._shared_batches import SharedBatches


class AcceleratedTraining:
    """The part of an `AdversarialNet` with skorch's `AccelerateMixin` that stands before it.

    Each process computes the gradient of its part of a batch, with the plain modules: the attack
    and the bounds of "certified" look into them, and several backward passes make up a step. Their
    mean over the processes is taken once, when it is complete. With n samples of a batch in this
    process, N in all, and P processes, the losses are multiplied by P n / N. So the mean is the
    gradient of the whole batch, whatever the parts' sizes. With weights of classes, n and N are
    sums of weights.
    """

    is_accelerated_ = True
    # The processes, if there are several.
    processes_ = None
    # Whether weights and statistics are those of the first process.
    is_aligned_ = False
    # Whether the next batch begins a new gradient.
    begins_gradient_ = True
    # Whether a training step runs.
    is_in_step_ = False
    # The batches of this epoch, and the number of samples of each, those of all processes.
    batches_, sizes_ = None, ()
    # Tells the accelerator which batch is the last, if gradients add up over several.
    epoch_end_ = None

    def initialize(self):
        check_accelerator(self)
        return super().initialize()

    def _initialize_accelerator(self):
        """Prepare modules and optimizers, without DistributedDataParallel around the modules."""
        if self._wrapped_with_accelerator:
            return self
        for kind, names in (("criterion", self._criteria), ("module", self._modules)):
            with self._current_init_context(kind):
                for name in names:
                    part = getattr(self, f"{name}_")
                    if isinstance(part, nn.Module):
                        # Not for evaluation, but without the wrapper.
                        part = self.accelerator.prepare_model(part, evaluation_mode=True)
                        setattr(self, f"{name}_", part)
        with self._current_init_context("optimizer"):
            for name, optimizer in optimizers_of(self).items():
                if isinstance(optimizer, torch.optim.Optimizer):
                    setattr(self, f"{name}_", self.accelerator.prepare(optimizer))
        self._wrapped_with_accelerator = True
        return self

    def _initialize_callbacks(self):
        if not self.verbose and self.callbacks__print_log__sink == "auto":
            # skorch leaves out no line that goes to another function.
            self.callbacks__print_log__sink = print
        return super()._initialize_callbacks()

    def prepare(self):
        """Prepare what an earlier training has unwrapped, and check the parameters."""
        check_accelerator(self)
        self._initialize_accelerator()
        super().prepare()
        self.processes_, self.is_aligned_, self.begins_gradient_ = None, False, True
        self.accelerator.step = 0
        if self.accelerator.num_processes > 1:
            self.processes_ = Processes(self.accelerator)
            self.interrupt_ = SharedInterrupt()

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        if self.processes_ is not None:
            check_equal(self, X, y)
        return super().fit_loop(X, y, epochs=epochs, **fit_params)

    def get_split_datasets(self, X, y=None, **fit_params):
        train, valid = super().get_split_datasets(X, y, **fit_params)
        if self.processes_ is not None:
            check_equal_parts(self, train)
        return train, valid

    def on_epoch_begin(self, net, *args, **kwargs):
        """Begin an epoch, unless the training was stopped or interrupted in any process."""
        if self.processes_ is not None:
            n_stopped, n_interrupted = self.processes_.sums(self.stop_, self.interrupt_.noted)
            self.stop_ = n_stopped > 0
            self.interrupt_.requested = n_interrupted > 0
            if not self.is_aligned_:
                for part in modules_of(self).values():
                    self.processes_.share_state(part)
                self.is_aligned_ = True
        super().on_epoch_begin(net, *args, **kwargs)

    def notify(self, method_name, **cb_kwargs):
        """Tell all callbacks of an event; one that ends the training here ends it in all."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            is_alone = self.processes_ is None or self.interrupt_.repeated
            if is_alone or method_name not in ("on_epoch_end", *EVENTS):
                raise
            # The others learn of it with the next batch or epoch.
            self.stop_ = True

    def get_iterator(self, dataset, training=False):
        batches = super().get_iterator(dataset, training=training)
        if not training or self.processes_ is None or type(batches) is not TensorBatches:
            return batches
        size = batches.batch_size
        if not self.accelerator.split_batches:
            size = min(size * self.processes_.count, len(batches.data))
        return SharedBatches(batches.data, size, batches.shuffle, self.processes_)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if not training:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        self.batches_, self.sizes_ = iterator, []
        with EpochEnd.noted_by(self.accelerator, iterator) as self.epoch_end_:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        self.batches_ = None
        if self.processes_ is None or iterator is None:
            return
        for row, size in zip(self.history[-1, "batches"], self.sizes_, strict=True):
            row["train_batch_size"] = size
        for name in self._modules:
            self.processes_.average_buffers(plain(getattr(self, f"{name}_")))

    def training_steps(self, iterator, step_fn, **fit_params):
        """Take a training step on each batch; its size is that of the parts of all processes."""
        for loss, size in super().training_steps(iterator, step_fn, **fit_params):
            yield loss, size if self.processes_ is None else self.sizes_[-1]

    def train_step(self, batch, **fit_params):
        """Take a step on the parts of a batch that the processes hold."""
        if self.epoch_end_ is not None:
            self.epoch_end_.count()
        if self.processes_ is None:
            return super().train_step(batch, **fit_params)
        n_processes = self.processes_.count
        of_criterion, n_samples = divisors(self, *unpack_data(batch))
        has_any = not getattr(self.batches_, "is_filler", False)
        parts = has_any * of_criterion, has_any * n_samples
        is_last = self.interrupt_.noted or self.stop_
        *total, n_ending = self.processes_.sums(*parts, is_last)
        self.share_, self.sample_share_ = (
            n_processes * part / whole if whole else 1.0
            for part, whole in zip(parts, total, strict=True)
        )
        if is_sum(self, batch):
            self.share_ = n_processes * has_any
        self.sizes_.append(round(total[1]))
        self.is_in_step_ = True
        try:
            step = super().train_step(batch, **fit_params)
        finally:
            self.share_, self.sample_share_, self.is_in_step_ = 1, 1, False
        step["loss"] = self.processes_.mean(step["loss"].detach())
        self.interrupt_.ends_epoch = n_ending > 0
        return step

    def _backward(self, loss):
        self.accelerator.backward(loss)

    def _craft(self, X, y, attack=None, perturbations=None, random_state=None, **fit_params):
        used = self.attack_ if attack is None else attack
        if self.processes_ is not None and random_state is None and used.attack.is_random:
            # Measures on held-out samples must be the same in all processes.
            random_state = len(self.history)
            if self.is_in_step_:
                # Their parts of a batch must not get equal random starts by equal generators.
                seed = torch.randint(2**31 - 2**16, (), generator=generator_on("cpu"), device="cpu")
                random_state = int(seed) + self.processes_.index
        return super()._craft(X, y, attack, perturbations, random_state, **fit_params)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Average the gradient over the processes, before callbacks see it."""
        if self.processes_ is not None and self.accelerator.sync_gradients:
            parts = modules_of(self).values()
            parameters = (weight for part in parts for weight in part.parameters())
            self.processes_.average_gradients(dict.fromkeys(parameters))
        super().on_grad_computed(net, named_parameters, **kwargs)

    def _zero_grad_optimizer(self, set_to_none=None):
        """Begin a new gradient, unless the batch adds to that of the batches before."""
        if self.begins_gradient_:
            # The accelerator's own wrapper does so only where a gradient is complete.
            for optimizer in optimizers_of(self).values():
                getattr(optimizer, "optimizer", optimizer).zero_grad()

    def _step_optimizer(self, step_fn):
        super()._step_optimizer(step_fn)
        self.begins_gradient_ = self.accelerator.sync_gradients


class WholePredictions:
    """The part of the same net that stands before the mixin: evaluations are not divided.

    Each process predicts all samples that it is given. So one process can predict alone, and what
    callbacks measure on held-out samples is the same in each.
    """

    def get_iterator(self, dataset, training=False):
        return _after_mixin(self, training).get_iterator(dataset, training=training)

    def evaluation_step(self, batch, training=False):
        return _after_mixin(self, False).evaluation_step(batch, training=training)


def _after_mixin(net, is_mixed):
    """The methods of the classes from the mixin on, or of those after it."""
    mixin = next(filter(is_accelerate_mixin, type(net).__mro__))
    return super(WholePredictions if is_mixed else mixin, net)
