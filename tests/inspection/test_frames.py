"""to_frame of displays, and the display of contributions."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from sk_adv.inspection import (
    AdversarialContributionDisplay,
    EpsilonSweepDisplay,
    RobustnessCurveDisplay,
    TransferMatrixDisplay,
    VerdictDisplay,
)
from sk_adv.metrics import adversarial_contribution, adversarial_report

X, Y = load_iris(return_X_y=True)


def test_frames_hold_the_numbers_of_their_displays():
    verdicts = VerdictDisplay(epsilons=[0, 1], verified=[0.9, 0.2], falsified=[0.1, 0.5])
    frame = verdicts.to_frame()
    assert frame.columns.tolist() == ["verified", "unknown", "falsified"]
    assert frame.index.tolist() == [0, 1]
    np.testing.assert_array_equal(frame["unknown"], verdicts.unknown)

    one = RobustnessCurveDisplay(epsilons=[0, 1], errors=[0.1, 0.5]).to_frame()
    assert one["error"].tolist() == [0.1, 0.5]
    two = RobustnessCurveDisplay(epsilons=[0, 1], errors=[[0.1, 0.5], [0, 1]], name=["a", "b"])
    assert two.to_frame().loc[1].to_dict() == {"a": 0.5, "b": 1.0}

    sweep = EpsilonSweepDisplay(epsilons=[0, 2], logits=np.eye(2), classes=["n", "y"], label="y")
    assert sweep.to_frame()["y"].to_dict() == {0: 0.0, 2: 1.0}

    transfer = TransferMatrixDisplay(errors=[[1, 0.3], [np.nan, 0]], names=["p", "q"]).to_frame()
    assert transfer.loc["p", "q"] == 0.3


def test_the_most_important_columns_stand_at_the_top():
    shares = np.linspace(0, 0.6, 25)
    display = AdversarialContributionDisplay(
        contribution=shares, upper=shares + 0.1, lower=shares / 2, name="A"
    ).plot(max_columns=3)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["24", "23", "22"]
    assert [bar.get_width() for bar in display.bars_] == pytest.approx(shares[:-4:-1])
    low, high = display.ax_.get_ylim()
    assert low > high
    assert display.ax_.get_title() == "A (22 more columns are not shown)"
    ends = [segment[:, 0] for segment in display.errors_.get_segments()]
    np.testing.assert_allclose(ends, np.c_[shares / 2, shares + 0.1][:-4:-1])
    assert display.to_frame().index[0] == "24"


def test_a_display_of_an_estimator_has_its_contributions():
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    display = AdversarialContributionDisplay.from_estimator(model, X, Y, 0.3)
    found = adversarial_contribution(model, X, Y, 0.3)
    np.testing.assert_array_equal(display.contribution, found.contribution)
    assert display.kind == "share"
    assert display.errors_ is None
    assert display.ax_.get_title() == "LogisticRegression"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"contribution": [[0.1]]}, "contribution must have shape"),
        ({"contribution": [0.1], "upper": [0.2, 0.3]}, "upper must have one number"),
        ({"contribution": [0.1], "lower": [0.2]}, "must lie between"),
        ({"contribution": [0.1], "upper": [1.2]}, "must lie between"),
        ({"contribution": [0.1], "kind": "zz"}, "kind must be"),
        ({"contribution": [0.1], "columns": ["a", "b"]}, "one name per column"),
    ],
)
def test_wrong_contributions_are_told_in_a_sentence(params, message):
    with pytest.raises(ValueError, match=message):
        AdversarialContributionDisplay(**params)


def test_a_progress_bar_counts_attacks_and_processes_change_nothing(capsys):
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    options = {"epsilons": [0, 0.1], "attacks": ["fgsm", "exact"]}
    loud = adversarial_report(model, X, Y, **options, verbose=True, n_jobs=1)
    assert "4/4" in capsys.readouterr().err
    assert loud.equals(adversarial_report(model, X, Y, **options))
    assert not capsys.readouterr().err
    curve = RobustnessCurveDisplay.from_estimator(model, X, Y, **options, verbose=True, n_jobs=1)
    assert "4/4" in capsys.readouterr().err
    assert curve.errors.shape == (2, 2)
    VerdictDisplay.from_estimator(model, X, Y, epsilons=[0, 0.1], verbose=True)
    assert "2/2" in capsys.readouterr().err
