"""Claims about AdversarialExamplesDisplay."""

import numpy as np
import pytest

from sk_adv.inspection import AdversarialExamplesDisplay

EPSILON = 0.5


def test_examples_hold_the_closed_form_copies_and_the_models_own_predictions(binary, raw_weights):
    model, X, y = binary
    display = AdversarialExamplesDisplay.from_estimator(model, X[:6], y[:6], epsilon=EPSILON)
    weights, _ = raw_weights
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
