"""Newton's method for three classes and more in the max-norm, on a working set of features."""

from collections import namedtuple
from dataclasses import dataclass

import torch

from sk_adv.linear_model._class_curvature import ClassCurvature
from sk_adv.linear_model._class_problem import Block, ClassPoint
from sk_adv.linear_model._class_sets import Atoms, worst_sets
from sk_adv.linear_model._max_norm_steps import nonnegative_quadratic_step
from sk_adv.linear_model._newton import Solution, line_search, no_report

# Shares of the samples of the rough stages, and the entries of X that such a share has at least.
_ROUGH_SHARES, _ROUGH_ENTRIES = (1 / 16, 1 / 4), 2**20
_ROUGH_VIOLATION, _ROUGH_STEPS = 1e-2, 30
# Features this close to leaving 0, as a share of the radius, join the working set.
_REACH = 0.1
# At least so many features or atoms may join at once.
_ROOM = 64
# The block is solved to this share of the tolerance, so that rounding does not matter, or to this
# share of the violation of features that did not find room in it.
_HALF, _SHARE = 0.5, 0.3
# The first block of features is solved until the violation has fallen to this share.
_FIRST_FALL = 0.1
# Iterations of the quadratic problem.
_INNER_STEPS = 25
# A kept Hessian must reduce the violation by this factor with each step.
_CONTRACTION = 0.4
# If so many steps with Hessians of drawn samples leave this share of the violation, all samples are
# used.
_PATIENCE, _SLOW = 6, 0.5
# The gain that a kept Hessian promises may be off by so much.
_CAUTION = 1e-2
# Share of the objective that is lost in the rounding of its sum.
_ROUNDING = 1e-14
# A step that gains this share of what its slope promises is long enough (in a quadratic: 1/2).
_ENOUGH = 1 / 3

_Trial = namedtuple("_Trial", "objective point size")


@dataclass(kw_only=True)
class State:
    """Where the solver stands.

    Attributes
    ----------
    point : ClassPoint
    n_iter : int
    gain : float
        Estimate of how much the objective can still fall.
    goal : float
        The violation to which the block is to be solved.
    violation : float
        The largest violation over all features.
    status : str
        As in `Solution`; empty while no block has been solved.
    curvature : ClassCurvature, default=None
        The Hessian at an earlier point.
    needs_all : bool
        Whether Hessians of drawn samples led nowhere, so that they take all samples.
    """

    point: ClassPoint
    n_iter: int = 0
    gain: float = torch.inf
    goal: float = 0.0
    violation: float = torch.inf
    status: str = ""
    curvature: ClassCurvature | None = None
    needs_all: bool = False


def minimise_classes(problem, start, *, tol, max_iter, refine=True, callback=no_report):
    """Minimise a `ClassProblem` from a `Start`; returns a `Solution`.

    It stops as optimal when no optimality condition is violated by more than `tol`, and the
    objective can be expected to fall by at most `tol` times the objective; otherwise after
    `max_iter` iterations, as the status of the solution says. `refine` takes one more step at the
    end, if the data needed no rough stages. After each iteration, `callback(n_iter, objective,
    violation, n_working)` gets the values from before it.
    """
    coef, intercept, n_iter = start.coef, start.intercept, 0
    if not coef.any():
        n_entries = problem.rows.shape[0] * problem.rows.shape[1]
        for share in problem.rows.rough_shares(_ROUGH_SHARES):
            if share * n_entries < _ROUGH_ENTRIES:
                continue
            limit = min(max_iter, n_iter + _ROUGH_STEPS)
            rough = ClassSolver(problem.sample(share), _ROUGH_VIOLATION, limit, callback)
            state = rough.solve(_first_point(rough.problem, coef, intercept), n_iter)
            n_iter = state.n_iter
            if state.status != "separable":
                coef, intercept = state.point.block.scatter(state.point.coef)
    solver = ClassSolver(problem, tol, max_iter, callback)
    state = solver.solve(_first_point(problem, coef, intercept), n_iter)
    if refine and not n_iter and state.status == "optimal" and state.n_iter < max_iter:
        state = solver.refined(state)
    return solution_of(state)


def solution_of(state):
    """The `Solution` that a `State` holds."""
    coef, intercept = state.point.block.scatter(state.point.coef)
    return Solution(
        coef=coef - coef.mean(0),
        intercept=intercept,
        objective=float(state.point.objective),
        violation=state.violation,
        gain=state.gain,
        n_iter=state.n_iter,
        status=state.status,
    )


def _first_point(problem, coef, intercept):
    """The start, or zero weights if these are better, as they can be for another radius."""
    free = problem.epsilon == 0
    block = Block.of(problem, (free | (coef != coef[0]).any(0)).nonzero().squeeze(1))
    point = ClassPoint(block, block.gather(coef, intercept))
    if not coef.any():
        return point
    shares = problem.rows.class_shares
    odds = shares.log() if problem.fit_intercept else torch.zeros_like(shares)
    without = ClassPoint(block, block.gather(torch.zeros_like(coef), odds))
    return min(point, without, key=lambda candidate: candidate.objective)


class ClassSolver:
    """Newton iterations on a working set, which grows until no feature outside is a violator.

    Parameters
    ----------
    problem : ClassProblem
    tol : float
    max_iter : int
    callback : callable
    """

    def __init__(self, problem, tol, max_iter, callback):
        self.problem, self.tol, self.max_iter, self.callback = problem, tol, max_iter, callback

    def solve(self, point, n_iter):
        """Iterate from a point until its violation in all features is within the tolerance."""
        state = State(point=point, n_iter=n_iter)
        while True:
            gradient = state.point.full_gradient()
            outside, rest, joining = self._outside(state.point, gradient)
            state.violation = max(outside, self.violation_inside(state.point))
            if state.point.lacks_minimum():
                state.status = "separable"
            if state.status in ("separable", "max_iter", "stalled"):
                return state
            if state.status and state.violation <= self.tol:
                return state
            if len(joining):
                state.point = state.point.joined(joining)
            # Until all violators are in the block, its solution is not worth much work.
            first = 0.0 if state.status else _FIRST_FALL * state.violation
            state.goal = max(_HALF * self.tol, _SHARE * rest, first)
            self.iterate(state)

    def _outside(self, point, gradient):
        """The violation outside of the block, before and after some features join it, and these."""
        epsilon, mass = self.problem.epsilon, point.mass
        price = self._prices_outside(point, gradient)
        violation = _largest(-price)
        near, _ = worst_sets(gradient, mass, (1 - _REACH) * epsilon)
        near[point.block.features] = torch.inf
        n_joining = min(int((near < 0).sum()), max(_ROOM, point.block.n_columns))
        joining = near.topk(n_joining, largest=False).indices
        price[joining] = torch.inf
        return violation, _largest(-price), joining

    def _prices_outside(self, point, gradient):
        price, _ = worst_sets(gradient, point.mass, self.problem.epsilon)
        price[point.block.features] = torch.inf
        return price

    def violation_outside(self, point, gradient):
        """The largest violation of a feature outside of the block."""
        return _largest(-self._prices_outside(point, gradient))

    def violation_inside(self, point):
        """The largest violation of the block."""
        return point.violation(self._atoms(point))

    def _atoms(self, point):
        return Atoms.nested(point.coef, point.block.epsilon == 0)

    def iterate(self, state):
        """Newton iterations on the block; sets the status."""
        before = hidden_violation = torch.inf
        violations = []
        while True:
            # 1. Optimality conditions of the block.
            point, atoms = state.point, self._atoms(state.point)
            violation = point.violation_by_levels(atoms)
            if point.lacks_minimum():
                state.status = "separable"
                return
            if violation <= state.goal and (state.goal > self.tol or self._is_flat(state)):
                state.status = "optimal"
                return
            if state.n_iter == self.max_iter:
                is_done = violation <= state.goal and state.gain <= self.tol * point.objective
                state.status = "optimal" if is_done else "max_iter"
                return

            # 2. Newton step.
            violations.append(violation)
            if _is_drawn(state.curvature) and _is_slow(violations):
                state.needs_all = True
            is_falling = violation < _CONTRACTION * before and not state.needs_all
            if not (is_falling and _is_drawn(state.curvature)):
                state.curvature = None
            is_kept, before = state.curvature is not None, violation
            atoms, move, slope = self._step(state, atoms, violation)

            # 3. Convergence. While rounding hides the gain, each step must halve the violation.
            is_hidden = -slope <= _ROUNDING * float(point.objective)
            if violation <= state.goal and -slope <= self.tol * point.objective:
                state.status, state.gain = "optimal", -slope
                return
            is_stuck = is_hidden and not violation < hidden_violation / 2
            if is_stuck and violation > self.tol and self._can_take_all(state):
                before = hidden_violation = torch.inf
                continue
            if is_stuck:
                state.status = "optimal" if violation <= self.tol else "stalled"
                return
            hidden_violation = violation if is_hidden else torch.inf

            # 4. Line search.
            trial = self._move(point, atoms, move, slope, is_hidden)
            if trial is None and is_kept:
                # The Hessian of another point led nowhere.
                before = hidden_violation = torch.inf
                state.curvature = None
                continue
            if trial is None and self._can_take_all(state):
                before = hidden_violation = torch.inf
                continue
            if trial is None:
                state.status = "stalled"
                return
            self.callback(state.n_iter, float(point.objective), violation, point.block.n_columns)
            state.n_iter, state.point = state.n_iter + 1, trial.point
            if _is_drawn(state.curvature):
                state.curvature.add(atoms, trial.size * move, point, trial.point)
            # The gain that a quadratic still promises, if the gradient falls as the violation does.
            after = trial.point.violation_by_levels(self._atoms(trial.point))
            state.gain = -slope * min(1, after / violation if violation else 0) ** 2

    def _can_take_all(self, state):
        """Whether samples were drawn for the Hessian; from now on it takes all of them."""
        if not _is_drawn(state.curvature):
            return False
        state.needs_all, state.curvature = True, None
        return True

    def _is_flat(self, state):
        """Whether the last step tells that the next one is not worth a Hessian."""
        if not _is_drawn(state.curvature):
            return False
        return state.gain <= _CAUTION * self.tol * float(state.point.objective)

    def _step(self, state, atoms, violation):
        """Atoms, with new ones of the worst prices, and the change of their amounts."""
        point = state.point
        price, member = point.worst_sets
        wanted = (price < -max(0.3 * self.tol, 0.1 * violation)) & (point.block.epsilon > 0)
        n_new = min(int(wanted.sum()), max(_ROOM, len(atoms.column)))
        new = torch.where(wanted, price, torch.inf).topk(n_new, largest=False).indices
        splits = atoms.splits(new, member[new])
        falls = point.slopes(splits) < price[splits.column] / member.shape[1]
        atoms = atoms.joined(splits, falls)
        slopes = point.slopes(atoms)
        if not len(slopes):
            return atoms, slopes, 0.0
        if state.curvature is None:
            state.curvature = ClassCurvature.measured(point, atoms, state.needs_all)
        move = nonnegative_quadratic_step(
            state.curvature.on(point, atoms),
            slopes,
            atoms.amount,
            point.block.epsilon[atoms.column] > 0,
            accuracy=min(0.05, max(1e-3, violation)),
            max_iter=_INNER_STEPS,
        )
        return atoms, move, float(slopes @ move)

    def _move(self, point, atoms, move, slope, is_hidden):
        """The next point along a step; None if no step size lowers the objective enough."""
        n_columns = point.block.n_columns
        line = point.line(atoms.weights(move, n_columns))

        def along(size):
            moved = line(size, atoms.weights(atoms.amount + size * move, n_columns))
            return _Trial(moved.objective, moved, size)

        if is_hidden:
            return along(1.0)
        return line_search(along, point, slope, enough=_ENOUGH)

    def refined(self, state):
        """The state after one more step, unless that ends outside the tolerance."""
        point, atoms = state.point, self._atoms(state.point)
        violation = point.violation_by_levels(atoms)
        state.curvature = None
        atoms, move, slope = self._step(state, atoms, violation)
        trial = self._move(point, atoms, move, slope, -slope <= _ROUNDING * float(point.objective))
        if trial is None:
            return state
        moved = trial.point
        outside = self.violation_outside(moved, moved.full_gradient())
        after = max(outside, self.violation_inside(moved))
        if after > self.tol:
            return state
        self.callback(state.n_iter, float(point.objective), violation, point.block.n_columns)
        status = "separable" if moved.lacks_minimum() else "optimal"
        return State(
            point=moved, n_iter=state.n_iter + 1, gain=-slope, violation=after, status=status
        )


def _is_drawn(curvature):
    """Whether the Hessian is of drawn samples, of large data, so that it is worth keeping."""
    return curvature is not None and curvature.sample.is_rough


def _is_slow(violations):
    """Whether the last steps led nowhere."""
    earlier, last = violations[:-_PATIENCE], violations[-_PATIENCE:]
    return bool(earlier) and min(last) > _SLOW * min(earlier)


def _largest(values):
    """The largest of the values and 0."""
    return max(float(values.max()), 0.0) if len(values) else 0.0
