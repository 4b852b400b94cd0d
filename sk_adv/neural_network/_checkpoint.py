"""Training that survives the end of its process."""

import json
import os
from pathlib import Path

import torch
from skorch.callbacks import Callback


class Checkpoint(Callback):
    """Save the whole state of the training after epochs, and go on from it.

    A file holds the weights, the optimizer, the history, torch's random state, and the state of
    other callbacks that have one (`state_dict`, or a learning-rate scheduler). Training that was
    killed and is resumed gives the same weights, bit for bit on the CPU, as training that was
    not. The file is written beside the old one and then takes its place, so that one of the two
    is whole at any moment; loading it runs no code.

    Parameters
    ----------
    path : str or path-like
        Where to save. With `AdversarialMaxoutClassifier(refit_full=True)` the second training
        uses a file beside it, with ".refit" added to the name.

    every : int, default=1
        Save after every so many epochs. An epoch that was interrupted is not saved.

    resume : bool, default=False
        Whether to go on from the file, if there is one. Without one, training starts anew.

    See Also
    --------
    AdversarialNet : Takes it as one of its `callbacks`.

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

    def on_epoch_end(self, net, **kwargs):
        """Save, if it is time to."""
        if net.interrupt_.requested or len(net.history) % self.every:
            return
        state = {
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "history": json.dumps(list(net.history), default=float),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "callbacks": {name: part.state_dict() for name, part in _with_state(net)},
        }
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)

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
            If the file belongs to another module or is no checkpoint.
        """
        path = Path(self.path)
        if not path.exists():
            return 0
        try:
            state = torch.load(path, map_location=net.device, weights_only=True)
            net.module_.load_state_dict(state["module"])
            net.optimizer_.load_state_dict(state["optimizer"])
        except Exception as error:
            raise ValueError(
                f"{path} is no checkpoint of this training: delete it, or pass the same "
                f"parameters and data as then. ({error})"
            ) from error
        net.history.clear()
        net.history.extend(json.loads(state["history"]))
        for name, part in _with_state(net):
            if name in state["callbacks"]:
                part.load_state_dict(state["callbacks"][name])
            if hasattr(part, "on_resume"):
                part.on_resume(net)
        torch.set_rng_state(state["random"].cpu())
        if state["cuda"]:
            torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
        return len(net.history)


def _with_state(net):
    """Pairs of names and things with a state among the callbacks of a net."""
    for name, callback in net.callbacks_:
        part = getattr(callback, "lr_scheduler_", callback)
        if hasattr(part, "state_dict"):
            yield name, part
