"""M6: the paper's best network, 1600 units a layer. Section 6 of the paper.

The number of epochs is sought once, by the error on 10,000 of the training images. Then five
networks are trained for that number on all 60,000.
"""

from itertools import pairwise

from _lab.lab import error_under
from _lab.models import ADAM
from _lab.rows import row
from skorch.callbacks import LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping

# PGD on all test digits would take many minutes a network.
N_ATTACKED = 1000
N_EPOCHS = 16
SETTINGS = {
    "module__hidden_layer_sizes": (1600, 1600),
    "module__n_pieces": 2,
    "alpha": 0.5,
    "epsilon": 2.0,
    "norm": 2,
    "precision": "bfloat16",
    "lr": 0.002,
    "optimizer__fused": True,
    "batch_size": 200,
}


class NormalisedMaxout(nn.Module):
    """Maxout layers whose pieces are normalised by batch, and a linear layer of logits.

    Sources: Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", ICML 2013;
    Ioffe and Szegedy, "Batch Normalization", ICML 2015.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Number of units per layer.
    n_pieces : int
        Number of linear pieces per unit.
    """

    def __init__(self, hidden_layer_sizes, n_pieces):
        super().__init__()
        self.n_pieces = n_pieces
        sizes = (784, *hidden_layer_sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b * n_pieces) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(n * n_pieces) for n in hidden_layer_sizes)
        self.output = nn.Linear(sizes[-1], 10)

    def forward(self, X):
        """Logits of X, of shape (n_samples, 10)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            X = norm(layer(X)).unflatten(1, (self.n_pieces, -1)).amax(1)
        return self.output(X)


def normalised_maxout(lab, seed, n_epochs, *, is_search=False):
    """The network, fitted for a number of epochs, in which the learning rate falls to 0.

    Parameters
    ----------
    lab : Lab
    seed : int
    n_epochs : int
    is_search : bool, default=False
        Whether a sixth of the training images is held out, and the weights of the epoch with the
        lowest error on them are kept.

    Returns
    -------
    AdversarialNet
    """
    settings = ADAM | SETTINGS
    if lab.quick:
        settings |= {"module__hidden_layer_sizes": (240, 240), "batch_size": 100}
    n_trained = len(lab.digits.y_train)
    callbacks = []
    if is_search:
        held_out = ValidSplit(1 / 6, stratified=True, random_state=0)
        settings |= {"train_split": held_out}
        n_trained -= -(-n_trained // 6)
        callbacks.append(RobustEarlyStopping("clean_error", n_iter_no_change=n_epochs))
    n_steps = n_epochs * -(-n_trained // settings["batch_size"])
    callbacks.append(LRScheduler(CosineAnnealingLR, T_max=n_steps, step_every="batch"))
    net = AdversarialNet(
        NormalisedMaxout, max_epochs=n_epochs, callbacks=callbacks, device=lab.device, **settings
    )
    return lab.fitted(net, lab.digits, seed, resumable=True)


@row(
    "M6",
    "1600 units a layer, number of epochs chosen by held-out images, retrained on all images: "
    "clean test error",
    paper={"clean error": 0.00782},
    verdict=lambda ours: (
        f"{'agrees: lower' if ours['clean error'] < 0.00782 else 'differs: higher'} than the "
        f"paper's; after {ours['epochs chosen']:.0f} epochs our target of 0.75 % is "
        f"{'met' if ours['clean error'] <= 0.0075 else 'missed'}"
    ),
    numbers=("epochs chosen",),
    n_seeds=5,
    note="MNIST's own test images, no augmentation, no convolution. Unlike in the paper, units "
    "have two pieces, which are normalised by batch, for predictions by the statistics of clean "
    "samples alone; nothing is dropped; and the copies that the network is trained on lie within a "
    "Euclidean distance of 2. All settings were chosen by errors on 10,000 of the training images, "
    "never by test images. Such copies lower the clean error, but teach no resistance: in training "
    "they are normalised by their own statistics, and the adversarial error on held-out images "
    "rises while the training loss falls. So the number of epochs is chosen by the clean error on "
    "them, and not by the adversarial one as in the paper; the learning rate then falls to 0 "
    "within this number. The attacks are those of the other rows, in the max-norm; PGD and the "
    'strongest attack, `attack="auto"`, on the first 1,000 test digits. Held-out images are '
    "attacked by FGSM within the Euclidean distance of the training.",
)
def big_network(lab, seed):
    """The same settings for every seed; no augmentation, no convolution."""
    search = normalised_maxout(lab, 0, 5 if lab.quick else N_EPOCHS, is_search=True)
    # The epoch whose weights `RobustEarlyStopping` keeps.
    best = max(
        search.history, key=lambda epoch: (epoch["validation_score"], -epoch["valid_mixed_loss"])
    )
    chosen = best["epoch"]
    model = normalised_maxout(lab, seed, chosen)
    found = lab.figures(model, lab.digits, n_for_pgd=N_ATTACKED)
    X, y = lab.digits.X_test[:N_ATTACKED], lab.digits.y_test[:N_ATTACKED]
    strongest = lab.attacks["strongest attack"] = {"attack": "auto", "random_state": 0}
    for kind, bounds in (("", None), (", clipped", (0, 1))):
        error = error_under(model, X, y, bounds=bounds, **strongest)
        found[f"strongest attack's error{kind}"] = error
    adversarial = search.history[:, "valid_adversarial_error"]
    return found | {
        "clean error, held-out images": best["valid_clean_error"],
        "adversarial error, held-out images": best["valid_adversarial_error"],
        "lowest adversarial error of an epoch, held-out images": min(adversarial),
        "epochs chosen": chosen,
    }
