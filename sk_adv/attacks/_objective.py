"""What attacks climb: the loss of a module's logits, and its gradient on the input."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sk_adv._devices import to_numpy, to_tensor

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


class Objective:
    """The loss of each sample of a batch as a function of X, for attacks to raise.

    Parameters
    ----------
    module : torch.nn.Module

    labels : torch.Tensor of shape (n_samples,), int64
        Class indices: the true classes, or, if `targeted`, those to move towards.

    loss : callable
        A function of logits and class indices.

    targeted : bool
        Whether the loss is to be lowered: then its negative is what is raised.

    missing : torch.Tensor of bool of the shape of X, or None
        Entries that are NaN for the module.

    n_classes : int
        Logits that the module must have at least.
    """

    def __init__(
        self,
        module: nn.Module,
        labels: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        targeted: bool,
        missing: Tensor | None,
        n_classes: int,
    ):
        self.module = module
        self.labels = labels
        self.loss = loss
        self.targeted = targeted
        self.missing = missing
        self.n_classes = n_classes

    def of_rows(self, rows: Tensor) -> "Objective":
        """The objective of some of the samples."""
        missing = None if self.missing is None else self.missing[rows]
        return Objective(
            self.module, self.labels[rows], self.loss, self.targeted, missing, self.n_classes
        )

    def logits(self, X: Tensor) -> Tensor:
        """The module's logits at X."""
        if self.missing is not None:
            X = X.masked_fill(self.missing, torch.nan)
        return checked_logits(self.module, X, n_classes=self.n_classes)

    def of_logits(self, logits: Tensor) -> Tensor:
        """The value of each sample."""
        values = self.loss(logits, self.labels)
        return -values if self.targeted else values

    def is_reached(self, logits: Tensor) -> Tensor:
        """Whether each sample is misclassified, or classified as its target."""
        return (logits.argmax(1) == self.labels) == self.targeted

    def gradient(self, X: Tensor) -> Tensor:
        """∇ₓJ(x); of the log-odds it is that of the cross-entropy up to a positive factor."""
        X = X.detach().requires_grad_(True)
        with torch.enable_grad():
            total = self.of_logits(self.logits(X)).sum()
        if not total.requires_grad:
            raise TypeError(NO_GRADIENT)
        (gradient,) = torch.autograd.grad(total, X, allow_unused=True)
        if gradient is None:
            # The weights have a gradient, but the input is cut off from the output.
            raise TypeError(NO_GRADIENT)
        return gradient


def checked_logits(module, X, *, n_classes):
    """The module's logits, or a `ValueError` where they are no logits of so many classes."""
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
        if X.isnan().any():
            raise ValueError(
                "X holds NaN, which the model does not take: put a SimpleImputer before it."
            )
        raise ValueError("module returned NaN for a finite X, so there is no loss to increase.")
    if logits.ndim != 2 or logits.shape[1] < max(n_classes, 2):
        raise ValueError(
            f"module must return logits of shape (n_samples, n_classes) with at least "
            f"{max(n_classes, 2)} classes for this y; got shape {tuple(logits.shape)}."
        )
    return logits


def check_labels(y, n_samples):
    """Labels as int64 class indices, or an error that says what they are instead."""
    labels = as_numbers(y, "y")
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


def as_numbers(values, name):
    """A tensor of real numbers: the one that is given, or one on the array's memory."""
    if isinstance(values, Tensor) and not values.is_complex():
        return values
    array = np.asarray(to_numpy(values))
    if array.dtype.kind not in "fiub":
        meaning = {"X": "real numbers", "y": "class indices from 0 on, not class names"}[name]
        raise TypeError(f"{name} must hold {meaning}; got an array of dtype {array.dtype}.")
    return to_tensor(array)
