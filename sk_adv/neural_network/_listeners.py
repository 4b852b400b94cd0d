"""Who would notice that an epoch is trained without a word: callbacks and overridden methods."""

from skorch import NeuralNetClassifier
from skorch.callbacks import BatchScoring, EpochScoring, LRScheduler
from skorch.callbacks.base import Callback
from skorch.history import History

# Events per batch that callbacks can listen to.
EVENTS = ("on_batch_begin", "on_batch_end", "on_grad_computed")

# Methods of a net that run within an epoch, and could look at what has happened in it so far.
HOOKS = (
    *EVENTS,
    "notify",
    "infer",
    "get_loss",
    "train_step",
    "train_step_single",
    "get_train_step_accumulator",
    "_set_training",
    "_step_optimizer",
    "_zero_grad_optimizer",
)

# Callbacks that have the method, but nothing to do in it while the weights are trained.
_IDLE = {
    EpochScoring.on_batch_end: lambda callback: not callback.on_train,
    BatchScoring.on_batch_end: lambda callback: not callback.on_train,
    LRScheduler.on_batch_end: lambda callback: callback.step_every == "epoch",
}


def has_listeners(net):
    """Whether anyone looks at the batches of an epoch while it is trained."""
    return (
        # A history of another kind may pass each batch on.
        type(net.history) is not History
        or any(is_overridden(net, name) for name in HOOKS)
        or any(_listens(callback, name) for _, callback in net.callbacks_ for name in EVENTS)
    )


def is_overridden(net, name):
    """Whether a method is neither this library's nor skorch's."""
    if name in vars(net):
        return True
    owner = next(kind for kind in type(net).__mro__ if name in vars(kind))
    is_skorch = owner in NeuralNetClassifier.__mro__ or is_accelerate_mixin(owner)
    return not (is_skorch or owner.__module__.startswith("sk_adv."))


def is_accelerate_mixin(kind):
    """Whether a class is skorch's `AccelerateMixin`, whose module need not be imported."""
    return kind.__name__ == "AccelerateMixin" and kind.__module__.startswith("skorch.")


def _listens(callback, name):
    # A method that was set on the callback itself, or a mock, has no function of a class.
    function = getattr(getattr(callback, name), "__func__", None)
    if function is getattr(Callback, name):
        return False
    return not (function in _IDLE and _IDLE[function](callback))
