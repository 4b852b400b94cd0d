"""Fitted scikit-learn estimators as differentiable torch modules."""

# Each of these registers its rules.
from sk_adv.differentiable import (  # noqa: F401
    _calibration,
    _column_transformer,
    _ensembles,
    _gaussian_classes,
    _gaussian_process,
    _linear,
    _networks,
    _pipeline,
    _relaxation_rules,
    _relaxed_maxima,
    _svm,
    _transformers,
)
from sk_adv.differentiable._as_module import as_module, has_rule, parts_of
from sk_adv.differentiable._composition import (
    Chain,
    decision_values,
    log_probabilities,
    preferences,
)
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._intervals import enclose

__all__ = [
    "Chain",
    "Enclosure",
    "as_module",
    "decision_values",
    "enclose",
    "has_rule",
    "log_probabilities",
    "parts_of",
    "preferences",
]
