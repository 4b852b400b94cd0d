"""The exact worst-case attack on linear models; `sk_adv.attacks._trees` has that on trees."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv.attacks._engine import perturb_batches
from sk_adv.differentiable import Enclosure
from sk_adv.differentiable._intervals import enclose_linear
from sk_adv.differentiable._linear import NotLinearError


def exact(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    time_limit: float = 10.0,
    n_jobs: int | None = None,
) -> np.ndarray | Tensor:
    """The worst perturbation of a linear model, for any number of classes.

    For the rival k of a sample's class y the problem is linear: η maximises (w_k - w_y)ᵀη over
    ‖η / ε‖ <= 1 and `bounds`, in closed form. The rival with the largest z_k - z_y at x + η
    is taken.

    Through `sk_adv.attacks.perturb` and the scores it attacks tree models as well, those for which
    `sk_adv.tree.as_trees` has a rule. There it is a search for a misclassified copy, by a
    mixed-integer program; a sample around which there is none, or none was found in the time
    given, stays as it is.

    Parameters
    ----------
    module : torch.nn.Module
        A module that is linear in its input, up to functions that keep the order of the logits.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Samples outside of `bounds` are first brought into them.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like
        Radius in the units of X: one number, or numbers that broadcast to one sample.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, which the copies keep.

    targeted : bool, default=False
        Whether y holds the classes to move towards; for two classes only.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    time_limit : float, default=10.0
        For tree models: seconds of search for each sample. A linear model needs no search.

    n_jobs : int or None, default=None
        For tree models: number of processes, as in scikit-learn.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies, as in `fgsm`.

    Raises
    ------
    TypeError
        If the module is not linear.
    ValueError
        If a parameter is invalid, or `targeted` is used with more than two classes.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import exact
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> exact(module, [[1.0, 0.0]], [1], epsilon=0.5)
    array([[0.5, 0.5]])
    """

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        worst_of_linear,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        targeted=targeted,
    )


@torch.no_grad()
def is_linear(objective, clean, allowed):
    """Whether `worst_of_linear` takes a batch."""
    try:
        one = objective.restricted_to(torch.arange(1, device=clean.device))
        worst_of_linear(one, clean[:1], allowed)
    except (NotLinearError, ValueError, RuntimeError):
        return False
    return True


@torch.no_grad()
def worst_of_linear(objective, clean, allowed):
    """The perturbation of the rival with the largest z_k - z_y; `NotLinearError` without one."""
    if objective.missing is not None:
        clean = clean.masked_fill(objective.missing, torch.nan)
    labels = objective.labels
    if objective.targeted:
        n_classes = objective.logits(clean[:1]).shape[1]
        if n_classes > 2:
            raise ValueError(
                "attack='exact' supports a target only with two classes; got "
                f"{n_classes} classes. Use attack='pgd'."
            )
        labels = 1 - labels
    region = enclose_linear(objective.module, Enclosure.of(clean, allowed))
    worst = clean.new_full((len(clean),), -torch.inf)
    perturbation = torch.zeros_like(clean).flatten(1)
    for gap, gain, candidate in region.rivals(labels):
        better = gap + gain > worst
        worst = torch.where(better, gap + gain, worst)
        perturbation = torch.where(better[:, None], candidate, perturbation)
    return perturbation.view_as(clean)
