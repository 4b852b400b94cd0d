"""Where a computation runs: one rule for every estimator."""

import numpy as np
import torch
from sklearn import get_config


def resolve_device(device, X=None, *, prefer_accelerator=False):
    """Turn the `device` parameter of an estimator into a `torch.device`.

    Parameters
    ----------
    device : str or torch.device
        `"auto"`, or anything that `torch.device` takes.

    X : object, default=None
        The data. With `device="auto"` a tensor stays where it is.

    prefer_accelerator : bool, default=False
        With `device="auto"` and data that is no tensor: take CUDA, then MPS, then the CPU
        (networks); else the CPU (linear models).

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the device is unknown or not available on this machine.
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, torch.Tensor):
            return X.device
        if prefer_accelerator and torch.cuda.is_available():
            return torch.device("cuda")
        if prefer_accelerator and torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    return check_device(device, choices=("'auto'", "'cpu'"))


def check_device(device, choices=("'cpu'",)):
    """The `torch.device` of that name, or a `ValueError` that names those of this machine."""
    try:
        resolved = torch.device(device)
        # A tensor that is read back is the cheapest proof that the device is really there.
        torch.zeros(1, device=resolved).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = list(choices)
        available += ["'cuda'"] if torch.cuda.is_available() else []
        available += ["'mps'"] if torch.backends.mps.is_available() else []
        raise ValueError(
            f"device={device!r} can't be used on this machine; "
            f"available here: {', '.join(available)}."
        ) from error
    return resolved


def module_device_and_dtype(module, default_dtype=torch.float32):
    """Device and floating dtype of a module's first parameter or buffer.

    A module that has neither computes wherever its input is: `(None, default_dtype)`.
    """
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return None, default_dtype


def to_numpy(X):
    """Bring a tensor to the host as a NumPy array; anything else is returned as it is.

    Raises
    ------
    TypeError
        If it is a sparse tensor.
    """
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse tensors are not taken; got one of layout {X.layout}. Pass a CSR or CSC matrix "
            "of SciPy, or X.to_dense()."
        )
    return np.asarray(X.detach().cpu())


def is_dispatched(X):
    """Whether X is a tensor that scikit-learn takes as it is (`array_api_dispatch=True`)."""
    return isinstance(X, torch.Tensor) and bool(get_config()["array_api_dispatch"])


def for_sklearn(X):
    """X as scikit-learn takes it: tensors as arrays, unless its array API dispatch is on."""
    return X if is_dispatched(X) else to_numpy(X)


def floating_types(X):
    """The floating types of X's library that an estimator computes with, the widest first."""
    return [torch.float64, torch.float32] if is_dispatched(X) else [np.float64, np.float32]


def in_kind_of(X, tensor):
    """A result as a tensor in X's device and precision if X is dispatched, else as an array."""
    if is_dispatched(X):
        return tensor.to(X.device, X.dtype if X.is_floating_point() else torch.float64)
    return to_numpy(tensor)


def labels_in_kind_of(X, labels):
    """Labels, or weights, as a tensor if X is dispatched and they are numbers, else as they are."""
    if is_dispatched(X) and labels.dtype.kind in "biuf":
        return torch.as_tensor(labels, device=X.device)
    return labels


def to_tensor(X, **options):
    """Make a tensor of an array without copying it, unless torch can't take it as it lies."""
    # torch warns of read-only memory, which frames give out, and refuses to run backwards.
    if isinstance(X, np.ndarray) and (not X.flags.writeable or min(X.strides, default=0) < 0):
        X = X.copy()
    return torch.as_tensor(X, **options)
