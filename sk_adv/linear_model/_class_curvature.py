"""The Hessian of the bound of several classes, kept over Newton steps and corrected by them."""

from dataclasses import dataclass, field

import torch

from sk_adv.linear_model._class_hessian import Sample
from sk_adv.linear_model._class_sets import Atoms, Derivatives

# As many steps correct the Hessian; earlier ones are forgotten.
_CORRECTIONS = 10
# A step along which less than this share of the expected curvature is found corrects nothing.
_LEAST_ENERGY = 1e-3


@dataclass
class Correction:
    """A step, and the derivatives before and after it."""

    position: torch.Tensor
    move: torch.Tensor
    before: Derivatives
    after: Derivatives


@dataclass
class ClassCurvature:
    """The Hessian at an earlier point, on the atoms that were asked for since.

    New atoms are added with the samples and probabilities of that point, which keeps the matrix
    positive semidefinite. Each step since then corrects it. Source: the update of Broyden,
    Fletcher, Goldfarb and Shanno (1970).

    Attributes
    ----------
    sample : Sample
    total : torch.Tensor of shape ()
        The sum of the loss's curvatures at the point.
    atoms : Atoms
    hessian : torch.Tensor of shape (n_atoms, n_atoms)
    corrections : list of Correction
    """

    sample: Sample
    total: torch.Tensor
    atoms: Atoms
    hessian: torch.Tensor
    corrections: list = field(default_factory=list)

    @classmethod
    def measured(cls, point, atoms, needs_all=False):
        """The Hessian at a point; of large data from drawn samples, unless it needs all."""
        sample = point.samples.whole() if needs_all else Sample.of(point, len(atoms.column))
        return cls(sample, point.total_curvature, atoms, sample.hessian(point.block, atoms))

    def on(self, point, atoms):
        """An estimate of the Hessian at a point on some atoms, (n_atoms, n_atoms)."""
        if any(len(c.before.epsilon) < point.block.n_columns for c in self.corrections):
            # Their slopes in new columns are not known.
            self.corrections = []
        position = self._positions(point.block, atoms)
        result = point.total_curvature / self.total * self.hessian
        for correction in self.corrections:
            self._correct(result, correction)
        return result[position[:, None], position]

    def _positions(self, block, atoms):
        """Where these atoms are in the Hessian; it grows by those that it lacks."""
        own, order = _keys(self.atoms).sort()
        keys = _keys(atoms)
        nearest = torch.searchsorted(own, keys).clamp(max=len(own) - 1)
        is_new, position = own[nearest] != keys, order[nearest]
        n_old, n_new = len(own), int(is_new.sum())
        if n_new:
            self.atoms = self.atoms.joined(atoms, is_new)
            position[is_new] = torch.arange(n_old, n_old + n_new, device=keys.device)
            columns = self.sample.cross_hessian(block, self.atoms, atoms.taken(is_new))
            left = torch.cat([self.hessian, columns[:n_old].T])
            self.hessian = torch.cat([left, columns], dim=1)
        return position

    def add(self, atoms, move, before, after):
        """Take account of a step from one `ClassPoint` to another."""
        position = self._positions(before.block, atoms)
        correction = Correction(position, move, before.derivatives, after.derivatives)
        self.corrections = [*self.corrections, correction][-_CORRECTIONS:]

    def _correct(self, hessian, correction):
        position, move = correction.position, correction.move
        change = correction.after.slopes(self.atoms) - correction.before.slopes(self.atoms)
        along = hessian[:, position] @ move
        energy, expected = move @ change[position], move @ along[position]
        # Sets that are nested again after a step may hide its curvature.
        if energy > _LEAST_ENERGY * expected > 0:
            hessian.addr_(change, change / energy)
            hessian.addr_(along, along / expected, alpha=-1)


def _keys(atoms):
    """An integer for each atom; the chance that two of them have the same is negligible."""
    generator = torch.Generator().manual_seed(0)
    size = atoms.member.shape[1] + 1
    codes = torch.randint(-(2**62), 2**62, (size,), generator=generator).to(atoms.column.device)
    return (atoms.member.long() * codes[1:]).sum(1) + atoms.column * codes[0]
