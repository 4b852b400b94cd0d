"""Claims about RobustnessCurveDisplay."""

import functools

import numpy as np
import pytest
from matplotlib import pyplot as plt

from sk_adv.attacks import fgsm, pgd
from sk_adv.inspection import RobustnessCurveDisplay


def test_curve_of_a_linear_model_is_the_exact_robust_error(binary, raw_weights):
    model, X, y = binary
    epsilons = np.linspace(0, 1, 6)
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=epsilons)
    weights, intercept = raw_weights
    margin = np.where(y == "yes", 1, -1) * (X @ weights + intercept)
    exact = [np.mean(margin <= epsilon * np.abs(weights).sum()) for epsilon in epsilons]
    np.testing.assert_allclose(display.errors, exact)
    assert exact[0] < 0.3 < exact[-1]
    np.testing.assert_array_equal(display.line_.get_xdata(), epsilons)
    np.testing.assert_array_equal(display.line_.get_ydata(), display.errors)


def test_several_curves_share_axes_and_legend(binary):
    model, X, y = binary
    _, ax = plt.subplots()
    for attack in ("fgsm", "pgd"):
        display = RobustnessCurveDisplay.from_estimator(
            model, X, y, epsilons=[0, 0.5], attack=attack, ax=ax, curve_kwargs={"color": "k"}
        )
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["Pipeline (FGSM)", "Pipeline (PGD)"]
    assert "units of X" in ax.get_xlabel()
    assert "%" in ax.get_ylabel()


class Shift:
    """An attack that is an object, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, module, X, y, epsilon, **params):
        self.calls += 1
        return fgsm(module, X, y, epsilon)


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (fgsm, "Pipeline (fgsm)"),
        (functools.partial(pgd, n_steps=2, random_state=0), "Pipeline (pgd)"),
        (functools.partial(functools.partial(pgd, n_steps=2), random_state=0), "Pipeline (pgd)"),
        (Shift(), "Pipeline (Shift)"),
    ],
)
def test_a_curve_is_named_after_any_kind_of_attack(attack, name, binary):
    model, X, y = binary
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=[0.5], attack=attack)
    assert display.name == name


@pytest.mark.parametrize(
    ("epsilons", "message"),
    [
        (0.1, r"epsilons must be a 1-D sequence .*; got 0\.1\."),
        ([], r"epsilons must be a 1-D sequence of one radius or more.*; got \[\]"),
        ([[0.1, 0.2]], "epsilons must be a 1-D sequence"),
        ([0.1, [0.2, 0.3]], "epsilons must be a 1-D sequence"),
        ("large", "epsilons must be a 1-D sequence .* got 'large'"),
        ([0.1, 0.2, -0.3], r"epsilons must be finite and at least 0; got -0\.3"),
        ([0.1, 0.2, np.nan], "epsilons must be finite and at least 0; got nan"),
    ],
)
def test_an_invalid_radius_is_found_before_any_attack(epsilons, message, binary):
    model, X, y = binary
    attack = Shift()
    with pytest.raises(ValueError, match=message):
        RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=epsilons, attack=attack)
    assert attack.calls == 0


def test_a_curve_needs_as_many_errors_as_radii():
    with pytest.raises(ValueError, match=r"same length as epsilons; got shapes \(2,\) and \(3,\)"):
        RobustnessCurveDisplay(epsilons=[0, 1, 2], errors=[0, 1])
