"""Which samples a module provably classifies correctly, by the cheapest bounds that do."""

import math

import torch
from torch import Tensor, nn

from sk_adv._perturbations import PerturbationSet
from sk_adv.differentiable._composition import run
from sk_adv.differentiable._enclosure import Enclosure
from sk_adv.differentiable._intervals import enclose
from sk_adv.differentiable._linear import decision_module
from sk_adv.differentiable._relaxations import is_led, least_margins, relaxed

METHODS = ("auto", "interval", "crown", "alpha-crown", "exact")
# Samples that are bounded together; what they need more is taken in parts.
_SAMPLES = 256
_N_ITER = 20
# Products for one sample and one layer in "auto": about a hundredth of a second.
MOST_WORK = 5e7


def check_method(method: str) -> None:
    """Raise `ValueError` for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")


@torch.no_grad()
def proved(
    module: nn.Module,
    X: Tensor,
    labels: Tensor,
    perturbations: PerturbationSet,
    *,
    rounding: float,
    method: str = "auto",
) -> Tensor:
    """Which samples keep their class under every perturbation.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64.
    X : torch.Tensor of shape (n_samples, ...), float64
    labels : torch.Tensor of shape (n_samples,), int64
        The classes.
    perturbations : PerturbationSet
    rounding : float
        Spacing around 1 of the numbers in which the model computes.
    method : {"auto", "interval", "crown", "alpha-crown"}, default="auto"
        The bounds of the last layers: see `certified_accuracy_score`.

    Returns
    -------
    torch.Tensor of shape (n_samples,), bool
    """
    decision = decision_module(module)

    def around(rows):
        own = perturbations.of_rows(rows, X.shape[1:])
        return Enclosure.of(X[rows], own, rounding=rounding)

    values = enclose(decision, around(slice(None)))
    is_proved = values.is_led_by(labels)
    if method == "interval" or values.is_exact or is_proved.all():
        return is_proved
    # Samples that are wrong without a perturbation need no bounds.
    allowed = perturbations.to(X.device, X.dtype)
    is_right = run(decision, allowed.clip(X)).argmax(1) == labels
    is_open = (is_right & ~is_proved).nonzero().squeeze(1)
    for rows in is_open.split(_SAMPLES) if len(is_open) else ():
        most_work = MOST_WORK if method == "auto" else math.inf
        source = relaxed(module, around(rows), most_work=most_work)
        led = is_led(least_margins(source, labels[rows]), labels[rows])
        is_proved[rows] = led
        if method == "crown" or led.all():
            continue
        if method == "auto":
            # The slopes of the last bounds alone, which costs a few more passes.
            source.n_iter = _N_ITER
            is_proved[rows] |= is_led(least_margins(source, labels[rows]), labels[rows])
            continue
        rest = rows[~led]
        source = relaxed(module, around(rest), n_iter=_N_ITER)
        is_proved[rest] = is_led(least_margins(source, labels[rest]), labels[rest])
    return is_proved
