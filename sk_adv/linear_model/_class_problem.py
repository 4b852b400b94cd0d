"""The max-norm bound of three classes and more, as a smooth function of atoms.

With weights w_j = Σ_S t_jS 1_S, t ≥ 0, the bound

    log Σ_k exp( (w_k - w_y)ᵀx + b_k - b_y + Σ_j ε_j |w_jk - w_jy| )

lies below the same with Σ_S t_jS |1_S(k) - 1_S(y)| in place of |w_jk - w_jy|, which is smooth in t,
and the two agree where the sets of each feature are nested. So they have the same minimum, and both
have it where no atom of the nested sets has a slope, and no other a negative one. Two classes are
the special case of the positive and the negative part of each weight.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sk_adv.linear_model._class_sets import Derivatives, worst_sets


@dataclass
class ClassProblem:
    """min over W, b of the weighted mean of α clean + (1-α) bound, plus Σ_j ridge_j ‖w_j‖² / 2.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_samples, n_features)
    order : torch.Tensor of shape (n_samples,)
        The rows of X, sorted by class. All other tensors of samples are in this order.
    ends : list of int, of n_classes + 1 entries
        Class k has the samples ends[k] to ends[k + 1] - 1.
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s, which sum to 1.
    alpha : float
    epsilon : torch.Tensor of shape (n_features,)
    ridge : torch.Tensor of shape (n_features,)
        1 / (C Σs), in the units of w². It acts on weights that sum to 0 over the classes.
    fit_intercept : bool
    """

    X: object
    order: torch.Tensor
    ends: list
    weight: torch.Tensor
    alpha: float
    epsilon: torch.Tensor
    ridge: torch.Tensor
    fit_intercept: bool

    @classmethod
    def of(cls, X, y, n_classes, weight, **parameters):
        """The problem of samples in any order, with classes y."""
        order = y.argsort(stable=True)
        ends = torch.bincount(y, minlength=n_classes).cumsum(0).tolist()
        return cls(X=X, order=order, ends=[0, *ends], weight=weight[order], **parameters)

    @property
    def n_classes(self):
        return len(self.ends) - 1

    @cached_property
    def has_ridge(self):
        return bool(self.ridge.any())

    @cached_property
    def labels(self):
        sizes = torch.tensor(self.ends).diff().to(self.order.device)
        return torch.arange(self.n_classes, device=self.order.device).repeat_interleave(sizes)

    @cached_property
    def class_shares(self):
        """The weight of each class."""
        shares = self.weight.new_zeros(self.n_classes)
        return shares.index_add_(0, self.labels, self.weight)

    def sample(self, share):
        """The problem of a random share of each class, with the class's weight; always the same."""
        generator, picked = torch.Generator().manual_seed(0), []
        ends, weight = [0], []
        for first, last in zip(self.ends, self.ends[1:], strict=False):
            n_picked = math.ceil(share * (last - first))
            chosen = torch.randperm(last - first, generator=generator)[:n_picked].sort().values
            chosen = first + chosen.to(self.order.device)
            part = self.weight[chosen]
            weight.append(part * (self.weight[first:last].sum() / part.sum()))
            picked.append(chosen)
            ends.append(ends[-1] + n_picked)
        rows = self.order[torch.cat(picked)]
        return replace(
            self,
            X=self.X.taken(rows),
            order=torch.arange(len(rows), device=rows.device),
            ends=ends,
            weight=torch.cat(weight),
        )


@dataclass
class Block:
    """The working set: the intercept, if it is fitted, and some features.

    Matrices of weights on it have a column for the intercept, which is a free feature that is 1
    everywhere, and then one for each feature.

    Attributes
    ----------
    problem : ClassProblem
    features : torch.Tensor of shape (n_working,)
    Z : DenseBlock or SparseBlock of shape (n_samples, n_columns)
    """

    problem: ClassProblem
    features: torch.Tensor
    Z: object

    @classmethod
    def of(cls, problem, features):
        """The block of some features."""
        Z = problem.X.block(problem.order, features, problem.fit_intercept)
        return cls(problem, features, Z)

    def joined(self, features):
        """This block with further features."""
        Z = self.Z.joined(self.problem.X.block(self.problem.order, features, False))
        return Block(self.problem, torch.cat([self.features, features]), Z)

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
    logits : torch.Tensor of shape (n_classes, n_samples), default=None
        Those of `coef`, if they are known.
    """

    def __init__(self, block, coef, logits=None):
        self.block, self.coef = block, coef
        self.problem = problem = block.problem
        self.logits = block.Z.product(coef) if logits is None else logits
        scaled = block.epsilon * coef
        self.penalty = torch.cdist(scaled, scaled, p=1)
        self.shifted = self.logits.clone()
        for k, rows in self._classes():
            self.shifted[:, rows] += self.penalty[:, k, None]
        self.adversarial, loss = self._softmax(self.shifted)
        self.largest_loss = loss.max()
        loss = (1 - problem.alpha) * loss
        self.clean = None
        if problem.alpha > 0:
            self.clean, clean_loss = self._softmax(self.logits)
            loss += problem.alpha * clean_loss
        self.objective = problem.weight @ loss + (block.ridge * self._centred.square()).sum() / 2

    def _classes(self):
        ends = self.problem.ends
        return enumerate(map(slice, ends, ends[1:]))

    def _softmax(self, logits):
        """Probabilities of the classes, and the loss of each sample."""
        top = logits.amax(0)
        probability = (logits - top).exp_()
        total = probability.sum(0)
        probability /= total
        loss = total.log() + top
        for k, rows in self._classes():
            loss[rows] -= self.logits[k, rows]
        return probability, loss

    @cached_property
    def _centred(self):
        return self.coef - self.coef.mean(0)

    @cached_property
    def parts(self):
        """Share, probabilities and whether there are penalties, for both parts of the loss."""
        alpha = self.problem.alpha
        parts = [(1 - alpha, self.adversarial, True)]
        return parts if self.clean is None else [*parts, (alpha, self.clean, False)]

    @cached_property
    def residual(self):
        """Derivatives in the logits, (n_classes, n_samples)."""
        residual = sum(share * probability for share, probability, _ in self.parts)
        for k, rows in self._classes():
            residual[k, rows] -= 1
        return residual.mul_(self.problem.weight)

    @cached_property
    def mass(self):
        """M: derivatives of the objective in the penalties of each two classes."""
        problem = self.problem
        sums = [self.adversarial[:, rows] @ problem.weight[rows] for _, rows in self._classes()]
        mass = (1 - problem.alpha) * torch.stack(sums)
        mass.fill_diagonal_(0)
        return mass + mass.T

    @cached_property
    def total_curvature(self):
        """Σ_i s_i (1 - Σ_k p_ik²), over both parts of the loss."""
        weight = self.problem.weight
        return sum(
            share * (weight.sum() - (probability.square().sum(0) @ weight))
            for share, probability, _ in self.parts
        )

    @cached_property
    def gradient(self):
        """Gradient in the weights of the block, where penalties are held constant."""
        gradient = self.block.Z.transposed_product(self.residual)
        gradient += self.block.ridge * self._centred
        return gradient - gradient.mean(0)

    def full_gradient(self):
        """The same for all features."""
        problem = self.problem
        residual = torch.empty_like(self.residual)
        residual[:, problem.order] = self.residual
        gradient = problem.X.gradient(residual)
        coef, _ = self.block.scatter(self._centred)
        gradient += problem.ridge * coef
        return gradient - gradient.mean(0)

    @cached_property
    def derivatives(self):
        """What the slopes of all atoms of the block are computed from."""
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
        # A sample that is robustly right has at most the loss of equal logits.
        if self.problem.has_ridge or self.largest_loss > math.log(self.problem.n_classes):
            return False
        labels = self.problem.labels[None]
        threat = self.shifted if self.problem.alpha < 1 else self.logits
        rival = threat.scatter(0, labels, -torch.inf).amax(0)
        return bool((self.logits.gather(0, labels)[0] > rival).all())
