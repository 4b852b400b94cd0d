"""Every estimator that as_module knows, as ONNX against its `predict_proba`, or refused."""

import numpy as np
import onnxruntime
import pytest
import sklearn
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFE, SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, DotProduct
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.utils.fixes import parse_version
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from sk_adv import AdversarialLogisticRegression
from sk_adv.export import load_weights, save_weights, to_onnx
from sk_adv.neural_network import AdversarialNet

LINE, SCALER = LogisticRegression(max_iter=1000), StandardScaler()
SVM = SVC(kernel="rbf", gamma=0.02)
QUIET = {"max_epochs": 1, "train_split": None, "verbose": 0}


def inside(transformer):
    return make_pipeline(transformer, SCALER, LINE)


TAKEN = {
    "logistic regression": LINE,
    "its search": LogisticRegressionCV(cv=2, Cs=2, max_iter=1000),
    "adversarial": AdversarialLogisticRegression(epsilon=0.1),
    "log loss": make_pipeline(SCALER, SGDClassifier(loss="log_loss", random_state=0)),
    "Huber loss": SGDClassifier(loss="modified_huber", random_state=0),
    "discriminant": LinearDiscriminantAnalysis(),
    "quadratic": make_pipeline(PCA(5), QuadraticDiscriminantAnalysis()),
    "naive Bayes": GaussianNB(),
    "network": MLPClassifier((6,), max_iter=20, random_state=0),
    "soft votes": VotingClassifier([("a", LINE), ("b", GaussianNB())], voting="soft"),
    "bagging": BaggingClassifier(LINE, n_estimators=2, max_features=0.5, random_state=0),
    "votes of bagging": BaggingClassifier(LinearSVC(), n_estimators=4, random_state=0),
    "one against the rest": OneVsRestClassifier(LINE),
    "stacking": StackingClassifier([("a", LINE), ("b", SVM)], cv=2, passthrough=True),
    "sigmoid calibration": CalibratedClassifierCV(SVM, cv=2),
    "isotonic calibration": CalibratedClassifierCV(LINE, cv=2, method="isotonic"),
    "frozen calibration": CalibratedClassifierCV(GaussianNB(), cv=2, ensemble=False),
    "calibration in a pipeline": make_pipeline(SCALER, CalibratedClassifierCV(LinearSVC(), cv=2)),
    "columns": inside(make_column_transformer((PCA(2), [2, 3, 4]), remainder="passthrough")),
    "imputer": inside(SimpleImputer(add_indicator=True)),
    "function": inside(FunctionTransformer(np.sin)),
    "elimination": RFE(LINE, n_features_to_select=3),
    "search": GridSearchCV(LINE, {"C": [1.0]}, cv=2),
    "projection": make_pipeline(LinearDiscriminantAnalysis(), LINE),
} | {
    type(step).__name__: inside(step)
    for step in [
        MinMaxScaler(clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        Normalizer(),
        PolynomialFeatures(2),
        IncrementalPCA(3),
        TruncatedSVD(3),
        SelectKBest(k=3),
    ]
}
REFUSED = {
    "SVC": (SVC(), "predict_proba, which this SVC does not have.*CalibratedClassifierCV"),
    "in a pipeline": (make_pipeline(SCALER, NuSVC(nu=0.1)), "this Pipeline does not have"),
    "search": (GridSearchCV(SVC(), {"C": [1]}, cv=2), "this GridSearchCV does not have"),
    "probable": (SVC(probability=True), "no predict_proba from SVC.*CalibratedClassifierCV"),
    "bagging": (
        BaggingClassifier(SVC(probability=True), n_estimators=2),
        "no predict_proba from SVC",
    ),
    "perceptron": (Perceptron(), "which this Perceptron does not have"),
    "ridge": (RidgeClassifier(), "which this RidgeClassifier does not have"),
    "votes": (VotingClassifier([("line", LINE)]), "which this VotingClassifier does not have"),
    "process": (GaussianProcessClassifier(RBF(5), optimizer=None), "float64 by the operators Erf"),
    "product": (
        GaussianProcessClassifier(0.01 * DotProduct(), optimizer=None),
        "float64 by the operators Erf",
    ),
    "arcus": (inside(FunctionTransformer(np.arcsinh)), "by the operators Asinh, which ONNX Run"),
}


def data(n_classes):
    X, y = make_classification(
        120, 8, n_informative=5, n_classes=n_classes, class_sep=0.5, random_state=0
    )
    return 3 * X + np.arange(8), np.array(["ant", "bee", "cat"])[y]


def session_of(model, path, **options):
    to_onnx(model, path, **options)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_same(session, model, X):
    for n_samples in (1, 2, 7, len(X)):
        (found,) = session.run(None, {"X": X[:n_samples]})
        expected = model.predict_proba(X[:n_samples])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# Transformers and what has no form of its own for two classes are tried with three only.
WITH_TWO = ["logistic regression", "Huber loss", "naive Bayes", "network", "votes of bagging"]
WITH_TWO += ["one against the rest", "stacking", "sigmoid calibration", "isotonic calibration"]


@pytest.mark.parametrize(
    ("name", "n_classes"), [(name, 3) for name in TAKEN] + [(name, 2) for name in WITH_TWO]
)
def test_onnx_gives_the_probabilities_of_batches_of_any_size(name, n_classes, tmp_path):
    X, y = data(n_classes)
    model = clone(TAKEN[name]).fit(X, y)
    assert_same(session_of(model, tmp_path / "model.onnx"), model, X)


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_could_not_give_is_refused_and_not_written(name, tmp_path):
    model, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        to_onnx(clone(model).fit(*data(3)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_way_that_the_refusal_of_a_machine_names_works(tmp_path):
    X, y = data(3)
    machine = SVC(probability=True).fit(X, y)
    model = CalibratedClassifierCV(FrozenEstimator(machine)).fit(X, y)
    assert_same(session_of(model, tmp_path / "model.onnx"), model, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", [LINE, inside(PCA(3)), MLPClassifier((4,), max_iter=5)])
def test_the_input_has_the_type_that_the_estimator_was_fitted_to(model, dtype, tmp_path):
    X, y = data(2)
    X = X.astype(dtype)
    model = clone(model).fit(X, y)
    session = session_of(model, tmp_path / "model.onnx")
    last = model[-1] if isinstance(model, Pipeline) else model
    weights = last.coefs_[0] if hasattr(last, "coefs_") else last.coef_
    # scikit-learn below 1.9 fits some of them to float64 where X is float32.
    assert weights.dtype == dtype or parse_version(sklearn.__version__) < parse_version("1.9")
    kind = "tensor(float)" if weights.dtype == np.float32 else "tensor(double)"
    assert [part.type for part in (*session.get_inputs(), *session.get_outputs())] == [kind, kind]
    assert_same(session, model, X.astype(weights.dtype))


def test_large_numbers_that_differ_in_the_digits_of_float64_only_are_told_apart(tmp_path):
    X, y = data(2)
    X = 1e9 + X
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert np.ptp(model.predict_proba(X)[:, 0]) > 0.5
    assert_same(session_of(model, tmp_path / "model.onnx"), model, X)


NETS = {
    "cross-entropy": (NeuralNetClassifier, torch.nn.Linear(8, 3), "CrossEntropyLoss"),
    "likelihood": (
        NeuralNetClassifier,
        torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(1)),
        "NLLLoss",
    ),
    "adversarial": (AdversarialNet, torch.nn.Linear(8, 3), "CrossEntropyLoss"),
    "margins": (AdversarialNet, torch.nn.Linear(8, 3), "MultiMarginLoss"),
}


@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_onnx_gives_the_probabilities_of_nets(name, is_scaled, tmp_path):
    X, y = data(3)
    X, y = X.astype(np.float32), np.unique(y, return_inverse=True)[1]
    kind, module, criterion = NETS[name]
    net = kind(module, criterion=getattr(torch.nn, criterion), **QUIET)
    model = (make_pipeline(SCALER, net) if is_scaled else net).fit(X, y)
    assert_same(session_of(model, tmp_path / "net.onnx", sample_shape=(8,)), model, X)


def test_onnx_gives_the_probabilities_of_a_binary_net(tmp_path):
    X, y = data(2)
    X, y = X.astype(np.float32), (y == "bee").astype(np.float32)
    net = NeuralNetBinaryClassifier(torch.nn.Linear(8, 1), **QUIET).fit(X, y)
    assert_same(session_of(net, tmp_path / "net.onnx", sample_shape=(8,)), net, X)


class ByLength(torch.nn.Linear):
    """A module that takes the number of samples as a constant."""

    def forward(self, X):
        return super().forward(X) + X.new_zeros(len(X), 3)


def test_a_module_that_fixes_the_number_of_samples_is_refused(tmp_path):
    X, y = data(3)
    X, y = X.astype(np.float32), np.unique(y, return_inverse=True)[1]
    net = AdversarialNet(ByLength(8, 3), **QUIET).fit(X, y)
    with pytest.raises(ValueError, match="batches of 2 samples only.*place of len"):
        to_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


class TwoModules(AdversarialNet):
    """A decoder behind the module."""

    def initialize_module(self):
        super().initialize_module()
        self.decoder_ = torch.nn.Linear(5, 3)
        return self

    def infer(self, X, **params):
        return self.decoder_(self.module_(X).relu())


def test_a_net_of_two_modules_is_exported_as_a_whole(tmp_path):
    X, y = data(3)
    X, y = X.astype(np.float32), np.unique(y, return_inverse=True)[1]
    net = TwoModules(torch.nn.Linear(8, 5), **QUIET).fit(X, y)
    assert_same(session_of(net, tmp_path / "net.onnx"), net, X)
    save_weights(net, tmp_path / "net.safetensors")
    names = {"module.weight", "module.bias", "decoder.weight", "decoder.bias"}
    assert set(load_file(tmp_path / "net.safetensors")) == names
    other = TwoModules(torch.nn.Linear(8, 5), **QUIET).initialize()
    load_weights(other, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_and_the_network_keeps_its_own(number, tmp_path):
    path = tmp_path / "net.safetensors"
    net = AdversarialNet(torch.nn.Linear(4, 3)).initialize()
    before = net.module_.weight.clone()
    weight = torch.zeros(3, 4)
    weight[1, 2] = number
    save_file({"weight": weight, "bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="NaN or infinity in weight"):
        load_weights(net, path)
    assert torch.equal(net.module_.weight, before)
