"""The page against the JSON, and what it must not hold."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from sk_adv.audit import audit
from sk_adv.audit._charts import curve_chart
from sk_adv.audit._page import _radius, _rounded, _value, page


class Reader(HTMLParser):
    """The texts and the machine-readable values of each section, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.values, self.texts, self.tags, self.section = {}, {}, [], "head"
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "section":
            self.section = attrs["id"]
        if tag == "data":
            value = float(attrs["value"]) if attrs["value"] else None
            self.values.setdefault(self.section, []).append(value)

    def handle_endtag(self, tag):
        if tag == "section":
            self.section = "rest"

    def handle_data(self, data):
        self.texts[self.section] = self.texts.get(self.section, "") + data


@pytest.fixture(params=["report", "open_report"])
def any_report(request):
    return request.getfixturevalue(request.param)


def test_every_value_of_the_page_is_in_the_json(any_report, tmp_path):
    any_report.to_html(tmp_path / "audit.html")
    any_report.to_json(tmp_path / "audit.json")
    numbers = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert numbers == any_report.to_dict()
    read = Reader((tmp_path / "audit.html").read_text(encoding="utf-8"))
    verdict = numbers["verdict"]
    assert verdict["text"] in read.texts["head"]
    statuses = ("verified", "unknown", "falsified")
    assert read.values["head"] == [verdict[status] for status in statuses]
    columns = ("multiple", *statuses, "lower", "upper")
    assert read.values["curve"] == [point[name] for point in numbers["curve"] for name in columns]
    contributions = [row["contribution"] for row in numbers["contribution"]["columns"]]
    assert read.values["columns"] == contributions
    fragile = []
    for sample in numbers["fragile"]["samples"]:
        fragile.append(sample["radius_upper"])
        fragile += [value for pair in list(sample["changes"].values())[:5] for value in pair]
        assert f"row {sample['row']}" in read.texts["fragile"]
    assert read.values["fragile"] == fragile
    attacks = [row[name] for row in numbers["attacks"] for name in ("error", "confidence")]
    assert read.values["attacks"] == attacks
    radii = [column["radius"] for column in numbers["radius"]["columns"]]
    assert read.values["allowed"] == radii
    for version in numbers["versions"].values():
        assert version in read.texts["settings"]


def test_the_page_needs_nothing_else_and_fits_all_screens(report):
    text = page(report.to_dict())
    read = Reader(text)
    names = {tag for tag, _ in read.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not re.search(r"url\(|@import|https?:", text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        read.tags
    )
    assert "prefers-color-scheme: dark" in text
    assert all(attrs.get("role") == "img" for tag, attrs in read.tags if tag == "svg")
    # Each table lies in a box that scrolls by itself.
    tags = [tag if tag != "div" else attrs.get("class") for tag, attrs in read.tags]
    assert all(tags[i - 1] == "scroll" for i, tag in enumerate(tags) if tag == "table")


def polygons(curve):
    """For each status, a function that gives the lower and the upper edge of its area, in rows."""
    svg = curve_chart(curve, [""] * len(curve), "radius")
    total = curve[0]["verified"] + curve[0]["unknown"] + curve[0]["falsified"]
    found = {}
    for status, points in re.findall(r'<polygon class="(\w+)" points="([^"]*)"', svg):
        corners = [tuple(map(float, point.split(","))) for point in points.split()]

        def edges(x, corners=corners):
            crossed = [
                total * (1 - one[1] / 100)
                for one, two in pairwise(corners)
                if one[1] == two[1] and min(one[0], two[0]) < x < max(one[0], two[0])
            ]
            return min(crossed), max(crossed)

        found[status] = edges
    return found


def test_the_chart_draws_no_more_than_is_known():
    # Rows with a radius each: the verdicts at four multiples know some of them.
    rng = np.random.default_rng(0)
    radii, is_open = rng.uniform(0, 2.5, 50), rng.random(50) < 0.3
    curve = [
        {
            "multiple": multiple,
            "verified": int((~is_open & (radii > multiple)).sum()),
            "unknown": int((is_open & (radii > multiple)).sum()),
            "falsified": int((radii <= multiple).sum()),
        }
        for multiple in (0.0, 0.25, 1.0, 2.0)
    ]
    areas = polygons(curve)
    for multiple in rng.uniform(0, 2, 40):
        x = 50 * multiple
        low, high = areas["verified"](x)
        assert low == pytest.approx(0)
        # At the point on the right at least as many are verified, on the left at least as many
        # falsified: and just that is drawn.
        right = min(p["multiple"] for p in curve if p["multiple"] > multiple)
        left = max(p["multiple"] for p in curve if p["multiple"] < multiple)
        assert high == pytest.approx((~is_open & (radii > right)).sum(), abs=0.01)
        assert high <= (radii > multiple).sum() + 0.01
        low, high = areas["falsified"](x)
        assert high == pytest.approx(50)
        assert 50 - low == pytest.approx((radii <= left).sum(), abs=0.01)
        assert areas["unknown"](x)[1] == pytest.approx(low)
        assert areas["unknown"](x)[0] == pytest.approx(areas["verified"](x)[1])


def test_names_and_labels_are_no_html(tmp_path):
    rng = np.random.default_rng(0)
    evil = "<script>alert('a')</script>"
    X = pd.DataFrame(rng.normal(size=(20, 2)), columns=[evil, '"&b'])
    y = np.where(X[evil] + X['"&b'] / 2 > 0, "<b>yes</b>", "no")
    X.index = [f"<i>{i}</i>" for i in range(20)]
    found = audit(LogisticRegression().fit(X, y), X, y, epsilon={evil: 0.5}, name="<u>m</u>")
    text = page(found.to_dict())
    read = Reader(text)
    assert not {tag for tag, _ in read.tags} & {"script", "b>yes", "i", "u"}
    assert evil in read.texts["columns"]
    assert "<b>yes</b>" in read.texts["fragile"]
    assert "<i>" in read.texts["fragile"]
    assert "<u>m</u>" in read.texts["head"]
    frame = found._repr_html_()
    assert [tag for tag, _ in Reader(frame).tags] == ["iframe"]
    assert Reader(frame).tags[0][1]["srcdoc"] == text


def test_the_page_says_what_is_not_proved(report, open_report):
    assert "Nothing could be proved about this model" in page(open_report.to_dict())
    assert "Nothing could be proved" not in page(report.to_dict())
    assert "It is not proved that no other row needs less" in page(open_report.to_dict())


def test_json_has_no_number_that_json_lacks(report, tmp_path):
    report.to_json(tmp_path / "audit.json")

    def refuse(text):
        raise AssertionError(text)

    json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"), parse_constant=refuse)
    # The falsified rows have no confidence of their own.
    assert report.to_dict()["attacks"][-1]["confidence"] is None


def test_ends_of_radii_are_rounded_outwards():
    assert (_rounded(0.12345), _rounded(0.12345, up=True)) == ("0.123", "0.124")
    assert (_rounded(1234.5), _rounded(0.0)) == ("1230", "0")
    sample = {"radius_lower": 0.5, "radius_upper": 0.6}
    assert _radius(sample, {"factor": 0.1, "unit": "sd"}) == "0.0500 to 0.0600 sd"
    assert _radius(sample, {"factor": 1.0, "unit": None}) == "0.500 to 0.600 × its radius"
    exact = {"radius_lower": 0.5, "radius_upper": 0.5}
    assert _radius(exact, {"factor": 3.0, "unit": "units"}) == "1.50"
    assert (
        _radius(sample | {"radius_upper": None}, {"factor": 1.0, "unit": "units"}) == "above 0.500"
    )


def test_values_have_as_many_digits_as_show_the_change():
    pairs = [(22.0, 23.4), (0.001, 0.00123), (1e6, 1e6 + 50), (3.0, 3.04)]
    shown = [[_value(value, *pair) for value in pair] for pair in pairs]
    assert shown == [
        ["22", "23.4"],
        ["0.001", "0.00123"],
        ["1000000", "1000050"],
        ["3", "3.04"],
    ]
