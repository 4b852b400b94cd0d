"""VerdictDisplay: numbers from verify_robustness, and what is drawn."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from sk_adv.inspection import VerdictDisplay
from sk_adv.metrics import verify_robustness

X, Y = load_iris(return_X_y=True)
MODEL = DecisionTreeClassifier(random_state=0).fit(X[::2], Y[::2])


def test_shares_are_those_of_each_radius():
    radii = [0, 0.1, 0.3]
    display = VerdictDisplay.from_estimator(MODEL, X, Y, epsilons=radii, scale=X.std(axis=0))
    for radius, verified, falsified in zip(radii, display.verified, display.falsified, strict=True):
        verdict = verify_robustness(MODEL, X, Y, epsilon=radius * X.std(axis=0))
        assert verified == (verdict.status == "verified").mean()
        assert falsified == pytest.approx((verdict.status == "falsified").mean())
    np.testing.assert_allclose(display.verified + display.unknown + display.falsified, 1)


def test_bands_and_legend_are_drawn():
    display = VerdictDisplay(epsilons=[0, 1], verified=[0.9, 0.2], falsified=[0.1, 0.5], name="A")
    display.plot()
    assert display.ax_.get_title() == "A"
    top_of_first = display.bands_[0].get_paths()[0].vertices[:, 1].max()
    assert top_of_first == pytest.approx(0.9)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["falsified", "unknown", "verified"]
    assert display.plot(ax=display.ax_, name="B").ax_.get_title() == "B"


def test_a_single_radius_has_a_bar():
    display = VerdictDisplay(epsilons=[0.3], verified=[0.5], falsified=[0.25]).plot()
    assert display.unknown == pytest.approx([0.25])
    assert display.ax_.get_xticks() == pytest.approx([0.3])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epsilons": [1, 0], "verified": [1, 1], "falsified": [0, 0]}, "must grow"),
        ({"epsilons": [0, 1], "verified": [1], "falsified": [0, 0]}, "one share for each"),
        ({"epsilons": [0], "verified": [0.7], "falsified": [0.7]}, "do not exceed 1"),
        ({"epsilons": [0], "verified": [-0.1], "falsified": [0.7]}, "at least 0"),
        ({"epsilons": [-1], "verified": [0], "falsified": [0]}, "at least 0"),
    ],
)
def test_wrong_numbers_are_told_in_a_sentence(params, message):
    with pytest.raises(ValueError, match=message):
        VerdictDisplay(**params)
