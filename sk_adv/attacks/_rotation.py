"""Rotation of samples towards the gradient of the loss."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv._perturbations import by_largest, euclidean_norm, largest_entry
from sk_adv.attacks._engine import perturb_batches
from sk_adv.attacks._objective import log_odds_against

# Steps of the bisection for the angle; 52 reach the precision of float64.
_N_BISECTIONS = 52


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

    where θ ≤ π/2 is the angle with ‖(x̃ - x) / ε‖ = 1, or π/2 if no smaller angle reaches this
    radius. The copy has the Euclidean norm of x. With `norm=2` and one ε for all features,
    θ = 2 arcsin(ε / (2 ‖x‖₂)). Features of radius 0 are left out of the rotation. If x or u is 0,
    then x̃ = x.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Samples are rotated about the origin, so its position should be meaningful.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=2
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped. A clipped copy no longer has the norm of
        x.

    targeted : bool, default=False
        Whether y holds the classes to move towards; the loss is then lowered.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

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
        If X is sparse, or the module's output does not depend on X through torch operations.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 4, which reports that rotating x by a small angle in the direction of the gradient
    reliably produces adversarial examples.

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
    return perturb_batches(
        module,
        X,
        y,
        epsilon,
        _rotate,
        norm=norm,
        bounds=bounds,
        batch_size=batch_size,
        loss=loss,
        targeted=targeted,
    )


def _rotate(objective, clean, allowed):
    """x̃ - x for the largest angle θ ≤ π/2 with ‖(x̃ - x) / ε‖ ≤ 1, found by bisection."""
    is_free = allowed.epsilon > 0
    point = clean * is_free
    # Squares of large features would overflow.
    largest = largest_entry(point).clamp(min=torch.finfo(clean.dtype).tiny)
    length = largest * euclidean_norm(point / largest)
    along = point / length.clamp(min=torch.finfo(clean.dtype).tiny)
    gradient = allowed.without_dead_ends(objective.gradient(clean), clean)
    gradient = by_largest(gradient * is_free)
    features = tuple(range(1, clean.ndim))
    across = gradient - along * (gradient * along).sum(features, keepdim=True)
    across = torch.nan_to_num(across / euclidean_norm(across))

    def rotated(angle):
        # 1 - cos θ = 2 sin²(θ/2), without cancellation.
        return length * (across * angle.sin() - along * 2 * (angle / 2).sin() ** 2)

    low = torch.zeros_like(length)
    high = torch.full_like(length, math.pi / 2)
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        fits = allowed.norm_of(rotated(middle)) <= 1
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    # Without an orthogonal direction, the formula would shrink the sample towards 0.
    turned = rotated(low)
    # Beyond the range of the floating-point numbers nothing is known.
    has_turned = (euclidean_norm(across) > 0) & largest_entry(turned).isfinite()
    return torch.where(has_turned, turned, torch.zeros_like(clean))
