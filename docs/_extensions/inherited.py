"""What a class inherits, on its page.

Methods that sk_adv itself documents in a base class are shown in full, as the class's own. Those
of scikit-learn, skorch and torch are listed by `.. inherited:: module.Class`: name, first sentence,
and where each is documented.
"""

import inspect
import re
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from elsewhere import address, public_name

FOLDED = 12  # more rows than this are shown on demand


def defined_in(cls, name):
    """The class that an attribute of `cls` comes from."""
    return next(base for base in cls.__mro__ if name in vars(base))


def function_of(thing):
    """The function behind an attribute of a class, or the attribute itself."""
    if isinstance(thing, property):
        return thing.fget
    return inspect.unwrap(getattr(thing, "__func__", getattr(thing, "fn", thing)))


def is_routing(name):
    """Whether scikit-learn adds a method to every estimator for metadata routing."""
    return bool(re.fullmatch(r"set_\w+_request", name))


def skip(app, what, name, thing, skipped, options):
    """Leave out what another library documents, which `.. inherited::` lists."""
    if skipped or is_routing(name):
        return True
    function = function_of(thing)
    module = getattr(function, "__module__", None)
    is_foreign = isinstance(module, str) and not module.startswith("sk_adv")
    if what == "class" and inspect.isroutine(function):
        # An undocumented override inherits its text from the other library.
        return is_foreign or not function.__doc__ or None
    if what == "class" and isinstance(thing, property):
        return is_foreign or not thing.__doc__ or None
    return None


def first_sentence(text):
    paragraph = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    sentence = re.match(r".*?\.(?=\s|$)|.*", paragraph)[0]
    return re.sub(r":\w+:`~?([^`]*)`", r"``\1``", sentence)


def inherited(cls):
    """Yield (name, first sentence, documented name) of each method that others document."""
    for name in sorted(dir(cls)):
        if name.startswith("_") or is_routing(name):
            continue
        thing = inspect.getattr_static(cls, name)
        function = function_of(thing)
        own = defined_in(cls, name).__module__.startswith("sk_adv")
        if own and getattr(thing if isinstance(thing, property) else function, "__doc__", None):
            continue
        for base in cls.__mro__:
            given = vars(base).get(name)
            text = getattr(function_of(given), "__doc__", None) if given is not None else None
            if given is None or base.__module__.startswith("sk_adv") or not text:
                continue
            if inspect.isroutine(function_of(given)) or isinstance(given, property):
                yield name, first_sentence(text), f"{public_name(base)}.{name}"
            break


class Inherited(Directive):
    """List what a class inherits from classes of other libraries."""

    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].rpartition(".")
        rows = list(inherited(getattr(import_module(module), name)))
        if not rows:
            return []
        lines = [".. list-table::", "   :class: inherited", "   :widths: 34 66", ""]
        for method, sentence, documented in rows:
            url = address(documented)
            cell = f"`{method} <{url}>`__" if url else f"``{method}``"
            source = documented.rpartition(".")[0]
            if "._" in source:  # a class that its library does not show
                source = source.partition(".")[0]
            lines += [f"   * - {cell}", f"     - {sentence} (``{source}``)"]
        box = nodes.container(classes=["inherited-members"])
        heading = nodes.rubric("", "Inherited from other libraries")
        self.state.nested_parse(StringList(lines, source="inherited"), self.content_offset, box)
        if len(rows) > FOLDED:
            fold = f"<details><summary>{len(rows)} methods and properties</summary>"
            box.insert(0, nodes.raw("", fold, format="html"))
            box.append(nodes.raw("", "</details>", format="html"))
        return [heading, box]


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("inherited", Inherited)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
