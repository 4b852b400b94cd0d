"""Newton steps in the max-norm: within one orthant, on a working set of features."""

from collections import namedtuple
from dataclasses import dataclass, replace
from functools import partial

import torch

from sk_adv.linear_model._array_functions import submatrix
from sk_adv.linear_model._binary_problem import Step
from sk_adv.linear_model._newton import append, cholesky, line_search

# A kept Hessian must reduce the violation to this share with each step.
_CONTRACTION = 0.4
# Features outside of a kept Hessian that violate their condition by no more than this share of the
# largest violation do not end its use.
_PATIENCE = 0.3
# Accuracy of the quadratic problems: the share to which the violation has fallen so far, within
# these limits.
_LOOSEST, _TIGHTEST = 0.1, 1e-4
# On a path, features this close to their threshold, as a share of it, join the working set.
_REACH = 0.1


@dataclass
class OrthantCurvature:
    """The Hessian of the loss in one orthant, where it is smooth, on a working set of features.

    Its variables are u = sign ∘ w, so that the orthant is u ≥ 0, and the intercept.

    Attributes
    ----------
    columns : torch.Tensor of shape (n_working,)
        The working set.
    sign : torch.Tensor of shape (n_working,)
        The orthant: the sign of each weight, or the one that it would leave zero with.
    hessian : torch.Tensor of shape (n_working + 1, n_working + 1)
        The intercept is last.
    total : torch.Tensor of shape ()
        Sum of the loss's curvatures over the samples.
    """

    columns: torch.Tensor
    sign: torch.Tensor
    hessian: torch.Tensor
    total: torch.Tensor

    def covers(self, orthant, moving):
        """Whether all `moving` features are in the working set, with the signs of `orthant`."""
        known = torch.zeros_like(orthant)
        known[self.columns] = self.sign
        return bool((known == orthant)[moving].all())

    def scaled(self, total):
        """A copy of the Hessian, scaled to another sum of curvatures."""
        return replace(self, hessian=total / self.total * self.hessian, total=total)

    def update(self, step, change):
        """Correct it after a step that changed the slope by `change`: it maps one to the other.

        Source: the update of Broyden, Fletcher, Goldfarb and Shanno (1970).
        """
        energy, along = float(step @ change), self.hessian @ step
        expected = float(step @ along)
        if energy > 0 and expected > 0:
            self.hessian.addr_(change, change, alpha=1 / energy)
            self.hessian.addr_(along, along, alpha=-1 / expected)


class MaxNormSteps:
    """Newton steps for the penalty ρ = Σ ε_j |w_j|, which is linear within an orthant.

    The working set holds the features that are nonzero or have radius 0, and the worst violators.
    A violator may leave zero only against its gradient. The Hessian can be kept as long as it
    reduces the violation fast enough, from one radius of a path to the next too, and each step
    corrects it.

    Parameters
    ----------
    problem : BinaryProblem
    tol : float
        Violations up to this size need no step.
    curvature : OrthantCurvature, default=None
        That of the same problem at another point.
    keep : bool, default=True
        Whether a Hessian may be kept.
    on_path : bool, default=False
        Whether that point is the solution for another radius.
    """

    def __init__(self, problem, tol, curvature=None, keep=True, on_path=False):
        self.problem, self.tol, self.curvature, self.keep = problem, tol, curvature, keep
        self.on_path = on_path and curvature is not None
        self.violation, self.first_violation = torch.inf, None
        self.last, self.is_kept = None, False

    def propose(self, point, slopes):
        """The next step from a point."""
        orthant = torch.where(point.coef == 0, -slopes.coef.sign(), point.coef.sign())
        self.is_kept = self._may_keep(point, slopes, orthant)
        if self.is_kept:
            self.curvature = self._corrected(point, slopes)
        else:
            self.curvature = self._measured(point, slopes, orthant)
        self.last = position, slope = self._within(point, slopes)
        known = self.curvature
        step = nonnegative_quadratic_step(
            known.hessian,
            slope,
            position,
            constrained=append(self.problem.epsilon[known.columns] > 0, False),
            accuracy=self._accuracy(slopes.violation),
        )
        return Step(known.columns, known.sign * step[:-1], step[-1], float(slope @ step))

    def recover(self, point):
        """The same point, if a new Hessian may lead to a better step; else None."""
        may_help = self.is_kept or self.on_path
        self.curvature, self.on_path = None, False
        return point if may_help else None

    def _may_keep(self, point, slopes, orthant):
        """Whether the Hessian of the last step, or of the last radius, is still good enough."""
        before, self.violation = self.violation, slopes.violation
        self.first_violation = self.first_violation or slopes.violation
        if self.curvature is None or not self.keep:
            return False
        # Small violators can wait for a step or two, on a path all of them for the first step.
        waiting = slopes.negligible(self.tol)
        if slopes.violation > self.tol:
            is_first = self.on_path and before == torch.inf
            waiting = torch.inf if is_first else max(waiting, _PATIENCE * slopes.violation)
        moving = (point.coef != 0) | (slopes.violations > waiting)
        contracts = slopes.violation < _CONTRACTION * before
        return contracts and self.curvature.covers(orthant, moving & (self.problem.epsilon > 0))

    def _accuracy(self, violation):
        """That of the quadratic problem; a step that may be the last one tells what is to gain."""
        if violation <= self.tol:
            return min(1e-3, violation)
        return min(_LOOSEST, max(_TIGHTEST, violation / self.first_violation))

    def _within(self, point, slopes):
        """A point and the slope of the objective there, in the variables of the curvature."""
        columns, sign = self.curvature.columns, self.curvature.sign
        position = sign * point.coef[columns]
        slope = sign * slopes.coef[columns] + slopes.mass * self.problem.epsilon[columns]
        return append(position, point.intercept), append(slope, slopes.intercept)

    def _corrected(self, point, slopes):
        """The kept Hessian, scaled to the curvature here and corrected by the last step."""
        scaled = self.curvature.scaled(self.problem.total_curvature(point))
        if self.last is not None:
            before, now = self.last, self._within(point, slopes)
            scaled.update(now[0] - before[0], now[1] - before[1])
        return scaled

    def _measured(self, point, slopes, orthant):
        """The Hessian on a new working set; far from the solution, some samples are left out."""
        columns = self._working_set(point, slopes)
        # A weight without a penalty keeps its own sign.
        bounded = self.problem.epsilon[columns] > 0
        sign = torch.where(bounded, orthant[columns], 1)
        hessian = self.problem.hessian(
            columns,
            point,
            self.problem.epsilon[columns] * sign,
            neglect=min(0.03, max(0.01 * self.keep, 4 * slopes.violation)),
        )
        flip = append(sign, 1)
        hessian *= torch.outer(flip, flip)
        return OrthantCurvature(columns, sign, hessian, self.problem.total_curvature(point))

    def _working_set(self, point, slopes):
        epsilon = self.problem.epsilon
        support = (point.coef != 0) | (epsilon == 0)
        threshold = (1 - _REACH * self.on_path) * slopes.mass * epsilon
        excess = torch.where(support, -torch.inf, slopes.coef.abs() - threshold)
        n_samples, n_features = self.problem.shape
        room = max(int(support.sum()), 64, min(n_features // 100, n_samples // 4))
        n_violators = min(room, int((excess > slopes.negligible(self.tol)).sum()))
        chosen = support.clone()
        chosen[excess.topk(n_violators).indices] = True
        return chosen.nonzero().squeeze(1)


_QuadraticPoint = namedtuple("_QuadraticPoint", "position gradient objective")


def nonnegative_quadratic_step(hessian, slope, start, constrained, accuracy, max_iter=100):
    """argmin over d of slopeᵀd + dᵀHd / 2, where start_j + d_j ≥ 0 for the constrained j.

    Projected Newton method: an exact Newton step in the variables that are free to move, bent
    along the bounds. Source: Bertsekas, "Projected Newton methods for optimization problems with
    simple constraints", SIAM J. Control and Optimization 20 (1982).

    H is positive semidefinite. At the end, the slope in every variable that is free to move is at
    most the share `accuracy` of the largest one at the start.
    """

    def along_bounds(origin, newton, size):
        position = origin.position + size * newton
        position = torch.where(constrained, position.clamp(min=0), position)
        move = position - start
        gradient = slope + hessian @ move
        return _QuadraticPoint(position, gradient, (slope + gradient) @ move / 2)

    point = _QuadraticPoint(start, slope, slope.new_zeros(()))
    tolerance, damping = -1.0, 1e-13
    for _ in range(max_iter):
        free = ~constrained | (point.position > 0) | (point.gradient < 0)
        free = free.nonzero().squeeze(1)
        if not len(free) or point.gradient[free].abs().max() <= tolerance:
            break
        if tolerance < 0:
            tolerance = accuracy * float(slope[free].abs().max())
        newton = torch.zeros_like(start)
        factor = cholesky(submatrix(hessian, free), damping)
        newton[free] = torch.cholesky_solve(-point.gradient[free, None], factor).squeeze(1)
        promise = float(point.gradient @ newton)
        moved = line_search(partial(along_bounds, point, newton), point, promise)
        if moved is None or not moved.objective < point.objective:
            # Rounding in a nearly singular matrix: stay closer to the gradient.
            damping *= 1e3
            if damping > 1:
                break
        else:
            point = moved
    return point.position - start
