"""`make test-oldest` tests the versions that pyproject.toml promises."""

import re
import tomllib
from pathlib import Path

from sklearn.utils.fixes import parse_version

ROOT = Path(__file__).parents[1]


def test_the_oldest_environment_holds_the_lowest_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    promised = [*project["dependencies"]]
    for extra in ("accelerate", "plot", "demo", "export", "test"):
        promised += extras[extra]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    lowest = dict(re.findall(r"^([\w-]+)>=([\d.]+)$", "\n".join(promised), re.MULTILINE))
    # Its builds below that of constraints.txt can't be installed without CUDA.
    del lowest["torch"]
    assert {"numpy", "scikit-learn", "scipy", "skorch", "onnx", "pytest"} <= lowest.keys()
    for name, version in lowest.items():
        assert parse_version(tested[name]) == parse_version(version), name
