"""Fitted estimators written for other programs, and read by them."""

import errno
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier
from skorch.exceptions import NotInitializedError
from torch.utils.data import TensorDataset

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.export import load_weights, save_weights, to_onnx
from sk_adv.neural_network import AdversarialNet

SMALL = AdversarialMaxoutClassifier(
    (16, 16), epsilon=0.1, learning_rate_init=0.01, max_iter=20, random_state=0, device="cpu"
)
LINEAR = AdversarialLogisticRegression(epsilon=0.05, C=10)
IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
CASES = {
    "scaled network": (make_pipeline(StandardScaler(), SMALL), CANCER),
    "double network": (clone(SMALL).set_params(precision="float64"), IRIS),
    "sigmoids": (clone(SMALL).set_params(output_activation="sigmoid"), IRIS),
    "linear, two classes": (
        GridSearchCV(make_pipeline(StandardScaler(), LINEAR), {"memory": [None]}, cv=2),
        CANCER,
    ),
    "linear, three classes": (make_pipeline(MinMaxScaler((-1, 1), clip=True), LINEAR), IRIS),
}


class Noisy(torch.nn.Linear):
    """A layer with a word of its own to the user."""

    def forward(self, X):
        warnings.warn("mind the gap", UserWarning, stacklevel=1)
        return super().forward(X)


def test_nothing_is_heard_of_the_exporter_itself_and_all_of_the_module(tmp_path, caplog, capfd):
    net = AdversarialNet(Noisy(4, 3), verbose=0, train_split=None, max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(IRIS[0].astype(np.float32), IRIS[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_onnx(net, tmp_path / "noisy.onnx")
    assert {str(one.message) for one in caught} == {"mind the gap"}
    assert "torchvision" not in caplog.text + capfd.readouterr().err


def runtime(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session, X):
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    (given,) = session.get_inputs()
    (probabilities,) = session.run(None, {"X": X.astype(dtype[given.type])})
    return probabilities


@pytest.mark.parametrize("case", CASES)
def test_onnx_gives_the_probabilities_for_raw_inputs_and_any_number_of_samples(case, tmp_path):
    model, (X, y) = CASES[case]
    model = clone(model).fit(X[::2], y[::2])
    to_onnx(model, tmp_path / "model.onnx")
    session = runtime(tmp_path / "model.onnx")
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("X", "tensor(double)")
    assert (result.name, result.type) == ("probabilities", "tensor(double)")
    assert given.shape == ["n_samples", X.shape[1]]
    # Inputs far outside the data as well, where scalers clip and probabilities are extreme.
    for samples in (X, X[:1], X[:0], 3 * X - 2 * X.mean(0)):
        found = run(session, samples)
        assert found.shape == (len(samples), len(np.unique(y)))
        if len(samples):
            np.testing.assert_allclose(found, model.predict_proba(samples), rtol=0, atol=1e-5)


class Pictures(torch.nn.Sequential):
    """A convolution with batch statistics and dropout, over pictures of 6 by 6."""

    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(1, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Dropout(),
            torch.nn.Flatten(),
            torch.nn.Linear(64, 3),
        )


def test_onnx_gives_the_probabilities_of_a_net_of_any_module(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 1, 6, 6)).astype(np.float32)
    y, path = np.arange(60) % 3, tmp_path / "model.onnx"
    net = AdversarialNet(Pictures, max_epochs=2, train_split=None, verbose=0, classes=range(3))
    assert net.fit(TensorDataset(*map(torch.as_tensor, (X, y))), None).sample_shape_ == (1, 6, 6)
    to_onnx(net.fit(X, y), path)
    session = runtime(path)
    assert session.get_inputs()[0].shape == ["n_samples", 1, 6, 6]
    np.testing.assert_allclose(run(session, X), net.predict_proba(X), rtol=0, atol=1e-5)
    save_weights(net, tmp_path / "weights")
    other = clone(net).initialize()
    load_weights(other, tmp_path / "weights")
    with pytest.raises(ValueError, match="not known to this AdversarialNet: pass it"):
        to_onnx(other, path)
    to_onnx(other, path, sample_shape=(1, 6, 6))
    np.testing.assert_allclose(run(runtime(path), X), net.predict_proba(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize("nonlinearity", ["auto", None, torch.sigmoid])
@pytest.mark.parametrize("is_in_a_search", [False, True])
def test_onnx_gives_what_the_nonlinearity_of_a_net_makes_of_its_outputs(
    nonlinearity, is_in_a_search, tmp_path
):
    X, y = IRIS[0].astype(np.float32), IRIS[1]
    net = AdversarialNet(
        torch.nn.Linear(4, 3),
        criterion=torch.nn.MultiMarginLoss,
        predict_nonlinearity=nonlinearity,
        max_epochs=1,
        verbose=0,
    )
    if is_in_a_search:
        net = GridSearchCV(make_pipeline(StandardScaler(), net), {"memory": [None]}, cv=2)
    net.fit(X, y)
    to_onnx(net, tmp_path / "net.onnx", sample_shape=(4,))
    found = run(runtime(tmp_path / "net.onnx"), X)
    np.testing.assert_allclose(found, net.predict_proba(X), rtol=0, atol=1e-5)


def test_onnx_is_one_valid_file_with_the_labels_and_the_opset_asked_for(tmp_path):
    X, y = IRIS
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    model = clone(LINEAR).fit(X, words)
    to_onnx(model, str(tmp_path / "model.onnx"), opset=18)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == 18
    metadata = runtime(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == model.classes_.tolist()


def test_export_leaves_the_estimator_as_it_was(tmp_path):
    X, y = IRIS
    model = clone(SMALL).set_params(hidden_dropout=0.5, max_iter=2).fit(X, y)
    before = {name: value.clone() for name, value in model.net_.module_.state_dict().items()}
    model.net_.module_.train()
    to_onnx(model, tmp_path / "model.onnx")
    assert model.net_.module_.training
    assert all(value.requires_grad for value in model.net_.module_.parameters())
    for name, value in model.net_.module_.state_dict().items():
        assert torch.equal(value, before[name])


def test_onnx_wants_a_fitted_classifier_that_is_differentiable(tmp_path):
    X, y = IRIS
    with pytest.raises(TypeError, match="probabilities of a classifier"):
        to_onnx(LinearRegression().fit(X, y), tmp_path / "model.onnx")
    with pytest.raises(TypeError, match="no rule for DecisionTreeClassifier"):
        to_onnx(DecisionTreeClassifier().fit(X, y), tmp_path / "model.onnx")
    with pytest.raises(NotFittedError):
        to_onnx(clone(SMALL), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (FunctionTransformer(lambda X: np.asarray(X.tolist())), "differentiable on torch tensors"),
        (PowerTransformer(), "no rule for PowerTransformer"),
    ],
)
def test_other_refusals_of_a_model_advise_no_surrogate_either(step, reason, tmp_path):
    X, y = IRIS
    model = make_pipeline(step, clone(LINEAR)).fit(X, y)
    message = f"to_onnx .*Pipeline of AdversarialLogisticRegression.*{reason}"
    with pytest.raises(TypeError, match=message) as refused:
        to_onnx(model, tmp_path / "model.onnx")
    message = str(refused.value)
    assert "surrogate" not in message
    assert 0 < message.find("skops.io.dump") < message.find("fit another model")


@pytest.mark.parametrize("is_in_pipeline", [False, True])
def test_a_model_without_a_rule_is_exported_through_one_fitted_to_its_predictions(
    is_in_pipeline, tmp_path
):
    X, y = IRIS
    forest = RandomForestClassifier(5, random_state=0)
    forest = (make_pipeline(StandardScaler(), forest) if is_in_pipeline else forest).fit(X, y)
    with pytest.raises(TypeError, match="to_onnx .*RandomForestClassifier") as refused:
        to_onnx(forest, tmp_path / "model.onnx")
    message = str(refused.value)
    # to_onnx takes neither an attack nor a surrogate.
    assert "attack" not in message and "surrogate" not in message
    # The model itself comes first: another one answers differently.
    assert 0 < message.find("skops.io.dump") < message.find("AdversarialMaxoutClassifier()")
    to_onnx(clone(SMALL).fit(X, forest.predict(X)), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir())


def test_weights_go_from_one_classifier_to_another(tmp_path):
    X, y = IRIS
    model = clone(SMALL).fit(X, y)
    save_weights(model, tmp_path / "weights.safetensors")
    stored = load_file(tmp_path / "weights.safetensors")
    assert stored.keys() == model.net_.module_.state_dict().keys()
    other = clone(SMALL).set_params(random_state=1, max_iter=1).fit(X, y)
    load_weights(other, str(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    assert other.partial_fit(X, y).n_iter_ == 2


class Tied(torch.nn.Module):
    """Two layers with one weight, and batch statistics."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, X):
        return self.norm(self.second(self.first(X).relu()))


def test_weights_of_any_net_are_saved_with_its_buffers_and_shared_tensors(tmp_path):
    X, y = IRIS
    net = AdversarialNet(Tied, epsilon=0.1, max_epochs=2, train_split=None, verbose=0)
    net.fit(X.astype(np.float32), y)
    save_weights(net, tmp_path / "weights.safetensors")
    other = AdversarialNet(Tied).initialize()
    load_weights(other, tmp_path / "weights.safetensors")
    assert other.module_.second.weight is other.module_.first.weight
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, other.module_.state_dict()[name])


def test_weights_that_do_not_fit_are_refused_and_the_network_keeps_its_own(tmp_path):
    X, y = IRIS
    path = tmp_path / "weights.safetensors"
    model = clone(SMALL).set_params(max_iter=1).fit(X, y)
    before = model.predict_proba(X)
    wider = clone(model).set_params(hidden_layer_sizes=(16, 17)).fit(X, y)
    save_weights(wider, path)
    with pytest.raises(ValueError, match="layers must have the same sizes"):
        load_weights(model, path)
    save_file({"output.bias": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="Missing key"):
        load_weights(model, path)
    path.write_bytes(b"something else altogether")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_weights(model, path)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    with pytest.raises(FileNotFoundError):
        load_weights(model, tmp_path / "nowhere")


def test_weights_go_to_a_folder_that_is_there_and_come_from_a_file(tmp_path):
    net = AdversarialNet(torch.nn.Linear(4, 3)).initialize()
    with pytest.raises(FileNotFoundError, match="no folder .*absent"):
        save_weights(net, tmp_path / "absent" / "net.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_weights(net, tmp_path)


def writing(function, path):
    """Write a net by a function, whose error must be one sentence of ours."""
    net = AdversarialNet(torch.nn.Linear(4, 3)).initialize()
    function(net, path, **({"sample_shape": (4,)} if function is to_onnx else {}))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
@pytest.mark.parametrize("function", [save_weights, to_onnx])
def test_a_folder_that_can_not_be_written_to_is_named(function):
    with pytest.raises(OSError, match=r"/proc/model can't be written: .*The disk mounted at /proc"):
        writing(function, "/proc/model")


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize("function", [save_weights, to_onnx])
def test_a_full_disk_is_named_and_leaves_the_file_that_was_there(function, tmp_path, monkeypatch):
    def fill(beside, error):
        Path(beside).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(
        safetensors.torch, "save_model", lambda model, file: fill(file, SafetensorError(FULL))
    )
    monkeypatch.setattr(
        torch.onnx.ONNXProgram,
        "save",
        lambda program, file, **options: fill(file, OSError(errno.ENOSPC, "No space left")),
    )
    path = tmp_path / "net"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=rf"{path} can't be written: .*No space.*MiB free"):
        writing(function, path)
    assert [file.name for file in tmp_path.iterdir()] == ["net"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("function", [save_weights, to_onnx])
def test_a_link_to_a_file_stays_a_link(function, tmp_path):
    (tmp_path / "kept").mkdir()
    target, link = tmp_path / "kept" / "net", tmp_path / "net"
    link.symlink_to(target)
    writing(function, link)
    assert link.is_symlink() and target.stat().st_size > 0
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["net"]


def test_weights_are_those_of_fitted_networks_only(tmp_path):
    X, y = IRIS
    for transfer in (save_weights, load_weights):
        with pytest.raises(NotFittedError):
            transfer(clone(SMALL), tmp_path / "weights")
        with pytest.raises(NotInitializedError):
            transfer(AdversarialNet(Tied), tmp_path / "weights")
        with pytest.raises(TypeError, match="AdversarialMaxoutClassifier or an AdversarialNet"):
            transfer(clone(LINEAR).fit(X, y), tmp_path / "weights")
        with pytest.raises(TypeError, match=r"pipeline\[-1\]"):
            transfer(make_pipeline(StandardScaler(), clone(SMALL)).fit(X, y), tmp_path / "weights")


@pytest.mark.parametrize(
    ("function", "package"),
    [
        (to_onnx, "onnx"),
        (to_onnx, "onnxscript"),
        (save_weights, "safetensors.torch"),
        (load_weights, "safetensors.torch"),
    ],
)
def test_missing_package_is_named_with_the_extra_that_brings_it(
    function, package, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    name = package.split(".")[0]
    # The package is not on PyPI: the checkout is what can be installed.
    wanted = rf'{function.__name__} needs .*{name}.*pip install -e "\.\[export\]" in the checkout'
    with pytest.raises(ImportError, match=wanted):
        function(clone(SMALL), tmp_path / "file")
