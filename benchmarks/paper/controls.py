"""M8: training on noise of the same size is no defence. Section 6 of the paper."""

from _lab.lab import CONFIDENCE
from _lab.models import maxout
from _lab.rows import row

NOTE = (
    "In M8a and M8b half of the loss is that of the noisy copies, drawn anew for each batch, as "
    "half of M2's is that of the adversarial ones; 15 epochs, where M2 has 40."
)


def verdict(ours):
    """Noise must leave the network nearly as vulnerable as it was."""
    sure = "sure" if ours[CONFIDENCE] > 0.8 else "unsure"
    if ours["FGSM error"] > 0.7:
        return f"agrees: noise does not help; {sure} of its errors"
    return f"differs: {sure} of its errors"


def noisy_maxout(lab, seed, distribution):
    """M2 with noise in place of the attack."""
    n_epochs = 12 if lab.quick else 15
    return maxout(lab, seed, alpha=0.5, attack=f"{distribution}_noise", max_iter=n_epochs)


@row(
    "M8a",
    "trained with noise of ±ε on every pixel",
    paper={"FGSM error": 0.862, CONFIDENCE: 0.973},
    verdict=verdict,
    note=NOTE,
)
def sign_noise(lab, seed):
    """Errors after training with noise in place of the adversarial copies."""
    model = noisy_maxout(lab, seed, "sign")
    return lab.figures(model, lab.digits)


@row(
    "M8b",
    "trained with noise from U(-ε, ε) on every pixel",
    paper={"FGSM error": 0.904, CONFIDENCE: 0.978},
    verdict=verdict,
)
def uniform_noise(lab, seed):
    """Errors after training with noise in place of the adversarial copies."""
    model = noisy_maxout(lab, seed, "uniform")
    return lab.figures(model, lab.digits)
