"""The solver of two classes in the Euclidean norm, and without an adversary.

Large data is first solved on a small part of the samples: from there, Newton's method needs half
the passes over all of them.
"""

from dataclasses import replace

import torch

from sk_adv.linear_model._binary_solver import Targets, minimise
from sk_adv.linear_model._newton import no_report

# The part has so many entries of X, or so many samples for each feature if that is more, but at
# most this share of the samples.
_PART_ENTRIES, _SAMPLES_PER_FEATURE, _LARGEST_SHARE = 2**21, 20, 1 / 8
# It is solved until the violation is this small, or for so many steps.
_PART_VIOLATION, _PART_STEPS = 1e-3, 12


def minimise_in_euclidean_norm(problem, start, *, tol, max_iter, refine, callback=no_report):
    """Minimise a `BinaryProblem` in the Euclidean norm from a `Start`; returns a `Solution`."""
    n_iter = 0
    if not start.coef.any():
        start, n_iter = _part_start(problem, start, max_iter, callback)
    targets = Targets(violation=tol, gain=tol, max_iter=max_iter - n_iter)
    solution = minimise(problem, start, targets, refine=refine, callback=callback)
    return replace(solution, n_iter=n_iter + solution.n_iter)


def _part_start(problem, start, max_iter, callback):
    """The solution on a part of large data, and the iterations that it took."""
    n_samples, n_features = problem.shape
    n_taken = max(_PART_ENTRIES / n_features, _SAMPLES_PER_FEATURE * n_features)
    if n_taken > _LARGEST_SHARE * n_samples:
        return start, 0
    part = problem.sample(n_taken / n_samples)
    targets = Targets(
        violation=_PART_VIOLATION, gain=torch.inf, max_iter=min(max_iter, _PART_STEPS)
    )
    solution = minimise(part, start, targets, refine=False, callback=callback)
    if solution.status == "separable":
        return start, solution.n_iter
    return replace(start, coef=solution.coef, intercept=solution.intercept), solution.n_iter
