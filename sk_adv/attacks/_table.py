"""The table of attacks: the properties of each attack, and the check of its arguments."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sk_adv.attacks._apgd import apgd
from sk_adv.attacks._auto import auto
from sk_adv.attacks._exact import exact
from sk_adv.attacks._gradient import fgsm, fgsm_rs, pgd
from sk_adv.attacks._noise import sign_noise, uniform_noise
from sk_adv.attacks._rotation import rotate_towards_gradient
from sk_adv.attacks._square import square

# Arguments of every attack, and optional arguments that the library passes on.
_SIGNATURE = ("module", "X", "y", "epsilon", "norm", "bounds")


@dataclass(frozen=True)
class Attack:
    """An entry of the table of attacks.

    Attributes
    ----------
    function : callable
        Called as `function(module, X, y, epsilon, *, norm, bounds, **params)` with class indices y.
        It returns the copies, with the shape and type of X.

    needs : {"module", "predictions", "any", "nothing"}
        "module" if it needs gradients; "predictions" if it calls the model alone, so that any
        classifier will do; "any" if it takes what there is, gradients or else predictions;
        "nothing" if it ignores the module.

    is_exact : bool
        Whether the copies are the worst case.

    takes_set : bool
        Whether `epsilon` may be a `PerturbationSet`, which needs no further check.

    takes_trees : bool
        Whether `perturb` has the same attack on tree models, as sums of trees.
    """

    function: Callable
    needs: str = "module"
    is_exact: bool = False
    takes_set: bool = False
    takes_trees: bool = False

    @functools.cached_property
    def parameters(self):
        """Names of the function's further arguments, or None if it may accept any name."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            # Some builtin functions have no signature.
            return None
        parameters = signature.parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return None
        return [parameter.name for parameter in parameters if parameter.name not in _SIGNATURE]

    @property
    def is_random(self):
        """Whether the attack draws random numbers, seeded by `random_state`."""
        return self.takes("random_state")

    def takes(self, name):
        """Whether the function has an argument of this name."""
        return self.parameters is not None and name in self.parameters


ATTACKS = {
    "apgd": Attack(apgd, takes_set=True),
    "auto": Attack(auto, needs="any", takes_set=True, takes_trees=True),
    "exact": Attack(exact, is_exact=True, takes_set=True, takes_trees=True),
    "fgsm": Attack(fgsm, takes_set=True),
    "fgsm_rs": Attack(fgsm_rs, takes_set=True),
    "pgd": Attack(pgd, takes_set=True),
    "rotate_towards_gradient": Attack(rotate_towards_gradient, takes_set=True),
    "sign_noise": Attack(sign_noise, needs="nothing", takes_set=True),
    "square": Attack(square, needs="predictions", takes_set=True),
    "uniform_noise": Attack(uniform_noise, needs="nothing", takes_set=True),
}


def register_attack(name: str, function: Callable, *, needs: str = "module", is_exact=False):
    """Add an attack to the table, so that every `attack=` of the library knows its name.

    Parameters
    ----------
    name : str
        The name. An attack of this name that is in the table already is replaced.

    function : callable
        `function(module, X, y, epsilon, *, norm, bounds, **params)` returns the adversarial copies
        of X, like `sk_adv.attacks.fgsm`. `module` maps X to logits, and y holds class indices. If
        the function has an argument `random_state`, `targeted`, `loss` or `batch_size`, the value
        of the caller is passed on to it.

    needs : {"module", "predictions", "nothing"}, default="module"
        "predictions" if the attack calls the module but needs no gradient, so that it can attack
        any classifier; "nothing" if it does not call it, as noise does not.

    is_exact : bool, default=False
        Whether the copies are the worst case.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sk_adv.attacks import register_attack
    >>> from sk_adv.metrics import adversarial_accuracy_score
    >>> def shift(module, X, y, epsilon, *, norm, bounds, share=1.0):
    ...     return X + share * epsilon
    >>> register_attack("shift", shift, needs="nothing")
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> params = {"share": 0.5}
    >>> score = adversarial_accuracy_score(
    ...     model, X, y, epsilon=4.0, attack="shift", attack_params=params
    ... )
    >>> score < 0.7
    True
    """
    if not isinstance(name, str) or not callable(function):
        raise TypeError(f"register_attack needs a name and a function; got {name!r}, {function!r}.")
    if needs not in ("module", "predictions", "nothing"):
        raise ValueError(f"needs must be 'module', 'predictions' or 'nothing'; got {needs!r}.")
    ATTACKS[name] = Attack(function, needs, is_exact)


@dataclass(frozen=True)
class ConfiguredAttack:
    """An attack together with the user's arguments for it, whose names have been checked.

    Attributes
    ----------
    name : str
        Its name in reports and legends.
    attack : Attack
        The entry of the table.
    params : dict
        The user's arguments.
    """

    name: str
    attack: Attack
    params: dict = field(default_factory=dict)

    @property
    def is_random(self):
        """Whether two calls on other batches of the same samples differ."""
        return self.attack.is_random and bool(self.params.get("random_start", True))

    def __call__(self, module, X, y, perturbations, **context):
        """Adversarial copies of X.

        Parameters
        ----------
        module : torch.nn.Module
        X : ndarray or torch.Tensor of shape (n_samples, ...)
        y : ndarray or torch.Tensor of shape (n_samples,)
            Class indices.
        perturbations : PerturbationSet
        **context : dict
            Values for `random_state`, `targeted`, `batch_size` and `loss`. Those that the attack
            does not accept are dropped; the user's arguments override them.
        """
        known = {name: value for name, value in context.items() if self.attack.takes(name)}
        params = known | self.params
        if self.attack.takes_set:
            return self.attack.function(module, X, y, perturbations, **params)
        epsilon, norm, bounds = perturbations.as_given(X)
        return self.attack.function(module, X, y, epsilon, norm=norm, bounds=bounds, **params)


def resolve_attack(attack, attack_params=None, *, target=None):
    """Turn the user's `attack` and `attack_params` into a `ConfiguredAttack`.

    Raises
    ------
    ValueError
        If the name is unknown, or the attack does not support a target.
    TypeError
        If `attack_params` is not a dict, or the attack does not accept one of its names.
    """
    if isinstance(attack, ConfiguredAttack):
        return attack
    _check_params(attack_params)
    params = dict(attack_params or {})
    function = attack
    while isinstance(function, functools.partial) and not function.args:
        params = function.keywords | params
        function = function.func
    found = _look_up(function)
    configured = ConfiguredAttack(attack_name(attack), found, params)
    _check_arguments(configured)
    if target is not None and not found.takes("targeted"):
        raise ValueError(
            f"attack={attack!r} has no direction, so it can't aim at target={target!r}; use an "
            "attack with an argument 'targeted', such as 'fgsm' or 'pgd'."
        )
    return configured


def _check_params(attack_params):
    """Raise `TypeError` unless `attack_params` is None or maps names to values."""
    is_known = attack_params is None or isinstance(attack_params, Mapping)
    if not is_known or any(not isinstance(name, str) for name in attack_params or ()):
        raise TypeError(
            "attack_params must be a dict of arguments by name, such as {'n_steps': 20}, or None; "
            f"got {attack_params!r}."
        )


def _look_up(attack):
    """The entry of the table for a name or function; a new entry for an unknown function."""
    if isinstance(attack, str) and attack in ATTACKS:
        return ATTACKS[attack]
    if not callable(attack):
        raise ValueError(
            f"attack must be one of {sorted(ATTACKS)} or a function like sk_adv.attacks.fgsm; "
            f"got {attack!r}."
        )
    return next((entry for entry in ATTACKS.values() if entry.function is attack), Attack(attack))


def _check_arguments(configured):
    """Raise `TypeError` unless the function accepts the arguments of the call."""
    function, params = configured.attack.function, configured.params
    reserved = sorted(set(params) & {*_SIGNATURE, "targeted"})
    if reserved:
        raise TypeError(
            f"attack_params must not hold {reserved}: pass them as arguments of the function or "
            "estimator itself (a class to move towards is `target`)."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind("module", "X", "y", "epsilon", norm=2, bounds=None, **params)
    except TypeError as error:
        known = configured.attack.parameters
        own = sorted(set(known or ()) - {"targeted"})
        if known is not None and set(_SIGNATURE) <= set(signature.parameters):
            raise TypeError(
                f"attack={configured.name!r} takes attack_params with the names {own or 'none'}; "
                f"got {sorted(params)}."
            ) from error
        raise TypeError(
            "attack is called as attack(module, X, y, epsilon, norm=..., bounds=..., "
            f"**attack_params), but takes {signature} ({configured.name}: {error})."
        ) from error


def attack_name(attack):
    """The name of an attack, function, or function in a `functools.partial`."""
    if isinstance(attack, ConfiguredAttack):
        return attack.name
    if isinstance(attack, str):
        return attack
    if isinstance(attack, functools.partial):
        return attack_name(attack.func)
    return getattr(attack, "__name__", type(attack).__name__)


def resolve_attacks(attacks, attack_params=None):
    """Resolve one attack or several, by their names in a report or a legend.

    Parameters
    ----------
    attacks : str, callable, sequence of these, or mapping
        One attack or several. The values of a mapping are attacks, or dicts with the keys "attack"
        and "attack_params".
    attack_params : dict or None, default=None
        Arguments of every attack. Those of a single attack, given in a mapping, override them.

    Returns
    -------
    dict of str to ConfiguredAttack

    Raises
    ------
    ValueError
        If there is no attack, a name is unknown or occurs twice, or a dict has no "attack".
    TypeError
        As in `resolve_attack`.
    """
    if isinstance(attacks, str) or callable(attacks):
        attacks = [attacks]
    if isinstance(attacks, Mapping):
        named = [(str(name), value) for name, value in attacks.items()]
    elif isinstance(attacks, (list, tuple, set, frozenset)):
        named = [(attack_name(attack), attack) for attack in attacks]
    else:
        named = []
    if not named:
        raise ValueError(
            f"attacks must be an attack, or a sequence or mapping of at least one; got {attacks!r}."
        )
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise ValueError(
            f"attacks must have different names; got {names}. Pass a mapping from names to attacks."
        )
    for given in (
        attack_params,
        *[v.get("attack_params") for _, v in named if isinstance(v, Mapping)],
    ):
        _check_params(given)
    resolved = {}
    for name, value in named:
        options = dict(value) if isinstance(value, Mapping) else {"attack": value}
        if not options.keys() <= {"attack", "attack_params"} or "attack" not in options:
            raise ValueError(
                f"attacks[{name!r}] must be an attack, or a dict with the keys 'attack' and "
                f"'attack_params'; got {value!r}."
            )
        params = {**(attack_params or {}), **(options.get("attack_params") or {})}
        configured = resolve_attack(options["attack"], params)
        resolved[name] = ConfiguredAttack(name, configured.attack, configured.params)
    return resolved
