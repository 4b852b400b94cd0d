"""Claims about all displays."""

import builtins
import inspect

import pytest
from matplotlib import pyplot as plt

from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay

EPSILON = 0.5


@pytest.mark.parametrize(
    "display", [FilterDisplay, AdversarialExamplesDisplay, RobustnessCurveDisplay]
)
def test_public_signatures_say_their_types(display):
    for method in (display.__init__, display.from_estimator, display.plot):
        signature = inspect.signature(method)
        for parameter in signature.parameters.values():
            if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                assert parameter.annotation is not parameter.empty, parameter
        if method is not display.__init__:
            assert signature.return_annotation is not signature.empty


def test_displays_draw_again_on_other_axes(binary):
    model, X, y = binary
    first = [
        FilterDisplay.from_estimator(model),
        AdversarialExamplesDisplay.from_estimator(model, X[:2], y[:2], epsilon=EPSILON),
        RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=[0, 1]),
    ]
    _, axes = plt.subplots(1, 3)
    for display, ax in zip(first, axes, strict=True):
        assert display.ax_ is not ax
        assert display.plot(ax=ax) is display
        assert display.ax_ is ax


def test_without_matplotlib_a_display_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    display = RobustnessCurveDisplay(epsilons=[0], errors=[0])
    with pytest.raises(ImportError, match=r"RobustnessCurveDisplay\.plot requires matplotlib"):
        display.plot()
