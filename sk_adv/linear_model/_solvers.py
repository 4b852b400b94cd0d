"""Minimisers of the two-class worst-case logistic loss plus ‖w‖₂² ridge / 2.

Both norms share the outline of a Newton method: gradient, test of optimality, exact curvature,
a step that touches no data, a line search on the true objective. Data enters as sums over rows.
"""

from dataclasses import dataclass

import torch

from sk_adv._perturbations import dual_norm


@dataclass
class Solution:
    """What a solver returns.

    Attributes
    ----------
    coef : torch.Tensor of shape (n_features,) or (n_classes, n_features)
    intercept : torch.Tensor of shape () or (n_classes,)
    objective : float
    violation : float
        Largest violation of the optimality conditions.
    n_iter : int
    status : {"optimal", "separable", "max_iter", "stalled"}
    """

    coef: torch.Tensor
    intercept: torch.Tensor
    objective: float
    violation: float
    n_iter: int
    status: str


@dataclass
class Problem:
    """min over w, b of loss(y ∘ (Xw + b), ‖ε ∘ w‖_*) + ridge ‖w‖₂² / 2.

    Attributes
    ----------
    X : DenseDesign or SparseDesign of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,)
        Labels -1 and +1.
    loss : WorstCaseLogisticLoss
    epsilon : torch.Tensor of shape (n_features,)
    norm : {numpy.inf, 2}
    ridge : float
        1 / (C Σs).
    fit_intercept : bool
    """

    X: object
    y: torch.Tensor
    loss: object
    epsilon: torch.Tensor
    norm: float
    ridge: float
    fit_intercept: bool

    def margin(self, coef, intercept, columns=None):
        """The margins y ∘ (Xw + b), or those of weights in some columns only."""
        return self.y * (self.X.product(coef, columns) + intercept)

    def penalty(self, coef):
        """ρ(w) = ‖ε ∘ w‖_*."""
        return dual_norm(coef, self.epsilon, self.norm)

    def objective(self, coef, margin, penalty):
        """The value that is minimised."""
        return self.loss.value(margin, penalty) + self.ridge / 2 * coef @ coef

    def gradient(self, coef, p):
        """Gradient in w and b of all but ρ: g = -Σ p_i y_i x_i + ridge w, and -Σ p_i y_i."""
        signed = p * self.y
        slope = -signed.sum() if self.fit_intercept else signed.new_zeros(())
        return self.ridge * coef - self.X.transposed_product(signed), slope

    def hessian(self, columns, margin, penalty, penalty_slope, neglect=0.0):
        """Hessian on `columns` and the intercept, which is last, for a ρ linear in w.

        Σ [a_i z_i z_iᵀ + c_i (z_i - r)(z_i - r)ᵀ], with z_i = y_i (x_i, 1) and r the slope of ρ:
        one weighted Gram matrix and terms of rank two. The rows of least curvature, which hold
        together a share of `neglect` of all curvature, are left out.
        """
        total, adversarial = self.loss.curvature(margin, penalty)
        size = len(columns) + 1
        # Fewer rows than columns would leave directions without curvature.
        rows = _main_rows(total, neglect, n_min=4 * size)
        hessian, cross = self.X.moments(rows, columns, total[rows], (adversarial * self.y)[rows])
        slope = torch.cat([penalty_slope, penalty_slope.new_zeros(1)])
        hessian -= torch.outer(slope, cross) + torch.outer(cross, slope)
        hessian += adversarial[rows].sum() * torch.outer(slope, slope)
        hessian[:-1, :-1].diagonal().add_(self.ridge)
        if not self.fit_intercept:
            hessian[-1, :] = hessian[:, -1] = 0
            hessian[-1, -1] = 1
        return hessian


def _main_rows(curvature, neglect, n_min):
    if neglect == 0 or len(curvature) <= n_min:
        return torch.arange(len(curvature), device=curvature.device)
    ordered, order = curvature.sort()
    dropped = int((ordered.cumsum(0) <= neglect * ordered.sum()).sum())
    return order[min(dropped, len(order) - n_min) :].sort().values


def minimise(problem, coef, intercept, *, tol, max_iter, refine=True, callback=None):
    """Minimise from (coef, intercept) until no optimality condition is violated by more than `tol`.

    Parameters
    ----------
    problem : Problem
    coef : torch.Tensor of shape (n_features,)
    intercept : torch.Tensor of shape ()
    tol : float
    max_iter : int
    refine : bool, default=True
        Whether to take one step past the tolerance, which squares the remaining error.
    callback : callable, default=None
        Called as `callback(n_iter, objective, violation, n_working)` once an iteration.

    Returns
    -------
    Solution
    """
    propose = _euclidean_step if problem.norm == 2 else _orthant_step
    point = _evaluate(problem, coef, intercept)
    if problem.norm == 2 and point.penalty > 0:
        kink = _at_kink(problem, point)
        point = kink if kink.objective <= point.objective else point
    status = "max_iter"
    for n_iter in range(max_iter + 1):
        slopes = _slopes(problem, point)
        within, before = slopes.violation <= tol, status
        status = "optimal" if within else "max_iter"
        if within and (not refine or before == "optimal" or slopes.violation == 0):
            break
        if problem.ridge == 0 and problem.loss.is_separating(point.margin, point.penalty):
            status = "separable"
            break
        if n_iter == max_iter:
            break
        step = propose(problem, point, slopes, tol)
        if callback is not None:
            callback(n_iter, float(point.objective), slopes.violation, len(step.columns))
        moved = _line_search(problem, point, step)
        if moved is None and problem.norm == 2 and point.penalty > 0:
            # Newton's method creeps towards a minimum at the kink, and never gets there.
            kink = _at_kink(problem, point)
            moved = kink if kink.objective <= point.objective else None
        if moved is None:
            status = "optimal" if within else "stalled"
            break
        point = moved
    return Solution(
        point.coef, point.intercept, float(point.objective), slopes.violation, n_iter, status
    )


@dataclass
class _Point:
    """An iterate and what the objective needs of it."""

    coef: torch.Tensor
    intercept: torch.Tensor
    margin: torch.Tensor
    penalty: torch.Tensor
    objective: torch.Tensor


@dataclass
class _Slopes:
    """First derivatives at a point: `mass` is Σq, the derivative of the loss in ρ."""

    coef: torch.Tensor
    intercept: torch.Tensor
    mass: torch.Tensor
    violations: torch.Tensor

    @property
    def violation(self):
        return float(torch.maximum(self.violations.max(), self.intercept.abs()))


@dataclass
class _Step:
    """A direction in some columns and the intercept, with the slope of the objective along it."""

    columns: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    slope: torch.Tensor


def _evaluate(problem, coef, intercept):
    margin, penalty = problem.margin(coef, intercept), problem.penalty(coef)
    return _Point(coef, intercept, margin, penalty, problem.objective(coef, margin, penalty))


def _at_kink(problem, point):
    """The same point with ε ∘ w = 0."""
    return _evaluate(problem, point.coef * (problem.epsilon == 0), point.intercept)


def _slopes(problem, point):
    p, q = problem.loss.gradient(point.margin, point.penalty)
    gradient, intercept = problem.gradient(point.coef, p)
    mass = q.sum()
    violations = feature_violation(problem, point.coef, gradient, mass)
    return _Slopes(gradient, intercept, mass, violations)


def feature_violation(problem, coef, gradient, mass):
    """Distance of 0 from the subdifferential in each w_j, Σq the derivative of the loss in ρ.

    max-norm, with λ = ε Σq: |g_j + λ_j sign(w_j)| where w_j ≠ 0, max(|g_j| - λ_j, 0) where w_j = 0.
    Euclidean: |g_j + Σq ε_j² w_j / ρ|; where ε ∘ w = 0, the share of g_j by which ‖g / ε‖₂
    exceeds Σq.
    """
    epsilon = problem.epsilon
    if problem.norm != 2:
        at_zero = (gradient.abs() - mass * epsilon).clamp(min=0)
        return torch.where(coef == 0, at_zero, (gradient + mass * epsilon * coef.sign()).abs())
    penalty = problem.penalty(coef)
    if penalty > 0:
        return (gradient + mass * epsilon**2 * coef / penalty).abs()
    bounded = epsilon > 0
    length = torch.linalg.vector_norm(gradient[bounded] / epsilon[bounded])
    excess = (1 - mass / length).clamp(min=0) if length > 0 else torch.zeros_like(length)
    return torch.where(bounded, excess * gradient.abs(), gradient.abs())


def _orthant_step(problem, point, slopes, tol):
    """Newton step of the smooth loss within one orthant, on a working set of features.

    The working set holds the features that are nonzero or can't be perturbed, and the worst
    violators, which may leave zero only against their gradient.
    """
    bounded = problem.epsilon > 0
    support = (point.coef != 0) | ~bounded
    violators = torch.where(support, 0, slopes.violations)
    n_samples, n_features = problem.X.shape
    room = max(int(support.sum()), 64, min(n_features // 100, n_samples // 4))
    n_violators = min(room, int((violators > tol).sum()))
    chosen = support.clone()
    chosen[violators.topk(n_violators).indices] = True
    columns = chosen.nonzero().squeeze(1)

    coef, epsilon = point.coef[columns], problem.epsilon[columns]
    sign = torch.where(coef == 0, -slopes.coef[columns].sign(), coef.sign())
    constrained = _append(bounded[columns], False)
    # In u = sign ∘ w the orthant is u ≥ 0; a free variable keeps its own sign.
    flip = torch.where(constrained, _append(sign, 1), 1)
    penalty_slope = epsilon * sign
    slope = _append(slopes.coef[columns] + slopes.mass * penalty_slope, slopes.intercept)
    neglect = min(0.03, 4 * slopes.violation)
    hessian = problem.hessian(columns, point.margin, point.penalty, penalty_slope, neglect)
    step = flip * nonnegative_quadratic_step(
        flip[:, None] * hessian * flip,
        flip * slope,
        flip * _append(coef, 0),
        constrained,
        accuracy=min(1e-3, slopes.violation),
    )
    return _Step(columns, step[:-1], step[-1], slope @ step)


def _euclidean_step(problem, point, slopes, tol):
    """Newton step with the curvature of ρ = ‖ε ∘ w‖₂, or a step off its kink at ε ∘ w = 0.

    At the kink the features that can't be perturbed and the intercept are settled first. Then it
    is left along the steepest descent in the units of ε.
    """
    epsilon = problem.epsilon
    bounded = epsilon > 0
    if point.penalty > 0:
        columns = torch.arange(len(epsilon), device=epsilon.device)
        penalty_slope = epsilon**2 * point.coef / point.penalty
        hessian = problem.hessian(columns, point.margin, point.penalty, penalty_slope)
        bend = torch.diag(epsilon**2) - torch.outer(penalty_slope, penalty_slope)
        hessian[:-1, :-1] += slopes.mass / point.penalty * bend
        slope = _append(slopes.coef + slopes.mass * penalty_slope, slopes.intercept)
        step = torch.cholesky_solve(-slope[:, None], _cholesky(hessian)).squeeze(1)
        return _Step(columns, step[:-1], step[-1], slope @ step)
    free = (~bounded).nonzero().squeeze(1)
    slope = _append(slopes.coef[free], slopes.intercept)
    if slope.abs().max() > tol:
        zero = torch.zeros_like(slope[:-1])
        hessian = problem.hessian(free, point.margin, point.penalty, zero)
        step = torch.cholesky_solve(-slope[:, None], _cholesky(hessian)).squeeze(1)
        return _Step(free, step[:-1], step[-1], slope @ step)
    columns = bounded.nonzero().squeeze(1)
    direction = -slopes.coef[columns] / epsilon[columns] ** 2
    length = torch.linalg.vector_norm(epsilon[columns] * direction)
    descent = slopes.coef[columns] @ direction + slopes.mass * length
    return _Step(columns, direction, torch.zeros_like(slopes.intercept), descent)


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
        factor = _cholesky(hessian[free[:, None], free], damping)
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


def _line_search(problem, point, step):
    """The next point: backtracking on the true objective, on to the best of the halved steps.

    A step that gains at least a third of what its slope promises is taken as it is (the quadratic
    model gains half); shorter ones are tried as long as they gain more.
    """
    if not step.slope < 0:
        return None
    direction = torch.zeros_like(point.coef)
    direction[step.columns] = step.coef
    change = problem.margin(step.coef, step.intercept, step.columns)
    best, size = None, 1.0
    while size > 1e-10:
        coef = point.coef + size * direction
        margin, penalty = point.margin + size * change, problem.penalty(coef)
        objective = problem.objective(coef, margin, penalty)
        if best is not None and not objective < best.objective:
            break
        gain = point.objective - objective
        if gain >= -1e-4 * size * step.slope:
            intercept = point.intercept + size * step.intercept
            best = _Point(coef, intercept, margin, penalty, objective)
            if gain >= -size * step.slope / 3:
                break
        size /= 2
    return best


def _cholesky(hessian, damping=1e-13):
    """Factor of H + δI, with the smallest δ of a geometric ladder for which it is definite.

    The ladder starts at `damping` times the largest entry of the diagonal.
    """
    scale = float(hessian.diagonal().max().clamp(min=torch.finfo(hessian.dtype).tiny))
    identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(hessian + damping * scale * identity)
        if not failed or damping > 1e3:
            return factor
        damping *= 10


def _append(vector, last):
    last = torch.as_tensor(last, dtype=vector.dtype, device=vector.device)
    return torch.cat([vector, last.reshape(1)])
