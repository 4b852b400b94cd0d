"""The command line of a benchmark: which sections to measure, and where to write them."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _harness.report import environment, write_section
from _harness.timing import available_cores, limit_threads


@dataclass
class Section:
    """A part of a report: its title, and the function that measures it and returns its text."""

    title: str
    measure: Callable[[argparse.Namespace], str]


def parse_arguments(
    doc: str, sections: dict[str, Section], *, repeats: int, **more: dict[str, Any]
) -> argparse.Namespace:
    """Options of all benchmarks, and `more`, given as keywords of `add_argument`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test of the code")
    parser.add_argument(
        "--repeats", type=int, help=f"runs of each side (default: {repeats}; of a quick run: 1)"
    )
    parser.add_argument(
        "--threads", type=int, default=available_cores(), help="default: one for each core"
    )
    parser.add_argument("--output", type=Path, help="the report (default: in results/)")
    for name, keywords in more.items():
        parser.add_argument(f"--{name}", **keywords)
    options = parser.parse_args()
    if options.repeats is None:
        options.repeats = 1 if options.quick else repeats
    return options


def run_sections(
    options: argparse.Namespace,
    sections: dict[str, Section],
    *,
    report: Path,
    preface: str,
    libraries: Iterable[str],
) -> None:
    """Measure the chosen sections one after the other, print them and write them to a file.

    A quick run writes nothing, unless it is told where.
    """
    limit_threads(options.threads)
    output = options.output or (None if options.quick else report)
    order = [section.title for section in sections.values()]
    for name in options.only:
        section = sections[name]
        text = f"{section.measure(options)}\n\n{environment(options.repeats, libraries)}"
        print(f"## {section.title}\n\n{text}\n", flush=True)
        if output is not None:
            write_section(output, section.title, text, order, preface)
