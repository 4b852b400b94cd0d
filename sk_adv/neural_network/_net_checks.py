"""Checks of a net and its data before the first epoch."""

import inspect
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_scalar
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from skorch.helper import SliceDataset
from skorch.utils import to_device
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from sk_adv._arrays import to_tensor
from sk_adv._devices import module_device_and_dtype
from sk_adv._validation import check_class_indices
from sk_adv.attacks._objective import check_labels, checked_logits
from sk_adv.neural_network._batches import WeightedData, read_rows
from sk_adv.neural_network._copies import evaluating
from sk_adv.neural_network._data_checks import (
    check_finite_samples,
    collates_itself,
    no_single_array,
)
from sk_adv.neural_network._listeners import is_overridden
from sk_adv.neural_network._losses import LogOddsCrossEntropy
from sk_adv.neural_network._parts import device_of

# The methods that skorch calls on a callback; any object with them is one.
_METHODS = [name for name in vars(Callback) if name.startswith("on_")]
_METHODS += ["initialize", "set_params"]


def check_callbacks(callbacks):
    """Raise `TypeError` unless all entries of `callbacks` are skorch callbacks."""
    if callbacks is None or callbacks == "disable":
        return
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be a list; got {callbacks!r}.")
    for item in callbacks:
        callback = item[1] if isinstance(item, (list, tuple)) and len(item) == 2 else item
        # A class, an instance, or another object with the same methods.
        if callback is not None and not all(hasattr(callback, name) for name in _METHODS):
            raise TypeError(
                "callbacks must hold instances of skorch.callbacks.Callback; "
                f"got {callback!r} of type {type(callback).__name__}."
            )


# The parts that must be a class or an instance, with an example of each.
_EXAMPLES = {
    "module": "torch.nn.Linear(4, 3)",
    "criterion": "torch.nn.CrossEntropyLoss",
    "optimizer": "torch.optim.Adam",
}


def check_parts(net):
    """Raise `TypeError` unless module, criterion and optimizer can be made."""
    for name, example in _EXAMPLES.items():
        part = getattr(net, name, None)
        if not (callable(part) or is_overridden(net, f"initialize_{name}")):
            raise TypeError(
                f"{name} must be a class or an instance, such as {example}; got {part!r}."
            )
    if inspect.isclass(getattr(net, "module", None)) and not is_overridden(
        net, "initialize_module"
    ):
        params = net.get_params_for("module")
        try:
            inspect.signature(net.module).bind(**params)
        except TypeError as error:
            raise TypeError(
                f"module={net.module.__name__} can't be made of the arguments {sorted(params)}: "
                f"{error}. Pass them as module__<name>, or pass an instance."
            ) from error
    if not isinstance(net.lr, torch.Tensor):
        # The optimizers compute with it in the precision of the weights.
        largest = torch.finfo(torch.float32).max
        check_scalar(net.lr, "lr", Real, min_val=0, max_val=largest)
    check_criterion(net)


def check_criterion(net):
    """Raise `TypeError` if the criterion is a loss function, not a function that returns one."""
    if not inspect.isroutine(net.criterion):
        return
    try:
        inspect.signature(net.criterion).bind(**net.get_params_for("criterion"))
    except (TypeError, ValueError) as error:
        raise TypeError(
            "criterion must be a torch.nn.Module, its class or an instance, such as "
            f"torch.nn.CrossEntropyLoss; got the function {net.criterion!r}. A function is called "
            "without arguments, and returns the loss: pass `lambda: loss`."
        ) from error


def check_counts(net):
    """Raise an error unless the batch sizes and the number of epochs of a net are valid."""
    for name in ("batch_size", "iterator_train__batch_size", "iterator_valid__batch_size"):
        # In skorch -1 means all samples in one batch; in torch None means that the dataset holds
        # whole batches.
        if getattr(net, name, -1) not in (-1, None):
            check_scalar(getattr(net, name), name, Integral, min_val=1)
    check_scalar(net.max_epochs, "max_epochs", Integral, min_val=0)


def raise_if_out_of_range(labels, logits, error):
    """Raise `ValueError` from `error` if it was caused by labels without a logit."""
    if not isinstance(labels, torch.Tensor) or logits.ndim != 2:
        return
    try:
        check_class_indices(labels, logits.shape[1])
    except ValueError as out_of_range:
        raise out_of_range from error


def check_samples(net, module, X, y, *, is_complete):
    """Check that a net can be trained on the data, by the labels and one sample.

    Notes in the net's `integers_as_` what the module wants integers to be, and in
    `changes_input_` whether the module computes in place in its input.

    Parameters
    ----------
    net : AdversarialNet
        The net, initialised.
    module : torch.nn.Module
        The computation of the net, not compiled.
    X, y : as in `AdversarialNet.partial_fit`
    is_complete : bool
        Whether X is the module's only input. Then the sample is passed through it.

    Returns
    -------
    tuple of int or None
        The shape of a sample, or None if X is neither an array nor a `Dataset` of tensors.
    """
    net.integers_as_, net.changes_input_ = None, True
    if isinstance(X, WeightedData):
        # The estimator has validated it, and its own module changes nothing.
        net.changes_input_ = False
        return tuple(X.X.shape[1:])
    _, dtype = module_device_and_dtype(module)
    if isinstance(X, IterableDataset) or collates_itself(net):
        return None
    sample, label = _first_sample(net, X)
    if sample is None:
        if net.alpha < 1:
            raise TypeError(no_single_array(X))
        return None
    if net.alpha < 1 and sample.is_complex():
        raise TypeError(
            f"X must hold real numbers, since copies are made of them; got {sample.dtype}. Pass "
            "real and imaginary parts as features, or alpha=1."
        )
    if net.alpha < 1 and not sample.is_floating_point():
        sample = sample.to(net.data_dtype)
    shape = tuple(sample.shape[1:])
    if net.alpha == 1 and is_overridden(net, "get_loss"):
        # Any labels and outputs may do.
        return shape
    net.perturbation_.check_fits(shape)
    n_samples = len(X)
    is_coded = y is None and label is not None and np.ndim(label) > 0
    if is_coded and (net.alpha < 1 or isinstance(net.criterion_, LogOddsCrossEntropy)):
        raise ValueError(
            "y must hold one class index per sample; the Dataset gives labels of shape "
            f"{tuple(np.shape(label))}. Return one-hot labels as label.argmax()."
        )
    if y is None and label is not None and not np.ndim(label):
        y, n_samples = np.asarray(label)[None], 1
    n_labels = 0 if y is None else int(check_labels(y, n_samples).max()) + 1
    if is_complete:
        sample = to_device(sample, device_of(net))
        logits, net.integers_as_ = _logits_of_any_integers(net, module, sample, n_labels, dtype)
        net.changes_input_ = _changes_input(module, sample, net.integers_as_)
        check_finite_samples(net, module, X)
        if isinstance(getattr(net, "criterion_", None), nn.CrossEntropyLoss):
            _warn_of_probabilities(net, logits)
    return shape


def _first_sample(net, X):
    """A batch of the first sample, or None if it is not a tensor, and its label in a Dataset."""
    if isinstance(X, (np.ndarray, torch.Tensor)):
        if not len(X):
            raise ValueError("X holds no samples; training needs at least one.")
        sample = to_tensor(read_rows(X, [0])) if isinstance(X, np.ndarray) else X[:1]
        # Batches of a memory map are converted as they are read.
        is_converted = isinstance(X, np.memmap) and sample.is_floating_point()
        return sample.to(net.data_dtype) if is_converted else sample, None
    if isinstance(X, SliceDataset):
        sample, label = X[0], None
    elif isinstance(X, Dataset):
        if not len(X):
            raise ValueError("X holds no samples; training needs at least one.")
        item = X[0]
        # Something else than a pair is a single value, even if it could be unpacked.
        sample, label = unpack_data(item if isinstance(item, (tuple, list)) else (item,))
        label = label[0] if isinstance(label, (tuple, list)) else label
    else:
        return None, None
    if not isinstance(sample, (np.ndarray, torch.Tensor)):
        return None, None
    sample = torch.as_tensor(sample)
    if getattr(net, "iterator_train__batch_size", net.batch_size) is None:
        # The dataset gives whole batches.
        return sample[:1], None
    return sample[None], label


def _logits_of_any_integers(net, module, sample, n_labels, dtype):
    """Logits of a sample, and the type that its integers must have for the module to take them."""
    types = [None]
    if not sample.is_floating_point() and not sample.is_complex():
        # As they are, as numbers, or as the only indices that every layer takes.
        types += [net.data_dtype, torch.int64]
    errors = []
    for wanted in types:
        try:
            logits = _check_pass(module, sample.to(wanted or sample.dtype), n_labels, dtype)
        except (RuntimeError, ValueError, TypeError) as error:
            errors.append(error)
        else:
            return logits, wanted
    raise errors[0]


@torch.inference_mode(False)
def _changes_input(module, sample, wanted):
    """Whether a module changes its input, as one does that begins with `ReLU(inplace=True)`."""
    sample = sample.detach().clone().nan_to_num().to(wanted or sample.dtype)
    # torch counts the changes of a tensor.
    before = sample._version
    with torch.no_grad(), evaluating(module):
        module(sample)
    return sample._version > before


def _check_pass(module, sample, n_labels, dtype):
    """The module's logits for one sample, checked."""
    with torch.no_grad(), evaluating(module), explaining_dtypes(sample, dtype):
        # NaN in X is reported later, as a NaN loss.
        return checked_logits(module, sample.nan_to_num(), n_classes=n_labels)


def _warn_of_probabilities(net, logits):
    """Warn if logits are the probabilities of a softmax, to which the loss applies another."""
    if bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all()):
        warnings.warn(
            "The module's outputs look like probabilities: they are positive and sum to 1. "
            f"criterion={type(net.criterion_).__name__} takes logits and applies a softmax itself, "
            "so the module is trained on a double softmax: leave the softmax out of the module.",
            UserWarning,
            stacklevel=2,
        )


def raise_if_no_loss(net, labels, logits, error):
    """Raise `ValueError` from a torch error if the criterion can't take class indices."""
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(labels, torch.Tensor):
        return
    if isinstance(getattr(net, "criterion_", None), nn.CrossEntropyLoss):
        return
    raise ValueError(
        f"criterion={type(net.criterion_).__name__} can't compare logits of shape "
        f"{tuple(logits.shape)} with labels of shape {tuple(labels.shape)}: use a loss of logits "
        f"and class indices, such as torch.nn.CrossEntropyLoss. ({error})"
    ) from error


def check_trainable(modules):
    """Raise `ValueError` if modules hold weights that were made under `torch.inference_mode`."""
    for name, module in modules.items():
        if any(weight.is_inference() for weight in module.parameters()):
            raise ValueError(
                f"{name} was made under torch.inference_mode, so that its weights can't be "
                "trained: make it outside, or pass its class and module__... arguments."
            )


@contextmanager
def explaining_shapes(X):
    """Turn a module's error about its input into one that names the shape of the batch."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not isinstance(X, torch.Tensor):
            raise
        raise ValueError(
            f"module can't take X in batches of shape {tuple(X.shape)}: {error}"
        ) from error


@contextmanager
def explaining_dtypes(X, dtype):
    """Turn a module's error about samples of another dtype into one that names both dtypes."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not (isinstance(X, torch.Tensor) and X.is_floating_point() and X.dtype != dtype):
            raise
        raise TypeError(
            f"X has dtype {X.dtype}, but the module has {dtype}: convert X, or choose the matching "
            f"precision. ({error})"
        ) from error
