"""References to names of other libraries, as links to their pages on the web.

The address follows from the name, so nothing is fetched. The name must exist in the installed
library: a misspelt one is left to Sphinx, which reports it.
"""

from importlib import import_module
from inspect import isclass, ismodule

from docutils import nodes

PAGES = {
    "matplotlib": "https://matplotlib.org/stable/api/_as_gen/{page}.html#{name}",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{page}.html#{name}",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{page}.html#{name}",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{page}.html#{name}",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{page}.html#{name}",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{page}.html#{name}",
}
# skorch has one page for each of its modules.
SKORCH = "https://skorch.readthedocs.io/en/stable/{module}.html#{name}"


def found(name):
    """Return (module, rest of the path, object) of a dotted name, or None if there is none."""
    parts = name.split(".")
    for n_parts in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:n_parts]))
        except ImportError:
            continue
        try:
            for part in parts[n_parts:]:
                thing = getattr(thing, part)
        except AttributeError:
            return None
        return ".".join(parts[:n_parts]), parts[n_parts:], thing
    return None


def address(name):
    """The page of a name of another library, or None if that has none."""
    library = name.split(".")[0]
    if library not in PAGES and library != "skorch":
        return None
    place = found(name)
    if place is None:
        return None
    module, path, thing = place
    if library == "skorch":
        return SKORCH.format(module=module.split(".")[1] if "." in module else "net", name=name)
    if ismodule(thing):
        return None
    # A method stands on the page of its class.
    is_of_class = len(path) > 1 and not isclass(thing)
    page = f"{module}.{path[0]}" if is_of_class else name
    if library == "numpy" and not (isclass(thing) or callable(thing)):
        return "https://numpy.org/doc/stable/reference/constants.html"
    return PAGES[library].format(page=page, name=name)


def public_name(cls):
    """The name of a class as users import it, without the private files that it is written in."""
    parts = [part for part in cls.__module__.split(".") if not part.startswith("_")]
    return ".".join([*parts, cls.__qualname__])


def resolve(app, env, node, content):
    """Make a link of a reference that nothing on these pages answers."""
    url = address(node.get("reftarget", ""))
    if url is None:
        return None
    title = f"{node['reftarget']} ({node['reftarget'].split('.')[0]})"
    return nodes.reference("", "", content, refuri=url, internal=False, reftitle=title)


def setup(app):
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
