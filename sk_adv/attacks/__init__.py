"""Attacks: functions of a torch module and data that return adversarial copies of the data.

Each attack maximises a loss of the module's logits z over ‖η / ε‖ ≤ 1. The default loss is the
log-odds against the true class y,

    t(x) = log((1 - p_y) / p_y) = log Σ_{k≠y} exp z_k - z_y ,

where p is the softmax of z. The cross-entropy is the softplus of t, an increasing function, so both
losses have gradients of the same direction. The direction of t stays exact where p_y rounds to 1
and the gradient of the cross-entropy is lost in floating point.
"""

from sk_adv.attacks._apgd import apgd
from sk_adv.attacks._auto import auto
from sk_adv.attacks._estimators import perturb
from sk_adv.attacks._exact import exact
from sk_adv.attacks._gradient import fgsm, fgsm_rs, pgd
from sk_adv.attacks._noise import sign_noise, uniform_noise
from sk_adv.attacks._objective import log_odds_against
from sk_adv.attacks._rotation import rotate_towards_gradient
from sk_adv.attacks._square import square
from sk_adv.attacks._table import register_attack

__all__ = [
    "apgd",
    "auto",
    "exact",
    "fgsm",
    "fgsm_rs",
    "log_odds_against",
    "perturb",
    "pgd",
    "register_attack",
    "rotate_towards_gradient",
    "sign_noise",
    "square",
    "uniform_noise",
]
