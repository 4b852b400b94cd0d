"""Calls of the public interface, each by a seed of its own."""

import importlib
import inspect
import random
import re
import time

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")

import fuzz_doors
import fuzz_fits  # noqa: F401
import fuzz_nets  # noqa: F401
import fuzz_rest  # noqa: F401
import fuzz_trees  # noqa: F401
from fuzz_values import Draw
from fuzz_watch import findings

ROOMS = (
    "audit",
    *("attacks", "datasets", "differentiable", "export", "inspection", "linear_model", "metrics"),
    *("neural_network", "pipeline", "preprocessing", "tree"),
)
SLOW = ("datasets.load_mnist_sample", "export.to_onnx")
NAMES, SHARES = list(fuzz_doors.SHARES), list(fuzz_doors.SHARES.values())


def public_names():
    """All public functions and classes, by the module that documents them."""
    names = []
    for room in ROOMS:
        module = importlib.import_module(f"sk_adv.{room}")
        names += [f"{room}.{name}" for name in module.__all__]
    return names


def public_methods():
    """All public methods that classes of this library define, as module, class and method."""
    methods = set()
    for name in public_names():
        room, item = name.split(".")
        cls = getattr(importlib.import_module(f"sk_adv.{room}"), item)
        if not inspect.isclass(cls):
            continue
        own = [base for base in cls.__mro__ if base.__module__.startswith("sk_adv")]
        defined = {method for base in own for method in vars(base) if not method.startswith("_")}
        # scikit-learn makes these, and which ones there are depends on its version.
        defined = {method for method in defined if not re.fullmatch("set_.*_request", method)}
        methods |= {f"{name}.{m}" for m in defined if callable(getattr(cls, m))}
    return methods


def door_of(seed, number):
    """The door of the call of this number."""
    return random.Random(f"{seed}-{number}").choices(NAMES, SHARES)[0]


def draw_call(seed, number):
    """The door and the call of this number, which is always the same."""
    name = door_of(seed, number)
    return name, fuzz_doors.DOORS[name](Draw(f"{seed}:{number}"))


def run(seed, numbers, *, on_failure=print, on_call=None, slow=True):
    """Make the calls of these numbers; returns the number of failures, and the time per door.

    Without `slow`, doors that take seconds a call are passed over.
    """
    failures, seconds = 0, {}
    for number in numbers:
        start = time.perf_counter()
        name = door_of(seed, number)
        if not slow and name in SLOW:
            continue
        name, call = draw_call(seed, number)
        described = str(call)
        found, error = findings(call)
        plt.close("all")
        seconds[name] = seconds.get(name, 0) + time.perf_counter() - start
        if on_call is not None:
            on_call(name, described, error)
        if found:
            failures += 1
            again = f"python tests/fuzz --seed {seed} --only {number}"
            on_failure(f"{name}: {'; '.join(found)}\n    {described}\n    again: {again}")
    return failures, seconds
