"""Running statistics of batch norm, which clean samples alone should set."""

from contextlib import contextmanager

from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def keeping_running_statistics(modules):
    """Let layers normalise by their batch, and leave their running means and variances as they are.

    Adversarial copies have other statistics than clean samples. The mean over both fits neither, so
    that a network whose training loss is small errs on clean samples where it predicts. Source:
    Xie and Yuille, "Intriguing Properties of Adversarial Training at Scale", ICLR 2020.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
    """
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        # The base of torch's batch and instance norms, of any number of axes.
        if isinstance(layer, _NormBase) and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
