"""The command line: `python -m sk_adv demo` and `python -m sk_adv reproduce`."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from sk_adv import __version__


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name.

    Parameters
    ----------
    arguments : list of str, default=None
        The arguments after `python -m sk_adv`; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sk_adv",
        description="Train, attack and measure classifiers under worst-case perturbations.",
    )
    parser.add_argument("--version", action="version", version=f"sk_adv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_reproduce(commands)
    options = parser.parse_args(arguments)
    options.run(options)


def _add_demo(commands):
    demo = commands.add_parser(
        "demo",
        help="train, attack and defend on real digits, and write a report (about a minute)",
        description="Train plain and adversarial models on 5,000 real digits, attack them, print "
        "one table, and write figures and a report.",
    )
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("sk_adv_demo"),
        metavar="DIR",
        help="folder for the figures and the report (default: %(default)s)",
    )
    demo.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="seeds the test split, the folds, the networks and the attacks (default: 0)",
    )
    demo.set_defaults(run=_run_demo)


def _run_demo(options):
    _require("demo", ["matplotlib", "mlxtend", "tqdm"], extra="demo")
    # Imported late: it needs the packages that were just asked for.
    from sk_adv._demo.run import Settings, run

    _make_folder(options.output, "--output")
    run(options.output, Settings(seed=options.seed))


def _add_reproduce(commands):
    reproduce = commands.add_parser(
        "reproduce",
        help="repeat the experiments of the paper on MNIST (hours; a few minutes with --quick)",
        description="Repeat the experiments of the paper, and write a table of its figures and "
        "ours. MNIST is read from the file that SK_ADV_MNIST names, or downloaded.",
    )
    reproduce.add_argument("--only", nargs="+", metavar="ROW", help="rows such as L1 M2")
    reproduce.add_argument(
        "--quick", action="store_true", help="5,000 digits and weak attacks: does it all run?"
    )
    reproduce.add_argument("--device", default="auto", help="of networks (default: %(default)s)")
    reproduce.add_argument(
        "--model",
        choices=["efficientnet-lite0", "googlenet"],
        help="network of row F1 (default: efficientnet-lite0, whose weights come in a package; "
        "googlenet, the paper's, needs torchvision and a connection)",
    )
    reproduce.add_argument(
        "--seeds", type=_count, help="seeds of each row (default: its own number; 1 with --quick)"
    )
    reproduce.add_argument(
        "--cache",
        type=Path,
        default=Path("paper_cache"),
        metavar="DIR",
        help="folder of trained models (default: %(default)s)",
    )
    reproduce.set_defaults(run=_run_reproduce)


def _run_reproduce(options):
    _require("reproduce", ["matplotlib", "mlxtend", "tqdm"], extra="demo")
    from sk_adv._demo.reproduce import run

    _make_folder(options.cache, "--cache")
    run(options)


def _make_folder(path, option):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"{option}: the folder {str(path)!r} can't be made ({error.strerror}).")
    if not os.access(path, os.W_OK):
        sys.exit(f"{option}: the folder {str(path)!r} can't be written to.")


def _require(command, packages, extra):
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        sys.exit(
            f"python -m sk_adv {command} needs {' and '.join(missing)}, which can't be found: "
            f'run pip install -e ".[{extra}]" in the checkout.'
        )


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to {2**32 - 1}")
    return int(text)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
