"""Nets take unusual data and modules as they should, or refuse them in one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from skorch.exceptions import SkorchException
from torch import nn
from torch.utils.data import TensorDataset

from sk_adv.attacks import perturb
from sk_adv.neural_network import AdversarialNet

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
ALPHAS = [0, 0.5, 1]


def net(make=lambda: nn.Linear(4, 3), **params):
    """A net around a module that is always made by the same seed."""
    torch.manual_seed(0)
    params = {"max_epochs": 2, "lr": 0.1, "verbose": 0, "train_split": None} | params
    return AdversarialNet(make(), **params)


def weights(trained):
    return [weight.detach().numpy().copy() for weight in trained.module_.parameters()]


def spoilt(value):
    spoilt = X.copy()
    spoilt[[7, 90], 1] = value
    return spoilt


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_missing_and_infinite_values_are_named_before_the_first_step(alpha, value, name, kind):
    model = net(alpha=alpha)
    before = model.module.weight.detach().clone()
    with pytest.raises(ValueError, match=f"Input X contains {name}, first in row 7"):
        model.fit(kind(spoilt(value)), Y)
    assert torch.equal(model.module.weight, before)


def test_missing_values_in_a_memory_map_are_named(tmp_path):
    stored = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=X.shape)
    stored[:] = spoilt(np.nan)
    with pytest.raises(ValueError, match="Input X contains NaN, first in row 7"):
        net().fit(stored, Y)


def test_missing_values_in_a_dataset_are_named_in_place_of_the_learning_rate():
    data = TensorDataset(torch.tensor(spoilt(np.nan)), torch.tensor(Y))
    model = net()
    before = model.module.weight.detach().clone()
    with pytest.raises(ValueError, match="Input X contains NaN, first in batch 0"):
        model.fit(data, None)
    assert torch.equal(model.module.weight, before)


class Imputing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, X):
        return self.layer(X.nan_to_num())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_module_that_imputes_is_trained_as_on_imputed_values(alpha):
    # The radius of the column is 0, as a missing value stays missing.
    options = {"alpha": alpha, "epsilon": [0.1, 0, 0.1, 0.1]}
    found = net(Imputing, **options).fit(spoilt(np.nan), Y)
    expected = net(Imputing, **options).fit(spoilt(0.0), Y)
    for one, other in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


class First(nn.Module):
    """A function before a layer."""

    def __init__(self, first):
        super().__init__()
        self.first, self.layer = first, nn.Linear(4, 3)

    def forward(self, X):
        return self.layer(self.first(X))


IN_PLACE = {
    "relu": (nn.ReLU(inplace=True), nn.ReLU()),
    "add": (lambda X: X.add_(1), lambda X: X + 1),
    "view": (lambda X: X[:, :].mul_(2), lambda X: X * 2),
}


def data_of(X):
    return TensorDataset(torch.tensor(X), torch.tensor(Y))


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("wrap", [lambda X: (X, Y), lambda X: (data_of(X), None)])
def test_a_first_operation_in_place_trains_as_one_that_is_not(name, alpha, attack, wrap):
    trained = []
    for first in IN_PLACE[name]:
        given = X.copy()
        model = net(lambda first=first: First(first), alpha=alpha, attack=attack)
        trained.append(weights(model.fit(*wrap(given))))
        model.predict(given)
        perturb(model, given, Y, epsilon=0.1)
        np.testing.assert_array_equal(given, X)
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("answer", "kind"), [(lambda z: [z], "list"), (lambda z: {"z": z}, "dict")]
)
def test_outputs_that_are_no_tensor_are_named_in_training(alpha, answer, kind):
    class Answering(First):
        def forward(self, X):
            return answer(super().forward(X))

    with pytest.raises(TypeError, match=f"tensor of logits.*got a {kind}"):
        net(lambda: Answering(nn.Identity()), alpha=alpha).fit(X, Y)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_a_script_module_is_trained_and_attacked_as_the_module_that_it_was_made_of(norm):
    plain = net(lambda: nn.Sequential(nn.Linear(4, 3))).fit(X, Y)
    script = net(lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 3)))).fit(X, Y)
    np.testing.assert_array_equal(script.predict_proba(X), plain.predict_proba(X))
    attack = {"epsilon": 0.3, "norm": norm}
    np.testing.assert_array_equal(perturb(script, X, Y, **attack), perturb(plain, X, Y, **attack))


@pytest.mark.parametrize("code", [lambda y: y, lambda y: y.float()])
def test_one_hot_labels_of_a_dataset_are_named(code):
    data = TensorDataset(torch.tensor(X), code(nn.functional.one_hot(torch.tensor(Y))))
    with pytest.raises(ValueError, match=r"one class index per sample.*\(3,\).*label.argmax"):
        net().fit(data, None)


def test_probabilities_as_labels_of_a_dataset_stay_possible_without_copies():
    soft = nn.functional.one_hot(torch.tensor(Y)).float() * 0.8 + 0.2 / 3
    options = {"alpha": 1, "criterion": nn.CrossEntropyLoss}
    found = net(**options).fit(TensorDataset(torch.tensor(X), soft), None)
    assert np.isfinite(found.history[-1, "train_loss"])


def test_inference_mode_changes_no_training():
    expected = weights(net().fit(X, Y))
    model = net()
    with torch.inference_mode():
        found = weights(model.fit(torch.tensor(X), Y))
    np.testing.assert_array_equal(found[0], expected[0])


def test_a_module_made_in_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(ValueError, match="made under torch.inference_mode"):
        net().fit(X, Y)


def test_a_module_in_bfloat16_predicts_as_its_logits_in_float32():
    model = net(lambda: nn.Linear(4, 3).bfloat16()).fit(torch.tensor(X).bfloat16(), Y)
    with torch.no_grad():
        logits = model.module_(torch.tensor(X).bfloat16()).float()
    found = model.predict_proba(torch.tensor(X).bfloat16())
    np.testing.assert_allclose(found, logits.softmax(1), rtol=1e-6)


OTHER_KINDS = {
    "frame": (lambda X: pd.DataFrame(X), "DataFrame"),
    "list": (lambda X: X.tolist(), "list"),
    "dict": (lambda X: {"a": X}, "dict"),
    "sparse": (sparse.csr_array, "csr_array"),
    "text": (lambda X: X.astype(str), "dtype <U32"),
    "texts": (lambda X: ["a b"] * len(X), "list"),
    "objects": (lambda X: X.astype(object), "dtype object"),
    "times": (lambda X: X.astype("datetime64[s]"), "dtype datetime64"),
    "sparse tensor": (lambda X: torch.tensor(X).to_sparse(), "sparse_coo"),
    "nothing": (lambda X: None, "NoneType"),
    "generator": (lambda X: iter(X), "iterator"),
}


@pytest.mark.parametrize("name", OTHER_KINDS)
@pytest.mark.parametrize("call", ["fit", "predict", "predict_proba", "score"])
def test_data_of_other_kinds_are_named(name, call):
    convert, word = OTHER_KINDS[name]
    model = net() if call == "fit" else net().fit(X, Y)
    labels = (Y,) if call in ("fit", "score") else ()
    with pytest.raises(TypeError, match=word):
        getattr(model, call)(convert(X), *labels)


@pytest.mark.parametrize("alpha", [0.5, 1])
def test_no_rows_have_no_predictions(alpha):
    model = net(alpha=alpha).fit(X, Y)
    some, none = model.predict_proba(X[:2]), model.predict_proba(X[:0])
    assert none.shape == (0, 3) and none.dtype == some.dtype
    assert model.predict(X[:0]).shape == (0,)
    assert model.predict(X[:0]).dtype == model.predict(X[:2]).dtype


def test_wide_floats_count_as_float64_for_a_net():
    wide = X.astype(np.longdouble)
    model = net(lambda: nn.Linear(4, 3).double()).fit(wide, Y)
    expected = net(lambda: nn.Linear(4, 3).double()).fit(X.astype(np.float64), Y)
    np.testing.assert_array_equal(
        model.predict_proba(wide), expected.predict_proba(X.astype(float))
    )
    assert model.score(wide, Y) == expected.score(X.astype(float), Y)
    single = net().fit(X, Y)
    for call in (single.predict, single.predict_proba, lambda X: net().fit(X, Y)):
        with pytest.raises(TypeError, match="the module has torch.float32: convert X"):
            call(wide)


def test_samples_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"can't take X in batches of shape \(\d+, 3\)"):
        net().fit(X, Y).predict(X[:, :3])


def test_a_prediction_on_a_dataset_leaves_torchs_generator_as_it_was():
    model = net().fit(X, Y)
    before = torch.get_rng_state()
    found = model.predict(data_of(X))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(found, model.predict(X))


WRONG_PARTS = {
    "module": ({"module": None}, "module must be a class or an instance.*None"),
    "arguments": ({"module": nn.Linear}, "Linear can't be made of the arguments.*in_features"),
    "criterion": ({"criterion": 3}, "criterion must be a class or an instance.*3"),
    "optimizer": ({"optimizer": "Adam"}, "optimizer must be a class or an instance.*'Adam'"),
    "text rate": ({"lr": "fast"}, "lr must be an instance of float.*str"),
    "negative rate": ({"lr": -1}, "lr == -1, must be >= 0"),
    "huge rate": ({"lr": 1e300}, r"lr == 1e\+300, must be <="),
    "loss": ({"criterion": nn.MSELoss}, "criterion=MSELoss can't compare logits of shape"),
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_parts_that_do_not_fit_are_named(name):
    params, message = WRONG_PARTS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        net().set_params(**params).fit(X, Y)


def test_complex_numbers_have_no_copies():
    with pytest.raises(TypeError, match="real numbers.*complex64"):
        net().fit(X.astype(np.complex64), Y)


def test_sparse_matrices_are_trained_on_without_copies_as_in_skorch():
    matrix = sparse.csr_matrix(X)
    model, expected = net(alpha=1).fit(matrix, Y), net(alpha=1).fit(X, Y)
    found = model.predict_proba(matrix)
    np.testing.assert_allclose(found, expected.predict_proba(X), rtol=1e-5)
    with pytest.raises(TypeError, match=r"csr_matrix\(X\)"):
        net(alpha=1).fit(sparse.csr_array(X), Y)


def test_a_trimmed_net_says_that_it_was_trimmed():
    model = net().fit(X, Y)
    model.trim_for_prediction()
    for train in (model.fit, model.partial_fit):
        with pytest.raises(SkorchException, match="trimmed for prediction"):
            train(X, Y)
