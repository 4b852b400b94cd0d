"""Draws of samples of several classes, from which a Hessian is estimated."""

from dataclasses import dataclass

import torch


@dataclass
class DrawnRows:
    """Some samples of a `ClassRows`, with their probabilities at a point.

    Attributes
    ----------
    rows : torch.Tensor of shape (n_drawn,)
        In the order of the classes.
    ends : list of int, of n_classes + 1 entries
        Class k has the drawn samples ends[k] to ends[k + 1] - 1.
    weight : torch.Tensor of shape (n_drawn,)
        Their weights s_i, divided by the chance of being drawn.
    parts : list
        As `ClassSamples.parts`, on these samples.
    """

    rows: torch.Tensor
    ends: list
    weight: torch.Tensor
    parts: list

    def dense(self, block, positions, dtype):
        """The features of a block, of some of these samples."""
        return block.columns.dense(self.rows[positions], dtype)


def chances(importance, n_drawn):
    """Probabilities in proportion to importance, but for those that would exceed 1."""
    # The rest of a share that is cut off goes to the others.
    factor = n_drawn / importance.sum()
    for _ in range(10):
        chance = (factor * importance).clamp(max=1)
        factor *= n_drawn / chance.sum()
    return (factor * importance).clamp(max=1)


def passed(chance, before=0.0):
    """How many samples a systematic draw has taken before each sample and after the last one."""
    sums = torch.cat([chance.new_zeros(1), chance.cumsum(0)])
    return (before + sums + 0.5).floor()
