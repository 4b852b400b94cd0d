"""What no attack can change: certified accuracy."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length

from sk_adv._adversary import check_samples
from sk_adv._devices import to_numpy
from sk_adv._perturbations import dual_norm
from sk_adv._validation import check_epsilon, check_norm
from sk_adv.differentiable import as_module
from sk_adv.differentiable._linear import fold_linear


def certified_accuracy_score(
    estimator: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: ArrayLike,
    norm: float = np.inf,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Share of samples that no perturbation within the radius can get misclassified.

    Exact for linear models of any number of classes, and pipelines of linear maps before them: x
    of class y is safe iff, for every other class k,

        (w_y - w_k)ᵀx + b_y - b_k > ‖ε ∘ (w_y - w_k)‖_* ,

    with ‖·‖_* the dual norm, L1 for the max-norm and L2 for the Euclidean norm.

    Parameters
    ----------
    estimator : object
        A fitted linear classifier for which `as_module` has a rule, or a `Pipeline` of scalers
        and one.

    X : array-like or frame of shape (n_samples, n_features)
        Clean samples, in the estimator's raw units.

    y : array-like of shape (n_samples,)
        True labels.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples in the mean.

    Returns
    -------
    float
        The certified accuracy, in [0, 1]. One minus it is the robust error, which no attack
        exceeds.

    Raises
    ------
    ValueError
        If a parameter, X or y is invalid.
    TypeError
        If X is sparse, or the estimator is not linear or unknown to `as_module`.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AdversarialLogisticRegression(epsilon=0.3).fit(X, y)
    >>> certified = certified_accuracy_score(model, X, y, epsilon=0.3)
    >>> 0.5 < certified <= adversarial_accuracy_score(model, X, y, epsilon=0.3, attack="pgd")
    True
    """
    check_norm(norm)
    if sample_weight is not None:
        check_consistent_length(y, sample_weight)
    classes, values, y = check_samples(estimator, X, y)
    radius = torch.as_tensor(check_epsilon(epsilon, values.shape[1:]))
    module = as_module(estimator, device="cpu", dtype=torch.float64)
    coef, intercept = fold_linear(module, values.shape[1])
    logits = torch.as_tensor(np.array(to_numpy(values), dtype=np.float64)) @ coef.T + intercept
    known = np.isin(y, classes)
    label = torch.as_tensor(np.searchsorted(classes, y).clip(max=len(classes) - 1))
    reach = dual_norm(coef[:, None] - coef[None], radius, norm)[label]
    others = (logits + reach).scatter(1, label[:, None], -torch.inf).amax(1)
    safe = logits.gather(1, label[:, None]).squeeze(1) > others
    return float(np.average(safe.numpy() & known, weights=sample_weight))
