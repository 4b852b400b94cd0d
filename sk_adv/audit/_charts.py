"""The charts of the page: shapes as inline SVG or boxes, texts beside them as HTML.

So a text keeps its size on any screen, and all colours come from the page's style.
"""

from html import escape

from sk_adv.metrics._verdicts import STATUSES

# Height of the drawing in its own units; its width is 100, and both are stretched to the page.
_HEIGHT = 100
# From bottom to top.
_ORDER = ("verified", "unknown", "falsified")


def curve_chart(curve, labels, axis, marked=1.0):
    """Verified, unknown and falsified samples, stacked, against the radius, in steps.

    Between two radii, a proof at the larger one holds, and so does a fault at the smaller one. What
    neither tells is drawn as unknown.

    Parameters
    ----------
    curve : list of dict
        For each radius, growing, the `multiple` and the number of samples of each status.
    labels : list of str
        The radii as texts, empty where none is to be shown.
    axis : str
        What the radii are.
    marked : float, default=1.0
        The multiple at which a line stands.

    Returns
    -------
    str
    """
    largest = curve[-1]["multiple"]
    across = [100 * point["multiple"] / largest for point in curve]
    total = sum(curve[0][status] for status in STATUSES)
    verified = _steps(across, [point["verified"] for point in curve], is_from_right=True)
    broken = _steps(across, [total - point["falsified"] for point in curve], is_from_right=False)
    edges = [[(0, 0), (100, 0)], verified, broken, [(0, total), (100, total)]]
    edges = [" ".join(f"{x:.2f},{_HEIGHT * (1 - n / total):.2f}" for x, n in e) for e in edges]
    shapes = []
    for status, lower, upper in zip(_ORDER, edges, edges[1:], strict=False):
        back = " ".join(reversed(lower.split()))
        shapes.append(f'<polygon class="{status}" points="{upper} {back}"/>')
    shapes += [f'<polyline class="edge" points="{edge}"/>' for edge in edges[1:3]]
    shapes += [f'<line class="grid" x2="100" y1="{y}" y2="{y}"/>' for y in (25, 50, 75)]
    x = 100 * marked / largest
    shapes.append(f'<line class="mark" x1="{x:.2f}" x2="{x:.2f}" y2="{_HEIGHT}"/>')
    title = "Share of rows that are verified, unknown and falsified, against the radius"
    ticks = "".join(
        f'<span style="top:{100 - share}%">{share} %</span>' for share in range(0, 101, 25)
    )
    names = ""
    for point, left, label in zip(curve, across, labels, strict=True):
        kind = "here" if point["multiple"] == marked else "minor" if _is_minor(point) else ""
        if label:
            names += f'<span class="{kind}" style="left:{left:.2f}%">{escape(label)}</span>'
    return (
        f'<div class="plot"><div class="ticks" aria-hidden="true">{ticks}</div>'
        f'<svg viewBox="0 0 100 {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{title}"><title>{title}</title>{"".join(shapes)}</svg>'
        f'<div class="radii" aria-hidden="true">{names}</div></div>'
        f'<p class="axis">{escape(axis)}</p>'
    )


def _steps(across, values, *, is_from_right):
    """The corners of steps that hold the value of the point on their right, or on their left."""
    corners = [(across[0], values[0])]
    for i in range(1, len(across)):
        corners += (
            [(across[i - 1], values[i]), (across[i], values[i])]
            if is_from_right
            else [(across[i], values[i - 1]), (across[i], values[i])]
        )
    return corners


def _is_minor(point):
    """Whether the radius has no text on a narrow screen."""
    return 4 * point["multiple"] % 2 == 1


def share_bar(counts):
    """One bar of the samples of each status."""
    total = sum(counts.values())
    parts = "".join(
        f'<span class="{status}" style="width:{100 * counts[status] / total:.3f}%"></span>'
        for status in _ORDER
        if counts[status]
    )
    return f'<div class="share" aria-hidden="true">{parts}</div>'


def bars(rows):
    """Horizontal bars, solid to the values and faint from there to the upper ends.

    The longest solid bar fills the track; faint parts beyond it are cut.

    Parameters
    ----------
    rows : list of tuple (name, value, upper, text)
        The texts hold HTML, the names do not.

    Returns
    -------
    str
    """
    largest = max((value for _, value, _, _ in rows), default=0) or 1.0
    items = ""
    for name, value, upper, text in rows:
        short, long = (min(100 * max(end, 0.0) / largest, 100.0) for end in (value, upper))
        items += (
            f'<li><span class="what">{escape(name)}</span><span class="track">'
            f'<span class="faint" style="width:{long:.2f}%"></span>'
            f'<span class="solid" style="width:{short:.2f}%"></span></span>'
            f'<span class="value">{text}</span></li>'
        )
    return f'<ul class="bars">{items}</ul>'
