"""The samples of a problem of two classes, in partitions."""

from dataclasses import dataclass

from sk_adv.linear_model._binary_rows import BinaryRows


@dataclass
class PartitionedRows:
    """Samples in partitions, with the methods of `BinaryRows`.

    Margins are `Margins`. The caller holds sums over all samples, which have an entry for each
    feature or pair of working features. A step of the solver takes one pass over X, and one more
    for a Hessian: where its product with X is computed, so are the derivatives at its end.

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
        The last margins and penalty, and what `BinaryRows.terms` and `slopes` gave there; no slopes
        if they are not known.
    """

    runner: object
    parts: list
    labels: list
    shape: tuple
    best_intercept: object
    known: tuple | None = None

    can_be_copied = False

    def margin(self, coef, intercept, columns=None):
        """See `BinaryRows.margin`; it is computed where the loss is asked for."""
        shared = {"coef": coef, "intercept": intercept, "columns": columns}
        if coef.any():
            return Margins(product=shared)
        return Margins(self.runner.lazily(call, self.labels, name="margin", **shared))

    def shifted(self, margin, change, size):
        """See `BinaryRows.shifted`."""
        if change.handles is None:
            return Margins(before=margin, change=change, size=size)
        shared = {"name": "shifted", "names": ("margin", "change"), "size": size}
        margins = self._handles(margin), self._handles(change)
        return Margins(self.runner.lazily(call, self.labels, *margins, **shared))

    def kept(self, margin):
        """See `BinaryRows.kept`."""
        kept = Margins(margin.handles, is_lazy=True)
        if self.known is not None and self.known[0] is margin:
            self.known = kept, *self.known[1:]
        return kept

    def line(self, before, last, size):
        """See `BinaryRows.line`."""
        shared = {"name": "line", "names": ("before", "last"), "size": size}
        margins = self._handles(before), self._handles(last)
        return Margins(self.runner.lazily(call, self.labels, *margins, **shared))

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
        if margin.handles is None:
            self._sweep(margin, penalty)
        if not self._is_known(margin, penalty):
            terms = self._sum("terms", self.labels, margin, penalty=penalty)
            self.known = margin, penalty, terms, None
        return self.known[2]

    def _is_known(self, margin, penalty):
        return self.known is not None and self.known[0] is margin and self.known[1] == penalty

    def _sweep(self, margin, penalty):
        """Compute a product with X, and all sums at the margins that it leads to, in one pass."""
        change = margin if margin.change is None else margin.change
        none = [None] * len(self.parts)
        before = none if margin.before is None else self._handles(margin.before)
        shared = {"size": margin.size, "penalty": penalty, "product": change.product}
        change.handles, sums = self.runner.map_and_sum(_swept, self.parts, before, **shared)
        if margin is not change:
            margin.handles = self.shifted(margin.before, change, margin.size).handles
        self.known = margin, penalty, sums[:3], sums[3:]

    def constant_intercept(self):
        """See `BinaryRows.constant_intercept`."""
        return self.best_intercept

    def slopes(self, margin, penalty):
        """See `BinaryRows.slopes`."""
        if self._is_known(margin, penalty) and self.known[3] is not None:
            return self.known[3]
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
        samples = self.runner.lazily(call, self.parts, name="sample", share=share)
        return BinaryRows.joined(self.runner.gather(samples))

    def _handles(self, margin):
        """The handles of margins; those to be kept are kept from their first use on."""
        if margin.is_lazy:
            margin.handles, margin.is_lazy = self.runner.kept(margin.handles), False
        return margin.handles

    def _sum(self, name, rows, margin, **shared):
        return self.runner.sum(
            call, rows, self._handles(margin), name=name, names=("margin",), **shared
        )


@dataclass(eq=False)
class Margins:
    """Margins of all samples, or how to compute them.

    Attributes
    ----------
    handles : list, default=None
        Handles of tensors of shape (n_samples,), once they are known.
    product : dict, default=None
        The arguments of `BinaryRows.margin` that give them,
    before, change, size : Margins, Margins and float
        or a step that gives them.
    is_lazy : bool
        Whether they are to be kept, but are not yet.
    """

    handles: list | None = None
    product: dict | None = None
    before: object = None
    change: object = None
    size: float = 1.0
    is_lazy: bool = False


def _swept(part, before, size, penalty, product):
    """The margins of a product with X, and `terms` and `slopes` where it leads."""
    change = part.margin(**product)
    margin = change if before is None else part.shifted(before, change, size)
    value, is_separating, curvature = part.terms(margin, penalty)
    slopes = part.slopes(margin, penalty)
    return change, (value, int(is_separating), curvature, *slopes)


def call(part, *values, name, names=(), **shared):
    """Call a method of what a handle stands for."""
    return getattr(part, name)(**dict(zip(names, values, strict=True)), **shared)
