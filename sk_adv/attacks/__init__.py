"""Attacks: functions of a torch module and data that return adversarial copies of the data.

Each attack maximises, over ‖η / ε‖ ≤ 1, a loss; by default the log-odds against the true class,

    t(x) = log((1 - p_y) / p_y) = log Σ_{k≠y} exp z_k - z_y ,

of the module's logits z. The cross-entropy is ζ(t), an increasing function of t, so its gradient
is that of t times a positive number; this drops out of the sign and of the normalised gradient.
Working on t keeps the direction exact where p_y rounds to 1 and the gradient of the
cross-entropy is lost in floating point.
"""

from sk_adv.attacks._estimators import perturb
from sk_adv.attacks._exact import exact
from sk_adv.attacks._gradient import fgsm, pgd
from sk_adv.attacks._noise import sign_noise, uniform_noise
from sk_adv.attacks._objective import log_odds_against
from sk_adv.attacks._rotation import rotate_towards_gradient
from sk_adv.attacks._table import register_attack

__all__ = [
    "exact",
    "fgsm",
    "log_odds_against",
    "perturb",
    "pgd",
    "register_attack",
    "rotate_towards_gradient",
    "sign_noise",
    "uniform_noise",
]
