"""Claims about RobustnessCurveDisplay."""

import functools

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from sk_adv.attacks import fgsm, pgd
from sk_adv.inspection import RobustnessCurveDisplay


def exact_errors(weights_and_intercept, X, y, radii, scale=1.0):
    """The share of samples whose margin is at most ε Σ scale |w|."""
    weights, intercept = weights_and_intercept
    margin = np.where(y == "yes", 1, -1) * (X @ weights + intercept)
    return [np.mean(margin <= radius * np.sum(scale * np.abs(weights))) for radius in radii]


def test_curve_of_a_linear_model_is_the_exact_robust_error(binary, raw_weights):
    model, X, y = binary
    epsilons = np.linspace(0, 1, 6)
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=epsilons)
    exact = exact_errors(raw_weights(model), X, y, epsilons)
    np.testing.assert_allclose(display.errors, exact)
    assert exact[0] < 0.3 < exact[-1]
    np.testing.assert_array_equal(display.line_.get_xdata(), epsilons)
    np.testing.assert_array_equal(display.line_.get_ydata(), display.errors)


def test_several_curves_share_axes_and_legend(binary):
    model, X, y = binary
    _, ax = plt.subplots()
    for attack in ("fgsm", "pgd"):
        display = RobustnessCurveDisplay.from_estimator(
            model, X, y, epsilons=[0, 0.5], attacks=attack, ax=ax, curve_kwargs={"color": "k"}
        )
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["Pipeline (FGSM)", "Pipeline (PGD)"]
    assert "units of X" in ax.get_xlabel()
    assert "%" in ax.get_ylabel()


def shifted(module, X, y, epsilon, *, norm, bounds):
    return X + epsilon


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
        (fgsm, "Pipeline (FGSM)"),
        (functools.partial(pgd, n_steps=2, random_state=0), "Pipeline (PGD)"),
        (functools.partial(functools.partial(pgd, n_steps=2), random_state=0), "Pipeline (PGD)"),
        (Shift(), "Pipeline (Shift)"),
    ],
)
def test_a_curve_is_named_after_any_kind_of_attack(attack, name, binary):
    model, X, y = binary
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=[0.5], attacks=attack)
    assert display.name == name


@pytest.mark.parametrize(
    ("epsilons", "message"),
    [
        (0.1, r"epsilons must be a 1-D sequence .*; got 0\.1\."),
        ([], r"epsilons must be a 1-D sequence of at least one radius.*; got \[\]"),
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
        RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=epsilons, attacks=attack)
    assert attack.calls == 0


def test_a_curve_needs_as_many_errors_as_radii():
    with pytest.raises(ValueError, match=r"same length as epsilons; got shapes \(2,\) and \(3,\)"):
        RobustnessCurveDisplay(epsilons=[0, 1, 2], errors=[0, 1])


def test_errors_are_shares_and_not_percentages():
    with pytest.raises(ValueError, match=r"shares in \[0, 1\]; got values from 2\.5 to 60"):
        RobustnessCurveDisplay(epsilons=[0, 1, 2], errors=[2.5, np.nan, 60])


# Several curves


def test_each_model_has_a_curve_for_each_attack(binary, raw_weights):
    model, X, y = binary
    loose = clone(model).set_params(logisticregression__C=10).fit(X, y)
    radii = [0, 0.3, 0.9]
    display = RobustnessCurveDisplay.from_estimator(
        {"tight": model, "loose": loose},
        X,
        y,
        epsilons=radii,
        # One step of PGD from the sample itself is FGSM, the worst case of a linear model.
        attacks={
            "one": "fgsm",
            "two": {
                "attack": "pgd",
                "attack_params": {"n_steps": 1, "step_size": 1, "random_start": False},
            },
        },
    )
    assert display.name == ["tight (one)", "tight (two)", "loose (one)", "loose (two)"]
    tight_errors, loose_errors = (
        exact_errors(raw_weights(each), X, y, radii) for each in (model, loose)
    )
    expected = [tight_errors, tight_errors, loose_errors, loose_errors]
    np.testing.assert_allclose(display.errors, expected)
    assert tight_errors != loose_errors
    assert display.line_ is display.lines_
    for line, errors in zip(display.lines_, expected, strict=True):
        np.testing.assert_allclose(line.get_ydata(), errors)


def test_curves_of_each_of_several_models_share_colour_and_marker():
    display = RobustnessCurveDisplay(
        epsilons=[0, 1], errors=np.zeros((6, 2)), name=list("abcdef"), n_attacks=2
    ).plot()
    looks = [(line.get_color(), line.get_marker()) for line in display.lines_]
    assert looks[::2] == looks[1::2]
    assert len(set(looks)) == 3
    styles = [line.get_linestyle() for line in display.lines_]
    assert styles[::2] == ["-"] * 3 and styles[1::2] == ["--"] * 3


@pytest.mark.parametrize("n_models", [1, 2])
def test_a_curve_below_another_can_be_seen(n_models):
    display = RobustnessCurveDisplay(
        epsilons=[0, 1], errors=np.zeros((3 * n_models, 2)), n_attacks=3
    ).plot()
    for model in range(n_models):
        lines = display.lines_[3 * model : 3 * model + 3]
        widths = [line.get_linewidth() for line in lines]
        assert widths == sorted(widths, reverse=True)
        looks = [(line.get_linewidth(), line.get_linestyle()) for line in lines]
        assert len(set(looks)) == 3
        assert len({line.get_color() for line in lines}) == (3 if n_models == 1 else 1)


@pytest.mark.parametrize(
    ("attack", "shape"),
    [("fgsm", (1, 2)), (["fgsm", shifted], (2, 2)), (("fgsm", shifted), (2, 2))],
)
def test_lists_of_models_and_attacks_are_taken(attack, shape, binary):
    model, X, y = binary
    display = RobustnessCurveDisplay.from_estimator(
        [("m", model)], X, y, epsilons=[0, 1], attacks=attack
    )
    assert display.errors.shape == shape
    assert display.name == ["m (FGSM)", "m (shifted)"][: shape[0]]


def test_the_seed_goes_to_the_attacks_that_draw_random_numbers(binary):
    model, X, y = binary
    attacks = {"noise": {"attack": "uniform_noise"}, "gradient": "fgsm"}
    curves = [
        RobustnessCurveDisplay.from_estimator(
            model, X, y, epsilons=[0.5, 3], attacks=attacks, random_state=seed
        ).errors
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0][0] != curves[2][0]).any()
    np.testing.assert_array_equal(curves[0][1], curves[2][1])


def test_radii_may_be_multiples_of_a_radius_for_each_feature(binary, raw_weights):
    model, X, y = binary
    X = X * np.logspace(-3, 3, 16)
    model = clone(model).fit(X, y)
    radii, scale = [0, 0.2, 0.6], X.std(axis=0)
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=radii, scale=scale)
    expected = exact_errors(raw_weights(model), X, y, radii, scale)
    np.testing.assert_allclose(display.errors, expected)
    assert expected[0] < expected[1] < expected[2]
    assert "multiples of scale" in display.ax_.get_xlabel()


def test_a_curve_of_predictions_is_their_weighted_error():
    y_true = np.array(["a", "b", "b"])
    predictions = [["a", "b", "b"], ["a", "a", "b"], ["b", "a", "a"]]
    display = RobustnessCurveDisplay.from_predictions(
        y_true, predictions, epsilons=[0, 1, 2], sample_weight=[1, 2, 5], name="m"
    )
    np.testing.assert_allclose(display.errors, [0, 2 / 8, 1])
    several = RobustnessCurveDisplay.from_predictions(
        y_true, [predictions, predictions[::-1]], epsilons=[0, 1, 2], name=["m", "n"]
    )
    np.testing.assert_allclose(several.errors, [[0, 1 / 3, 1], [1, 1 / 3, 0]])


def test_weights_of_samples_count_under_attack(binary, raw_weights):
    model, X, y = binary
    weight = np.zeros(len(X))
    weight[3] = 1
    display = RobustnessCurveDisplay.from_estimator(
        model, X, y, epsilons=[0, 0.5, 2], sample_weight=weight
    )
    expected = exact_errors(raw_weights(model), X[3:4], y[3:4], [0, 0.5, 2])
    np.testing.assert_array_equal(display.errors, expected)


@pytest.mark.parametrize(
    ("y_true", "predictions", "message"),
    [
        ([0, 1], [0, 1], r"predictions must have shape \(n_radii, n_samples\) or \(n_curves"),
        ([0, 1, 1], [[0, 1], [0, 1]], r"of shape \(2, 2\) and y_true of shape \(3,\)"),
        ([[0], [1]], [[0, 1], [0, 1]], r"y_true of shape \(2, 1\)"),
        (["a", "b"], [[0, 1], [0, 1]], r"(?i)mix of label"),
        ([0, 1], [[0, 1]], r"got shapes \(1,\) and \(2,\)"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(y_true, predictions, message):
    with pytest.raises((ValueError, TypeError), match=message):
        RobustnessCurveDisplay.from_predictions(y_true, predictions, epsilons=[0, 1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "one"}, r"got 'one' for errors of shape \(2, 1\)"),
        ({"name": ["one"]}, "hold one name per curve"),
        ({"n_attacks": 3}, "n_attacks must divide the number of curves, 2; got 3"),
        ({"n_attacks": 0}, "n_attacks == 0, must be >= 1"),
    ],
)
def test_names_and_attacks_fit_the_number_of_curves(params, message):
    with pytest.raises(ValueError, match=message):
        RobustnessCurveDisplay(epsilons=[0], errors=[[0], [1]], **params)


def test_curves_can_be_styled_one_by_one_and_by_short_names():
    display = RobustnessCurveDisplay(epsilons=[0, 1], errors=np.zeros((2, 2)))
    lines = display.plot(curve_kwargs=[{"ls": ":", "c": "k"}, {"lw": 3}]).lines_
    assert (lines[0].get_linestyle(), lines[0].get_color(), lines[1].get_linewidth()) == (
        ":",
        "k",
        3,
    )
    with pytest.raises(ValueError, match="a list of 2 dicts, one per curve; got 1"):
        display.plot(curve_kwargs=[{}])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"attacks": ["fgsm", "fsgm"]}, "got 'fsgm'"),
        ({"attacks": {"many": {"n_steps": 3}}}, r"attacks\['many'\] must be an attack"),
        ({"attacks": []}, "at least one"),
        ({"estimator": {}}, "dict of name to fitted estimator"),
        ({"estimator": [LogisticRegression()]}, "dict of name to fitted estimator"),
        ({"estimator": [("a", 1), ("a", 2)]}, "different names"),
        ({"scale": [1.0, 2.0]}, r"scale must be .* shape \(16,\)"),
        ({"scale": -1.0}, "scale must be finite and at least 0"),
    ],
)
def test_what_is_wrong_with_models_attacks_and_scale_is_said_first(params, message, binary):
    model, X, y = binary
    first = Shift()
    if isinstance(params.get("attacks"), list) and params["attacks"]:
        params = {"attacks": [first, *params["attacks"]]}
    with pytest.raises(ValueError, match=message):
        RobustnessCurveDisplay.from_estimator(
            **{"estimator": model, "X": X, "y": y, "epsilons": [0.1], **params}
        )
    assert first.calls == 0


def test_a_model_without_a_rule_needs_a_surrogate(binary, raw_weights):
    model, X, y = binary
    neighbors = KNeighborsClassifier().fit(X, y)
    with pytest.raises(TypeError, match="no rule for KNeighborsClassifier"):
        RobustnessCurveDisplay.from_estimator(neighbors, X, y, epsilons=[0.1], attacks="fgsm")
    display = RobustnessCurveDisplay.from_estimator(
        neighbors, X, y, epsilons=[0, 1], surrogate=FrozenEstimator(model)
    )
    copies = X - np.where(y == "yes", 1, -1)[:, None] * np.sign(raw_weights(model)[0])
    np.testing.assert_allclose(
        display.errors, [1 - neighbors.score(X, y), 1 - neighbors.score(copies, y)]
    )


def test_many_curves_leave_their_legend_beside_the_axes():
    display = RobustnessCurveDisplay(
        epsilons=[0, 1], errors=np.full((5, 2), 0.5), name=list("abcde")
    ).plot()
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend().get_window_extent()
    axes = display.ax_.get_window_extent()
    assert legend.x0 >= axes.x1
    assert legend.x1 <= display.figure_.bbox.x1


def test_the_curve_of_the_worst_case_takes_sparse_samples(binary):
    model, X, y = binary
    options = {"epsilons": [0, 0.2], "attacks": "exact"}
    found = RobustnessCurveDisplay.from_estimator(model, sparse.csr_array(X), y, **options)
    expected = RobustnessCurveDisplay.from_estimator(model, X, y, **options)
    np.testing.assert_array_equal(found.errors, expected.errors)
