"""Claims about AdversarialExamplesDisplay."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.svm import LinearSVC

from sk_adv.inspection import AdversarialExamplesDisplay

EPSILON = 0.5


def captions(display):
    """The texts under the inputs, then those under the copies."""
    names = {"input", "copy"}
    texts = [text.get_text() for text in display.ax_.texts]
    return [text for text in texts if text not in names and not text.startswith("perturbation")]


def test_examples_hold_the_closed_form_copies_and_the_models_own_predictions(binary, raw_weights):
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
        model,
        X[:3],
        y[:3],
        epsilon=EPSILON,
        attack="pgd",
        attack_params={"n_steps": 3},
        random_state=0,
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
        ({"labels": [3]}, r"labels must hold one entry per sample.* \(2,\); got shape \(1,\)"),
        ({"labels": [[3], [5]]}, r"labels must hold one entry .* got shape \(2, 1\)"),
        ({"input_predictions": [3, 5, 1]}, "input_predictions must hold one entry"),
        ({"input_probabilities": 0.5}, "input_probabilities must hold one entry"),
        ({"copy_predictions": []}, "copy_predictions must hold one entry"),
        ({"copy_probabilities": [0.5]}, "copy_probabilities must hold one entry"),
        ({"labels": ["3", "5"]}, "Mix of label input types"),
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


def test_of_probabilities_the_most_probable_class_is_shown():
    X = np.zeros((2, 4))
    display = AdversarialExamplesDisplay.from_predictions(
        X,
        X + 1,
        ["cat", "dog"],
        [[0.7, 0.3], [0.2, 0.8]],
        [[0.1, 0.9], [0.45, 0.55]],
        classes=["cat", "dog"],
    )
    assert display.input_predictions.tolist() == ["cat", "dog"]
    assert display.copy_predictions.tolist() == ["dog", "dog"]
    assert captions(display) == ["cat (70%)", "dog (80%)", "dog (90%)", "dog (55%)"]
    numbers = AdversarialExamplesDisplay.from_predictions(X, X, [0, 1], np.eye(2), np.eye(2))
    assert numbers.copy_predictions.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("input_proba", "copy_proba", "classes", "message"),
    [
        (np.eye(2), np.eye(2), ["a", "b", "c"], "one column per class"),
        (np.eye(2), np.ones((2, 3)), None, r"got shapes \(2, 2\) and \(2, 3\)"),
        (np.eye(3), np.eye(3), None, "input_predictions must hold one entry per sample"),
        ([0, 1], np.eye(2), None, "Expected 2D array"),
    ],
)
def test_probabilities_that_do_not_fit_are_refused(input_proba, copy_proba, classes, message):
    X = np.zeros((2, 4))
    with pytest.raises(ValueError, match=message):
        AdversarialExamplesDisplay.from_predictions(
            X, X, [0, 1], input_proba, copy_proba, classes=classes
        )


@pytest.mark.parametrize("model", [LinearSVC(), RidgeClassifier(), SGDClassifier(random_state=0)])
def test_a_model_without_probabilities_shows_classes_only(model, binary):
    _, X, y = binary
    model.fit(X, y)
    display = AdversarialExamplesDisplay.from_estimator(model, X[:3], y[:3], epsilon=EPSILON)
    copies = display.copies.reshape(3, 16)
    sign = np.where(y[:3] == "yes", -1, 1)[:, None]
    np.testing.assert_allclose(copies, X[:3] + EPSILON * sign * np.sign(model.coef_))
    assert display.copy_probabilities is None
    assert captions(display) == [*model.predict(X[:3]), *model.predict(copies)]


def test_the_class_shown_is_the_one_that_the_model_predicts(binary):
    _, X, y = binary
    # A threshold makes the less probable class the prediction.
    model = FixedThresholdClassifier(FrozenEstimator(binary[0]), threshold=0.2).fit(X, y)
    predicted, probability = model.predict(X), model.predict_proba(X)
    unlikely = np.flatnonzero((predicted == "yes") & (probability[:, 1] < 0.5))[:2]
    display = AdversarialExamplesDisplay.from_estimator(
        model, X[unlikely], y[unlikely], epsilon=0.01, surrogate=FrozenEstimator(binary[0])
    )
    assert display.input_predictions.tolist() == ["yes", "yes"]
    np.testing.assert_allclose(display.input_probabilities, probability[unlikely, 1])


def test_perturbations_of_unsigned_integers_do_not_wrap_around():
    X = np.array([[0, 200, 7, 255]], dtype=np.uint8)
    copies = np.array([[3, 190, 7, 0]], dtype=np.uint8)
    display = AdversarialExamplesDisplay.from_predictions(X, copies, [0], [[1, 0]], [[0, 1]])
    np.testing.assert_array_equal(display.perturbations, [[[3, -10], [0, -255]]])


def test_images_may_have_colours():
    inputs = np.random.default_rng(0).random((2, 5 * 4 * 3))
    inputs[0, :2] = 0, 1
    copies = inputs.copy()
    copies[0, 10] = np.clip(copies[0, 10] - 0.3, 0, 1)
    display = AdversarialExamplesDisplay.from_predictions(
        inputs, copies, [0, 1], np.eye(2), np.eye(2), image_shape=(5, 4, 3)
    )
    np.testing.assert_allclose(display.images_[0, 1].get_array(), inputs[1].reshape(5, 4, 3))
    # A perturbation of 0 is grey, and the largest one is at the end of the scale.
    shown = display.images_[1, 0].get_array().ravel()
    assert shown[10] == pytest.approx(0)
    np.testing.assert_allclose(np.delete(shown, 10), 0.5)
    with pytest.raises(ValueError, match=r"\(height, width, 3\) with product 60.*got \(5, 12, 1\)"):
        AdversarialExamplesDisplay.from_predictions(
            inputs, copies, [0, 1], np.eye(2), np.eye(2), image_shape=(5, 12, 1)
        )


def extents(display):
    display.figure_.canvas.draw()
    return [text.get_window_extent() for text in display.ax_.texts]


@pytest.mark.parametrize("names", [["a", "b"], ["setosa", "versicolor"]])
def test_texts_do_not_overlap(names):
    X = np.zeros((4, 784))
    display = AdversarialExamplesDisplay.from_predictions(
        X, X, [names[1]] * 4, [[1, 0]] * 4, [[0, 1]] * 4, classes=names
    )
    boxes = extents(display)
    boxes += [image.get_window_extent() for image in display.images_.ravel()]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert box.x0 >= 0 and box.x1 <= display.figure_.bbox.x1
        assert box.y0 >= 0 and box.y1 <= display.figure_.bbox.y1


def test_texts_shrink_on_small_axes():
    X = np.zeros((5, 784))
    _, axes = plt.subplots(2, 2, figsize=(10, 7))
    display = AdversarialExamplesDisplay.from_predictions(
        X, X, [1] * 5, [[1, 0]] * 5, [[1, 0]] * 5, ax=axes[0, 0]
    )
    boxes = extents(display)
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
