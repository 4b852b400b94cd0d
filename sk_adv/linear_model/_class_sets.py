"""Weights of several classes as sums over sets of classes.

The weights of one feature over the classes are, up to a common constant, a sum over proper,
nonempty sets S of classes,

    w_j = Σ_S t_jS 1_S ,    t ≥ 0 .

A pair (j, S) is an *atom*, and t_jS its amount. If the sets of a feature are nested, then
|w_jk - w_jl| = Σ_S t_jS |1_S(k) - 1_S(l)| for all classes k and l, and if not, the right-hand side
is larger. The superlevel sets of w_j are nested. Source: the coarea formula (the Lovász extension
of a cut); Bach, "Learning with submodular functions", Foundations and Trends in Machine Learning 6
(2013), sections 3 and 6.2.
"""

from dataclasses import dataclass

import torch

from sk_adv.linear_model._minimum_cuts import minimum_cuts

# Up to this number of classes, all sets are compared.
_FEW_CLASSES = 12
# Entries of a table of features and sets that is held at once.
_TABLE_ENTRIES = 2**20
# Smaller gaps, as a share of a feature's largest weight, are rounding.
_ROUNDING = 1e-14


@dataclass
class Atoms:
    """Some atoms of some features.

    Attributes
    ----------
    column : torch.Tensor of shape (n_atoms,), int64
        The feature j of each atom.
    member : torch.Tensor of shape (n_atoms, n_classes)
        The indicator 1_S of each atom's set.
    amount : torch.Tensor of shape (n_atoms,)
    """

    column: torch.Tensor
    member: torch.Tensor
    amount: torch.Tensor

    @classmethod
    def nested(cls, coef, is_free):
        """The atoms of a matrix of weights, (n_classes, n_features).

        A free feature has no penalty, hence no kinks. It gets an atom for each class but the first,
        with amounts of any sign.
        """
        n_classes = len(coef)
        ordered, order = coef.sort(dim=0, descending=True, stable=True)
        gaps = ordered[:-1] - ordered[1:]
        noise = _ROUNDING * coef.abs().amax(0)
        level, column = ((gaps > noise) & ~is_free).T.nonzero().flip(1).unbind(1)
        rank = order.argsort(dim=0)
        member = (rank[:, column] <= level).T.to(coef)
        free = is_free.nonzero().squeeze(1)
        single = torch.eye(n_classes, dtype=coef.dtype, device=coef.device)[1:]
        return cls(
            torch.cat([column, free.repeat_interleave(n_classes - 1)]),
            torch.cat([member, single.repeat(len(free), 1)]),
            torch.cat([gaps[level, column], (coef[1:, free] - coef[0, free]).T.flatten()]),
        )

    def splits(self, column, member):
        """New atoms of some features, whose sets lie between those that a feature has.

        Between the neighbours S and S' of a feature, S ⊂ S', its `member` gives S ∪ (member ∩ S').
        Prices are submodular in the set: if these atoms have no slope, then the prices of a
        feature's new sets are together at most that of its `member`.
        """
        size = self.member.shape[1]
        split = self.member.new_full((1 + int(column.max()) if len(column) else 1, size), torch.nan)
        split[column] = member
        used = (self.column < len(split)).nonzero().squeeze(1)
        used = used[~split[self.column[used], 0].isnan()]
        column = torch.cat([self.column[used], column])
        lower = torch.cat([self.member[used], torch.zeros_like(member)])
        order = (column * (size + 1) + lower.sum(1).long()).argsort()
        column, lower = column[order], lower[order]
        upper = lower.roll(-1, 0)
        upper[column != column.roll(-1)] = 1
        upper[-1:] = 1
        between = lower.maximum(split[column].minimum(upper))
        is_new = (between != lower).any(1) & (between != upper).any(1)
        column, between = column[is_new], between[is_new]
        return Atoms(column, between, between.new_zeros(len(column)))

    def joined(self, other, chosen):
        """These atoms, and some of another collection."""
        other = other.taken(chosen)
        return Atoms(
            torch.cat([self.column, other.column]),
            torch.cat([self.member, other.member]),
            torch.cat([self.amount, other.amount]),
        )

    def taken(self, chosen):
        """Some of these atoms."""
        return Atoms(self.column[chosen], self.member[chosen], self.amount[chosen])

    def weights(self, amount, n_features):
        """The weights (n_classes, n_features) that these atoms have with other amounts."""
        coef = amount.new_zeros(n_features, self.member.shape[1])
        return coef.index_add_(0, self.column, amount[:, None] * self.member).T.contiguous()


@dataclass
class Derivatives:
    """The first derivatives at a point.

    Attributes
    ----------
    gradient : torch.Tensor of shape (n_classes, n_features)
        G, as in `worst_sets`.
    mass : torch.Tensor of shape (n_classes, n_classes)
    epsilon : torch.Tensor of shape (n_features,)
    """

    gradient: torch.Tensor
    mass: torch.Tensor
    epsilon: torch.Tensor

    def slopes(self, atoms):
        """Derivatives of the objective in the amounts of atoms."""
        along = (self.gradient.T[atoms.column] * atoms.member).sum(1)
        return along + self.epsilon[atoms.column] * cuts(atoms.member, self.mass)


def cuts(member, mass):
    """cut_M(S) = Σ over k in S and l outside of S of M_kl, for rows of indicators 1_S."""
    return ((member @ mass) * (1 - member)).sum(-1)


def worst_sets(gradient, mass, epsilon, coef=None):
    """For each feature j, the set S with the least price G_j · 1_S + ε_j cut_M(S).

    Each price is the derivative of the objective in the amount of an atom. The weights are optimal
    if and only if no price is negative, and those of the atoms that are present are 0.

    Parameters
    ----------
    gradient : torch.Tensor of shape (n_classes, n_features)
        G, the gradient of the loss in the weights, where penalties are held constant. Its columns
        sum to 0.
    mass : torch.Tensor of shape (n_classes, n_classes)
        M, the derivatives of the loss in the penalties of each two classes.
    epsilon : torch.Tensor of shape (n_features,)
    coef : torch.Tensor of shape (n_classes, n_features), default=None
        The weights, for sets that split as many of their levels as is worth it. With many classes
        the price of a set is then the derivative of the objective along 1_S. It is at most the
        atom's, and it is negative for some set of a feature whenever the atoms' is, provided that
        those which are present have a price of 0.

    Returns
    -------
    price : torch.Tensor of shape (n_features,)
    member : torch.Tensor of shape (n_features, n_classes)
        The sets; with many classes, a feature without a negative price may get an empty one.
    """
    n_classes, n_features = gradient.shape
    if n_classes > _FEW_CLASSES:
        return minimum_cuts(gradient, mass, epsilon, coef)
    sets = _sets_without_the_last_class(n_classes).to(gradient)
    size = cuts(sets, mass)
    price, member = gradient.new_empty(n_features), gradient.new_empty(n_features, n_classes)
    for part in torch.arange(n_features, device=gradient.device).split(_TABLE_ENTRIES // len(sets)):
        along = gradient[:, part].T @ sets.T
        # The complement of a set has the same cut and the opposite sum.
        price[part], best = (epsilon[part, None] * size - along.abs()).min(1)
        rises = along.gather(1, best[:, None]) > 0
        member[part] = torch.where(rises, 1 - sets[best], sets[best])
    return price, member


def _sets_without_the_last_class(n_classes):
    """One set of each pair of complements: (2^(n_classes-1) - 1, n_classes)."""
    codes = torch.arange(1, 2 ** (n_classes - 1))
    return (codes[:, None] >> torch.arange(n_classes)) & 1
