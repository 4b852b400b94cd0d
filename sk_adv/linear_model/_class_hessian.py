"""The Hessian of the bound of several classes, in the amounts of atoms."""

from dataclasses import dataclass

import torch

from sk_adv.linear_model._array_functions import gram, take_columns

# Operations above which the Hessian comes from a part of the samples, in single precision.
_MANY_OPERATIONS = 2**30
# The samples that are drawn of large data: so many an atom, and so many more.
_ROWS_PER_ATOM, _MORE_ROWS = 10, 3000
# In large data, a sample does not count for a class of a smaller probability.
_LEAST_PROBABILITY = 3e-3
# With fewer samples of a class, all other classes are handled at once.
_MANY_SAMPLES = 64
# Entries of the samples' atoms that are held at once.
_HELD_ENTRIES = 2**22


@dataclass
class Sample:
    """Some samples and their probabilities at a point: what the Hessian there is made of.

    Attributes
    ----------
    drawn : DrawnRows
    is_rough : bool
        Whether to compute in single precision and without small probabilities.
    """

    drawn: object
    is_rough: bool

    @classmethod
    def of(cls, point, n_atoms):
        """The samples for a Hessian of so many atoms: all, or of large data some."""
        rows = point.problem.rows
        is_large = rows.shape[0] * rows.n_classes * n_atoms**2 > _MANY_OPERATIONS
        enough = _ROWS_PER_ATOM * n_atoms + _MORE_ROWS
        n_drawn = rows.n_drawn(is_large, enough, point.block.n_columns)
        return cls(point.samples.drawn(n_drawn), n_drawn is not None)

    @property
    def n_classes(self):
        return len(self.drawn.ends) - 1

    def hessian(self, block, atoms):
        """The Hessian in the amounts of atoms of a block, (n_atoms, n_atoms).

        With u_ik the derivative of the exponent of class k of sample i in the amounts,

            u_ik = (1_S(k) - 1_S(y_i)) x_ij + ε_j |1_S(k) - 1_S(y_i)|    for the atom (j, S),

        and ū_i = Σ_k p_ik u_ik, it is Σ_i s_i (Σ_k p_ik u_ik u_ikᵀ - ū_i ū_iᵀ), and the ridge's
        part.
        """
        size = len(atoms.column)
        result = torch.zeros(size, size, dtype=self._dtype, device=self.drawn.weight.device)
        width = max(size, block.n_columns), size * self.n_classes
        for label, Z, parts in self._pieces(block, *width):
            leads, lifts = self._exponents(block, atoms, label)
            add = _add_by_class if len(Z) > _MANY_SAMPLES else _add_at_once
            for p, s, is_lifted in parts:
                lift = lifts if is_lifted else torch.zeros_like(lifts)
                mean = take_columns(Z, atoms.column)
                mean *= p.T @ leads.T
                mean += p.T @ lift.T
                mean *= s.sqrt()[:, None]
                result -= gram(mean.T)
                add(result, Z, atoms.column, s * p, leads, lift)
        return with_ridge(result.to(self.drawn.weight.dtype), block, atoms, atoms)

    def cross_hessian(self, block, atoms, others):
        """The Hessian's columns for a few other atoms, (n_atoms, n_others).

        As 1_S(k) - 1_S(y) and its size depend on the class only, they are made of the products
        Σ_i s_i p_ik x_ij (u_ik - ū_i)ᵀ and Σ_i s_i p_ik (u_ik - ū_i)ᵀ.
        """
        n_others = len(others.column)
        result = torch.zeros(
            len(atoms.column), n_others, dtype=self._dtype, device=self.drawn.weight.device
        )
        width = block.n_columns, self.n_classes * n_others
        for label, Z, parts in self._pieces(block, *width):
            leads, lifts = self._exponents(block, atoms, label)
            other_leads, other_lifts = self._exponents(block, others, label)
            own = take_columns(Z, others.column)
            for p, s, is_lifted in parts:
                # (n_samples, n_classes, n_others)
                change = own[:, None] * other_leads.T
                if is_lifted:
                    change += other_lifts.T
                change -= torch.einsum("ki,iko->io", p, change)[:, None]
                change *= (s * p).T[:, :, None]
                along = (Z.T @ change.flatten(1)).unflatten(1, change.shape[1:])
                result += torch.einsum("ak,ako->ao", leads, along[atoms.column])
                if is_lifted:
                    result += lifts @ change.sum(0)
        return with_ridge(result.to(self.drawn.weight.dtype), block, atoms, others)

    @property
    def _dtype(self):
        return torch.float32 if self.is_rough else self.drawn.weight.dtype

    def _pieces(self, block, width, width_of_few):
        """Samples of one class: the class, their features, and p, s and lifting of both parts.

        At most so many entries a sample are needed, or so many where there are few samples.
        """
        for label in range(self.n_classes):
            own = torch.arange(*self.drawn.ends[label : label + 2], device=self.drawn.weight.device)
            held = width if len(own) > _MANY_SAMPLES else width_of_few
            for piece in own.split(max(_HELD_ENTRIES // max(held, 1), 1)):
                parts = []
                for share, probability, is_lifted in self.drawn.parts:
                    p = probability[:, piece].to(self._dtype)
                    p[label] = 0
                    p[p <= (_LEAST_PROBABILITY if self.is_rough else 0.0)] = 0
                    parts.append((p, (share * self.drawn.weight[piece]).to(self._dtype), is_lifted))
                yield label, self.drawn.dense(block, piece, self._dtype), parts

    def _exponents(self, block, atoms, label):
        """1_S(k) - 1_S(y), and ε_j times its size, for a class y: (n_atoms, n_classes)."""
        leads = (atoms.member - atoms.member[:, label, None]).to(self._dtype)
        return leads, (leads.abs() * block.epsilon[atoms.column, None]).to(self._dtype)


def with_ridge(result, block, atoms, others):
    """Columns of a Hessian, to which the ridge's part is added."""
    if block.problem.has_ridge:
        member = atoms.member - atoms.member.mean(1, keepdim=True)
        same = atoms.column[:, None] == others.column
        result += same * block.ridge[others.column] * (member @ others.member.T)
    return result


def hessian(point, atoms):
    """The Hessian of the objective at a `ClassPoint`, (n_atoms, n_atoms).

    For large data it is an estimate: samples are drawn with a probability in proportion to
    s_i (1 - p_iy), and weighted by its inverse. Small p_ik are left out of both terms, which leaves
    it positive semidefinite.
    """
    return Sample.of(point, len(atoms.column)).hessian(point.block, atoms)


def _add_by_class(result, Z, column, weight, leads, lifts):
    """Add Σ_ik weight_ki u_ik u_ikᵀ over samples of one class, in the atoms that tell k from it."""
    for k in range(len(weight)):
        rows = weight[k].nonzero().squeeze(1)
        atoms = leads[:, k].nonzero().squeeze(1)
        if not len(rows) or not len(atoms):
            continue
        # As leads are ±1, x lead + lift = (x + lift lead) lead.
        sign = leads[atoms, k]
        change = take_columns(Z[rows], column[atoms])
        change += lifts[atoms, k] * sign
        change *= weight[k, rows].sqrt()[:, None]
        result[atoms[:, None], atoms] += gram(change.T) * torch.outer(sign, sign)


def _add_at_once(result, Z, column, weight, leads, lifts):
    """The same for few samples, in all atoms."""
    k, rows = weight.nonzero().unbind(1)
    change = take_columns(Z[rows], column) * leads.T[k] + lifts.T[k]
    change *= weight[k, rows].sqrt()[:, None]
    result += gram(change.T)
