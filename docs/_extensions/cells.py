"""Sessions as cells: each printed value ends one, so that a notebook shows what the page shows.

The copy button of a block copies its input without the prompts. A notebook prints the last
expression of a cell only. So a session is divided after each output that no `print` has made, and
the style sheet joins the pieces.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

# Commands whose output is not the value of an expression.
NO_VALUE = re.compile(r"print\(|(for|with|if|def|class|while|try)\b")


def cells(text):
    """Divide the text of a session; each piece but the last ends with a value."""
    pieces, lines, command, printed = [], [], "", False
    for line in text.split("\n"):
        is_input = line.startswith((">>>", "...")) and not (printed and line.startswith("..."))
        if is_input:
            if line.startswith(">>>"):
                if printed and not NO_VALUE.match(command):
                    pieces.append("\n".join(lines))
                    lines = []
                command = line[4:]
                printed = False
        elif line.strip():
            printed = True
        lines.append(line)
    return [*pieces, "\n".join(lines)]


class Divide(SphinxTransform):
    """Divide each session that shows more than one value."""

    default_priority = 300

    def apply(self):
        blocks = [*self.document.findall(nodes.doctest_block)]
        for block in blocks:
            pieces = cells(block.astext())
            if len(pieces) == 1:
                continue
            new = []
            for piece in pieces:
                node = nodes.doctest_block(piece, piece, classes=["cell"])
                node.source, node.line = block.source, block.line
                new.append(node)
            box = nodes.container("", *new, classes=["cells"])
            block.replace_self(box)


def setup(app):
    app.add_transform(Divide)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
