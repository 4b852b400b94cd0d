"""The file of a checkpoint: written as a whole or not at all, with a checksum."""

import hashlib
import io
import os
import shutil
import uuid
from collections import OrderedDict

import torch

# Size of the hash at the end of a file, in bytes.
_N_DIGEST = hashlib.blake2b().digest_size

# Number of the format of the files, which changes with the content below.
FORMAT = 2

# The names and types of what a file holds.
_CONTENT = {
    "format": int,
    "training": dict,
    "rates": list,
    "modules": dict,
    "optimizers": dict,
    "history": str,
    "random": torch.Tensor,
    "cuda": list,
    "callbacks": dict,
}

# The types of values, besides containers, that `weights_only` loading takes.
_READABLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_READABLE += (torch.Size, torch.Tensor, torch.nn.Parameter)


def _beside(path):
    """A new file in the folder of another."""
    # A unique name, since another process of a search may save to the same path.
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")


def write(state, path):
    """Write the state and its checksum to a new file, which then replaces the old one."""
    beside = _beside(path)
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


def try_to_write(path):
    """Make the folder of a file, and raise an error that names it if it can't be written to."""
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(exist_ok=False)
        beside.unlink()
    except OSError as error:
        raise type(error)(
            f"The checkpoint {path} can't be written: {error}. Nothing has been trained yet; set "
            "a path in a folder that can be written to."
        ) from error


def disk(path):
    """A sentence about the disk that holds a file."""
    try:
        folder = path.parent.resolve()
        mount = next(parent for parent in (folder, *folder.parents) if parent.is_mount())
        free = shutil.disk_usage(folder).free / 2**20
    except OSError:
        return f"The folder {path.parent} is not there any more."
    return f"The disk mounted at {mount} has {free:.0f} MiB free."


def raise_if_unreadable(state):
    """Raise `TypeError` if `weights_only` loading refuses a part of a state."""
    for kind in ("modules", "optimizers", "callbacks"):
        for place, value in _unreadable(state[kind], kind):
            raise TypeError(
                f"A checkpoint can't hold {place}, of type {type(value).__module__}."
                f"{type(value).__qualname__}: it takes numbers, text, tensors, and lists and dicts "
                "of these. Let state_dict() return such values, register the type by "
                "torch.serialization.add_safe_globals, or leave the checkpoint out."
            )


def _unreadable(value, place):
    """Yield (place, value) for each part of a nested value that `torch.load` would refuse."""
    if type(value) in (dict, OrderedDict):
        for key, part in value.items():
            yield from _unreadable(key, f"the key {key!r} in {place}")
            yield from _unreadable(part, f"{place}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for number, part in enumerate(value):
            yield from _unreadable(part, f"{place}[{number}]")
    elif type(value) not in (*_READABLE, *torch.serialization.get_safe_globals()):
        yield place, value


def read(path, device):
    """Read the state from a file, and verify its checksum and its content."""
    content = memoryview(path.read_bytes())
    payload, digest = content[:-_N_DIGEST], content[-_N_DIGEST:]
    if hashlib.blake2b(payload).digest() != digest:
        raise ValueError("the file is damaged, or was not written by Checkpoint")
    state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    version = state.get("format") if isinstance(state, dict) else None
    if version != FORMAT:
        raise ValueError(
            f"the file has format {version}, and this version of sk_adv reads format {FORMAT}"
        )
    wrong = [name for name, kind in _CONTENT.items() if not isinstance(state.get(name), kind)]
    if wrong or "first epoch" not in state["training"]:
        raise ValueError(f"the file lacks {', '.join(wrong) or 'the first epoch'}")
    return state
