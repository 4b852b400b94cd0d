"""scikit-learn's and skorch's networks as modules."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from sk_adv import as_module
from sk_adv.attacks import fgsm
from sk_adv.differentiable._linear import fold_linear
from sk_adv.neural_network import AdversarialNet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# skorch predicts with the first of several outputs, but has no loss for several.
UNTRAINED = {"max_epochs": 0}


class TwoHeads(nn.Module):
    """A module with a second output besides the logits."""

    def __init__(self, n_outputs):
        super().__init__()
        self.output = nn.Linear(8, n_outputs)

    def forward(self, X):
        hidden = X.tanh()
        return self.output(hidden), hidden


def layers(n_outputs, *last):
    return nn.Sequential(
        nn.Linear(8, 12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, n_outputs), *last
    )


def softmax(output):
    return output.softmax(1)


def fitted(net_type, module, X, y, **params):
    torch.manual_seed(0)
    params = {"max_epochs": 3, "lr": 0.05, "train_split": None, "verbose": 0, **params}
    return net_type(module.double(), **params).fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (1,), (9, 5)])
def test_module_is_the_perceptron(
    activation, hidden_layer_sizes, data, assert_agrees, assert_gradients
):
    X, y = data
    model = MLPClassifier(hidden_layer_sizes, activation, max_iter=10, random_state=0).fit(X, y)
    assert_agrees(model, X, atol=1e-12)
    assert_agrees(model, X, dtype=torch.float32, atol=1e-4)
    assert_gradients(model, X)


def test_features_may_have_units_far_apart(uneven, assert_agrees, assert_gradients):
    X, y = uneven
    model = make_pipeline(StandardScaler(), MLPClassifier(9, max_iter=10, random_state=0))
    assert_agrees(model.fit(X, y), X, atol=1e-10)
    assert_gradients(model, X)


def test_weights_are_copied_without_drawing_numbers(data):
    X, y = data
    model = MLPClassifier(9, max_iter=2, random_state=0).fit(X.astype(np.float32), y)
    state = torch.random.get_rng_state()
    module = as_module(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module[0].weight.dtype == torch.float32
    before = module(torch.ones(1, 8))
    model.coefs_[0][:] = 0
    assert torch.equal(module(torch.ones(1, 8)), before)


def test_perceptron_without_activations_is_linear_from_end_to_end(data):
    X, y = data
    model = MLPClassifier(9, "identity", max_iter=2, random_state=0).fit(X, y)
    coef, _ = fold_linear(as_module(model), 8)
    expected = (model.coefs_[0] @ model.coefs_[1]).T
    np.testing.assert_allclose(coef[1:] if len(expected) == 1 else coef, expected)


def test_several_labels_a_sample_are_refused(data):
    X, _ = data
    model = MLPClassifier(3, max_iter=2).fit(X, (X[:, :2] > 0).astype(int))
    with pytest.raises(ValueError, match="MLPClassifier was fitted to multilabel.*per label"):
        as_module(model)


def make_logits(n_classes):
    return layers(n_classes), {"criterion": nn.CrossEntropyLoss}


def make_probabilities(n_classes):
    return layers(n_classes, nn.Softmax(1)), {}


def make_first_of_two(n_classes):
    return TwoHeads(n_classes), {"criterion": nn.CrossEntropyLoss, **UNTRAINED}


def make_own_nonlinearity(n_classes):
    return layers(n_classes), {
        "criterion": nn.MultiMarginLoss,
        "predict_nonlinearity": softmax,
    }


@pytest.mark.parametrize(
    "make", [make_logits, make_probabilities, make_first_of_two, make_own_nonlinearity]
)
def test_module_is_the_skorch_classifier(make, data, assert_agrees, assert_gradients):
    X, y = data[0], np.unique(data[1], return_inverse=True)[1]
    module, params = make(y.max() + 1)
    net = fitted(NeuralNetClassifier, module, X, y, **params)
    net.module_.train()
    assert_agrees(net, X, atol=1e-12)
    assert_gradients(net, X)


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (layers(1), {}),
        (layers(1, nn.Flatten(0)), {}),
        (TwoHeads(1), UNTRAINED),
        (layers(1, nn.Sigmoid()), {"criterion": nn.BCELoss}),
        (layers(1), {"predict_nonlinearity": lambda d: torch.stack([-d, d], 1).softmax(1)}),
    ],
    ids=["column", "vector", "first of two", "probability", "own nonlinearity"],
)
@pytest.mark.parametrize("data", [2], indirect=True)
def test_module_is_the_binary_skorch_classifier(
    module, params, data, assert_agrees, assert_gradients
):
    X, y = data[0], (data[1] == "bee").astype(float)
    net = fitted(NeuralNetBinaryClassifier, module, X, y, **params)
    assert_agrees(net, X, atol=1e-12)
    assert_gradients(net, X)


@pytest.mark.parametrize("data", [2], indirect=True)
def test_linear_layers_in_nets_stay_linear_from_end_to_end(data):
    X, y = data[0], (data[1] == "bee").astype(float)
    layer = nn.Linear(8, 1)
    net = fitted(NeuralNetBinaryClassifier, layer, X, y)
    coef, intercept = fold_linear(as_module(net), 8)
    assert torch.equal(coef[1:], net.module_.weight)
    assert torch.equal(intercept[1:], net.module_.bias)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, nn.MultiMarginLoss])
def test_adversarial_net_gives_logits_whatever_its_criterion(criterion, data):
    X, y = data[0], np.unique(data[1], return_inverse=True)[1]
    torch.manual_seed(0)
    net = AdversarialNet(
        TwoHeads(y.max() + 1),
        criterion=criterion,
        precision="float64",
        max_epochs=2,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    module = as_module(net)
    with torch.no_grad():
        expected, _ = net.module_(torch.from_numpy(X))
    assert torch.equal(module(torch.from_numpy(X)), expected)
    assert fgsm(module, X, y, 0.1).shape == X.shape


def test_probabilities_that_underflow_leave_the_gradient_finite(data):
    X, y = data[0], np.unique(data[1], return_inverse=True)[1]
    net = fitted(NeuralNetClassifier, nn.Sequential(nn.Linear(8, 3), nn.Softmax(1)), X, y)
    far = torch.from_numpy(1e6 * X).requires_grad_(True)
    assert (net.predict_proba(far) == 0).any()
    logits = as_module(net)(far)
    (gradient,) = torch.autograd.grad(logits.sum(), far)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()


def test_net_of_unknown_criterion_is_named_with_the_ways_on(data):
    X, y = data[0], np.unique(data[1], return_inverse=True)[1]
    net = fitted(NeuralNetClassifier, layers(3), X, y, criterion=nn.MultiMarginLoss)
    with pytest.raises(TypeError, match="MultiMarginLoss.*predict_nonlinearity.*module_"):
        as_module(net)


def test_net_that_was_not_initialized_is_refused():
    with pytest.raises(NotFittedError):
        as_module(NeuralNetClassifier(layers(2)))
