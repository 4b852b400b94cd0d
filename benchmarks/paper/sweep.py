"""A1: logits along the direction of FGSM. Section 7 of the paper."""

import numpy as np
import torch
from _lab.models import plain_maxout
from _lab.rows import picture, row
from scipy.special import softmax

from sk_adv import as_module
from sk_adv.attacks import fgsm
from sk_adv.inspection import EpsilonSweepDisplay

RADII = np.linspace(-10, 10, 401)


def judge(ours):
    """Check each of the three claims separately."""
    word = {True: "agrees", False: "differs"}
    straight = ours["straight steps beyond |ε| = 2"] > 0.5
    extreme = ours["confidence beyond |ε| = 2"] > 0.9
    return (
        f"straight lines off the data: {word[straight]}; sure of itself there: {word[extreme]}; "
        f"right in a narrow band only: {word[ours['right for ε > 0'] < 0.1]} for ε > 0, "
        f"{word[ours['right for ε < 0'] < 0.1]} for ε < 0"
    )


@row(
    "A1",
    "logits of M1 as ε runs from -10 to 10 along the sign of the gradient, first 100 test digits",
    paper="piecewise linear in ε, right in a narrow band only, wrong over wide ranges, extreme "
    "values off the data",
    verdict=judge,
    numbers=("upper end of the band, median ε",),
    note="Shares of the ε from -10 to 10 in steps of 0.05. A step is straight if the logits at its "
    "ε and both its neighbours lie on a line to a millionth of the largest logit. The upper "
    "end of the band is the smallest ε > 0, to 0.005, at which a digit that was classified "
    "correctly is misclassified. For ε < 0 the step raises the logit of the true class, and "
    "leaves the data along straight pieces of the network. The logits are extreme, but M1 is "
    "right at most of these ε. The paper shows one digit.",
)
def sweep(lab, seed):
    """The range of ε with the right class, and the share of straight steps of the logits."""
    model, data = plain_maxout(lab, seed), lab.digits.first(100)
    X, y = data.X_test.astype(np.float64), np.searchsorted(model.classes_, data.y_test)
    module = as_module(model, device="cpu", dtype=torch.float64)
    direction = fgsm(module, X, y, 1.0) - X

    def logits_at(radii):
        lines = torch.from_numpy(X[:, None] + radii[:, None] * direction[:, None])
        with torch.no_grad():
            return module(lines.flatten(0, 1)).unflatten(0, lines.shape[:2]).numpy()

    logits = logits_at(RADII)
    right = logits.argmax(2) == y[:, None]
    # The second difference of a piecewise linear function is 0, except where a piece ends.
    bends = np.abs(np.diff(logits, n=2, axis=1)).max(2) > 1e-6 * np.abs(logits).max((1, 2))[:, None]
    off_the_data = np.abs(RADII) > 2
    near = np.linspace(0, 1, 201)
    wrong = logits_at(near).argmax(2) != y[:, None]
    crossed = wrong.any(1) & ~wrong[:, 0]
    return {
        "right": float(right.mean()),
        "right for ε > 0": float(right[:, RADII > 0].mean()),
        "right for ε < 0": float(right[:, RADII < 0].mean()),
        "upper end of the band, median ε": float(np.median(near[wrong[crossed].argmax(1)])),
        "confidence beyond |ε| = 2": float(softmax(logits, axis=2).max(2)[:, off_the_data].mean()),
        "straight steps": float(1 - bends.mean()),
        "straight steps beyond |ε| = 2": float(1 - bends[:, off_the_data[1:-1]].mean()),
    }


@picture(
    "A1",
    "sweep",
    "Logits of M1 for the first test digit, a 7, moved by ε along the sign of the gradient; pixels "
    "of digits run from 0 to 1. The shaded ε are those at which it is classified correctly.",
)
def draw(lab):
    """The logits of the first test digit."""
    data = lab.digits.first(1)
    display = EpsilonSweepDisplay.from_estimator(
        plain_maxout(lab, 0), data.X_test, data.y_test[0], epsilons=RADII
    )
    return display.figure_
