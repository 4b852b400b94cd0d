"""The figures of a benchmark: one file that grows with each measurement, and a page of all."""

import json


class Figures:
    """Figures by name, in NAME.json of a folder, and the page NAME.md that is written of them.

    Parameters
    ----------
    folder : Path
        It is made if it is missing.

    name : str
        The name of both files.

    page : callable
        A function from the list of all figures to the page.

    order : callable
        A function from the names of figures to the same names in their order.
    """

    def __init__(self, folder, name, page, order):
        self.path, self.page, self.order = folder / f"{name}.json", page, order

    def read(self):
        """The figures so far, by name."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def add(self, name, figure):
        """Add a figure, or replace the one of this name, and write the page anew."""
        # Read again: another run may have added to it.
        figures = self.read() | {name: figure}
        figures = {name: figures[name] for name in self.order(figures)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        page = self.page(list(figures.values()))
        self.path.with_suffix(".md").write_text(page, encoding="utf-8")
