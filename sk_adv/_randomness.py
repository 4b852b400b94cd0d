"""Random generators of one computation, beside torch's global ones."""

from contextlib import contextmanager
from contextvars import ContextVar

import torch


class Generators:
    """Random generators of one training or attack: one for each type of device, seeded alike.

    Torch's global generators are neither read nor moved, and computations in other threads neither
    disturb these draws nor are disturbed.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed):
        self.seed = seed
        self.by_type = {}

    def on(self, device):
        """The `torch.Generator` for draws on a device, made at the first call.

        A training or an attack uses one device of a type, whose number may be left out.
        """
        device = torch.device(device)
        if device.type not in self.by_type:
            self.by_type[device.type] = torch.Generator(device=device).manual_seed(self.seed)
        return self.by_type[device.type]


# A variable of the context, because each thread has a context of its own. Stored in the module or
# the net, generators would be copied, pickled and compared with them.
_IN_USE = ContextVar("generators of the training that runs in this thread", default=None)


@contextmanager
def drawing_from(generators):
    """Let the draws of the networks in this thread come from generators of their own."""
    token = _IN_USE.set(generators)
    try:
        yield
    finally:
        _IN_USE.reset(token)


def has_own_generators():
    """Whether the code runs in a context of `drawing_from`."""
    return _IN_USE.get() is not None


def generator_on(device):
    """The generator for draws on a device; None, which stands for torch's global one, outside.

    Parameters
    ----------
    device : str or torch.device

    Returns
    -------
    torch.Generator or None
    """
    generators = _IN_USE.get()
    return None if generators is None else generators.on(device)


def random_states(device):
    """The states of the generators of a training on a device, for a checkpoint.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    dict
        The state on the CPU as `random`, and those on CUDA as the list `cuda`: one of a training
        with generators of its own, else one per GPU.
    """
    if not has_own_generators():
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {"random": torch.get_rng_state(), "cuda": cuda}
    cuda = [generator_on(device).get_state()] if device.type == "cuda" else []
    return {"random": generator_on("cpu").get_state(), "cuda": cuda}


def set_random_states(states, device):
    """Set the generators of a training on a device to states of `random_states`."""
    random, cuda = states["random"].cpu(), [state.cpu() for state in states["cuda"]]
    if has_own_generators():
        generator_on("cpu").set_state(random)
        if cuda and device.type == "cuda":
            generator_on(device).set_state(cuda[0])
        return
    torch.set_rng_state(random)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
