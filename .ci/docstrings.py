"""Validate the docstring of every public class, function and method with numpydoc.

Public are the names in `__all__` of modules without a leading underscore. Run it in the repository
root: `python .ci/docstrings.py`. It prints each fault and exits with 1 if there is one.
"""

import importlib
import inspect
import pkgutil
import sys

from numpydoc.validate import validate

import sk_adv

NOT_ASKED = {
    "ES01",  # a one-line summary can say it all
    "RT02",  # a returned value may have a name, as in scikit-learn
    "SA01",  # "See Also" is optional
    "SS05",  # takes "Log-odds" for a verb in the third person
}
EXAMPLE_MISSING = "EX01"  # asked of classes and functions, not of methods
CALLED_BY_TORCH = {"forward", "extra_repr"}  # documented in the class


def public_modules():
    yield "sk_adv"
    for module in pkgutil.walk_packages(sk_adv.__path__, "sk_adv."):
        if "._" not in module.name:
            yield module.name


def public_objects():
    """Yield (import path, codes of the checks not asked of it), each object once."""
    seen = set()
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name in module.__all__:
            item = getattr(module, name)
            if not (inspect.isclass(item) or inspect.isroutine(item)) or item in seen:
                continue
            seen.add(item)
            yield f"{module_name}.{name}", NOT_ASKED
            for method in own_methods(item):
                yield f"{module_name}.{name}.{method}", {*NOT_ASKED, EXAMPLE_MISSING}


def own_methods(item):
    """Public methods and properties that the class defines itself, without inherited ones."""
    if not inspect.isclass(item):
        return []
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name, member in vars(item).items()
        if not (name.startswith("_") or name in CALLED_BY_TORCH)
        and (inspect.isfunction(member) or isinstance(member, kinds))
    ]


def main():
    checked = faults = 0
    for path, not_asked in public_objects():
        report = validate(path)
        checked += 1
        for code, message in report["errors"]:
            if code not in not_asked:
                faults += 1
                print(f"{report['file']}:{report['file_line']}: {path}: {code} {message}")
    print(f"{checked} public docstrings, {faults} faults.")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
