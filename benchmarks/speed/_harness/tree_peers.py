"""The sides of the comparison on tree models: each decides whether samples are robust.

All sides get the same fitted model, the same float32 samples and one radius of the max-norm. A
side's time includes the conversion of the model into its own form.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from sk_adv.metrics import verify_robustness
from sk_adv.tree import as_trees

VERIFIED, FALSIFIED, UNKNOWN = "verified", "falsified", "unknown"
# The setting of Veritas's own robustness search, which was the best of those tried on the forest:
# shares of 0.2, 0.5, 0.8 and 0.95 with lists of 1,000 or 10,000 states, and none at all.
FOCAL_EPS, FOCAL_SIZE = 0.2, 1000
MEMORY = 2**30
# Elapsed seconds between two looks at the processor's clock.
SLICE = 0.05


@dataclass(frozen=True)
class Problem:
    """A model, samples, and a radius.

    Attributes
    ----------
    name : str
    model : object
        A fitted classifier.
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,)
        True labels.
    epsilon : float
    """

    name: str
    model: object
    X: np.ndarray
    y: np.ndarray
    epsilon: float

    def first(self, n_samples):
        """The same with fewer samples."""
        return Problem(self.name, self.model, self.X[:n_samples], self.y[:n_samples], self.epsilon)


@dataclass
class Answers:
    """The verdicts of a side on each sample, and the time that it took.

    Attributes
    ----------
    status : ndarray of shape (n_samples,)
    copies : ndarray of the shape of X
        Perturbed samples; rows of NaN where the side has none.
    seconds, cpu_seconds : float
        Elapsed time, and the processor's time for this process, all threads together.
    """

    status: np.ndarray
    copies: np.ndarray
    seconds: float
    cpu_seconds: float


def timed(decide: Callable[[], tuple]) -> Answers:
    """Answers of one run of a side."""
    start, cpu_start = time.perf_counter(), time.process_time()
    status, copies = decide()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Answers(np.asarray(status), copies, seconds, cpu_seconds)


def is_confirmed(problem: Problem, copies: np.ndarray) -> np.ndarray:
    """Whether copies lie within the radius, and the model's own `predict` misclassifies them.

    The ends of the interval are rounded to float32, as the samples are.
    """
    has_copy = ~np.isnan(copies).any(axis=1)
    step = np.abs(copies.astype(np.float64) - problem.X)
    allowed = problem.epsilon + np.spacing(np.abs(problem.X) + np.float32(problem.epsilon))
    found = has_copy & (step <= allowed).all(axis=1)
    rows = np.flatnonzero(found)
    if len(rows):
        found[rows] = problem.model.predict(copies[rows]) != problem.y[rows]
    return found


def conversion_seconds(model) -> dict:
    """Processor seconds that the conversion of a model takes, ours and Veritas's."""
    import veritas

    seconds = {}
    for name, convert in {
        "as_trees": lambda: as_trees(model),
        "Veritas": lambda: _converted(veritas, model),
    }.items():
        start = time.process_time()
        convert()
        seconds[name] = time.process_time() - start
    return seconds


def ours(problem: Problem, time_limit: float) -> Callable[[], tuple]:
    """`verify_robustness`, in one process."""

    def decide():
        verdict = verify_robustness(
            problem.model,
            problem.X,
            problem.y,
            epsilon=problem.epsilon,
            time_limit=time_limit,
            n_jobs=1,
        )
        has_copy = verdict.status == FALSIFIED
        return verdict.status, np.where(has_copy[:, None], verdict.counterexamples, np.nan)

    return decide


def clique(problem: Problem) -> Callable[[], tuple]:
    """ART's clique method at its default size of cliques, one sample after the other.

    It certifies or does not, and has neither counterexamples nor a limit of time.
    """
    # Not with this module: other sides run without them.
    from art.estimators.classification import SklearnClassifier, XGBoostClassifier
    from art.metrics import RobustnessVerificationTreeModelsCliqueMethod

    def decide():
        if type(problem.model).__module__.startswith("xgboost"):
            wrapped = XGBoostClassifier(
                problem.model,
                nb_features=problem.X.shape[1],
                nb_classes=len(problem.model.classes_),
            )
        else:
            wrapped = SklearnClassifier(problem.model)
        method = RobustnessVerificationTreeModelsCliqueMethod(wrapped, verbose=False)
        indices = np.searchsorted(problem.model.classes_, problem.y)
        n_classes = len(problem.model.classes_)
        status = []
        for x, label in zip(problem.X, indices, strict=True):
            _, error = method.verify(
                x[None].astype(np.float64),
                np.eye(n_classes)[[label]],
                eps_init=problem.epsilon,
                norm=np.inf,
                nb_search_steps=1,
            )
            status.append(UNKNOWN if error else VERIFIED)
        return status, np.full(problem.X.shape, np.nan)

    return decide


def veritas_search(problem: Problem, time_limit: float) -> Callable[[], tuple]:
    """Veritas's search for one output over 0, which stops at the first or when there is none.

    The trees are first cut down to what the box reaches, as its own robustness search does.
    """
    import veritas

    def decide():
        contrasts = _contrasts(veritas, problem.model)
        indices = np.searchsorted(problem.model.classes_, problem.y)
        wrong = problem.model.predict(problem.X) != problem.y
        status, copies = [], np.full(problem.X.shape, np.nan, dtype=np.float32)
        for row, (x, label) in enumerate(zip(problem.X, indices, strict=True)):
            if wrong[row]:
                status.append(FALSIFIED)
                copies[row] = x
                continue
            deadline = time.process_time() + time_limit
            box = [
                veritas.Interval(low, np.nextafter(high, np.inf))
                for low, high in zip(
                    (x - np.float32(problem.epsilon)).astype(float),
                    (x + np.float32(problem.epsilon)).astype(float),
                    strict=True,
                )
            ]
            found = VERIFIED
            for rival in range(len(problem.model.classes_)):
                if rival == label or found == FALSIFIED:
                    continue
                left = max(deadline - time.process_time(), 1e-3)
                answer, solution = _search(
                    veritas, contrasts(label, rival), box, left, is_preferred=label < rival
                )
                if answer == FALSIFIED:
                    copies[row] = _nearest(solution, x)
                    answer = (
                        FALSIFIED
                        if problem.model.predict(copies[[row]])[0] != problem.y[row]
                        else UNKNOWN
                    )
                if answer != VERIFIED:
                    found = answer
            status.append(found)
        return status, copies

    return decide


def _search(veritas, trees, box, seconds, *, is_preferred):
    """Whether a sum of trees is over 0 somewhere in a box."""
    config = veritas.Config(veritas.HeuristicType.MAX_OUTPUT)
    config.stop_when_optimal = True
    config.stop_when_num_solutions_exceeds = 1
    # Where both scores are equal, the first class is predicted.
    config.ignore_state_when_worse_than = 1e-9 if is_preferred else 0.0
    config.focal_eps, config.max_focal_size = FOCAL_EPS, FOCAL_SIZE
    config.max_memory = MEMORY
    search = config.get_search(trees.prune(box), box)
    # Its own limit is elapsed time, which other work on the machine would take from it.
    deadline, reason = time.process_time() + seconds, veritas.StopReason.OUT_OF_TIME
    while reason == veritas.StopReason.OUT_OF_TIME and time.process_time() < deadline:
        reason = search.step_for(min(seconds, SLICE), 100)
    if search.num_solutions() and search.get_solution(0).output >= 0:
        return FALSIFIED, search.get_solution(0)
    if reason == veritas.StopReason.NO_MORE_OPEN or search.current_bounds().best < 0:
        return VERIFIED, None
    return UNKNOWN, None


def _nearest(solution, x):
    """The float32 point of a cell `low <= x < high` that is next to a sample."""
    point = x.copy()
    for feature, interval in solution.box().items():
        # NumPy compares a float32 with a Python float in float32.
        low, high = np.float64(interval.lo), np.float64(interval.hi)
        if x[feature] < low:
            end = np.float32(low)
            point[feature] = end if end >= low else np.nextafter(end, np.float32(np.inf))
        elif x[feature] >= high:
            end = np.float32(high)
            point[feature] = end if end < high else np.nextafter(end, np.float32(-np.inf))
    return point


def _contrasts(veritas, model):
    """A function of label and rival: trees whose sum is the rival's score less the label's."""
    trees = _converted(veritas, model)
    if len(model.classes_) == 2:
        signed = {0: trees, 1: trees.negate_leaf_values()}
        return lambda label, rival: signed[label]
    made = {}

    def contrast(label, rival):
        if (label, rival) not in made:
            made[label, rival] = trees.contrast_classes(rival, label)
        return made[label, rival]

    return contrast


def _converted(veritas, model):
    """A model as Veritas's trees; it has no converter of its own for extra trees."""
    if not isinstance(model, ExtraTreesClassifier):
        return veritas.get_addtree(model, silent=True)
    from veritas.sklearn_converter import addtree_sklearn_tree

    if model.n_classes_ != 2:
        raise ValueError("This conversion of extra trees is for two classes.")
    trees = veritas.AddTree(1, veritas.AddTreeType.CLF_MEAN)
    for member in model.estimators_:
        addtree_sklearn_tree(trees, member.tree_, lambda value, _: value[0][1] / sum(value[0]))
    trees.set_base_score(0, -len(model.estimators_) / 2)
    return trees
