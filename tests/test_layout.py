"""Imports follow the layout in CONTRIBUTING.md, and need no optional packages."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FLOORS = {
    room.strip("/"): int(floor)
    for floor, rooms in re.findall(r"^\| (\d) \| (.*?) \|", GUIDE, re.MULTILINE)
    for room in re.findall(r"`(.*?)`", rooms)
}
ROOMS = {path.name for path in (ROOT / "sk_adv").glob("[!.]*") if path.suffix in ("", ".py")}
ROOMS -= {"__init__.py", "__pycache__"}

# The command line needs what the extra "demo" brings.
IMPORT_ALL = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, *args):
        if name.split(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(name)

OPTIONAL = {"dask", "distributed", "foolbox", "imblearn", "lightgbm", "matplotlib", "mlxtend",
            "onnx", "onnxscript", "pandas", "polars", "safetensors", "skops", "xgboost"}
sys.meta_path.insert(0, Missing())
import sk_adv
for module in pkgutil.walk_packages(sk_adv.__path__, "sk_adv."):
    # A file with the name of a package holds rules for its estimators, and is imported with these.
    of_package = module.name.rpartition("._")[2] in OPTIONAL
    if not of_package and not module.name.startswith(("sk_adv.__main__", "sk_adv._demo.")):
        importlib.import_module(module.name)
import sk_adv._demo.report, sk_adv._demo.reproduce
"""


def floor(room):
    (found,) = (floor for pattern, floor in FLOORS.items() if fnmatch(room, pattern))
    return found


def imported(path):
    """The rooms of this package that a file imports from."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "sk_adv":
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sk_adv."):
            names.append(node.module.split(".")[1])
    # Names that `sk_adv` itself exports are not counted.
    return (set(names) | {f"{name}.py" for name in names}) & ROOMS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_run_downward_or_to_a_private_file_on_the_same_floor(room):
    path = ROOT / "sk_adv" / room
    for file in path.rglob("*.py") if path.is_dir() else [path]:
        for other in imported(file) - {room}:
            # Nothing imports the command line, so it makes no circle.
            may_be_beside = other.startswith("_") or room == "__main__.py"
            beside = floor(other) == floor(room) and may_be_beside
            assert floor(other) < floor(room) or beside, (file, other)


def test_everything_but_the_demo_is_imported_without_optional_packages():
    subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True)


def test_the_package_itself_imports_nothing_until_a_name_is_asked_for():
    code = (
        "import sys, sk_adv\n"
        "assert not {'numpy', 'sklearn', 'torch'} & set(sys.modules)\n"
        "assert set(sk_adv.__all__) <= set(dir(sk_adv))\n"
        "assert {'attacks', 'metrics'} <= set(dir(sk_adv))\n"
        "assert not hasattr(sk_adv, 'nothing')\n"
        "from sk_adv import *\n"
        "assert FGSMSampler is sk_adv.preprocessing.FGSMSampler\n"
        "assert as_module is sk_adv.differentiable.as_module\n"
        "assert sk_adv.metrics.verify_robustness"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_lazy_names_are_all_there():
    import sk_adv

    public = {room.removesuffix(".py") for room in ROOMS if not room.startswith("_")}
    assert public == sk_adv._MODULES
    assert {*sk_adv._HOMES, "__version__"} == set(sk_adv.__all__)
