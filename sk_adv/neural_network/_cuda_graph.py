"""A training step that is captured and replayed as one CUDA graph."""

import torch

from sk_adv._randomness import generator_on
from sk_adv.neural_network._batches import TensorBatches
from sk_adv.neural_network._parts import device_of

# Steps that run eagerly before the capture, so that all memory is allocated.
_N_EAGER = 3


def may_be_captured(net, batches):
    """Whether a net's training step on CUDA runs the same operations for every batch."""
    return (
        device_of(net).type == "cuda"
        and isinstance(batches, TensorBatches)
        and isinstance(batches.data.X, torch.Tensor)
        # Data that does not fit on the device stays in the host's memory.
        and batches.data.X.device.type == "cuda"
        # The radius of a warm-up changes from batch to batch.
        and (net.warmup_ == 0 or net.alpha == 1)
        # Other attacks read values back from the device, or draw random numbers on the host.
        and (net._reuses_clean_gradient or net.alpha == 1)
        and not net.compile
        and all(
            "capturable" in group or "momentum" in group for group in net.optimizer_.param_groups
        )
    )


class CudaGraphStep:
    """Training steps that read the row numbers from, and write the loss to, fixed tensors.

    On CUDA the first steps run eagerly. Then one step is captured in a CUDA graph and replayed for
    each batch, which costs a single launch. On other devices all steps run eagerly. A last batch
    of fewer samples runs eagerly too.

    The graph holds numbers such as the learning rate with their values at the capture. So an object
    serves for one epoch, in which they must not change.

    Parameters
    ----------
    net : AdversarialNet
    data : WeightedData
        The training data, as tensors on the net's device.
    batch_size : int
    """

    def __init__(self, net, data, batch_size):
        self.net, self.data = net, data
        self.device = data.X.device
        self.rows = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        self.loss = torch.zeros((), device=self.device)
        self.graph, self.n_steps = None, 0
        for group in net.optimizer_.param_groups:
            if "capturable" in group:
                group["capturable"] = self.device.type == "cuda"

    def steps(self, batches_of_rows):
        """Take a step per batch of row numbers, and yield its loss and its size."""
        for rows in batches_of_rows:
            yield self(rows).clone(), len(rows)

    def __call__(self, rows):
        """Train on some rows; return their loss, a tensor that the next call overwrites."""
        if len(rows) < len(self.rows):
            return self.net.train_step(self.data[rows])["loss"].detach()
        self.rows.copy_(rows)
        if self.device.type != "cuda":
            self._step()
            return self.loss
        if self.graph is None and self.n_steps < _N_EAGER:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._step()
            torch.cuda.current_stream().wait_stream(side)
            self.n_steps += 1
            return self.loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            generator = generator_on(self.device)
            if generator is not None:
                # A graph knows the global generator by itself, and no other.
                self.graph.register_generator_state(generator)
            with torch.cuda.graph(self.graph):
                self._step()
        self.graph.replay()
        return self.loss

    def _step(self):
        step = self.net.train_step(self.data[self.rows])
        self.loss.copy_(step["loss"].detach())
