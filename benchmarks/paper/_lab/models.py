"""The models that several rows share."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from sk_adv import AdversarialMaxoutClassifier

# Hardly any penalty, on so many digits.
PLAIN = LogisticRegression(C=1.0, max_iter=1000)
# How skorch's nets are trained here: in shuffled batches, on all digits, in silence.
ADAM = {
    "optimizer": Adam,
    "batch_size": 100,
    "iterator_train__shuffle": True,
    "train_split": None,
    "verbose": 0,
}
# What sets a network apart that is trained as M2 in all else.
CLEAN = "on clean digits alone"


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
    """End with the mean of the weights after each of the last epochs; not with early stopping.

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
        """Start with no weights in it."""
        self.mean_ = AveragedModel(net.module_)
        self.n_before_ = len(net.history) + net.max_epochs - self.n_epochs

    def on_epoch_end(self, net, **kwargs):
        """Take the weights into the mean."""
        if len(net.history) > self.n_before_:
            self.mean_.update_parameters(net.module_)

    def on_train_end(self, net, **kwargs):
        """Leave the mean in the network, unless training was broken off before there was one."""
        if self.mean_.n_averaged:
            net.module_.load_state_dict(self.mean_.module.state_dict())
        del self.mean_

    def state_dict(self):
        """What a checkpoint needs."""
        return {"mean": self.mean_.state_dict(), "n_before": self.n_before_}

    def load_state_dict(self, state):
        """Take up the state of a checkpoint."""
        self.mean_.load_state_dict(state["mean"])
        self.n_before_ = state["n_before"]


def from_grey(X):
    """Pixels as they differ from grey, so that those that dropout sets to 0 become grey.

    Most pixels of a digit are black: dropped to black, they would stay as they are.
    """
    return X - 0.5


def maxout(
    lab, seed: int, *, grey: bool = False, resumable: bool = False, **changes
) -> AdversarialMaxoutClassifier | Pipeline:
    """Two maxout layers of 240 units of 5 pieces with dropout, trained on clean digits, fitted.

    With the settings that suit M2: with more dropout it withstands FGSM less.

    Parameters
    ----------
    lab : Lab
    seed : int
    grey : bool, default=False
        Whether pixels that dropout drops become grey; otherwise they become black.
    resumable : bool, default=False
        Whether the training goes on where it was if it is killed.
    **changes : dict
        What is changed, such as `alpha=0.5` for M2.

    Returns
    -------
    AdversarialMaxoutClassifier, or Pipeline with it as the last step if `grey`
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
    network = AdversarialMaxoutClassifier(**params | changes)
    if grey:
        network = make_pipeline(FunctionTransformer(from_grey), network)
    return lab.fitted(network, lab.digits, resumable=resumable)


def plain_maxout(lab, seed: int) -> Pipeline:
    """M1, fitted: on clean digits, for the lowest clean error.

    The limit on norms and the last momentum are those of the maxout paper (Goodfellow,
    Warde-Farley, Mirza, Courville and Bengio, ICML 2013, and its `mnist_pi.yaml` in pylearn2).
    There the rate falls from 0.1, and the weights with the lowest error on held-out digits are
    taken; here the rate is constant, and the mean of the last weights is taken. There 20 % of the
    pixels and half of the units are dropped.
    """
    changes = {
        "input_dropout": 0.4,
        "max_norm": 1.9365,
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "learning_rate": "constant",
        "momentum": 0.7,
        "max_iter": 200,
        "callbacks": [SmallWeights(0.005), MeanWeights(50)],
    }
    if lab.quick:
        changes |= {"max_iter": 12, "callbacks": [MeanWeights(3)]}
    return maxout(lab, seed, grey=True, **changes)


def adversarial_maxout(lab, seed: int) -> AdversarialMaxoutClassifier:
    """M2, fitted: on clean digits and FGSM copies of them in equal parts."""
    return maxout(lab, seed, alpha=0.5)


def both_maxouts(lab, seed: int) -> dict[str, AdversarialMaxoutClassifier | Pipeline]:
    """M1 and M2 by their names; they differ in more than adversarial training."""
    return {"M1": plain_maxout(lab, seed), "M2": adversarial_maxout(lab, seed)}


def three_maxouts(lab, seed: int) -> dict[str, AdversarialMaxoutClassifier | Pipeline]:
    """M1, M2, and a network that differs from M2 in adversarial training alone."""
    return both_maxouts(lab, seed) | {f"M2, {CLEAN}": maxout(lab, seed)}
