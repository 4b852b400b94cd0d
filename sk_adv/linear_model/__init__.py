"""Linear models trained against the exact worst case."""

from sk_adv.linear_model._cv import AdversarialLogisticRegressionCV
from sk_adv.linear_model._logistic import AdversarialLogisticRegression
from sk_adv.linear_model._path import adversarial_logistic_path, epsilon_max

__all__ = [
    "AdversarialLogisticRegression",
    "AdversarialLogisticRegressionCV",
    "adversarial_logistic_path",
    "epsilon_max",
]
