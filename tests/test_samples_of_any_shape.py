"""Convolutional networks on images of shape (channels, height, width), in every function."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from torch import nn

from sk_adv import FGSMTransformer, as_module
from sk_adv.attacks import perturb
from sk_adv.differentiable import Enclosure, enclose
from sk_adv.inspection import (
    AdversarialExamplesDisplay,
    EpsilonSweepDisplay,
    RobustnessCurveDisplay,
    TransferMatrixDisplay,
)
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    certified_accuracy_score,
    robustness_radius,
    transfer_error_matrix,
)
from sk_adv.neural_network import AdversarialNet

mpl.use("Agg")
EPSILON = 0.1


@pytest.fixture(scope="module")
def images():
    """300 digits as images of three equal channels, class indices."""
    X, y = load_digits(return_X_y=True)
    images = (X[:300] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return images.repeat(3, axis=1), y[:300]


def fitted(module, images, **params):
    torch.manual_seed(0)
    net = AdversarialNet(
        module,
        epsilon=EPSILON,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=15,
        batch_size=50,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **params,
    )
    return net.fit(*images)


@pytest.fixture(scope="module")
def net(images):
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return fitted(nn.Sequential(*layers, nn.Linear(128, 10)), images)


@pytest.fixture(scope="module")
def linear(images):
    return fitted(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), images)


def test_scores_reports_and_curves(net, linear, images):
    X, y = images
    clean = adversarial_accuracy_score(net, X, y, epsilon=0)
    assert clean == np.mean(net.predict(X) == y) > 0.9
    attacked = adversarial_accuracy_score(net, X, y, epsilon=EPSILON, attack="pgd", random_state=0)
    assert attacked < clean
    report = adversarial_report(net, X, y, [0, EPSILON], ["fgsm"])
    assert report["error"].tolist()[0] == 1 - clean
    assert (report["error"] <= report["certified_error"]).all()
    curve = RobustnessCurveDisplay.from_estimator(net, X, y, epsilons=[0, EPSILON], attacks="fgsm")
    np.testing.assert_array_equal(curve.errors, report["error"])
    errors = transfer_error_matrix([net, linear], X, y, EPSILON)
    assert errors[0, 0] == curve.errors[1]
    display = TransferMatrixDisplay.from_estimators(
        {"net": net, "linear": linear}, X, y, epsilon=EPSILON
    )
    np.testing.assert_array_equal(display.errors, errors)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    "attack", ["fgsm", "fgsm_rs", "pgd", "apgd", "sign_noise", "rotate_towards_gradient"]
)
def test_copies_have_the_shape_of_the_samples_and_keep_to_the_radius(
    attack, as_tensor, net, images
):
    X, y = images
    given = torch.from_numpy(X) if as_tensor else X
    copies = perturb(net, given, y, epsilon=EPSILON, attack=attack, random_state=0)
    assert type(copies) is type(given) and copies.shape == X.shape
    assert 0.5 * EPSILON < np.abs(np.asarray(copies) - X).max() <= EPSILON * (1 + 1e-5)


def test_radii_and_bounds_per_channel_broadcast(net, images):
    X, y = images
    radii = np.array([0.1, 0.0, 0.2]).reshape(3, 1, 1)
    low = np.array([0.0, 0.0, 0.1]).reshape(3, 1, 1)
    copies = perturb(net, X, y, epsilon=radii, bounds=(low, 1))
    inside = np.clip(X, low, 1)
    np.testing.assert_allclose(np.abs(copies - inside).max((0, 2, 3)), radii.ravel(), rtol=1e-5)
    assert copies[:, 2].min() == np.float32(0.1)
    whole = np.broadcast_to(radii, (3, 8, 8))
    np.testing.assert_array_equal(copies, perturb(net, X, y, epsilon=whole, bounds=(low, 1)))


def test_the_exact_attack_and_the_radius_of_a_linear_network_are_its_closed_form(linear, images):
    X, y = images
    weight = linear.module_[1].weight.detach().numpy().astype(np.float64)
    bias = linear.module_[1].bias.detach().numpy()
    logits = X.reshape(len(X), -1).astype(np.float64) @ weight.T + bias
    predicted = logits.argmax(1)
    radii = np.full(len(X), np.inf)
    for k in range(10):
        gap = logits[np.arange(len(X)), predicted] - logits[:, k]
        reach = np.abs(weight[predicted] - weight[k]).sum(1)
        radii = np.where(k == predicted, radii, np.minimum(radii, gap / np.maximum(reach, 1e-12)))
    np.testing.assert_allclose(robustness_radius(linear, X), radii, rtol=1e-4)
    right = predicted == y
    for epsilon in (0.02, 0.05):
        expected = np.mean(right & (radii > epsilon))
        found = adversarial_accuracy_score(linear, X, y, epsilon=epsilon, attack="exact")
        assert found == certified_accuracy_score(linear, X, y, epsilon=epsilon) == expected


LAYERS = {
    "convolution": lambda: nn.Conv2d(3, 4, 3, padding=1, stride=2),
    "grouped": lambda: nn.Conv2d(3, 6, 2, groups=3, bias=False),
    "max pooling": lambda: nn.MaxPool2d(2, padding=1),
    "mean pooling": lambda: nn.AvgPool2d(3, padding=1),
    "several": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 5, 2), nn.Flatten()
    ),
}


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_bounds_of_layers_hold_all_points_of_the_set(name, norm):
    torch.manual_seed(0)
    module = LAYERS[name]().double().eval()
    X = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    epsilon = torch.tensor([0.1, 0.3, 0.0]).reshape(3, 1, 1)
    region = enclose(module, Enclosure.around(X, epsilon, norm))
    low, high = region.limits()
    steps = torch.randn(500, 2, 3, 6, 6, dtype=torch.float64)
    steps = (
        steps.sign()
        if norm == np.inf
        else steps / steps.flatten(2).norm(dim=2)[..., None, None, None]
    )
    with torch.no_grad():
        values = torch.stack([module(X + epsilon * step).flatten(1) for step in steps])
    assert (values >= low).all() and (values <= high).all()
    middle = module(X).flatten(1).detach()
    assert (low <= middle).all() and (middle <= high).all()
    if name == "convolution" and norm == np.inf:
        # One layer's bound is attained: by the signs of its weights.
        weight = module.weight.detach()
        reach = torch.nn.functional.conv2d(
            epsilon.double().expand(1, 3, 6, 6), weight.abs(), stride=2, padding=1
        )
        torch.testing.assert_close(
            (high - low) / 2, reach.flatten(1).expand(2, -1), rtol=1e-9, atol=1e-12
        )


def test_certificates_of_a_convolutional_network_lie_below_its_attacks(net, images):
    X, y = images
    for norm, epsilon in ((np.inf, 0.01), (2, 0.1)):
        certified = certified_accuracy_score(net, X, y, epsilon=epsilon, norm=norm)
        attacked = adversarial_accuracy_score(
            net, X, y, epsilon=epsilon, norm=norm, attack="pgd", random_state=0
        )
        assert 0.3 < certified <= attacked


def test_images_are_drawn_as_they_are(net, images):
    X, y = images
    display = AdversarialExamplesDisplay.from_estimator(net, X[:3], y[:3], epsilon=EPSILON)
    assert display.inputs.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(display.inputs[..., 0], X[:3, 0])
    sweep = EpsilonSweepDisplay.from_estimator(net, X[:1], y[:1], epsilons=[-0.1, 0, 0.1])
    with torch.no_grad():
        logits = as_module(net)(torch.from_numpy(X[:1]))
    np.testing.assert_allclose(sweep.logits[1], logits[0], rtol=1e-4, atol=1e-5)


def test_a_transformer_gives_images_for_images(net, images):
    X, y = images
    transformer = FGSMTransformer(FrozenEstimator(net), epsilon=EPSILON).fit(X, y)
    assert transformer.transform(X).shape == X.shape


def test_a_sample_of_another_shape_is_named(net, images):
    X, y = images
    with pytest.raises(ValueError, match="module can't take X in batches of shape"):
        adversarial_accuracy_score(net, X[:, :1], y, epsilon=0.1)
    with pytest.raises(ValueError, match=r"one entry per feature, shape \(3, 8, 8\), or a shape"):
        adversarial_accuracy_score(net, X, y, epsilon=np.ones(3))
