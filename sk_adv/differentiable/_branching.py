"""Proofs for networks of units that bend: branch on their signs, bound by linear relaxations."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sk_adv.differentiable._relaxation_rules import Bend, bend
from sk_adv.differentiable._relaxations import Source
from sk_adv.differentiable._sets import least_in, worst_step

# Parts that are bounded together.
_PARTS = 64
# Steps of the ascent on the slopes and multipliers of each part.
_N_ITER = 8
# Units that are tried for each split.
_CANDIDATES = 4


@dataclass
class Parts:
    """Parts of a perturbation set, each with known signs of the inputs of some units.

    Attributes
    ----------
    signs : list of torch.Tensor of shape (n_parts, \\*shape)
        For each layer that bends: 1, -1, or 0 where both are possible.
    alpha : list of torch.Tensor of shape (n_parts, 1, \\*shape)
        The shares of the lines.
    beta : list of torch.Tensor of shape (n_parts, 1, \\*shape)
        Multipliers of the signs, at least 0.
    bound : torch.Tensor of shape (n_parts,)
        Lower bounds of the margin.
    """

    signs: list
    alpha: list
    beta: list
    bound: Tensor

    def __len__(self):
        return len(self.bound)

    def rows(self, rows):
        """Some of the parts."""
        return Parts(
            *([values[rows] for values in parts] for parts in (self.signs, self.alpha, self.beta)),
            self.bound[rows],
        )

    def and_others(self, others):
        """These parts and others."""
        pairs = [
            [torch.cat(pair) for pair in zip(first, second, strict=True)]
            for first, second in (
                (self.signs, others.signs),
                (self.alpha, others.alpha),
                (self.beta, others.beta),
            )
        ]
        return Parts(*pairs, torch.cat([self.bound, others.bound]))


class Branching:
    """The search for a proof that one function of a network's outputs is above 0.

    Each part of the set is bounded below by linear relaxations, whose slopes α, and multipliers β
    of the known signs, are improved by gradient ascent. Where the bound is not above 0, the sign of
    one more unit is distinguished. Source: Wang et al., "Beta-CROWN: Efficient Bound Propagation
    with Per-neuron Split Constraints for Neural Network Robustness Verification", NeurIPS 2021.

    Parameters
    ----------
    source : Source
        The outputs, for one sample.

    direction : torch.Tensor of shape (n_outputs,)
        The function's coefficients.
    """

    def __init__(self, source: Source, direction: Tensor):
        self.root, self.steps, self.direction = source.root, source.steps, direction
        self.bends = [i for i, step in enumerate(self.steps) if isinstance(step, Bend)]

    def start(self) -> Parts:
        """The whole set."""
        steps = [self.steps[i] for i in self.bends]
        signs = [torch.zeros_like(step.low) for step in steps]
        alpha = [step.start(1).clone() for step in steps]
        beta = [torch.zeros_like(sign)[:, None] for sign in signs]
        return self.bounded(Parts(signs, alpha, beta, torch.full((1,), -torch.inf).double()), 30)

    def _layers(self, signs):
        """The layers with the limits of the parts."""
        steps = list(self.steps)
        for i, sign in zip(self.bends, signs, strict=True):
            step = steps[i]
            low = torch.where(sign > 0, step.low.clamp(min=0), step.low)
            high = torch.where(sign < 0, step.high.clamp(max=0), step.high)
            # A sign that the limits exclude: the part is empty, and any bound is right.
            steps[i] = bend(low, torch.maximum(low, high), step.negative_slope, step.error)
        return steps

    def sweep(self, steps, parts: Parts, seen=None):
        """Lower bounds for all parts, and the coefficients of the perturbation."""
        coef = self.direction.expand(len(parts), 1, -1)
        constant = 0.0
        position = len(self.bends)
        for i in range(len(steps) - 1, -1, -1):
            step, alpha = steps[i], None
            constant = constant - (coef.abs() * step.error[:, None]).flatten(2).sum(2)
            if i in self.bends:
                position -= 1
                alpha = parts.alpha[position]
                if seen is not None:
                    seen.append(coef)
            coef, more = step.back(coef, alpha)
            if i in self.bends:
                # f(v) >= f(v) - β s v where s v >= 0.
                coef = coef - parts.beta[position] * parts.signs[position][:, None]
            constant = constant + more
        coef = coef.flatten(2)
        bound = (constant + least_in(self.root, coef)).squeeze(1)
        return bound, coef if self.root.coef is None else coef @ self.root.coef

    def bounded(self, parts: Parts, n_iter: int = _N_ITER) -> Parts:
        """The parts with better slopes, multipliers and bounds."""
        steps = self._layers(parts.signs)
        with torch.enable_grad():
            alpha = [values.detach().clone().requires_grad_() for values in parts.alpha]
            beta = [values.detach().clone().requires_grad_() for values in parts.beta]
            current = replace(parts, alpha=alpha, beta=beta)
            optimizer = torch.optim.Adam(
                [{"params": alpha, "lr": 0.2}, {"params": beta, "lr": 0.1}], maximize=True
            )
            best, kept = parts.bound.clone(), [[v.detach().clone() for v in alpha + beta]][0]
            for i in range(n_iter + 1):
                bound, _ = self.sweep(steps, current)
                is_better = bound.detach() > best
                best = torch.where(is_better, bound.detach(), best)
                for old, new in zip(kept, alpha + beta, strict=True):
                    old[is_better] = new.detach()[is_better]
                # Parts that are proved need no better bounds.
                if i == n_iter or (best > 0).all():
                    break
                optimizer.zero_grad()
                bound.clamp(max=1e-3 + best.abs().max()).sum().backward()
                optimizer.step()
                for group in optimizer.param_groups:
                    group["lr"] *= 0.97
                with torch.no_grad():
                    for values in alpha:
                        values.clamp_(0, 1)
                    for values in beta:
                        values.clamp_(min=0)
        return Parts(parts.signs, kept[: len(alpha)], kept[len(alpha) :], best)

    def split(self, parts: Parts) -> Parts:
        """Two parts for each, by the sign of the unit that promises most."""
        steps = self._layers(parts.signs)
        seen = []
        self.sweep(steps, parts, seen)
        scores = []
        for i, coef, alpha in zip(self.bends, reversed(seen), parts.alpha, strict=True):
            step = steps[i]
            low, high = step.low, step.high
            _, intercept = step.upper
            coef, alpha = coef.squeeze(1), alpha.squeeze(1)
            # The most that the lines lose: above at 0, below at an end.
            below = torch.maximum((1 - alpha) * high, -alpha * low) * (1 - step.negative_slope)
            loss = coef.clamp(max=0).abs() * intercept + coef.clamp(min=0) * below / 2
            scores.append(torch.where((low < 0) & (high > 0), loss, -torch.inf).flatten(1))
        sizes = [score.shape[1] for score in scores]
        scores = torch.cat(scores, dim=1)
        top = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=1)
        tried = [self._children(parts, unit, sizes) for unit in top.indices.T]
        if len(tried) > 1:
            ends = []
            for children, score in zip(tried, top.values.T, strict=True):
                bound, _ = self.sweep(self._layers(children.signs), children)
                # Below 0 counts what is missing; above it nothing more is needed.
                both = bound.clamp(max=0).unflatten(0, (2, -1))
                ends.append((both.sum(0) + both.amin(0)).masked_fill(score.isinf(), -torch.inf))
            chosen = torch.stack(ends).argmax(0)
            units = top.indices.gather(1, chosen[:, None]).squeeze(1)
            return self._children(parts, units, sizes)
        return tried[0]

    def _children(self, parts, units, sizes):
        """The parts with each sign of a unit, numbered through all layers."""
        signs, start = [], 0
        for sign, size in zip(parts.signs, sizes, strict=True):
            inside = (units >= start) & (units < start + size)
            index = (units - start).clamp(0, size - 1)
            one = torch.zeros_like(sign).flatten(1).scatter(1, index[:, None], 1.0)
            one = (one * inside[:, None]).reshape(sign.shape)
            signs.append(torch.cat([torch.where(one > 0, end, sign) for end in (one, -one)]))
            start += size
        twice = [[torch.cat([v, v]) for v in values] for values in (parts.alpha, parts.beta)]
        return Parts(signs, *twice, torch.cat([parts.bound, parts.bound]))

    def is_split(self, parts: Parts) -> Tensor:
        """Which parts have no unit left that could bend."""
        is_open = [
            ((step.low < 0) & (step.high > 0)).flatten(1).any(1)
            for step in (self._layers(parts.signs)[i] for i in self.bends)
        ]
        return ~torch.stack(is_open).any(0)

    def worst(self, parts: Parts) -> Tensor:
        """The perturbations at which the bounds are attained."""
        _, rows = self.sweep(self._layers(parts.signs), parts)
        return worst_step(self.root, rows).squeeze(1)


@torch.no_grad()
def branch(source: Source, direction: Tensor, *, time_limit: float, is_broken=None) -> tuple:
    """Search for a proof that a function of the outputs is above 0.

    Parameters
    ----------
    source : Source
        The outputs, for one sample.
    direction : torch.Tensor of shape (n_outputs,)
    time_limit : float
        Seconds.
    is_broken : callable, default=None
        The position, among perturbations (n_parts, n_features), of one at which the function is not
        above 0, or None.

    Returns
    -------
    bound : float
        A lower bound of the function; infinite where all that is known is that it is above 0.
    point : torch.Tensor of shape (n_features,) or None
        A perturbation that breaks it.
    n_parts : int
        How many parts were bounded.
    """
    deadline = time.monotonic() + time_limit
    search = Branching(source, direction)
    open_parts = search.start()
    n_parts, stuck = 1, torch.inf
    while True:
        open_parts = open_parts.rows(open_parts.bound <= 0)
        if not len(open_parts):
            return stuck, None, n_parts
        if is_broken is not None:
            points = search.worst(open_parts.rows(open_parts.bound.argsort()[:_PARTS]))
            found = is_broken(points)
            if found is not None:
                return float(open_parts.bound.min()), points[found], n_parts
        is_stuck = search.is_split(open_parts)
        if is_stuck.any():
            again = search.bounded(open_parts.rows(is_stuck), 100)
            left = again.bound[again.bound <= 0]
            stuck = min([stuck, *left.tolist()])
            open_parts = open_parts.rows(~is_stuck)
            continue
        if time.monotonic() > deadline or stuck <= 0:
            return min(float(open_parts.bound.min()), stuck), None, n_parts
        order = open_parts.bound.argsort()
        chosen, rest = order[:_PARTS], order[_PARTS:]
        children = search.bounded(search.split(open_parts.rows(chosen)))
        n_parts += len(children)
        open_parts = open_parts.rows(rest).and_others(children)
