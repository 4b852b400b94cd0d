"""Linear models on data in partitions: the same optimum, its time, and the memory that it takes.

    python benchmarks/scale/partitions.py                    all sections
    python benchmarks/scale/partitions.py --only peers       one of them
    python benchmarks/scale/partitions.py --quick            small sizes, for a test of the code

Files are written to a temporary folder, 8 GB of them for the sections `disk` and `cluster`;
`--folder` names another place. Tables are printed, and written to results/partitions.md beside
this file; a quick run writes nothing unless it is told where.
"""

import contextlib
import importlib
import itertools
import re
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import psutil
from dask.distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))

from _harness.command import Section, parse_arguments, run_sections
from _harness.report import table

from sk_adv import AdversarialLogisticRegression

N_FEATURES, EPSILON = 50, 0.1
# Rows of a partition.
PARTITION = 125_000
# Rows of the section of dask-ml, of data that fits, and of data that does not.
COMPARED_ROWS, FITTING_ROWS, LARGE_ROWS = 2_000_000, 4_000_000, 40_000_000
# Rows of a partition of data that fits: 100 MB, as Dask advises.
FITTING_PARTITION = 500_000
WORKERS = {"threads_per_worker": 1, "memory_limit": "2GiB", "dashboard_address": None}
# By default Dask makes each worker give memory back to the system as soon as it is free, and with
# that each array of more than 128 KiB is new memory, whose pages are zeroed. This keeps it.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 2**30, "MALLOC_MMAP_THRESHOLD_": 2**30}
# Seconds from which on a side runs once.
ONCE = 60
SOLVERS = ("admm", "gradient_descent", "lbfgs", "newton", "proximal_grad")
LIBRARIES = ("numpy", "scikit-learn", "torch", "dask", "distributed", "dask-ml")

PREFACE = """\
# Linear models on data in partitions

Written by `python benchmarks/scale/partitions.py`. The data has 50 features in float32, of which
ten tell the labels, with logistic noise. Times are in seconds, on one thread a process."""


def write_data(folder, n_rows):
    """Write X and y to files, unless they are there; returns both, mapped."""
    paths = [folder / f"{name}_{n_rows}.npy" for name in "Xy"]
    if not all(path.exists() for path in paths):
        rng = np.random.default_rng(0)
        weight = np.where(np.arange(N_FEATURES) % 5 == 0, rng.normal(size=N_FEATURES), 0)
        options = {"mode": "w+", "dtype": np.float32, "shape": (n_rows, N_FEATURES)}
        X = np.lib.format.open_memmap(paths[0], **options)
        y = np.lib.format.open_memmap(paths[1], mode="w+", dtype=np.uint8, shape=(n_rows,))
        for first, last in cuts(n_rows):
            X[first:last] = rng.standard_normal((last - first, N_FEATURES), dtype=np.float32)
            y[first:last] = X[first:last] @ weight + rng.logistic(size=last - first) > 0
        X.flush()
        y.flush()
    return [np.load(path, mmap_mode="r") for path in paths]


def cuts(n_rows, size=PARTITION):
    """First and last rows of the partitions."""
    return itertools.pairwise([*range(0, n_rows, size), n_rows])


def lazily(folder, n_rows, n_used=None, size=PARTITION):
    """The same, or its first rows, as dask arrays whose partitions are read from the files."""
    write_data(folder, n_rows)

    def part(name, shape, dtype):
        read = dask.delayed(_read)
        path = folder / f"{name}_{n_rows}.npy"
        return da.concatenate(
            [
                da.from_delayed(read(path, first, last), (last - first, *shape), dtype)
                for first, last in cuts(n_used or n_rows, size)
            ]
        )

    return part("X", (N_FEATURES,), np.float32), part("y", (), np.uint8)


def _read(path, first, last):
    # A copy: Dask would count the pages of a mapped file as memory of the worker.
    return np.array(np.load(path, mmap_mode="r")[first:last])


@contextlib.contextmanager
def cluster(n_workers, *, keeps_memory=False, **settings):
    """A cluster of processes of one thread and 2 GiB each, on this machine."""
    environment = KEPT_MEMORY if keeps_memory else {}
    name = "distributed.nanny.pre-spawn-environ"
    with (
        dask.config.set({f"{name}.{key}": value for key, value in environment.items()}),
        LocalCluster(n_workers=n_workers, **WORKERS | settings) as started,
        Client(started) as client,
    ):
        # The first task of a process would wait for this.
        client.run(importlib.import_module, "sk_adv.linear_model")
        yield client


def timed(call):
    """Seconds that a call takes, and its result."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = call()
    return time.perf_counter() - start, result


class PeakMemory:
    """The most memory that processes hold beyond the page cache while a block runs, in MiB.

    `most` is that of this process, `most_of_child` that of the largest process that it started.
    """

    def __enter__(self):
        self.most = self.before = _anonymous_memory()
        self.most_of_child = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while not self.ended.wait(0.05):
            self.most = max(self.most, _anonymous_memory())
            for child in psutil.Process().children(recursive=True):
                # It may end at any time.
                with contextlib.suppress(OSError, TypeError):
                    used = _anonymous_memory(child.pid)
                    self.most_of_child = max(self.most_of_child, used)

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()


def _anonymous_memory(process="self"):
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+)", status, re.MULTILINE)[1]) / 1024


def fit(X, y):
    """The model of all sections but `peers`."""
    return AdversarialLogisticRegression(epsilon=EPSILON).fit(X, y)


def peers_section(options):
    """dask-ml's solvers and ours on the same partitions, without an adversary."""
    from dask_ml.linear_model import LogisticRegression

    n_rows = rows_of(options, COMPARED_ROWS)
    X, y = write_data(options.folder, n_rows)
    with cluster(2) as client:
        client.run(importlib.import_module, "dask_ml.linear_model")
        parts = [part.persist() for part in lazily(options.folder, n_rows)]
        dask.compute(*(part.sum() for part in parts))
        sides = {"ours": AdversarialLogisticRegression(alpha=1, C=1.0)} | {
            f"dask-ml, {solver}": LogisticRegression(solver=solver, C=1.0, max_iter=100)
            for solver in SOLVERS
        }
        results = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, model in sides.items():
                if not any(seconds > ONCE for seconds, _ in results[name]):
                    results[name].append(timed(lambda model=model: model.fit(*parts)))
    losses = {name: total_loss(X, y, runs[0][1]) for name, runs in results.items()}
    rows = [
        [
            name,
            f"{np.median([seconds for seconds, _ in runs]):.1f}",
            len(runs),
            f"{losses[name]:.4f}",
            f"{losses[name] / losses['ours'] - 1:+.1e}" if name != "ours" else "",
        ]
        for name, runs in results.items()
    ]
    header = ["side", "time", "runs", "loss", "over ours"]
    return (
        f"{n_rows:,} rows in partitions of {PARTITION:,}, held by two workers; alpha=1 and C=1: "
        "the logistic loss, summed, plus half the square of w. dask-ml's solvers with max_iter=100 "
        "and their other defaults; they penalise the intercept as well, which is not counted. A "
        f"side that takes over {ONCE} s runs once.\n\n" + table(header, rows)
    )


def total_loss(X, y, model):
    """Σ ζ(-m) + ‖w‖² / 2, by blocks of rows."""
    coef, intercept = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
    loss = coef @ coef / 2
    for first, last in cuts(len(y)):
        margin = (2.0 * y[first:last] - 1) * (X[first:last] @ coef + intercept)
        loss += np.logaddexp(0, -margin).sum()
    return loss


def sides_section(options):
    """In memory, from disk, and on one and two workers: the same data, which fits everywhere."""
    n_rows = rows_of(options, FITTING_ROWS)
    X, y = write_data(options.folder, n_rows)
    held = np.array(X), np.array(y)
    on_workers = {
        "one worker": (1, True),
        "two workers": (2, True),
        "one worker, memory given back": (1, False),
    }
    results = {name: [] for name in ("in memory", "on disk", *on_workers)}
    for _ in range(options.repeats):
        results["in memory"].append(timed(lambda: fit(*held)))
        results["on disk"].append(timed(lambda: fit(X, y)))
        for name, (n_workers, keeps_memory) in on_workers.items():
            with cluster(n_workers, keeps_memory=keeps_memory, memory_limit="6GiB"):
                parts = lazily(options.folder, n_rows, size=FITTING_PARTITION)
                parts = [part.persist() for part in parts]
                dask.compute(*(part.sum() for part in parts))
                results[name].append(timed(lambda parts=parts: fit(*parts)))
    reference = results["in memory"][0][1]
    rows, base = [], {}
    for name, runs in results.items():
        seconds, model = np.median([run[0] for run in runs]), runs[0][1]
        base[name] = seconds
        rows.append(
            [
                name,
                f"{seconds:.2f}",
                model.n_iter_,
                f"{seconds / base['in memory']:.2f} x",
                f"{base['one worker'] / seconds:.2f} x" if name == "two workers" else "",
                f"{abs(model.objective_ / reference.objective_ - 1):.0e}",
                f"{abs(model.coef_ - reference.coef_).max():.0e}",
            ]
        )
    header = ["side", "time", "iterations", "over in memory", "faster than one worker"]
    header += ["objective differs by", "coef_ by"]
    settings = ", ".join(f"`{key}={value}`" for key, value in KEPT_MEMORY.items())
    return (
        f"{n_rows:,} rows, ε = {EPSILON}. Workers are processes of one thread that hold partitions "
        f"of {FITTING_PARTITION:,} rows, in an environment with {settings}; in the last row, in "
        "Dask's own. In memory, features that matter are copied once; elsewhere no feature is.\n\n"
        + table(header, rows)
    )


def disk_section(options):
    """Data larger than the memory that the fit may take, from files, without Dask."""
    rows = []
    for n_rows in (rows_of(options, LARGE_ROWS // 10), rows_of(options, LARGE_ROWS)):
        X, y = write_data(options.folder, n_rows)
        with PeakMemory() as memory:
            seconds, model = timed(lambda X=X, y=y: fit(X, y))
        rows.append(large_row(n_rows, X.nbytes, seconds, model, memory.most - memory.before))
    header = [
        "rows",
        "size of X",
        "time",
        "iterations",
        "violation",
        "memory beyond the page cache",
    ]
    return "`np.load(..., mmap_mode='r')`, one thread.\n\n" + table(header, rows)


def cluster_section(options):
    """The same on workers of 2 GiB."""
    n_rows, rows, base = rows_of(options, LARGE_ROWS), [], None
    for n_workers, n_used in ((1, n_rows // 4), (2, n_rows // 4), (2, n_rows)):
        parts = lazily(options.folder, n_rows, n_used)
        with cluster(n_workers), PeakMemory() as memory:
            seconds, model = timed(lambda parts=parts: fit(*parts))
        base = base or seconds
        cells = large_row(n_used, parts[0].nbytes, seconds, model, memory.most)
        gain = f"{base / seconds:.2f} x" if (n_workers, n_used) == (2, n_rows // 4) else ""
        rows.append([n_workers, *cells, f"{memory.most_of_child:.0f} MiB", gain])
    header = ["workers", "rows", "size of X", "time", "iterations", "violation"]
    header += ["all memory of the client", "of the largest worker", "faster than one"]
    return (
        "Partitions are read from the files whenever they are needed, as X takes more than 30 % of "
        "the workers' memory. Each fit ran once.\n\n" + table(header, rows)
    )


def large_row(n_rows, n_bytes, seconds, model, memory):
    size = f"{n_bytes / 1e9:.1f} GB"
    cells = [f"{n_rows:,}", size, f"{seconds:.0f}", model.n_iter_, f"{model.violation_:.1e}"]
    return [*cells, f"{memory:.0f} MiB"]


def rows_of(options, n_rows):
    """The number of rows, a hundredth in a quick run."""
    return n_rows // 100 if options.quick else n_rows


SECTIONS = {
    "sides": Section("The same data in memory, on disk and on workers", sides_section),
    "peers": Section("dask-ml", peers_section),
    "disk": Section("Larger than memory, from files", disk_section),
    "cluster": Section("Larger than the workers' memory", cluster_section),
}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        options = parse_arguments(
            __doc__,
            SECTIONS,
            repeats=3,
            folder={"type": Path, "default": Path(folder), "help": "where the data is written"},
        )
        run_sections(
            options,
            SECTIONS,
            report=Path(__file__).parent / "results" / "partitions.md",
            preface=PREFACE,
            libraries=LIBRARIES,
        )
