"""Claims about FilterDisplay."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from skorch import NeuralNetClassifier
from torch import nn

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.inspection import FilterDisplay


def texts(ax):
    return [text.get_text() for text in ax.texts]


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


def test_filters_of_a_linear_model_may_be_sparse():
    X, y = make_classification(n_samples=90, n_features=9, n_informative=5, n_classes=3)
    model = SGDClassifier().fit(X, y)
    dense = model.coef_.copy()
    display = FilterDisplay.from_estimator(model.sparsify())
    np.testing.assert_array_equal(display.weights, dense.reshape(3, 3, 3))


def test_filters_of_a_regressor_of_several_targets_bear_no_names(binary):
    _, X, _ = binary
    model = Ridge().fit(X, X[:, :3])
    display = FilterDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.weights, model.coef_.reshape(3, 4, 4))
    assert display.names is None


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


def test_filters_of_networks_are_the_rows_of_their_first_layer(binary):
    _, X, y = binary
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    net = NeuralNetClassifier(module, max_epochs=1, train_split=None, verbose=0, device="cpu")
    net.fit(X.astype(np.float32), (y == "yes").astype(int))
    for model, layer in ((module, module[1]), (net, net.module_[1])):
        display = FilterDisplay.from_estimator(model)
        np.testing.assert_array_equal(display.weights.reshape(5, 16), layer.weight.detach())


def test_networks_whose_first_layer_does_not_see_the_whole_input_are_refused():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(TypeError, match="begins with a linear or maxout layer"):
        FilterDisplay.from_estimator(module)


def test_filters_of_a_linear_svc_of_pairs_bear_the_names_of_both_classes(iris):
    _, X, y = iris
    X, y = np.vstack([X, X[:50] + 9]), np.append(y, ["other"] * 50)
    model = SVC(kernel="linear").fit(X, y)
    display = FilterDisplay.from_estimator(model, image_shape=(2, 2))
    first, second = display.names[1].split(" vs ")
    # The first of its two classes is on the positive side.
    score = X @ model.coef_[1] + model.intercept_[1]
    assert score[y == first].min() > 0 > score[y == second].max()
    assert len(display.names) == 6


def test_an_unfitted_model_is_refused(binary):
    for model in (clone(binary[0]), GridSearchCV(LogisticRegression(), {"C": [1]})):
        with pytest.raises(NotFittedError):
            FilterDisplay.from_estimator(model)


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
        ({"image_shape": (3, 3)}, r"with product 16.* got \(3, 3\)"),
        ({"image_shape": 4}, r"image_shape must be \(height, width\).*; got 4\."),
        ({"image_shape": (4, 4, 1)}, r"image_shape must be .* got \(4, 4, 1\)"),
        ({"image_shape": (-4, -4)}, r"image_shape must be .* got \(-4, -4\)"),
        ({"image_shape": (3.2, 5)}, r"image_shape must be .* got \(3\.2, 5\)"),
        ({"names": ["one"]}, "one name per filter, 2; got 1"),
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
    with pytest.raises(TypeError, match="needs a model with coef_.*got a KNeighborsClassifier"):
        FilterDisplay.from_estimator(KNeighborsClassifier().fit(X, y))
