"""What needs data in memory says so to a dask collection, and reads none of it."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fuzz_loop import fuzz_doors
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
    attacks,
    metrics,
)
from sk_adv.inspection import (
    AdversarialContributionDisplay,
    AdversarialExamplesDisplay,
    EpsilonSweepDisplay,
    RobustnessCurveDisplay,
    TransferMatrixDisplay,
    VerdictDisplay,
)
from sk_adv.neural_network import AdversarialNet
from sk_adv.pipeline import RawUnitsPipeline
from sk_adv.tree import as_trees

mpl.use("Agg")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

X = np.random.default_rng(0).normal(size=(40, 4))
Y = (X[:, 0] > 0).astype(int)
FRAME = pd.DataFrame(X, columns=list("abcd"))
MODEL = LogisticRegression().fit(X, Y)
FOREST = RandomForestClassifier(3, random_state=0).fit(X, Y)
MAXOUT = AdversarialMaxoutClassifier(hidden_layer_sizes=(3,), max_iter=1)
NET = AdversarialNet(nn.Linear(4, 2), max_epochs=1, verbose=0, train_split=None)
TRANSFORMER = FGSMTransformer(LogisticRegression(), epsilon=0.1)
SAMPLER = FGSMSampler(LogisticRegression(), epsilon=0.1)

# By the name of the door in tests/fuzz. `y` is a dask array too.
REFUSE = {
    **{
        f"attacks.{name}": lambda X, y, name=name: getattr(attacks, name)(
            nn.Linear(4, 2).double(), X, y, 0.1
        )
        for name in (
            *("apgd", "auto", "exact", "fgsm", "fgsm_rs", "pgd"),
            *("rotate_towards_gradient", "sign_noise", "square", "uniform_noise"),
        )
    },
    "inspection.AdversarialExamplesDisplay.from_estimator": (
        lambda X, y: AdversarialExamplesDisplay.from_estimator(MODEL, X, y, epsilon=0.1)
    ),
    "inspection.AdversarialExamplesDisplay.from_predictions": (
        lambda X, y: AdversarialExamplesDisplay.from_predictions(X, X, y, y, y)
    ),
    "inspection.EpsilonSweepDisplay.from_estimator": (
        lambda X, y: EpsilonSweepDisplay.from_estimator(MODEL, X, y)
    ),
    "inspection.RobustnessCurveDisplay.from_predictions": (
        lambda X, y: RobustnessCurveDisplay.from_predictions(y, X, epsilons=[0, 0.1])
    ),
    "inspection.TransferMatrixDisplay.from_estimators": (
        lambda X, y: TransferMatrixDisplay.from_estimators({"a": MODEL}, X, y, epsilon=0.1)
    ),
    "inspection.TransferMatrixDisplay.from_predictions": (
        lambda X, y: TransferMatrixDisplay.from_predictions(y, X)
    ),
    "inspection.AdversarialContributionDisplay.from_estimator": (
        lambda X, y: AdversarialContributionDisplay.from_estimator(MODEL, X, y, 0.1)
    ),
    "metrics.adversarial_contribution": (
        lambda X, y: metrics.adversarial_contribution(MODEL, X, y, 0.1)
    ),
    "metrics.fragile_samples": lambda X, y: metrics.fragile_samples(MODEL, X, y),
    "metrics.adversarial_report": lambda X, y: metrics.adversarial_report(MODEL, X, y, [0, 0.1]),
    "metrics.transfer_error_matrix": (
        lambda X, y: metrics.transfer_error_matrix({"a": MODEL}, X, y, epsilon=0.1)
    ),
    "neural_network.AdversarialMaxoutClassifier.fit": lambda X, y: MAXOUT.fit(X, y),
    "neural_network.AdversarialMaxoutClassifier.partial_fit": (
        lambda X, y: MAXOUT.partial_fit(X, y, classes=[0, 1])
    ),
    **{
        f"neural_network.AdversarialMaxoutClassifier.{method}": (
            lambda X, y, method=method: getattr(_maxout(), method)(X)
        )
        for method in ("predict", "predict_proba", "predict_log_proba")
    },
    "neural_network.AdversarialNet.fit": lambda X, y: NET.fit(X, y),
    "neural_network.AdversarialNet.partial_fit": (
        lambda X, y: NET.partial_fit(X, y, classes=[0, 1])
    ),
    **{
        f"neural_network.AdversarialNet.{method}": (
            lambda X, y, method=method: getattr(_net(), method)(X)
        )
        for method in ("predict", "predict_proba")
    },
    "neural_network.AdversarialNet.score": lambda X, y: _net().score(X, y),
    "pipeline.RawUnitsPipeline.fit": (
        lambda X, y: RawUnitsPipeline([("linear", AdversarialLogisticRegression())]).fit(X, y)
    ),
    "preprocessing.FGSMSampler.fit": lambda X, y: SAMPLER.fit(X, y),
    "preprocessing.FGSMSampler.fit_resample": lambda X, y: SAMPLER.fit_resample(X, y),
    "preprocessing.FGSMTransformer.fit": lambda X, y: TRANSFORMER.fit(X, y),
    "preprocessing.FGSMTransformer.fit_transform": lambda X, y: TRANSFORMER.fit_transform(X, y),
    "tree.TreeSum.scores": lambda X, y: as_trees(FOREST).scores(X),
}

# These work by partition: tests/test_collections.py, or call what does.
WORK = {
    "attacks.perturb",
    "inspection.RobustnessCurveDisplay.from_estimator",
    "inspection.RobustnessCurveDisplay.from_estimators",
    "inspection.VerdictDisplay.from_estimator",
    "metrics.adversarial_accuracy_score",
    "metrics.adversarial_confidence",
    "metrics.certified_accuracy_score",
    "metrics.make_adversarial_scorer",
    "metrics.robustness_radius",
    "metrics.verify_robustness",
    "preprocessing.FGSMTransformer.transform",
}

# They take no samples, or tensors alone.
OTHERS = ("datasets.", "differentiable.", "export.", "inspection.FilterDisplay.", "linear_model.")
OTHERS += ("attacks.log_odds_against", "attacks.register_attack", "tree.as_trees")
OTHERS += tuple(f"neural_network.{name}" for name in ("Checkpoint", "Maxout", "OverfittingGuard"))
OTHERS += ("neural_network.RobustEarlyStopping", "inspection.EpsilonSweepDisplay.from_predictions")


def _maxout():
    return AdversarialMaxoutClassifier(hidden_layer_sizes=(3,), max_iter=1).fit(X, Y)


def _net():
    return NET.fit(X.astype(np.float32), Y)


@pytest.mark.parametrize("kind", ["array", "frame"])
@pytest.mark.parametrize("name", REFUSE)
def test_a_door_that_needs_memory_refuses_a_collection_before_reading_it(name, kind):
    read = []

    def load(block):
        # dask itself calls it with a sample without rows, or with ones.
        if len(block) > 1:
            read.append(len(block))
        return block

    if kind == "array":
        parts = da.from_array(X, chunks=(10, 4)).map_blocks(load, dtype=float, meta=X[:0])
    else:
        parts = dd.from_pandas(FRAME, npartitions=3).map_partitions(load, meta=FRAME[:0])
    with pytest.raises(TypeError, match=r"takes data in memory, and got a dask .*compute\(\)"):
        REFUSE[name](parts, da.from_array(Y, chunks=10))
    assert not read


@pytest.mark.parametrize("make", [_maxout, _net])
def test_scores_of_networks_refuse_lazy_labels(make):
    with pytest.raises(TypeError, match="takes data in memory, and got a dask Array"):
        make().score(X.astype(np.float32), da.from_array(Y, chunks=10))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("make", [AdversarialMaxoutClassifier, lambda: NET])
def test_training_of_networks_says_what_data_can_be_instead(make, method):
    parts = da.from_array(X.astype(np.float32), chunks=10)
    with pytest.raises(TypeError, match=r"compute\(\).*memmap, or call partial_fit.*and clusters'"):
        getattr(make(), method)(parts, da.from_array(Y, chunks=10))


def test_every_public_door_works_by_partition_or_refuses():
    known = WORK | set(REFUSE)
    # A class whose name begins like another's has doors of its own.
    rest = {name for name in fuzz_doors.DOORS if not name.startswith(OTHERS) or name in known}
    assert rest <= known, sorted(rest - known)


@pytest.mark.parametrize("display", [RobustnessCurveDisplay, VerdictDisplay])
def test_curves_over_radii_are_drawn_by_partition(display):
    parts = da.from_array(X, chunks=(15, 4))
    drawn = display.from_estimator(MODEL, parts, Y, epsilons=[0.1, 0.3])
    expected = display.from_estimator(MODEL, X, Y, epsilons=[0.1, 0.3])
    for name in ("errors", "verified", "falsified"):
        if hasattr(drawn, name):
            np.testing.assert_allclose(getattr(drawn, name), getattr(expected, name))
