"""Rules for support vector machines."""

import itertools

import torch
from sklearn.svm import SVC, NuSVC
from torch import nn

from sk_adv.differentiable._as_module import as_module
from sk_adv.differentiable._composition import preferences
from sk_adv.differentiable._kernels import WAYS_ON, squared_distances
from sk_adv.differentiable._linear import LinearLogits, to_dense


class SupportKernel(nn.Module):
    """Values k(x, s) of a kernel of libsvm at the support vectors s.

    rbf: exp(-γ‖x - s‖²), poly: (γ xᵀs + r)ᵈ, sigmoid: tanh(γ xᵀs + r). Source: Chang and Lin,
    "LIBSVM: a library for support vector machines", ACM TIST 2(3), 2011, section 2.

    Parameters
    ----------
    vectors : torch.Tensor of shape (n_support, n_features)
        The support vectors.

    kernel : {"rbf", "poly", "sigmoid"}
        Which of them.

    gamma, coef0, degree : float, float, int
        The numbers γ, r and d.
    """

    def __init__(self, vectors, kernel, gamma, coef0, degree):
        super().__init__()
        self.register_buffer("vectors", vectors.clone())
        self.kernel, self.gamma, self.coef0, self.degree = kernel, gamma, coef0, degree

    def forward(self, X):
        """Kernel values of X, of shape (n_samples, n_support)."""
        if self.kernel == "rbf":
            return torch.exp(-self.gamma * squared_distances(X, self.vectors))
        inner = self.gamma * (X @ self.vectors.T) + self.coef0
        return inner.tanh() if self.kernel == "sigmoid" else inner**self.degree


class OneVsOneVotes(nn.Module):
    """One value per class from decisions between each two: votes + s / (3 (|s| + 1)).

    A decision d of the pair (i, j), i < j, votes for j if d > 0 and else for i; s sums the
    decisions for a class, less those against it. This is what scikit-learn's
    `decision_function_shape="ovr"` gives. The votes jump; the gradient is that of s.
    """

    def __init__(self, n_classes, break_ties):
        super().__init__()
        self.break_ties = break_ties
        pairs = itertools.combinations(range(n_classes), 2)
        first, second = torch.tensor(list(pairs)).T
        one_hot = torch.eye(n_classes, dtype=torch.float64)
        self.register_buffer("signs", one_hot[second] - one_hot[first])

    def votes(self, decisions):
        """Votes (n_samples, n_classes) of decisions (n_samples, n_pairs)."""
        n_rivals = self.signs.shape[1] - 1
        wins_less_losses = torch.where(decisions > 0, 1, -1).to(decisions) @ self.signs
        return (wins_less_losses + n_rivals) / 2

    def forward(self, decisions):
        """Logits (n_samples, n_classes) of decisions (n_samples, n_pairs)."""
        confidence = decisions @ self.signs
        return self.votes(decisions) + confidence / (3 * (confidence.abs() + 1))

    def preferences(self, decisions):
        """The votes alone, as in `predict`, unless confidences are to break ties."""
        return self(decisions) if self.break_ties else self.votes(decisions)


class SupportVectorLogits(nn.Sequential):
    """Kernel values, decisions between each two classes and, for three or more, their votes."""

    def preferences(self, X):
        """Numbers the first largest of which is the class of `predict`."""
        *steps, last = self
        for step in steps:
            X = step(X)
        return preferences(last, X)

    def log_probabilities(self, X):
        """Refused: the probabilities that libsvm fits can disagree with the decisions."""
        raise TypeError(
            "as_module takes no predict_proba from SVC or NuSVC: libsvm fits it by a "
            "cross-validation of its own, and it can disagree with their predictions. Wrap "
            "them in CalibratedClassifierCV, which has a rule."
        )


def refuse_unknown_kernel(estimator):
    """The error for a machine with a kernel of the user's own, or None."""
    name, kernel = type(estimator).__name__, estimator.kernel
    if kernel in ("linear", "poly", "rbf", "sigmoid"):
        return None
    return TypeError(
        f"as_module knows the kernels 'linear', 'poly', 'rbf' and 'sigmoid' of {name}; this "
        f"one has kernel={kernel!r}, which is no function of torch. Take one of the four, or "
        f"{WAYS_ON}."
    )


@as_module.register(SVC, refuse=refuse_unknown_kernel)
@as_module.register(NuSVC, refuse=refuse_unknown_kernel)
def _(estimator):
    kernel = estimator.kernel
    if kernel == "linear":
        features, weights = nn.Identity(), to_dense(estimator.coef_)
    else:
        features = SupportKernel(
            to_dense(estimator.support_vectors_),
            kernel,
            float(estimator._gamma),
            float(estimator.coef0),
            int(estimator.degree),
        )
        weights = _weights_of_pairs(to_dense(estimator.dual_coef_), estimator.n_support_)
    intercept = torch.as_tensor(estimator.intercept_)
    n_classes = len(estimator.classes_)
    if n_classes == 2:
        return SupportVectorLogits(features, LinearLogits(weights, intercept))
    # A positive decision of libsvm is for the first class of a pair.
    decisions = LinearLogits(-weights, -intercept)
    return SupportVectorLogits(features, decisions, OneVsOneVotes(n_classes, estimator.break_ties))


def _weights_of_pairs(dual, n_support):
    """Weights (n_pairs, n_support) of the support vectors in the decision of each pair of classes.

    Row j - 1 of `dual` holds the coefficients of the vectors of class i against class j > i, and
    row i those of class j against class i.
    """
    label = torch.arange(len(n_support)).repeat_interleave(torch.as_tensor(n_support))
    return torch.stack(
        [
            dual[j - 1] * (label == i) + dual[i] * (label == j)
            for i, j in itertools.combinations(range(len(n_support)), 2)
        ]
    )
