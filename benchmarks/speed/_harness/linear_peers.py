"""The sides of the comparison: sk_adv's linear model and those that users compare it with."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version

from sk_adv import AdversarialLogisticRegression

try:
    from celer import LogisticRegression as CelerLogisticRegression
except ImportError:
    CelerLogisticRegression = None

TOL = 1e-6

# scikit-learn 1.8 replaced `penalty` by `l1_ratio`.
_L1 = (
    {"l1_ratio": 1}
    if parse_version(sklearn.__version__) >= parse_version("1.8")
    else {"penalty": "l1"}
)


def fit_ours(X: Any, y: np.ndarray, epsilon: float, **params: Any) -> AdversarialLogisticRegression:
    """The worst-case loss, to a violation of at most 1e-6 unless `tol` is given."""
    return AdversarialLogisticRegression(epsilon=epsilon, **{"tol": TOL, **params}).fit(X, y)


def fit_liblinear(X: Any, y: np.ndarray, C: float) -> LogisticRegression:
    """L1 by coordinate descent; the intercept is penalised as well."""
    model = LogisticRegression(
        C=C, solver="liblinear", tol=TOL, max_iter=10_000, random_state=0, **_L1
    )
    return model.fit(X, y)


def fit_saga(X: Any, y: np.ndarray, C: float, max_iter: int) -> LogisticRegression:
    """L1 by stochastic averaged gradients, with an intercept that is not penalised."""
    model = LogisticRegression(
        C=C, solver="saga", tol=TOL, max_iter=max_iter, random_state=0, **_L1
    )
    return model.fit(X, y)


def fit_celer(X: Any, y: np.ndarray, C: float) -> Any:
    """L1 by celer's working sets, which has no intercept."""
    return CelerLogisticRegression(C=C, tol=TOL).fit(X, y)


def fit_conic(X: np.ndarray, y: np.ndarray, epsilon: float) -> tuple[np.ndarray, float]:
    """The same problem as ours by CVXPY with Clarabel: weights and intercept."""
    import cvxpy as cp

    signs = np.where(y == y.max(), 1.0, -1.0)
    w, b = cp.Variable(X.shape[1]), cp.Variable()
    losses = cp.logistic(epsilon * cp.norm1(w) - cp.multiply(signs, X @ w + b))
    cp.Problem(cp.Minimize(cp.sum(losses) / len(y))).solve(solver=cp.CLARABEL)
    return w.value, float(b.value)


def worst_case_loss(
    X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: float, epsilon: float
) -> float:
    """Mean of ζ(ε‖w‖₁ - y (wᵀx + b)), with y = +1 for the larger label."""
    signs = np.where(y == y.max(), 1.0, -1.0)
    return float(
        np.logaddexp(0, epsilon * np.abs(coef).sum() - signs * (X @ coef + intercept)).mean()
    )


def equivalent_C(model: AdversarialLogisticRegression, X: Any, y: np.ndarray) -> float:
    """The C for which L1's threshold at w = 0 is that of a fitted adversarial model.

    In the optimality conditions ε Σ q_i takes the place of 1 / C.
    """
    signs = np.where(y == y.max(), 1.0, -1.0)
    penalty = model.epsilon * np.abs(model.coef_).sum()
    q = expit(penalty - signs * model.decision_function(X))
    return 1 / (model.epsilon * q.sum())


def match_sparsity(fit: Callable[[float], Any], start: float, target: int, max_fits: int) -> float:
    """The C at which the number of nonzero weights comes nearest to a target.

    Doubling or halving, then bisection in log C, until the number is met to 1 % or `max_fits`
    models were fitted.
    """
    low = high = best = None
    C = start
    for _ in range(max_fits):
        with warnings.catch_warnings():
            # If a solver fails at this C, the C is no match.
            warnings.simplefilter("ignore")
            miss = n_nonzero(fit(C)) - target
        if best is None or abs(miss) < abs(best[1]):
            best = C, miss
        if abs(miss) <= 0.01 * target:
            break
        low, high = (C, high) if miss < 0 else (low, C)
        C = 2 * C if high is None else C / 2 if low is None else np.sqrt(low * high)
    return best[0]


def n_nonzero(model: Any) -> int:
    """Number of features with a nonzero weight."""
    return int(np.count_nonzero(model.coef_))
