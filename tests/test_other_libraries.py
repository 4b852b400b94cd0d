"""Attacks against those of other libraries, which also attack scikit-learn's estimators here."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_adv import as_module
from sk_adv.attacks import fgsm, pgd
from sk_adv.neural_network import MaxoutNet

with warnings.catch_warnings():
    # They import names that SciPy and NumPy have deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

NORMS = [np.inf, 2]
FOOLBOX_FGSM = {
    np.inf: foolbox.attacks.LinfFastGradientAttack,
    2: foolbox.attacks.L2FastGradientAttack,
}
FOOLBOX_PGD = {
    np.inf: foolbox.attacks.LinfProjectedGradientDescentAttack,
    2: foolbox.attacks.L2ProjectedGradientDescentAttack,
}
EPSILON = 0.3
# Foolbox always has bounds; these clip no copy.
WIDE = (-100.0, 100.0)
TIGHT = (-1.0, 1.0)
# One or two rounding errors of numbers up to 4 in float32.
ROUNDING = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(params=["convolutions", "maxout"])
def images_and_modules(request):
    """A function from a number of classes to a module with its images and labels, in [-1, 1]."""

    def make(n_classes):
        torch.manual_seed(0)
        if request.param == "maxout":
            module, shape = MaxoutNet(20, n_classes, hidden_layer_sizes=(16, 16)), (60, 20)
        else:
            module = nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 4, n_classes)
            )
            shape = (60, 2, 6, 6)
        X = 2 * torch.rand(shape) - 1
        return module.eval(), X, torch.randint(n_classes, (len(X),))

    return make


def foolbox_fgsm(module, X, y, norm, bounds):
    model = foolbox.PyTorchModel(module, bounds=bounds, device="cpu")
    return FOOLBOX_FGSM[norm]()(model, X, y, epsilons=EPSILON)[1]


def art_fgsm(module, X, y, norm, bounds, n_classes, targeted=False):
    classifier = PyTorchClassifier(
        module,
        nn.CrossEntropyLoss(),
        input_shape=tuple(X.shape[1:]),
        nb_classes=n_classes,
        clip_values=bounds,
        device_type="cpu",
    )
    attack = FastGradientMethod(classifier, norm=norm, eps=EPSILON, targeted=targeted)
    return attack.generate(X.numpy(), nn.functional.one_hot(y, n_classes).numpy())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fgsm_makes_the_copies_of_foolbox(images_and_modules, n_classes, norm):
    module, X, y = images_and_modules(n_classes)
    for bounds in (WIDE, TIGHT):
        expected = foolbox_fgsm(module, X, y, norm, bounds)
        copies = fgsm(module, X, y, EPSILON, norm=norm, bounds=bounds)
        torch.testing.assert_close(copies, expected, **ROUNDING)
    unbounded = fgsm(module, X, y, EPSILON, norm=norm)
    torch.testing.assert_close(unbounded, foolbox_fgsm(module, X, y, norm, WIDE), **ROUNDING)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fgsm_makes_the_copies_of_art(images_and_modules, n_classes, norm, targeted):
    module, X, y = images_and_modules(n_classes)
    for bounds in (None, TIGHT):
        expected = art_fgsm(module, X, y, norm, bounds, n_classes, targeted)
        copies = fgsm(module, X, y, EPSILON, norm=norm, bounds=bounds, targeted=targeted)
        np.testing.assert_allclose(copies.numpy(), expected, **ROUNDING)


def foolbox_pgd_towards(targets, module, X, norm, step_size, n_steps):
    attack = FOOLBOX_PGD[norm](abs_stepsize=step_size, steps=n_steps, random_start=False)
    model = foolbox.PyTorchModel(module, bounds=TIGHT, device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    return attack.run(model, X, criterion, epsilon=EPSILON)


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_attacks_make_the_copies_of_foolbox(images_and_modules, norm):
    module, X, _ = images_and_modules(3)
    targets = torch.randint(3, (len(X),))
    params = {"norm": norm, "bounds": TIGHT, "targeted": True}
    # Foolbox's one-step attacks take no targets; one step of its projected gradient descent does.
    expected = foolbox_pgd_towards(targets, module, X, norm, EPSILON, n_steps=1)
    copies = fgsm(module, X, targets, EPSILON, **params)
    torch.testing.assert_close(copies, expected, **ROUNDING)
    expected = foolbox_pgd_towards(targets, module, X, norm, 0.1, n_steps=5)
    params |= {"step_size": 0.1, "n_steps": 5, "random_start": False}
    copies = pgd(module, X, targets, EPSILON, **params)
    # Each step adds a rounding error.
    torch.testing.assert_close(copies, expected, rtol=0, atol=1e-5)


def fitted_pipeline(load):
    """A pipeline that takes raw units, and its data."""
    X, y = load(return_X_y=True)
    # Foolbox takes shorter steps where the model is so confident that the cross-entropy is flat.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    return model.fit(X, y), X, y


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("load", "epsilon"), [(load_iris, 0.5), (load_breast_cancer, 0.05)])
def test_foolbox_attacks_a_pipeline_in_raw_units(load, epsilon, dtype, norm):
    model, X, y = fitted_pipeline(load)
    module, X, y = as_module(model, dtype=dtype), torch.as_tensor(X, dtype=dtype), torch.tensor(y)
    bounds = (0.0, float(X.max()))
    attacked = foolbox.PyTorchModel(module, bounds=bounds, device="cpu")
    _, copies, fooled = FOOLBOX_FGSM[norm]()(attacked, X, y, epsilons=epsilon)
    expected = fgsm(module, X, y, epsilon, norm=norm, bounds=bounds)
    torch.testing.assert_close(expected, copies)
    # Copies that fool the module also fool the pipeline.
    accuracy = model.score(copies.numpy(), y.numpy())
    assert accuracy == pytest.approx(1 - fooled.double().mean().item())
    assert accuracy < model.score(X.numpy(), y.numpy()) - 0.05


@pytest.mark.parametrize(("norm", "dual"), [(np.inf, 1), (2, 2)])
def test_steps_of_foolbox_end_at_the_closed_form_worst_case_of_a_linear_pipeline(norm, dual):
    model, X, y = fitted_pipeline(load_breast_cancer)
    epsilon = 0.05
    scaler, regression = model.steps[0][1], model.steps[1][1]
    signs = 2 * y - 1
    weights = regression.coef_[0] / scaler.scale_
    expected = signs * model.decision_function(X) - epsilon * np.linalg.norm(weights, ord=dual)
    attacked = foolbox.PyTorchModel(as_module(model), bounds=(-1e6, 1e6), device="cpu")
    # From anywhere in the box these steps reach its corner; in the ball they start at its centre.
    steps = {"rel_stepsize": 0.25, "steps": 10, "random_start": norm == np.inf}
    attack = FOOLBOX_PGD[norm](**steps)
    copies = attack.run(attacked, torch.tensor(X), torch.tensor(y), epsilon=epsilon)
    np.testing.assert_allclose(signs * model.decision_function(copies.numpy()), expected, atol=1e-8)
