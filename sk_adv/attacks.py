"""Attacks: functions of a torch module and data that return adversarial copies of the data.

Each attack maximises, over ‖η / ε‖ ≤ 1, a loss; by default the log-odds against the true class,

    t(x) = log((1 - p_y) / p_y) = log Σ_{k≠y} exp z_k - z_y ,

of the module's logits z. The cross-entropy is ζ(t), an increasing function of t, so its gradient
is that of t times a positive number; this drops out of the sign and of the normalised gradient.
Working on t keeps the direction exact where p_y rounds to 1 and the gradient of the
cross-entropy is lost in floating point.
"""

import functools
from collections.abc import Callable
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor, nn

from sk_adv._devices import module_device_and_dtype, to_numpy
from sk_adv._perturbations import clip, project, steepest_step, uniform_sample
from sk_adv._validation import check_bounds, check_dense, check_epsilon, check_norm

__all__ = ["fgsm", "log_odds_against", "pgd"]

NO_GRADIENT = (
    "The module's output does not depend on its input by differentiable torch operations, "
    "so it has no gradient to attack along."
)


def log_odds_against(logits: Tensor, y: Tensor) -> Tensor:
    """Log-odds against the true class, log((1 - p_y) / p_y), where p is the softmax of the logits.

    Parameters
    ----------
    logits : torch.Tensor of shape (n_samples, n_classes)
        Two classes at least.

    y : torch.Tensor of shape (n_samples,), int64
        Class indices.

    Returns
    -------
    torch.Tensor of shape (n_samples,)
        Differentiable. Its softplus is the cross-entropy.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import log_odds_against
    >>> log_odds_against(torch.tensor([[0.0, 3.0]]), torch.tensor([1]))
    tensor([-3.])
    """
    index = y.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).logsumexp(1)
    return others - logits.gather(1, index).squeeze(1)


def fgsm(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    batch_size: int = 1000,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Fast gradient sign method: one step of radius ε along the gradient of the loss.

    With J the cross-entropy of the module's logits, or another `loss`,

        η = ε sign(∇ₓ J(x, y))                      for the max-norm,
        η = ε ∘ (ε ∘ ∇ₓJ) / ‖ε ∘ ∇ₓJ‖₂               for the Euclidean norm,

    and x + η is returned. A zero gradient gives η = 0. For two-class models that are linear in x
    this is the exact worst case (with `norm=2`, as long as no `bounds` clip the copies).

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n_samples, ...) to logits of shape (n_samples, n_classes). It is called in the mode
        it is in: call `module.eval()` first if dropout or batch statistics must not act.
        `as_module` makes one of a scikit-learn estimator.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data. Integers become the module's floating type.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices from 0 to n_classes - 1 to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X, one for all features or one a feature; 0 marks a feature that
        can't be changed.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation, ‖η / ε‖ ≤ 1.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, scalars or arrays of the shape of one sample, to which the copies are
        clipped.

    batch_size : int, default=1000
        Samples that go through the module at once.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample. The default
        has the direction of the cross-entropy.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        A tensor, on X's device, if X is one; else an array.

    Raises
    ------
    ValueError
        If `epsilon`, `norm`, `bounds` or `batch_size` is invalid, X holds NaN or infinity, or y
        does not fit X and the module.
    TypeError
        If X is sparse, or the module's output does not depend on X by torch operations.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
    section 4.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import fgsm
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> fgsm(module, [[1.0, 0.0]], [1], epsilon=0.5)
    array([[0.5, 0.5]])
    """

    def step(logits, clean, target, radius):
        return steepest_step(_gradient(loss, logits, clean, target), radius, norm)

    return _perturb(module, X, y, epsilon, norm, bounds, batch_size, step)


def pgd(
    module: nn.Module,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    epsilon: ArrayLike,
    *,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    n_steps: int = 40,
    step_size: ArrayLike | None = None,
    random_start: bool = True,
    n_restarts: int = 1,
    random_state: int | np.random.RandomState | None = None,
    batch_size: int = 1000,
    loss: Callable[[Tensor, Tensor], Tensor] = log_odds_against,
) -> np.ndarray | Tensor:
    """Projected gradient descent: small steps of `fgsm`, kept within the radius ε of X.

    Each step is x ← clip(Π(x + s sign(∇ₓJ(x, y)))), with Π the projection on ‖η / ε‖ ≤ 1; with
    `norm=2` the normalised gradient takes the place of the sign. With one step of size ε and no
    random start it is `fgsm`.

    Parameters
    ----------
    module : torch.nn.Module
        As in `fgsm`.

    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        The clean data.

    y : array-like or torch.Tensor of shape (n_samples,)
        Class indices to move away from.

    epsilon : float or array-like of the shape of one sample
        Radius in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which every iterate is clipped.

    n_steps : int, default=40
        Number of gradient steps of each start.

    step_size : float or array-like of the shape of one sample, default=None
        Radius of one step in the units of X; None means 2.5 ε / n_steps.

    random_start : bool, default=True
        Start from a point drawn uniformly from the perturbation set, in place of X.

    n_restarts : int, default=1
        Number of starts; the copy with the largest loss among their last iterates is kept.

    random_state : int, RandomState instance or None, default=None
        Seeds the random starts.

    batch_size : int, default=1000
        Samples that go through the module at once.

    loss : callable, default=log_odds_against
        A function of logits and class indices that gives the loss J of each sample. The default
        has the direction of the cross-entropy.

    Returns
    -------
    ndarray or torch.Tensor of the shape of X
        The adversarial copies, as in `fgsm`.

    Raises
    ------
    ValueError
        If a parameter is invalid, or `n_restarts` > 1 without `random_start`.
    TypeError
        If X is sparse, or the module's output does not depend on X by torch operations.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2.1.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import pgd
    >>> module = torch.nn.Linear(2, 2, bias=False)
    >>> _ = module.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    >>> pgd(module, [[1.0, 0.0]], [1], epsilon=0.5, random_state=0)
    array([[0.5, 0.5]])
    """
    _check_count(n_steps, "n_steps")
    _check_count(n_restarts, "n_restarts")
    if n_restarts > 1 and not random_start:
        raise ValueError(
            f"n_restarts={n_restarts} needs random_start=True: "
            "without it every restart walks the same path."
        )
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    generators = {}

    def one_start(logits, clean, target, radius, length, low_high):
        perturbation = torch.zeros_like(clean)
        if random_start:
            device = clean.device
            if device not in generators:
                generators[device] = torch.Generator(device=device).manual_seed(seed)
            perturbation = uniform_sample(
                clean.shape, radius, norm, generator=generators[device], dtype=clean.dtype
            )
            perturbation = clip(clean + perturbation, low_high) - clean
        for _ in range(n_steps):
            gradient = _gradient(loss, logits, clean + perturbation, target)
            perturbation = perturbation + steepest_step(gradient, length, norm)
            perturbation = project(perturbation, radius, norm)
            perturbation = clip(clean + perturbation, low_high) - clean
        return perturbation

    def step(logits, clean, target, radius):
        feature_shape = clean.shape[1:]
        length = 2.5 / n_steps * radius
        if step_size is not None:
            length = radius.new_tensor(check_epsilon(step_size, feature_shape, "step_size"))
        low_high = check_bounds(bounds, feature_shape)
        worst = one_start(logits, clean, target, radius, length, low_high)
        if n_restarts == 1:
            return worst
        with torch.no_grad():
            worst_loss = loss(logits(clean + worst), target)
        for _ in range(n_restarts - 1):
            candidate = one_start(logits, clean, target, radius, length, low_high)
            with torch.no_grad():
                candidate_loss = loss(logits(clean + candidate), target)
            better = (candidate_loss > worst_loss).reshape(-1, *[1] * (clean.ndim - 1))
            worst = torch.where(better, candidate, worst)
            worst_loss = torch.maximum(candidate_loss, worst_loss)
        return worst

    return _perturb(module, X, y, epsilon, norm, bounds, batch_size, step)


def _perturb(module, X, y, epsilon, norm, bounds, batch_size, step):
    """Validate, run `step(logits, clean, y, radius) -> perturbation` by batches, add and clip."""
    check_norm(norm)
    _check_count(batch_size, "batch_size")
    check_dense(X, "An attack")
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module must be a torch.nn.Module; got {type(module).__name__}. "
            "sk_adv.as_module turns a fitted scikit-learn estimator into one."
        )
    device, dtype = module_device_and_dtype(module)
    clean = _as_numbers(X, "X").detach()
    if not clean.is_floating_point():
        clean = clean.to(dtype)
    if clean.ndim < 2 or not len(clean):
        raise ValueError(
            "X must have shape (n_samples, n_features) with at least one sample; "
            f"got {tuple(clean.shape)}."
        )
    radius = check_epsilon(epsilon, clean.shape[1:])
    low_high = check_bounds(bounds, clean.shape[1:])
    if not torch.isfinite(clean).all():
        raise ValueError("X must be finite; it contains NaN or infinity.")
    labels = check_labels(y, len(clean))
    logits = functools.partial(checked_logits, module, n_labels=int(labels.max()) + 1)

    target_device = device if device is not None else clean.device
    radius = torch.as_tensor(radius, dtype=dtype, device=target_device)
    adversarial = torch.empty_like(clean)
    for start in range(0, len(clean), batch_size):
        rows = slice(start, start + batch_size)
        batch = clean[rows].to(target_device, dtype)
        perturbation = step(logits, batch, labels[rows].to(target_device), radius)
        # Added in X's own precision, which may be finer than the module's.
        adversarial[rows] = clip(clean[rows] + perturbation.to(clean), low_high)
    return adversarial if isinstance(X, Tensor) else to_numpy(adversarial)


def _gradient(loss, logits, X, y):
    """∇ₓJ(x); of the log-odds it is the gradient of the cross-entropy up to a positive factor."""
    X = X.detach().requires_grad_(True)
    with torch.enable_grad():
        total = loss(logits(X), y).sum()
    if not total.requires_grad:
        raise TypeError(NO_GRADIENT)
    (gradient,) = torch.autograd.grad(total, X, allow_unused=True, materialize_grads=True)
    return gradient


def _as_numbers(values, name):
    """A tensor of real numbers: the one that is given, or a copy of the array."""
    if isinstance(values, Tensor) and not values.is_complex():
        return values
    array = np.array(to_numpy(values), copy=True)
    if array.dtype.kind not in "fiub":
        meaning = {"X": "real numbers", "y": "class indices from 0 on, not class names"}[name]
        raise TypeError(f"{name} must hold {meaning}; got an array of dtype {array.dtype}.")
    return torch.from_numpy(array)


def checked_logits(module, X, *, n_labels):
    try:
        logits = module(X)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"module can't take X in batches of shape {tuple(X.shape)}: {error}"
        ) from error
    # As skorch does, the first of several outputs.
    logits = logits[0] if isinstance(logits, tuple) else logits
    if logits.isnan().any():
        raise ValueError("module returned NaN for a finite X, so there is no loss to increase.")
    if logits.ndim != 2 or logits.shape[1] < max(n_labels, 2):
        raise ValueError(
            f"module must return logits of shape (n_samples, n_classes) with at least "
            f"{max(n_labels, 2)} classes for this y; got shape {tuple(logits.shape)}."
        )
    return logits


def check_labels(y, n_samples):
    labels = _as_numbers(y, "y")
    if labels.shape != (n_samples,):
        raise ValueError(
            f"y must have shape ({n_samples},), one class index a sample; "
            f"got shape {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"y must hold integer class indices; got dtype {labels.dtype}.")
    labels = labels.long()
    if int(labels.min()) < 0:
        raise ValueError(f"y must hold class indices from 0 on; got {int(labels.min())}.")
    return labels


def _check_count(value, name):
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
