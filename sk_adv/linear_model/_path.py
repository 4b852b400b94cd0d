"""The solutions for a sequence of radii, and the radius at which it starts."""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_X_y
from sklearn.utils._param_validation import Interval, validate_params

from sk_adv._arrays import to_numpy
from sk_adv._devices import resolve_device
from sk_adv._perturbations import check_radius, check_scale
from sk_adv.linear_model._fitting import (
    make_training_set,
    over_all_classes,
    solve,
    zero_start,
)
from sk_adv.linear_model._logistic import complaint, constraints_of, warn_of_several
from sk_adv.linear_model._partitioned_data import make_partitioned_set
from sk_adv.linear_model._sources import source_of

_CONSTRAINTS = {
    "X": ["array-like", "sparse matrix"],
    "y": ["array-like"],
    "scale": ["array-like", dict, Real, None],
    "sample_weight": ["array-like", None],
    **constraints_of("alpha", "norm", "fit_intercept", "class_weight"),
}


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def epsilon_max(
    X: ArrayLike,
    y: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    alpha: float = 0.0,
    norm: float = np.inf,
    fit_intercept: bool = True,
    sample_weight: ArrayLike | None = None,
    class_weight: dict | str | None = None,
) -> float:
    """Radius from which on all weights of the adversarial logistic regression are zero.

    For two classes with weighted means x̄±, and with an intercept, it is

        ε_max = ‖x̄₊ - x̄₋‖ / (2 (1-alpha))

    in the norm of the perturbation, for any class shares and any C: no linear classifier beats a
    constant against an adversary that can move both means to the same point. Without an intercept
    it is ‖Σ s_i y_i x_i‖ / ((1-alpha) Σ s_i). For three classes and more it is the largest value
    over all pairs of classes; the weights may then be zero for somewhat smaller radii already.

    Parameters
    ----------
    X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
        Training data. Dask's partitions and large arrays that map a file are not gathered.

    y : array-like or dask collection of shape (n_samples,)
        Class labels, of at least two classes.

    scale : float, array-like, dict or Series, default=None
        The radius of feature j is ε times `scale[j]`, in the units of X, such as the features'
        standard deviations. It is given like a radius, see `sk_adv.attacks.perturb`. None is 1.
        Every entry must be positive.

    alpha : float, default=0.0
        Weight of the clean loss, in [0, 1]. At 1 no radius is large enough, and the result is
        infinity.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    fit_intercept : bool, default=True
        Whether the model has an intercept. It must have one for more than two classes.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
        Weights of the samples; None means 1 each.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.

    Returns
    -------
    float
        The radius in multiples of the scale, or in the units of X.

    Raises
    ------
    ValueError
        If a parameter or the data is invalid.

    References
    ----------
    The optimality conditions of `AdversarialLogisticRegression` at w = 0.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.linear_model import epsilon_max
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> largest = epsilon_max(X, y)
    >>> for share in (1.01, 0.99):
    ...     model = AdversarialLogisticRegression(epsilon=share * largest).fit(X, y)
    ...     print(int((model.coef_ != 0).sum()))
    0
    1
    """
    arguments = X, y, sample_weight, class_weight, fit_intercept
    data, scale = _checked(*arguments, torch.device("cpu"), scale)
    return _epsilon_max(data, scale, alpha, norm)


def _epsilon_max(data, scale, alpha, norm):
    if alpha == 1:
        return np.inf
    if (scale == 0).any():
        raise ValueError(
            "The radius at which all weights are zero exists only where every feature can be "
            "changed, but scale holds 0: pass the radii as an array, epsilons=[...]."
        )
    if data.is_constant:
        return 0.0
    if data.fit_intercept:
        gaps = data.gaps_of_means
        share = 2 * (1 - alpha)
    elif data.is_binary:
        gaps = data.class_sums.diff(dim=0)
        share = 1 - alpha
    else:
        raise ValueError("epsilon_max of more than two classes needs fit_intercept=True.")
    gaps = gaps / torch.as_tensor(scale).to(gaps)
    return float(torch.linalg.vector_norm(gaps, ord=norm, dim=1).max()) / share


@validate_params(
    {
        **_CONSTRAINTS,
        **constraints_of("C", "tol", "max_iter", "device"),
        "epsilons": ["array-like", None],
        "n_epsilons": [Interval(Integral, 1, None, closed="left")],
        "epsilon_min_ratio": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def adversarial_logistic_path(
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilons: ArrayLike | None = None,
    n_epsilons: int = 50,
    epsilon_min_ratio: float = 1e-2,
    scale: ArrayLike | None = None,
    alpha: float = 0.0,
    norm: float = np.inf,
    C: float = np.inf,
    fit_intercept: bool = True,
    sample_weight: ArrayLike | None = None,
    class_weight: dict | str | None = None,
    tol: float = 1e-6,
    max_iter: int = 100,
    device: str | torch.device = "auto",
) -> Bunch:
    """Adversarial logistic regression for a sequence of radii, each started at the previous one.

    Parameters
    ----------
    X : {array-like, sparse matrix, dask collection} of shape (n_samples, n_features)
        Training data. Dask's partitions and large arrays that map a file are not gathered.

    y : array-like or dask collection of shape (n_samples,)
        Class labels, of at least two classes.

    epsilons : array-like of shape (n_epsilons,), default=None
        Radii in the units of X. They are solved from the largest to the smallest. None means
        `n_epsilons` radii from `epsilon_max` down, spaced evenly on a log scale.

    n_epsilons : int, default=50
        Number of radii, if `epsilons` is None.

    epsilon_min_ratio : float, default=1e-2
        The smallest radius as a share of the largest, if `epsilons` is None.

    scale : float, array-like, dict or Series, default=None
        The radius of feature j is ε times `scale[j]`, in the units of X, such as the features'
        standard deviations. It is given like a radius, see `sk_adv.attacks.perturb`. None is 1.

    alpha : float, default=0.0
        Weight of the clean loss, as in `AdversarialLogisticRegression`. It must be below 1 if
        `epsilons` is None.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    C : float, default=numpy.inf
        Inverse strength of an additional L2 penalty; infinity means none.

    fit_intercept : bool, default=True
        Whether to fit an intercept.

    sample_weight : array-like or dask collection of shape (n_samples,), default=None
        Weights of the samples; None means 1 each.

    class_weight : dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.

    tol : float, default=1e-6
        Largest allowed violation of the optimality conditions, as in
        `AdversarialLogisticRegression`.

    max_iter : int, default=100
        Largest number of Newton iterations per radius.

    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if it is a tensor, else the CPU.

    Returns
    -------
    sklearn.utils.Bunch
        The entries are below; n_rows is 1 for two classes and n_classes for more.

        epsilons : ndarray of shape (n_epsilons,)
            The radii, in descending order.
        coefs : ndarray of shape (n_epsilons, n_rows, n_features)
            The weights.
        intercepts : ndarray of shape (n_epsilons, n_rows)
            The intercepts.
        objectives, violations : ndarray of shape (n_epsilons,)
            The objective and the largest violation of the optimality conditions.
        n_iters : ndarray of shape (n_epsilons,)
            Number of Newton iterations.

    Raises
    ------
    ValueError
        If a parameter or the data is invalid.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If there is no solution for a radius (see `AdversarialLogisticRegression`), or `max_iter`
        is reached. One warning counts all such radii.

    See Also
    --------
    AdversarialLogisticRegressionCV : Chooses a radius by cross-validation.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_adv.linear_model import adversarial_logistic_path
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> path = adversarial_logistic_path(StandardScaler().fit_transform(X), y, n_epsilons=5)
    >>> path.coefs.shape
    (5, 1, 30)
    """
    device = resolve_device(device, X)
    data, scale = _checked(X, y, sample_weight, class_weight, fit_intercept, device, scale)
    if epsilons is None:
        epsilons = epsilon_grid(data, n_epsilons, epsilon_min_ratio, scale, alpha, norm)
    epsilons = np.sort(check_epsilons(epsilons))[::-1]
    solutions, complaints = [], []
    parameters = {"alpha": alpha, "norm": norm, "C": C, "tol": tol, "max_iter": max_iter}
    for epsilon, solution in zip(epsilons, walk(data, epsilons, scale, **parameters), strict=True):
        message = complaint(solution, alpha, float(epsilon), tol)
        if message is not None:
            complaints.append((float(epsilon), solution.status, message))
        solutions.append(replace(solution, margin=None, curvature=None, screen=None))
    warn_of_several(complaints, len(epsilons), stacklevel=4)
    rows = [over_all_classes(data, solution) for solution in solutions]
    return Bunch(
        epsilons=epsilons,
        coefs=np.stack([to_numpy(coef) for coef, _ in rows]),
        intercepts=np.stack([to_numpy(intercept) for _, intercept in rows]),
        objectives=np.array([solution.objective for solution in solutions]),
        violations=np.array([solution.violation for solution in solutions]),
        n_iters=np.array([solution.n_iter for solution in solutions]),
    )


def walk(data, epsilons, scale, **parameters):
    """Yield the `Solution` for each radius; each starts at the previous one."""
    solution = zero_start(data)
    for epsilon in epsilons:
        solution = solve(data, solution, epsilon=epsilon * scale, on_path=True, **parameters)
        yield solution


def epsilon_grid(data, n_epsilons, ratio, scale, alpha, norm):
    """Radii from `epsilon_max` down to `ratio` times it, spaced evenly on a log scale."""
    if alpha == 1:
        raise ValueError("With alpha=1, epsilons must be given: there is no largest useful radius.")
    largest = _epsilon_max(data, scale, alpha, norm)
    return largest * np.geomspace(1, ratio, n_epsilons)


def check_epsilons(epsilons):
    epsilons = np.asarray(epsilons)
    if epsilons.ndim != 1 or not len(epsilons):
        raise ValueError(
            "epsilons must be a sequence of at least one radius; "
            f"got an array of shape {epsilons.shape}."
        )
    return check_radius(epsilons, name="epsilons")


def _checked(X, y, sample_weight, class_weight, fit_intercept, device, scale):
    """The training set of validated data, in memory or in partitions, and the scale."""
    source = source_of(X, y, sample_weight)
    if source is not None:
        scale = check_scale(scale, source.like)
        return make_partitioned_set(source, class_weight, fit_intercept), scale
    scale = check_scale(scale, X)
    X, y = check_X_y(
        to_numpy(X), to_numpy(y), accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32]
    )
    return make_training_set(X, y, sample_weight, class_weight, fit_intercept, device), scale
