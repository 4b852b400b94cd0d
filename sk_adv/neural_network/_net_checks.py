"""Checks of a net and its data before the first epoch."""

import inspect
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch.utils.data import Dataset, IterableDataset

from sk_adv._devices import module_device_and_dtype
from sk_adv.attacks._objective import check_labels, checked_logits
from sk_adv.neural_network._batches import WeightedData, read_rows
from sk_adv.neural_network._copies import evaluating


def check_callbacks(callbacks):
    """Raise `TypeError` unless all entries of `callbacks` are skorch callbacks."""
    if callbacks is None or callbacks == "disable":
        return
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be a list; got {callbacks!r}.")
    for item in callbacks:
        callback = item[1] if isinstance(item, (list, tuple)) and len(item) == 2 else item
        is_class = isinstance(callback, type) and issubclass(callback, Callback)
        if not (is_class or callback is None or isinstance(callback, Callback)):
            raise TypeError(
                "callbacks must hold instances of skorch.callbacks.Callback; "
                f"got {callback!r} of type {type(callback).__name__}."
            )


def check_criterion(criterion):
    """Raise `TypeError` if the loss is a function, which skorch would call without arguments."""
    if inspect.isroutine(criterion):
        raise TypeError(
            "criterion must be a torch.nn.Module, its class or an instance, such as "
            f"torch.nn.CrossEntropyLoss; got the function {criterion!r}."
        )


def check_counts(net):
    """Raise an error unless the batch sizes and the number of epochs of a net are valid."""
    for name in ("batch_size", "iterator_train__batch_size", "iterator_valid__batch_size"):
        # In skorch -1 means all samples in one batch.
        if getattr(net, name, -1) != -1:
            check_scalar(getattr(net, name), name, Integral, min_val=1)
    check_scalar(net.max_epochs, "max_epochs", Integral, min_val=0)


def raise_if_out_of_range(labels, logits, error):
    """Raise `ValueError` from `error` if it was caused by labels without a logit."""
    if not isinstance(labels, torch.Tensor) or logits.ndim != 2:
        return
    n_classes = logits.shape[1]
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        raise ValueError(
            f"y must hold class indices from 0 to {n_classes - 1}, as the module returns "
            f"{n_classes} logits; got {wrong.unique().tolist()}."
        ) from error


def check_samples(net, module, X, y, *, is_complete):
    """Check that a net can be trained on the data, by the labels and one sample.

    Parameters
    ----------
    net : AdversarialNet
        The net, initialised.
    module : torch.nn.Module
        The module of the net, not compiled.
    X, y : as in `AdversarialNet.partial_fit`
    is_complete : bool
        Whether X is the module's only input. Then the sample is passed through it.

    Returns
    -------
    tuple of int or None
        The shape of a sample, or None if X is neither an array nor a `Dataset` of tensors.
    """
    if isinstance(X, WeightedData):
        # The estimator has validated it.
        return tuple(X.X.shape[1:])
    _, dtype = module_device_and_dtype(module)
    if isinstance(X, IterableDataset):
        return None
    sample, label = _first_sample(X, dtype)
    if sample is None:
        if net.alpha < 1:
            raise TypeError(
                "Adversarial training needs a single array or tensor X, or a Dataset of pairs "
                f"(array or tensor, label); got {type(X).__name__}. For a data frame pass "
                "X.to_numpy(dtype='float32'). alpha=1 accepts other data, but makes no copies."
            )
        return None
    if net.alpha < 1 and not sample.is_floating_point():
        sample = sample.to(dtype)
    shape = tuple(sample.shape[1:])
    net.perturbation_.check_fits(shape)
    if y is None and label is not None and not np.ndim(label):
        y, X = np.asarray(label)[None], sample
    n_labels = 0 if y is None else int(check_labels(y, len(X)).max()) + 1
    if is_complete:
        _check_pass(module, to_device(sample, net.device), n_labels, dtype)
    return shape


def _first_sample(X, dtype):
    """A batch of the first sample, or None if it is not a tensor, and its label in a Dataset."""
    if isinstance(X, (np.ndarray, torch.Tensor)):
        if not len(X):
            raise ValueError("X holds no samples; training needs at least one.")
        sample = torch.as_tensor(read_rows(X, [0]) if isinstance(X, np.ndarray) else X[:1])
        # Batches of a memory map are converted as they are read.
        return sample.to(dtype) if isinstance(X, np.memmap) else sample, None
    if isinstance(X, Dataset):
        sample, label = X[0]
        label = label[0] if isinstance(label, (tuple, list)) else label
        if isinstance(sample, (np.ndarray, torch.Tensor)):
            return torch.as_tensor(sample)[None], label
    return None, None


def _check_pass(module, sample, n_labels, dtype):
    """Check the module's logits for one sample."""
    with torch.no_grad(), evaluating(module), explaining_dtypes(sample, dtype):
        # NaN in X is reported later, as a NaN loss.
        checked_logits(module, sample.nan_to_num(), n_classes=n_labels)


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
