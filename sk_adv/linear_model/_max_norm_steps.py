"""Newton steps for the max-norm: within one orthant, on a working set of features."""

from dataclasses import dataclass, replace

import torch

from sk_adv.linear_model._binary_problem import Step, append, cholesky

# A kept Hessian must reduce the violation by this factor from step to step.
_CONTRACTION = 0.4
# Features whose gradient is within this share of the threshold soon move on a path.
_REACH = 0.1


@dataclass
class Curvature:
    """The Hessian of the smooth loss in one orthant, on a working set of features.

    Attributes
    ----------
    columns : torch.Tensor of shape (n_working,)
        The working set.
    sign : torch.Tensor of shape (n_working,)
        The orthant: signs of the weights, or those with which they would leave zero.
    hessian : torch.Tensor of shape (n_working + 1, n_working + 1)
        The intercept is last.
    total : torch.Tensor of shape ()
        The curvature of the loss, summed over the samples.
    """

    columns: torch.Tensor
    sign: torch.Tensor
    hessian: torch.Tensor
    total: torch.Tensor

    def covers(self, orthant, moving):
        """Whether all `moving` features are in the working set, and in the same orthant."""
        known = torch.zeros_like(orthant)
        known[self.columns] = self.sign
        return bool((known == orthant)[moving].all())

    def scaled(self, total):
        """The same, where the curvature of the loss adds up to something else."""
        return replace(self, hessian=total / self.total * self.hessian, total=total)

    def updated(self, step, change):
        """The same, made to map a step to the change of slope that it brought.

        Source: the update of Broyden, Fletcher, Goldfarb and Shanno (1970).
        """
        energy = step @ change
        along = self.hessian @ step
        if not energy > 0 or not step @ along > 0:
            return self
        gain = torch.outer(change, change) / energy - torch.outer(along, along) / (step @ along)
        return replace(self, hessian=self.hessian + gain)


class OrthantSteps:
    """Newton steps of the smooth loss within one orthant, on a working set of features.

    The working set holds the features that are nonzero or can't be perturbed, and the worst
    violators, which may leave zero only against their gradient. On a path the curvature changes
    little from radius to radius: it is taken over, corrected by what each step shows of it, and
    kept as long as it contracts.

    Parameters
    ----------
    problem : Problem
    tol : float
        Violations up to here need not be mended.
    curvature : Curvature, default=None
        That of the same problem at another radius.
    """

    def __init__(self, problem, tol, curvature=None):
        self.problem, self.tol, self.curvature = problem, tol, curvature
        self.on_path = curvature is not None
        self.violation, self.last = torch.inf, None

    def propose(self, point, slopes):
        """The step to take from a point."""
        orthant = torch.where(point.coef == 0, -slopes.coef.sign(), point.coef.sign())
        if self._may_keep(point, slopes, orthant):
            self.curvature = self._adapt(point, slopes)
        else:
            self.curvature = self._measure(point, slopes, orthant)
        self.last = position, slope = self._within(point, slopes)
        known = self.curvature
        columns = known.columns
        constrained = append(self.problem.epsilon[columns] > 0, False)
        # In u = sign ∘ w the orthant is u ≥ 0; a free variable keeps its own sign.
        flip = torch.where(constrained, append(known.sign, 1), 1)
        step = flip * nonnegative_quadratic_step(
            flip[:, None] * known.hessian * flip,
            flip * slope,
            flip * position,
            constrained,
            accuracy=min(1e-3, slopes.violation),
        )
        return Step(columns, step[:-1], step[-1], slope @ step)

    def forget(self):
        """Give up a Hessian that was kept; False if there was none."""
        kept, self.curvature, self.on_path = self.on_path, None, False
        return kept

    def _may_keep(self, point, slopes, orthant):
        if not self.on_path:
            return False
        before, self.violation = self.violation, slopes.violation
        moving = point.coef != 0
        if before < torch.inf:
            # At first, new violators may wait: the step moves the others nearer to their places.
            moving |= slopes.violations > slopes.negligible(self.tol)
        contracts = slopes.violation < _CONTRACTION * before
        return contracts and self.curvature.covers(orthant, moving & (self.problem.epsilon > 0))

    def _within(self, point, slopes):
        """A point and the slope of the objective there, in the working set and the intercept."""
        known = self.curvature
        penalty_slope = self.problem.epsilon[known.columns] * known.sign
        slope = slopes.coef[known.columns] + slopes.mass * penalty_slope
        return (
            append(point.coef[known.columns], point.intercept),
            append(slope, slopes.intercept),
        )

    def _adapt(self, point, slopes):
        """The kept Hessian, as far as it is known to have changed."""
        if self.last is None:
            return self.curvature.scaled(self.problem.total_curvature(point))
        before, now = self.last, self._within(point, slopes)
        return self.curvature.updated(now[0] - before[0], now[1] - before[1])

    def _measure(self, point, slopes, orthant):
        columns = self._working_set(point, slopes)
        sign = orthant[columns]
        hessian = self.problem.hessian(
            columns,
            point,
            self.problem.epsilon[columns] * sign,
            neglect=min(0.03, 4 * slopes.violation),
        )
        return Curvature(columns, sign, hessian, self.problem.total_curvature(point))

    def _working_set(self, point, slopes):
        epsilon = self.problem.epsilon
        support = (point.coef != 0) | (epsilon == 0)
        threshold = (1 - _REACH * self.on_path) * slopes.mass * epsilon
        excess = torch.where(support, -torch.inf, slopes.coef.abs() - threshold)
        n_samples, n_features = self.problem.X.shape
        room = max(int(support.sum()), 64, min(n_features // 100, n_samples // 4))
        n_violators = min(room, int((excess > slopes.negligible(self.tol)).sum()))
        chosen = support.clone()
        chosen[excess.topk(n_violators).indices] = True
        return chosen.nonzero().squeeze(1)


def nonnegative_quadratic_step(hessian, slope, start, constrained, accuracy, max_iter=100):
    """argmin over d of slopeᵀd + dᵀHd / 2, where start_j + d_j ≥ 0 for the constrained j.

    Projected Newton method: an exact Newton step in the variables that are free to move, bent
    along the bounds. Source: Bertsekas, "Projected Newton methods for optimization problems with
    simple constraints", SIAM J. Control and Optimization 20 (1982).

    Parameters
    ----------
    hessian : torch.Tensor of shape (n, n)
        Positive semidefinite.
    slope, start : torch.Tensor of shape (n,)
    constrained : torch.Tensor of shape (n,), bool
    accuracy : float
        Largest slope that may be left in a variable that is free to move, as a share of the
        largest in `slope`.
    max_iter : int

    Returns
    -------
    torch.Tensor of shape (n,)
    """
    tolerance = accuracy * slope.abs().max()
    point, gradient, value = start, slope, slope.new_zeros(())
    damping = 1e-13
    for _ in range(max_iter):
        free = (~constrained | (point > 0) | (gradient < 0)).nonzero().squeeze(1)
        if not len(free) or gradient[free].abs().max() <= tolerance:
            break
        newton = torch.zeros_like(point)
        factor = cholesky(hessian[free[:, None], free], damping)
        newton[free] = torch.cholesky_solve(-gradient[free, None], factor).squeeze(1)
        size = 1.0
        while size > 1e-6:
            trial = point + size * newton
            trial = torch.where(constrained, trial.clamp(min=0), trial)
            move = trial - start
            trial_gradient = slope + hessian @ move
            trial_value = (slope + trial_gradient) @ move / 2
            if trial_value < value:
                point, gradient, value = trial, trial_gradient, trial_value
                break
            size /= 2
        else:
            # Rounding in a nearly singular matrix: lean on the gradient, or call it solved.
            damping *= 1e3
            if damping > 1:
                break
    return point - start
