"""The rule for Gaussian processes."""

import copy
import functools
import math

import torch
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from sklearn.gaussian_process._gpc import COEFS, LAMBDAS
from torch import nn

from sk_adv.differentiable._as_module import as_module
from sk_adv.differentiable._kernels import WAYS_ON, in_double, squared_distances
from sk_adv.differentiable._linear import log_of, with_zero


class Cross:
    """Pairs of all rows of X with all rows of others, as kernels see them."""

    def __init__(self, X, others):
        self.X, self.others = X, others
        self.identical = X.new_zeros(X.shape[0], others.shape[0])

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
        self.identical = X.new_ones(X.shape[0])

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
    raise _unknown(kernel)


def _unknown(kernel):
    return TypeError(
        f"as_module has no rule for GaussianProcessClassifier with the kernel {kernel!r}. It knows "
        "RBF, Matern with nu 0.5, 1.5, 2.5 or inf, RationalQuadratic, DotProduct, ConstantKernel, "
        f"WhiteKernel, and their sums, products and powers. Take these, or {WAYS_ON}."
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
    squares = pairs.squared_distances(kernel.length_scale)
    if kernel.nu == math.inf:
        return torch.exp(-0.5 * squares)
    # The square root has no derivative at zero.
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
        # In double precision, because coefficients of thousands cancel to one.
        mean, variance = in_double(mean)[:, None], in_double(variance)[:, None]
        coefs, lambdas = mean.new_tensor(COEFS[:, 0]), mean.new_tensor(LAMBDAS[:, 0])
        z = lambdas * mean / (1 + 2 * lambdas**2 * variance).sqrt()
        # 1 + erf(z) = erfc(-z) keeps its digits where p is small; large, it is 1 - 1e-8 at most.
        p = 0.5 * torch.erfc(-z) @ coefs
        return log_of(torch.stack([1 - p, p], dim=1)).to(X.dtype)


class GaussianProcessLogits(nn.Module):
    """Log-odds (0, d) of one process for two classes; log p of one process per class for more."""

    def __init__(self, processes):
        super().__init__()
        self.processes = nn.ModuleList(processes)

    def forward(self, X):
        """Logits of X, of shape (n_samples, n_classes)."""
        logarithms = torch.stack([process(X) for process in self.processes], dim=1)
        if len(self.processes) == 1:
            return with_zero(logarithms[..., 1] - logarithms[..., 0])
        return logarithms[..., 1]


def refuse_votes_and_unknown_kernels(estimator):
    """The error for one process per pair of classes or a kernel without a rule, or None."""
    if estimator.multi_class == "one_vs_one" and getattr(estimator, "n_classes_", 2) > 2:
        return TypeError(
            "as_module has no rule for GaussianProcessClassifier with multi_class='one_vs_one', "
            "which gives votes, but neither probabilities nor decision values. Fit it with "
            f"multi_class='one_vs_rest', or {WAYS_ON}."
        )
    unknown = [] if estimator.kernel is None else _kernels_without_rule(estimator.kernel)
    return _unknown(unknown[0]) if unknown else None


def _kernels_without_rule(kernel):
    if isinstance(kernel, kernels.KernelOperator):
        return [*_kernels_without_rule(kernel.k1), *_kernels_without_rule(kernel.k2)]
    if isinstance(kernel, kernels.Exponentiation):
        return _kernels_without_rule(kernel.kernel)
    is_known = covariance.dispatch(type(kernel)) is not covariance.dispatch(object)
    if isinstance(kernel, kernels.Matern):
        is_known = kernel.nu in (0.5, 1.5, 2.5, math.inf)
    return [] if is_known else [kernel]


@as_module.register(GaussianProcessClassifier, refuse=refuse_votes_and_unknown_kernels)
def _(estimator):
    if estimator.n_classes_ == 2:
        return GaussianProcessLogits([LaplaceProcess(estimator.base_estimator_)])
    return GaussianProcessLogits(map(LaplaceProcess, estimator.base_estimator_.estimators_))
