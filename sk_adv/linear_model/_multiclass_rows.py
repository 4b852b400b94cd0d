"""The samples of several classes in the Euclidean norm: the sums over them that a solver asks for.

Logits have a row for each sample here; `_class_rows.py` has a column for each.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sk_adv.linear_model._multiclass_hessian import RowSketch
from sk_adv.linear_model._multiclass_pairs import sum_by_pair

# Entries of X above which the early stages compute in single precision, on a part of the samples.
_MANY_ENTRIES = 2**22


@dataclass
class MulticlassRows:
    """Samples with classes and weights.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,), int64
        Class indices.
    n_classes : int
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, which sum to 1.
    alpha : float
    """

    X: object
    y: torch.Tensor
    n_classes: int
    weight: torch.Tensor
    alpha: float

    # How far the gain that a Hessian promises may be off.
    caution = 1.0

    @property
    def is_large(self):
        """Whether early stages take part of the samples, and nothing is refined."""
        return self.X.shape[0] * self.X.shape[1] > _MANY_ENTRIES

    def rough(self):
        """The samples for early stages: if there are many, in single precision."""
        return replace(self, X=self.X.rough()) if self.is_large else self

    def first_sample(self):
        """A sample to be solved before all else; there is no need of one in memory."""

    def evaluate(self, coef, intercept, penalty):
        """The samples at some weights, and penalties of each two classes."""
        return MulticlassSamples(self, self.X.logits(coef) + intercept, penalty)

    @cached_property
    def mean_square(self):
        """Σ_i s_i x_ij² for each feature j."""
        return self.X.mean_square(self.weight)

    def sketch(self, point, share, before):
        """Draw a share of the samples of large data; the same ones in each call."""
        n_rows, n_features = self.X.shape
        # Fewer samples than features would leave directions without curvature.
        if share == 1 or not self.is_large or share * n_rows < n_features:
            return RowSketch(self.X, self.y, self.weight, slice(None))
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(0))
        rows = order[: int(share * n_rows)].sort().values.to(self.y.device)
        weight = self.weight[rows]
        return RowSketch(self.X.taken(rows), self.y[rows], weight / weight.sum(), rows)


class MulticlassSamples:
    """Samples at some logits and penalties, with the sums of their losses and derivatives.

    Parameters
    ----------
    rows : MulticlassRows
    logits : torch.Tensor of shape (n_samples, n_classes)
    penalty : torch.Tensor of shape (n_classes, n_classes)
        The penalties ρ of each two classes.
    """

    def __init__(self, rows, logits, penalty):
        self.rows, self.logits = rows, logits
        shifted = logits + penalty[rows.y]
        true = self._true_logits()
        loss = (1 - rows.alpha) * (shifted.logsumexp(1) - true)
        if rows.alpha > 0:
            loss = loss + rows.alpha * (logits.logsumexp(1) - true)
        self.loss = rows.weight @ loss
        self.adversarial = shifted.softmax(1)
        self.clean = logits.softmax(1)

    def _true_logits(self):
        return self.logits.gather(1, self.rows.y[:, None]).squeeze(1)

    @cached_property
    def mass(self):
        """Derivatives of the loss in the pairs' penalties."""
        weight = (1 - self.rows.alpha) * self.rows.weight[:, None]
        return sum_by_pair(weight * self.adversarial, self.rows.y)

    def gradient(self):
        """Gradient in W and in b."""
        rows = self.rows
        mixed = (1 - rows.alpha) * self.adversarial + rows.alpha * self.clean
        residual = rows.weight[:, None] * mixed
        residual[torch.arange(len(residual)), rows.y] -= rows.weight
        return rows.X.gradient(residual.T), residual.sum(0)

    def is_separating(self, penalty):
        """Whether all samples are robustly right under these penalties."""
        threat = self.logits
        if self.rows.alpha < 1:
            threat = threat + penalty[self.rows.y]
        threat = threat.scatter(1, self.rows.y[:, None], -torch.inf).amax(1)
        return bool((self._true_logits() > threat).all())

    def at(self, penalty):
        """The samples at other penalties."""
        return MulticlassSamples(self.rows, self.logits, penalty)

    def line(self, coef, intercept, move, move_intercept):
        """The samples along a change: a function of its size and the penalties there."""

        def along(size, penalty):
            return self.rows.evaluate(
                coef + size * move, intercept + size * move_intercept, penalty
            )

        return along
