"""Where a computation runs: one rule for every estimator."""

import numpy as np
import torch


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
    try:
        resolved = torch.device(device)
        # A tensor that is read back is the cheapest proof that the device is really there.
        torch.zeros(1, device=resolved).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = ["'auto'", "'cpu'"]
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
    """Bring a tensor to the host as a NumPy array; anything else is returned as it is."""
    return np.asarray(X.detach().cpu()) if isinstance(X, torch.Tensor) else X


def to_tensor(X, **options):
    """Make a tensor of an array without copying it, unless it is read-only or has to move."""
    if isinstance(X, np.ndarray) and not X.flags.writeable:
        # torch warns of read-only memory, which frames give out.
        X = X.copy()
    return torch.as_tensor(X, **options)
