"""Rules for kernel machines: support vectors and Gaussian processes."""

import copy
import functools
import itertools
import math

import torch
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from sklearn.gaussian_process._gpc import COEFS, LAMBDAS
from sklearn.svm import SVC, NuSVC
from torch import Tensor, nn

from sk_adv.differentiable._core import as_module, preferences
from sk_adv.differentiable._linear import LinearLogits, log_of, to_dense, with_zero

_WAYS_ON = (
    "register a rule for a subclass of your own with `as_module.register`, or attack a "
    "differentiable surrogate trained on the model's own predictions (the parameter `surrogate`)"
)


def in_double(X: Tensor) -> Tensor:
    """X in double precision, unless it lies on one of Apple's GPUs, which know none."""
    return X if X.device.type == "mps" else X.double()


def squared_distances(X: Tensor, centres: Tensor) -> Tensor:
    """‖x - s‖² = ‖x‖² + ‖s‖² - 2 xᵀs for all rows x of X and s of the centres."""
    # The three terms cancel where x is close to s. So they are taken from the middle of the
    # centres, and in double precision, which costs less than differences feature by feature.
    origin = in_double(centres).mean(0)
    x, s = X - origin, centres - origin
    squares = x.square().sum(1, keepdim=True) + s.square().sum(1) - 2 * x @ s.T
    return squares.clamp(min=0).to(X.dtype)


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
    """A value a class from decisions between each two: votes + s / (3 (|s| + 1)).

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
    """Kernel values, decisions between each two classes and, of three or more, their votes."""

    def preferences(self, X):
        """Numbers the first largest of which is the class of `predict`."""
        *steps, last = self
        for step in steps:
            X = step(X)
        return preferences(last, X)

    def log_probabilities(self, X):
        """Refused: what libsvm fits beside the decisions can disagree with them."""
        raise TypeError(
            "as_module takes no predict_proba from SVC or NuSVC: libsvm fits it by a "
            "cross-validation of its own, and it can disagree with their predictions. Wrap "
            "them in CalibratedClassifierCV, which has a rule."
        )


@as_module.register(SVC)
@as_module.register(NuSVC)
def _(estimator):
    name, kernel = type(estimator).__name__, estimator.kernel
    if kernel not in ("linear", "poly", "rbf", "sigmoid"):
        raise TypeError(
            f"as_module knows the kernels 'linear', 'poly', 'rbf' and 'sigmoid' of {name}; this "
            f"one has kernel={kernel!r}, which is no function of torch. Take one of the four, or "
            f"{_WAYS_ON}."
        )
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
    # libsvm's decisions are for the first class of a pair.
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


class Cross:
    """Pairs of all rows of X with all rows of others, as kernels see them."""

    def __init__(self, X, others):
        self.X, self.others = X, others
        self.identical = X.new_zeros(len(X), len(others))

    def squared_distances(self, scale):
        """‖(x - s) / scale‖² of each pair."""
        scale = self.X.new_tensor(scale)
        return squared_distances(self.X / scale, self.others / scale)

    def inner(self):
        """xᵀs of each pair."""
        return self.X @ self.others.T


class Diagonal:
    """Pairs of each row of X with itself, as kernels see them."""

    def __init__(self, X):
        self.X = X
        self.identical = X.new_ones(len(X))

    def squared_distances(self, scale):
        """Zeros."""
        return torch.zeros_like(self.identical)

    def inner(self):
        """‖x‖² of each row."""
        return self.X.square().sum(1)


@functools.singledispatch
def covariance(kernel, pairs):
    """Values of one of scikit-learn's kernels at pairs of samples.

    Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapter 4.
    """
    raise TypeError(
        f"as_module has no rule for GaussianProcessClassifier with the kernel {kernel!r}. It knows "
        "RBF, Matern with nu 0.5, 1.5, 2.5 or inf, RationalQuadratic, DotProduct, ConstantKernel, "
        f"WhiteKernel, and their sums, products and powers. Take these, or {_WAYS_ON}."
    )


@covariance.register(kernels.ConstantKernel)
def _(kernel, pairs):
    return torch.full_like(pairs.identical, kernel.constant_value)


@covariance.register(kernels.WhiteKernel)
def _(kernel, pairs):
    return kernel.noise_level * pairs.identical


@covariance.register(kernels.RBF)
def _(kernel, pairs):
    return torch.exp(-0.5 * pairs.squared_distances(kernel.length_scale))


@covariance.register(kernels.Matern)
def _(kernel, pairs):
    if kernel.nu not in (0.5, 1.5, 2.5, math.inf):
        return covariance.dispatch(object)(kernel, pairs)
    squares = pairs.squared_distances(kernel.length_scale)
    if kernel.nu == math.inf:
        return torch.exp(-0.5 * squares)
    # The root has no derivative at zero.
    t = (2 * kernel.nu * squares).clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    polynomial = {0.5: 1, 1.5: 1 + t, 2.5: 1 + t + t.square() / 3}
    return polynomial[kernel.nu] * torch.exp(-t)


@covariance.register(kernels.RationalQuadratic)
def _(kernel, pairs):
    squares = pairs.squared_distances(kernel.length_scale)
    # The power of a base close to 1 would lose digits where α is large.
    return torch.exp(-kernel.alpha * torch.log1p(squares / (2 * kernel.alpha)))


@covariance.register(kernels.DotProduct)
def _(kernel, pairs):
    return pairs.inner() + kernel.sigma_0**2


@covariance.register(kernels.Sum)
def _(kernel, pairs):
    return covariance(kernel.k1, pairs) + covariance(kernel.k2, pairs)


@covariance.register(kernels.Product)
def _(kernel, pairs):
    return covariance(kernel.k1, pairs) * covariance(kernel.k2, pairs)


@covariance.register(kernels.Exponentiation)
def _(kernel, pairs):
    return covariance(kernel.kernel, pairs) ** kernel.exponent


class LaplaceProcess(nn.Module):
    """log(1 - p) and log p of a Gaussian process of two classes, by Laplace's approximation.

    With the covariances k of x and the training samples, the latent value has mean
    f = kᵀ(y - π) and variance v = k(x, x) - ‖L⁻¹ W^½ k‖². Source: Rasmussen and Williams,
    "Gaussian Processes for Machine Learning", 2006, algorithm 3.2. Its sigmoid is averaged as a
    sum of five error functions,

        p = ½ Σ cᵢ (1 + erf(λᵢ f / √(1 + 2 λᵢ² v))) .

    Source: Williams and Barber, "Bayesian Classification with Gaussian Processes", IEEE TPAMI
    20(12), 1998, appendix A.
    """

    def __init__(self, estimator):
        super().__init__()
        self.kernel = copy.deepcopy(estimator.kernel_)
        # Refuses the kernels without a rule.
        covariance(self.kernel, Diagonal(torch.zeros(1, 1)))
        self.register_buffer("X_train", torch.tensor(estimator.X_train_, dtype=torch.float64))
        self.register_buffer("residual", torch.as_tensor(estimator.y_train_ - estimator.pi_))
        root = torch.as_tensor(estimator.W_sr_).diag()
        lower = torch.as_tensor(estimator.L_)
        self.register_buffer("whitening", torch.linalg.solve_triangular(lower, root, upper=False))

    def forward(self, X):
        """Both logarithms, of shape (n_samples, 2)."""
        cross = covariance(self.kernel, Cross(X, self.X_train))
        mean = cross @ self.residual
        explained = (cross @ self.whitening.T).square().sum(1)
        variance = covariance(self.kernel, Diagonal(X)) - explained
        # In double precision, as coefficients of thousands cancel to one.
        mean, variance = in_double(mean)[:, None], in_double(variance)[:, None]
        coefs, lambdas = mean.new_tensor(COEFS[:, 0]), mean.new_tensor(LAMBDAS[:, 0])
        z = lambdas * mean / (1 + 2 * lambdas**2 * variance).sqrt()
        # 1 + erf(z) = erfc(-z) keeps its digits where p is small; large, it is 1 - 1e-8 at most.
        p = 0.5 * torch.erfc(-z) @ coefs
        return log_of(torch.stack([1 - p, p], dim=1)).to(X.dtype)


class GaussianProcessLogits(nn.Module):
    """Log-odds (0, d) of the one process for two classes; log p of one process a class for more."""

    def __init__(self, processes):
        super().__init__()
        self.processes = nn.ModuleList(processes)

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        logarithms = torch.stack([process(X) for process in self.processes], dim=1)
        if len(self.processes) == 1:
            return with_zero(logarithms[..., 1] - logarithms[..., 0])
        return logarithms[..., 1]


@as_module.register(GaussianProcessClassifier)
def _(estimator):
    if estimator.n_classes_ == 2:
        return GaussianProcessLogits([LaplaceProcess(estimator.base_estimator_)])
    if estimator.multi_class == "one_vs_one":
        raise TypeError(
            "as_module has no rule for GaussianProcessClassifier with multi_class='one_vs_one', "
            "which gives votes, but neither probabilities nor decision values. Fit it with "
            f"multi_class='one_vs_rest', or {_WAYS_ON}."
        )
    return GaussianProcessLogits(map(LaplaceProcess, estimator.base_estimator_.estimators_))
