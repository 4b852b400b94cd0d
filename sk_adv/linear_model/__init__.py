"""Linear models trained against the exact worst case."""

from sk_adv.linear_model._logistic import AdversarialLogisticRegression

__all__ = ["AdversarialLogisticRegression"]
