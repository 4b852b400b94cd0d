"""Optimizer steps on blocks of a weight's rows, so that each block stays in the cache."""

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

# Number of weights per block. With their moments they fit into the caches.
_NUMBERS_PER_BLOCK = 2**20


def is_blockwise(optimizer):
    """Whether `BlockwiseOptimizer` supports this optimizer and its options."""
    plain = {"amsgrad": False, "maximize": False, "differentiable": False}
    return type(optimizer) in (torch.optim.SGD, torch.optim.Adam) and all(
        group.get(name, value) == value
        for group in optimizer.param_groups
        for name, value in plain.items()
    )


class BlockwiseOptimizer:
    """The step of `torch.optim.SGD` or `Adam`, taken on one block of rows at a time.

    Weights and optimizer state after a step are the same as after the optimizer's own `step`.

    Parameters
    ----------
    optimizer : torch.optim.SGD or torch.optim.Adam
    """

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.groups = {
            parameter: group for group in optimizer.param_groups for parameter in group["params"]
        }
        self.scratch = {}

    def step(self, parameter, gradient, finish=None):
        """Update a parameter.

        Parameters
        ----------
        parameter : torch.nn.Parameter
            Contiguous.
        gradient : torch.Tensor of shape (n_rows, n_columns)
            Its gradient, reshaped to rows, in any floating-point dtype.
        finish : callable or None, default=None
            Called as `finish(rows, block)` after each block, with the slice of its rows and the
            updated weights.
        """
        group, state = self.groups[parameter], self._state_of(parameter)
        weight = parameter.detach().view(gradient.shape)
        # Scalar state, such as the number of steps, is passed to the blocks separately.
        moments = [value.view(gradient.shape) for value in state.values() if value.ndim]
        update = _sgd_block if "momentum" in group else _adam_block
        n_rows = max(1, _NUMBERS_PER_BLOCK // gradient.shape[1])
        if gradient.dtype != weight.dtype and gradient.shape not in self.scratch:
            self.scratch[gradient.shape] = weight.new_empty(
                min(n_rows, len(weight)), *weight[0].shape
            )
        for start in range(0, len(weight), n_rows):
            rows = slice(start, start + n_rows)
            block, slope = weight[rows], gradient[rows]
            if slope.dtype != block.dtype:
                slope = self.scratch[gradient.shape][: len(block)].copy_(slope)
            update(block, slope, [moment[rows] for moment in moments], state, group)
            if finish is not None:
                finish(rows, block)
        if "step" in state:
            state["step"] += 1

    def _state_of(self, parameter):
        """The optimizer's state of a parameter, initialised before the first step."""
        state, group = self.optimizer.state[parameter], self.groups[parameter]
        if state:
            return state
        if "momentum" not in group:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        elif group["momentum"]:
            # torch initialises the buffer with the first gradient, which equals a start from 0.
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state


def _sgd_block(block, slope, moments, state, group):
    sgd(
        [block],
        [slope],
        list(moments) or [None],
        foreach=False,
        fused=True,
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=False,
    )


def _adam_block(block, slope, moments, state, group):
    first, second = moments
    beta1, beta2 = group["betas"]
    adam(
        [block],
        [slope],
        [first],
        [second],
        [],
        [state["step"].clone()],
        foreach=False,
        fused=True,
        decoupled_weight_decay=group.get("decoupled_weight_decay", False),
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
