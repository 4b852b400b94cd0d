"""Train, attack and measure classifiers under worst-case perturbations, the scikit-learn way."""

from sk_adv.differentiable import as_module
from sk_adv.linear_model import AdversarialLogisticRegression
from sk_adv.neural_network import AdversarialMaxoutClassifier
from sk_adv.preprocessing import FGSMSampler, FGSMTransformer

__version__ = "0.1.0"

__all__ = [
    "AdversarialLogisticRegression",
    "AdversarialMaxoutClassifier",
    "FGSMSampler",
    "FGSMTransformer",
    "__version__",
    "as_module",
]
