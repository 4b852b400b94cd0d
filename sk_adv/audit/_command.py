"""``python -m sk_adv audit``: from files to a report in files."""

import sys
import warnings
from dataclasses import replace

import numpy as np

from sk_adv.audit._audit import audit
from sk_adv.audit._files import check_can_be_written, digest, read_data, read_model, samples_for
from sk_adv.audit._radii import radius_from_text


def run(options):
    """Make the report that the options of the command line ask for.

    Parameters
    ----------
    options : argparse.Namespace
        As `sk_adv.__main__` parses them.
    """
    try:
        report = _report(options)
        report.to_json(options.json)
        report.to_html(options.out)
    except (ValueError, TypeError, ImportError, OSError) as error:
        # All messages of the library are for the user; a traceback would hide them.
        sys.exit(f"sk_adv audit: {error}")
    print(report.verdict)
    for note in report.notes:
        print(f"Note: {note}")
    print(f"The report is in {options.out}, its numbers in {options.json}.")


def _report(options):
    epsilon = radius_from_text(options.epsilon)
    if options.json is None:
        options.json = options.out.with_suffix(".json")
    for path in (options.out, options.json):
        check_can_be_written(path)
    if options.out == options.json:
        raise ValueError(f"--out and --json name one file, {str(options.out)!r}: name two.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Before the data: a model that may not be read ends the work at once.
        model = read_model(
            options.model, allow_code=options.allow_code_in_model, trusted=options.trust
        )
    data = read_data(options.data)
    X, y, names, unused = samples_for(model, data, options.target, options.drop)
    report = audit(
        model,
        X,
        y,
        epsilon=epsilon,
        columns=options.columns,
        feature_names=names,
        norm=np.inf if options.norm == "max" else 2,
        time_limit=options.time_limit,
        max_seconds=options.max_seconds,
        n_jobs=options.jobs,
        random_state=options.seed,
        verbose=True,
        name=options.name or options.model.name,
    )
    notes = [*dict.fromkeys(str(warning.message) for warning in caught), *report.notes]
    if unused:
        notes.append(f"The model was not fitted on these columns of the data: {', '.join(unused)}.")
    files = {
        "model": str(options.model),
        "model_sha256": digest(options.model),
        "data": str(options.data),
        "data_sha256": digest(options.data),
        "target": options.target,
    }
    return replace(report, notes=notes, settings=files | report.settings)
