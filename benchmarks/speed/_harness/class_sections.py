"""Sections for three classes and more: time and accuracy, peers, and the path."""

import numpy as np

from _harness import class_peers, linear_peers
from _harness.linear_cells import certified_error, is_unattained, quietly, ratio, seconds
from _harness.linear_problems import mnist
from _harness.report import table
from _harness.timing import alternate
from sk_adv.linear_model import adversarial_logistic_path, epsilon_max

# Seconds that the solver of several classes took before it was exact, on one thread.
ROUNDED_SECONDS = {0.25: 6.3, 0.1: 15.6, 0.03: 20.4, 0.01: 33.6}
# Rows for the peers that do not get far with more, and the radii there in both norms.
FEW_ROWS, PEER_EPSILON, PEER_EUCLIDEAN = 250, 0.1, 2.0
# The path: radii, the smallest as a share of the largest, and the cold fits among them.
N_EPSILONS, SMALLEST, N_COLD = 50, 1 / 20, 5


def multiclass_section(options):
    """MNIST, ten classes: objective against a long run, and the certified error."""
    X, y, X_test, y_test = mnist(options.quick)
    rows = []
    for epsilon, before in ROUNDED_SECONDS.items():
        ours = {"ours": lambda epsilon=epsilon: linear_peers.fit_ours(X, y, epsilon)}
        timing = alternate(ours, options.repeats)["ours"]
        best = quietly(
            lambda epsilon=epsilon: linear_peers.fit_ours(X, y, epsilon, tol=1e-10, max_iter=1000)
        ).objective_
        model = timing.result
        n_levels = [len(np.unique(row)) for row in model.coef_.T]
        error = certified_error(model.coef_, model.intercept_, X_test, y_test, epsilon)
        rows.append(
            [
                epsilon,
                seconds(timing),
                model.n_iter_,
                f"{model.violation_:.1e}",
                f"{model.objective_:.9f}",
                f"{(model.objective_ - best) / best:+.1e}",
                f"{np.mean(np.equal(n_levels, 1)):.0%}",
                f"{np.sum(n_levels) - len(n_levels)}",
                f"{1 - model.score(X_test, y_test):.2%}",
                f"{error:.2%}",
                before,
                f"{timing.seconds / before:.2f} x",
            ]
        )
    header = ["ε", "ours", "passes", "violation", "objective", "over the long run's"]
    header += ["weights all equal", "gaps", "clean test error", "certified test error"]
    header += ["rounded", "ours / rounded"]
    return (
        f"{X.shape[0]:,} rows, 784 features, 10 classes. The long run has tol=1e-10. 'Weights all "
        "equal' is the share of features that tell no class from another; a gap lies between two "
        "different weights of a feature. The certified error counts every one of the "
        f"{len(y_test):,} test images that some perturbation of at most ε a pixel makes wrong; it "
        "is exact. 'Rounded' is the time of the former solver, which rounded the kinks, to "
        "tol=1e-4, a relative error of 4e-5 or more. It was recorded on another day, for all "
        "60,000 rows on one thread: the last column means something for such a run only.\n\n"
        + table(header, rows)
    )


def class_peers_section(options):
    """Ten classes, and one pair of them, against peers that solve this problem or another."""
    X, y, X_test, y_test = mnist(options.quick)
    n_rows = 60 if options.quick else FEW_ROWS
    few = (X[:n_rows], y[:n_rows])
    coarse, coarse_test = _coarse(few[0], options.quick), _coarse(X_test, options.quick)
    test = (X_test, y_test)
    rows = [
        _peer_row("CVXPY, Clarabel", "the same", (coarse, few[1]), (coarse_test, y_test), options),
        _peer_row("scikit-learn, lbfgs", "no adversary", (X, y), test, options),
    ]
    if class_peers.WassersteinLogisticRegression is not None:
        pair, pair_test = (_pair(*images) for images in ((X, y), test))
        pair = tuple(part[:n_rows] for part in pair)
        rows.append(_peer_row("skwdro, dedicated", "budget on average", pair, pair_test, options))
        problem = "budget on average, smoothed"
        rows.append(_peer_row("skwdro, entropic_torch", problem, few, test, options))
    header = ["side", "its problem", "classes", "X", "our norm and ε", "its time", "ours"]
    header += ["its time / ours", "objective, ours over its", "certified test error, its", "ours"]
    return (
        "MNIST; ours with tol 1e-6. CVXPY minimises exactly our bound, at Clarabel's own "
        "tolerances; its images are averaged over blocks of 2 × 2 pixels, since Clarabel stops "
        "with an error on all 784. The relative difference of the two objectives, computed from "
        "the weights, is negative where ours is lower. scikit-learn minimises the softmax loss "
        "without an adversary, at its own C=1 and tol=1e-4. skwdro's adversary "
        "moves the distribution of the samples by at most the radius on average (in the "
        "Wasserstein distance), ours moves each sample by at most the radius. `dedicated`, for two "
        "classes, minimises mean ζ(-m) + ε‖w‖₂ by CVXPY, which is never below our mean "
        "ζ(ε‖w‖₂ - m); `entropic_torch` smooths the worst distribution for the squared "
        "distance, with ε² as its budget, and descends by stochastic gradients until its own test "
        f"of progress ends it (at a step of {class_peers.WASSERSTEIN_STEP:g}: its own choice "
        f"overflows). Both get {n_rows} rows. "
        + ("" if class_peers.WassersteinLogisticRegression else "skwdro is not installed here. ")
        + "The certified error is exact: the share of test images that some perturbation within "
        "our ε makes wrong. '(none)': the rows are robustly separable, so there is no minimiser, "
        "and ours stopped there. The peers were run once.\n\n" + table(header, rows)
    )


def class_path_section(options):
    """50 radii on MNIST, ten classes: the path against the hardest of five single fits."""
    X, y, _, _ = mnist(options.quick)
    # The rows of a quick run are separable at small radii.
    n_epsilons, smallest = (8, 1 / 4) if options.quick else (N_EPSILONS, SMALLEST)
    epsilons = epsilon_max(X, y) * np.geomspace(1, smallest, n_epsilons)
    # Not the largest one, where all weights are zero.
    cold = epsilons[np.linspace(0, n_epsilons - 1, N_COLD + 1).round().astype(int)[1:]]
    sides = {"path": lambda: adversarial_logistic_path(X, y, epsilons=epsilons)}
    sides |= {
        epsilon: lambda epsilon=epsilon: linear_peers.fit_ours(X, y, epsilon) for epsilon in cold
    }
    timings = alternate(sides, options.repeats)
    path = timings["path"].result
    hardest = max(cold, key=lambda epsilon: timings[epsilon].seconds)
    excess = [
        path.objectives[np.argmin(abs(epsilons - epsilon))] / timings[epsilon].result.objective_ - 1
        for epsilon in cold
    ]
    row = [
        seconds(timings["path"]),
        path.n_iters.sum(),
        f"{path.violations.max():.1e}",
        f"{max(excess):+.1e}",
        f"{hardest:.4f}",
        seconds(timings[hardest]),
        ratio(timings["path"], timings[hardest]),
    ]
    header = ["path", "passes", "worst violation", "objective over the cold fits'", "hardest ε"]
    header += ["its cold fit", "path / hardest"]
    return (
        f"{X.shape[0]:,} rows, ten classes; {n_epsilons} radii from ε_max = {epsilons[0]:.4f} down "
        f"to {epsilons[-1]:.4f}. {N_COLD} of them are fitted on their own, and the slowest, by "
        "medians, is the hardest.\n\n" + table(header, [row])
    )


def _peer_row(side, problem, train, test, options):
    """One line of the table: a peer and ours on the same rows."""
    (X, y), (X_test, y_test) = train, test
    classes, labels = np.unique(y, return_inverse=True)
    norm = 2 if side.startswith("skwdro") else np.inf
    epsilon = PEER_EUCLIDEAN if norm == 2 else PEER_EPSILON
    fits = {
        "CVXPY, Clarabel": lambda: class_peers.fit_conic(X, labels, epsilon),
        "scikit-learn, lbfgs": lambda: class_peers.fit_lbfgs(X, y),
    }
    its = fits.get(side, lambda: class_peers.fit_wasserstein(X, y, epsilon))
    timings = alternate(
        {"ours": lambda: linear_peers.fit_ours(X, y, epsilon, norm=norm)}, options.repeats
    )
    timings |= alternate({"its": its}, repeats=1)
    weights = {
        name: timing.result
        if isinstance(timing.result, tuple)
        else (timing.result.coef_, timing.result.intercept_)
        for name, timing in timings.items()
    }
    positions, order = np.searchsorted(classes, y_test), 2 if norm == 2 else 1
    errors = [
        f"{certified_error(*weights[name], X_test, positions, epsilon, order):.1%}"
        for name in ("its", "ours")
    ]
    excess = "-"
    if side == "CVXPY, Clarabel":
        found, reference = (
            class_peers.worst_case_bound(X, labels, *weights[name], epsilon)
            for name in ("ours", "its")
        )
        excess = f"{found / reference - 1:+.1e}"
    return [
        side,
        problem,
        len(classes),
        f"{X.shape[0]:,} × {X.shape[1]}",
        f"{'2' if norm == 2 else 'max'}, {epsilon:g}",
        seconds(timings["its"]),
        seconds(timings["ours"]) + " (none)" * is_unattained(timings["ours"].result),
        ratio(timings["its"], timings["ours"]),
        excess,
        *errors,
    ]


def _pair(X, y):
    chosen = (y == 3) | (y == 7)
    return X[chosen], y[chosen]


def _coarse(X, quick):
    """Means of blocks of 2 × 2 pixels, or of 4 × 4 in a quick run."""
    size = 4 if quick else 2
    blocks = X.reshape(-1, 28 // size, size, 28 // size, size)
    return blocks.mean(axis=(2, 4)).reshape(len(X), -1)
