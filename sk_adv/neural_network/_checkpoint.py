"""Checkpoints, from which an interrupted training can be resumed."""

import functools
import hashlib
import io
import json
import os
import reprlib
import types
import uuid
from numbers import Integral, Number
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import check_scalar
from skorch.callbacks import Callback
from skorch.dataset import get_len
from torch.utils.data import Dataset

from sk_adv._devices import to_numpy
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._batches import WeightedData
from sk_adv.neural_network._schedules import Schedule

# Rows of a memory map that are hashed to identify it.
_N_ROWS = 100

# Size of the hash at the end of a file, in bytes.
_N_DIGEST = hashlib.blake2b().digest_size


class Checkpoint(Callback):
    """Save the whole state of the training after epochs, and resume the training from it.

    The file holds the weights, the state of the optimizer, the history, torch's random state, and
    the state of other callbacks that have one (`state_dict`, or a learning-rate scheduler).
    Callbacks without a state start anew.

    A killed training that is resumed, with the same data and parameters, gives the same weights as
    an uninterrupted one, bit for bit on the CPU. With early stopping this needs an integer
    `random_state`, which fixes the held-out part.

    The new file is written next to the old one and then replaces it, so there is always one
    complete file. It has a checksum, and loading it runs no code. A process that is killed while
    it writes leaves an unused file behind, whose name ends in ".part".

    Parameters
    ----------
    path : str or path-like
        The file. With `AdversarialMaxoutClassifier(refit_full=True)` the second training uses
        another file, with ".refit" added to the name.

    every : int, default=1
        Number of epochs between two saves. An interrupted epoch is not saved.

    resume : bool, default=False
        Whether to resume the training from the file. Only one of the `callbacks` may resume. If
        there is no file, the training starts anew. A `partial_fit` or a warm start that begins at
        a later epoch than the saved training did also starts anew, and overwrites the file.

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
    samples.

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
            If `path` is not a path, or `every` is not an integer.
        """
        check_scalar(self.path, "path", (str, os.PathLike))
        check_scalar(self.every, "every", Integral, min_val=1)
        path = Path(self.path)
        if path.is_dir():
            raise ValueError(f"path must name a file; got the folder {path}. Add a file name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rates_ = _rates(net)
        self.training_ = {"first epoch": len(net.history) + 1, **_identity(net, X, y)}

    def on_epoch_end(self, net, **kwargs):
        """Save the state after every `every` epochs.

        Parameters
        ----------
        net : AdversarialNet
            The net, after an epoch.

        **kwargs : dict
            Not used.
        """
        if net.interrupt_.requested or len(net.history) % self.every:
            return
        state = {
            "training": self.training_,
            "rates": self.rates_,
            "module": plain_module(net).state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "history": json.dumps(list(net.history), default=_plain_figure, skipkeys=True),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "callbacks": {name: _plain(part.state_dict()) for name, part in _with_state(net)},
        }
        path = Path(self.path)
        # A unique name, since another process of a search may save to the same path.
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            with open(beside, "x+b") as file:
                torch.save(state, file)
                file.seek(0)
                file.write(hashlib.file_digest(file, "blake2b").digest())
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

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
        if not path.exists():
            return 0
        try:
            state = _read(path, net.device)
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
            plain_module(net).load_state_dict(state["module"])
            net.optimizer_.load_state_dict(state["optimizer"])
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of this training: delete it{_other_file(path)}, or "
                f"pass the data, parameters and random_state of the saved training. ({error})"
            ) from error
        if state["rates"] != self.rates_:
            for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
                group["lr"] = rate
        net.history.clear()
        net.history.extend(history)
        for name, part in _with_state(net):
            if name in state["callbacks"]:
                part.load_state_dict(state["callbacks"][name])
            if hasattr(part, "on_resume"):
                part.on_resume(net)
        torch.set_rng_state(state["random"].cpu())
        if state["cuda"]:
            torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
        return n_epochs


def refit_path(path):
    """The file of the second training of a fit with `refit_full`."""
    return Path(path).with_name(Path(path).name + ".refit")


def _other_file(path):
    """The words " and FILE" if the other training of the same fit has a file, else ""."""
    other = path.with_suffix("") if path.suffix == ".refit" else refit_path(path)
    return f" and {other}" if other.exists() else ""


def _read(path, device):
    """Read the state from a file and verify its checksum."""
    content = memoryview(path.read_bytes())
    payload, digest = content[:-_N_DIGEST], content[-_N_DIGEST:]
    if hashlib.blake2b(payload).digest() != digest:
        raise ValueError("the file is damaged, or was not written by Checkpoint")
    return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)


def _with_state(net):
    """Yield the names and objects of a net's callbacks, or their schedulers, that have a state."""
    for name, callback in net.callbacks_:
        part = getattr(callback, "lr_scheduler_", callback)
        if hasattr(part, "state_dict"):
            yield name, part


def _rates(net):
    return [float(group["lr"]) for group in net.optimizer_.param_groups]


def _plain(value):
    """Replace NumPy's numbers by Python's, since `weights_only` loading rejects NumPy's."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _plain_figure(value):
    """Convert a value that JSON does not support to numbers, lists of numbers, or text."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _identity(net, X, y):
    """The properties that must agree between a saved training and one that resumes it, as text."""
    names = ("module", "criterion", "optimizer", "alpha", "attack")
    names += ("attack_params", "precision", "batch_size", "train_split", "classes")
    prefixes = ("module__", "criterion__", "optimizer__", "iterator_train__")
    names += tuple(sorted(k for k in vars(net) if k.startswith(prefixes) and k != "optimizer__lr"))
    identity = {name: getattr(net, name) for name in names} | dict(net.identity_)
    perturbations = net.perturbation_.to("cpu", torch.float64)
    identity |= dict(zip(("epsilon", "norm", "bounds"), perturbations.values(), strict=True))
    has_state = {name for name, _ in _with_state(net)}
    for name, callback in net.callbacks_:
        if name in has_state or isinstance(callback, Schedule):
            settings = callback.get_params(deep=False)
            identity |= {f"{key} of the callback {name}": settings[key] for key in settings}
        if isinstance(callback, Schedule) and callback.learning_rate != "constant":
            identity["number of epochs of the schedule"] = net.max_epochs
        if hasattr(callback, "lr_scheduler_"):
            identity["initial learning rate"] = _rates(net)
    # A loss stores its class weights in buffers.
    identity["buffers of the criterion"] = list(net.criterion_.buffers())
    data = X if y is None else (X, np.asarray(to_numpy(y)))
    identity |= {"the number of samples": get_len(X), "the data": data}
    return {name: _as_text(value) for name, value in identity.items()}


@reprlib.recursive_repr()
def _as_text(value):
    """A text that is equal for equal values, also in another process."""
    if isinstance(value, WeightedData):
        parts = (value.X, value.y, value.weight, value.rows)
        return _as_text([part for part in parts if part is not None])
    if isinstance(value, functools.partial):
        return _as_text((value.func, value.args, value.keywords))
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_as_text, value))})"
    if isinstance(value, (set, frozenset)):
        return _as_text(sorted(map(_as_text, value)))
    if isinstance(value, dict):
        items = sorted((_as_text(key), _as_text(item)) for key, item in value.items())
        return f"{{{', '.join(f'{key}: {item}' for key, item in items)}}}"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"array of shape {tuple(value.shape)} with checksum {_checksum(value)}"
    if isinstance(value, (Number, np.generic)):
        return str(value.item() if isinstance(value, np.generic) else value).removesuffix(".0")
    if value is None or isinstance(value, (str, bytes, os.PathLike, torch.dtype)):
        return str(value)
    name, content = _content(value)
    return name if content is None else f"{name} with checksum {_hash(_as_text(content).encode())}"


def _content(value):
    """The name of an object or function, and the content that it is compared by."""
    if isinstance(value, torch.nn.Module):
        # Weights and private attributes are left out, since they change in training.
        settings = [
            {name: part for name, part in vars(module).items() if _is_setting(name, part)}
            for module in value.modules()
        ]
        return " ".join(str(value).split()), settings
    if isinstance(value, types.CodeType):
        return "code", (value.co_code, value.co_consts, value.co_names)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    if isinstance(value, types.MethodType):
        return name, (value.__func__, value.__self__)
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return name, (value.__code__, cells, value.__defaults__, value.__kwdefaults__)
    if isinstance(value, (type, types.ModuleType, Dataset)):
        return name, None
    return name, getattr(value, "__dict__", None)


def _is_setting(name, value):
    is_private = name.startswith("_") or name == "training"
    return not is_private and not isinstance(value, torch.Tensor)


def _checksum(values):
    """A hash of all entries of an array, or of some rows of a memory map."""
    if isinstance(values, np.memmap):
        values = values[np.linspace(0, len(values) - 1, _N_ROWS, dtype=np.int64)]
    array = np.ascontiguousarray(to_numpy(values))
    is_object = array.dtype == object
    return _hash(repr(array.tolist()).encode() if is_object else array.reshape(-1).view(np.uint8))


def _hash(content):
    return hashlib.blake2b(content, digest_size=8).hexdigest()
