"""The samples of several classes, in partitions."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sk_adv.linear_model._class_hessian import with_ridge
from sk_adv.linear_model._class_problem import Block, ClassProblem
from sk_adv.linear_model._class_rows import ClassRows
from sk_adv.linear_model._partitioned_rows import call

# Entries that are gathered at once.
GATHERED_ENTRIES = 2**21
# Multiples of a chance that is in proportion to importance, where it must not exceed 1.
_MULTIPLES = torch.from_numpy(np.geomspace(1, 64, 25))


@dataclass
class PartitionedClassRows:
    """Samples in partitions, with the methods of `ClassRows`.

    Logits are lists of handles. The caller holds sums over all samples, which have an entry for
    each class and feature, and the samples that are drawn. A step of the solver takes one pass
    over X: where its product with X is computed, so are the derivatives at its end.

    Attributes
    ----------
    runner : LocalRunner or DaskRunner
    parts : list
        Handles of a `ClassRows` each; the weights of all samples sum to 1.
    labels : list
        Handles of the same without X, so that X need not be read where it is not needed.
    shape : tuple of int
        Numbers of samples and features.
    n_entries : int
        Number of entries that X stores.
    class_shares : torch.Tensor of shape (n_classes,)
    alpha : float
    """

    runner: object
    parts: list
    labels: list
    shape: tuple
    n_entries: int
    class_shares: torch.Tensor
    alpha: float

    @property
    def n_classes(self):
        return len(self.class_shares)

    @property
    def largest_share(self):
        """The share of the samples that may be gathered."""
        return min(1.0, GATHERED_ENTRIES / max(self.n_entries, 1))

    def columns(self, features, constant):
        """See `ClassRows.columns`; nothing is copied."""
        return FeatureNames(features, bool(constant))

    def evaluate(self, columns, coef, penalty):
        """See `ClassRows.evaluate`."""
        coef, intercept = columns.split(coef)
        if not coef.any():
            return self.at(self.runner.lazily(_constant, self.labels, values=intercept), penalty)
        none = [None] * len(self.parts)
        logits, sums = self._sweep(none, columns, coef, intercept, penalty)
        return PartitionedClassSamples(self, logits, penalty, sums)

    def at(self, logits, penalty):
        """See `ClassRows.at`."""
        return PartitionedClassSamples(self, logits, penalty)

    def rough_shares(self, wanted):
        """See `ClassRows.rough_shares`; a single one, as each takes a pass over X."""
        return [min(max(wanted), self.largest_share)]

    def sample(self, share):
        """See `ClassRows.sample`; the sample itself is in one piece."""
        samples = self.runner.lazily(call, self.parts, name="sample", share=share)
        return ClassRows.joined(self.runner.gather(samples))

    def n_drawn(self, is_large, enough, n_columns):
        """See `ClassRows.n_drawn`: as many as may be gathered, as they save steps."""
        most = max(enough, GATHERED_ENTRIES // (n_columns + self.n_classes))
        return most if is_large or self.shape[0] > most else None

    def _sweep(self, logits, columns, coef, intercept, penalty):
        shared = {"features": columns.features, "coef": coef, "intercept": intercept}
        return self.runner.map_and_sum(_swept, self.parts, logits, penalty=penalty, **shared)


@dataclass
class FeatureNames:
    """Some features, after a column of ones if it is wanted; the partitions hold their values."""

    features: torch.Tensor
    constant: bool

    is_rough = False

    def roughened(self):
        """See `DenseBlock.roughened`; sums over partitions stay in double precision."""
        return self

    def joined(self, other):
        """These features and others."""
        return FeatureNames(torch.cat([self.features, other.features]), self.constant)

    def split(self, matrix):
        """The weights of the features and the intercepts, of a matrix with both."""
        return matrix[:, int(self.constant) :], matrix[:, : int(self.constant)].sum(1)

    def taken(self, coef, intercept):
        """The inverse of `split`, of weights of all features."""
        first = intercept[:, None][:, : int(self.constant)]
        return torch.cat([first, coef[:, self.features]], dim=1)


class PartitionedClassSamples:
    """Samples in partitions at some logits and penalties; see `ClassSamples`.

    Parameters
    ----------
    rows : PartitionedClassRows
    logits : list
        Handles of tensors of shape (n_classes, n_samples).
    penalty : torch.Tensor of shape (n_classes, n_classes)
    sums : tuple, default=None
        The result of `_sums`, if it is known.
    """

    def __init__(self, rows, logits, penalty, sums=None):
        self.rows, self.penalty = rows, penalty
        self._lazy_logits, self._known = logits, sums
        values = sums
        if sums is None:
            values = rows.runner.sum(_values, rows.labels, logits, penalty=penalty)
        self.loss, n_separating = values[:2]
        self.is_separating = n_separating == len(rows.parts)

    @cached_property
    def logits(self):
        """Handles of the logits, which are kept."""
        kept, self._lazy_logits = self.rows.runner.kept(self._lazy_logits), None
        return kept

    @cached_property
    def _sums(self):
        if self._known is not None:
            return self._known
        rows = self.rows
        return rows.runner.sum(_sums, rows.parts, self.logits, penalty=self.penalty)

    @property
    def mass(self):
        """See `ClassSamples.mass`."""
        return self._sums[2]

    @property
    def total_curvature(self):
        """See `ClassSamples.total_curvature`."""
        return self._sums[3]

    def gradient(self, columns):
        """See `ClassSamples.gradient`."""
        return columns.taken(*self.gradients)

    def full_gradient(self):
        """See `ClassSamples.full_gradient`."""
        return self.gradients[0].clone()

    @property
    def gradients(self):
        """Gradient in the weights of all features, and in the intercepts."""
        return self._sums[5:]

    def line(self, columns, move):
        """See `ClassSamples.line`; the first call computes what is needed at its size."""
        rows, changes = self.rows, []
        coef, intercept = columns.split(move)

        def along(size, penalty):
            if not changes:
                scaled = size * coef, size * intercept
                changes[:], sums = rows._sweep(self.logits, columns, *scaled, penalty)
                first_size.append(size)
                return PartitionedClassSamples(rows, shifted(1.0), penalty, sums)
            return rows.at(shifted(size / first_size[0]), penalty)

        def shifted(share):
            return rows.runner.lazily(_shifted, self.logits, changes, share=share)

        first_size = []
        return along

    def change(self, columns, coef, intercept, changes):
        """See `ClassSamples.change`."""
        rows = self.rows
        shared = {"coef": coef, "intercept": intercept, "changes": changes}
        shared |= {"features": columns.features, "penalty": self.penalty}
        return rows.runner.sum(_change, rows.parts, self.logits, **shared)

    def whole(self):
        """See `ClassSamples.whole`; they stay where they are."""
        return WholeSample(self)

    def drawn(self, n_drawn):
        """See `ClassSamples.drawn`; they are gathered."""
        rows, runner = self.rows, self.rows.runner
        shared, n_parts = {"penalty": self.penalty, "factor": None}, len(rows.parts)
        before = np.zeros(n_parts)
        if n_drawn is not None and n_drawn < rows.shape[0]:
            factors = n_drawn / self._sums[4] * _MULTIPLES
            counts = runner.lazily(
                _expected, rows.labels, self.logits, penalty=self.penalty, factors=factors
            )
            counts = torch.stack(runner.gather(counts))
            enough = (counts.sum(0) >= n_drawn).nonzero()
            chosen = int(enough[0]) if len(enough) else len(_MULTIPLES) - 1
            shared["factor"] = float(factors[chosen])
            before[1:] = counts[:-1, chosen].cumsum(0)
        drawn = runner.map(_drawn, rows.labels, self.logits, list(map(float, before)), **shared)
        found = runner.gather(runner.lazily(_probabilities, drawn))
        return GatheredRows.of(runner, rows.parts, runner.lazily(_positions, drawn), found)


@dataclass
class WholeSample:
    """All samples of all partitions, which compute their Hessians; see `Sample`."""

    samples: PartitionedClassSamples

    is_rough = False

    def hessian(self, block, atoms):
        """See `Sample.hessian`; it takes one pass over X."""
        rows, problem = self.samples.rows, block.problem
        shared = {"epsilon": problem.epsilon, "fit_intercept": problem.fit_intercept}
        shared |= {"features": block.features, "penalty": self.samples.penalty, "atoms": atoms}
        result = rows.runner.sum(_hessian, rows.parts, self.samples.logits, **shared)
        return with_ridge(result, block, atoms, atoms)


@dataclass
class GatheredRows:
    """Drawn samples of all partitions in one piece; see `DrawnRows`.

    Attributes
    ----------
    runner : LocalRunner or DaskRunner
    handles : list
        Handles of a `ClassRows` each.
    positions : list
        Handles of the drawn samples of each part.
    order : torch.Tensor of shape (n_drawn,)
        The samples of all parts, sorted by class.
    ends, weight, parts : list, torch.Tensor and list
        See `DrawnRows`.
    Z : torch.Tensor of shape (n_drawn, n_columns), default=None
        The values of the columns that were asked for.
    """

    runner: object
    handles: list
    positions: list
    order: torch.Tensor
    ends: list
    weight: torch.Tensor
    parts: list
    Z: torch.Tensor | None = None

    @classmethod
    def of(cls, runner, handles, positions, found):
        """Join the labels, weights and probabilities of each part."""
        labels, weight, *probabilities = (
            torch.cat(values, dim=-1) for values in zip(*(part[:-1] for part in found), strict=True)
        )
        n_classes = len(probabilities[0])
        order = labels.argsort(stable=True)
        ends = torch.bincount(labels, minlength=n_classes).cumsum(0).tolist()
        shares = found[0][-1]
        return cls(
            runner=runner,
            handles=handles,
            positions=positions,
            order=order,
            ends=[0, *ends],
            weight=weight[order],
            parts=[
                (share, p[:, order], is_lifted)
                for (share, is_lifted), p in zip(shares, probabilities, strict=True)
            ],
        )

    @property
    def labels(self):
        """The classes of the samples."""
        sizes = torch.tensor(self.ends).diff()
        return torch.arange(len(sizes)).repeat_interleave(sizes)

    def dense(self, block, positions, dtype):
        """See `DrawnRows.dense`; columns are gathered when they are first asked for."""
        n_columns = 0 if self.Z is None else self.Z.shape[1]
        if n_columns < block.n_columns:
            constant = block.problem.fit_intercept and not n_columns
            features = block.features[max(n_columns - int(block.problem.fit_intercept), 0) :]
            new = self.runner.gather(
                self.runner.lazily(
                    _picked, self.handles, self.positions, features=features, constant=constant
                )
            )
            new = torch.cat(new)[self.order]
            self.Z = new if self.Z is None else torch.cat([self.Z, new], dim=1)
        return self.Z[positions].to(dtype)

    def design(self):
        """All features of the samples, as a `StandardisedDesign`."""
        designs = self.runner.gather(self.runner.lazily(_taken, self.handles, self.positions))
        return type(designs[0]).joined(designs).taken(self.order)


def _constant(part, values):
    """Logits that are the same for all samples."""
    return values[:, None].expand(-1, len(part.weight))


def _shifted(logits, change, share):
    return logits + share * change


def _values(part, logits, penalty):
    """The loss, and whether the part is separated."""
    samples = part.at(logits, penalty)
    return samples.loss, int(samples.is_separating)


def _sums(part, logits, penalty):
    """The same, and mass, total curvature, importance and gradients."""
    samples = part.at(logits, penalty)
    return (
        samples.loss,
        int(samples.is_separating),
        samples.mass,
        samples.total_curvature,
        samples.importance.sum(),
        samples.full_gradient(),
        samples.residual.sum(1),
    )


def _swept(part, logits, features, coef, intercept, penalty):
    """The change of the logits along a step, and `_sums` at its end."""
    change = part.product(features, coef, intercept)
    return change, _sums(part, change if logits is None else logits + change, penalty)


def _change(part, logits, penalty, **change):
    return part.at(logits, penalty).change(**change)


def _hessian(part, logits, penalty, features, epsilon, fit_intercept, atoms):
    problem = ClassProblem(part, epsilon, torch.zeros_like(epsilon), fit_intercept)
    return part.at(logits, penalty).whole().hessian(Block.of(problem, features), atoms)


def _expected(part, logits, penalty, factors):
    """Expected numbers of samples of a draw, for several factors of the importance."""
    importance = part.at(logits, penalty).importance
    return torch.stack([(factor * importance).clamp(max=1).sum() for factor in factors])


def _drawn(part, logits, before, penalty, factor):
    """Positions of a draw, and their labels, weights and probabilities."""
    samples = part.at(logits, penalty)
    chance = None if factor is None else (factor * samples.importance).clamp(max=1)
    rows, weight = part.draw(chance, before)
    probabilities = [p[:, rows] for _, p, _ in samples.parts]
    shares = [(share, is_lifted) for share, _, is_lifted in samples.parts]
    return rows, (part.labels[rows], weight, *probabilities, shares)


def _positions(drawn):
    return drawn[0]


def _probabilities(drawn):
    return drawn[1]


def _picked(part, rows, features, constant):
    """Standardised values of some samples and features."""
    columns = part.X.block(part.order[rows], features, constant)
    return columns.dense(torch.arange(len(rows)), torch.float64)


def _taken(part, rows):
    return part.X.taken(part.order[rows])
