"""A2: networks give noise a class with confidence. Section 7 of the paper."""

import numpy as np
import torch
from _lab.models import CLEAN, maxout, plain_maxout
from _lab.rows import row

from sk_adv import as_module


def sure_of_noise(probabilities, suffix=""):
    """Share of inputs given a class with a probability over 0.5, and the mean probability there.

    The suffix is added to the names of both figures.
    """
    largest = probabilities.max(1)
    sure = largest > 0.5
    return {
        f"given a class{suffix}": float(sure.mean()),
        f"confidence{suffix}": float(largest[sure].mean()) if sure.any() else float("nan"),
    }


def noise(lab, seed):
    """Inputs from N(0, I)."""
    n_inputs = 1000 if lab.quick else 10_000
    return np.random.default_rng(seed).normal(size=(n_inputs, 784)).astype(np.float32)


@row(
    "A2a",
    "M1 on noise from N(0, I)",
    paper={"given a class": 0.9835, "confidence": 0.928},
    verdict=lambda ours: (
        "agrees" if ours["given a class"] > 0.9 and ours["confidence"] > 0.8 else "differs"
    ),
    note="It agreed with an earlier M1, which dropped pixels to black and erred more often on "
    "digits (see M1's note): 98.4 % of the inputs were given a class, with a mean probability of "
    "92.3 %. The last two figures are those of a network trained as M2 on clean digits alone, "
    "which drops to black too, and differs from M1 in more than that.",
)
def softmax(lab, seed):
    """Networks with a softmax: M1, and a network that drops pixels to black."""
    inputs = noise(lab, seed)
    found = sure_of_noise(plain_maxout(lab, seed).predict_proba(inputs))
    return found | sure_of_noise(maxout(lab, seed).predict_proba(inputs), f", M2, {CLEAN}")


@row(
    "A2b",
    "a maxout network with independent sigmoids on top",
    paper={"given a class": 0.68, "confidence": 0.879},
    verdict=lambda ours: (
        "agrees: fewer than with a softmax"
        if ours["given a class"] < ours["given a class, softmax"]
        else "differs: no fewer than with a softmax"
    ),
    note="Both networks are trained as M2, but on clean digits alone and for 20 epochs.",
)
def sigmoids(lab, seed):
    """`predict_proba` scales the sigmoids to a sum of 1, so they are read from the module."""
    n_epochs = 12 if lab.quick else 20
    model = maxout(lab, seed, output_activation="sigmoid", max_iter=n_epochs)
    with_softmax = maxout(lab, seed, max_iter=n_epochs)
    inputs = noise(lab, seed)
    with torch.no_grad():
        log_sigmoids = as_module(model, device="cpu")(torch.from_numpy(inputs))
    found = sure_of_noise(log_sigmoids.exp().numpy())
    return found | sure_of_noise(with_softmax.predict_proba(inputs), ", softmax")
