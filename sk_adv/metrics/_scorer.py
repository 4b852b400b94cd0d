"""Scorers that attack the samples before they score an estimator on them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import get_scorer
from sklearn.metrics._scorer import _BaseScorer

from sk_adv._adversary import check_attack, perturb
from sk_adv._validation import check_bounds, check_epsilon, check_norm


def make_adversarial_scorer(
    scoring: str | Callable = "accuracy",
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "fgsm",
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    surrogate: object = None,
    **attack_params,
) -> Callable:
    """Make a scorer that attacks the samples before it scores the estimator on them.

    Parameters
    ----------
    scoring : str or callable, default="accuracy"
        What to score on the adversarial copies: a name from
        `sklearn.metrics.get_scorer_names`, or a scorer.

    epsilon : float or array-like of shape (n_features,)
        Radius of the perturbation in the units of X.

    attack : str or callable, default="fgsm"
        Name of an attack: "fgsm", "pgd", "uniform_noise", "sign_noise", "rotate_towards_gradient"
        or, for linear models, "exact", their worst case; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    surrogate : estimator, default=None
        For models without gradients: an estimator that `as_module` knows, which is fitted to the
        model's own predictions on the samples that are scored, and attacked in its place. A
        `FrozenEstimator` is used as it is.

    **attack_params : dict
        Further arguments of the attack; `target`, a class to move towards; `device`, where the
        attack runs.

    Returns
    -------
    callable
        A scorer `(estimator, X, y, sample_weight=None) -> float` for `GridSearchCV`,
        `cross_validate` and their kin.

    Raises
    ------
    ValueError
        If `scoring`, `attack`, `norm`, `epsilon` or `bounds` is invalid.
    TypeError
        If `scoring` is neither a name nor callable, or the attack has no parameter of one of the
        names.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sk_adv import AdversarialLogisticRegression
    >>> from sk_adv.metrics import make_adversarial_scorer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = MinMaxScaler().fit_transform(X)
    >>> search = GridSearchCV(
    ...     AdversarialLogisticRegression(),
    ...     {"epsilon": [0.01, 0.05, 0.1]},
    ...     scoring={"clean": "accuracy", "attacked": make_adversarial_scorer(epsilon=0.05)},
    ...     refit="attacked",
    ... )
    >>> bool(search.fit(X, y).best_score_ > 0.8)
    True
    """
    check_attack(attack, **attack_params)
    check_norm(norm)
    check_epsilon(epsilon, None)
    check_bounds(bounds, None)
    if not isinstance(scoring, str) and not callable(scoring):
        raise TypeError(f"scoring must be the name of a scorer or a callable; got {scoring!r}.")
    options = {
        "epsilon": epsilon,
        "attack": attack,
        "norm": norm,
        "bounds": bounds,
        "surrogate": surrogate,
    }
    return _AdversarialScorer(get_scorer(scoring), {**options, **attack_params})


class _AdversarialScorer(_BaseScorer):
    """A scorer behind an attack."""

    def __init__(self, scorer, attack):
        # A plain function of (estimator, X, y) is a scorer too.
        super().__init__(
            getattr(scorer, "_score_func", scorer),
            getattr(scorer, "_sign", 1),
            getattr(scorer, "_kwargs", {}),
            getattr(scorer, "_response_method", "predict"),
        )
        self._scorer = scorer
        self._attack = attack

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        # `method_caller` may hold predictions for the clean X, cached by a scorer beside this one.
        return self._scorer(
            estimator, perturb(estimator, X, y_true, **self._attack), y_true, **kwargs
        )

    def __repr__(self):
        attack = ", ".join(f"{name}={value!r}" for name, value in self._attack.items())
        return f"make_adversarial_scorer({self._scorer!r}, {attack})"
