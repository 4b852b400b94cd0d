"""Trainings for `test_accelerate.py`, and the script that runs them in each of several processes.

It is called as `python distributed_cases.py FOLDER RANK N_PROCESSES` and writes the results as
FOLDER/RANK.pt. Then process 1 ends, and process 0 writes what it makes of that as FOLDER/lost.pt.
"""

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from skorch.hf import AccelerateMixin
from torch import nn

from sk_adv.metrics import adversarial_accuracy_score
from sk_adv.neural_network import (
    AdversarialNet,
    Checkpoint,
    OverfittingGuard,
    RobustEarlyStopping,
)


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
    """Rows of ten classes. The last batch has 5 samples, which two processes share unevenly."""
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


def numbers(accelerator, folder):
    """All trainings that must be those of one process."""
    cases = (gradients, tiny, datasets)
    return equal(accelerator, folder) | {case.__name__: case(accelerator) for case in cases}


def accumulated(accelerator, folder=None):
    """Gradients that may add up over two batches."""
    steps = 1 if accelerator is None else accelerator.gradient_accumulation_steps
    params = {"batch_size": 64 // steps, "iterator_train__shuffle": False}
    callbacks = [("gradients", FirstGradients())]
    return trained(make(accelerator, callbacks=callbacks, **params), *data(128))


class Dying(Callback):
    """End one process in the midst of the training, without a word."""

    def on_epoch_begin(self, net, **kwargs):
        if net.accelerator.process_index == 1 and len(net.history) == 3:
            os._exit(0)


def lost(accelerator, folder=None):
    """The error of a process that has lost the other."""
    net = make(accelerator, max_epochs=5, callbacks=[("dying", Dying())])
    return {"message": message_of(net.fit, *data()), "n_epochs": len(net.history)}


class Interrupting(Callback):
    """Press Ctrl-C in one process, after the second batch of the second epoch."""

    def on_batch_end(self, net, training, **kwargs):
        if training and net.accelerator.process_index == 1 and len(net.history) == 2:
            self.n_batches_ = getattr(self, "n_batches_", 0) + 1
            if self.n_batches_ == 2:
                os.kill(os.getpid(), signal.SIGINT)


class StoppingAtBatch(Callback):
    """End the training of one process within an epoch."""

    def on_batch_end(self, net, training, **kwargs):
        if net.accelerator.process_index == 1 and len(net.history) == 2:
            raise KeyboardInterrupt


class Stopping(Callback):
    """End the training of one process as skorch's EarlyStopping does."""

    def on_epoch_end(self, net, **kwargs):
        if net.accelerator.process_index == 1 and len(net.history) == 3:
            raise KeyboardInterrupt


def behaviour(accelerator, folder):
    """What can be asked of processes that draw different random numbers, or stop at other times."""
    X, y = data()
    first = accelerator.process_index == 0
    results = {}

    def keep(name, net, **more):
        history = [
            {key: value for key, value in row.items() if key not in ("batches", "dur")}
            for row in net.history
        ]
        state = {key: value.clone() for key, value in net.module_.state_dict().items()}
        results[name] = {"weights": state, "history": history} | more

    def own_module():
        """Other weights in each process, and layers with a state and with random numbers."""
        torch.manual_seed(accelerator.process_index)
        layers = [nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(16, 10))

    settings = {"module": own_module(), "attack": "pgd", "lr": 0.1}
    stopping = ("stopping", RobustEarlyStopping("pgd", n_iter_no_change=1))
    guard = ("guard", OverfittingGuard(20, share=1.0))
    net = make(
        accelerator,
        **settings | {"attack": "fgsm_rs", "max_epochs": 6, "train_split": ValidSplit(5)},
        callbacks=[stopping, guard],
    )
    keep("random", net.fit(X, y), is_training=net.module_.training)
    results["random"]["predicted"] = net.predict(X)
    # One process alone may predict, attack and copy the net.
    if first:
        results["alone"] = {
            "predicted": net.predict(X),
            "copied": pickle.loads(pickle.dumps(net.module_))(torch.from_numpy(X)).argmax(1),
            "attacked": adversarial_accuracy_score(net, X, y, epsilon=0.1),
        }
    net.save_params(Path(folder) / f"weights{accelerator.process_index}.pt")

    net = make(accelerator, max_epochs=5, callbacks=[("stopping", Stopping())])
    keep("stopped", net.fit(X, y))
    net = make(accelerator, max_epochs=5, callbacks=[("stopping", StoppingAtBatch())])
    keep("stopped at a batch", net.fit(X, y), n_batches=len(net.history[-1, "batches"]))
    net = make(accelerator, max_epochs=5, callbacks=[("interrupting", Interrupting())])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keep("interrupted", net.fit(X, y), n_batches=len(net.history[-1, "batches"]))
    results["interrupted"]["warnings"] = [str(warning.message) for warning in caught]

    for name, epochs in (("whole", [4]), ("resumed", [2, 4])):
        for max_epochs in epochs:
            path = Path(folder) / f"{name}.checkpoint"
            checkpoint = ("checkpoint", Checkpoint(path, resume=True))
            net = make(accelerator, **settings | {"module": own_module()}, callbacks=[checkpoint])
            # Other numbers than those after the break, which the file restores.
            torch.manual_seed(10 * max_epochs * (name == "resumed" and max_epochs == 4))
            net.set_params(max_epochs=max_epochs).fit(X, y)
        keep(name, net)

    net = make(accelerator)
    here = 197 - accelerator.process_index
    results["fewer rows"] = message_of(net.fit, X[:here], y[:here])
    results["other rows"] = message_of(net.fit, *data(seed=accelerator.process_index))
    weight = np.full(len(X), 1.0 + accelerator.process_index)
    results["other weights"] = message_of(net.fit, X, y, weight)
    other = make(accelerator, max_epochs=2 + accelerator.process_index, batch_size=32)
    results["other epochs"] = message_of(other.fit, X, y)
    split = ValidSplit(0.2, random_state=accelerator.process_index)
    other = make(accelerator, train_split=split)
    results["other parts"] = message_of(other.fit, X, y)
    checkpoint = Checkpoint(folder_for(first, folder))
    results["no place"] = message_of(make(accelerator, callbacks=[checkpoint]).fit, X, y)
    results["diverged"] = message_of(
        make(accelerator, lr=1e38, module=nn.Linear(12, 10), max_epochs=5).fit, X, y
    )
    # After errors in all processes at the same place they can go on.
    keep("afterwards", make(accelerator).fit(X, y))
    uneven = Accelerator(
        cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=False, split_batches=True)
    )
    results["uneven"] = message_of(make(uneven).fit, X, y)
    split = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    results["odd"] = message_of(make(split, batch_size=66).fit, X, y)
    checkpoint = ("checkpoint", Checkpoint(Path(folder) / "split.checkpoint"))
    keep("split", make(split, batch_size=128, callbacks=[checkpoint]).fit(X, y))
    return results


def folder_for(is_first, folder):
    """A path in a folder for all but the first process, which finds a file in its place."""
    path = Path(folder) / "a file"
    path.touch()
    return path / "net.checkpoint" if is_first else Path(folder) / "net.checkpoint"


def message_of(function, *args):
    """The type and the message of the error that a call raises."""
    try:
        function(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def run(folder, rank, n_processes):
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
    os.environ |= {"WORLD_SIZE": n_processes, "LOCAL_WORLD_SIZE": n_processes}
    torch.set_num_threads(1)
    # The processes meet at a file, and then take ports that are free.
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=int(rank), world_size=int(n_processes)
    )
    accelerator = Accelerator(cpu=True)
    results = {"numbers": numbers(accelerator, folder), "behaviour": behaviour(accelerator, folder)}
    results["accumulated"] = accumulated(Accelerator(cpu=True, gradient_accumulation_steps=2))
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.save(lost(Accelerator(cpu=True)), Path(folder) / "lost.pt")
    # Gloo's threads may abort a process that ends while the other one takes its leave.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    run(*sys.argv[1:])
