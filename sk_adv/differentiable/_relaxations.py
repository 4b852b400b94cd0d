"""Linear bounds on the outputs of a module, carried backward through its layers."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sk_adv.differentiable._composition import is_chain
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._intervals import enclose
from sk_adv.differentiable._linear import decision_module
from sk_adv.differentiable._sets import SPACING, between, least_in
from sk_adv.differentiable._transformers import Affine

# Numbers of one array of coefficients: 32 MiB.
_MOST_NUMBERS = 2**22
# Numbers per sample beyond which the inputs of a layer keep their intervals.
_MOST_NUMBERS_OF_A_LAYER = 2**25
_LEARNING_RATE = 0.25


class Relaxation:
    """Linear bounds of a layer's outputs by its inputs, for all inputs within known limits.

    Parameters
    ----------
    error : torch.Tensor of a shape that broadcasts to (n_samples, \\*shape of one output)
        Bound on the rounding of the layer, in the model's own precision and in this computation.

    work : float, default=None
        Time of the way back for one function, in products of a matrix; None is that of a function
        of each value.
    """

    def __init__(self, error, work=None):
        # Some twenty passes through memory.
        self.error, self.work = error, 30 * error[0].numel() if work is None else work

    def start(self, n_rows: int) -> Tensor | None:
        """The free parameters, in [0, 1], of the bounds of `n_rows` functions; None if none are.

        The first two axes are samples and functions. Whatever their values, the bounds hold.
        """
        return None

    def back(self, coef: Tensor, alpha: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A lower bound of functions of the outputs by functions of the inputs.

        Parameters
        ----------
        coef : torch.Tensor of shape (n_samples or 1, n_rows, \\*shape of one output)
            The functions' coefficients.

        alpha : torch.Tensor or None, default=None
            Free parameters; None takes the usual ones.

        Returns
        -------
        coef : torch.Tensor of shape (n_samples or 1, n_rows, \\*shape of one input)
        constant : torch.Tensor of shape (n_samples or 1, n_rows)
        """
        raise NotImplementedError


@dataclass
class Source:
    """The inputs of a layer: everything before it, from the perturbation set on.

    Attributes
    ----------
    root : Enclosure
        The set of the inputs of the first step.
    steps : list of Relaxation
        The layers from there to here.
    region : Enclosure
        Intervals that hold the values here.
    n_iter : int
        Steps of the ascent on free parameters.
    most_work : float
        Time for one sample and one layer, in products of a matrix, beyond which the layer's inputs
        keep their intervals.
    """

    root: Enclosure
    steps: list = field(default_factory=list)
    region: Enclosure = None
    n_iter: int = 0
    most_work: float = math.inf

    @property
    def rounding(self) -> float:
        """Spacing around 1 of the numbers in which the model computes."""
        return self.root.rounding

    @property
    def shape(self) -> tuple:
        """The shape of one sample's values here."""
        return self.region.shape or tuple(self.region.error.shape[1:])

    def intervals(self) -> tuple[Tensor, Tensor]:
        """The limits of the values that are known, in the shape of the layer."""
        return tuple(map(self.region.in_shape, self.region.limits()))

    def limits(self, where: Callable | None = None) -> tuple[Tensor, Tensor]:
        """The limits of the values, tightened by linear bounds and remembered.

        Parameters
        ----------
        where : callable, default=None
            A function of the intervals' ends, which tells where tighter ones are of use. None
            stands for everywhere.

        Returns
        -------
        low, high : torch.Tensor of shape (n_samples, \\*shape)
        """
        low, high = self.region.limits()
        if not self.steps or not self.is_affordable(low.shape[1]):
            return self.intervals()
        is_open = low < high if where is None else where(low, high)
        units = is_open.any(0).nonzero().squeeze(1)
        if len(units):
            rows = torch.eye(low.shape[1], dtype=low.dtype, device=low.device)[units]
            ends = self.bounds(rows.unflatten(1, self.shape))
            low = low.index_copy(1, units, torch.maximum(low[:, units], ends[0]))
            high = high.index_copy(1, units, torch.minimum(high[:, units], ends[1]))
            self.region = between(low, high, self.region)
        return self.intervals()

    def is_affordable(self, n_rows: int) -> bool:
        """Whether linear bounds of so many functions are not too much for one sample."""
        work = sum(step.work for step in self.steps)
        if self.root.coef is not None:
            work += self.root.coef.numel()
        is_small = n_rows * self._width() <= _MOST_NUMBERS_OF_A_LAYER
        return is_small and 2 * n_rows * work <= self.most_work

    def bounds(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Limits of linear functions of the values here.

        Parameters
        ----------
        rows : torch.Tensor of shape (n_rows, \\*shape)
            Their coefficients.

        Returns
        -------
        low, high : torch.Tensor of shape (n_samples, n_rows)
        """
        low, high = (self.least(sign * rows[None]) for sign in (1, -1))
        return low, -high

    def least(self, coef: Tensor) -> Tensor:
        """Lower bounds of linear functions of the values here, a few at a time.

        Parameters
        ----------
        coef : torch.Tensor of shape (n_samples or 1, n_rows, \\*shape)
            Their coefficients.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_rows)
        """
        size = max(1, _MOST_NUMBERS // (len(self.root.error) * self._width()))
        parts = [self._ascend(part) for part in coef.split(size, dim=1)]
        return torch.cat(parts, dim=1).expand(len(self.root.error), -1)

    def _ascend(self, coef):
        best = self._sweep(coef)
        n_samples, n_rows = len(self.root.error), coef.shape[1]
        free = [step.start(n_rows) if self.n_iter else None for step in self.steps]
        if all(alpha is None for alpha in free):
            return best
        # Source: Xu et al., "Fast and Complete: Enabling Complete Verification with Massively
        # Parallel Incomplete Verifiers", ICLR 2021, section 3.1.
        with torch.inference_mode(False), torch.enable_grad():
            free = [
                alpha
                if alpha is None
                else alpha.detach().expand(n_samples, n_rows, *alpha.shape[2:]).clone()
                for alpha in free
            ]
            variables = [alpha.requires_grad_() for alpha in free if alpha is not None]
            optimizer = torch.optim.Adam(variables, lr=_LEARNING_RATE, maximize=True)
            for _ in range(self.n_iter):
                bound = self._sweep(coef, free)
                best = torch.maximum(best, bound.detach())
                # The gradient of these alone; the module's weights may have gradients too.
                for alpha, slope in zip(
                    variables, torch.autograd.grad(bound.sum(), variables), strict=True
                ):
                    alpha.grad = slope
                optimizer.step()
                for group in optimizer.param_groups:
                    group["lr"] *= 0.95
                with torch.no_grad():
                    for alpha in variables:
                        alpha.clamp_(0, 1)
        return best

    def _sweep(self, coef, free=None):
        """CROWN: Zhang et al., "Efficient Neural Network Robustness Certification with General
        Activation Functions", NeurIPS 2018, section 3.
        """
        constant = 0.0
        free = [None] * len(self.steps) if free is None else free
        for step, alpha in zip(reversed(self.steps), reversed(free), strict=True):
            constant = constant - (coef.abs() * step.error[:, None]).flatten(2).sum(2)
            coef, more = step.back(coef, alpha)
            constant = constant + more
        return constant + least_in(self.root, coef.flatten(2))

    def _width(self):
        """The most values that a layer has for one sample."""
        widths = [math.prod(step.error.shape[1:]) for step in self.steps]
        return max([self.root.centre.shape[1], self.root.error.shape[1], *widths])


def relax(module: nn.Module, source: Source) -> Relaxation:
    """Linear bounds of a layer's outputs for all inputs that its source allows.

    Parameters
    ----------
    module : torch.nn.Module
        The layer, in evaluation mode and float64.

    source : Source
        What is known of its inputs. `source.limits()` gives their limits, `source.bounds(rows)`
        those of linear functions of them.

    Returns
    -------
    Relaxation
        The bounds. A layer without a rule of its own has its intervals, which `enclose` gives.

    Notes
    -----
    A rule is a function of a module and a `Source`, registered by `relax.register(Type)`. It
    serves those subclasses that do not change `forward`. A rule may return None, which stands for
    the intervals.
    """
    kind = type(module)
    known = next(base for base in kind.__mro__ if base in _rule.registry)
    if known is not object and kind.forward is not known.forward:
        return None
    return _rule(module, source)


@functools.singledispatch
def _rule(module, source):
    return None


relax.register = _rule.register


@functools.singledispatch
def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a module that does no more than call them one after another."""
    if is_chain(module):
        for step in module:
            yield from layers_of(step)
    elif not isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd) or module.training:
        yield module


class _Intervals(Relaxation):
    """Limits of the outputs, whatever the inputs."""

    def __init__(self, region, shape):
        self.low, self.high = map(region.in_shape, region.limits())
        self.shape = shape
        super().__init__(2 * SPACING * torch.maximum(self.low.abs(), self.high.abs()))

    def back(self, coef, alpha=None):
        least = coef.clamp(min=0) * self.low[:, None] + coef.clamp(max=0) * self.high[:, None]
        constant = least.flatten(2).sum(2)
        return coef.new_zeros(*constant.shape, *self.shape), constant


def relaxed(
    module: nn.Module, region: Enclosure, *, n_iter: int = 0, most_work: float = math.inf
) -> Source:
    """The outputs of a module's decision, behind linear bounds of its layers.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64; one that `enclose` takes.

    region : Enclosure
        The sets of its inputs.

    n_iter : int, default=0
        Steps of an ascent on the free slopes of the bounds (α-CROWN); 0 takes the usual slopes.

    most_work : float, default=inf
        As in `Source`.

    Returns
    -------
    Source
        `limits()` bounds the outputs, `bounds` and `least` linear functions of them.
    """
    layers = list(layers_of(decision_module(module)))
    # An affine beginning, or a clamp of the features, makes a set that is exact.
    while layers:
        following = enclose(layers[0], region)
        if not (following.is_exact or (isinstance(layers[0], Affine) and region.is_exact)):
            break
        region = following
        del layers[0]
    source = Source(region, [], region, n_iter, most_work)
    for layer in layers:
        shape = source.shape
        step = relax(layer, source)
        after = enclose(layer, source.region)
        source.steps.append(_Intervals(after, shape) if step is None else step)
        source.region = after
    return source


def least_margins(source: Source, labels: Tensor) -> Tensor:
    """Lower bounds of z_y - z_k of the outputs z, for each class k; infinite where k is y.

    Parameters
    ----------
    source : Source
        The outputs, from `relaxed`.

    labels : torch.Tensor of shape (n_samples,), int64
        The classes y.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)
    """
    n_classes = source.region.error.shape[1]
    classes = torch.eye(n_classes, dtype=source.root.centre.dtype, device=labels.device)
    margins = source.least(classes[labels][:, None] - classes)
    return margins.scatter(1, labels[:, None], torch.inf)


def is_led(margins: Tensor, labels: Tensor) -> Tensor:
    """Whether margins z_y - z_k of at least so much make `predict` choose the class y."""
    # predict takes the first class of several that are equal.
    is_after = torch.arange(margins.shape[1], device=labels.device) > labels[:, None]
    return ((margins > 0) | (is_after & (margins == 0))).all(1)
