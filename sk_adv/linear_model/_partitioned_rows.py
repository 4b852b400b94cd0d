"""The samples of a problem of two classes, in partitions."""

from dataclasses import dataclass

from sk_adv.linear_model._binary_rows import BinaryRows


@dataclass
class PartitionedRows:
    """Samples in partitions, with the methods of `BinaryRows`.

    Margins are lists of handles. The caller holds sums over all samples, which have an entry for
    each feature or pair of working features.

    Attributes
    ----------
    runner : LocalRunner or DaskRunner
    parts : list
        Handles of a `BinaryRows` each; the weights of all samples sum to 1.
    labels : list
        Handles of the same without X, so that X need not be read where it is not needed.
    shape : tuple of int
        Numbers of samples and features.
    best_intercept : torch.Tensor of shape ()
        The best intercept for w = 0.
    known : tuple, default=None
        The last margins and penalty, and what `BinaryRows.terms` gave there.
    """

    runner: object
    parts: list
    labels: list
    shape: tuple
    best_intercept: object
    known: tuple | None = None

    can_be_copied = False

    def margin(self, coef, intercept, columns=None):
        """See `BinaryRows.margin`."""
        rows = self.parts if coef.any() else self.labels
        shared = {"coef": coef, "intercept": intercept, "columns": columns}
        return self.runner.map(call, rows, name="margin", **shared)

    def shifted(self, margin, change, size):
        """See `BinaryRows.shifted`."""
        shared = {"name": "shifted", "names": ("margin", "change"), "size": size}
        return self.runner.lazily(call, self.labels, margin, change, **shared)

    def kept(self, margin):
        """See `BinaryRows.kept`."""
        kept = self.runner.kept(margin)
        if self.known is not None and self.known[0] is margin:
            self.known = kept, *self.known[1:]
        return kept

    def line(self, before, last, size):
        """See `BinaryRows.line`."""
        shared = {"name": "line", "names": ("before", "last"), "size": size}
        return self.runner.lazily(call, self.labels, before, last, **shared)

    def value(self, margin, penalty):
        """See `BinaryRows.value`."""
        return self._terms(margin, penalty)[0]

    def is_separating(self, margin, penalty):
        """See `BinaryRows.is_separating`."""
        return self._terms(margin, penalty)[1] == len(self.parts)

    def total_curvature(self, margin, penalty):
        """See `BinaryRows.total_curvature`."""
        return self._terms(margin, penalty)[2]

    def _terms(self, margin, penalty):
        """See `BinaryRows.terms`; a solver asks for them one by one, at the last margins."""
        if self.known is None or self.known[0] is not margin or self.known[1] != penalty:
            terms = self._sum("terms", self.labels, margin, penalty=penalty)
            self.known = margin, penalty, terms
        return self.known[2]

    def constant_intercept(self):
        """See `BinaryRows.constant_intercept`."""
        return self.best_intercept

    def slopes(self, margin, penalty):
        """See `BinaryRows.slopes`."""
        return self._sum("slopes", self.parts, margin, penalty=penalty)

    def hessian(self, columns, margin, penalty, penalty_slope, neglect=0.0):
        """See `BinaryRows.hessian`."""
        shared = {"penalty": penalty, "penalty_slope": penalty_slope, "neglect": neglect}
        return self._sum("hessian", self.parts, margin, columns=columns, **shared)

    def hessian_product(self, columns, margin, penalty, penalty_slope, vector):
        """See `BinaryRows.hessian_product`."""
        shared = {"penalty": penalty, "penalty_slope": penalty_slope, "vector": vector}
        return self._sum("hessian_product", self.parts, margin, columns=columns, **shared)

    def diagonal(self, margin, penalty):
        """See `BinaryRows.diagonal`."""
        return self._sum("diagonal", self.parts, margin, penalty=penalty)

    def sample(self, share):
        """See `BinaryRows.sample`; the sample itself is in one piece."""
        samples = self.runner.map(call, self.parts, name="sample", share=share)
        return BinaryRows.joined(self.runner.gather(samples))

    def _sum(self, name, rows, margin, **shared):
        return self.runner.sum(call, rows, margin, name=name, names=("margin",), **shared)


def call(part, *values, name, names=(), **shared):
    """Call a method of what a handle stands for."""
    return getattr(part, name)(**dict(zip(names, values, strict=True)), **shared)
