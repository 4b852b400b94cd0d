"""The samples of a problem of two classes: the sums over them that a solver asks for."""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._array_functions import sort
from sk_adv.linear_model._designs import StandardisedDesign
from sk_adv.linear_model._newton import append

# Leaving out a smaller share of the samples does not pay for the copy of the others.
_FEWEST_DROPPED = 0.1


@dataclass
class BinaryRows:
    """Samples with labels and a loss.

    Everything that solvers ask for is a sum over samples, and so a sum over any parts of them. What
    has an entry for each sample, the margins, goes from one method to another.

    Attributes
    ----------
    X : StandardisedDesign, FeatureCopies or RoughCopies of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,)
        Labels -1 and +1.
    loss : WorstCaseLogisticLoss
    """

    X: object
    y: torch.Tensor
    loss: object

    can_be_copied = True

    @classmethod
    def joined(cls, parts):
        """The samples of several parts in one piece."""
        y = torch.cat([part.y for part in parts])
        weight = torch.cat([part.loss.weight for part in parts])
        X = StandardisedDesign.joined([part.X for part in parts])
        return cls(X, y, replace(parts[0].loss, weight=weight))

    @property
    def shape(self):
        """Numbers of samples and features."""
        return self.X.shape

    def margin(self, coef, intercept, columns=None):
        """y ∘ (Xw + b); with `columns`, `coef` holds the weights of these features only."""
        if not coef.any():
            return self.y * intercept
        return self.y * (self.X.product(coef, columns) + intercept)

    def shifted(self, margin, change, size):
        """The margins after a step of some size."""
        return margin + size * change

    def kept(self, margin):
        """The same margins, held in memory; those that `shifted` gives need not be."""
        return margin

    def line(self, before, last, size):
        """The margins on the line through two points, the second one being at size 1."""
        return torch.lerp(before, last, size)

    def value(self, margin, penalty):
        """The loss."""
        return self.loss.value(margin, penalty)

    def is_separating(self, margin, penalty):
        """Whether the loss falls to 0 as w and b grow in proportion."""
        return self.loss.is_separating(margin, penalty)

    def constant_intercept(self):
        """The best intercept for w = 0."""
        return self.loss.constant_intercept(self.y)

    def slopes(self, margin, penalty):
        """Σ p_i y_i x_i, Σ p_i y_i and Σ q_i: first derivatives, but for signs."""
        p, q = self.loss.gradient(margin, penalty)
        signed = p * self.y
        return self.X.transposed_product(signed), signed.sum(), q.sum()

    def total_curvature(self, margin, penalty):
        """Σ t_i, the curvatures of the loss."""
        return self.loss.curvature(margin, penalty)[0].sum()

    def terms(self, margin, penalty):
        """`value`, `is_separating` and `total_curvature` at once."""
        return (
            self.value(margin, penalty),
            self.is_separating(margin, penalty),
            self.total_curvature(margin, penalty),
        )

    def hessian(self, columns, margin, penalty, penalty_slope, neglect=0.0):
        """Hessian in the weights of `columns` and the intercept, for a ρ that is linear in w.

        With z_i = (x_i, 1), r the slope of ρ, and a_i and c_i the clean and the adversarial
        curvature, it is

            Σ_i [ a_i z_i z_iᵀ + c_i (z_i - y_i r)(z_i - y_i r)ᵀ ]
              = Σ_i t_i (z_i - κ_i y_i r)(z_i - κ_i y_i r)ᵀ + Σ_i c_i (1 - κ_i) r rᵀ ,

        where t_i = a_i + c_i and κ_i = c_i / t_i: one weighted Gram matrix and a term of rank one.
        The samples of least curvature, which together have the share `neglect` of it, are left out.
        """
        total, adversarial = self.loss.curvature(margin, penalty)
        # Fewer rows than columns would leave directions without curvature.
        rows = _main_rows(total, neglect, n_min=4 * (len(columns) + 1))
        total, adversarial = total[rows], adversarial[rows]
        part = torch.where(total > 0, adversarial / total, 0)
        hessian = self.X.gram(rows, columns, total, self.y[rows] * part, penalty_slope)
        slope = append(penalty_slope, 0)
        return hessian + (adversarial @ (1 - part)) * torch.outer(slope, slope)

    def hessian_product(self, columns, margin, penalty, penalty_slope, vector):
        """The same Hessian times a vector, without forming it."""
        total, adversarial = self.loss.curvature(margin, penalty)
        coef, intercept = vector[:-1], vector[-1]
        along = self.margin(coef, intercept, columns)
        rise = penalty_slope @ coef
        signed = self.y * (total * along - adversarial * rise)
        result = self.X.transposed_product(signed)[columns]
        result -= penalty_slope * (adversarial @ along - adversarial.sum() * rise)
        return append(result, signed.sum())

    def diagonal(self, margin, penalty):
        """The diagonal of the Hessian in all weights and the intercept, without ρ."""
        total, _ = self.loss.curvature(margin, penalty)
        return append(self.X.mean_square(total), total.sum())

    def copied(self, columns, before=None, is_rough=False):
        """The samples with a copy of some features, which come after those of an earlier copy.

        In a rough one of a dense X, derivatives are in single precision, but margins are not.
        """
        before = None if before is None else before.X
        return replace(self, X=self.X.copied(columns, before, is_rough))

    def sample(self, share):
        """A random share of each class, with the class's weight; always the same."""
        generator, stride = torch.Generator().manual_seed(0), round(1 / share)
        picked = []
        for label in (-1, 1):
            rows = (self.y == label).nonzero().squeeze(1)
            first = torch.arange(0, len(rows), stride)
            chosen = first + torch.randint(stride, first.shape, generator=generator)
            picked.append(rows[chosen.clamp(max=len(rows) - 1).to(rows.device)])
        rows = torch.cat(picked).sort().values
        y, weight = self.y[rows], self.loss.weight[rows]
        for label in (-1, 1):
            own = y == label
            weight[own] *= self.loss.weight[self.y == label].sum() / weight[own].sum()
        return BinaryRows(X=self.X.taken(rows), y=y, loss=replace(self.loss, weight=weight))


def _main_rows(curvature, neglect, n_min):
    """The samples with most of the curvature, `n_min` at least, in their order."""
    n_dropped = 0
    if neglect > 0 and len(curvature) > n_min:
        ordered = sort(curvature)
        n_dropped = int((ordered.cumsum(0) <= neglect * ordered.sum()).sum())
        n_dropped = min(n_dropped, len(curvature) - n_min)
    if n_dropped <= _FEWEST_DROPPED * len(curvature):
        return torch.arange(len(curvature), device=curvature.device)
    return (curvature >= ordered[n_dropped]).nonzero().squeeze(1)
