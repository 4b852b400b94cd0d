"""The samples of several classes in the Euclidean norm, in partitions."""

from dataclasses import dataclass, field

import torch

from sk_adv.linear_model._multiclass_hessian import MulticlassHessian
from sk_adv.linear_model._multiclass_rows import MulticlassRows

# As many steps correct a Hessian; earlier ones are forgotten.
_CORRECTIONS = 20
# If so many steps leave this share of the violation, Hessians are those of all samples.
_PATIENCE, _SLOW = 10, 0.5
# The gain that a Hessian of some samples promises may be off by so much.
_CAUTION = 1e-2


@dataclass
class PartitionedMulticlassRows:
    """Samples in partitions, with the methods of `MulticlassRows`.

    Steps take their Hessian from samples that are gathered once, so each of them costs one pass
    over X.

    Attributes
    ----------
    rows : PartitionedClassRows
    mean_square : torch.Tensor of shape (n_features,)
        Σ_i s_i x_ij² for each feature j.
    """

    rows: object
    mean_square: torch.Tensor

    @property
    def n_classes(self):
        return self.rows.n_classes

    @property
    def alpha(self):
        return self.rows.alpha

    @property
    def caution(self):
        """See `MulticlassRows.caution`."""
        return _CAUTION if self.is_large else 1.0

    @property
    def is_large(self):
        """See `MulticlassRows.is_large`."""
        return self.rows.largest_share < 1

    def rough(self):
        """See `MulticlassRows.rough`."""
        return self

    def first_sample(self):
        """See `MulticlassRows.first_sample`."""
        sample = self.rows.sample(self.rows.largest_share)
        X = sample.X.taken(sample.order)
        return MulticlassRows(X, sample.labels, self.n_classes, sample.weight, self.alpha)

    def evaluate(self, coef, intercept, penalty):
        """See `MulticlassRows.evaluate`."""
        columns = self._columns
        matrix = columns.taken(coef, intercept)
        return PartitionedMulticlassSamples(self, self.rows.evaluate(columns, matrix, penalty))

    @property
    def _columns(self):
        return self.rows.columns(torch.arange(self.rows.shape[1]), True)

    def sketch(self, point, share, before):
        """Draw samples for Hessians; see `MulticlassRows.sketch`."""
        if before is not None:
            return GatheredSketch(before.X, before.y, before.weight, before.is_exact)
        n_drawn = None
        if self.is_large:
            n_drawn = int(self.rows.largest_share * self.rows.shape[0])
        drawn = point.samples.samples.drawn(n_drawn)
        return GatheredSketch(drawn.design(), drawn.labels, drawn.weight, n_drawn is None)


@dataclass
class PartitionedMulticlassSamples:
    """Samples in partitions at some logits and penalties; see `MulticlassSamples`."""

    rows: PartitionedMulticlassRows
    samples: object

    @property
    def loss(self):
        return self.samples.loss

    @property
    def mass(self):
        """See `MulticlassSamples.mass`."""
        return self.samples.mass

    def gradient(self):
        """See `MulticlassSamples.gradient`."""
        return self.samples.gradients

    def is_separating(self, penalty):
        """See `MulticlassSamples.is_separating`."""
        # Penalties that are rounded are smaller.
        if not self.samples.is_separating:
            return False
        return self.at(penalty).samples.is_separating

    def at(self, penalty):
        """See `MulticlassSamples.at`."""
        samples = self.rows.rows.at(self.samples.logits, penalty)
        return PartitionedMulticlassSamples(self.rows, samples)

    def change(self, coef, intercept, changes):
        """See `ClassSamples.change`."""
        return self.samples.change(self.rows._columns, coef, intercept, changes)

    def line(self, coef, intercept, move, move_intercept):
        """See `MulticlassSamples.line`."""
        columns = self.rows._columns
        along = self.samples.line(columns, columns.taken(move, move_intercept))
        return lambda size, penalty: PartitionedMulticlassSamples(self.rows, along(size, penalty))


@dataclass
class GatheredSketch:
    """Samples for Hessians, which steps correct unless they are all samples.

    Source: the update of Broyden, Fletcher, Goldfarb and Shanno (1970).

    Attributes
    ----------
    X, y, weight : StandardisedDesign and torch.Tensor
        See `RowSketch`; the weights are divided by the chances of being drawn.
    is_exact : bool
        Whether they are all samples.
    corrections : list
        Steps and the changes of the gradient along them.
    violations : list
        The largest violations after each step.
    """

    X: object
    y: torch.Tensor
    weight: torch.Tensor
    is_exact: bool
    corrections: list = field(default_factory=list)
    violations: list = field(default_factory=list)

    rows = slice(None)

    def hessian(self, point):
        """See `RowSketch.hessian`."""
        logits = self.X.logits(point.coef) + point.intercept
        shifted = logits + point.penalties.value[self.y]
        kind = WholeHessian if self._is_slow else MulticlassHessian
        hessian = kind(point, self, shifted.softmax(1), logits.softmax(1))
        if kind is WholeHessian or not self.corrections:
            return hessian
        return CorrectedHessian(hessian, self.corrections)

    @property
    def _is_slow(self):
        """Whether these samples are too few: the steps that they give do not lead far."""
        earlier, last = self.violations[:-_PATIENCE], self.violations[-_PATIENCE:]
        return bool(earlier) and min(last) > _SLOW * min(earlier)

    def add(self, before, after):
        """Take account of a step."""
        if self.is_exact:
            return
        if self._is_slow:
            return
        self.violations.append(after.violation)
        problem = before.problem
        move = problem.with_intercept(after.coef - before.coef, after.intercept - before.intercept)
        correction = move, after.gradient - before.gradient
        self.corrections = [*self.corrections, correction][-_CORRECTIONS:]


class WholeHessian(MulticlassHessian):
    """The Hessian of all samples, with a preconditioner from the gathered ones.

    Each product takes a pass over X.
    """

    def _of_samples(self, coef, intercept, changes):
        return self.point.samples.change(coef, intercept, changes)


class CorrectedHessian:
    """A Hessian that maps some steps to given changes of the gradient."""

    def __init__(self, hessian, corrections):
        self.hessian, self.terms = hessian, []
        self.preconditioner = hessian.preconditioner
        for move, change in corrections:
            along = self.product(move)
            energy, expected = (move * change).sum(), (move * along).sum()
            if energy > 1e-3 * expected > 0:
                self.terms += [(change, 1 / energy), (along, -1 / expected)]

    def product(self, step):
        """The Hessian times a step."""
        result = self.hessian.product(step)
        for vector, share in self.terms:
            result += share * (vector * step).sum() * vector
        return result
