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


def minimum_cuts(gradient, mass, epsilon):
    """The indicators 1_S of the worst sets, (n_features, n_classes), for `worst_sets`.

    A feature for which no set has a negative value may get an empty set.
    """
    member = torch.zeros_like(gradient.T)
    # In proportion to the largest value, no rounding of a zero counts as negative.
    for j in (~_carries_a_current(gradient, mass, epsilon)).nonzero().squeeze(1).tolist():
        capacity = epsilon[j].item() * mass.cpu().numpy()
        chosen = _minimum_cut(gradient[:, j].cpu().numpy(), capacity)
        member[j] = torch.as_tensor(chosen).to(member)
    return member


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
