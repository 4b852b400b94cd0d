"""M6: the paper's best network, 1600 units a layer. Section 6 of the paper.

The number of epochs is chosen by the adversarial error on a tenth of the training images, and the
network is then trained again on all 60,000.
"""

from _lab.models import maxout
from _lab.rows import row

# A pass through this network costs as much as fifteen through M1.
N_FOR_PGD = 1000


@row(
    "M6",
    "1600 units a layer, early stopping on the adversarial validation error, retrained on all "
    "images: clean test error",
    paper={"clean error": 0.00782},
    verdict=lambda ours: (
        f"after {ours['epochs chosen']:.0f} epochs our target of 0.75 % is "
        f"{'met' if ours['clean error'] <= 0.0075 else 'missed'}; "
        f"{'lower' if ours['clean error'] < 0.00782 else 'higher'} than the paper's"
    ),
    numbers=("epochs chosen",),
    n_seeds=5,
    note="MNIST's own test images, no augmentation, no convolution. Where there is no CUDA device "
    "the number of epochs is sought among the first 10 of a schedule that ends there, in place of "
    "100: the settings below say how long the network was trained, and with which seeds. "
    "`python -m sk_adv reproduce --only M6 --device cuda` runs five seeds at full length. "
    "PGD is measured on the first 1,000 test digits.",
)
def big_network(lab, seed):
    """The same settings for every seed; no augmentation, no convolution."""
    changes = {
        "hidden_layer_sizes": (1600, 1600),
        "alpha": 0.5,
        # Without CUDA an epoch takes minutes, and this is what can be run, not what should be.
        "max_iter": 100 if lab.device.startswith("cuda") else 10,
        "batch_size": 200,
        "early_stopping": True,
        "refit_full": True,
    }
    if lab.quick:
        changes |= {"hidden_layer_sizes": (240, 240), "max_iter": 5, "batch_size": 100}
    model = maxout(lab, seed, **changes)
    found = lab.figures(model, lab.digits, n_for_pgd=N_FOR_PGD)
    return found | {"epochs chosen": model.best_iteration_}
