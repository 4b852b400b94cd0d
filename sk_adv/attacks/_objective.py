"""The objective that attacks maximise: a loss of the module's logits, and its input gradient."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sk_adv._arrays import to_numpy, to_tensor
from sk_adv.differentiable._composition import preferences, responds


class NoGradientError(TypeError):
    """A module's output does not depend on its input through torch operations."""

    def __init__(self):
        super().__init__(
            "The module's output does not depend on its input through differentiable torch "
            "operations, so there is no gradient to attack along. Use attack='square', which "
            "needs none, or attack another module in its place, a surrogate."
        )


def log_odds_against(logits: Tensor, y: Tensor) -> Tensor:
    """Log-odds against the true class, log((1 - p_y) / p_y), with p the softmax of the logits.

    Parameters
    ----------
    logits : torch.Tensor of shape (n_samples, n_classes)
        Logits of at least two classes.

    y : torch.Tensor of shape (n_samples,), int64
        Class indices.

    Returns
    -------
    torch.Tensor of shape (n_samples,)
        The log-odds of each sample, differentiable. Their softplus is the cross-entropy. For logits
        in float16 or bfloat16 they are in float32.

    Examples
    --------
    >>> import torch
    >>> from sk_adv.attacks import log_odds_against
    >>> log_odds_against(torch.tensor([[0.0, 3.0]]), torch.tensor([1]))
    tensor([-3.])
    """
    index, logits = y.unsqueeze(1), at_least_single(logits)
    others = logits.scatter(1, index, -torch.inf).logsumexp(1)
    return others - logits.gather(1, index).squeeze(1)


def at_least_single(logits: Tensor) -> Tensor:
    """Logits in float32 if they have half precision, where sums over- and underflow soon."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


class Objective:
    """The loss of each sample of a batch as a function of X, which attacks maximise.

    Parameters
    ----------
    module : torch.nn.Module

    labels : torch.Tensor of shape (n_samples,), int64
        Class indices: the true classes, or, if `targeted`, those to move towards.

    loss : callable
        A function of logits and class indices.

    targeted : bool
        Whether the attack decreases the loss. The objective is then its negative.

    missing : torch.Tensor of bool of the shape of X, or None
        Entries of X that the module receives as NaN.

    n_classes : int
        Smallest number of logits that the module must return.
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

    def restricted_to(self, rows: Tensor) -> "Objective":
        """The objective for some rows of the batch."""
        missing = None if self.missing is None else self.missing[rows]
        return Objective(
            self.module, self.labels[rows], self.loss, self.targeted, missing, self.n_classes
        )

    def of_module(self, module: nn.Module) -> "Objective":
        """The same objective of another module."""
        return Objective(
            module, self.labels, self.loss, self.targeted, self.missing, self.n_classes
        )

    def logits(self, X: Tensor) -> Tensor:
        """The module's logits at X."""
        # A copy, as the module's first operation may be in place.
        X = X.clone() if self.missing is None else X.masked_fill(self.missing, torch.nan)
        return checked_logits(self.module, X, n_classes=self.n_classes)

    def value(self, logits: Tensor) -> Tensor:
        """The objective of each sample, given its logits."""
        values = self.loss(logits, self.labels)
        if not isinstance(values, Tensor):
            raise TypeError(
                "loss must return a tensor, the loss of each sample or of the batch; got a "
                f"{type(values).__name__}. Compute it of the logits by torch functions."
            )
        return -values if self.targeted else values

    def value_of_each(self, logits: Tensor) -> Tensor:
        """The objective of each sample, whatever the shape in which the loss returns it."""
        values = loss_of_each(self.loss, logits, self.labels)
        return -values if self.targeted else values

    def is_success(self, logits: Tensor) -> Tensor:
        """Whether each sample is misclassified, or classified as its target if `targeted`."""
        return (logits.argmax(1) == self.labels) == self.targeted

    def is_broken(self, X: Tensor, logits: Tensor) -> Tensor:
        """Whether each sample is a success by its logits at X, and by the estimator's `predict`.

        Some estimators, such as `SVC`, may predict another class than that of the largest score. A
        module that has a method `predicted` or `preferences` is therefore asked once more.
        """
        broken = self.is_success(logits)
        if broken.any() and self._decides_otherwise():
            rows = broken.nonzero().squeeze(1)
            broken[rows] = self.restricted_to(rows)._confirms(X[rows])
        return broken

    def _decides_otherwise(self):
        return hasattr(self.module, "predicted") or responds(self.module, "preferences")

    def _confirms(self, X):
        if self.missing is not None:
            X = X.masked_fill(self.missing, torch.nan)
        if hasattr(self.module, "predicted"):
            predicted = self.module.predicted(X)
        else:
            predicted = preferences(self.module, X).argmax(1)
        return (predicted == self.labels) == self.targeted

    def gradient(self, X: Tensor) -> Tensor:
        """The gradient of the objective on X."""
        return self.logits_and_gradient(X)[1]

    def logits_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The module's logits at X, and the gradient of the objective there, in one pass."""
        X = X.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(X)
            total = self.value(logits).sum()
        if not total.requires_grad:
            raise NoGradientError
        (gradient,) = torch.autograd.grad(total, X, allow_unused=True)
        if gradient is None:
            # The weights have a gradient, but the input is cut off from the output.
            raise NoGradientError
        return logits.detach(), gradient


class MarginObjective(Objective):
    """The margin z_k - z_y of one rival class k of each sample, or of all rivals but y.

    Parameters
    ----------
    objective : Objective
        Its module, labels and direction are taken over.

    rivals : torch.Tensor of shape (n_samples,), int64, or None
        The class k of each sample; None stands for the rival with the largest logit at X.
    """

    def __init__(self, objective: Objective, rivals: Tensor | None = None):
        super().__init__(
            objective.module,
            objective.labels,
            None,
            objective.targeted,
            objective.missing,
            objective.n_classes,
        )
        self.rivals = rivals

    def restricted_to(self, rows: Tensor) -> "MarginObjective":
        """The objective for some rows of the batch."""
        rivals = None if self.rivals is None else self.rivals[rows]
        return MarginObjective(super().restricted_to(rows), rivals)

    def value(self, logits: Tensor) -> Tensor:
        """The margin of each sample, given its logits."""
        logits, own = at_least_single(logits), self.labels.unsqueeze(1)
        if self.rivals is None:
            rival = logits.scatter(1, own, -torch.inf).amax(1)
        else:
            rival = logits.gather(1, self.rivals.unsqueeze(1)).squeeze(1)
        margin = rival - logits.gather(1, own).squeeze(1)
        return -margin if self.targeted else margin

    value_of_each = value


def depends_on_input(module, X):
    """Whether a module's output has a gradient on its input, by one of the samples X."""
    sample = X[:1].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        total = checked_logits(module, sample.clone(), n_classes=0).sum()
    if not total.requires_grad:
        return False
    return torch.autograd.grad(total, sample, allow_unused=True)[0] is not None


def loss_of_each(loss, logits, labels):
    """The loss of each sample; of one that gives a number a batch, that of batches of one."""
    values = loss(logits, labels)
    if values.numel() == len(labels):
        return values.reshape(len(labels))
    if values.numel() != 1:
        raise ValueError(
            "loss must give one number a sample, or one for a batch; of "
            f"{len(labels)} samples it gave a tensor of shape {tuple(values.shape)}."
        )
    rows = zip(logits.split(1), labels.split(1), strict=True)
    return torch.stack([loss(*row).reshape(()) for row in rows])


def checked_logits(module, X, *, n_classes):
    """The module's logits at X, with at least `n_classes` columns, else a `ValueError`."""
    try:
        logits = module(X)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"module can't take X in batches of shape {tuple(X.shape)}: {error}"
        ) from error
    # The first of several outputs holds the logits, as in skorch.
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not isinstance(logits, Tensor):
        raise TypeError(
            "module must return a tensor of logits, or a tuple that begins with one; got a "
            f"{type(logits).__name__}. Put it into a module that returns the tensor."
        )
    if not logits.is_floating_point():
        raise TypeError(
            f"module must return logits in a floating-point dtype; got {logits.dtype}. Return the "
            "scores of the classes, not the predicted class."
        )
    if logits.isnan().any():
        if X.isnan().any():
            raise ValueError(
                "X holds NaN, which the model does not support: put a SimpleImputer before it."
            )
        raise ValueError(
            "module returned NaN logits for a finite X; check its weights and the scale of X."
        )
    if logits.ndim != 2 or logits.shape[1] < max(n_classes, 2):
        raise ValueError(
            f"module must return logits of shape (n_samples, n_classes) with at least "
            f"{max(n_classes, 2)} classes for this y; got shape {tuple(logits.shape)}."
        )
    if len(logits) != len(X):
        raise ValueError(
            f"module must return one row of logits per sample; got {len(logits)} for {len(X)}."
        )
    return logits


def check_labels(y, n_samples):
    """The labels as int64 class indices; raise `ValueError` or `TypeError` if they are not."""
    labels = as_numbers(y, "y")
    if labels.shape != (n_samples,):
        raise ValueError(
            f"y must have shape ({n_samples},), one class index per sample; "
            f"got shape {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"y must hold integer class indices; got dtype {labels.dtype}.")
    labels = labels.long()
    if int(labels.min()) < 0:
        raise ValueError(f"y must hold class indices from 0 up; got {int(labels.min())}.")
    return labels


def as_numbers(values, name):
    """Convert an array to a tensor of real numbers; return a tensor as it is."""
    if isinstance(values, Tensor) and not values.is_complex():
        return values
    try:
        array = np.asarray(to_numpy(values))
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array, but its rows differ in length: make them equally long."
        ) from error
    if array.dtype.kind not in "fiub":
        meaning = {"X": "real numbers", "y": "class indices from 0 up, not class names"}[name]
        raise TypeError(f"{name} must hold {meaning}; got an array of dtype {array.dtype}.")
    return to_tensor(array)
