"""Networks trained on adversarial copies of each batch."""

from sk_adv.neural_network._layers import Maxout, MaxoutNet
from sk_adv.neural_network._maxout import AdversarialMaxoutClassifier

__all__ = ["AdversarialMaxoutClassifier", "Maxout", "MaxoutNet"]
