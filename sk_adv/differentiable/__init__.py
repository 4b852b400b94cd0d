"""Fitted scikit-learn estimators as differentiable torch modules."""

# Each of these registers its rules.
from sk_adv.differentiable import (  # noqa: F401
    _calibration,
    _columns,
    _ensembles,
    _generative,
    _kernels,
    _linear,
    _maps,
    _networks,
    _wrappers,
)
from sk_adv.differentiable._core import as_module
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._intervals import enclose

__all__ = ["Enclosure", "as_module", "enclose"]
