"""Samples under attack, as the scores see them: all copies at once, or a few at a time."""

from functools import wraps

import numpy as np
from scipy import sparse
from sklearn.frozen import FrozenEstimator

from sk_adv._arrays import dense_blocks, to_numpy
from sk_adv._perturbations import as_perturbation_set
from sk_adv.attacks._estimators import fit_surrogate, perturb
from sk_adv.attacks._table import resolve_attack

# The methods by which scorers ask an estimator.
RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def can_be_sparse(*attacks):
    """Whether attacks take a sparse X: the exact ones need dense copies of few rows at a time.

    Others could be run in the same way, but would take long; "auto" is exact where models are
    linear, as most models of sparse data are.
    """
    found = [resolve_attack(attack).attack for attack in attacks]
    return all(attack.is_exact or attack.needs == "any" for attack in found)


def copies_in_blocks(estimator, X, y, **options):
    """Iterate over blocks of adversarial copies: the positions of the rows, and the copies.

    The copies of a sparse matrix are dense, so they are made for a few rows at a time. A dense X is
    one block.
    """
    if not sparse.issparse(X):
        yield slice(0, None), perturb(estimator, X, y, **options)
        return
    for rows, block in dense_blocks(X):
        yield rows, perturb(estimator, block, y[rows], **options)


def attack_all(estimator, X, y, **options):
    """A classifier and samples, such that its answers to them are those to adversarial copies.

    For a dense X they are the estimator and the copies, for a sparse X an `UnderAttack` and X.
    """
    if not (sparse.issparse(X) and can_be_sparse(options["attack"])):
        return estimator, perturb(estimator, X, y, **options)
    radius = {name: options.pop(name, None) for name in ("epsilon", "norm", "bounds")}
    options["epsilon"] = as_perturbation_set(**radius, X=X)
    if options.get("surrogate") is not None:
        # It is fitted to all rows, and not to those of a block.
        options["surrogate"] = FrozenEstimator(fit_surrogate(options["surrogate"], estimator, X))
    return UnderAttack(estimator, np.asarray(to_numpy(y)), options), X


class UnderAttack:
    """A fitted classifier whose answers are those to adversarial copies of a sparse X."""

    def __init__(self, estimator, y, options):
        self._estimator, self._y, self._options = estimator, y, options

    def __getattr__(self, name):
        value = getattr(self._estimator, name)
        if name not in RESPONSES:
            return value

        # Scorers read the name of the method.
        @wraps(value)
        def answer(X):
            blocks = copies_in_blocks(self._estimator, X, self._y, **self._options)
            return np.concatenate([value(copies) for _, copies in blocks])

        return answer
