"""Nets that predict by more than one module, or in a way of their own."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNetClassifier
from torch import nn

from sk_adv import as_module
from sk_adv.attacks import perturb
from sk_adv.differentiable import has_rule
from sk_adv.metrics import adversarial_accuracy_score
from sk_adv.neural_network import AdversarialMaxoutClassifier, AdversarialNet, MaxoutNet

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
QUIET = {"max_epochs": 2, "train_split": None, "verbose": 0}


class Turned:
    """The module sees X with its sign turned."""

    def infer(self, X, **params):
        return super().infer(-X, **params)


class Decoded:
    """A second module stands behind the first."""

    def initialize_module(self):
        super().initialize_module()
        self.decoder_ = nn.Linear(5, 2)
        return self

    def infer(self, X, **params):
        return self.decoder_(super().infer(X, **params).tanh())


def make(mixin, base, **params):
    torch.manual_seed(0)
    module = nn.Linear(6, 5 if mixin is Decoded else 2)
    kind = type(mixin.__name__ + base.__name__, (mixin, base), {"__module__": __name__})
    if base is NeuralNetClassifier:
        params = {"criterion": nn.CrossEntropyLoss}
    return kind(module, **{**QUIET, **params})


@pytest.mark.parametrize("base", [AdversarialNet, NeuralNetClassifier])
@pytest.mark.parametrize("mixin", [Turned, Decoded])
def test_what_predicts_is_what_is_attacked(mixin, base):
    net = make(mixin, base).fit(X, Y)
    module = as_module(net)
    probabilities = net.predict_proba(X)
    found = module(torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(found, probabilities, atol=1e-6)
    # The direction of the copies against differences of the net's own loss.
    copies = perturb(net, X[:20], Y[:20], epsilon=0.01)

    def loss(X):
        return -np.log(net.predict_proba(X.astype(np.float32))[np.arange(20), Y[:20]])

    n_clear = 0
    for feature in range(6):
        step = 0.05 * np.eye(6)[feature]
        slope = loss(X[:20] + step) - loss(X[:20] - step)
        clear = abs(slope) > 1e-3
        n_clear += clear.sum()
        moved = np.sign(copies[:, feature] - X[:20, feature])
        np.testing.assert_array_equal(moved[clear], np.sign(slope[clear]))
    assert n_clear > 60
    score = adversarial_accuracy_score(net, X, Y, epsilon=0.3)
    assert score <= (net.predict(X) == Y).mean()


@pytest.mark.parametrize("mixin", [Turned, Decoded])
def test_the_module_of_such_a_net_is_a_copy_of_its_own(mixin):
    net = make(mixin, AdversarialNet).fit(X, Y)
    module = as_module(net, dtype=torch.float64)
    before = module(torch.from_numpy(X))
    assert before.dtype == torch.float64
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert next(net.module_.parameters()).dtype == torch.float32
    net.partial_fit(X, Y)
    assert torch.equal(module(torch.from_numpy(X)), before)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("alpha", [0, 0.5])
@pytest.mark.parametrize("mixin", [Turned, Decoded])
def test_copies_in_training_go_up_the_loss_of_what_predicts(mixin, alpha, attack):
    one_step = {"n_steps": 1, "step_size": 0.1, "random_start": False}
    net = make(mixin, AdversarialNet, alpha=alpha, attack=attack, epsilon=0.1)
    if attack == "pgd":
        net.set_params(attack_params=one_step)
    net.initialize()
    seen, infer = [], net.infer

    def seeing(X, **params):
        seen.append(X.detach())
        return infer(X, **params)

    net.infer = seeing
    samples, labels = torch.from_numpy(X), torch.from_numpy(Y)
    moving = samples.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(infer(moving), labels)
    (ascent,) = torch.autograd.grad(loss, moving)
    net.train_step_single((samples, labels))
    torch.testing.assert_close(seen[-1], samples + 0.1 * ascent.sign())


class Reshaped(AdversarialNet):
    def infer(self, X, **params):
        return super().infer(X.unflatten(1, (1, 6)), **params)


def test_a_net_is_checked_by_what_predicts_before_the_first_epoch():
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    assert Reshaped(module, **QUIET).fit(X, Y).predict(X).shape == (80,)


def test_a_maxout_net_in_bfloat16_trains_what_predicts():
    kind = type("Turned", (Turned, AdversarialNet), {"__module__": __name__})
    torch.manual_seed(0)
    options = {**QUIET, "precision": "bfloat16", "lr": 0.1, "max_epochs": 60, "epsilon": 0.01}
    net = kind(MaxoutNet(6, 2, (16,)), optimizer=torch.optim.Adam, **options)
    net.set_params(lr=0.01).fit(X, Y)
    assert (net.predict(X) == Y).mean() > 0.9


OWN = {
    "predict": lambda net, X: 1 - super(type(net), net).predict(X),
    "predict_proba": lambda net, X: super(type(net), net).predict_proba(X)[:, ::-1],
    "evaluation_step": lambda net, batch, training=False: (
        -super(type(net), net).evaluation_step(batch, training=training)
    ),
}


@pytest.mark.parametrize("base", [AdversarialNet, NeuralNetClassifier])
@pytest.mark.parametrize("name", OWN)
def test_a_net_that_predicts_in_a_way_of_its_own_is_refused(name, base):
    kind = type("Own", (base,), {name: OWN[name], "__module__": __name__})
    net = kind(nn.Linear(6, 2), criterion=nn.CrossEntropyLoss, **QUIET).fit(X, Y)
    assert not has_rule(net)
    for function in (as_module, lambda net: perturb(net, X, Y, epsilon=0.1)):
        message = f"can't tell what Own.{name} makes .*Own.infer, or register .*surrogate"
        with pytest.raises(TypeError, match=message):
            function(net)


def test_the_nets_of_both_libraries_themselves_are_not_refused():
    net = AdversarialMaxoutClassifier((4,), max_iter=1).fit(X, Y).net_
    assert has_rule(net)
    assert has_rule(AdversarialNet(nn.Linear(6, 2)))
    assert has_rule(NeuralNetClassifier(nn.Linear(6, 2), criterion=nn.CrossEntropyLoss))


class Keeping(nn.Module):
    """Keeps its last output, which torch does not copy while it has a graph."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, X):
        self.kept = self.layer(X)
        return self.kept


class Renamed(AdversarialNet):
    """The only module has another name, so that `infer` has to call it."""

    def initialize_module(self):
        self.body_ = Keeping()
        return self

    def infer(self, X, **params):
        return self.body_(X)


def test_nets_whose_infer_calls_a_module_that_keeps_its_output_are_copied():
    net = Renamed(Keeping, **QUIET).fit(X, Y)
    expected = net.body_(torch.from_numpy(X))
    assert net.body_.kept.grad_fn is not None
    torch.testing.assert_close(as_module(net)(torch.from_numpy(X)), expected)
    assert net.body_.kept is expected
    with pytest.raises(NotFittedError, match="Renamed"):
        as_module(Renamed(Keeping))
