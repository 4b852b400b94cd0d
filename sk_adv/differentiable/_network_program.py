"""Networks of units that bend, as mixed-integer programs."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from sk_adv._arrays import in_32_bits
from sk_adv.differentiable._relaxation_rules import Bend, Matrix
from sk_adv.differentiable._relaxations import Source
from sk_adv.differentiable._relaxed_maxima import Largest

# Margins that HiGHS, whose own tolerance is 1e-6, might take for 0, relative to the logits.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Layer:
    """What the program needs to know of one layer, for one sample.

    Attributes
    ----------
    kind : {"matrix", "bend", "largest"}
    weight, bias : ndarray
        Of a matrix, or of the pieces of a maximum.
    low, high : ndarray of shape (n_units,)
        Limits of the inputs of units that bend.
    slope : float
        That of the units below 0.
    gaps : ndarray of shape (n_units, n_pieces, n_pieces)
        Upper limits of z_k - z_j, at [..., j, k].
    error : ndarray of shape (n_units,)
        Bound on the rounding.
    """

    kind: str
    error: np.ndarray
    weight: np.ndarray = None
    bias: np.ndarray = None
    low: np.ndarray = None
    high: np.ndarray = None
    slope: float = 0.0
    gaps: np.ndarray = None


def is_piecewise_linear(source: Source) -> bool:
    """Whether a program can hold all layers, and the perturbation set."""
    known = all(
        isinstance(step, Matrix | Bend) or (type(step) is Largest and step.gaps is not None)
        for step in source.steps
    )
    is_vector = all(step.error.ndim == 2 for step in source.steps)
    return known and is_vector and source.root.norm == np.inf


def layers_of_sample(source: Source, i: int) -> list[Layer]:
    """The layers with the limits of sample i."""

    def of(values):
        return values[min(i, len(values) - 1)].detach().cpu().numpy()

    layers = []
    for step in source.steps:
        if isinstance(step, Matrix):
            layers.append(
                Layer("matrix", of(step.error), step.weight.cpu().numpy(), step.bias.cpu().numpy())
            )
        elif isinstance(step, Bend):
            ends = {"low": of(step.low), "high": of(step.high)}
            layers.append(Layer("bend", of(step.error), slope=step.negative_slope, **ends))
        else:
            pieces = step.pieces
            parts = pieces.weight.cpu().numpy(), pieces.bias.cpu().numpy()
            layers.append(Layer("largest", of(step.error), *parts, gaps=of(step.gaps)))
    return layers


def root_of_sample(source: Source, i: int) -> tuple:
    """The box of the perturbations, and the affine values of the first layer's inputs.

    Returns
    -------
    low, high : ndarray of shape (n_features,)
        The ends of the box of η.
    coef, constant : ndarray of shape (n_values, n_features), (n_values,)
        The values are coef η + constant.
    error : ndarray of shape (n_values,)
        Bound on their rounding.
    """
    root = source.root
    radius = root.radius.expand_as(root.centre)
    low, high = (-radius, radius) if root.room is None else root.room
    centre, offset, error = root.centre[i], root.offset[i], root.error[i]
    coef = torch.eye(len(centre)).to(centre) if root.coef is None else root.coef
    values = low[i], high[i], coef, coef @ centre + offset, error
    return tuple(value.detach().cpu().numpy() for value in values)


class Program:
    """The points of a set, and the values of a network there, as a system with integers.

    The values of a layer are affine functions M v + c of the variables v: the perturbation η, and
    for each unit that may bend its positive part and a binary number. A unit that can't bend within
    its limits needs none. Source: Tjeng, Xiao and Tedrake, "Evaluating Robustness of Neural
    Networks with Mixed Integer Programming", ICLR 2019, section 3.
    """

    def __init__(self, root, layers):
        low, high, coef, constant, error = root
        self.low, self.high = list(low), list(high)
        self.n_features = len(low)
        self.integrality = [0] * len(low)
        self.rows, self.lowest, self.highest = [], [], []
        self.matrix, self.constant, self.error = coef, constant, error
        for layer in layers:
            getattr(self, "_" + layer.kind)(layer)

    def _variables(self, low, high, integrality):
        """Add variables; their positions."""
        first = len(self.low)
        self.low += list(low)
        self.high += list(high)
        self.integrality += [integrality] * len(low)
        return np.arange(first, first + len(low))

    def _constrain(self, parts, lowest, highest):
        """Add a constraint lowest <= Σ weight[j] v[position j] <= highest."""
        self.rows.append(parts)
        self.lowest.append(lowest)
        self.highest.append(highest)

    def _values(self):
        """M with a column for each variable."""
        return np.pad(self.matrix, ((0, 0), (0, len(self.low) - self.matrix.shape[1])))

    def _matrix(self, layer):
        self.matrix = layer.weight @ self.matrix
        self.constant = layer.weight @ self.constant + layer.bias
        self.error = np.abs(layer.weight) @ self.error + layer.error

    def _bend(self, layer):
        is_open = np.flatnonzero((layer.low < 0) & (layer.high > 0))
        low, high = layer.low[is_open], layer.high[is_open]
        positive = self._variables(np.zeros(len(is_open)), high, 0)
        binary = self._variables(np.zeros(len(is_open)), np.ones(len(is_open)), 1)
        for i, r, b, least, most in zip(is_open, positive, binary, low, high, strict=True):
            row, constant = self.matrix[i], self.constant[i]
            used = np.flatnonzero(row)
            # r >= z, r <= z - l (1 - b), r <= u b.
            parts = np.append(used, r), np.append(-row[used], 1.0)
            self._constrain(parts, constant, np.inf)
            parts = np.append(parts[0], b), np.append(parts[1], -least)
            self._constrain(parts, -np.inf, constant - least)
            self._constrain((np.array([r, b]), np.array([1.0, -most])), -np.inf, 0.0)
        # s z + (1 - s) max(z, 0).
        share = np.where(layer.low >= 0, 1.0, layer.slope)
        matrix = self._values() * share[:, None]
        matrix[is_open, positive] = 1 - layer.slope
        self.matrix, self.constant = matrix, self.constant * share
        self.error = self.error + layer.error

    def _largest(self, layer):
        n_units, n_pieces = layer.gaps.shape[:2]
        weight = layer.weight.reshape(n_units, n_pieces, -1)
        bias = layer.bias.reshape(n_units, n_pieces)
        error = np.abs(weight) @ self.error
        pieces, constants = weight @ self.matrix, weight @ self.constant + bias
        rows, offsets, new = [], np.zeros(n_units), {}
        for i in range(n_units):
            # A piece that another one always exceeds is never the largest.
            leads = _leading(layer.gaps[i])
            if len(leads) == 1:
                rows.append(pieces[i, leads[0]])
                offsets[i] = constants[i, leads[0]]
                continue
            first = leads[0]
            # h = z_first + excess, as its limits are known.
            most = layer.gaps[i][first][leads].max()
            excess = self._variables([0.0], [most], 0)[0]
            binary = self._variables(np.zeros(len(leads)), np.ones(len(leads)), 1)
            self._constrain((binary, np.ones(len(leads))), 1.0, 1.0)
            for k, b in zip(leads, binary, strict=True):
                gap = pieces[i, k] - pieces[i, first]
                shift = constants[i, k] - constants[i, first]
                used = np.flatnonzero(gap)
                # excess >= z_k - z_first, and at most this where b_k = 1.
                parts = np.append(used, excess), np.append(-gap[used], 1.0)
                self._constrain(parts, shift, np.inf)
                reach = layer.gaps[i][k][leads].max()
                parts = np.append(parts[0], b), np.append(parts[1], reach)
                self._constrain(parts, -np.inf, shift + reach)
            rows.append(pieces[i, first])
            offsets[i] = constants[i, first]
            new[i] = excess
        matrix = np.zeros((n_units, len(self.low)))
        matrix[:, : self.matrix.shape[1]] = rows
        for i, excess in new.items():
            matrix[i, excess] = 1.0
        self.matrix, self.constant = matrix, offsets
        self.error = error.max(1) + layer.error

    def least(self, direction, *, time_limit):
        """Look for the least direction ᵀ z, if it is not above a tolerance.

        To ask for the least value, among those up to the tolerance, takes a third of the time that
        either takes alone: the objective guides the search, and the limit ends it.

        Parameters
        ----------
        direction : ndarray of shape (n_outputs,)
        time_limit : float
            Seconds.

        Returns
        -------
        is_proved : bool
            Whether there is no such value.
        perturbation : ndarray of shape (n_features,), or None
            The perturbation that was found.
        """
        row, constant = direction @ self.matrix, direction @ self.constant
        size = np.abs(row) @ np.maximum(np.abs(self.low), np.abs(self.high))[: len(row)]
        slack = np.abs(direction) @ self.error + TOLERANCE * (1 + abs(constant) + size)
        row = np.pad(row, (0, len(self.low) - len(row)))
        used = np.flatnonzero(row)
        rows = [*self.rows, (used, row[used])]
        starts = np.cumsum([0] + [len(parts[0]) for parts in rows])
        matrix = csr_array(
            (
                np.concatenate([parts[1] for parts in rows]),
                np.concatenate([parts[0] for parts in rows]),
                starts,
            ),
            shape=(len(rows), len(self.low)),
        )
        ends = [*self.lowest, -np.inf], [*self.highest, slack - constant]
        found = milp(
            row,
            constraints=LinearConstraint(in_32_bits(matrix), *ends),
            integrality=self.integrality,
            bounds=Bounds(self.low, self.high),
            options={"time_limit": time_limit},
        )
        bound = found.get("mip_dual_bound")
        is_infeasible = found.status == 2
        is_proved = is_infeasible or (bound is not None and bound + constant > slack)
        return is_proved, None if found.x is None else found.x[: self.n_features]


def _leading(gaps):
    """The pieces that may be the largest."""
    leads = list(range(len(gaps)))
    for k in range(len(gaps)):
        # z_k - z_j <= 0 for another j that stays.
        if any(j != k and gaps[j, k] <= 0 for j in leads):
            leads.remove(k)
    return leads


def decide(root, layers, label, rivals, *, time_limit):
    """Whether a sample is proved against all rivals, or a perturbation that may break it.

    Parameters
    ----------
    root : tuple
        From `root_of_sample`.
    layers : list of Layer
    label : int
    rivals : list of int
    time_limit : float
        Seconds for all of them.

    Returns
    -------
    is_proved : bool
    perturbation : ndarray of shape (n_features,) or None
    """
    deadline = time.monotonic() + time_limit
    program = Program(root, layers)
    for rival in rivals:
        direction = np.zeros(len(program.constant))
        direction[label], direction[rival] = 1.0, -1.0
        left = max(deadline - time.monotonic(), 1e-3)
        is_proved, perturbation = program.least(direction, time_limit=left)
        if not is_proved:
            return False, perturbation
    return True, None
