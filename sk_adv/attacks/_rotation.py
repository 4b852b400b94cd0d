"""Rotation of samples towards the gradient of the loss."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv._perturbations import by_largest, euclidean_norm
from sk_adv.attacks._engine import perturb_batches
from sk_adv.attacks._objective import log_odds_against

# Halvings of the angle's interval, to the precision of float64.
_N_HALVINGS = 52


def rotate_towards_gradient(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = 2,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    targeted: bool = False,
    batch_size: int | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Rotate each sample about the origin towards the gradient, until it has moved by the radius ε.

    In the plane of x and g = ∇ₓ J(x, y), with u the unit vector along the part of g that is
    orthogonal to x,

        x̃ = x cos θ + ‖x‖₂ u sin θ ,

    where θ ≤ π/2 makes ‖(x̃ - x) / ε‖ = 1, or is π/2 if no smaller angle reaches it. The copy has
    the Euclidean norm of x. With `norm=2` and one ε, θ = 2 arcsin(ε / (2 ‖x‖₂)). Features of radius
    0 take no part in the rotation. Where x or u is 0, x̃ = x.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data, in coordinates whose origin has a meaning.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=2
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped; clipped copies are no longer of the
        norm of x.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then lowered.

    batch_size : int or None, default=None
        Samples that go through the module at once, as in `fgsm`.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The rotated copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid, or X holds infinity.
    TypeError
        If X is sparse, or the module's output does not depend on X by torch operations.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 4: rotating x by a small angle in the direction of the gradient makes adversarial
    examples reliably.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import rotate_towards_gradient
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    >>> copy = rotate_towards_gradient(module, [[1.0, 0.0]], [1], epsilon=2**0.5)
    >>> copy.round(6) + 0.0
    array([[0., 1.]])
    """

    def attack(objective, clean, allowed):
        moves = allowed.epsilon > 0
        gradient = objective.gradient(clean) * moves
        point = clean * moves
        length = euclidean_norm(point)
        along = point / length.clamp(min=torch.finfo(clean.dtype).tiny)
        gradient = by_largest(gradient)
        features = tuple(range(1, clean.ndim))
        across = gradient - along * (gradient * along).sum(features, keepdim=True)
        across = torch.nan_to_num(across / euclidean_norm(across))

        def moved(angle):
            return length * (across * angle.sin() - along * 2 * (angle / 2).sin() ** 2)

        low = torch.zeros_like(length)
        high = torch.full_like(length, math.pi / 2)
        for _ in range(_N_HALVINGS):
            middle = (low + high) / 2
            fits = allowed.norm_of(moved(middle)) <= 1
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        # Where there is nothing to turn towards, the sample would turn into nothing.
        return torch.where(euclidean_norm(across) > 0, moved(low), torch.zeros_like(clean))

    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        attack,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )
