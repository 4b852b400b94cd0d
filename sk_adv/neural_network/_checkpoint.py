"""Training that survives the end of its process."""

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
from torch.utils.data import Dataset, IterableDataset

from sk_adv._devices import to_numpy
from sk_adv.neural_network._batches import WeightedData
from sk_adv.neural_network._parts import modules_of, optimizers_of, take_weights
from sk_adv.neural_network._schedules import Schedule

# Rows of a memory map that tell it from another.
_N_ROWS = 100

# Bytes at the end of a file, a hash of all before them.
_N_DIGEST = hashlib.blake2b().digest_size


class Checkpoint(Callback):
    """Save the whole state of the training after epochs, and go on from it.

    A file holds the weights, the optimizer, the history, torch's random state, and the state of
    other callbacks that have one (`state_dict`, or a learning-rate scheduler); callbacks without
    one begin anew. Training that was killed and is resumed, with the same data and parameters,
    gives the same weights, bit for bit on the CPU, as training that was not; with early stopping
    that takes an integer `random_state`, which fixes the held-out part. The file is written
    beside the old one and then takes its place, so that one of the two is whole at any moment, and
    bears a checksum; loading it runs no code. A process that is killed as it writes leaves a
    useless file behind, whose name ends in ".part".

    Parameters
    ----------
    path : str or path-like
        Where to save. With `AdversarialMaxoutClassifier(refit_full=True)` the second training
        uses a file beside it, with ".refit" added to the name.

    every : int, default=1
        Save after every so many epochs. An epoch that was interrupted is not saved.

    resume : bool, default=False
        Whether to go on from the file, if there is one; only one of the `callbacks` may. Without
        one, training starts anew, and so does a `partial_fit` or a warm start that begins at a
        later epoch than the saved training did, whose file it writes over. All that makes a
        training what it is must be as it was: data, labels, `random_state`, parameters, and those
        of callbacks with a state. Only more epochs may be asked for, where no schedule depends on
        their number, and another initial learning rate, where no scheduler has it in its state. The
        fits of a search or a cross-validation would share the file: leave `resume` off there.

    See Also
    --------
    AdversarialNet : Takes it as one of its `callbacks`.

    Notes
    -----
    Data in memory are compared entry by entry, by a hash that is taken once a training. Of a
    `numpy.memmap`, 100 rows stand for all; of another torch `Dataset`, the number of its samples,
    if it has one.

    Functions are compared by their code, their defaults and what they enclose, other objects by
    their class's name and their attributes, modules by their `repr` and their public attributes.

    skorch's `EarlyStopping` has no state, and counts anew in each call: a training that it has
    stopped goes on when it is resumed. `AdversarialMaxoutClassifier(early_stopping=True)` ends.

    Figures that callbacks record in the history come back as numbers, lists and text.

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
        """Note which training this is, and see that it can be saved.

        Parameters
        ----------
        net : AdversarialNet
            Initialised.

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
            If `path` is no path, or `every` no integer.
        """
        check_scalar(self.path, "path", (str, os.PathLike))
        check_scalar(self.every, "every", Integral, min_val=1)
        path = Path(self.path)
        if path.is_dir():
            raise ValueError(f"path must name a file to save to; {path} is a folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rates_ = _rates(net)
        self.training_ = {"first epoch": len(net.history) + 1, **_identity(net, X, y)}

    def on_epoch_end(self, net, **kwargs):
        """Save, if it is time to.

        Parameters
        ----------
        net : AdversarialNet
            After an epoch.

        **kwargs : dict
            Not used.
        """
        if net.interrupt_.requested or len(net.history) % self.every:
            return
        state = {
            "training": self.training_,
            "rates": self.rates_,
            "modules": {name: part.state_dict() for name, part in modules_of(net).items()},
            "optimizers": {name: part.state_dict() for name, part in optimizers_of(net).items()},
            "history": json.dumps(list(net.history), default=_plain_figure, skipkeys=True),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "callbacks": {name: _plain(part.state_dict()) for name, part in _with_state(net)},
        }
        path = Path(self.path)
        # Another process of a search may save to the same path at this moment.
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
        """Put a net into the saved state.

        Parameters
        ----------
        net : AdversarialNet
            Initialised.

        Returns
        -------
        int
            Epochs that were trained; 0 if there is no file.

        Raises
        ------
        ValueError
            If the file is of a training with other data or parameters, or is no checkpoint.
        """
        path = Path(self.path)
        if not path.exists():
            return 0
        try:
            state = _read(path, net.device)
            saved = state["training"]
            if saved["first epoch"] < self.training_["first epoch"]:
                # Of an earlier call: this training goes on from what became of it.
                return 0
            history = json.loads(state["history"])
            differences = [
                f"{name}: {saved.get(name)} there, {self.training_.get(name)} here"
                for name in {**self.training_, **saved}
                if saved.get(name) != self.training_.get(name)
            ]
            if differences:
                raise ValueError("; ".join(differences))
            n_epochs = len(history) + 1 - saved["first epoch"]
            if n_epochs > net.max_epochs:
                raise ValueError(f"{n_epochs} epochs there, at most {net.max_epochs} here")
            take_weights(net, state["modules"])
            for name, optimizer in optimizers_of(net).items():
                optimizer.load_state_dict(state["optimizers"][name])
        except Exception as error:
            raise ValueError(
                f"{path} is no checkpoint of this training: delete it{_and_its_twin(path)}, or "
                f"pass the same data, parameters and random_state as then. ({error})"
            ) from error
        if state["rates"] != self.rates_:
            for group, rate in zip(_groups(net), self.rates_, strict=True):
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
    """Where the second training of a fit is saved."""
    return Path(path).with_name(Path(path).name + ".refit")


def _and_its_twin(path):
    """The file of the other training of the same fit, if there is one, in words."""
    twin = path.with_suffix("") if path.suffix == ".refit" else refit_path(path)
    return f" and {twin}" if twin.exists() else ""


def _read(path, device):
    """The state in a file, all of whose bytes are as they were written."""
    content = memoryview(path.read_bytes())
    payload, digest = content[:-_N_DIGEST], content[-_N_DIGEST:]
    if hashlib.blake2b(payload).digest() != digest:
        raise ValueError("the file is damaged, or was not written by Checkpoint")
    return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)


def _with_state(net):
    """Pairs of names and things with a state among the callbacks of a net."""
    for name, callback in net.callbacks_:
        part = getattr(callback, "lr_scheduler_", callback)
        if hasattr(part, "state_dict"):
            yield name, part


def _rates(net):
    return [float(group["lr"]) for group in _groups(net)]


def _groups(net):
    return [group for part in optimizers_of(net).values() for group in part.param_groups]


def _plain(value):
    """A state with Python's numbers in place of NumPy's, which no safe file may hold."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _plain_figure(value):
    """What JSON can hold in place of a figure that it can't: numbers, lists of them, or text."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _identity(net, X, y):
    """What two trainings must have in common for one to go on from the other, as text."""
    names = ("module", "criterion", "optimizer", "alpha", "attack")
    names += ("attack_params", "precision", "batch_size", "train_split", "classes")
    parts = (*modules_of(net), *optimizers_of(net), "module", "criterion", "iterator_train")
    rates = {f"{name}__lr" for name in optimizers_of(net)}
    prefixes = tuple(f"{name}__" for name in parts)
    names += tuple(sorted(k for k in vars(net) if k.startswith(prefixes) and k not in rates))
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
    # A loss keeps its weights of the classes there.
    criterion = getattr(net, "criterion_", None)
    is_module = isinstance(criterion, torch.nn.Module)
    identity["buffers of the criterion"] = list(criterion.buffers()) if is_module else []
    data = X if y is None else (X, np.asarray(to_numpy(y)))
    if net.sample_weight_ is not None:
        data = (X, y, net.sample_weight_)
    n_samples = "unknown" if isinstance(X, IterableDataset) else get_len(X)
    identity |= {"the number of samples": n_samples, "the data": data}
    return {name: _as_text(value) for name, value in identity.items()}


@reprlib.recursive_repr()
def _as_text(value):
    """A text that is the same in another process for the same value."""
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
    name, makings = _makings(value)
    return name if makings is None else f"{name} with checksum {_hash(_as_text(makings).encode())}"


def _makings(value):
    """The name of an object or function, and what makes it differ from others of that name."""
    if isinstance(value, torch.nn.Module):
        # Weights, and what the module keeps to itself, change in training.
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
    """A hash of all entries, or of some rows of a memory map."""
    if isinstance(values, np.memmap):
        values = values[np.linspace(0, len(values) - 1, _N_ROWS, dtype=np.int64)]
    array = np.ascontiguousarray(to_numpy(values))
    is_object = array.dtype == object
    return _hash(repr(array.tolist()).encode() if is_object else array.reshape(-1).view(np.uint8))


def _hash(content):
    return hashlib.blake2b(content, digest_size=8).hexdigest()
