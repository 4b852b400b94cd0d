"""Checks of the data that a net is trained on, or asked about: its kind, and its numbers."""

import inspect

import numpy as np
import torch
from scipy import sparse
from skorch.helper import SliceDataset
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sk_adv._arrays import row_blocks, to_tensor
from sk_adv._collections import check_in_memory
from sk_adv._devices import module_device_and_dtype
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._batches import read_rows
from sk_adv.neural_network._copies import evaluating
from sk_adv.neural_network._parts import device_of


def no_single_array(X):
    """The message for data X of which no copies can be made."""
    return (
        "Adversarial training needs a single array or tensor X, or a Dataset of pairs "
        f"(array or tensor, label); got {type(X).__name__}. For a data frame pass "
        "X.to_numpy(dtype='float32'). alpha=1 accepts other data, but makes no copies."
    )


def check_kind(net, X, y=None, *, prefix="iterator_train"):
    """Raise an error if X is an array of no numbers, or of another kind than in training.

    Parameters
    ----------
    net : AdversarialNet
        The net.
    X, y : object
        The data; y is None in a prediction.
    prefix : {"iterator_train", "iterator_valid"}
        The iterator that is to read it.
    """
    check_in_memory(X, y, for_training=y is not None)
    if (
        y is not None
        and np.ndim(y) == 0
        and isinstance(y, (int, float, str, np.generic, np.ndarray))
    ):
        raise ValueError(f"y must hold one label per sample; got {y!r}.")
    if isinstance(X, Dataset | SliceDataset) or collates_itself(net, prefix):
        return
    if isinstance(X, (np.ndarray, torch.Tensor)):
        if not np.ndim(X):
            raise ValueError(f"X must have shape (n_samples, ...); got the single value {X!r}.")
        if getattr(net, f"{prefix}__batch_size", net.batch_size) is None:
            raise ValueError(
                "batch_size=None means that X holds whole batches, as a Dataset can; got a "
                f"{type(X).__name__}: pass a number, or -1 for all samples in one batch."
            )
        if isinstance(X, torch.Tensor) and X.layout != torch.strided:
            raise TypeError(f"X must be dense; got a tensor of layout {X.layout}: call to_dense().")
        if isinstance(X, np.ndarray) and X.dtype.kind not in "fiubc":
            raise TypeError(
                f"X must hold numbers; got an array of dtype {X.dtype}. Encode its columns, and "
                "pass X.astype('float32')."
            )
        return
    has_length = hasattr(X, "__len__") and not isinstance(X, (str, bytes, set, frozenset))
    if has_length and prefix == "iterator_train" and net.alpha < 1:
        raise TypeError(no_single_array(X))
    if prefix == "iterator_train" and (hasattr(X, "columns") or isinstance(X, dict)):
        _check_names(net, X)
    if isinstance(X, sparse.sparray):
        raise TypeError(
            f"skorch reads sparse matrices, but no sparse arrays; got a {type(X).__name__}: pass "
            "scipy.sparse.csr_matrix(X), or X.toarray()."
        )
    # skorch takes lists, dicts and frames for several inputs, which a net of one array lacks.
    is_other = prefix == "iterator_valid" and getattr(net, "sample_shape_", None) is not None
    is_rows = isinstance(X, (list, tuple)) and any(isinstance(part, tuple) for part in X)
    if not has_length or is_other or is_rows:
        raise TypeError(
            "X must be a single array or tensor, or a Dataset; "
            f"got a {type(X).__name__}. For a data frame or a list pass "
            "numpy.asarray(X, dtype='float32'), for a sparse matrix X.toarray()."
        )


def _check_names(net, X):
    """Raise `TypeError` unless the module has arguments of the names of the columns of X."""
    names = list(getattr(X, "columns", X))
    try:
        inspect.signature(plain_module(net).forward).bind(**{str(name): None for name in names})
    except TypeError as error:
        raise TypeError(
            f"skorch hands the columns of a {type(X).__name__} to the module's forward as "
            f"arguments of their names, {names[:5]}, which it does not take ({error}). Pass "
            "X.to_numpy(dtype='float32') for a single array."
        ) from error


def collates_itself(net, prefix="iterator_train"):
    """Whether batches are made of the samples in a way that only the user knows."""
    return getattr(net, prefix) is not DataLoader or hasattr(net, f"{prefix}__collate_fn")


def check_finite_samples(net, module, X):
    """Raise `ValueError` if X holds NaN or infinity, and the module can't compute with it.

    A module may impute values itself, so that the first sample with such a value is shown to it.

    Parameters
    ----------
    net : AdversarialNet
    module : torch.nn.Module
    X : ndarray, numpy.memmap, torch.Tensor or another object
        Nothing is checked unless it is one of the first three.
    """
    row = _first_not_finite(X)
    if row is None:
        return
    _, dtype = module_device_and_dtype(module)
    sample = to_tensor(read_rows(X, [row])) if isinstance(X, np.ndarray) else X[row : row + 1]
    with torch.no_grad(), evaluating(module):
        logits = module(sample.detach().clone().to(device_of(net), dtype))
    logits = logits[0] if isinstance(logits, tuple) else logits
    is_known = bool(logits.isfinite().all()) and (net.alpha == 1 or not sample.isinf().any())
    if not is_known:
        raise ValueError(not_finite("NaN" if sample.isnan().any() else "infinity", f"row {row}"))


def not_finite(what, where):
    """The message for X with NaN or infinity."""
    return (
        f"Input X contains {what}, first in {where}, and the module does not compute with it: drop "
        "such samples, or fill the values in, as sklearn.impute.SimpleImputer does."
    )


def check_batches(batches):
    """Raise `ValueError` if there is NaN or infinity in a batch, as after a loss that is NaN."""
    if isinstance(getattr(batches, "dataset", None), IterableDataset):
        return
    for number, batch in enumerate(batches):
        X = batch[0] if isinstance(batch, (tuple, list)) else batch
        if isinstance(X, torch.Tensor) and X.is_floating_point() and not X.isfinite().all():
            raise ValueError(
                not_finite("NaN" if X.isnan().any() else "infinity", f"batch {number}")
            )


def _first_not_finite(X):
    """The first row of an array or a tensor that holds NaN or infinity, or None."""
    if isinstance(X, np.memmap):
        blocks = ((rows.start, read_rows(X, rows)) for rows in row_blocks(X))
    elif isinstance(X, (np.ndarray, torch.Tensor)):
        blocks = [(0, X)]
    else:
        return None
    for start, block in blocks:
        tensor = to_tensor(block).detach()
        if not tensor.is_floating_point() or tensor.sum().isfinite():
            continue
        wrong = (~tensor.isfinite()).flatten(1).any(1).nonzero()
        if len(wrong):
            return start + int(wrong[0])
    return None
