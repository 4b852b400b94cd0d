"""The device of a computation, and the conversion of arrays and tensors."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn import get_config


def resolve_device(device, X=None, *, prefer_accelerator=False):
    """Turn the `device` parameter of an estimator into a `torch.device`.

    Parameters
    ----------
    device : str or torch.device
        `"auto"`, or anything that `torch.device` accepts.

    X : object, default=None
        The data. With `device="auto"` the device of a tensor is taken.

    prefer_accelerator : bool, default=False
        With `device="auto"` and data that is not a tensor: True takes CUDA, else MPS, else the CPU
        (networks); False takes the CPU (linear models).

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
    """Return the `torch.device` of this name.

    Raises
    ------
    ValueError
        If it is unknown or not available on this machine. The message lists the available ones.
    """
    try:
        resolved = torch.device(device)
        # The cheapest proof that the device exists is to read a tensor back from it.
        torch.zeros(1, device=resolved).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = list(choices)
        available += ["'cuda'"] if torch.cuda.is_available() else []
        available += ["'mps'"] if torch.backends.mps.is_available() else []
        raise ValueError(
            f"device={device!r} can't be used on this machine; use one of {', '.join(available)}."
        ) from error
    return resolved


def module_device_and_dtype(module, default_dtype=torch.float32):
    """Device and dtype of a module's first floating-point parameter, else of its first such buffer.

    A module without either runs on the device of its input: `(None, default_dtype)`.
    """
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return None, default_dtype


def to_numpy(X):
    """Convert a tensor to a NumPy array on the host; return anything else as it is.

    NumPy has no bfloat16, so such a tensor becomes float32.

    Raises
    ------
    TypeError
        If X is a sparse tensor or a dict.
    """
    # Some sparse matrices of SciPy are mappings.
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        raise TypeError(
            f"An array, a frame or a tensor is needed; got a {type(X).__name__}. If it holds "
            "columns by name, pass pandas.DataFrame(X)."
        )
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse tensors are not supported; got one of layout {X.layout}. Pass a SciPy CSR or "
            "CSC matrix, or X.to_dense()."
        )
    X = X.detach().cpu()
    return np.asarray(X.float() if X.dtype == torch.bfloat16 else X)


def is_dispatched(X):
    """Whether X is a tensor that scikit-learn handles itself (`array_api_dispatch=True`)."""
    return isinstance(X, torch.Tensor) and bool(get_config()["array_api_dispatch"])


def for_sklearn(X):
    """Convert a tensor to an array for scikit-learn, unless array API dispatch is on."""
    return X if is_dispatched(X) else to_numpy(X)


def floating_types(X):
    """The floating-point dtypes that an estimator accepts for X, the widest first."""
    return [torch.float64, torch.float32] if is_dispatched(X) else [np.float64, np.float32]


def in_kind_of(X, tensor):
    """Convert a result to X's device and dtype if X is dispatched, else to an array."""
    if is_dispatched(X):
        return tensor.to(X.device, X.dtype if X.is_floating_point() else torch.float64)
    return to_numpy(tensor)


def labels_in_kind_of(X, labels):
    """Labels, or weights, as a tensor if X is dispatched and they are numbers, else as they are."""
    if is_dispatched(X) and labels.dtype.kind in "biuf":
        return torch.as_tensor(labels, device=X.device)
    return labels


def to_tensor(X, **options):
    """Convert an array to a tensor that shares its memory where torch allows it."""
    # torch warns about read-only arrays, which data frames return, and rejects negative strides and
    # the byte order of other machines.
    if isinstance(X, np.ndarray) and not X.dtype.isnative:
        X = X.astype(X.dtype.newbyteorder("="))
    if isinstance(X, np.ndarray) and (not X.flags.writeable or min(X.strides, default=0) < 0):
        X = X.copy()
    if isinstance(X, np.ndarray) and X.dtype == np.longdouble:
        # torch has no wider floating type than float64.
        X = X.astype(np.float64)
    return torch.as_tensor(X, **options)
