"""Scores of classifiers under attack, certificates, verdicts, and scorers for model selection."""

from sk_adv.metrics._certificates import certified_accuracy_score
from sk_adv.metrics._contribution import AdversarialContribution, adversarial_contribution
from sk_adv.metrics._radii import fragile_samples, robustness_radius
from sk_adv.metrics._reports import adversarial_report, transfer_error_matrix
from sk_adv.metrics._scorer import make_adversarial_scorer
from sk_adv.metrics._scores import adversarial_accuracy_score, adversarial_confidence
from sk_adv.metrics._verdicts import RobustnessVerdict, verify_robustness

__all__ = [
    "AdversarialContribution",
    "RobustnessVerdict",
    "adversarial_accuracy_score",
    "adversarial_confidence",
    "adversarial_contribution",
    "adversarial_report",
    "certified_accuracy_score",
    "fragile_samples",
    "make_adversarial_scorer",
    "robustness_radius",
    "transfer_error_matrix",
    "verify_robustness",
]
