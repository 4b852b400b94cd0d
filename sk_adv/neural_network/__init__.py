"""Adversarially trained networks."""

from sk_adv.neural_network._checkpoint import Checkpoint
from sk_adv.neural_network._layers import Maxout, MaxoutNet
from sk_adv.neural_network._maxout import AdversarialMaxoutClassifier
from sk_adv.neural_network._net import AdversarialNet

__all__ = ["AdversarialMaxoutClassifier", "AdversarialNet", "Checkpoint", "Maxout", "MaxoutNet"]
