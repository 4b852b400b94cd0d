"""A3 and A4: shallow RBF networks, and whether models make the same mistakes. Section 8."""

import numpy as np
import torch
from _lab.lab import CONFIDENCE, EPSILON
from _lab.models import ADAM, PLAIN, plain_maxout
from _lab.rows import row
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, one_hot

from sk_adv import as_module
from sk_adv.attacks import fgsm, pgd, sign_noise
from sk_adv.neural_network import AdversarialNet


class RBF(nn.Module):
    """A unit a class, p_k(x) = exp(-Σ_j β_kj (x_j - μ_kj)²), as log-odds log(p / (1 - p)).

    Parameters
    ----------
    centres : torch.Tensor of shape (n_classes, n_features)
        Where the μ start.
    """

    def __init__(self, centres):
        super().__init__()
        self.centres = nn.Parameter(centres.clone())
        self.log_beta = nn.Parameter(torch.full_like(centres, -4.0))

    def forward(self, X):
        """Log-odds of X, of shape (n_samples, n_classes)."""
        beta = self.log_beta.exp()
        # Σ β (x - μ)², expanded into matrix products.
        constant = (beta * self.centres.square()).sum(1)
        distance = linear(X.square(), beta) - 2 * linear(X, beta * self.centres) + constant
        distance = distance.clamp(min=1e-6)
        # log(1 - exp(-d)) keeps its digits for small and for large d.
        return -distance - torch.log(-torch.expm1(-distance))


def loss_a_class(logits, labels):
    """The sum of the classes' own cross-entropies, one value a sample."""
    targets = one_hot(labels, logits.shape[1]).to(logits)
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)


class LossAClass(nn.Module):
    """The mean of `loss_a_class`."""

    def forward(self, logits, labels):
        """Loss of a batch."""
        return loss_a_class(logits, labels).mean()


def rbf(lab, seed):
    """The fitted RBF network; its centres start at the classes' means."""
    data = lab.digits
    means = np.stack([data.X_train[data.y_train == k].mean(0) for k in range(10)])
    net = AdversarialNet(
        RBF(torch.from_numpy(means)),
        criterion=LossAClass,
        alpha=1.0,
        lr=0.01,
        max_epochs=5 if lab.quick else 20,
        device="cpu",
        **ADAM,
    )
    return lab.fitted(net, data, seed)


def confidence(model, X):
    """The predicted class of each sample, and its probability."""
    with torch.no_grad():
        probabilities = as_module(model, device="cpu")(torch.from_numpy(X)).sigmoid().numpy()
    return probabilities.argmax(1), probabilities.max(1)


@row(
    "A3",
    "shallow RBF network",
    paper={
        "FGSM error": 0.554,
        CONFIDENCE: 0.012,
        "confidence, clean": 0.606,
    },
    verdict=lambda ours: (
        f"{'agrees' if ours[CONFIDENCE] < 0.1 * ours['confidence, clean'] else 'differs'}: "
        "unsure where FGSM fools it, and "
        + ("so" if ours["confidence under noise of ±ε"] < ours[CONFIDENCE] * 10 else "not")
        + " under random noise; the error "
        + ("agrees" if abs(ours["FGSM error"] - 0.554) < 0.05 else "differs")
    ),
    note="One unit per class, with one precision per pixel, trained by `AdversarialNet` with "
    "`alpha=1` on the sum of the classes' cross-entropies. FGSM raises the loss that the "
    "network was trained on; PGD raises the log-odds against the true class. Training makes "
    "the precisions large at pixels that are hardly ever inked. So after a step of ε at every "
    "pixel, also in a random direction, hardly any unit is active, and the prediction "
    "compares tiny probabilities. Hence there are more errors, at less confidence, than in "
    "the paper. PGD finds an error for every digit, at more confidence: a network of low "
    "confidence is not robust for that.",
)
def shallow_rbf(lab, seed):
    """Errors under attacks, and under random noise of the same size."""
    model, X, y = rbf(lab, seed), lab.digits.X_test, lab.digits.y_test
    module = as_module(model, device="cpu")
    attacks = {
        "FGSM": lambda bounds: fgsm(module, X, y, EPSILON, bounds=bounds, loss=loss_a_class),
        "PGD": lambda bounds: pgd(module, X, y, EPSILON, bounds=bounds, **lab.pgd_params),
    }
    clean, sure = confidence(model, X)
    found = {"clean error": (clean != y).mean(), "confidence, clean": sure.mean()}
    for name, attack in attacks.items():
        for suffix, bounds in (("", None), (", clipped", (0, 1))):
            predicted, sure = confidence(model, attack(bounds))
            found[f"{name} error{suffix}"] = (predicted != y).mean()
            found[f"confidence on {name} errors{suffix}"] = sure[predicted != y].mean()
    predicted, sure = confidence(model, sign_noise(module, X, y, EPSILON, random_state=seed))
    found["error under noise of ±ε"] = (predicted != y).mean()
    found["confidence under noise of ±ε"] = sure.mean()
    return {name: float(value) for name, value in found.items()}


def agreement(first, second, X, y):
    """The share of the samples on which both err that both give the same class."""
    first, second = first(X), second(X)
    both = (first != y) & (second != y)
    return float((first == second)[both].mean())


@row(
    "A4",
    "of M1's FGSM errors that another model also gets wrong, the share on which it gives M1's "
    "class; and of the RBF's that the softmax gets wrong too",
    paper={"softmax": 0.846, "RBF": 0.543, "RBF with softmax": 0.536},
    verdict=lambda ours: (
        "agrees in order: the linear model errs as M1 does most often; differs in size: both RBF "
        "figures are lower"
        if ours["softmax"] > max(ours["RBF"], ours["RBF with softmax"])
        else "differs"
    ),
    note="Two models that both err would agree by chance on one ninth of the digits. The RBF "
    "network's agreement is about two and a half to three times that, far below the linear "
    "model's: that far from the data its prediction compares tiny probabilities (see A3).",
)
def shared_mistakes(lab, seed):
    """Agreement of models on copies made against M1."""
    M1, X, y = plain_maxout(lab, seed), lab.digits.X_test, lab.digits.y_test
    shallow, quadratic = lab.fitted(PLAIN, lab.digits), rbf(lab, seed)

    def rbf_class(X):
        return confidence(quadratic, X)[0]

    found, module = {}, as_module(M1, device="cpu")
    for suffix, copies in (
        ("", fgsm(module, X, y, EPSILON)),
        (", PGD", pgd(module, X, y, EPSILON, **lab.pgd_params)),
    ):
        wrong = M1.predict(copies) != y
        errors, labels = copies[wrong], y[wrong]
        found[f"softmax{suffix}"] = agreement(M1.predict, shallow.predict, errors, labels)
        found[f"RBF{suffix}"] = agreement(M1.predict, rbf_class, errors, labels)
        found[f"RBF with softmax{suffix}"] = agreement(rbf_class, shallow.predict, errors, labels)
    return found
