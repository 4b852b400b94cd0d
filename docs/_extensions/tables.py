"""Tables whose cells say what they hold: a sentence wraps, a number or two stay on one line.

A style sheet can't see how long a text is. So each cell of more than a few words gets the class
"long".
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform

# The longest text that stays on one line, in characters, such as "1.48 x (missed: ≥ 10)".
SHORT = 24


class MarkLongCells(SphinxTransform):
    """Give the class "long" to cells of more than `SHORT` characters."""

    default_priority = 900

    def apply(self):
        for cell in self.document.findall(nodes.entry):
            if len(cell.astext()) > SHORT:
                cell["classes"].append("long")


def setup(app):
    app.add_transform(MarkLongCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
