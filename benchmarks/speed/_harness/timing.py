"""Clocks: alternating runs on a stated number of threads, and the memory that a call needs."""

import contextlib
import os
import re
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits


@dataclass
class Timing:
    """The median time of repeated calls, and the result of the last."""

    seconds: float
    result: Any


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(n_threads: int) -> None:
    """Give torch, BLAS and OpenMP the same number of threads, for the rest of the process."""
    torch.set_num_threads(n_threads)
    threadpool_limits(n_threads)


def alternate(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Call all sides in turn, `repeats` times, so that a busy spell of the machine affects each.

    Parameters
    ----------
    sides : dict of callable
    repeats : int

    Returns
    -------
    dict of Timing
    """
    seconds = {name: [] for name in sides}
    results = {}
    for _ in range(repeats):
        for name, call in sides.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                # Whether a side converged is read from its result.
                warnings.simplefilter("ignore")
                results[name] = call()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(statistics.median(seconds[name]), results[name]) for name in sides}


def median(rounds: list[dict[str, float]], over: str, under: str | None = None) -> float:
    """The median over all rounds of a side's seconds, or of their ratio to another side's."""
    return statistics.median(
        seconds[over] / (1 if under is None else seconds[under]) for seconds in rounds
    )


def memory_beyond(call: Callable[[], Any]) -> int:
    """Bytes by which the process's largest resident set exceeds what it holds before the call.

    This is an upper bound on the memory of the call: where the system can't reset the record of an
    earlier and larger resident set (Linux can), that counts too.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident_bytes("VmRSS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(field):
    """A field of Linux's account of the process; elsewhere the largest resident set so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a process inherits that of the one that started it.
        return 1024 * int(re.search(rf"^{field}:\s+(\d+)", status.read_text(), re.MULTILINE)[1])
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
