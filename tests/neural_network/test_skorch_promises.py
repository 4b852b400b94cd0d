"""skorch's promises hold for AdversarialNet: hooks, history, callbacks, data."""

import copy
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.stats import uniform
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import AdaBoostClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from skorch.callbacks import BatchScoring, Callback, EpochScoring, InputShapeSetter
from skorch.dataset import ValidSplit
from skorch.exceptions import NotInitializedError
from skorch.helper import SliceDataset
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sk_adv import AdversarialMaxoutClassifier, as_module
from sk_adv.attacks import pgd
from sk_adv.neural_network import AdversarialNet, Checkpoint

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
N_BATCHES = 8


def net_of(module=nn.Linear, kind=AdversarialNet, **params):
    """A net that sees iris in eight batches, always in the same order."""
    if module is nn.Linear:
        params = {"module__in_features": 4, "module__out_features": 3} | params
    torch.manual_seed(0)
    defaults = {"epsilon": 0.1, "max_epochs": 2, "batch_size": 20, "train_split": None}
    return kind(module, **defaults | {"lr": 0.05, "verbose": 0} | params)


def state_of(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


class Accumulating(AdversarialNet):
    """Takes a step after every four batches, which it counts in the history."""

    n_taken = 0

    def train_step(self, batch, **fit_params):
        step = self.train_step_single(batch, **fit_params)
        if len(self.history[-1, "batches"]) % 4 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
            self.n_taken += 1
        return step


class Dividing(Accumulating):
    """The form of skorch's FAQ: each loss counts as one of those of a step."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) / 4


class Losses(AdversarialNet):
    """Records a figure of each batch in its loss."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, *args, **kwargs)
        self.history.record_batch("double", 2 * loss.item())
        return loss


class Looking(AdversarialNet):
    """Looks back at the loss of the batch before."""

    def train_step(self, batch, **fit_params):
        batches = self.history[-1, "batches"]
        self.seen = [*getattr(self, "seen", []), [row.get("train_loss") for row in batches]]
        return super().train_step(batch, **fit_params)


def test_gradients_are_accumulated_over_batches_that_are_counted_in_the_history():
    net = net_of(kind=Accumulating, alpha=1).fit(X, Y)
    assert net.n_taken == 4
    reference = net_of(alpha=1).initialize().module_
    batches = torch.as_tensor(X).split(20), torch.as_tensor(Y).split(20)
    for _ in range(2):
        for k, batch in enumerate(zip(*batches, strict=True), start=1):
            cross_entropy(reference(batch[0]), batch[1]).backward()
            if k % 4 == 0:
                for weight in reference.parameters():
                    weight.data -= 0.05 * weight.grad
                    weight.grad = None
    torch.testing.assert_close(net.module_.state_dict(), reference.state_dict())


@pytest.mark.parametrize("callbacks", [[], [Callback()]])
@pytest.mark.parametrize("alpha", [1, 0.5, 0])
def test_accumulated_gradients_of_divided_losses_are_the_mean_of_their_batches(alpha, callbacks):
    net = net_of(kind=Dividing, alpha=alpha, callbacks=callbacks, lr=0.5).fit(X, Y)
    assert net.n_taken == 4
    reference = net_of().initialize().module_
    batches = torch.as_tensor(X).split(20), torch.as_tensor(Y).split(20)
    for _ in range(2):
        for k, (rows, labels) in enumerate(zip(*batches, strict=True), start=1):
            rows = rows.clone().requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(reference(rows), labels), rows)
            copies = rows.detach() + 0.1 * slope.sign()
            loss = alpha * cross_entropy(reference(rows.detach()), labels)
            loss = loss + (1 - alpha) * cross_entropy(reference(copies), labels)
            (loss / 4).backward()
            if k % 4 == 0:
                for weight in reference.parameters():
                    weight.data -= 0.5 * weight.grad
                    weight.grad = None
    torch.testing.assert_close(net.module_.state_dict(), reference.state_dict())


@pytest.mark.parametrize("callbacks", [[], "disable", [Callback()]])
@pytest.mark.parametrize("alpha", [1, 0.5])
def test_the_history_has_the_loss_and_the_size_of_each_batch(callbacks, alpha):
    net = net_of(alpha=alpha, epsilon=0.0, lr=0, callbacks=callbacks).fit(X, Y)
    rows = net.history[-1, "batches", :, ("train_loss", "train_batch_size")]
    logits = net.module_(torch.as_tensor(X)).detach()
    parts = zip(logits.split(20), torch.as_tensor(Y).split(20), strict=True)
    expected = [(float(cross_entropy(*part)), len(part[0])) for part in parts]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    whole = float(cross_entropy(logits, torch.as_tensor(Y)))
    np.testing.assert_allclose(net.history[-1, "train_loss"], whole, rtol=1e-5)


def test_a_loss_may_record_figures_of_its_batch():
    net = net_of(kind=Losses, alpha=1).fit(X, Y)
    rows = net.history[-1, "batches", :, ("train_loss", "double")]
    np.testing.assert_allclose([double for _, double in rows], [2 * loss for loss, _ in rows])
    assert len(rows) == N_BATCHES


def test_a_step_sees_the_losses_of_the_batches_before_it():
    net = net_of(kind=Looking, max_epochs=1).fit(X, Y)
    losses = net.history[-1, "batches", :, "train_loss"]
    assert net.seen == [[*losses[:k], None] for k in range(N_BATCHES)]


def test_a_method_that_is_set_on_the_net_is_a_listener_too():
    net, seen = net_of(max_epochs=1).initialize(), []

    def step(batch, **fit_params):
        seen.append([row.get("train_loss") for row in net.history[-1, "batches"][:-1]])
        return AdversarialNet.train_step(net, batch, **fit_params)

    net.train_step = step
    net.partial_fit(X, Y)
    assert len(seen) == N_BATCHES
    assert seen[-1] == net.history[-1, "batches", :, "train_loss"][:-1]


class CountingScore(EpochScoring):
    """Scores held-out samples, and counts the batches that it is told of."""

    n_batches = 0

    def on_batch_end(self, net, batch, y_pred, training, **kwargs):
        self.n_batches += training
        super().on_batch_end(net, batch=batch, y_pred=y_pred, training=training, **kwargs)


@pytest.mark.parametrize("alpha", [1, 0.5, 0])
def test_callbacks_of_every_kind_are_told_of_each_batch(alpha):
    calls = []
    on_instance = Callback()
    on_instance.on_batch_end = lambda net, loss, **kwargs: calls.append(loss.requires_grad)
    mock, duck, score = Mock(spec=Callback), Mock(), CountingScore("accuracy", name="other")
    callbacks = [("one", on_instance), ("two", mock), ("three", duck), ("four", score)]
    net_of(alpha=alpha, max_epochs=1, callbacks=callbacks).fit(X, Y)
    assert calls == [True] * N_BATCHES
    assert mock.on_batch_begin.call_count == duck.on_grad_computed.call_count == N_BATCHES
    assert score.n_batches == N_BATCHES


class Schedule(Callback):
    """Sets a parameter of the attack at some event."""

    def __init__(self, event, **params):
        self.params = params
        setattr(self, event, lambda net, **kwargs: net.set_params(**params))


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_batch_begin"])
@pytest.mark.parametrize("params", [{"epsilon": 1.0}, {"bounds": (0.0, 2.0)}, {"attack": "pgd"}])
def test_parameters_of_the_attack_that_callbacks_set_are_those_of_the_training(event, params):
    options = {"attack_params": None, "max_epochs": 1}
    set_before = net_of(**options | params).fit(X, Y)
    set_within = net_of(**options, callbacks=[Schedule(event, **params)]).fit(X, Y)
    torch.testing.assert_close(state_of(set_within), state_of(set_before), rtol=0, atol=0)


def test_the_classifier_keeps_the_batches_of_one_epoch_only():
    model = AdversarialMaxoutClassifier((4,), batch_size=20, max_iter=3, random_state=0).fit(X, Y)
    assert [len(row["batches"]) for row in model.net_.history] == [0, 0, N_BATCHES]


class Shaped(nn.Linear):
    def __init__(self, input_dim=3):
        super().__init__(input_dim, 3)


@pytest.mark.parametrize("alpha", [1, 0.5])
def test_callbacks_may_shape_the_module_when_training_begins(alpha):
    torch.manual_seed(0)
    net = net_of(Shaped, alpha=alpha, callbacks=[InputShapeSetter()]).fit(X, Y)
    assert net.module_.in_features == 4 and net.sample_shape_ == (4,)
    assert net.predict(X).shape == Y.shape


class OtherNames(AdversarialNet):
    """Two modules, of which neither is `module_`, and a criterion with a weight that learns."""

    def initialize_module(self):
        self.encoder_ = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.head_ = nn.Linear(5, 3)
        return self

    def initialize_criterion(self):
        self.mycriterion_ = Tempered()
        return self

    def infer(self, x, **fit_params):
        return self.head_(self.encoder_(torch.as_tensor(x)))

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return self.mycriterion_(y_pred, y_true)


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits, y):
        return cross_entropy(logits * self.temperature, y)


def parts_of(net):
    parts = (net.encoder_, net.head_, net.mycriterion_)
    return [value.clone() for part in parts for value in part.state_dict().values()]


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("alpha", [1, 0.5, 0])
def test_modules_and_criteria_may_have_other_names(attack, alpha):
    net = net_of(nn.Identity, OtherNames, alpha=alpha, attack=attack, max_epochs=30).fit(X, Y)
    assert net.score(X, Y) > 0.6
    # Attacks ask what `infer` gives.
    module = as_module(net)
    np.testing.assert_allclose(
        module(torch.as_tensor(X)).detach(), net.forward(X), rtol=1e-5, atol=1e-6
    )
    before = parts_of(net)
    net.partial_fit(X, Y)
    torch.testing.assert_close(module(torch.as_tensor(X[:1])).isfinite().all(), torch.tensor(True))
    assert all(not torch.equal(*pair) for pair in zip(before, parts_of(net), strict=True))


def test_all_parts_go_back_to_the_epoch_before_where_one_becomes_infinite():
    class Breaking(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            if len(net.history) == 2:
                net.head_.bias.grad.fill_(torch.inf)

    net = net_of(nn.Identity, OtherNames, max_epochs=1).fit(X, Y)
    after_one = parts_of(net)
    net = net_of(nn.Identity, OtherNames, callbacks=[Breaking()])
    with pytest.raises(FloatingPointError):
        net.fit(X, Y)
    torch.testing.assert_close(parts_of(net), after_one, rtol=0, atol=0)


def test_a_checkpoint_holds_all_parts(tmp_path):
    whole = parts_of(net_of(nn.Identity, OtherNames, max_epochs=4).fit(X, Y))
    for max_epochs in (2, 4):
        checkpoint = Checkpoint(tmp_path / "parts", resume=True)
        net = net_of(nn.Identity, OtherNames, max_epochs=max_epochs, callbacks=[checkpoint])
        net.fit(X, Y)
    torch.testing.assert_close(parts_of(net), whole, rtol=0, atol=0)


class Halving(AdversarialNet):
    """Shows its module another X than the data's."""

    def infer(self, x, **fit_params):
        return super().infer(torch.as_tensor(x) - 1, **fit_params)


class Shifted(nn.Linear):
    def forward(self, X, by=0.0):
        return super().forward(X - by)


@pytest.mark.parametrize("alpha", [0.5, 0])
def test_attacks_go_through_infer_and_with_its_arguments(alpha):
    """Shifting is done by `infer`, by an argument of fit, or by the module itself."""

    class Always(nn.Linear):
        def forward(self, X):
            return super().forward(X - 1)

    options = {"attack": "pgd", "alpha": alpha, "bounds": (0.0, 3.0), "epsilon": 0.5}
    options |= {"module__in_features": 4, "module__out_features": 3}
    expected = state_of(net_of(Always, **options).fit(X, Y))
    by_infer = net_of(nn.Linear, Halving, **options).fit(X, Y)
    by_argument = net_of(Shifted, **options).fit(X, Y, by=1.0)
    torch.testing.assert_close(state_of(by_infer), expected)
    torch.testing.assert_close(state_of(by_argument), expected)


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba"])
def test_what_is_not_initialized_says_so(method):
    with pytest.raises(
        NotInitializedError, match="This AdversarialNet instance is not initialized"
    ):
        getattr(net_of(), method)(X)


class Items(Dataset):
    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        parts = tuple(array[row] for array in self.arrays)
        return parts if len(parts) > 1 else parts[0]


@pytest.mark.parametrize(
    ("arrays", "n_values"), [((X,), 1), ((X[:, :2],), 1), ((X[:, 0],), 1), ((X, Y, Y), 3)]
)
@pytest.mark.parametrize("alpha", [1, 0.5])
def test_items_of_a_dataset_are_pairs(arrays, n_values, alpha):
    with pytest.raises(ValueError, match=f"returns {n_values} value"):
        net_of(alpha=alpha).fit(Items(*arrays), None)


def test_without_a_device_all_stays_where_it_is(are_equal):
    nets = [net_of(device=device, precision="bfloat16").fit(X, Y) for device in ("cpu", None)]
    assert are_equal(*map(state_of, nets))
    np.testing.assert_array_equal(*(net.predict_proba(X) for net in nets))


class Batches(Dataset):
    """Gives whole batches."""

    def __len__(self):
        return N_BATCHES

    def __getitem__(self, k):
        if k >= N_BATCHES:
            raise IndexError
        rows = slice(20 * k, 20 * k + 20)
        return torch.as_tensor(X[rows]), torch.as_tensor(Y[rows])


def test_a_dataset_may_make_the_batches_itself(are_equal):
    whole = net_of(iterator_train__batch_size=None).fit(Batches(), None)
    assert are_equal(state_of(whole), state_of(net_of().fit(X, Y)))


LAYOUTS = {
    "reversed rows": lambda array: array[::-1].copy()[::-1],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "reversed columns": lambda array: np.flip(np.flip(array, -1).copy(), -1),
    "every other": lambda array: np.repeat(array, 2, axis=0)[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("error")
def test_arrays_may_lie_in_memory_in_any_way(layout, are_equal):
    lay = LAYOUTS[layout]
    plain = net_of(train_split=ValidSplit(3)).fit(X, Y)
    other = net_of(train_split=ValidSplit(3)).fit(lay(X), lay(Y))
    assert are_equal(state_of(plain), state_of(other))
    np.testing.assert_array_equal(plain.predict_proba(X), other.predict_proba(lay(X)))
    assert plain.score(X, Y) == other.score(lay(X), lay(Y))


@pytest.mark.parametrize("alpha", [1, 0.5])
def test_searches_take_slices_of_a_dataset(alpha):
    data = SliceDataset(TensorDataset(torch.as_tensor(X), torch.as_tensor(Y)))
    module, scores = nn.Linear(4, 3), []
    for values in (data, X):
        search = GridSearchCV(net_of(module, alpha=alpha), {"lr": [0.01, 0.1]}, cv=3, refit=False)
        scores.append(search.fit(values, Y).cv_results_["mean_test_score"])
    np.testing.assert_allclose(*scores)
    assert (scores[0] > 0.3).all()


def test_samples_of_a_weight_count_as_often(are_equal):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, len(X))
    full = {"batch_size": -1, "lr": 0.1, "max_epochs": 5}
    rows = np.repeat(np.arange(len(X)), weight)
    # The mean is over the samples, whatever their weights.
    full["lr"] *= len(rows) / len(X)
    repeated = net_of(**full).fit(X[rows], Y[rows])
    full["lr"] /= len(rows) / len(X)
    for data in ((X, Y), (TensorDataset(torch.as_tensor(X), torch.as_tensor(Y)), None)):
        weighted = net_of(**full).fit(*data, sample_weight=weight)
        torch.testing.assert_close(state_of(weighted), state_of(repeated), rtol=1e-4, atol=1e-5)
    # Weights follow their samples through the split, and ones are no weights.
    ones = [
        net_of(train_split=ValidSplit(3)).fit(X, Y, **params)
        for params in ({}, {"sample_weight": np.ones(len(X))})
    ]
    torch.testing.assert_close(*map(state_of, ones))
    np.testing.assert_allclose(*(net.history[:, "valid_loss"] for net in ones), rtol=1e-5)


def test_weights_follow_their_samples_through_the_split():
    weight = np.random.default_rng(0).uniform(size=len(X))
    rows = np.r_[50:150, 0:50]
    # The first third is held out, so that the second net is trained on the rest of the first's.
    split = ValidSplit([(np.arange(50, 150), np.arange(50))])
    held_out = net_of(train_split=split).fit(X, Y, sample_weight=weight)
    rest = net_of().fit(X[rows][:100], Y[rows][:100], sample_weight=weight[rows][:100])
    torch.testing.assert_close(state_of(held_out), state_of(rest))


@pytest.mark.parametrize("criterion", [Tempered, nn.CrossEntropyLoss, lambda: cross_entropy])
def test_the_loss_of_a_weighted_batch_is_the_mean_whatever_the_criterion(criterion):
    weight = torch.rand(20)
    net = net_of(criterion=criterion, alpha=1).initialize()
    batch = torch.as_tensor(X[::8][:20].copy()), torch.as_tensor(Y[::8][:20])[: len(X[::8])]
    n_samples = len(batch[0])
    found = net.train_step_single((batch[0], (batch[1], weight[:n_samples])))["loss"]
    each = cross_entropy(net.module_(batch[0]), batch[1], reduction="none")
    torch.testing.assert_close(found, (weight[:n_samples] * each).mean())


def test_a_module_that_takes_weights_itself_is_given_them():
    class Weighing(nn.Linear):
        def forward(self, X, sample_weight=None):
            self.given = sample_weight
            return super().forward(X)

    net = net_of(Weighing, alpha=1, module__in_features=4, module__out_features=3)
    weight = np.ones(len(X))
    net.fit(X, Y, sample_weight=weight)
    assert net.module_.given is weight


def test_callbacks_score_the_batches_of_weighted_samples():
    scores = [
        ("epochs", EpochScoring("accuracy", on_train=True, name="epochs")),
        ("means", BatchScoring("accuracy", on_train=True, name="means")),
    ]
    net = net_of(callbacks=scores, lr=0).fit(X, Y, sample_weight=np.arange(len(X)))
    np.testing.assert_allclose(net.history[-1, "epochs"], net.score(X, Y))
    np.testing.assert_allclose(net.history[-1, "means"], net.score(X, Y))


def test_ensembles_may_weigh_the_samples_of_a_net():
    model = AdaBoostClassifier(net_of(max_epochs=10, lr=0.5), n_estimators=2).fit(X, Y)
    assert model.score(X, Y) > 0.6


@pytest.mark.parametrize("params", [{}, {"criterion": nn.CrossEntropyLoss}, {"alpha": 1}])
def test_a_double_softmax_is_warned_of(params):
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="double softmax: leave the softmax out"):
        net_of(module, **params).fit(X, Y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("last", [nn.Identity, nn.Sigmoid, lambda: nn.LogSoftmax(dim=1)])
def test_other_outputs_are_not_warned_of(last):
    net_of(nn.Sequential(nn.Linear(4, 3), last())).fit(X, Y)


def test_a_function_may_make_the_criterion(are_equal):
    made = net_of(criterion=lambda: cross_entropy, alpha=1).fit(X, Y)
    plain = net_of(criterion=nn.CrossEntropyLoss, alpha=1).fit(X, Y)
    assert are_equal(state_of(made), state_of(plain))


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, bool])
@pytest.mark.filterwarnings("error")
def test_integers_are_what_they_were_in_training_ever_after(kind, alpha, are_equal, tmp_path):
    whole = (X > 3).astype(kind) if kind is bool else (10 * X).astype(kind)
    real = whole.astype(np.float32)
    options = {"alpha": alpha, "lr": 0.01, "train_split": ValidSplit(3), "epsilon": 1.0}
    expected = net_of(**options).fit(real, Y)
    mapped = np.memmap(tmp_path / "X", dtype=kind, mode="w+", shape=whole.shape)
    mapped[:] = whole
    data = TensorDataset(torch.as_tensor(whole), torch.as_tensor(Y))
    for values, labels in ((whole, Y), (mapped, Y), (torch.as_tensor(whole), Y), (data, Y)):
        net = net_of(**options).fit(values, labels)
        assert are_equal(state_of(net), state_of(expected))
        assert net.history[:, "valid_loss"] == expected.history[:, "valid_loss"]
        np.testing.assert_array_equal(net.predict_proba(values), expected.predict_proba(real))
        assert copy.deepcopy(net).score(whole, Y) == expected.score(real, Y)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("is_on_disk", [False, True])
def test_tokens_stay_integers_without_copies(kind, is_on_disk, are_equal, tmp_path):
    tokens = (10 * X).astype(kind)
    if is_on_disk:
        mapped = np.memmap(tmp_path / "X", dtype=kind, mode="w+", shape=tokens.shape)
        mapped[:] = tokens
        tokens = mapped
    module = [nn.Embedding(100, 2), nn.Flatten(), nn.Linear(8, 3)]
    torch.manual_seed(0)
    net = net_of(nn.Sequential(*copy.deepcopy(module)), alpha=1).fit(tokens, Y)
    reference = net_of(nn.Sequential(*copy.deepcopy(module)), alpha=1)
    reference.fit(torch.as_tensor(np.array(tokens, dtype=np.int64)), Y)
    assert are_equal(state_of(net), state_of(reference))
    assert net.predict(tokens).shape == Y.shape


def test_numbers_of_numpy_are_those_of_python(are_equal):
    numbers = {"lr": 0.0625, "optimizer__momentum": 0.5, "optimizer__weight_decay": 0.125}
    numbers |= {"alpha": 0.5, "epsilon": 0.25, "batch_size": 16, "max_epochs": 3}
    numbers |= {"iterator_valid__batch_size": 8, "module__in_features": 4}
    numbers |= {"optimizer__nesterov": True}
    expected = net_of(**numbers, module__out_features=3).fit(X, Y)
    for single in (np.float32, np.float64):
        kinds = {float: single, int: np.int64, bool: np.bool_}
        drawn = {name: kinds[type(value)](value) for name, value in numbers.items()}
        net = net_of(**drawn, module__out_features=np.int32(3)).fit(X, Y)
        assert are_equal(state_of(net), state_of(expected))
        net.set_params(optimizer__momentum=single(0.25), lr=single(0.125)).partial_fit(X, Y)
        again = copy.deepcopy(expected)
        again.set_params(optimizer__momentum=0.25, lr=0.125).partial_fit(X, Y)
        assert are_equal(state_of(net), state_of(again))


NUMBERS = {
    "alpha": 0.5,
    "epsilon": 0.25,
    "n_pieces": 3,
    "input_dropout": 0.125,
    "hidden_dropout": 0.25,
    "max_norm": 2.0,
    "learning_rate_init": 0.0625,
    "momentum": 0.5,
    "batch_size": 16,
    "max_iter": 3,
    "random_state": 1,
    "tol": 0.0,
    "n_iter_no_change": 2,
    "validation_fraction": 0.25,
}


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_numbers_of_numpy_are_those_of_python_for_the_classifier(
    solver, early_stopping, weights, are_equal
):
    options = {"solver": solver, "early_stopping": early_stopping}
    expected = AdversarialMaxoutClassifier((5,), **NUMBERS, **options).fit(X, Y)
    for single in (np.float32, np.float64):
        kinds = {float: single, int: np.int64}
        drawn = {name: kinds[type(value)](value) for name, value in NUMBERS.items()}
        model = AdversarialMaxoutClassifier((np.int64(5),), **drawn, **options).fit(X, Y)
        assert are_equal(weights(model), weights(expected))


def test_random_searches_draw_numbers_that_torch_takes():
    model = AdversarialMaxoutClassifier((4,), solver="sgd", max_iter=2, random_state=0)
    space = {"momentum": uniform(0.1, 0.8), "batch_size": np.array([16, 32])}
    RandomizedSearchCV(model, space, n_iter=2, cv=2, error_score="raise", random_state=0).fit(X, Y)


def mean_loss(logits, y):
    return cross_entropy(logits, y)


@pytest.mark.parametrize("targeted", [False, True])
def test_restarts_with_a_loss_of_the_batch_are_those_with_the_losses_of_the_samples(targeted):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    how = {"epsilon": 0.3, "n_steps": 3, "n_restarts": 4, "random_state": 0, "targeted": targeted}
    by_batch, by_sample = (
        pgd(module, X, Y, loss=loss, **how)
        for loss in (mean_loss, lambda logits, y: cross_entropy(logits, y, reduction="none"))
    )
    np.testing.assert_allclose(by_batch, by_sample, atol=1e-6)
    with pytest.raises(ValueError, match=r"one number a sample, .* shape \(150, 3\)"):
        pgd(module, X, Y, loss=lambda logits, y: logits, **how)


class WholeBatch(nn.Module):
    """A criterion that can't be asked for less than the mean of a batch."""

    def forward(self, logits, y):
        return cross_entropy(logits, y)


@pytest.mark.parametrize("criterion", [WholeBatch, lambda: cross_entropy])
def test_a_net_may_be_trained_on_restarts_with_any_criterion(criterion):
    options = {"attack": "pgd", "attack_params": {"n_restarts": 3, "n_steps": 2}, "max_epochs": 1}
    expected = net_of(criterion=nn.CrossEntropyLoss, **options).fit(X, Y)
    net = net_of(criterion=criterion, **options).fit(X, Y)
    torch.testing.assert_close(state_of(net), state_of(expected))


class Keeping(nn.Module):
    """Keeps activations, alone and in containers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.kept = []
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def forward(self, X):
        self.logits = self.layer(X)
        self.kept.append({"logits": (self.logits, self.logits.sum())})
        self.mean = self.logits.mean(0)
        return self.logits


def test_modules_that_keep_activations_can_be_copied():
    module = Keeping()
    net = net_of(module, alpha=0.5).fit(X, Y)
    copies = [as_module(net), copy.deepcopy(net).module_, clone(net).module]
    net.forward(X, training=True)
    module(torch.as_tensor(X))
    copies += [as_module(net), as_module(module)]
    for other in copies:
        torch.testing.assert_close(
            other(torch.as_tensor(X)).detach(), module(torch.as_tensor(X)).detach()
        )
        assert other is not module


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(torch.as_tensor(X), torch.as_tensor(Y), strict=True))


def test_a_stream_is_resumed_from_a_checkpoint(tmp_path, are_equal):
    whole = net_of(max_epochs=4).fit(Stream(), None)
    for max_epochs in (2, 4):
        checkpoint = Checkpoint(tmp_path / "stream", resume=True)
        net = net_of(max_epochs=max_epochs, callbacks=[checkpoint]).fit(Stream(), None)
    assert are_equal(state_of(net), state_of(whole))
