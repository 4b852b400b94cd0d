"""The sides of the comparison for several classes, beside sk_adv's own solver."""

from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

try:
    from skwdro.linear_models import LogisticRegression as WassersteinLogisticRegression
except ImportError:
    WassersteinLogisticRegression = None

# skwdro's own choice of a step size overflows with several classes.
WASSERSTEIN_STEP = 1e-2


def fit_lbfgs(X: np.ndarray, y: np.ndarray) -> LogisticRegression:
    """The softmax loss without an adversary, at scikit-learn's own penalty (C=1) and tolerance."""
    return LogisticRegression(max_iter=10_000).fit(X, y)


def fit_conic(X: np.ndarray, labels: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Our bound in the max-norm by CVXPY with Clarabel: weights and intercepts."""
    import cvxpy as cp

    # A pixel that never changes has no weight.
    moves = np.ptp(X, axis=0) > 0
    n_classes = labels.max() + 1
    W, b = cp.Variable((n_classes, moves.sum())), cp.Variable(n_classes)
    reach = cp.Variable((n_classes, n_classes), symmetric=True)
    constraints = [cp.sum(W, axis=0) == 0, cp.sum(b) == 0, cp.diag(reach) == 0]
    cost = 0
    for k in range(n_classes):
        constraints += [
            epsilon * cp.norm1(W[k] - W[other]) <= reach[k, other] for other in range(k)
        ]
        own = X[labels == k][:, moves]
        shift = cp.reshape(b - b[k] + reach[k], (1, n_classes), order="C")
        gaps = own @ (W - cp.vstack([W[k]] * n_classes)).T + np.ones((len(own), 1)) @ shift
        cost += cp.sum(cp.log_sum_exp(gaps, axis=1)) / len(X)
    cp.Problem(cp.Minimize(cost), constraints).solve(solver=cp.CLARABEL)
    coef = np.zeros((n_classes, X.shape[1]))
    coef[:, moves] = W.value
    return coef, b.value


def fit_wasserstein(X: np.ndarray, y: np.ndarray, radius: float) -> Any:
    """skwdro's logistic regression: a ball of distributions in place of a ball for each sample.

    For two classes its `dedicated` solver, by CVXPY; for more its `entropic_torch`, which smooths
    the worst distribution and descends by stochastic gradients. That one's budget is a mean of
    squared distances.
    """
    if len(np.unique(y)) == 2:
        return WassersteinLogisticRegression(rho=radius, solver="dedicated").fit(X, y)
    model = WassersteinLogisticRegression(
        rho=radius**2, solver="entropic_torch", learning_rate=WASSERSTEIN_STEP
    )
    return model.fit(X, y)


def worst_case_bound(
    X: np.ndarray, labels: np.ndarray, coef: np.ndarray, intercept: np.ndarray, epsilon: float
) -> float:
    """Mean of log Σ_k exp((w_k - w_y)ᵀx + b_k - b_y + ε‖w_k - w_y‖₁)."""
    logits = X @ coef.T + intercept
    reach = epsilon * np.abs(coef[:, None] - coef).sum(axis=2)
    shifted = logits - logits[np.arange(len(X)), labels, None] + reach[labels]
    return float(logsumexp(shifted, axis=1).mean())
