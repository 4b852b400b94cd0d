"""Random noise of the same radius as an attack, as the control experiment."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_adv.attacks._engine import perturb_batches, seeded_generators


def uniform_noise(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    random_state: int | np.random.RandomState | None = None,
    batch_size: int | None = None,
) -> np.ndarray | Tensor:
    """Noise drawn uniformly from the perturbation set.

    With the max-norm each feature changes independently by U(-ε, ε). With the Euclidean norm the
    perturbation is uniform in the ball, or in the ellipsoid if there is one radius per feature.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`. The noise is drawn on its device and in its precision; it is never called.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices. They are checked, but do not affect the noise.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    random_state : int, RandomState instance or None, default=None
        Seeds the noise.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The noisy copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid, or X holds infinity.
    TypeError
        If X is sparse.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 6.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import uniform_noise
    >>> copies = uniform_noise(torch.nn.Linear(2, 2), torch.zeros(500, 2), [0] * 500, epsilon=0.5)
    >>> bool(copies.abs().max() <= 0.5), bool(copies.abs().mean() < 0.3)
    (True, True)
    """
    return _noise("uniform_sample", module, X, y, epsilon, norm, bounds, random_state, batch_size)


def sign_noise(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    random_state: int | np.random.RandomState | None = None,
    batch_size: int | None = None,
) -> np.ndarray | Tensor:
    """Noise of size ε with random signs.

    With the max-norm each feature changes by ε or -ε with equal probability. With the Euclidean
    norm it changes by ε / √d or -ε / √d, where d is the number of features with a positive radius.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`. The noise is drawn on its device and in its precision; it is never called.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices. They are checked, but do not affect the noise.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    random_state : int, RandomState instance or None, default=None
        Seeds the noise.

    batch_size : int or None, default=None
        Number of samples per batch, as in `fgsm`.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The noisy copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid, or X holds infinity.
    TypeError
        If X is sparse.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 6.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import sign_noise
    >>> copies = sign_noise(torch.nn.Linear(2, 2), torch.zeros(500, 2), [0] * 500, epsilon=0.5)
    >>> copies.abs().unique()
    tensor([0.5000])
    """
    return _noise("sign_sample", module, X, y, epsilon, norm, bounds, random_state, batch_size)


def _noise(method, module, X, y, epsilon, norm, bounds, random_state, batch_size):
    """Perturb X by the method of `PerturbationSet` that draws the noise."""
    generator_on = seeded_generators(random_state)

    def attack(objective, clean, allowed):
        draw = getattr(allowed, method)
        return draw(clean.shape, generator=generator_on(clean.device), dtype=clean.dtype)

    return perturb_batches(
        module, X, y, epsilon, attack, norm=norm, bounds=bounds, batch_size=batch_size
    )
