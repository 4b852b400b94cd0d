"""Early stopping, on a plateau of the training loss or of the score on held-out samples."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from sklearn.utils import check_scalar
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch.utils.data import Dataset

from sk_adv.attacks._table import ATTACKS, resolve_attack
from sk_adv.neural_network._batches import TensorBatches, WeightedData, check_held_out
from sk_adv.neural_network._parts import device_of, logits_of, take_weights, weights_of

# Number of samples per batch of the validation.
_BATCH = 2048
_NO_SAMPLES = (
    "RobustEarlyStopping needs held-out samples of positive weight: leave train_split on, or pass "
    "a skorch.dataset.ValidSplit."
)
# Figures that may be monitored, beside the errors under attacks.
FIGURES = ("adversarial_error", "certified_error", "clean_error", "loss")


class Plateau(Callback):
    """Stop when the training loss has not improved for some epochs.

    Parameters
    ----------
    tol : float
        Smallest decrease of the loss that counts as progress.
    n_iter_no_change : int
        Training stops after more than this number of epochs without progress.
    """

    def __init__(self, tol, n_iter_no_change):
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def on_train_begin(self, net, **kwargs):
        """Reset the state."""
        self.best_loss_, self.n_idle_ = torch.inf, 0

    def on_epoch_end(self, net, **kwargs):
        """Count the epochs without progress, as in `MLPClassifier`, from the end of the warm-up."""
        if not net.is_warm_:
            return
        loss = net.history[-1, "train_loss"]
        self.n_idle_ = self.n_idle_ + 1 if loss > self.best_loss_ - self.tol else 0
        self.best_loss_ = min(loss, self.best_loss_)
        self.on_resume(net)

    def on_resume(self, net):
        """Stop at once if the resumed training had stopped."""
        net.stop_ = self.n_idle_ > self.n_iter_no_change

    def state_dict(self):
        """The state, for a checkpoint."""
        return {"best_loss_": self.best_loss_, "n_idle_": self.n_idle_}

    def load_state_dict(self, state):
        """Restore the state from a checkpoint."""
        vars(self).update(state)


class RobustEarlyStopping(Callback):
    """Stop when a robust figure on held-out samples stops falling, and keep the best weights.

    After each epoch the net is measured on the held-out samples, at the full radius. The history
    gets `valid_clean_error`, `valid_adversarial_error`, `valid_mixed_loss` and `validation_score`,
    which is 1 - error, or -loss. With few samples many epochs have equal errors. Ties are broken by
    the smaller loss J̄. Epochs of a warm-up of epsilon do not count.

    Parameters
    ----------
    monitor : str or callable, default="adversarial_error"
        The figure to minimise: "adversarial_error", under the training attack ("fgsm" if that is
        noise); "certified_error", by intervals, without regard to rounding; "clean_error"; "loss",
        which is J̄; or an attack, such as "pgd" or "auto", for the error under it.

    monitor_params : dict or None, default=None
        Further arguments of that attack, such as `{"n_steps": 20}`. Attacks in steps take 10 by
        default.

    data : torch.utils.data.Dataset or None, default=None
        The held-out samples, with class indices. None takes those of the net's `train_split`.

    tol : float, default=1e-4
        Smallest improvement of the score that counts as progress.

    n_iter_no_change : int, default=10
        Training stops after more than this number of epochs without progress.

    Attributes
    ----------
    best_epoch_ : int
        The epoch, counted from 1, whose weights are kept; 0 if none was measured.

    best_score_ : float
        Its score.

    Raises
    ------
    ValueError
        If `monitor` is unknown, a number is out of its range, or there are no held-out samples.
    TypeError
        If `monitor_params` do not fit the attack, or a parameter is of another type.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping
    >>> X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> y = (X[:, 0] > 0).astype(int)
    >>> net = AdversarialNet(
    ...     torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)),
    ...     epsilon=0.1,
    ...     callbacks=[RobustEarlyStopping("pgd", n_iter_no_change=3)],
    ...     max_epochs=20,
    ...     verbose=0,
    ... )
    >>> "valid_pgd_error" in net.fit(X, y).history[0]
    True
    """

    def __init__(
        self,
        monitor: str | Callable = "adversarial_error",
        monitor_params: dict | None = None,
        *,
        data: Dataset | None = None,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
    ):
        self.monitor = monitor
        self.monitor_params = monitor_params
        self.data = data
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def on_train_begin(self, net, **kwargs):
        """Check the parameters, and reset the state.

        Parameters
        ----------
        net : AdversarialNet
            The net.

        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or there are no held-out samples.
        TypeError
            If a parameter is of another type.
        """
        if not (isinstance(self.tol, Real) and self.tol == self.tol):
            raise ValueError(f"tol must be a number; got {self.tol!r}.")
        check_scalar(self.n_iter_no_change, "n_iter_no_change", Integral, min_val=1)
        check_held_out(self.data)
        if self.data is None and not net.train_split:
            raise ValueError(_NO_SAMPLES)
        self.attack_ = resolve_monitor(self.monitor, self.monitor_params)
        self.best_score_, self.best_epoch_, self.best_weights_ = -torch.inf, len(net.history), None
        self.best_loss_, self.n_idle_ = torch.inf, 0

    def on_epoch_end(self, net, dataset_valid=None, **kwargs):
        """Measure the net, and stop the training if the figure has not fallen for long.

        Parameters
        ----------
        net : AdversarialNet
            The net.

        dataset_valid : torch.utils.data.Dataset or None, default=None
            The held-out samples.

        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If there are no held-out samples.
        """
        if self.data is None and dataset_valid is None:
            raise ValueError(_NO_SAMPLES)
        figures = self._measure(net, dataset_valid)
        for name, figure in figures.items():
            # skorch has a valid_loss of its own, of the clean samples.
            net.history.record("valid_mixed_loss" if name == "loss" else f"valid_{name}", figure)
        name = self.monitor if self.attack_ is None else _name_of_error(self.attack_)
        score = -figures[name] if name == "loss" else 1 - figures[name]
        net.history.record("validation_score", score)
        if net.interrupt_.requested or not net.is_warm_:
            # An interrupted epoch does not count.
            return
        loss = figures["loss"]
        is_tie = score == self.best_score_
        is_progress = is_tie and loss <= self.best_loss_ - self.tol
        is_idle = score < self.best_score_ + self.tol and not is_progress
        self.n_idle_ = self.n_idle_ + 1 if is_idle else 0
        if score > self.best_score_ or (is_tie and loss < self.best_loss_):
            self.best_score_, self.best_loss_ = score, loss
            self.best_epoch_ = len(net.history)
            self.best_weights_ = weights_of(net)
        self.on_resume(net)

    def on_train_end(self, net, **kwargs):
        """Load the best weights.

        Parameters
        ----------
        net : AdversarialNet
            The net.

        **kwargs : dict
            Not used.
        """
        self.restore_best(net)

    def restore_best(self, net):
        """Load the weights of the best epoch into the net.

        Parameters
        ----------
        net : AdversarialNet
            The net.
        """
        if self.best_weights_ is not None:
            take_weights(net, self.best_weights_)

    def state_dict(self):
        """The state, for a checkpoint.

        Returns
        -------
        dict
            The best figures and weights so far, and the count of epochs without progress.
        """
        return {
            "best_score_": self.best_score_,
            "best_loss_": self.best_loss_,
            "best_epoch_": self.best_epoch_,
            "best_weights_": self.best_weights_,
            "n_idle_": self.n_idle_,
        }

    def load_state_dict(self, state):
        """Restore the state from a checkpoint.

        Parameters
        ----------
        state : dict
            What `state_dict` returned.
        """
        vars(self).update(state)

    def on_resume(self, net):
        """Stop at once if the resumed training had stopped.

        Parameters
        ----------
        net : AdversarialNet
            The net.
        """
        net.stop_ = self.n_idle_ > self.n_iter_no_change

    def _measure(self, net, dataset_valid=None):
        """The errors and the loss J̄ on the held-out samples."""
        net._set_training(False)
        data = dataset_valid if self.data is None else self.data
        if isinstance(data, WeightedData):
            batches = TensorBatches(data, _BATCH)
        else:
            batches = net.get_iterator(data, training=False)
        sums, loss, total, n_samples = {}, 0.0, 0.0, 0
        for X, y in batches:
            # Data that does not fit on the device is stored on the host.
            X, y = to_device((net.as_samples(X), y), device_of(net))
            labels, weight = y if isinstance(y, (tuple, list)) else (y, torch.ones(len(y)))
            figures, loss_of_batch = self._figures(net, X, y)
            for name, logits in figures.items():
                wrong = logits_of(logits).argmax(1) != labels
                sums[name] = sums.get(name, 0.0) + float((weight.to(wrong.device) * wrong).sum())
            loss += len(X) * float(loss_of_batch)
            total += float(weight.sum())
            n_samples += len(X)
        if not total > 0:
            raise ValueError(_NO_SAMPLES)
        errors = {name: value / total for name, value in sums.items()}
        return errors | {"loss": loss / n_samples}

    def _figures(self, net, X, y):
        """The logits that decide each error, and the loss J̄ of a batch."""
        copies = net._validation_copies(X, y)
        figures = {}
        if self.attack_ is not None:
            attacked = net._craft(X, y, self.attack_, random_state=0)
        with torch.no_grad():
            figures["clean_error"], figures["adversarial_error"], loss = net.mixed_loss(
                X, copies, y
            )
            if self.attack_ is not None:
                figures[_name_of_error(self.attack_)], _ = net._loss(attacked, y)
            if self.monitor == "certified_error":
                # Predictions compare logits, whatever the loss does.
                figures["certified_error"] = net._worst_logits(
                    X, y, net.perturbation_, by_margins=True
                )
        return figures, loss


def _name_of_error(attack):
    """The name of the error under a monitored attack, other than those of the other figures."""
    name = f"{attack.name}_error"
    return f"monitored_{name}" if name in FIGURES else name


def resolve_monitor(monitor, monitor_params=None):
    """The attack under which the error is monitored; None for another figure.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `monitor_params` do not fit the attack, or there is none.
    """
    is_figure = isinstance(monitor, str) and monitor in FIGURES
    if not (is_figure or callable(monitor) or (isinstance(monitor, str) and monitor in ATTACKS)):
        raise ValueError(
            f"monitor must be one of {list(FIGURES)}, or an attack: one of {sorted(ATTACKS)} or a "
            f"function; got {monitor!r}."
        )
    if not is_figure:
        try:
            return resolve_attack(monitor, monitor_params)
        except TypeError as error:
            raise TypeError(
                f"monitor={monitor!r} can't take monitor_params={monitor_params!r}: {error}"
            ) from error
    if monitor_params:
        raise TypeError(
            f"monitor_params are those of an attack, but monitor={monitor!r} is none; got "
            f"{monitor_params!r}."
        )
    return None
