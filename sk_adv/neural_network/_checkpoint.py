"""Checkpoints, from which an interrupted training can be resumed."""

import copy
import json
import os
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import check_scalar
from skorch.callbacks import Callback

from sk_adv._randomness import random_states, set_random_states
from sk_adv.neural_network._checkpoint_file import (
    FORMAT,
    disk,
    raise_if_unreadable,
    read,
    try_to_write,
    write,
)
from sk_adv.neural_network._checkpoint_identity import (
    groups_of,
    identity_of,
    parts_with_state,
    rates_of,
)
from sk_adv.neural_network._checkpoint_processes import (
    is_first,
    is_seen_by_all,
    of_first,
    state_of_this,
    states_of_all,
)
from sk_adv.neural_network._parts import device_of, modules_of, optimizers_of, take_weights
from sk_adv.neural_network._schedules import Progress


class NotSavedError(OSError):
    """A checkpoint can't be written after an epoch; the training is in memory."""


class Checkpoint(Callback):
    """Save the whole state of the training after epochs, and resume the training from it.

    The file holds the weights, the state of the optimizer, the history, the state of the random
    generators, and the state of other callbacks that have one (`state_dict`, or a learning-rate
    scheduler). Callbacks without a state start anew.

    A killed training that is resumed, with the same data and parameters, gives the same weights as
    an uninterrupted one, bit for bit on the CPU. With early stopping this needs an integer
    `random_state`, which fixes the held-out part.

    The new file is written next to the old one and then replaces it, so there is always one
    complete file. It has a checksum, and loading it runs no code. A process that is killed while
    it writes leaves an unused file behind, whose name ends in ".part".

    Before the first epoch it is tried whether the folder can be written to, and whether the state
    can be read back. If a later save fails, the training ends with an `OSError`. The estimator is
    then fitted, with the weights reached so far.

    Parameters
    ----------
    path : str or path-like
        The file. With `AdversarialMaxoutClassifier(refit_full=True)` the second training uses
        another file, with ".refit" added to the name.

    every : int, default=1
        Number of epochs between two saves. An interrupted epoch is not saved.

    resume : bool, default=False
        Whether to resume the training from the file. Only one of the `callbacks` may resume. With
        `verbose`, a line says at which epoch. If there is no file, the training starts anew. A
        `partial_fit` or a warm start that begins at a later epoch than the saved training did also
        starts anew, and overwrites the file.

        Data, labels, `random_state`, parameters, and the parameters of callbacks with a state must
        be those of the saved training. There are two exceptions: the number of epochs may be
        larger, unless a schedule depends on it, and the initial learning rate may differ, unless
        it is part of a scheduler's state.

        Do not use `resume` in a search or a cross-validation, whose fits would share the file.

    See Also
    --------
    AdversarialNet : Accepts a checkpoint as one of its `callbacks`.

    Notes
    -----
    Data in memory are compared by a hash of all entries, which is computed once per training. A
    `numpy.memmap` is compared by 100 of its rows, and another torch `Dataset` by the number of its
    samples, if it has one.

    With several processes the first one writes the file, and all must see it. A training is resumed
    by the same number of processes.

    Functions are compared by their code, defaults and closure, modules by their `repr` and public
    attributes, and other objects by the name of their class and their attributes.

    skorch's `EarlyStopping` has no state and counts anew in each call, so a training that it has
    stopped continues when it is resumed. A training that
    `AdversarialMaxoutClassifier(early_stopping=True)` has stopped does not.

    Values that callbacks record in the history are restored as numbers, lists or text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialMaxoutClassifier
    >>> from sk_adv.neural_network import Checkpoint
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "iris.pt", resume=True)
    ...     model = AdversarialMaxoutClassifier((8, 8), callbacks=[checkpoint], random_state=0)
    ...     n_first = model.set_params(max_iter=5).fit(X, y).n_iter_
    ...     n_both = model.set_params(max_iter=20).fit(X, y).n_iter_
    >>> n_first, n_both
    (5, 20)
    """

    def __init__(self, path: str | os.PathLike, every: int = 1, resume: bool = False):
        self.path = path
        self.every = every
        self.resume = resume

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Check the parameters, and record the data and parameters that identify the training.

        Parameters
        ----------
        net : AdversarialNet
            The net, initialised.

        X : as in `AdversarialNet.partial_fit`, default=None
            Training data.

        y : as in `AdversarialNet.partial_fit`, default=None
            Class indices.

        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If `every` is less than 1, or `path` is a folder.
        TypeError
            If `path` is not a path, `every` is not an integer, or the state of the optimizer or of
            a callback can't be read back from a file.
        OSError
            If the folder can't be made or written to.
        """
        check_scalar(self.path, "path", (str, os.PathLike))
        check_scalar(self.every, "every", Integral, min_val=1)
        path = Path(self.path)
        if path.is_dir():
            raise ValueError(f"path must name a file; got the folder {path}. Add a file name.")
        failure = None
        try:
            if is_first(net):
                try_to_write(path)
        except OSError as error:
            failure = error
        failure = of_first(net, failure)
        if failure is not None:
            raise failure
        self.rates_ = rates_of(net)
        self.training_ = {"first epoch": len(net.history) + 1, **identity_of(net, X, y)}
        raise_if_unreadable(self._state(net))

    def on_epoch_end(self, net, **kwargs):
        """Save the state after every `every` epochs.

        Parameters
        ----------
        net : AdversarialNet
            The net, after an epoch.

        **kwargs : dict
            Not used.

        Raises
        ------
        OSError
            If the file can't be written.
        """
        if net.interrupt_.requested or len(net.history) % self.every:
            return
        path = Path(self.path)
        state, failure = self._state(net), None
        try:
            if is_first(net):
                raise_if_unreadable(state)
                write(state, path)
        except (OSError, TypeError, RuntimeError) as error:
            # torch turns the error of a full disk into a RuntimeError.
            failure = error
        error = of_first(net, failure)
        if error is not None:
            raise NotSavedError(
                f"The checkpoint {path} can't be written after epoch {len(net.history)}: {error}. "
                f"{disk(path)} The training up to this epoch is in memory, and the estimator can "
                "be used. To train on, mend the cause or set another path, and then call "
                "partial_fit, or fit with warm_start=True."
            ) from error

    def _state(self, net):
        """All that a file holds."""
        return {
            "format": FORMAT,
            "training": self.training_,
            "rates": self.rates_,
            **_trained_state(net),
            "history": json.dumps(list(net.history), default=_plain_figure, skipkeys=True),
            **states_of_all(net, random_states(device_of(net))),
            "callbacks": {name: _plain(part.state_dict()) for name, part in parts_with_state(net)},
        }

    def restore(self, net):
        """Load the saved state into a net.

        Parameters
        ----------
        net : AdversarialNet
            The net, initialised.

        Returns
        -------
        int
            The number of epochs of the saved training, or 0 if there is no file.

        Raises
        ------
        ValueError
            If the file is not a checkpoint, or its training had other data or parameters.
        """
        path = Path(self.path)
        if not is_seen_by_all(net, path):
            return 0
        before = copy.deepcopy(_trained_state(net))
        try:
            state = read(path, device_of(net))
            saved = state["training"]
            if saved["first epoch"] < self.training_["first epoch"]:
                # The file is from an earlier call, whose weights this training starts from.
                return 0
            history = json.loads(state["history"])
            differences = [
                f"{name}: {saved.get(name)} in the file, {self.training_.get(name)} now"
                for name in {**self.training_, **saved}
                if saved.get(name) != self.training_.get(name)
            ]
            if differences:
                raise ValueError("; ".join(differences))
            n_epochs = len(history) + 1 - saved["first epoch"]
            if n_epochs > net.max_epochs:
                raise ValueError(f"{n_epochs} epochs in the file, at most {net.max_epochs} now")
            _load_trained_state(net, state)
            rates = zip(groups_of(net), state["rates"], self.rates_, strict=True)
            for group, saved_rate, rate in rates:
                if rate != saved_rate:
                    group["lr"] = rate
            for name, part in parts_with_state(net):
                if name in state["callbacks"]:
                    part.load_state_dict(_with_arrays(state["callbacks"][name]))
            set_random_states(state_of_this(net, state), device_of(net))
        except Exception as error:
            _load_trained_state(net, before)
            raise ValueError(
                f"{path} is not a checkpoint of this training: delete it{_other_file(path)}, or "
                f"pass the data, parameters and random_state of the saved training. ({error})"
            ) from error
        net.history.clear()
        net.history.extend(history)
        for _, part in parts_with_state(net):
            if hasattr(part, "on_resume"):
                part.on_resume(net)
        self._tell(net, n_epochs)
        return n_epochs

    def _tell(self, net, n_epochs):
        """Print where the training goes on, if the net or the classifier is verbose."""
        has_bar = any(isinstance(part, Progress) for _, part in net.callbacks_)
        if not (net.verbose or has_bar) or not is_first(net):
            return
        n_done = len(net.history)
        if net.stop_ or n_epochs == net.max_epochs:
            print(f"The training in {self.path} had ended after epoch {n_done}.")
        else:
            print(f"Resumed at epoch {n_done + 1} from {self.path}.")


def refit_path(path):
    """The file of the second training of a fit with `refit_full`."""
    return Path(path).with_name(Path(path).name + ".refit")


def _other_file(path):
    """The words " and FILE" if the other training of the same fit has a file, else ""."""
    other = path.with_suffix("") if path.suffix == ".refit" else refit_path(path)
    return f" and {other}" if other.exists() else ""


def _trained_state(net):
    """The states of all modules, criteria and optimizers of a net."""
    return {
        "modules": {name: part.state_dict() for name, part in modules_of(net).items()},
        "optimizers": {
            name: _plain(part.state_dict()) for name, part in optimizers_of(net).items()
        },
    }


def _load_trained_state(net, state):
    take_weights(net, state["modules"])
    for name, part in optimizers_of(net).items():
        part.load_state_dict(_with_arrays(state["optimizers"][name]))


# Marks a tensor that stands for an array of NumPy.
_ARRAY = "array of NumPy"


def _plain(value):
    """Replace NumPy's numbers and arrays, since `weights_only` loading rejects them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {_ARRAY: torch.from_numpy(value.copy())}
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value):
    """The value that `_plain` replaced; numbers stay Python's."""
    if isinstance(value, dict) and value.keys() == {_ARRAY}:
        return value[_ARRAY].numpy(force=True)
    if type(value) is dict:
        return {key: _with_arrays(part) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_with_arrays, value))
    return value


def _plain_figure(value):
    """Convert a value that JSON does not support to numbers, lists of numbers, or text."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)
