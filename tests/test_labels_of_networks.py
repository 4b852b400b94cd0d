"""Networks whose training labels lack a class: logit k is label k all the same."""

import json

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn

from sk_adv import FGSMSampler, FGSMTransformer, as_module
from sk_adv.attacks import fgsm, perturb
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
    certified_accuracy_score,
    make_adversarial_scorer,
    transfer_error_matrix,
    verify_robustness,
)
from sk_adv.neural_network import AdversarialNet

EPSILON = 0.05


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def net_of(kind, **params):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    adversary = {"alpha": 1} if kind is AdversarialNet else {}
    return kind(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=10,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **adversary,
        **params,
    )


def trained_without_threes(kind, digits):
    X, y = digits
    return net_of(kind).fit(X[y != 3], y[y != 3])


def trained_on_chunks(kind, digits):
    X, y = digits
    net = net_of(kind).fit(X, y)
    high = y >= 5
    return net.partial_fit(X[high][:50], y[high][:50], classes=np.arange(10))


WAYS = {
    "no 3": trained_without_threes,
    "a chunk of 5 to 9": trained_on_chunks,
    "in a pipeline": lambda kind, digits: make_pipeline(
        FunctionTransformer(), trained_without_threes(kind, digits)
    ),
    "frozen": lambda kind, digits: FrozenEstimator(trained_without_threes(kind, digits)),
}


@pytest.fixture(scope="module", params=[AdversarialNet, NeuralNetClassifier])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=WAYS)
def net(request, kind, digits):
    return WAYS[request.param](kind, digits)


@pytest.fixture(scope="module")
def copies(net, digits):
    """Copies by the attack on the module, which takes class indices."""
    X, y = digits
    return fgsm(as_module(net), X, y, EPSILON)


def test_scores_are_those_of_the_attack_on_the_module(net, digits, copies):
    X, y = digits
    expected = np.mean(net.predict(copies) == y)
    one_step = {"epsilon": EPSILON, "attack": "fgsm"}
    assert adversarial_accuracy_score(net, X, y, **one_step) == pytest.approx(expected)
    np.testing.assert_array_equal(perturb(net, X, y, epsilon=EPSILON), copies)
    report = adversarial_report(net, X, y, [EPSILON], ["fgsm"])
    assert report["error"][0] == pytest.approx(1 - expected)
    probability = net.predict_proba(copies)
    wrong = probability.argmax(1) != y
    sure = probability[wrong].max(1).mean()
    assert adversarial_confidence(net, X, y, **one_step) == pytest.approx(sure)
    assert transfer_error_matrix([net], X, y, EPSILON)[0, 0] == pytest.approx(1 - expected)


def test_transformers_samplers_and_targets_know_all_classes(net, digits):
    X, y = digits
    frozen = FrozenEstimator(net)
    transformer = FGSMTransformer(frozen, epsilon=EPSILON, labels="true").fit(X, y)
    np.testing.assert_array_equal(transformer.classes_, np.arange(10))
    np.testing.assert_array_equal(transformer.transform(X, y), perturb(net, X, y, epsilon=EPSILON))
    copies = FGSMSampler(frozen, epsilon=EPSILON).fit_resample(X, y)[0][len(X) :]
    np.testing.assert_array_equal(copies, perturb(net, X, y, epsilon=EPSILON))
    towards = perturb(net, X[:50], y[:50], epsilon=EPSILON, target=7)
    logits = as_module(net)(torch.from_numpy(np.stack([X[:50], towards]).reshape(100, 64)))
    others = torch.arange(10) != 7
    margin = logits[:, 7] - logits[:, others].logsumexp(1)
    assert (margin[50:] >= margin[:50]).all()


def test_folds_of_a_cross_validation_that_lack_a_class(digits):
    X, y = digits
    rows = np.argsort(y, kind="stable")[:600]  # sorted by class: folds without shuffling lack some
    X, y = X[rows], y[rows]
    scorer = make_adversarial_scorer(epsilon=EPSILON, attack="fgsm")
    folds = [(np.flatnonzero(y != k), np.flatnonzero(y == k)) for k in range(3)]
    scores = cross_val_score(net_of(AdversarialNet), X, y, cv=folds, scoring=scorer)
    # A network that has never seen a class does not find it.
    np.testing.assert_array_equal(scores, 0)
    search = GridSearchCV(net_of(AdversarialNet), {"lr": [0.01]}, cv=2).fit(X, y)
    expected = np.mean(search.predict(fgsm(as_module(search), X, y, EPSILON)) == y)
    found = adversarial_accuracy_score(search, X, y, epsilon=EPSILON, attack="fgsm")
    assert found == pytest.approx(expected)


def test_the_metadata_of_onnx_names_all_logits(digits, tmp_path):
    onnx = pytest.importorskip("onnx")
    from sk_adv.export import to_onnx

    net = trained_without_threes(AdversarialNet, digits)
    to_onnx(net, tmp_path / "net.onnx")
    (classes,) = (
        prop.value
        for prop in onnx.load(tmp_path / "net.onnx").metadata_props
        if prop.key == "classes"
    )
    assert json.loads(classes) == list(range(10))


def as_scores(model, X):
    return as_module(model)(torch.from_numpy(X)).softmax(1).numpy()


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_a_net_votes_with_the_columns_of_all_classes(kind, voting, digits):
    X, y = digits
    frozen = FrozenEstimator(trained_without_threes(kind, digits))
    linear = LogisticRegression(max_iter=300)
    model = VotingClassifier([("net", frozen), ("linear", linear)], voting=voting).fit(X, y)
    found = as_module(model)(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(found.argmax(1), model.predict(X))
    if voting == "soft":
        np.testing.assert_allclose(as_scores(model, X), model.predict_proba(X), atol=1e-6)
    expected = np.mean(model.predict(fgsm(as_module(model), X, y, EPSILON)) == y)
    score = adversarial_accuracy_score(model, X, y, epsilon=EPSILON, attack="fgsm")
    assert score == pytest.approx(expected)


MISREAD = {
    "a bag": lambda net, X, y: BaggingClassifier(FrozenEstimator(net), 2).fit(X, y),
    "a bag of some features": lambda net, X, y: BaggingClassifier(net, 2, max_samples=20).fit(X, y),
    "sigmoids": lambda net, X, y: CalibratedClassifierCV(net, cv=2).fit(X[y != 3], y[y != 3]),
    "isotonic": lambda net, X, y: CalibratedClassifierCV(
        FrozenEstimator(net), method="isotonic"
    ).fit(X[y != 3], y[y != 3]),
}


@pytest.mark.parametrize("name", MISREAD)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_ensembles_that_mistake_the_columns_of_a_net_are_refused(name, digits):
    X, y = digits
    model = MISREAD[name](trained_without_threes(NeuralNetClassifier, digits), X, y)
    message = r"10 columns of this NeuralNetClassifier .*column k is label k.*classes=list\(range"
    with pytest.raises(ValueError, match=f"{type(model).__name__} takes the {message}"):
        adversarial_accuracy_score(model, X, y, epsilon=EPSILON)
    # Its predictions are what they are, and an attack by them alone tells nothing else.
    params = {"n_queries": 2}
    adversarial_accuracy_score(
        model, X, y, epsilon=EPSILON, attack="square", attack_params=params, random_state=0
    )


def test_a_bag_of_nets_that_know_all_classes_is_attacked_as_it_predicts(kind, digits):
    X, y = digits
    net = net_of(kind, classes=list(range(10)))
    # Few rows, so that the members miss some classes.
    model = BaggingClassifier(net, 3, max_samples=20, random_state=0).fit(X, y)
    np.testing.assert_allclose(as_scores(model, X), model.predict_proba(X), atol=1e-6)


def test_one_hot_labels_of_a_frozen_net_have_a_column_for_each_logit(net, digits):
    X, y = digits
    sampler = FGSMSampler(FrozenEstimator(net), epsilon=EPSILON)
    given = sampler.fit_resample(X, y)[0]
    np.testing.assert_array_equal(sampler.fit_resample(X, np.eye(10, dtype=int)[y])[0], given)


def test_certificates_and_verdicts_of_a_net_know_all_classes(net, digits):
    X, y = digits
    X, y = X[:200], y[:200]
    right = net.predict(X) == y
    # A sample may lie at a boundary.
    small = certified_accuracy_score(net, X, y, epsilon=1e-6)
    assert right.mean() - 0.01 <= small <= right.mean()
    attacked = np.mean(net.predict(fgsm(as_module(net), X, y, 0.01)) == y)
    certified = certified_accuracy_score(net, X, y, epsilon=0.01)
    assert attacked / 2 < certified <= attacked < right.mean()
    verdict = verify_robustness(net, X[:20], y[:20], epsilon=1e-6, random_state=0)
    np.testing.assert_array_equal(verdict.status == "verified", right[:20])
    np.testing.assert_array_equal(verdict.status == "falsified", ~right[:20])


def test_displays_of_a_net_know_all_classes(net, digits):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    from sk_adv.inspection import (
        AdversarialExamplesDisplay,
        EpsilonSweepDisplay,
        RobustnessCurveDisplay,
        TransferMatrixDisplay,
        VerdictDisplay,
    )

    X, y = digits
    error = np.mean(net.predict(fgsm(as_module(net), X, y, EPSILON)) != y)
    curve = RobustnessCurveDisplay.from_estimator(net, X, y, epsilons=[EPSILON], attacks="fgsm")
    assert np.ravel(curve.errors) == pytest.approx(error)
    matrix = TransferMatrixDisplay.from_estimators({"net": net}, X, y, epsilon=EPSILON)
    assert np.ravel(matrix.errors) == pytest.approx(error)
    row = np.flatnonzero(y == 7)[0]
    sweep = EpsilonSweepDisplay.from_estimator(net, X[row], 7, epsilons=[0, EPSILON])
    np.testing.assert_array_equal(sweep.classes, np.arange(10))
    line = np.stack([X[row], fgsm(as_module(net), X[[row]], [7], EPSILON)[0]])
    logits = as_module(net)(torch.from_numpy(line))
    np.testing.assert_allclose(sweep.logits, logits, rtol=1e-5, atol=1e-5)
    examples = AdversarialExamplesDisplay.from_estimator(net, X[:3], y[:3], epsilon=EPSILON)
    copies = fgsm(as_module(net), X[:3], y[:3], EPSILON)
    np.testing.assert_array_equal(examples.copies.reshape(3, 64), copies)
    verdicts = VerdictDisplay.from_estimator(net, X[:20], y[:20], epsilons=[1e-6])
    assert verdicts.falsified[0] == pytest.approx(np.mean(net.predict(X[:20]) != y[:20]))
    pyplot.close("all")


@pytest.mark.parametrize("transforms", ["predicted", "true"])
def test_an_unfrozen_net_in_a_transformer_has_a_class_for_each_logit(kind, transforms, digits):
    X, y = digits
    known = y != 3
    transformer = FGSMTransformer(net_of(kind), epsilon=EPSILON, labels=transforms, stage="both")
    torch.manual_seed(0)
    copies = transformer.fit_transform(X[known], y[known])
    net = transformer.estimator_
    np.testing.assert_array_equal(transformer.classes_, np.arange(10))
    labels = y[known] if transforms == "true" else net.predict(X[known])
    np.testing.assert_array_equal(copies, fgsm(as_module(net), X[known], labels, EPSILON))
    if transforms == "true":
        # Threes have a logit, though the net has seen none.
        threes = transformer.transform(X[~known], y[~known])
        np.testing.assert_array_equal(threes, fgsm(as_module(net), X[~known], y[~known], EPSILON))
