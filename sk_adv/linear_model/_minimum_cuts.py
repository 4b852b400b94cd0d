"""The worst set of classes for each feature, where there are too many sets to compare them.

The least value of g · 1_S + ε cut_M(S) over sets S of classes is a minimum cut in a graph whose
nodes are the classes, a source and a sink. Source: Picard and Ratliff, "Minimum cuts and related
problems", Networks 5 (1975).
"""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

# SciPy's flows are integers of 32 bits; a difference of two must fit.
_LARGEST_FLOW = 2**29
# Each round of flows adds 29 bits to the last one's precision.
_ROUNDS = 2


def minimum_cuts(gradient, mass, epsilon, coef):
    """The worst sets, for `worst_sets`: their prices and their indicators.

    Two classes with different weights add ±ε M_kl to the slope, and only those of equal weights a
    cut. So one cut finds the worst subset of every level of the weights.

    A feature without a negative price may get an empty set.
    """
    price, member = torch.zeros_like(epsilon), torch.zeros_like(gradient.T)
    level = torch.zeros_like(gradient) if coef is None else coef
    is_fine = _carries_a_current(gradient, mass, epsilon) & (level == level[0]).all(0)
    for j in (~is_fine).nonzero().squeeze(1).tolist():
        gap = (level[:, None, j] - level[:, j]).sign()
        slope = gradient[:, j] + epsilon[j] * (mass * gap).sum(1)
        capacity = epsilon[j] * mass * (gap == 0)
        chosen = _minimum_cut(slope.cpu().numpy(), capacity.cpu().numpy())
        member[j] = torch.as_tensor(chosen).to(member)
        price[j] = slope @ member[j] + member[j] @ capacity @ (1 - member[j])
    return price, member


def _carries_a_current(gradient, mass, epsilon):
    """Whether an electrical current proves that no set of a feature has a negative value.

    The values are at least 0 iff a flow with the divergence -g exists whose size between k and l
    is at most ε M_kl. The potentials φ of the network with conductances M give such a flow,
    M_kl (φ_k - φ_l), if they differ by at most ε.
    """
    laplacian = torch.diag(mass.sum(1)) - mass + mass.mean()
    potential, failed = torch.linalg.solve_ex(laplacian, gradient)
    if failed:
        return torch.zeros_like(epsilon, dtype=torch.bool)
    return potential.amax(0) - potential.amin(0) <= epsilon


def _minimum_cut(gradient, capacity):
    """The set S with the least g · 1_S + Σ over k in S and l outside of c_kl."""
    n_classes = len(gradient)
    source, sink = n_classes, n_classes + 1
    network = np.zeros((n_classes + 2, n_classes + 2))
    network[:n_classes, :n_classes] = capacity
    network[source, :n_classes] = (-gradient).clip(0)
    network[:n_classes, sink] = gradient.clip(0)
    for _ in range(_ROUNDS):
        scale = _LARGEST_FLOW / max(network[source].sum(), np.finfo(float).tiny)
        rounded = (scale * network).clip(max=_LARGEST_FLOW).astype(np.int32)
        flow = maximum_flow(sparse.csr_array(rounded), source, sink)
        network = (network - flow.flow.toarray() / scale).clip(0)
        left = rounded - flow.flow.toarray()
        if not np.isfinite(scale) or not flow.flow_value:
            break
    reached = breadth_first_order(sparse.csr_array(left), source, return_predecessors=False)
    member = np.zeros(n_classes + 2)
    member[reached] = 1
    return member[:n_classes]
