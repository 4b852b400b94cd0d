"""The paper's networks, by the names of its rows."""

import numpy as np

from sk_adv import AdversarialMaxoutClassifier


def maxout(lab, seed: int, **changes) -> AdversarialMaxoutClassifier:
    """M1, fitted: two maxout layers of 240 units of 5 pieces with dropout, trained on clean digits.

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
        "max_iter": 30,
        "tol": -np.inf,
        "random_state": seed,
        "device": lab.device,
        "verbose": 1,
    }
    if lab.quick:
        params |= {"hidden_layer_sizes": (120, 120), "n_pieces": 2, "max_iter": 12}
    return lab.fitted(AdversarialMaxoutClassifier(**params | changes), lab.digits)


def adversarial_maxout(lab, seed: int) -> AdversarialMaxoutClassifier:
    """M2, fitted: M1 trained on clean digits and FGSM copies of them in equal parts."""
    return maxout(lab, seed, alpha=0.5)
