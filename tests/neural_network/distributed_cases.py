"""Trainings for `test_accelerate.py`, and the script that runs one in each of several processes.

It is called as `python distributed_cases.py NAME FOLDER RANK N_PROCESSES` and writes the result of
the function NAME as FOLDER/RANK.pt.
"""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from skorch.hf import AccelerateMixin
from torch import nn

from sk_adv.neural_network import AdversarialNet


class AcceleratedNet(AccelerateMixin, AdversarialNet):
    """The net of the user guide."""


class FirstGradients(Callback):
    """Keep the gradients of the first steps."""

    def on_train_begin(self, net, **kwargs):
        self.gradients_ = []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        gradient = [weight.grad.flatten() for _, weight in named_parameters]
        self.gradients_.append(torch.cat(gradient))


def shifted(module, X, y, epsilon, *, norm, bounds):
    """An attack of the user's own, without random numbers."""
    return X + epsilon * torch.sin(7 * X)


# Nets whose two processes must train as one does with batches twice as large.
EQUAL = {
    "fgsm": {},
    "copies alone": {"alpha": 0},
    "clean": {"alpha": 1},
    "in L2": {"norm": 2, "epsilon": 1.0},
    "pgd": {"attack": "pgd", "attack_params": {"n_steps": 3, "random_start": False}},
    "trades": {"robust_loss": "trades", "attack": shifted},
    "certified": {"robust_loss": "certified", "epsilon": 0.02, "epsilon_warmup": 0},
    "small boxes": {"robust_loss": "certified", "box_share": 0.2, "epsilon": 0.05},
    "weighted classes": {"criterion__weight": torch.arange(1.0, 11)},
    "weighted classes, trades": {
        "criterion__weight": torch.arange(1.0, 11),
        "robust_loss": "trades",
        "attack": shifted,
    },
    "an ignored class": {"criterion__ignore_index": 3},
    "a sum": {"criterion__reduction": "sum", "lr": 0.005},
    "sample weights": {},
    "memory map": {},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
}


def data(n_samples=197, seed=0):
    """Rows of ten classes. One batch of 64 has 5 samples, which two processes can't share evenly."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n_samples, 12)).astype(np.float32)
    return X, rng.integers(0, 10, n_samples)


def module(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), *middle, nn.Tanh(), nn.Linear(16, 10))


def make(accelerator=None, batch_size=64, net=None, **params):
    """A net on one process, or on all processes of an accelerator with parts of its batches."""
    if accelerator is not None:
        batch_size //= accelerator.num_processes
        params["accelerator"] = accelerator
    kind = net or (AdversarialNet if accelerator is None else AcceleratedNet)
    settings = {"lr": 0.3, "max_epochs": 2, "verbose": 0, "train_split": None, "epsilon": 0.1}
    settings |= {"iterator_train__shuffle": True, "batch_size": batch_size} | params
    return kind(**({"module": module()} | settings))


def trained(net, X, y, **fit_params):
    """The weights, the losses and the gradients of a training."""
    torch.manual_seed(1)
    net.fit(X, y, **fit_params)
    return {
        "weights": {name: value.clone() for name, value in net.module_.state_dict().items()},
        "loss": [row["train_loss"] for row in net.history],
        "batches": [row["train_batch_size"] for row in net.history[-1, "batches"]],
        "gradients": getattr(dict(net.callbacks_).get("gradients"), "gradients_", None),
    }


def equal_case(name, folder, accelerator=None):
    X, y = data()
    params, fit_params = dict(EQUAL[name]), {}
    if name == "float64":
        X = X.astype(np.float64)
    if name == "sample weights":
        fit_params["sample_weight"] = np.random.default_rng(1).uniform(size=len(X))
    if name == "memory map":
        X = np.load(Path(folder) / "X.npy", mmap_mode="r")
    return trained(make(accelerator, **params), X, y, **fit_params)


def equal(accelerator, folder):
    return {name: equal_case(name, folder, accelerator) for name in EQUAL}


def gradients(accelerator, folder=None):
    """The gradient that callbacks see, by skorch's own loop over batches."""
    return trained(make(accelerator, callbacks=[("gradients", FirstGradients())]), *data())


def tiny(accelerator, folder=None):
    """The last batch holds a single sample, and the second process none of it."""
    return trained(make(accelerator), *data(65))


def datasets(accelerator, folder=None):
    """Data that only a DataLoader can read, in batches that divide it evenly."""
    X, y = data(128)
    pairs = [(row, int(label)) for row, label in zip(torch.from_numpy(X), y, strict=True)]
    params = {"iterator_train__shuffle": False}
    return trained(make(accelerator, **params), _Pairs(pairs), None)


class _Pairs(torch.utils.data.Dataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        return self.pairs[row]


def run(name, folder, rank, n_processes):
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
    os.environ |= {"WORLD_SIZE": n_processes, "LOCAL_WORLD_SIZE": n_processes}
    torch.set_num_threads(1)
    # The processes meet at a file, and then take ports that are free.
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=int(rank), world_size=int(n_processes)
    )
    from accelerate import Accelerator

    make_accelerator = partial(Accelerator, cpu=True)
    function = globals()[name]
    takes_any = getattr(function, "takes_any_accelerator", False)
    result = function(make_accelerator if takes_any else make_accelerator(), folder)
    torch.save(result, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run(*sys.argv[1:])
