"""The models that several rows share."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback
from torch import nn

from sk_adv import AdversarialMaxoutClassifier

# Hardly any penalty, on so many digits.
PLAIN = LogisticRegression(C=1.0, max_iter=1000)


class SmallWeights(Callback):
    """Start from weights drawn from U(-reach, reach) and from offsets of zero.

    Weights on pixels that are hardly ever inked stay as they were drawn: small ones do no harm.

    Parameters
    ----------
    reach : float
    """

    def __init__(self, reach):
        self.reach = reach

    def on_train_begin(self, net, **kwargs):
        """Draw them anew."""
        for layer in net.module_.layers:
            nn.init.uniform_(layer.weight, -self.reach, self.reach)
            nn.init.zeros_(layer.bias)


def maxout(lab, seed: int, **changes) -> AdversarialMaxoutClassifier:
    """M1, fitted: two maxout layers of 240 units of 5 pieces with dropout, trained on clean digits.

    Training is longer than the clean error needs, and dropout weaker than is usual: with more of
    it M2 withstands FGSM less.

    Parameters
    ----------
    lab : Lab
    seed : int
    **changes : dict
        What is changed, such as `alpha=0.5` for M2.

    Returns
    -------
    AdversarialMaxoutClassifier
    """
    params = {
        "hidden_layer_sizes": (240, 240),
        "n_pieces": 5,
        "alpha": 1.0,
        "input_dropout": 0.1,
        "hidden_dropout": 0.25,
        "learning_rate": "cosine",
        "max_iter": 40,
        "tol": -np.inf,
        "callbacks": [SmallWeights(0.005)],
        "precision": "bfloat16",
        "random_state": seed,
        "device": lab.device,
        "verbose": 1,
    }
    if lab.quick:
        params |= {"hidden_layer_sizes": (120, 120), "n_pieces": 2, "max_iter": 12}
        # Small weights need many steps to grow.
        params |= {"callbacks": None, "precision": "auto"}
    return lab.fitted(AdversarialMaxoutClassifier(**params | changes), lab.digits)


def adversarial_maxout(lab, seed: int) -> AdversarialMaxoutClassifier:
    """M2, fitted: M1 trained on clean digits and FGSM copies of them in equal parts."""
    return maxout(lab, seed, alpha=0.5)


def both_maxouts(lab, seed: int) -> dict[str, AdversarialMaxoutClassifier]:
    """M1 and M2 by their names."""
    return {"M1": maxout(lab, seed), "M2": adversarial_maxout(lab, seed)}
