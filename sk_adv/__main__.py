"""The command line: `sk-adv audit`, `sk-adv demo` and `sk-adv reproduce`."""

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
        The arguments after `python -m sk_adv` or `sk-adv`; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Train, attack and measure classifiers under worst-case perturbations.",
    )
    parser.add_argument("--version", action="version", version=f"sk_adv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_audit(commands)
    _add_demo(commands)
    _add_reproduce(commands)
    options = parser.parse_args(arguments)
    options.run(options)


def _program():
    """How the user called the command line."""
    return "sk-adv" if Path(sys.argv[0]).stem == "sk-adv" else "python -m sk_adv"


def _add_audit(commands):
    audit = commands.add_parser(
        "audit",
        help="measure what small changes of the data do to your model, and write a report",
        description="Measure what small changes of the data do to a fitted classifier: how many "
        "rows are proved to stay right, and how many can be made wrong. Writes one HTML file, and "
        "the numbers as JSON.",
    )
    audit.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="file of the fitted classifier: skops, or joblib or pickle with --allow-code-in-model",
    )
    audit.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="CSV or Parquet file of rows that the model has not been fitted on",
    )
    plain_error = audit.error

    def error(message):
        if "required: MODEL" in message or "required: DATA" in message:
            message += (
                ". Options with several values, such as --epsilon and --columns, take all that "
                "follows: put MODEL and DATA before them"
            )
        plain_error(message)

    audit.error = error
    audit.add_argument("--target", required=True, metavar="COLUMN", help="column of the labels")
    audit.add_argument(
        "--epsilon",
        nargs="+",
        default=["0.1sd"],
        metavar="RADIUS",
        help="how far each measurement may be off: a number in the units of the data (0.1), in "
        "units of each column's spread (0.1sd: standard deviations, divisor n; 0.1iqr: "
        "interquartile ranges), or by column (age=3,fare=0.1iqr; other columns stay as they are). "
        "Default: 0.1sd",
    )
    audit.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN",
        help="the columns that may change (default: all that hold numbers)",
    )
    audit.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns of the data that are no features, such as an identifier",
    )
    audit.add_argument(
        "--norm",
        choices=["max", "2"],
        default="max",
        help="max: each column may change by its radius; 2: the Euclidean length of all changes "
        "counts (default: max)",
    )
    audit.add_argument(
        "--out",
        type=Path,
        default=Path("audit.html"),
        metavar="FILE",
        help="the report (default: %(default)s)",
    )
    audit.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="the numbers (default: as --out, with the ending .json)",
    )
    audit.add_argument("--name", help="of the model in the report (default: its file's)")
    audit.add_argument(
        "--time-limit",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="of search for each row and radius; what it leaves open is unknown (default: 10)",
    )
    audit.add_argument(
        "--max-seconds",
        type=_seconds,
        default=90.0,
        metavar="SECONDS",
        help="for the whole report, about; what is open then is unknown (default: 90)",
    )
    audit.add_argument(
        "--jobs",
        type=int,
        default=None,
        metavar="N",
        help="processes of the searches; -1: one for each core (default: 1)",
    )
    audit.add_argument("--seed", type=_seed, default=0, help="of random attacks (default: 0)")
    audit.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="TYPE",
        help="types in a skops file that you know to be safe, besides those that skops knows",
    )
    audit.add_argument(
        "--allow-code-in-model",
        action="store_true",
        help="read a model of joblib or pickle. Such a file can run any code when it is read: only "
        "for files from people whom you trust",
    )
    audit.set_defaults(run=_run_audit)


def _run_audit(options):
    _require("audit", ["pandas", "skops"], extra="audit")
    if "".join(options.data.suffixes[-1:]).lower() in (".parquet", ".pq"):
        _require("audit", ["pyarrow"], extra="audit")
    # Imported late, as it takes seconds.
    from sk_adv.audit._command import run

    run(options)


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


def _seconds(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


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
