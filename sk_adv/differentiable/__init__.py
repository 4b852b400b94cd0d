"""Fitted scikit-learn estimators as differentiable torch modules."""

# Each of these registers its rules.
from sk_adv.differentiable import _columns, _linear, _maps, _wrappers  # noqa: F401
from sk_adv.differentiable._core import as_module

__all__ = ["as_module"]
