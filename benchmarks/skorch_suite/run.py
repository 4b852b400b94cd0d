"""Run skorch's own tests of its classifier and its callbacks with AdversarialNet in its place."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSION = "1.4.0"
TESTS = ("test_net.py", "test_classifier.py", "callbacks")


def main():
    """Compare what fails with what is expected to fail."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        source = unpacked(options.source, Path(folder))
        outcomes = run(source, Path(folder) / "outcomes.json", options)
    counts = Counter(outcome for outcome, _ in outcomes.values())
    who = "skorch's own class" if options.own else f"AdversarialNet(alpha={options.alpha:g})"
    print(
        f"{who}: {counts['passed']} of {len(outcomes)} passed, {counts['failed']} failed, "
        f"{counts['error']} errors"
    )
    failures = {name: text for name, (outcome, text) in outcomes.items() if outcome != "passed"}
    if options.own or options.alpha != 1:
        print(*sorted(failures), sep="\n")
        return 0
    return compare(failures, outcomes, options.verbose)


def parse():
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "source",
        nargs="?",
        help=f"unpacked source distribution or checkout of skorch; {VERSION} is downloaded if none",
    )
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--own", action="store_true", help="skorch's own class, to compare with")
    parser.add_argument("--verbose", action="store_true", help="print the errors")
    parser.add_argument("-k", default="", help="only tests that match, as in pytest")
    return parser.parse_args()


def unpacked(source, folder):
    """A copy of skorch in a folder of its own, so that the tests write nothing into the other."""
    if source is None:
        command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--no-build-isolation", "--dest", str(folder), f"skorch=={VERSION}"]
        subprocess.run([sys.executable, "-m", *command], check=True)
        (archive,) = folder.glob("skorch-*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        source = folder / f"skorch-{VERSION}"
    copy = folder / "copy"
    shutil.copytree(Path(source) / "skorch", copy / "skorch")
    return copy


def run(source, report, options):
    """The outcome of each test that was not skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "suite_plugin", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(source), "-c", os.devnull, "--outcomes", str(report)]
    command += [] if options.own else [f"--alpha={options.alpha}"]
    command += ["-k", options.k] if options.k else []
    command += [f"skorch/tests/{name}" for name in TESTS]
    paths = [str(path) for path in (HERE, source, ROOT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
    }
    with open(report.with_suffix(".txt"), "w+", encoding="utf-8") as output:
        subprocess.run(command, cwd=source, env=environment, stdout=output, stderr=output)
        if not report.exists():
            output.seek(0)
            sys.exit(output.read())
    return json.loads(report.read_text(encoding="utf-8"))


def compare(failures, outcomes, verbose):
    """Print the failures with their reasons, and those that nobody expected; 1 if there are any."""
    groups = tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8"))["group"]
    reasons = {short: group["reason"] for group in groups for short in group["tests"]}
    found = {name.removeprefix("skorch/tests/"): text for name, text in failures.items()}
    for name in sorted(found.keys() & reasons):
        print(f"expected: {name}\n    {reasons[name]}")
    unexpected = sorted(found.keys() - reasons)
    for name in unexpected:
        print(f"UNEXPECTED: {name}")
        if verbose:
            print(found[name])
    ran = {name.removeprefix("skorch/tests/") for name in outcomes}
    passing = sorted((reasons.keys() & ran) - found.keys())
    for name in passing:
        print(f"passes by now, so strike it from expected.toml: {name}")
    print(f"{len(found)} failures and errors, {len(unexpected)} of them unexpected")
    return int(bool(unexpected or passing))


if __name__ == "__main__":
    sys.exit(main())
