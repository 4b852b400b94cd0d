"""The exact worst-case attack on linear models."""

import numpy as np
import torch

from sk_adv.attacks._engine import perturb_batches
from sk_adv.differentiable import Enclosure
from sk_adv.differentiable._intervals import enclose_linear


def exact(module, X, y, epsilon, *, norm=np.inf, bounds=None, targeted=False, batch_size=None):
    """Worst-case perturbation of a linear model with any number of classes.

    For each rival class k, the η that maximises z_k - z_y, that is (w_k - w_y)ᵀη, over
    ‖η / ε‖ <= 1 and `bounds` has a closed form. The attack returns the η of the rival with the
    largest maximum.

    Parameters
    ----------
    module : torch.nn.Module
        Linear in its input, up to functions that preserve the order of the logits.

    X : array-like or torch.Tensor of shape (n_samples, n_features)
        The clean data, which is first clipped to `bounds`.

    y, epsilon, norm, bounds, batch_size : see sk_adv.attacks.fgsm

    targeted : bool, default=False
        Whether y holds the classes to move towards. This needs two classes.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X

    Raises
    ------
    TypeError
        If the module is not linear.
    ValueError
        If a parameter is invalid, or `targeted` is True with more than two classes.
    """

    @torch.no_grad()
    def attack(objective, clean, allowed):
        if objective.missing is not None:
            clean = clean.masked_fill(objective.missing, torch.nan)
        labels = objective.labels
        if targeted:
            n_classes = objective.logits(clean[:1]).shape[1]
            if n_classes > 2:
                raise ValueError(
                    "attack='exact' supports a target only with two classes; got "
                    f"{n_classes} classes. Use attack='pgd'."
                )
            labels = 1 - labels
        region = enclose_linear(module, Enclosure.of(clean, allowed))
        worst = clean.new_full((len(clean),), -torch.inf)
        perturbation = torch.zeros_like(clean).flatten(1)
        for gap, gain, candidate in region.rivals(labels):
            better = gap + gain > worst
            worst = torch.where(better, gap + gain, worst)
            perturbation = torch.where(better[:, None], candidate, perturbation)
        return perturbation.view_as(clean)

    return perturb_batches(
        module, X, y, epsilon, attack, norm=norm, bounds=bounds, batch_size=batch_size
    )
