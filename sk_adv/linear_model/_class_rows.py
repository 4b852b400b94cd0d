"""The samples of several classes, sorted by class: the sums over them that a solver asks for."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from sk_adv.linear_model._class_draws import DrawnRows, chances, passed
from sk_adv.linear_model._class_hessian import Sample
from sk_adv.linear_model._designs import StandardisedDesign


@dataclass
class ClassRows:
    """Samples with classes and weights.

    Everything that solvers ask for is a sum over samples, and so a sum over any parts of them. What
    has an entry for each sample, the logits, goes from one method to another.

    Attributes
    ----------
    X : StandardisedDesign of shape (n_samples, n_features), or None
        Only sums of the logits are known without it.
    order : torch.Tensor of shape (n_samples,)
        The rows of X, sorted by class. All other tensors of samples are in this order.
    ends : list of int, of n_classes + 1 entries
        Class k has the samples ends[k] to ends[k + 1] - 1.
    weight : torch.Tensor of shape (n_samples,)
        Sample weights s; those of all samples sum to 1.
    alpha : float
    """

    X: object
    order: torch.Tensor
    ends: list
    weight: torch.Tensor
    alpha: float

    @classmethod
    def of(cls, X, y, n_classes, weight, alpha):
        """Samples in any order, with classes y."""
        order = _sorted_by_class(y, n_classes)
        ends = torch.bincount(y, minlength=n_classes).cumsum(0).tolist()
        return cls(X=X, order=order, ends=[0, *ends], weight=weight[order], alpha=alpha)

    @classmethod
    def joined(cls, parts):
        """The samples of several parts in one piece."""
        X = StandardisedDesign.joined([part.X.taken(part.order) for part in parts])
        labels, weight = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "weight")
        )
        return cls.of(X, labels, parts[0].n_classes, weight, parts[0].alpha)

    @property
    def n_classes(self):
        return len(self.ends) - 1

    @property
    def shape(self):
        """Numbers of samples and features."""
        return self.X.shape

    @cached_property
    def labels(self):
        sizes = torch.tensor(self.ends).diff().to(self.order.device)
        return torch.arange(self.n_classes, device=self.order.device).repeat_interleave(sizes)

    @cached_property
    def class_shares(self):
        """The weight of each class."""
        shares = self.weight.new_zeros(self.n_classes)
        return shares.index_add_(0, self.labels, self.weight)

    def of_classes(self):
        """Each class with the positions of its samples."""
        return enumerate(map(slice, self.ends, self.ends[1:]))

    def columns(self, features, constant):
        """A copy of some features; `constant` puts a column of ones before them."""
        return self.X.block(self.order, features, constant)

    def product(self, features, coef, intercept):
        """The logits, (n_classes, n_samples), of the weights of some features and intercepts."""
        logits = self.X.logits(coef, features) + intercept
        return logits[self.order].T.contiguous()

    def gradient(self, residual):
        """The gradient in the weights of all features, of derivatives in the logits."""
        unsorted = torch.empty_like(residual)
        unsorted[:, self.order] = residual
        return self.X.gradient(unsorted)

    def evaluate(self, columns, coef, penalty):
        """The samples at some weights of copied features, and penalties of each two classes."""
        return self.at(columns.product(coef), penalty)

    def at(self, logits, penalty):
        """The samples at some logits, (n_classes, n_samples)."""
        return ClassSamples(self, logits, penalty)

    def rough_shares(self, wanted):
        """Shares of the samples for rough stages, of those that are wanted."""
        return wanted

    def sample(self, share):
        """A random share of each class, with the class's weight; always the same."""
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

    def n_drawn(self, is_large, enough, n_columns):
        """How many samples to draw for a Hessian of some columns, or None for all."""
        return enough if is_large else None

    def draw(self, chance, before=0.0):
        """Some samples, in their order and without values of features; None draws all.

        The draw is systematic: sample i is taken with the probability `chance[i]`, and its weight
        is divided by it. `before` is the sum of the chances in the parts before this one.
        """
        if chance is None:
            rows = torch.arange(len(self.weight), device=self.weight.device)
            return rows, self.weight
        rows = (passed(chance, before).diff() > 0).nonzero().squeeze(1)
        return rows, self.weight[rows] / chance[rows]


def _sorted_by_class(y, n_classes):
    """A stable order of the samples."""
    if y.device.type == "cpu" and n_classes <= 2**16:
        # NumPy sorts short integers in linear time.
        return torch.from_numpy(np.argsort(y.numpy().astype(np.uint16), kind="stable"))
    return y.argsort(stable=True)


class ClassSamples:
    """Samples at some logits and penalties, with the sums of their losses and derivatives.

    Parameters
    ----------
    rows : ClassRows
    logits : torch.Tensor of shape (n_classes, n_samples)
    penalty : torch.Tensor of shape (n_classes, n_classes)
        The penalties ρ of each two classes.
    """

    def __init__(self, rows, logits, penalty):
        self.rows, self.logits, self.penalty = rows, logits, penalty
        self.shifted = self.logits.clone()
        for k, own in rows.of_classes():
            self.shifted[:, own] += penalty[:, k, None]
        self.adversarial, loss = self._softmax(self.shifted)
        self.largest_loss = loss.max() if len(loss) else loss.sum()
        loss = (1 - rows.alpha) * loss
        self.clean = None
        if rows.alpha > 0:
            self.clean, clean_loss = self._softmax(self.logits)
            loss += rows.alpha * clean_loss
        self.loss = rows.weight @ loss

    def _softmax(self, logits):
        """Probabilities of the classes, and the loss of each sample."""
        top = logits.amax(0)
        probability = (logits - top).exp_()
        total = probability.sum(0)
        probability /= total
        loss = total.log() + top
        for k, own in self.rows.of_classes():
            loss[own] -= self.logits[k, own]
        return probability, loss

    @cached_property
    def parts(self):
        """Share, probabilities and whether there are penalties, for both parts of the loss."""
        alpha = self.rows.alpha
        parts = [(1 - alpha, self.adversarial, True)]
        return parts if self.clean is None else [*parts, (alpha, self.clean, False)]

    @cached_property
    def residual(self):
        """Derivatives in the logits, (n_classes, n_samples)."""
        residual = sum(share * probability for share, probability, _ in self.parts)
        for k, own in self.rows.of_classes():
            residual[k, own] -= 1
        return residual.mul_(self.rows.weight)

    @cached_property
    def mass(self):
        """M: derivatives of the loss in the penalties of each two classes."""
        weight = self.rows.weight
        sums = [self.adversarial[:, own] @ weight[own] for _, own in self.rows.of_classes()]
        mass = (1 - self.rows.alpha) * torch.stack(sums)
        mass.fill_diagonal_(0)
        return mass + mass.T

    @cached_property
    def total_curvature(self):
        """Σ_i s_i (1 - Σ_k p_ik²), over both parts of the loss."""
        weight = self.rows.weight
        return sum(
            share * (weight.sum() - (probability.square().sum(0) @ weight))
            for share, probability, _ in self.parts
        )

    @cached_property
    def importance(self):
        """s_i (1 - p_iy), over both parts of the loss: how much a sample counts in a Hessian."""
        importance = torch.zeros_like(self.rows.weight)
        for share, probability, _ in self.parts:
            own = probability.gather(0, self.rows.labels[None])[0]
            importance += share * self.rows.weight * (1 - own)
        return importance

    def gradient(self, columns):
        """Gradient in the weights of copied features."""
        return columns.transposed_product(self.residual)

    def full_gradient(self):
        """Gradient in the weights of all features."""
        return self.rows.gradient(self.residual)

    def change(self, features, coef, intercept, changes):
        """Changes of the gradients and the mass, for a change of weights and of the penalties."""
        rows = self.rows
        logits = rows.product(features, coef, intercept)
        residual = 0
        for share, p, is_lifted in self.parts:
            moved = logits + changes[:, rows.labels] if is_lifted else logits
            part = share * rows.weight * p * (moved - (p * moved).sum(0))
            residual = residual + part
            if is_lifted:
                mass = torch.stack([part[:, own].sum(1) for _, own in rows.of_classes()])
        mass.fill_diagonal_(0)
        return rows.gradient(residual), residual.sum(1), mass + mass.T

    @property
    def is_separating(self):
        """Whether the loss falls to 0 as W and b grow: all samples are robustly right."""
        # A sample that is robustly right has at most the loss of equal logits.
        if self.largest_loss > math.log(self.rows.n_classes):
            return False
        labels = self.rows.labels[None]
        threat = self.shifted if self.rows.alpha < 1 else self.logits
        rival = threat.scatter(0, labels, -torch.inf).amax(0)
        return bool((self.logits.gather(0, labels)[0] > rival).all())

    def line(self, columns, move):
        """The samples along a change of the weights: a function of its size and the penalties."""
        change = columns.product(move)

        def along(size, penalty):
            return ClassSamples(self.rows, self.logits + size * change, penalty)

        return along

    def whole(self):
        """All samples, for a Hessian in double precision."""
        return Sample(self.drawn(None), is_rough=False)

    def drawn(self, n_drawn):
        """So many samples, as `DrawnRows`, drawn in proportion to their importance; None is all."""
        rows = self.rows
        chance = None
        if n_drawn is not None and n_drawn < len(rows.weight):
            chance = chances(self.importance, n_drawn)
        drawn, weight = rows.draw(chance)
        ends = torch.tensor(rows.ends, device=drawn.device)
        return DrawnRows(
            rows=drawn,
            ends=torch.searchsorted(drawn, ends).tolist(),
            weight=weight,
            parts=[(share, p[:, drawn], is_lifted) for share, p, is_lifted in self.parts],
        )
