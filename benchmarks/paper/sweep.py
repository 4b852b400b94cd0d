"""A1: logits along the direction of FGSM. Section 7 of the paper."""

import numpy as np
import torch
from _lab.networks import maxout
from _lab.rows import picture, row
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator

from sk_adv import as_module
from sk_adv.inspection import EpsilonSweepDisplay
from sk_adv.preprocessing import FGSMTransformer

RADII = np.linspace(-10, 10, 401)


@row(
    "A1",
    "logits of M1 as ε runs from -10 to 10 along the sign of the gradient, 100 test digits",
    paper="piecewise linear in ε, right in a narrow band only, wrong over wide ranges",
    verdict=lambda ours: (
        "agrees for ε > 0; against the gradient, for ε < 0, M1 stays right"
        if ours["right for ε > 0, share of ε"] < 0.05 < 0.5 < ours["right for ε < 0, share of ε"]
        else "agrees"
        if ours["right, share of ε"] < 0.2
        else "differs"
    ),
    numbers=("end of the band, median",),
    note="A straight step is one of three neighbouring ε, 0.05 apart, whose logits lie on a line "
    "to a millionth of their range. Towards ε > 0 the band in which M1 is right ends within a few "
    "hundredths, as the paper says. Towards ε < 0 the step raises the logit of the true class "
    "before it leaves the data, and as the network runs straight on from there, it stays right: "
    "the class is extreme, but not wrong. The paper shows one digit, and does not say how many "
    "it looked at.",
)
def sweep(lab, seed):
    """Where the class is right, and how straight the logits run."""
    model, data = maxout(lab, seed), lab.digits.first(100)
    X = data.X_test.astype(np.float64)
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=1.0, labels="true")
    direction = attack.fit(X, data.y_test).transform(X, data.y_test) - X
    module = as_module(model, device="cpu", dtype=torch.float64)
    lines = torch.from_numpy(X[:, None] + RADII[:, None] * direction[:, None])
    with torch.no_grad():
        logits = module(lines.flatten(0, 1)).unflatten(0, lines.shape[:2]).numpy()
    right = logits.argmax(2) == np.searchsorted(model.classes_, data.y_test)[:, None]
    # A piecewise linear function has no second difference, but where a piece ends.
    bends = np.abs(np.diff(logits, n=2, axis=1)).max(2) > 1e-6 * np.abs(logits).max((1, 2))[:, None]
    first_wrong = [RADII[RADII > 0][np.argmin(row)] for row in right[:, RADII > 0] if not row.all()]
    probabilities = softmax(logits, axis=2)
    largest = probabilities.max(2)[:, np.abs(RADII) > 2]
    return {
        "right, share of ε": float(right.mean()),
        "right for ε > 0, share of ε": float(right[:, RADII > 0].mean()),
        "right for ε < 0, share of ε": float(right[:, RADII < 0].mean()),
        "end of the band, median": float(np.median(first_wrong)),
        "confidence beyond |ε| = 2": float(largest.mean()),
        "share of straight steps": float(1 - bends.mean()),
        "straight steps beyond |ε| = 2": float(1 - bends[:, np.abs(RADII[1:-1]) > 2].mean()),
    }


@picture(
    "A1",
    "sweep",
    "Logits of M1 for the first test digit moved by ε along the sign of the gradient; the shaded "
    "band is where the digit is classified rightly.",
)
def draw(lab):
    """The first test digit."""
    data = lab.digits.first(1)
    display = EpsilonSweepDisplay.from_estimator(
        maxout(lab, 0), data.X_test, data.y_test[0], epsilons=RADII
    )
    return display.figure_
