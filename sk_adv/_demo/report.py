"""A report as one HTML file with its figures and style inside."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem; color: #1d2430;
       background: #fff; font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
p { max-width: 46rem; }
.conclusion { font-size: 1.2rem; font-weight: 600; }
.lead { font-size: 1.08rem; color: #445; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .8rem; text-align: right; border-bottom: 1px solid #e3e6ec; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
td:first-child { white-space: nowrap; }
thead th { border-bottom: 2px solid #1d2430; vertical-align: bottom; font-weight: 600; }
tr.group th { padding-top: 1.1rem; text-align: left; color: #445; font-weight: 600; }
.settings td { text-align: left; }
.settings td:first-child { color: #445; vertical-align: top; }
figure { margin: 0; }
img { max-width: 100%; height: auto; }
figcaption { max-width: 46rem; color: #445; font-size: .95rem; margin-top: .4rem; }
"""


@dataclass(frozen=True)
class Table:
    """A table whose rows stand in named groups.

    Parameters
    ----------
    columns : tuple of str
        Titles; the first stands above the rows' names.

    groups : dict of str to list of tuple of str
        The rows of each group, one text per column.
    """

    columns: tuple[str, ...]
    groups: dict[str, list[tuple[str, ...]]]

    def text(self) -> str:
        """Lay the table out for a terminal."""
        rows = [row for group in self.groups.values() for row in group]
        widths = [max(map(len, column)) for column in zip(self.columns, *rows, strict=True)]

        def line(cells):
            first, *others = (
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            return "  ".join(["  " + first, *others])

        lines = [line(self.columns), "  " + "-" * (len(line(self.columns)) - 2)]
        for name, group in self.groups.items():
            lines += [name, *map(line, group)]
        return "\n".join(lines)

    def html(self) -> str:
        """Lay the table out for a browser."""
        head = "".join(f"<th>{escape(title)}</th>" for title in self.columns)
        body = []
        for name, group in self.groups.items():
            body.append(
                f'<tr class="group"><th colspan="{len(self.columns)}">{escape(name)}</th></tr>'
            )
            body += [
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in group
            ]
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Parameters
    ----------
    path : Path
        The PNG file, which is copied into the report.

    title : str
        The heading.

    caption : str
        The text below it, on what it shows and how to read it.
    """

    path: Path
    title: str
    caption: str

    def html(self) -> str:
        """Heading, image and caption, the image as data."""
        data = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return (
            f"<h2>{escape(self.title)}</h2><figure>"
            f'<img alt="{escape(self.title)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


def write_report(
    path: Path,
    *,
    title: str,
    conclusion: str,
    lead: str,
    table: Table,
    notes: list[str],
    pictures: list[Picture],
    settings: dict[str, str],
) -> None:
    """Write the report to one self-contained file.

    Parameters
    ----------
    path : Path
        The file to write.

    title : str
        The heading.

    conclusion : str
        The main result, in one sentence.

    lead : str
        A summary of the experiment, in a few sentences.

    table : Table
        The results.

    notes : list of str
        Paragraphs on how to read the table.

    pictures : list of Picture
        The figures, in order.

    settings : dict of str to str
        The settings with which the run can be repeated.
    """
    settings_rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for name, value in settings.items()
    )
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="conclusion">{escape(conclusion)}</p>\n'
        f'<p class="lead">{escape(lead)}</p>\n'
        f"<h2>Results</h2>\n{table.html()}\n"
        + "\n".join(f"<p>{escape(note)}</p>" for note in notes)
        + "\n"
        + "\n".join(picture.html() for picture in pictures)
        + f'\n<h2>Settings</h2>\n<div class="scroll"><table class="settings"><tbody>'
        f"{settings_rows}</tbody></table></div>\n</body>\n</html>\n",
        encoding="utf-8",
    )
