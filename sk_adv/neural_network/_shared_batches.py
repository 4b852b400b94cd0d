"""Mini-batches that are divided among processes."""

from sk_adv.neural_network._batches import TensorBatches


class SharedBatches(TensorBatches):
    """The part of each batch that falls to one process; all parts have the same size, or nearly.

    Parameters
    ----------
    data : WeightedData
        All samples, the same in each process.

    batch_size : int
        Number of samples per batch, those of all processes.

    shuffle : bool
        Whether to draw a new order for each epoch. It is that of the first process.

    processes : Processes
    """

    # Whether the last part was empty, so that it holds a sample that must not count.
    is_filler = False

    def __init__(self, data, batch_size, shuffle, processes):
        super().__init__(data, batch_size, shuffle)
        self.processes = processes

    def order(self):
        """The order of the samples in an epoch, the same in each process."""
        order = super().order()
        return self.processes.from_first(order) if self.shuffle else order

    def rows(self):
        """Yield the indices of this process's part of each batch."""
        for rows in super().rows():
            part = rows.tensor_split(self.processes.count)[self.processes.index]
            self.is_filler = not len(part)
            yield rows[:1] if self.is_filler else part
