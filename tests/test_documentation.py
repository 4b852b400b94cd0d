"""How the documentation is built: sessions as cells, links to other libraries, charts, methods."""

import json
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def extension(monkeypatch):
    """A module of docs/_extensions, by name, where the extra `docs` is installed."""
    monkeypatch.syspath_prepend(DOCS / "_extensions")

    def load(name):
        pytest.importorskip("sphinx")
        return import_module(name)

    return load


def test_a_session_is_divided_after_each_value_but_not_after_print(extension):
    cells = extension("cells").cells
    session = (
        ">>> x = 1\n>>> x\n1\n>>> print(x)\n1\n>>> for i in (x,):\n...     print(i)\n1\n>>> x\n1"
    )
    assert cells(session) == [">>> x = 1\n>>> x\n1", session.partition(">>> x\n1\n")[2]]
    assert cells(">>> x = 1\n>>> x\n1") == [">>> x = 1\n>>> x\n1"]


def test_a_divided_session_loses_no_line(extension):
    cells = extension("cells").cells
    blocks = 0
    for page in (DOCS / "user_guide").glob("*.rst"):
        for session in re.findall(r"(?:^>>> .*\n(?:.+\n)*)+", page.read_text(), re.MULTILINE):
            pieces = cells(session.rstrip("\n"))
            blocks += len(pieces) > 1
            assert "\n".join(pieces) == session.rstrip("\n")
            assert all(piece.startswith(">>> ") for piece in pieces)
    assert blocks > 20


@pytest.mark.parametrize(
    ("name", "end"),
    [
        (
            "sklearn.linear_model.LogisticRegression",
            "sklearn.linear_model.LogisticRegression.html#sklearn.linear_model.LogisticRegression",
        ),
        (
            "sklearn.base.ClassifierMixin.score",
            "sklearn.base.ClassifierMixin.html#sklearn.base.ClassifierMixin.score",
        ),
        ("torch.nn.Module", "/generated/torch.nn.Module.html#torch.nn.Module"),
        ("skorch.callbacks.Callback", "/callbacks.html#skorch.callbacks.Callback"),
        ("sklearn.linear_model.NoSuchName", None),
        ("sk_adv.attacks.fgsm", None),
    ],
)
def test_names_of_other_libraries_are_links_if_they_exist(extension, name, end):
    found = extension("elsewhere").address(name)
    assert found is None if end is None else found.endswith(end)


def test_inherited_methods_are_those_that_other_libraries_document(extension):
    from sk_adv import AdversarialLogisticRegression
    from sk_adv.preprocessing import FGSMTransformer

    inherited = extension("inherited").inherited
    found = {name: place for name, _, place in inherited(FGSMTransformer)}
    assert found["get_params"] == "sklearn.base.BaseEstimator.get_params"
    assert "set_output" in found
    assert not found.keys() & {"fit", "transform", "set_transform_request"}
    # sk_adv documents this one itself, in a base class.
    assert "predict_proba" not in {name for name, *_ in inherited(AdversarialLogisticRegression)}


def test_every_number_of_a_chart_stands_in_its_table(extension):
    charts = extension("benchmark_charts")
    figure_module = import_module("matplotlib.figure")
    for chart, size in charts.CHARTS.items():
        figure = figure_module.Figure(figsize=size)
        chart(figure)
        assert figure.axes
    (rows,) = charts.tables(charts.BENCHMARKS / "robustness" / "results" / "verdicts.md").values()
    figure = figure_module.Figure()
    charts.verdicts(figure)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    words = ("verified", "unknown", "falsified")
    assert widths == [int(row[word]) for word in words for row in rows]


def test_the_chart_of_linear_models_has_a_point_for_each_radius_and_no_empty_curve(extension):
    charts = extension("benchmark_charts")
    page = charts.BENCHMARKS / "speed" / "results" / "linear.md"
    rows = charts.tables(page)["MNIST 3 versus 7, against L1"]
    figure = import_module("matplotlib.figure").Figure()
    charts.linear(figure)
    (ax,) = figure.axes
    radii = list(dict.fromkeys(float(row["ε"]) for row in rows))
    labels = {"sk_adv": "ours", "liblinear (L1)": "liblinear", "celer (L1)": "celer"}
    measured = {name for name, side in labels.items() if any(row[side] != "-" for row in rows)}
    assert {curve.get_label() for curve in ax.lines} == measured
    for curve in ax.lines:
        side = labels[curve.get_label()]
        assert list(curve.get_xdata()) == radii
        assert list(curve.get_ydata()) == [float(r[side]) for r in rows if r["threads"] == "2"]


def test_long_cells_of_a_table_are_marked(extension):
    nodes = pytest.importorskip("docutils.nodes")
    marker = extension("tables").MarkLongCells
    texts = ["1.48 x (missed: ≥ 10)", "agrees: the classes change", ""]
    cells = [nodes.entry("", nodes.paragraph(text=text)) for text in texts]
    document = import_module("docutils.utils").new_document("")
    document += nodes.table("", *cells)
    marker(document).apply()
    assert [cell["classes"] for cell in cells] == [[], ["long"], []]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("26,941.2", 26941.2), ("1.24 (met: ≤ 5)", 1.24), ("98.4% (98.3% to 98.5%)", 98.4)],
)
def test_a_number_is_read_as_it_is_written(extension, cell, value):
    assert extension("benchmark_charts").number(cell) == value
    assert extension("benchmark_charts").number("–") != extension("benchmark_charts").number("–")


def test_every_example_has_its_place_in_the_gallery(extension):
    order = extension("reading_order")
    found = {path.stem: path.parent.name for path in (DOCS / "examples").glob("*/*.py")}
    assert set(order.EXAMPLES) <= set(found)
    assert set(found.values()) == set(order.SECTIONS)
    assert not list((DOCS / "examples").glob("*.py"))


def test_the_installation_page_names_each_extra_and_what_it_installs():
    text = (DOCS.parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    page = (DOCS / "install.rst").read_text(encoding="utf-8")
    rows = [row.split("\n     - ") for row in page.split("   * - ")[2:]]
    installs = {name: cells[1] for cells in rows for name in re.findall("``(.+?)``", cells[0])}
    assert installs.keys() == extras.keys()

    def packages(extra):
        for requirement in extras[extra]:
            name, others = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()
            if name == "sk-adv":
                for other in others.split(","):
                    yield from packages(other)
            elif name not in ("torch", "xgboost-cpu"):  # torch is installed in any case
                yield name

    for extra, named in installs.items():
        if "make" not in named:
            words = {word.lower().replace(" ", "") for word in re.split(", ", named)}
            assert words == set(packages(extra)), extra


def test_the_guide_names_each_layer_that_has_bounds():
    from torch import nn

    from sk_adv.differentiable._intervals import _rule

    page = (DOCS / "user_guide" / "networks.rst").read_text(encoding="utf-8")
    section = page.partition(".. _provable-networks:")[2].partition(">>> ")[0]
    layers = {kind.__name__ for kind in _rule.registry if kind.__module__.startswith("torch.")}
    named = set(re.findall(r"``(\w+)``", section))
    assert layers - {"Sequential"} <= named
    assert {name for name in named if hasattr(nn, name)} <= layers | {"Linear", "Flatten"}


def test_figures_of_reports_are_plain_numbers_and_a_single_thing_is_singular(monkeypatch):
    monkeypatch.syspath_prepend(DOCS.parent / "benchmarks" / "speed")
    report = import_module("_harness.report")
    figures = {0.03214: "0.0321", 45.06: "45.1", 999.4: "999", 999.7: "1,000", 2137.2: "2,140"}
    assert {value: report.three_digits(value) for value in figures} == figures
    assert [report.counted(n, "thread") for n in (1, 2)] == ["1 thread", "2 threads"]


def test_figures_of_m6_in_the_user_guide_are_those_of_the_row():
    text = " ".join((DOCS / "user_guide" / "training_for_promises.rst").read_text().split())
    quoted = re.search(
        r"wrong on ([\d.]+) % of MNIST's.* lowest early, (\d+) %, and (\d+) % in the epoch", text
    )
    page = DOCS.parent / "benchmarks" / "paper" / "results" / "M6.json"
    values = json.loads(page.read_text())["values"]
    names = (
        "clean error",
        "lowest adversarial error of an epoch, held-out images",
        "adversarial error, held-out images",
    )
    means = [100 * sum(values[name]) / len(values[name]) for name in names]
    assert quoted.groups() == (f"{means[0]:.2f}", f"{means[1]:.0f}", f"{means[2]:.0f}")
