"""Scorers that attack the samples before they score an estimator on them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.metrics._scorer import _BaseScorer

from sk_adv._collections import in_memory, is_collection, mean_of
from sk_adv._perturbations import PerturbationSet
from sk_adv.attacks._table import resolve_attack
from sk_adv.metrics._attacked import attack_all
from sk_adv.metrics._partitions import AttackOnPartitions
from sk_adv.metrics._scores import hits


def make_adversarial_scorer(
    scoring: str | Callable = "accuracy",
    *,
    epsilon: ArrayLike,
    attack: str | Callable = "auto",
    attack_params: dict | None = None,
    norm: float = np.inf,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    target: object = None,
    surrogate: object = None,
    random_state: int | np.random.RandomState | None = None,
    device: str | torch.device | None = None,
) -> Callable:
    """Make a scorer that attacks the samples before it scores the estimator on them.

    Parameters
    ----------
    scoring : str or callable, default="accuracy"
        The score of the adversarial copies: a name from `sklearn.metrics.get_scorer_names`, or a
        scorer.

    epsilon : float, array-like, dict or Series
        Radius of the perturbation in the units of X, as in `sk_adv.attacks.perturb`.

    attack : str or callable, default="auto"
        Name of an attack: "auto", the strongest that the model allows, and the most expensive (see
        `sk_adv.attacks.auto`); "fgsm", the cheapest by gradients; "fgsm_rs", "pgd", "apgd",
        "square", "uniform_noise", "sign_noise", "rotate_towards_gradient", or "exact", the worst
        case for linear models and trees; or a function with the signature of
        `sk_adv.attacks.fgsm`.

    attack_params : dict or None, default=None
        Further arguments of the attack, such as `{"n_steps": 20}` for "pgd".

    norm : {numpy.inf, 2}, default=numpy.inf
        The norm that bounds the perturbation.

    bounds : tuple (low, high) or None, default=None
        Valid range of X, to which the copies are clipped.

    target : label, default=None
        Class to move the samples towards, instead of away from the true class.

    surrogate : estimator, default=None
        For models without gradients, and attacks that need one: a classifier for which `as_module`
        has a rule. A clone of it is fitted to the model's own predictions on the scored
        samples and attacked instead of the model. A `FrozenEstimator` is used as it is.

    random_state : int, RandomState instance or None, default=None
        Seeds attacks that draw random numbers; the others ignore it.

    device : str or torch.device, default=None
        Device of the attack. None means the device of the estimator's weights.

    Returns
    -------
    callable
        A scorer `(estimator, X, y, sample_weight=None) -> float` for `GridSearchCV`,
        `cross_validate` and similar functions. With `attack="auto"` or "exact", X may be
        a SciPy matrix. X may be a dask collection: its partitions are attacked where they are, and
        the answers to them and the labels are gathered, or for "accuracy" their sums alone.

    Raises
    ------
    ValueError
        If `scoring`, `attack`, `norm`, `epsilon` or `bounds` is invalid.
    TypeError
        If `scoring` is neither a name nor callable, or the attack does not accept one of
        `attack_params`.

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
    # Errors are raised here, not after the first fit of a search.
    resolve_attack(attack, attack_params, target=target)
    epsilon, bounds = in_memory(epsilon), in_memory(bounds)
    PerturbationSet(epsilon, norm, bounds)
    if not isinstance(scoring, str) and not callable(scoring):
        raise TypeError(f"scoring must be the name of a scorer or a callable; got {scoring!r}.")
    options = {
        "epsilon": epsilon,
        "attack": attack,
        "attack_params": attack_params,
        "norm": norm,
        "bounds": bounds,
        "target": target,
        "surrogate": surrogate,
        "random_state": random_state,
        "device": device,
    }
    return _AdversarialScorer(get_scorer(scoring), options)


class _AdversarialScorer(_BaseScorer):
    """A scorer that attacks the samples first."""

    def __init__(self, scorer, attack):
        # A scorer may also be a plain function of (estimator, X, y), without these attributes.
        super().__init__(
            getattr(scorer, "_score_func", scorer),
            getattr(scorer, "_sign", 1),
            getattr(scorer, "_kwargs", {}),
            getattr(scorer, "_response_method", "predict"),
        )
        self._scorer = scorer
        self._attack = attack

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        # `method_caller` is not used: it may return cached predictions for the clean X.
        if is_collection(X):
            return self._score_partitions(estimator, X, y_true, **kwargs)
        attacked, copies = attack_all(estimator, X, y_true, **self._attack)
        return self._scorer(attacked, copies, y_true, **kwargs)

    def _score_partitions(self, estimator, X, y, sample_weight=None, **kwargs):
        options = dict(self._attack)
        params, target = options.pop("attack_params"), options["target"]
        options["attack"] = resolve_attack(options["attack"], params, target=target)
        work = AttackOnPartitions(estimator, X, y, sample_weight, options=options)
        if self._score_func is accuracy_score and not self._kwargs | kwargs:
            return self._sign * mean_of(*work.sums(hits))
        # Any other score needs the answers to all samples, and the labels, but not X.
        y, weight = work.labels_and_weights()
        if weight is not None:
            kwargs["sample_weight"] = weight
        return self._scorer(work.answers(), X, y, **kwargs)

    def __repr__(self):
        attack = ", ".join(
            f"{name}={value!r}" for name, value in self._attack.items() if value is not None
        )
        return f"make_adversarial_scorer({self._scorer!r}, {attack})"
