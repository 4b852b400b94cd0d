"""The device of a computation: one rule for every estimator."""

import torch


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
