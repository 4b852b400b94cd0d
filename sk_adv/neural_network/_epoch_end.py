"""The last batch of an epoch, at which accumulated gradients take effect."""

from contextlib import contextmanager

from sk_adv.neural_network._batches import TensorBatches


class EpochEnd:
    """Tells an accelerator that adds up the gradients of several batches which one is the last.

    The accelerator's own data loaders do the same.

    Parameters
    ----------
    n_batches : int
    """

    # The names by which the accelerator asks.
    end_of_dataloader, remainder = False, -1

    def __init__(self, n_batches):
        self.n_left = n_batches

    def count(self):
        """Note that a batch begins."""
        self.n_left -= 1
        self.end_of_dataloader = self.n_left == 0

    @classmethod
    @contextmanager
    def noted_by(cls, accelerator, batches):
        """Serve the accelerator for an epoch; None if there is no need."""
        if accelerator.gradient_accumulation_steps == 1 or not isinstance(batches, TensorBatches):
            yield None
            return
        end = cls(len(batches))
        accelerator.gradient_state._add_dataloader(end)
        try:
            yield end
        finally:
            accelerator.gradient_state._remove_dataloader(end)
