"""Claims about all displays."""

import builtins
import inspect

import numpy as np
import pytest
from matplotlib import pyplot as plt

import sk_adv.inspection

DISPLAYS = [getattr(sk_adv.inspection, name) for name in sk_adv.inspection.__all__]


def one_of_each(binary):
    """One display of each class, made from given numbers."""
    _, X, y = binary
    proba = np.eye(2)[[0, 1, 1]]
    of = sk_adv.inspection
    return [
        of.AdversarialContributionDisplay(contribution=[0.1, 0.2]).plot(),
        of.AdversarialExamplesDisplay.from_predictions(X[:3], X[3:6], [0, 1, 1], proba, proba),
        of.EpsilonSweepDisplay.from_predictions([0, 1], np.eye(2), classes=[0, 1], y_true=0),
        of.FilterDisplay(weights=X[:2]).plot(),
        of.RobustnessCurveDisplay.from_predictions(y, [y, y], epsilons=[0, 1]),
        of.TransferMatrixDisplay.from_predictions(y, [[y, y], [y, y]]),
        of.VerdictDisplay(epsilons=[0, 1], verified=[1, 0.5], falsified=[0, 0.25]).plot(),
    ]


def makers(display):
    return [getattr(display, name) for name in dir(display) if name.startswith("from_")]


@pytest.mark.parametrize("display", DISPLAYS)
def test_public_signatures_say_their_types(display):
    for method in (display.__init__, *makers(display), display.plot):
        signature = inspect.signature(method)
        for parameter in signature.parameters.values():
            if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                assert parameter.annotation is not parameter.empty, parameter
        if method is not display.__init__:
            assert signature.return_annotation is not signature.empty


def test_displays_draw_again_on_other_axes(binary):
    displays = one_of_each(binary)
    assert sorted(map(type, displays), key=lambda kind: kind.__name__) == DISPLAYS
    _, axes = plt.subplots(1, len(displays))
    for display, ax in zip(displays, axes, strict=True):
        assert display.ax_ is not ax
        assert display.plot(ax=ax) is display
        assert display.ax_ is ax
        assert display.figure_ is ax.figure


def test_without_matplotlib_a_display_says_what_to_install(monkeypatch, binary):
    displays = one_of_each(binary)
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    for display in displays:
        with pytest.raises(ImportError, match=rf"{type(display).__name__}\.plot requires matplot"):
            display.plot()
        for maker in makers(type(display)):
            needed = [
                parameter.name
                for parameter in inspect.signature(maker).parameters.values()
                if parameter.default is parameter.empty
                and parameter.kind is not parameter.VAR_KEYWORD
            ]
            with pytest.raises(ImportError, match=rf"\.{maker.__name__} requires matplotlib"):
                maker(**dict.fromkeys(needed))
