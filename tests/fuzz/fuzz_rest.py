"""Doors of the modules, the displays, the files and the data sets."""

import os

import numpy as np
import torch
from fuzz_doors import (
    attacking,
    data_for,
    door,
    over_radii,
    radii,
    scale,
    several_attacks,
    several_models,
)
from fuzz_models import DIFFERENTIABLE, classifier, fitted, module
from fuzz_values import (
    FOLDER,
    INDICES,
    NORMAL,
    bounds,
    device,
    epsilon,
    labels,
    norm,
    weights,
)
from fuzz_watch import Call
from torch import nn

from sk_adv import datasets, differentiable, export, inspection

# Estimators as modules.


@door("differentiable.as_module", 2)
def _(draw):
    model, *_ = classifier(draw)
    kwargs = {"device": device(draw)} if draw.chance(0.3) else {}
    if draw.chance(0.3):
        odd = [torch.int64, "float64", np.float32, 3, torch.complex64, torch.bool]
        kwargs["dtype"] = draw.usual_or_odd([torch.float32, torch.float64, torch.bfloat16], odd)
    return Call(differentiable.as_module, model, **kwargs)


@door("differentiable.has_rule", 0.5)
def _(draw):
    return Call(differentiable.has_rule, classifier(draw)[0])


@door("differentiable.parts_of", 0.5)
def _(draw):
    return Call(differentiable.parts_of, classifier(draw)[0])


def _response(function):
    def draw_call(draw):
        names = [name for name in DIFFERENTIABLE if name not in ("columns", "single")]
        given = differentiable.as_module(fitted(draw.of(*names), draw.of(2, 3)))
        X = torch.tensor(NORMAL * draw.of(1, 1, 1e30, 0))
        return Call(function, given, draw.of(X, X.float(), X[:1], X[:0]), allows="inf")

    return draw_call


for _name in ("decision_values", "log_probabilities", "preferences"):
    door(f"differentiable.{_name}", 0.5)(_response(getattr(differentiable, _name)))


@door("differentiable.Chain", 0.3)
def _(draw):
    # No odd parts: the constructor is that of torch.nn.Sequential.
    parts = [differentiable.as_module(fitted("scaled"))[0], nn.Linear(3, 2)]
    parts = draw.of(parts, parts[1:])
    return Call(lambda *parts: differentiable.Chain(*parts)(torch.tensor(NORMAL)), *parts)


@door("differentiable.Enclosure", 0.5)
def _(draw):
    X = torch.tensor(NORMAL * draw.of(1, 1, 1e30, 0))
    kwargs = {"bounds": bounds(draw)} if draw.chance(0.3) else {}

    def limits(X, epsilon, norm, **kwargs):
        region = differentiable.Enclosure.around(X, epsilon, norm, **kwargs)
        return region.affine(torch.eye(3, dtype=torch.float64)).limits()

    return Call(limits, X, epsilon(draw), norm(draw), **kwargs)


@door("differentiable.enclose", 1)
def _(draw):
    given, _n_classes = module(draw)
    X = torch.tensor(NORMAL * draw.of(1, 1, 1e30, 0))

    def led(given, X, epsilon, norm):
        region = differentiable.Enclosure.around(X, epsilon, norm)
        return differentiable.enclose(given, region).is_led_by(torch.zeros(len(X)).long())

    return Call(led, given, X, draw.of(0.1, 0, torch.ones(3)), draw.of(np.inf, 2))


def first(values, n):
    """The first n rows, if the values have rows."""
    has_rows = isinstance(values, list) or getattr(values, "ndim", 0) > 0
    # torch's sparse tensors can't be sliced.
    is_whole = hasattr(values, "columns") or getattr(values, "is_sparse", False)
    return values[:n] if has_rows and not is_whole else values


# Displays. They are drawn too; the axes are closed by the loop.


@door("inspection.RobustnessCurveDisplay.from_estimator", 0.5)
def _(draw):
    models, names = several_models(draw)
    X, y, n = data_for(draw, names, False)
    options = {"draws": ("numpy", "torch"), "allows": "nan", **over_radii(draw, X, n)}
    kwargs = {"epsilons": radii(draw), "attacks": several_attacks(draw)}
    display = inspection.RobustnessCurveDisplay
    return Call(display.from_estimator, models, X, y, **kwargs, **options)


@door("inspection.RobustnessCurveDisplay.from_predictions", 0.4)
def _(draw):
    y = INDICES[3]
    given = draw.usual_or_odd([[y, y[::-1]]], [y, [y], [y[:-1]] * 2, None, "a", [[None] * 24] * 2])
    kwargs = {"epsilons": draw.usual_or_odd([[0, 0.1]], [radii(draw)])}
    kwargs |= {"name": draw.usual_or_odd([None, "a"], [3, ["a", "b"], []])}
    kwargs |= {"n_attacks": draw.usual_or_odd([1], [0, 2, "a", None])}
    kwargs |= {"sample_weight": weights(draw, 24), "scale": scale(draw, None)}
    kwargs |= {"curve_kwargs": draw.usual_or_odd([None, {"color": "k"}], [[], [{}], 3])}
    display = inspection.RobustnessCurveDisplay
    return Call(display.from_predictions, labels(draw, 24, (0, 1, 2)), given, **kwargs)


@door("inspection.AdversarialExamplesDisplay.from_estimator", 0.5)
def _(draw):
    model, names, _ = classifier(draw)
    X, y, _ = data_for(draw, names, False)
    X, y = first(X, 3), first(y, 3)
    kwargs, draws = attacking(draw, X, names)
    odd = [(2, 2), None, (3,), "a", (3, 1, 1), (0, 3), (-1, 3), (1.5, 2), 3]
    kwargs["image_shape"] = draw.usual_or_odd([(1, 3), (3, 1), None], odd)
    display = inspection.AdversarialExamplesDisplay
    return Call(display.from_estimator, model, X, y, draws=draws, **kwargs)


@door("inspection.AdversarialExamplesDisplay.from_predictions", 0.3)
def _(draw):
    X, y, proba = NORMAL[:2], INDICES[2][:2], np.full((2, 2), 0.5)
    odd = [proba[:1], None, proba * 4, proba * np.nan, "a", proba[:, :1], -proba, [[1, 0]] * 2]
    copies = draw.usual_or_odd([X + 0.1], [X[:1], None, "a", X[:, :2], X * np.inf, [[1], [2]]])
    kwargs = {"classes": draw.usual_or_odd([[0, 1], ["a", "b"]], [[0], None, 3, [0, 1, 2]])}
    kwargs["image_shape"] = draw.usual_or_odd([(1, 3)], [(2, 2), None, "a", 3])
    kwargs["y_true"], kwargs["copies"] = draw.usual_or_odd([y], [y[:1], None, [7, 8]]), copies
    kwargs["input_proba"] = draw.usual_or_odd([proba], odd)
    kwargs["copy_proba"] = draw.usual_or_odd([proba], odd)
    return Call(inspection.AdversarialExamplesDisplay.from_predictions, X, **kwargs, allows="nan")


@door("inspection.FilterDisplay.from_estimator", 0.3)
def _(draw):
    model, *_ = classifier(draw)
    kwargs = {"image_shape": draw.usual_or_odd([(1, 3), None], [(2, 2), "a", 3, (0, 3), (3,)])}
    kwargs["max_filters"] = draw.usual_or_odd([2, None], [0, -1, "a", 1.5])
    return Call(inspection.FilterDisplay.from_estimator, model, **kwargs)


@door("inspection.FilterDisplay.plot", 0.3)
def _(draw):
    given = draw.usual_or_odd([NORMAL[:2]], [NORMAL[0], NORMAL * np.nan, "a", None, NORMAL[:0], 3])
    odd = [["a"], 3, "ab", [1, 2], []]
    kwargs = {"names": draw.usual_or_odd([None, ["a", "b"]], odd)}
    plot = {"n_columns": draw.usual_or_odd([None, 1], [0, -1, "a", 2.5])}
    plot["scale"] = draw.usual_or_odd(["shared"], ["zz", None, 3])

    def draw_filters(given, **kwargs):
        return inspection.FilterDisplay(weights=given, image_shape=(1, 3), **kwargs).plot(**plot)

    return Call(draw_filters, given, **kwargs, allows="nan")


@door("inspection.EpsilonSweepDisplay.from_estimator", 0.5)
def _(draw):
    model, names, _ = classifier(draw)
    X, y, _ = data_for(draw, names, False)
    X, y = first(X, 1), first(y, 1)
    kwargs = {"epsilons": draw.usual_or_odd([[-1, 0, 1]], [[1, 0], [0], "a", [0, np.nan], 3, []])}
    odd = [[1, 2], "zz", None, [np.nan, 1, 2], 3, [0, 0, 0], ["a", 1, 2]]
    kwargs["direction"] = draw.usual_or_odd(["gradient", [1, 0, -1]], odd)
    kwargs |= {"scale": scale(draw, X), "norm": norm(draw), "bounds": bounds(draw, X)}
    return Call(inspection.EpsilonSweepDisplay.from_estimator, model, X, y, **kwargs)


@door("inspection.EpsilonSweepDisplay.from_predictions", 0.3)
def _(draw):
    logits = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    odd = [logits[:2], logits * np.nan, "a", None, logits[:, 0], logits[:, :1], logits * np.inf]
    steps = draw.usual_or_odd([[0, 1, 2]], [[0, 0, 1], "a", None, [0, 1], [np.nan, 1, 2]])
    kwargs = {"classes": draw.usual_or_odd([[0, 1], ["a", "b"]], [[0], None, 3, [0, 1, 2], [[0]]])}
    kwargs["y_true"] = draw.usual_or_odd([0, 0, "a"], [7, None, [0], np.nan])
    display = inspection.EpsilonSweepDisplay.from_predictions
    return Call(display, steps, draw.usual_or_odd([logits], odd), **kwargs)


@door("inspection.TransferMatrixDisplay.from_estimators", 0.4)
def _(draw):
    models, names = several_models(draw)
    X, y, _ = data_for(draw, names, False)
    kwargs, draws = attacking(draw, X, names)
    display = inspection.TransferMatrixDisplay.from_estimators
    return Call(display, models, X, y, draws=draws, allows="nan", **kwargs)


@door("inspection.TransferMatrixDisplay.from_predictions", 0.3)
def _(draw):
    y = INDICES[2]
    given = draw.usual_or_odd([[[y, y], [y, y]]], [[[y]], [y, y], None, "a", [], [[y, y]]])
    kwargs = {"names": draw.usual_or_odd([None, ["a", "b"]], [["a"], 3, "ab", []])}
    kwargs["sample_weight"] = weights(draw, 24)
    display = inspection.TransferMatrixDisplay.from_predictions
    return Call(display, labels(draw, 24), given, **kwargs)


# Files and data.


@door("export.to_onnx", 0.1)
def _(draw):
    model, *_ = classifier(draw)
    path = os.path.join(FOLDER.name, "model.onnx")
    path = draw.usual_or_odd([path], [3, None, "/zz/zz/zz.onnx", FOLDER.name])
    return Call(export.to_onnx, model, path)


def _weights_file(function):
    def draw_call(draw):
        known = [fitted("maxout"), fitted("net")]
        model = draw.of(*known, *known, classifier(draw)[0])
        path = os.path.join(FOLDER.name, f"{type(model).__name__}.safetensors")
        if function is export.load_weights and model in known and not os.path.exists(path):
            export.save_weights(model, path)
        broken = os.path.join(FOLDER.name, "broken")
        with open(broken, "w") as file:
            file.write("no tensors")
        odd = [3, None, "/zz/zz/zz", FOLDER.name, broken, ""]
        return Call(function, model, draw.usual_or_odd([path], odd))

    return draw_call


door("export.save_weights", 0.3)(_weights_file(export.save_weights))
door("export.load_weights", 0.3)(_weights_file(export.load_weights))


@door("datasets.load_mnist_sample", 0.01)
def _(draw):
    return Call(datasets.load_mnist_sample, return_X_y=draw.of(True, False, "a", None))
