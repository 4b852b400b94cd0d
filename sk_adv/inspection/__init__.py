"""Displays of what adversaries do and what models learn: numbers first, drawn with matplotlib.

Each display stores what it shows as attributes, as scikit-learn's displays do: `from_estimator`
computes the numbers and draws them, `from_predictions` draws what is known already, and `plot`
draws them again.
"""

from sk_adv.inspection._contribution import AdversarialContributionDisplay
from sk_adv.inspection._curve import RobustnessCurveDisplay
from sk_adv.inspection._examples import AdversarialExamplesDisplay
from sk_adv.inspection._filters import FilterDisplay
from sk_adv.inspection._sweep import EpsilonSweepDisplay
from sk_adv.inspection._transfer import TransferMatrixDisplay
from sk_adv.inspection._verdicts import VerdictDisplay

__all__ = [
    "AdversarialContributionDisplay",
    "AdversarialExamplesDisplay",
    "EpsilonSweepDisplay",
    "FilterDisplay",
    "RobustnessCurveDisplay",
    "TransferMatrixDisplay",
    "VerdictDisplay",
]
