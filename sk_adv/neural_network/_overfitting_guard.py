"""The guard against catastrophic overfitting of training by single steps."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_scalar
from skorch.callbacks import Callback
from skorch.dataset import get_len
from skorch.utils import to_device
from torch.utils.data import Dataset

from sk_adv.attacks import fgsm, fgsm_rs
from sk_adv.attacks._table import resolve_attack
from sk_adv.neural_network._batches import check_held_out, some_of
from sk_adv.neural_network._parts import device_of, logits_of

SINGLE_STEPS = (fgsm, fgsm_rs)
_N_STEPS = 10
# A pass of the guard through a sample costs about a third of a training step with one copy.
_PASSES = (_N_STEPS + 2) / 3
# Accuracies on fewer samples say too little.
_FEWEST = 50


class OverfittingGuard(Callback):
    """Warn when a network resists its training attack alone.

    Networks that are trained on copies by a single step, of "fgsm" or "fgsm_rs", may lose all
    resistance to PGD, often from one epoch to the next, while the error under the training attack
    stays low: catastrophic overfitting. The guard compares both on some samples after an epoch. It
    warns, once per training, when the accuracy under PGD is less than half of that under the
    training attack, and by 0.3 at least. The history gets `guard_pgd_accuracy` and
    `guard_attack_accuracy`.

    Parameters
    ----------
    n_samples : int, default=256
        Largest number of samples: of the held-out ones, or of the training samples if none are
        held out.

    share : float, default=0.05
        Largest share of the time of the training. Epochs are left out to keep to it, and in the
        last one fewer samples may be taken, but at least 50.

    data : torch.utils.data.Dataset or None, default=None
        The samples, with class indices, in place of those.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    TypeError
        If a parameter is of another type.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If the network has overfitted.

    References
    ----------
    Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training", ICLR 2020,
    section 5.

    Examples
    --------
    >>> from sk_adv.neural_network import AdversarialNet, OverfittingGuard
    >>> net = AdversarialNet(
    ...     torch.nn.Linear(4, 2), attack="fgsm_rs", callbacks=[("guard", OverfittingGuard())]
    ... )
    """

    def __init__(self, n_samples: int = 256, *, share: float = 0.05, data: Dataset | None = None):
        self.n_samples = n_samples
        self.share = share
        self.data = data

    def on_train_begin(self, net, **kwargs):
        """Check the parameters, and forget an earlier warning.

        Parameters
        ----------
        net : AdversarialNet
            The net.

        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If a parameter is out of its range.
        TypeError
            If a parameter is of another type.
        """
        check_scalar(self.n_samples, "n_samples", Integral, min_val=1)
        if not (isinstance(self.share, Real) and self.share > 0):
            raise ValueError(f"share must be a positive number; got {self.share!r}.")
        check_held_out(self.data)
        self.has_warned_, self.n_before_ = False, len(net.history)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Measure the accuracy under PGD, and warn if it has collapsed.

        Parameters
        ----------
        net : AdversarialNet
            The net.

        dataset_train : torch.utils.data.Dataset, default=None
            The samples of the training.

        dataset_valid : torch.utils.data.Dataset or None, default=None
            The held-out samples.

        **kwargs : dict
            Not used.
        """
        is_single = net.attack_.attack.function in SINGLE_STEPS
        if not is_single or net.alpha == 1 or (net.robust_loss != "adversarial"):
            return
        held_out = dataset_valid if self.data is None else self.data
        dataset = dataset_train if held_out is None else held_out
        try:
            n_samples, n_trained = min(self.n_samples, get_len(dataset)), get_len(dataset_train)
        except (TypeError, ValueError, AttributeError):
            # An iterable dataset can't be looked at twice.
            return
        n_affordable = self.share * n_trained * self._epochs_since(net) / _PASSES
        if n_affordable < n_samples:
            # At the end a smaller number may do.
            is_end = net.stop_ or len(net.history) == self.n_before_ + net.max_epochs
            n_samples = int(n_affordable) if is_end and n_affordable >= _FEWEST else 0
        if not n_samples:
            return
        pgd, attacked = self._accuracies(net, dataset, n_samples)
        net.history.record("guard_pgd_accuracy", pgd)
        net.history.record("guard_attack_accuracy", attacked)
        if self.has_warned_ or not pgd <= min(attacked / 2, attacked - 0.3):
            return
        self.has_warned_ = True
        best = max(row.get("guard_pgd_accuracy", 0.0) for row in net.history)
        kind = "training" if held_out is None else "held-out"
        warnings.warn(
            f"Catastrophic overfitting: in epoch {len(net.history)} the accuracy on {n_samples} "
            f"{kind} samples is {attacked:.2f} under the training attack {net.attack_.name!r}, but "
            f"{pgd:.2f} under PGD (at best {best:.2f} so far). The network resists this attack "
            "alone. Train with attack='pgd', lower epsilon, or keep the best epoch by early "
            "stopping with monitor='pgd'.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def _epochs_since(self, net):
        """The number of epochs since both accuracies were measured."""
        measured = (k for k, row in enumerate(reversed(net.history)) if "guard_pgd_accuracy" in row)
        return next(measured, len(net.history))

    def _accuracies(self, net, dataset, n_samples):
        """The accuracy on some samples under PGD, and under the training attack."""
        rows = np.linspace(0, get_len(dataset) - 1, n_samples).astype(int)
        pgd = resolve_attack("pgd", {"n_steps": _N_STEPS})
        right, total = np.zeros(2), 0
        net._set_training(False)
        for X, y in net.get_iterator(some_of(dataset, rows), training=False):
            X, y = to_device((net.as_samples(X), y), device_of(net))
            labels = y[0] if isinstance(y, (tuple, list)) else y
            for k, attack in enumerate((pgd, net.attack_)):
                copies = net._craft(X, y, attack, random_state=0)
                with torch.no_grad():
                    logits, _ = net._loss(copies, y)
                right[k] += int((logits_of(logits).argmax(1) == labels).sum())
            total += len(X)
        return (right / total).tolist()
