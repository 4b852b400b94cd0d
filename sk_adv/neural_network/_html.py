"""The table of parameters in the HTML of a net: only what the user has changed is highlighted."""

from inspect import Parameter, signature

import numpy as np


class ParametersInHTML:
    """A mixin for skorch nets, whose parameters stand in the signatures of several classes.

    scikit-learn looks at the last signature only, and takes all others for changed.
    """

    def _get_params_html(self, deep=True, **kwargs):
        table = super()._get_params_html(deep=deep, **kwargs)
        defaults = _defaults_of(type(self))
        # skorch keeps notes of its own among the parameters.
        shown = {name: value for name, value in table.items() if not name.startswith("_")}
        changed = [name for name, value in shown.items() if self._is_changed(name, value, defaults)]
        table.data = {name: shown[name] for name in [*changed, *shown]}
        table.non_default = tuple(changed)
        return table

    def _is_changed(self, name, value, defaults):
        if name in defaults:
            return not _is_same(value, defaults[name])
        # skorch keeps what it was given for a part, as in optimizer__momentum, as an attribute; the
        # parameters of its own callbacks are none.
        return name in vars(self)


def _defaults_of(cls):
    """The defaults in the signatures of a class and its bases; the first one counts."""
    defaults = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            for name, parameter in signature(base.__init__).parameters.items():
                if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                    defaults[name] = parameter.default
    return defaults


def _is_same(value, default):
    if value is default:
        return True
    if type(value) is type(default) and vars(type(value)).get("__eq__") is None:
        # An object of skorch, such as the default of train_split, after `clone`.
        return hasattr(value, "__dict__") and vars(value) == vars(default)
    return np.array_equal(value, default)
