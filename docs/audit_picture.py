"""Draws the pictures of an audit report, docs/_static/audit.png and audit-dark.png.

    python docs/audit_picture.py chromium

The argument is the command of a Chromium; the rest is in the extra `docs-test`. The report is that
of the Python example in docs/how_to/audit_a_model.rst.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier

from sk_adv.audit import audit

STATIC = Path(__file__).parent / "_static"
WIDTH, MARGIN, N_ROWS = 760, 20, 3


def report():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X[:450], y[:450])
    return audit(model, X[450:], y[450:], epsilon="0.1sd")


def draw(page, path):
    """The beginning of the page on the left, columns and rows on the right."""
    page.evaluate(
        f"""() => {{
            document.querySelectorAll('#fragile tbody tr').forEach(
                (row, i) => {{ if (i >= {N_ROWS}) row.remove(); }});
        }}"""
    )
    boxes = {name: page.locator(name).bounding_box() for name in ("#curve", "#columns", "#fragile")}
    ends = [boxes[name]["y"] + boxes[name]["height"] for name in ("#curve", "#fragile")]
    starts = 20, boxes["#columns"]["y"]
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    height = int(max(end - start for end, start in zip(ends, starts, strict=True))) + MARGIN
    picture = Image.new("RGB", (2 * WIDTH, height), whole.getpixel((2, 2)))
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        picture.paste(whole.crop((0, int(start), WIDTH, int(end))), (k * WIDTH, MARGIN))
    picture.quantize(128).save(path, optimize=True)


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "audit.html"
        report().to_html(path)
        browser = playwright.chromium.launch(
            executable_path=shutil.which(sys.argv[1]), args=["--no-sandbox"]
        )
        for scheme, name in (("light", "audit.png"), ("dark", "audit-dark.png")):
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto(path.as_uri())
            draw(page, STATIC / name)
        browser.close()


if __name__ == "__main__":
    main()
