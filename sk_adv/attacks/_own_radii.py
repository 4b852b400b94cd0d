"""The attack "auto" on samples of which each has radii of its own."""

import numpy as np
import torch
from torch import nn

from sk_adv._arrays import to_tensor
from sk_adv._devices import module_device_and_dtype
from sk_adv._perturbations import PerturbationSet
from sk_adv.attacks._auto import auto
from sk_adv.attacks._table import Attack, ConfiguredAttack
from sk_adv.differentiable._composition import Chain, run

# Enough where radii are tried one after another, before the last one is attacked in full.
_QUICK = {"n_steps": 40, "n_queries": 100}


def auto_at_own_radii(
    module,
    X,
    y,
    epsilon,
    *,
    norm=np.inf,
    bounds=None,
    n_steps=100,
    n_queries=1000,
    random_state=None,
):
    """The copies of `auto`, where `epsilon` is a `PerturbationSet` with radii for each sample.

    Attacks know one radius for all samples of a batch. So they are given the perturbations in
    units of each sample's radii, and in one more slice of features the index of the sample.
    """
    own = epsilon
    values = to_tensor(X)
    clean = own.clip(values.double())
    device, _ = module_device_and_dtype(module)
    place = _Place(clean, own, values.dtype).to(device)
    inside = _OfPredictions(place, module) if hasattr(module, "predicted") else Chain(place, module)
    moves = own.largest_radii(clean.shape[1:]) > 0
    ones = torch.cat([moves.double(), torch.zeros_like(moves[:1], dtype=torch.float64)])
    units = PerturbationSet.unchecked(ones, own.norm, None)
    start = torch.zeros(len(clean), *ones.shape, dtype=torch.float64)
    start[:, -1] = torch.arange(len(clean)).reshape(-1, *[1] * (clean.ndim - 2))
    effort = {"n_steps": n_steps, "n_queries": n_queries, "random_state": random_state}
    found = auto(inside, start, y, units, **effort)
    with torch.no_grad():
        copies = place(found.to(place.clean.device)).to(values.device)
    return copies if isinstance(X, torch.Tensor) else copies.numpy()


_ENTRY = Attack(auto_at_own_radii, needs="any", takes_set=True, takes_trees=True)
AUTO_AT_OWN_RADII = ConfiguredAttack("auto", _ENTRY)
QUICK_AT_OWN_RADII = ConfiguredAttack("auto", _ENTRY, _QUICK)


class _Place(nn.Module):
    """Copies, from perturbations in units of each sample's radii and the indices of the samples."""

    def __init__(self, clean, own, dtype):
        super().__init__()
        # As the first parameters they set the precision of the attack, in which an index is exact.
        self.clean = nn.Parameter(clean, requires_grad=False)
        radii = own.epsilon.expand(clean.shape).double()
        self.radii = nn.Parameter(torch.where(clean.isnan(), 0.0, radii), requires_grad=False)
        self.bounds, self.norm, self.dtype = own.bounds, own.norm, dtype

    def forward(self, X):
        """The copies, in the precision of the samples and inside the set in it."""
        index = X[:, -1].reshape(len(X), -1)[:, 0].long()
        clean, radii = self.clean[index], self.radii[index]
        own = PerturbationSet.unchecked(radii, self.norm, self.bounds)
        copies = own.clip(clean + radii * X[:, :-1]).to(self.dtype)
        if self.norm == np.inf:
            own = own.to(clean.device, self.dtype)
            copies = torch.clamp(copies, *own.box(clean.to(self.dtype)))
        return copies


class _OfPredictions(nn.Module):
    """The predictions of an estimator at the copies."""

    has_gradient = False

    def __init__(self, place, module):
        super().__init__()
        self.place, self.module = place, module

    def forward(self, X):
        """Logits of the copies."""
        return run(self.module, self.place(X))

    def predicted(self, X):
        """The indices of the classes that `predict` gives to the copies."""
        return self.module.predicted(self.place(X))
