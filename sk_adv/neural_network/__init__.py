"""Adversarially trained networks."""

from sk_adv.neural_network._checkpoint import Checkpoint
from sk_adv.neural_network._early_stopping import RobustEarlyStopping
from sk_adv.neural_network._layers import Maxout, MaxoutNet
from sk_adv.neural_network._maxout import AdversarialMaxoutClassifier
from sk_adv.neural_network._net import AdversarialNet
from sk_adv.neural_network._overfitting_guard import OverfittingGuard

__all__ = [
    "AdversarialMaxoutClassifier",
    "AdversarialNet",
    "Checkpoint",
    "Maxout",
    "MaxoutNet",
    "OverfittingGuard",
    "RobustEarlyStopping",
]
