"""Initial weights for training with interval bounds."""

import math

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from sk_adv._randomness import generator_on
from sk_adv.neural_network._layers import Maxout

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def draw_interval_weights(module: nn.Module) -> None:
    """Draw weights for which a layer leaves the width of intervals as it is, on average.

    An interval of reach r at each of n inputs gives one of Σ|w| r at a unit, n σ √(2/π) r on
    average for weights of N(0, σ²). A ReLU halves it, as half of the units are off, and a maxout
    unit keeps it. So σ is √(2π) / n, and √(π/2) / n for maxout. The biases become 0.

    Parameters
    ----------
    module : torch.nn.Module
        Its linear, convolutional and maxout layers get new weights, in place.

    Raises
    ------
    ValueError
        If a layer is lazy.

    References
    ----------
    Shi, Wang, Zhang, Yi and Hsieh, "Fast Certified Robust Training with Short Warmup", NeurIPS
    2021, section 3; the constant for maxout is ours, derived in the same way.
    """
    for layer in module.modules():
        if is_lazy(getattr(layer, "weight", None)):
            raise ValueError(
                "initialization='interval' needs the number of inputs of each layer, which "
                f"{layer} does not know before the first batch: give it."
            )
        if isinstance(layer, Maxout):
            n_inputs, factor = layer.weight.shape[2], math.sqrt(math.pi / 2)
        elif isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
            n_inputs, factor = layer.weight[0].numel(), math.sqrt(2 * math.pi)
        else:
            continue
        drawn = torch.empty_like(layer.weight)
        drawn.normal_(0.0, factor / n_inputs, generator=generator_on(drawn.device))
        if is_parametrized(layer, "weight"):
            # The weight is computed from others, such as those of a weight norm.
            layer.weight = drawn
        else:
            layer.weight.copy_(drawn)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
