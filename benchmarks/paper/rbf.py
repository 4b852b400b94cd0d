"""A3 and A4: shallow RBF networks, and whether models make the same mistakes. Section 8."""

import numpy as np
import torch
from _lab.lab import EPSILON
from _lab.networks import maxout
from _lab.rows import row
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, one_hot

from sk_adv import as_module
from sk_adv._adversary import perturb
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
        optimizer=torch.optim.Adam,
        lr=0.01,
        batch_size=100,
        max_epochs=5 if lab.quick else 20,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device="cpu",
    )
    return lab.fitted(net, data, seed)


def confidence(model, X):
    """The model's class for each sample, and its probability for it."""
    with torch.no_grad():
        probabilities = as_module(model, device="cpu")(torch.from_numpy(X)).sigmoid().numpy()
    return probabilities.argmax(1), probabilities.max(1)


@row(
    "A3",
    "shallow RBF network",
    paper={
        "FGSM error": 0.554,
        "confidence on FGSM errors": 0.012,
        "confidence, clean": 0.606,
    },
    verdict=lambda ours: (
        "agrees: it is unsure where it errs; its error is larger"
        if ours["confidence on FGSM errors"] < 0.1 * ours["confidence, clean"]
        and ours["confidence on PGD errors"] < 0.5 * ours["confidence, clean"]
        else "differs"
    ),
    note="One unit a class, with a precision of its own for each pixel, trained by "
    "`AdversarialNet` with `alpha=1` on the sum of the classes' cross-entropies. After one step of "
    "FGSM hardly any unit is active, so that the class is left to chance among tiny probabilities. "
    "PGD on the log-odds of the rivals finds errors for all digits, at a confidence of some "
    "percent: low confidence is what the network has, not robustness.",
)
def shallow_rbf(lab, seed):
    """FGSM raises the loss that it was trained on; PGD the log-odds of the rivals."""
    model, X, y = rbf(lab, seed), lab.digits.X_test, lab.digits.y_test
    found = {}
    clean, sure = confidence(model, X)
    found["clean error"], found["confidence, clean"] = (clean != y).mean(), sure.mean()
    for name, attack in (("FGSM", {"loss": loss_a_class}), ("PGD", lab.pgd)):
        for suffix, bounds in (("", None), (", clipped", (0, 1))):
            copies = perturb(model, X, y, epsilon=EPSILON, bounds=bounds, **attack)
            predicted, sure = confidence(model, copies)
            wrong = predicted != y
            found[f"{name} error{suffix}"] = wrong.mean()
            found[f"confidence on {name} errors{suffix}"] = sure[wrong].mean()
    return {name: float(value) for name, value in found.items()}


def agreement(first, second, X, y):
    """Of the errors of both, the share on which they name the same class."""
    first, second = first(X), second(X)
    both = (first != y) & (second != y)
    return float((first == second)[both].mean())


@row(
    "A4",
    "of M1's FGSM errors that another model also gets wrong, the share on which it gives M1's "
    "class; and of the RBF's that the softmax gets wrong too",
    paper={"softmax": 0.846, "RBF": 0.543, "RBF with softmax": 0.536},
    verdict=lambda ours: (
        "agrees: the linear model errs as M1 does, the RBF less so"
        if ours["softmax"] > ours["RBF"]
        else "differs"
    ),
)
def shared_mistakes(lab, seed):
    """On copies made against M1."""
    M1, X, y = maxout(lab, seed), lab.digits.X_test, lab.digits.y_test
    linear = lab.fitted(LogisticRegression(C=1.0, max_iter=1000), lab.digits)
    quadratic = rbf(lab, seed)
    copies = perturb(M1, X, y, epsilon=EPSILON)

    def rbf_class(X):
        return confidence(quadratic, X)[0]

    wrong = M1.predict(copies) != y
    return {
        "softmax": agreement(M1.predict, linear.predict, copies[wrong], y[wrong]),
        "RBF": agreement(M1.predict, rbf_class, copies[wrong], y[wrong]),
        "RBF with softmax": agreement(rbf_class, linear.predict, copies[wrong], y[wrong]),
    }
