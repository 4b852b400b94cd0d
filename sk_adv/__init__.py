"""Train, attack and measure classifiers under worst-case perturbations, the scikit-learn way."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

# The modules that `sk_adv.NAME` imports when it is first asked for: torch takes seconds, and
# `--help` none.
_HOMES = {
    "AdversarialLogisticRegression": "linear_model",
    "AdversarialMaxoutClassifier": "neural_network",
    "FGSMSampler": "preprocessing",
    "FGSMTransformer": "preprocessing",
    "as_module": "differentiable",
}
_MODULES = {
    "attacks",
    "audit",
    "datasets",
    "differentiable",
    "export",
    "inspection",
    "linear_model",
    "metrics",
    "neural_network",
    "pipeline",
    "preprocessing",
    "tree",
}


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"sk_adv.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'sk_adv' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"sk_adv.{_HOMES[name]}"), name)
    return found


def __dir__():
    return sorted({*globals(), *__all__, *_MODULES})
