"""`python -m sk_adv reproduce` runs the paper's experiments, the scripts in benchmarks/paper."""

import sys
from pathlib import Path

from sk_adv._devices import resolve_device

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "paper"


def run(options) -> None:
    """Run the chosen rows of the table, and write their figures and the page.

    Parameters
    ----------
    options : argparse.Namespace
        With `only`, `quick`, `device`, `model`, `seeds` and `cache`.
    """
    if not SCRIPTS.is_dir():
        sys.exit(
            "python -m sk_adv reproduce runs the experiments of benchmarks/paper, which are not "
            "part of the installed package: run it in a checkout, installed by `pip install -e .`."
        )
    sys.path.insert(0, str(SCRIPTS))
    import matplotlib as mpl
    from _lab.lab import Lab
    from _lab.run import reproduce, rows_named

    mpl.use("Agg")
    rows = rows_named(options.only)
    try:
        device = resolve_device(options.device, prefer_accelerator=True)
    except ValueError as error:
        sys.exit(f"--device: {error}")
    lab = Lab(options.cache, quick=options.quick, device=str(device))
    lab.photo_model = options.model or lab.photo_model
    if any(row.on_digits for row in rows):
        try:
            print(f"{len(lab.digits.X_train)} training and {len(lab.digits.X_test)} test digits.")
        except (OSError, ValueError) as error:
            sys.exit(str(error))
    # A quick run shows that everything works; its figures are no results.
    base = options.cache / "quick" if options.quick else SCRIPTS
    page = base / "paper.md" if options.quick else SCRIPTS.parents[1] / "docs" / "paper.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    # A row that was asked for by its name is not left out in silence.
    skip = options.only is None and options.model is None
    reproduce(rows, lab, base / "results", page=page, n_seeds=options.seeds, skip=skip)
    print(f"The table is in {page}.")
