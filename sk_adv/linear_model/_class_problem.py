"""The max-norm bound of three classes and more, as a smooth function of atoms.

With weights w_j = Σ_S t_jS 1_S, t ≥ 0, the bound

    log Σ_k exp( (w_k - w_y)ᵀx + b_k - b_y + Σ_j ε_j |w_jk - w_jy| )

lies below the same with Σ_S t_jS |1_S(k) - 1_S(y)| in place of |w_jk - w_jy|, which is smooth in t,
and the two agree where the sets of each feature are nested. So they have the same minimum, and both
have it where no atom of the nested sets has a slope, and no other a negative one. Two classes are
the special case of the positive and the negative part of each weight.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sk_adv.linear_model._class_sets import Derivatives, worst_sets


@dataclass
class ClassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus Σ_j ridge_j ‖w_j‖² / 2.

    Attributes
    ----------
    rows : ClassRows
        The samples, with α.
    epsilon : torch.Tensor of shape (n_features,)
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w². It acts on weights that sum to 0 over the classes.
    fit_intercept : bool
    """

    rows: object
    epsilon: torch.Tensor
    ridge: torch.Tensor
    fit_intercept: bool

    @property
    def n_classes(self):
        return self.rows.n_classes

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    def sample(self, share):
        """The problem of a share of the samples."""
        return replace(self, rows=self.rows.sample(share))


@dataclass
class Block:
    """The working set: the intercept, if it is fitted, and some features.

    Matrices of weights on it have a column for the intercept, which is a free feature that is 1
    everywhere, and then one for each feature.

    Attributes
    ----------
    problem : ClassProblem
    features : torch.Tensor of shape (n_working,)
    columns : DenseBlock or SparseBlock of shape (n_samples, n_columns)
        The values of the samples.
    """

    problem: ClassProblem
    features: torch.Tensor
    columns: object

    @classmethod
    def of(cls, problem, features):
        """The block of some features."""
        return cls(problem, features, problem.rows.columns(features, problem.fit_intercept))

    def roughened(self):
        """This block with gradients in single precision, where X is dense."""
        return replace(self, columns=self.columns.roughened())

    def joined(self, features):
        """This block with further features."""
        columns = self.columns.joined(self.problem.rows.columns(features, False))
        return Block(self.problem, torch.cat([self.features, features]), columns)

    @cached_property
    def epsilon(self):
        return self._of_columns(self.problem.epsilon)

    @cached_property
    def ridge(self):
        return self._of_columns(self.problem.ridge)

    @property
    def n_columns(self):
        return len(self.epsilon)

    def _of_columns(self, values):
        values = values[self.features]
        return torch.cat([values.new_zeros(int(self.problem.fit_intercept)), values])

    def gather(self, coef, intercept):
        """A matrix on this block of the weights of all features and intercepts."""
        first = intercept[:, None][:, : int(self.problem.fit_intercept)]
        return torch.cat([first, coef[:, self.features]], dim=1)

    def scatter(self, matrix):
        """The inverse of `gather`: weights of all features, and intercepts."""
        n_first = int(self.problem.fit_intercept)
        coef = matrix.new_zeros(len(matrix), len(self.problem.epsilon))
        coef[:, self.features] = matrix[:, n_first:]
        return coef, matrix[:, :n_first].sum(1)


class ClassPoint:
    """An iterate on a block, with the objective and its derivatives.

    Parameters
    ----------
    block : Block
    coef : torch.Tensor of shape (n_classes, n_columns)
    samples : ClassSamples, default=None
        The samples at `coef`, if they are known.
    """

    def __init__(self, block, coef, samples=None):
        self.block, self.coef = block, coef
        self.problem = block.problem
        if samples is None:
            samples = self.problem.rows.evaluate(block.columns, coef, pair_penalty(block, coef))
        self.samples = samples
        ridge = (block.ridge * self._centred.square()).sum() / 2
        self.objective = samples.loss + ridge

    @cached_property
    def _centred(self):
        return self.coef - self.coef.mean(0)

    @property
    def mass(self):
        """M: derivatives of the objective in the penalties of each two classes."""
        return self.samples.mass

    @property
    def total_curvature(self):
        """Σ_i s_i (1 - Σ_k p_ik²), over both parts of the loss."""
        return self.samples.total_curvature

    @cached_property
    def gradient(self):
        """Gradient in the weights of the block, where penalties are held constant."""
        gradient = self.samples.gradient(self.block.columns)
        gradient += self.block.ridge * self._centred
        return gradient - gradient.mean(0)

    def full_gradient(self):
        """The same for all features."""
        gradient = self.samples.full_gradient()
        coef, _ = self.block.scatter(self._centred)
        gradient += self.problem.ridge * coef
        return gradient - gradient.mean(0)

    def precise(self, full_gradient):
        """The same point in double precision, with the gradient that is known for all features."""
        if not self.block.columns.is_rough:
            return self
        block = replace(self.block, columns=self.block.columns.precise())
        point = ClassPoint(block, self.coef, self.samples)
        intercept = self.samples.residual.sum(1)
        point.gradient = block.gather(full_gradient, intercept - intercept.mean())
        return point

    def joined(self, features):
        """The same point on a block with further features."""
        added = self.coef.new_zeros(len(self.coef), len(features))
        coef = torch.cat([self.coef, added], dim=1)
        return ClassPoint(self.block.joined(features), coef, self.samples)

    def in_problem(self, problem):
        """The same weights in a problem of other radii."""
        block = replace(self.block, problem=problem)
        samples = problem.rows.at(self.samples.logits, pair_penalty(block, self.coef))
        return ClassPoint(block, self.coef, samples)

    def line(self, move):
        """Points along a change of the weights: a function of its size and of the weights there."""
        samples = self.samples.line(self.block.columns, move)

        def along(size, coef):
            return ClassPoint(self.block, coef, samples(size, pair_penalty(self.block, coef)))

        return along

    @cached_property
    def derivatives(self):
        """The derivatives from which the slopes of all atoms of the block are computed."""
        return Derivatives(self.gradient, self.mass, self.block.epsilon)

    def slopes(self, atoms):
        """Derivatives of the objective in the amounts of atoms."""
        return self.derivatives.slopes(atoms)

    @cached_property
    def worst_sets(self):
        """The worst set of each column, and its price; with many classes, for all levels."""
        return worst_sets(self.gradient, self.mass, self.block.epsilon, self.coef)

    def violation(self, atoms):
        """The largest slope of an atom that is present, or price below 0 of any other.

        In a free column that is the largest sum of the gradient over a set of classes.
        """
        price, _ = worst_sets(self.gradient, self.mass, self.block.epsilon)
        return self._largest(atoms, price)

    def violation_by_levels(self, atoms):
        """The same, or more: with many classes, prices count every level of the weights."""
        price, _ = self.worst_sets
        return self._largest(atoms, price)

    def _largest(self, atoms, price):
        parts = self.slopes(atoms).abs(), -price
        return max(0.0, *(float(part.max()) for part in parts if part.numel()), 0.0)

    def lacks_minimum(self):
        """Whether the bound falls to 0 as W and b grow: all samples are robustly right."""
        return not self.problem.has_ridge and self.samples.is_separating


def pair_penalty(block, coef):
    """ρ_kl = Σ_j ε_j |w_jk - w_jl| for each two classes."""
    scaled = block.epsilon * coef
    return torch.cdist(scaled, scaled, p=1)
