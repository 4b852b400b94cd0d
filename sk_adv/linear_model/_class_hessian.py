"""The Hessian of the bound of several classes, in the amounts of atoms."""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._blocks import take_columns

# Operations above which the Hessian comes from a part of the samples, in single precision.
_MANY_OPERATIONS = 2**30
# Of large data, as many samples are drawn: so many an atom, and so many more.
_ROWS_PER_ATOM, _MORE_ROWS = 10, 3000
# Of large data, a sample does not count for a class of a smaller probability.
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
    problem : ClassProblem
    rows : torch.Tensor of shape (n_drawn,)
        In the order of the classes.
    weight : torch.Tensor of shape (n_drawn,)
        Their weights s_i, divided by the chance of being drawn.
    parts : list
        As `ClassPoint.parts`, on these samples.
    is_rough : bool
        Whether to compute in single precision and without small probabilities.
    """

    problem: object
    rows: torch.Tensor
    weight: torch.Tensor
    parts: list
    is_rough: bool

    @classmethod
    def of(cls, point, n_atoms):
        """The samples for a Hessian of so many atoms: all, or of large data some."""
        problem = point.problem
        is_large = len(problem.weight) * problem.n_classes * n_atoms**2 > _MANY_OPERATIONS
        n_drawn = _ROWS_PER_ATOM * n_atoms + _MORE_ROWS
        rows, weight = _draw(point, n_drawn) if is_large else _all(problem)
        parts = [(share, p[:, rows], is_lifted) for share, p, is_lifted in point.parts]
        return cls(problem, rows, weight, parts, is_large)

    def hessian(self, block, atoms, new=slice(None)):
        """The Hessian in the amounts of atoms of a block; only the columns of the `new` ones.

        With u_ik the derivative of the exponent of class k of sample i in the amounts,

            u_ik = (1_S(k) - 1_S(y_i)) x_ij + ε_j |1_S(k) - 1_S(y_i)|    for the atom (j, S),

        and ū_i = Σ_k p_ik u_ik, it is Σ_i s_i (Σ_k p_ik u_ik u_ikᵀ - ū_i ū_iᵀ), and the ridge's
        part.
        """
        problem = self.problem
        # The radii and the ridge are those of the point.
        block = replace(block, problem=problem)
        size = len(atoms.column)
        new = torch.arange(size, device=self.rows.device)[new]
        dtype = torch.float32 if self.is_rough else self.weight.dtype
        least = _LEAST_PROBABILITY if self.is_rough else 0.0
        result = torch.zeros(size, len(new), dtype=dtype, device=self.weight.device)
        for label in range(problem.n_classes):
            first, last = problem.ends[label : label + 2]
            own = ((self.rows >= first) & (self.rows < last)).nonzero().squeeze(1)
            leads = (atoms.member - atoms.member[:, label, None]).to(dtype)
            lifts = (leads.abs() * block.epsilon[atoms.column, None]).to(dtype)
            held = max(size, block.n_columns)
            held = held if len(own) > _MANY_SAMPLES else size * problem.n_classes
            for part in own.split(max(_HELD_ENTRIES // max(held, 1), 1)):
                Z = block.Z.dense(self.rows[part], dtype)
                add = _add_by_class if len(part) > _MANY_SAMPLES else _add_at_once
                for share, probability, is_lifted in self.parts:
                    p = probability[:, part].to(dtype)
                    p[label] = 0
                    p[p <= least] = 0
                    s = (share * self.weight[part]).to(dtype)
                    lift = lifts if is_lifted else torch.zeros_like(lifts)
                    mean = take_columns(Z, atoms.column)
                    mean *= p.T @ leads.T
                    mean += p.T @ lift.T
                    mean *= s.sqrt()[:, None]
                    result -= _gram(mean, new)
                    add(result, Z, atoms.column, s * p, leads, lift, new)
        result = result.to(self.weight.dtype)
        if problem.has_ridge:
            member = atoms.member - atoms.member.mean(1, keepdim=True)
            same = atoms.column[:, None] == atoms.column[new]
            result += same * block.ridge[atoms.column[new]] * (member @ member[new].T)
        return result


def hessian(point, atoms):
    """The Hessian of the objective at a `ClassPoint`, (n_atoms, n_atoms).

    For large data it is an estimate: samples are drawn with a probability in proportion to
    s_i (1 - p_iy), and weighted by its inverse. Small p_ik are left out of both terms, which leaves
    it positive semidefinite.
    """
    return Sample.of(point, len(atoms.column)).hessian(point.block, atoms)


def _add_by_class(result, Z, column, weight, leads, lifts, new):
    """Add Σ_ik weight_ki u_ik u_ikᵀ over samples of one class, in the atoms that tell k from it."""
    position = torch.full_like(column, -1)
    position[new] = torch.arange(len(new), device=new.device)
    for k in range(len(weight)):
        rows = weight[k].nonzero().squeeze(1)
        atoms = leads[:, k].nonzero().squeeze(1)
        target = position[atoms]
        chosen = (target >= 0).nonzero().squeeze(1)
        if not len(rows) or not len(chosen):
            continue
        # As leads are ±1, x lead + lift = (x + lift lead) lead.
        sign = leads[atoms, k]
        change = take_columns(Z[rows], column[atoms])
        change += lifts[atoms, k] * sign
        change *= weight[k, rows].sqrt()[:, None]
        gram = _gram(change, chosen) * torch.outer(sign, sign[chosen])
        result[atoms[:, None], target[chosen]] += gram


def _add_at_once(result, Z, column, weight, leads, lifts, new):
    """The same for few samples, in all atoms."""
    k, rows = weight.nonzero().unbind(1)
    change = take_columns(Z[rows], column) * leads.T[k] + lifts.T[k]
    change *= weight[k, rows].sqrt()[:, None]
    result += _gram(change, new)


def _gram(matrix, new):
    """matrix.T @ matrix[:, new]; NumPy makes use of the symmetry."""
    if len(new) < matrix.shape[1]:
        return matrix.T @ take_columns(matrix, new)
    if matrix.device.type == "cpu":
        return torch.from_numpy(matrix.numpy().T @ matrix.numpy())
    return matrix.T @ matrix


def _all(problem):
    return torch.arange(len(problem.weight), device=problem.weight.device), problem.weight


def _draw(point, n_drawn):
    """Rows in their order, drawn systematically, and their weights s_i / probability_i."""
    problem = point.problem
    importance = torch.zeros_like(problem.weight)
    for share, probability, _ in point.parts:
        own = probability.gather(0, problem.labels[None])[0]
        importance += share * problem.weight * (1 - own)
    if n_drawn >= len(importance):
        return _all(problem)
    # No probability exceeds 1: what is cut off goes to the others.
    factor = n_drawn / importance.sum()
    for _ in range(10):
        chance = (factor * importance).clamp(max=1)
        factor *= n_drawn / chance.sum()
    chance = (factor * importance).clamp(max=1)
    passed = (chance.cumsum(0) + 0.5).floor()
    rows = (passed.diff(prepend=passed.new_zeros(1)) > 0).nonzero().squeeze(1)
    return rows, problem.weight[rows] / chance[rows]
