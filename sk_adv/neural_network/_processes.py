"""Sums, means and comparisons over the processes of one training."""

from contextlib import contextmanager

import torch

_SPARSE = (
    "Gradients that are sparse can't be averaged over processes: make the embedding with "
    "sparse=False."
)


@contextmanager
def explaining_losses():
    """Turn the error of a broken connection into one that says where to look."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "Another process of this training can't be reached any more, as a rule because it has "
            f"ended with an error of its own: see its output. ({error})"
        ) from error


class Processes:
    """The processes of a training, seen from one of them. All must call the same methods in turn.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    """

    def __init__(self, accelerator):
        self.accelerator = accelerator
        self.count, self.index = accelerator.num_processes, accelerator.process_index

    @property
    def is_first(self):
        """Whether this is the process that writes files."""
        return self.accelerator.is_main_process

    def sums(self, *numbers):
        """The sum of each number over the processes, as a list."""
        device = self.accelerator.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values = torch.tensor(numbers, dtype=dtype, device=device)
        with explaining_losses():
            return self.accelerator.reduce(values, reduction="sum").tolist()

    def mean(self, tensor):
        """The mean of a tensor over the processes."""
        with explaining_losses():
            return self.accelerator.reduce(tensor, reduction="mean")

    def gathered(self, item):
        """The objects of all processes, as a list in their order."""
        from accelerate.utils import gather_object

        with explaining_losses():
            return gather_object([item])

    def from_first(self, tensor):
        """The tensor that the first process has, in place of this one of the same shape."""
        from accelerate.utils import broadcast

        # NCCL sends no tensor that is in the memory of the host.
        sent = tensor.detach().to(self.accelerator.device, copy=True).contiguous()
        with explaining_losses():
            return broadcast(sent).to(tensor.device)

    @torch.no_grad()
    def share_state(self, module):
        """Give a module the parameters and buffers that it has in the first process."""
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.copy_(self.from_first(tensor))

    @torch.no_grad()
    def average_buffers(self, module):
        """Average the buffers of a module, such as the running statistics of batch norm."""
        for buffer in module.buffers():
            is_number = buffer.is_floating_point() or buffer.is_complex()
            buffer.copy_(self.mean(buffer) if is_number else self.from_first(buffer))

    @torch.no_grad()
    def average_gradients(self, parameters):
        """Replace the gradient of each parameter by its mean over the processes.

        A parameter without a gradient in some of the processes counts as one with gradient 0 there,
        and stays without if it has none in all.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if any(part.grad is not None and part.grad.is_sparse for part in trained):
            raise ValueError(_SPARSE)
        has_gradient = [parameter.grad is not None for parameter in trained]
        n_with = self.sums(*has_gradient)
        for dtype in dict.fromkeys(parameter.dtype for parameter in trained):
            group = [p for p, n in zip(trained, n_with, strict=True) if n and p.dtype == dtype]
            if not group:
                continue
            for parameter in group:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            # One exchange for all is much faster than one for each.
            flat = self.mean(torch.cat([parameter.grad.flatten() for parameter in group]))
            means = flat.split([parameter.numel() for parameter in group])
            for parameter, mean in zip(group, means, strict=True):
                parameter.grad.copy_(mean.view_as(parameter.grad))
