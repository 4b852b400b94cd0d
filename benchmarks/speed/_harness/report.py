"""Reports in Markdown: tables, and a file whose sections are replaced one by one."""

import datetime
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from _harness.timing import available_cores


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table with aligned columns, the first to the left and all others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def three_digits(value: float) -> str:
    """A positive number to three significant digits, such as 0.0321, 45.1 or 2,140."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else f"{rounded:.3g}"


def counted(n: int, noun: str) -> str:
    """A number of things: "1 thread", "2 threads"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def environment(repeats: int, libraries: Iterable[str]) -> str:
    """One line on when, where and with what a section was measured."""
    versions = ", ".join(
        f"{name} {version}" for name in libraries if (version := _version(name)) is not None
    )
    threads = counted(torch.get_num_threads(), "thread")
    runs = ("medians of " if repeats > 1 else "") + counted(repeats, "run")
    return (
        f"Measured {datetime.date.today()}: {_processor()}, {counted(available_cores(), 'core')}, "
        f"{threads} for torch and BLAS, {runs}; "
        f"Python {platform.python_version()}, {versions}."
    )


def write_section(path: Path, title: str, section: str, order: list[str], preface: str) -> None:
    """Put a section into a report, in place of an older one of the same title.

    Parameters
    ----------
    path : Path
        The report; made if it is missing.
    title, section : str
    order : list of str
        The titles of all sections, in the order in which they stand in the report.
    preface : str
        The text above the sections.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^## (.+)\n", old, flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
    sections[title] = section
    texts = [f"## {name}\n\n{sections[name]}" for name in order if name in sections]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join([preface, *texts]) + "\n", encoding="utf-8")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor():
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*: (.+)$", info.read_text(), flags=re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
