"""Running statistics of batch norm, which clean samples alone should set."""

from contextlib import contextmanager

import torch
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def keeping_running_statistics(modules):
    """Set running means and variances back at the end to what they were.

    Adversarial copies have other statistics than clean samples. The mean over both fits neither, so
    that a network whose training loss is small is wrong on clean samples when it predicts. Source:
    Xie and Yuille, "Intriguing Properties of Adversarial Training at Scale", ICLR 2020.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        Their layers of torch's own classes, and of subclasses, keep the statistics.
    """
    buffers = [
        buffer
        for module in modules
        for layer in module.modules()
        # The base of torch's batch and instance norms.
        if isinstance(layer, _NormBase) and layer.training
        for buffer in layer.buffers(recurse=False)
    ]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in zip(buffers, kept, strict=True):
                buffer.copy_(values)
