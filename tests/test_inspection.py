"""Claims about the displays: the numbers they store are right, and what is drawn is the numbers."""

import builtins
import functools
import inspect

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.attacks import fgsm, pgd
from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay

EPSILON = 0.5


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def binary():
    """A logistic regression on 16 scaled features, its data, and labels that are words."""
    X, y = make_classification(
        n_samples=60, n_features=16, n_informative=6, flip_y=0.1, random_state=0
    )
    y = np.array(["no", "yes"])[y]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, y)
    return model, X, y


def raw_weights(model):
    """w and b of the model as a function of raw X."""
    scaler, linear = model
    weights = linear.coef_[0] / scaler.scale_
    return weights, linear.intercept_[0] - weights @ scaler.mean_


def texts(ax):
    return [text.get_text() for text in ax.texts]


# FilterDisplay


def test_filters_of_a_linear_model_are_its_coefficients(binary):
    model, _, _ = binary
    display = FilterDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.weights, model[-1].coef_.reshape(1, 4, 4))
    assert display.names is None


def test_filters_of_several_classes_bear_the_classes_names():
    X, y = make_classification(n_samples=90, n_features=9, n_informative=5, n_classes=3)
    model = LogisticRegression().fit(X, np.array(["a", "b", "c"])[y])
    display = FilterDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.weights, model.coef_.reshape(3, 3, 3))
    assert texts(display.ax_) == ["a", "b", "c"]


def test_filters_of_a_perceptron_are_the_columns_of_its_first_layer(binary):
    _, X, y = binary
    model = MLPClassifier([7], max_iter=2000, tol=0.1).fit(X, y)
    display = FilterDisplay.from_estimator(model, image_shape=(2, 8), max_filters=5)
    np.testing.assert_array_equal(display.weights, model.coefs_[0].T[:5].reshape(5, 2, 8))


def test_filters_of_a_maxout_network_are_its_pieces_unit_by_unit(binary):
    _, X, y = binary
    model = AdversarialMaxoutClassifier((3,), n_pieces=2, max_iter=1, device="cpu").fit(X, y)
    layer = model.net_.module_.layers[0]
    display = FilterDisplay.from_estimator(model)
    for unit in range(3):
        for piece in range(2):
            np.testing.assert_array_equal(
                display.weights[2 * unit + piece].ravel(), layer.weight[piece, unit].detach()
            )


def test_filters_of_a_search_are_those_of_its_best_estimator(binary):
    model, X, y = binary
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1]}, cv=2).fit(X, y)
    best = search.best_estimator_[-1].coef_.reshape(1, 4, 4)
    for wrapped in (search, FrozenEstimator(search)):
        display = FilterDisplay.from_estimator(wrapped)
        np.testing.assert_array_equal(display.weights, best)


@pytest.mark.parametrize(
    ("max_filters", "error"), [(-1, ValueError), (0, ValueError), (1.5, TypeError)]
)
def test_max_filters_is_a_number_of_filters(max_filters, error, binary):
    with pytest.raises(error, match="max_filters"):
        FilterDisplay.from_estimator(binary[0], max_filters=max_filters)


def test_n_columns_is_a_number_of_columns():
    display = FilterDisplay(weights=np.ones((2, 16)))
    for n_columns in (-1, 0):
        with pytest.raises(ValueError, match="n_columns"):
            display.plot(n_columns=n_columns)


def test_filters_are_drawn_where_they_belong_on_a_scale_about_zero():
    weights = np.arange(-12.0, 12.0).reshape(4, 6)
    display = FilterDisplay(weights=weights, image_shape=(2, 3)).plot(n_columns=2)
    mosaic = display.image_.get_array()
    for index, (top, left) in enumerate([(1, 0), (1, 4), (4, 0), (4, 4)]):
        np.testing.assert_array_equal(
            mosaic[top : top + 2, left : left + 3], weights[index].reshape(2, 3)
        )
    assert mosaic.mask.sum() == mosaic.size - weights.size
    assert display.image_.get_clim() == (-12, 12)


def test_each_filter_can_have_a_scale_of_its_own():
    weights = np.array([[1.0, -2, 0, 0], [100, 0, 0, -50], [0, 0, 0, 0]])
    display = FilterDisplay(weights=weights).plot(scale="each", colorbar=True)
    shown = display.image_.get_array().compressed()
    np.testing.assert_allclose(np.sort(shown)[[0, 1, -2, -1]], [-1, -0.5, 0.5, 1])
    np.testing.assert_array_equal(display.weights.reshape(3, 4), weights)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (3, 3)}, r"height \* width = 16.* got \(3, 3\)"),
        ({"image_shape": 4}, r"image_shape must be \(height, width\).*; got 4\."),
        ({"image_shape": (4, 4, 1)}, r"image_shape must be .* got \(4, 4, 1\)"),
        ({"image_shape": (-4, -4)}, r"image_shape must be .* got \(-4, -4\)"),
        ({"image_shape": (3.2, 5)}, r"image_shape must be .* got \(3\.2, 5\)"),
        ({"names": ["one"]}, "one name a filter, 2; got 1"),
    ],
)
def test_filters_refuse_shapes_and_names_that_do_not_fit(params, message):
    with pytest.raises(ValueError, match=message):
        FilterDisplay(weights=np.ones((2, 16)), **params)


def test_features_that_make_no_square_need_an_image_shape():
    with pytest.raises(ValueError, match="12 is not a square"):
        FilterDisplay(weights=np.ones((2, 12)))


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale must be 'shared' or 'each'; got 'own'"):
        FilterDisplay(weights=np.ones((2, 16))).plot(scale="own")


def test_a_model_without_weights_is_refused(binary):
    _, X, y = binary
    with pytest.raises(TypeError, match="no weights on the input in a KNeighborsClassifier"):
        FilterDisplay.from_estimator(KNeighborsClassifier().fit(X, y))


# AdversarialExamplesDisplay


def test_examples_hold_the_closed_form_copies_and_the_models_own_predictions(binary):
    model, X, y = binary
    display = AdversarialExamplesDisplay.from_estimator(model, X[:6], y[:6], epsilon=EPSILON)
    weights, _ = raw_weights(model)
    sign = np.where(y[:6] == "yes", -1, 1)
    copies = X[:6] + EPSILON * np.outer(sign, np.sign(weights))
    np.testing.assert_allclose(display.copies.reshape(6, 16), copies)
    np.testing.assert_allclose(np.abs(display.perturbations), EPSILON)
    np.testing.assert_array_equal(display.input_predictions, model.predict(X[:6]))
    np.testing.assert_array_equal(display.copy_predictions, model.predict(copies))
    np.testing.assert_allclose(
        display.copy_probabilities, model.predict_proba(copies).max(axis=1), rtol=1e-6
    )


def test_examples_draw_input_perturbation_and_copy_of_each_sample(binary):
    model, X, y = binary
    display = AdversarialExamplesDisplay.from_estimator(
        model, X[:3], y[:3], epsilon=EPSILON, attack="pgd", n_steps=3, random_state=0
    )
    for row, images in enumerate([display.inputs, display.perturbations, display.copies]):
        for column, image in enumerate(images):
            np.testing.assert_array_equal(display.images_[row, column].get_array(), image)
    low, high = display.images_[1, 0].get_clim()
    assert low == -high == pytest.approx(-EPSILON)
    assert display.images_[0, 0].get_clim() == display.images_[2, 0].get_clim()


def test_wrong_predictions_are_red_and_sure_ones_are_not_called_certain():
    zeros = np.zeros((2, 4))
    display = AdversarialExamplesDisplay(
        inputs=zeros,
        copies=zeros,
        labels=[3, 5],
        input_predictions=[3, 5],
        input_probabilities=[0.5, 0.9999],
        copy_predictions=[8, 5],
        copy_probabilities=[1.0, 0.75],
    ).plot()
    colors = {text.get_text(): text.get_color() for text in display.ax_.texts}
    assert colors["3 (50%)"] == colors["5 (>99%)"] == colors["5 (75%)"] == "black"
    assert colors["8 (>99%)"] == "tab:red"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"copies": np.zeros((3, 4))}, r"copies must have the shape of inputs, \(2, 4\)"),
        ({"copies": np.zeros((2, 9))}, r"copies must have the shape of inputs, \(2, 4\)"),
        ({"labels": [3]}, r"labels must hold one entry a sample.* \(2,\); got shape \(1,\)"),
        ({"labels": [[3], [5]]}, r"labels must hold one entry .* got shape \(2, 1\)"),
        ({"input_predictions": [3, 5, 1]}, "input_predictions must hold one entry"),
        ({"input_probabilities": 0.5}, "input_probabilities must hold one entry"),
        ({"copy_predictions": []}, "copy_predictions must hold one entry"),
        ({"copy_probabilities": [0.5]}, "copy_probabilities must hold one entry"),
    ],
)
def test_examples_refuse_lengths_that_do_not_fit(changed, message):
    params = {
        "inputs": np.zeros((2, 4)),
        "copies": np.zeros((2, 4)),
        "labels": [3, 5],
        "input_predictions": [3, 5],
        "input_probabilities": [0.5, 0.9],
        "copy_predictions": [8, 5],
        "copy_probabilities": [0.6, 0.7],
    }
    AdversarialExamplesDisplay(**params)
    with pytest.raises(ValueError, match=message):
        AdversarialExamplesDisplay(**params | changed)


# RobustnessCurveDisplay


def test_curve_of_a_linear_model_is_the_exact_robust_error(binary):
    model, X, y = binary
    epsilons = np.linspace(0, 1, 6)
    display = RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=epsilons)
    weights, intercept = raw_weights(model)
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
    with pytest.raises(ValueError, match=r"same length; got shapes \(3,\) and \(2,\)"):
        RobustnessCurveDisplay(epsilons=[0, 1, 2], errors=[0, 1])


# All


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
