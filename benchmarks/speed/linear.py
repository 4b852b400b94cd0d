"""Linear models against their peers, on the same data, in the same run.

    python benchmarks/speed/linear.py                 # all sections; l1 takes longest
    python benchmarks/speed/linear.py --only path     # one section
    python benchmarks/speed/linear.py --quick         # small sizes: does everything still run?

Tables are printed, and written to results/linear.md beside this file; a quick run writes nothing
unless it is told where. "x" after a number is a ratio of two times of the same run.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _harness import linear_peers as peers
from _harness.class_sections import class_path_section, class_peers_section, multiclass_section
from _harness.command import Section, parse_arguments, run_sections
from _harness.linear_cells import (
    is_unattained,
    l1_cells,
    liblinear_cells,
    ours_cells,
    quietly,
    ratio,
    seconds,
)
from _harness.linear_problems import dense_problem, mnist_3_vs_7, sparse_problem
from _harness.report import table
from _harness.timing import alternate, available_cores, limit_threads, memory_beyond
from scipy import sparse

from sk_adv.linear_model import adversarial_logistic_path, epsilon_max

EPSILONS = (0.25, 0.1, 0.05, 0.02, 0.01, 0.003)
# saga is far too slow for all radii, or to run until it meets its tolerance.
SAGA_EPSILONS, SAGA_MAX_ITER = (0.25, 0.05), 1000
# A conic solver needs minutes for all rows.
CONIC_EPSILONS, CONIC_ROWS = (0.25, 0.1, 0.05), 1000
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "celer", "cvxpy", "clarabel", "skwdro")

PREFACE = """\
# Speed of the linear models

Written by `python benchmarks/speed/linear.py`; benchmarks/README.md says what is compared. All
sides of a table were timed in the same run, one after the other in turn, on float64 data. Times
are in seconds."""


def l1_section(options):
    """MNIST 3 versus 7: ours against L1 at as many nonzero weights."""
    X, y = mnist_3_vs_7(options.quick)
    saga_max_iter = 20 if options.quick else SAGA_MAX_ITER
    numbers_of_threads = range(1, min(2, available_cores()) + 1)
    rows = []
    for epsilon in EPSILONS:
        sides = {"ours": lambda epsilon=epsilon: peers.fit_ours(X, y, epsilon)}
        model = quietly(sides["ours"])
        sides |= l1_sides(X, y, model)
        if peers.CelerLogisticRegression is not None:
            C = peers.match_sparsity(
                lambda C: peers.fit_celer(X, y, C),
                peers.equivalent_C(model, X, y),
                peers.n_nonzero(model),
                max_fits=12,
            )
            sides["celer"] = lambda C=C: peers.fit_celer(X, y, C)
        for n_threads in numbers_of_threads:
            limit_threads(n_threads)
            timings = alternate(sides, options.repeats)
            if epsilon in SAGA_EPSILONS and n_threads == 1:
                C = timings["liblinear"].result.C
                saga = {"saga": lambda C=C: peers.fit_saga(X, y, C, saga_max_iter)}
                timings |= alternate(saga, repeats=1)
            rows.append([epsilon, n_threads, *ours_cells(timings["ours"]), *l1_cells(timings)])
        limit_threads(options.threads)
    header = ["ε", "threads", "ours", "passes", "violation", "nonzero"]
    header += ["liblinear", "nonzero", "ours / liblinear"]
    header += ["celer", "nonzero", "saga", "nonzero"]
    return (
        f"{X.shape[0]:,} rows, {X.shape[1]} features. liblinear, celer and saga: L1 with tol "
        "1e-6, at the C for which the number of nonzero weights comes nearest to ours (saga: at "
        "liblinear's C). liblinear penalises its intercept, celer fits none. 'Threads' is the "
        "number for torch and BLAS in that line, whatever is said below; liblinear and celer use "
        "one. "
        + ("" if peers.CelerLogisticRegression else "celer is not installed here. ")
        + f"saga was run once, at two radii, on one thread, for at most {saga_max_iter:,} epochs; "
        "'>' means that it had not met its tolerance by then. '(none)' after passes: the rows are "
        "robustly separable, so there is no minimiser, and ours stopped there.\n\n"
        + table(header, rows)
    )


def conic_section(options):
    """The first rows of MNIST 3 versus 7: ours against a conic solver, same problem."""
    X, y = mnist_3_vs_7(options.quick)
    n_rows = 200 if options.quick else CONIC_ROWS
    X, y = X[:n_rows], y[:n_rows]
    rows = []
    for epsilon in CONIC_EPSILONS:
        ours = {"ours": lambda epsilon=epsilon: peers.fit_ours(X, y, epsilon)}
        timings = alternate(ours, options.repeats)
        conic = {"conic": lambda epsilon=epsilon: peers.fit_conic(X, y, epsilon)}
        timings |= alternate(conic, repeats=1)
        model = timings["ours"].result
        objective = peers.worst_case_loss(X, y, model.coef_[0], model.intercept_[0], epsilon)
        reference = peers.worst_case_loss(X, y, *timings["conic"].result, epsilon)
        excess = (objective - reference) / reference
        rows.append(
            [
                epsilon,
                *ours_cells(timings["ours"]),
                seconds(timings["conic"]),
                ratio(timings["conic"], timings["ours"]),
                f"{objective:.6g}",
                "(none)" if is_unattained(model) else f"{excess:+.1e}",
            ]
        )
    header = ["ε", "ours", "passes", "violation", "nonzero", "CVXPY", "CVXPY / ours"]
    header += ["objective", "ours over CVXPY's"]
    return (
        f"The first {n_rows:,} rows. CVXPY with Clarabel at its own tolerances, timed once with "
        "the time it takes to compile the problem. The last column is the relative difference of "
        "the two objectives, both computed from the weights; negative: ours is lower. '(none)': "
        "the rows are robustly separable, so there is no minimiser.\n\n" + table(header, rows)
    )


def shapes_section(options):
    """Wide, tall and sparse random problems: ours against liblinear at matched sparsity."""
    divisor = 20 if options.quick else 1
    rows = []
    for make, n_samples, n_features, share in (
        (dense_problem, 500, 100_000 // divisor, 0.7),
        (dense_problem, 200_000 // divisor, 100, 1 / 3),
        (sparse_problem, 100_000 // divisor, 50_000 // divisor, 0.5),
    ):
        X, y = make(n_samples, n_features)
        epsilon = share * epsilon_max(X, y)
        sides = {"ours": lambda X=X, y=y, epsilon=epsilon: peers.fit_ours(X, y, epsilon)}
        sides |= l1_sides(X, y, quietly(sides["ours"]))
        timings = alternate(sides, options.repeats)
        extra = measure_memory(make, n_samples, n_features, share, options.threads)
        rows.append(
            [
                f"{n_samples:,} × {n_features:,} {'sparse' if sparse.issparse(X) else 'dense'}",
                f"{share:.2f}",
                *ours_cells(timings["ours"]),
                *liblinear_cells(timings),
                f"{n_bytes(X) / 2**20:.0f} MiB",
                f"{extra / n_bytes(X):.0%}",
            ]
        )
    header = ["X", "ε / ε_max", "ours", "passes", "violation", "nonzero"]
    header += ["liblinear", "nonzero", "ours / liblinear", "size of X", "memory beyond X"]
    return (
        "Normal features, labels of a sparse linear model with logistic noise; the sparse X has "
        "100 entries a row. liblinear: L1 with tol 1e-6, as above. Memory: the largest resident "
        "set of a fresh process during our fit, less what it held before.\n\n" + table(header, rows)
    )


def rows_section(options):
    """The time for ten times the rows."""
    n_samples = 20_000 if options.quick else 200_000
    X, y = dense_problem(n_samples, 100)
    epsilon = epsilon_max(X, y) / 3
    few = n_samples // 10
    sides = {
        "few": lambda: peers.fit_ours(X[:few], y[:few], epsilon),
        "many": lambda: peers.fit_ours(X, y, epsilon),
    }
    # The first call of a process also starts its threads.
    quietly(sides["few"])
    timings = alternate(sides, options.repeats)
    rows = [
        [f"{few:,} × 100", *ours_cells(timings["few"]), "1 x"],
        [f"{n_samples:,} × 100", *ours_cells(timings["many"]), ratio(*reversed(timings.values()))],
    ]
    header = ["X", "ours", "passes", "violation", "nonzero", "time"]
    return "The tall problem above and its first tenth, at the same ε.\n\n" + table(header, rows)


def path_section(options):
    """50 radii on MNIST 3 versus 7: the path against the hardest single fit among them."""
    return _path_table(*mnist_3_vs_7(options.quick), 1 / 100, options.repeats)


def _path_table(X, y, smallest, repeats):
    """50 radii down to a share of ε_max: the path against the hardest single fit among them."""

    def walk():
        return adversarial_logistic_path(X, y, epsilon_min_ratio=smallest)

    path = quietly(walk)
    cold = []
    for epsilon in path.epsilons:
        start = time.perf_counter()
        quietly(lambda epsilon=epsilon: peers.fit_ours(X, y, epsilon))
        cold.append(time.perf_counter() - start)
    # A single timing can't tell which fit is hardest: the slowest few are timed again.
    slowest = path.epsilons[np.argsort(cold)[-5:]]
    sides = {"path": walk}
    sides |= {epsilon: lambda epsilon=epsilon: peers.fit_ours(X, y, epsilon) for epsilon in slowest}
    timings = alternate(sides, repeats)
    hardest = max(slowest, key=lambda epsilon: timings[epsilon].seconds)
    row = [
        seconds(timings["path"]),
        path.n_iters.sum(),
        f"{path.violations.max():.1e}",
        f"{np.count_nonzero(path.coefs, axis=(1, 2)).max()}",
        f"{sum(cold):.2f}",
        f"{hardest:.4f}",
        seconds(timings[hardest]),
        ratio(timings["path"], timings[hardest]),
    ]
    header = ["path", "passes", "worst violation", "most nonzero", "50 cold fits"]
    header += ["hardest ε", "its cold fit", "path / hardest"]
    return (
        f"{X.shape[0]:,} rows; 50 radii from ε_max = {path.epsilons[0]:.4f} down to "
        f"{smallest:g} of it. The hardest fit is the slowest, by medians beside the path's, of the "
        "five that were slowest in one run over all 50."
        "\n\n" + table(header, [row])
    )


def l1_sides(X, y, model):
    """Liblinear with L1, at the C that matches a model's sparsity."""
    C = peers.match_sparsity(
        lambda C: peers.fit_liblinear(X, y, C),
        peers.equivalent_C(model, X, y),
        peers.n_nonzero(model),
        max_fits=12,
    )
    return {"liblinear": lambda: peers.fit_liblinear(X, y, C)}


def measure_memory(*problem):
    """Bytes that a fit needs beyond X, in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_memory_of_fit, *problem).result()


def _memory_of_fit(make, n_samples, n_features, share, threads):
    limit_threads(threads)
    # Memory that every fit takes, whatever the size of X, does not count.
    small, labels = make(1000, 100 if make is dense_problem else 1000)
    quietly(lambda: peers.fit_ours(small, labels, epsilon_max(small, labels) / 2))
    X, y = make(n_samples, n_features)
    epsilon = share * epsilon_max(X, y)
    return memory_beyond(lambda: peers.fit_ours(X, y, epsilon))


def n_bytes(X):
    """Bytes that a dense or sparse matrix takes."""
    if sparse.issparse(X):
        return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    return X.nbytes


SECTIONS = {
    "l1": Section("MNIST 3 versus 7, against L1", l1_section),
    "conic": Section("MNIST 3 versus 7, against a conic solver", conic_section),
    "shapes": Section("Shapes", shapes_section),
    "rows": Section("Ten times the rows", rows_section),
    "path": Section("The path", path_section),
    "multiclass": Section("Ten classes", multiclass_section),
    "class_peers": Section("Ten classes, against peers", class_peers_section),
    "class_path": Section("The path of ten classes", class_path_section),
}


if __name__ == "__main__":
    run_sections(
        parse_arguments(__doc__, SECTIONS, repeats=3),
        SECTIONS,
        report=Path(__file__).parent / "results" / "linear.md",
        preface=PREFACE,
        libraries=LIBRARIES,
    )
