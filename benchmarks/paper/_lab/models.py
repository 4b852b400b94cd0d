"""The models that several rows share."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


class MeanWeights(Callback):
    """End with the mean of the weights after each of the last epochs.

    At a constant learning rate the weights go round the place where they would settle; their mean
    lies nearer to it. Source: Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging
    Weights Leads to Wider Optima and Better Generalization", UAI 2018.

    Parameters
    ----------
    n_epochs : int
        The number of epochs in the mean.
    """

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_train_begin(self, net, **kwargs):
        """Nothing yet."""
        self.mean_ = AveragedModel(net.module_)

    def on_epoch_end(self, net, **kwargs):
        """Take the weights into the mean."""
        if len(net.history) > net.max_epochs - self.n_epochs:
            self.mean_.update_parameters(net.module_)

    def on_train_end(self, net, **kwargs):
        """Leave the mean in the network."""
        net.module_.load_state_dict(self.mean_.module.state_dict())
        del self.mean_


def maxout(lab, seed: int, **changes) -> AdversarialMaxoutClassifier:
    """Two maxout layers of 240 units of 5 pieces with dropout, trained on clean digits, fitted.

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


def plain_maxout(lab, seed: int) -> AdversarialMaxoutClassifier:
    """M1, fitted: trained on clean digits as long as in its paper, with the dropout of that.

    Momentum 0.7 and the limit on norms are from there too; the rate is lower, as momentum there
    rises from 0.5, and the mean of the weights takes the place of a choice among them. Source:
    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", ICML 2013, and
    `mnist_pi.yaml` of pylearn2, which is theirs.
    """
    changes = {
        "input_dropout": 0.2,
        "hidden_dropout": 0.5,
        "max_norm": 1.9365,
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "learning_rate": "constant",
        "momentum": 0.7,
        "max_iter": 250,
        "callbacks": [SmallWeights(0.005), MeanWeights(50)],
    }
    return maxout(lab, seed, **({} if lab.quick else changes))


def adversarial_maxout(lab, seed: int) -> AdversarialMaxoutClassifier:
    """M2, fitted: M1's layers trained on clean digits and FGSM copies of them in equal parts."""
    return maxout(lab, seed, alpha=0.5)


def both_maxouts(lab, seed: int) -> dict[str, AdversarialMaxoutClassifier]:
    """M1 and M2 by their names."""
    return {"M1": plain_maxout(lab, seed), "M2": adversarial_maxout(lab, seed)}
