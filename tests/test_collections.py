"""Dask collections: the answers are those to the same data in memory."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier, FGSMTransformer
from sk_adv._collections import computed, partitions_of
from sk_adv.attacks import perturb
from sk_adv.linear_model import AdversarialLogisticRegressionCV
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    certified_accuracy_score,
    make_adversarial_scorer,
    robustness_radius,
    verify_robustness,
)

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

FRAME, _Y = load_iris(return_X_y=True, as_frame=True)
FRAME.columns = ["sepal length", "sepal width", "petal length", "petal width"]
Y = np.array(["setosa", "versicolor", "virginica"])[_Y]
ARRAY = FRAME.to_numpy()
WEIGHT = np.random.default_rng(0).integers(0, 4, len(Y)).astype(float)
# Sorted by class: no partition holds all labels. The second holds no row at all.
CHUNKS = (45, 0, 25, 80)
RADIUS = {"petal length": 0.4, "petal width": 0.2}
RADII = np.array([0, 0, 0.4, 0.2])


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def as_array():
    return da.from_array(ARRAY, chunks=(CHUNKS, (3, 1)))


def as_unknown():
    """An array of which dask does not know the lengths of the partitions."""
    X = as_array()
    return X[X[:, 0] > -1]


def as_frame():
    """A dataframe with an empty partition."""
    ends = np.cumsum((0, *CHUNKS))
    parts = [FRAME.iloc[start:end] for start, end in pairwise(ends)]
    return dd.from_delayed([dask.delayed(part) for part in parts], meta=FRAME.iloc[:0])


def as_sparse():
    return as_array().rechunk({1: -1}).map_blocks(sparse.csr_matrix)


MAKERS = {"array": as_array, "unknown": as_unknown, "frame": as_frame, "sparse": as_sparse}
IN_MEMORY = {
    "array": ARRAY,
    "unknown": ARRAY,
    "frame": FRAME,
    "sparse": sparse.csr_matrix(ARRAY),
}
DENSE = ["array", "unknown", "frame"]


def radius_for(kind):
    return RADIUS if kind == "frame" else RADII


def labels(kind):
    """Labels in other partitions than X, or, where its lengths are unknown, in the same."""
    chunks = (CHUNKS,) if kind in ("unknown", "frame") else (40, 110)
    return da.from_array(Y, chunks=chunks if kind != "sparse" and chunks[0] == CHUNKS else 40)


def weights():
    return da.from_array(WEIGHT, chunks=31)


def fitted(estimator, kind):
    return estimator.fit(IN_MEMORY[kind], Y)


def linear():
    return make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000))


def forest():
    return RandomForestClassifier(5, random_state=0)


# Copies.


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("estimator", [linear(), forest()], ids=["linear", "forest"])
def test_copies_are_lazy_of_the_same_kind_and_those_in_memory(kind, estimator):
    model, X = fitted(estimator, kind), MAKERS[kind]()
    options = {"epsilon": radius_for(kind), "attack": "auto", "bounds": (0.5, 7)}
    copies = perturb(model, X, labels(kind), **options)
    expected = perturb(model, IN_MEMORY[kind], Y, **options)
    assert type(copies) is type(X)
    assert isinstance(copies, dd.DataFrame) or copies.dtype == expected.dtype
    found = copies.compute()
    if kind == "frame":
        pd.testing.assert_frame_equal(found, expected)
        assert copies.npartitions == X.npartitions
    else:
        np.testing.assert_array_equal(found, expected)


def test_no_partition_is_read_before_copies_are_computed():
    read = []

    def read_block(block):
        read.append(len(block))
        return block

    X = da.from_array(ARRAY, chunks=(50, 4)).map_blocks(read_block, dtype=float, meta=ARRAY[:0])
    model = fitted(linear(), "array")
    lazy = (
        perturb(model, X, Y, epsilon=0.1),
        FGSMTransformer(FrozenEstimator(model), epsilon=0.1).fit(ARRAY, Y).transform(X),
    )
    assert not read
    dask.compute(*lazy)
    assert read


def test_integer_columns_become_floats_in_every_partition_alike():
    frame = FRAME.round().astype({"petal width": int, "sepal width": int})
    model = LogisticRegression(max_iter=1000).fit(frame, Y)
    X = dd.from_pandas(frame, npartitions=3)
    copies = perturb(model, X, Y, epsilon={"petal width": 0.5})
    assert copies.dtypes.map(lambda dtype: dtype.kind).tolist() == ["f", "i", "f", "f"]
    pd.testing.assert_frame_equal(
        copies.compute(), perturb(model, frame, Y, epsilon={"petal width": 0.5})
    )


def test_a_radius_may_be_computed_from_the_collection():
    X, model = as_frame(), fitted(linear(), "frame")
    copies = perturb(model, X, labels("frame"), epsilon=0.1 * X.std())
    expected = perturb(model, FRAME, Y, epsilon=0.1 * FRAME.std())
    np.testing.assert_allclose(copies.compute(), expected, rtol=1e-12)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_each_partition_has_its_documented_seed_on_any_scheduler(scheduler):
    X, model = as_array(), fitted(linear(), "array")
    options = {"epsilon": 0.3, "attack": "uniform_noise"}
    with dask.config.set(scheduler=scheduler, num_workers=2):
        copies = perturb(model, X, Y, random_state=7, **options).compute()
    seeds = np.random.SeedSequence(7).generate_state(4)
    ends = np.cumsum((0, *CHUNKS))
    for seed, start, end in zip(seeds, ends[:-1], ends[1:], strict=True):
        if start < end:
            rows = slice(start, end)
            expected = perturb(model, ARRAY[rows], Y[rows], random_state=int(seed), **options)
            np.testing.assert_array_equal(copies[rows], expected)


def test_a_lazy_collection_without_a_seed_is_the_same_each_time():
    X, model = as_array(), fitted(linear(), "array")
    copies = perturb(model, X, Y, epsilon=0.3, attack="uniform_noise")
    np.testing.assert_array_equal(copies.compute(), copies.compute())


@pytest.mark.parametrize("kind", DENSE)
def test_the_transformer_makes_copies_by_partition(kind):
    transformer = FGSMTransformer(linear(), epsilon=radius_for(kind)).fit(IN_MEMORY[kind], Y)
    found = transformer.transform(MAKERS[kind]()).compute()
    np.testing.assert_array_equal(found, transformer.transform(IN_MEMORY[kind]))


# Scores.


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("estimator", [linear(), forest()], ids=["linear", "forest"])
@pytest.mark.parametrize(
    "score", [adversarial_accuracy_score, adversarial_confidence, certified_accuracy_score]
)
def test_scores_are_those_in_memory(kind, estimator, score):
    model, X = fitted(estimator, kind), MAKERS[kind]()
    options = {"epsilon": radius_for(kind)}
    assert score(model, X, labels(kind), **options) == pytest.approx(
        score(model, IN_MEMORY[kind], Y, **options), abs=1e-14
    )
    weighted = score(model, X, labels(kind), sample_weight=weights(), **options)
    assert weighted == pytest.approx(
        score(model, IN_MEMORY[kind], Y, sample_weight=WEIGHT, **options), abs=1e-14
    )


def test_a_network_is_attacked_and_certified_by_partition():
    X = ARRAY.astype(np.float32)
    net = AdversarialMaxoutClassifier(
        hidden_layer_sizes=(4,), epsilon=0.1, max_iter=20, random_state=0
    ).fit(X, Y)
    parts = da.from_array(X, chunks=(CHUNKS, 4))
    attack = {"epsilon": 0.2, "attack": "fgsm"}
    assert adversarial_accuracy_score(net, parts, Y, **attack) == adversarial_accuracy_score(
        net, X, Y, **attack
    )
    assert certified_accuracy_score(net, parts, Y, epsilon=0.1) == certified_accuracy_score(
        net, X, Y, epsilon=0.1
    )


def test_a_partition_may_have_no_weight_but_not_all():
    X, model = as_array(), fitted(linear(), "array")
    weight = np.r_[np.ones(45), np.zeros(105)]
    for score in (adversarial_accuracy_score, certified_accuracy_score):
        assert score(model, X, Y, epsilon=0.2, sample_weight=weight) == pytest.approx(
            score(model, ARRAY, Y, epsilon=0.2, sample_weight=weight)
        )
        with pytest.raises(ValueError, match="positive sample_weight"):
            score(model, X, Y, epsilon=0.2, sample_weight=0 * weight)


def test_labels_that_the_model_has_never_seen_count_as_errors():
    model = LogisticRegression().fit(ARRAY[:100], Y[:100])
    for score in (adversarial_accuracy_score, certified_accuracy_score):
        assert score(model, as_array(), Y, epsilon=0.1) == score(model, ARRAY, Y, epsilon=0.1)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy", "neg_log_loss", "f1_macro"])
def test_scorers_give_the_scores_in_memory(kind, scoring):
    model = fitted(linear(), kind)
    scorer = make_adversarial_scorer(scoring, epsilon=radius_for(kind))
    found = scorer(model, MAKERS[kind](), labels(kind))
    assert found == pytest.approx(scorer(model, IN_MEMORY[kind], Y), abs=1e-14)
    found = scorer(model, MAKERS[kind](), labels(kind), sample_weight=weights())
    assert found == pytest.approx(
        scorer(model, IN_MEMORY[kind], Y, sample_weight=WEIGHT), abs=1e-14
    )


# Verdicts and radii.


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("estimator", [linear(), forest()], ids=["linear", "forest"])
def test_verdicts_are_those_in_memory(kind, estimator):
    model, X = fitted(estimator, kind), MAKERS[kind]()
    options = {"epsilon": radius_for(kind), "bounds": (0.5, 7)}
    found = verify_robustness(model, X, labels(kind), sample_weight=weights(), **options)
    expected = verify_robustness(model, IN_MEMORY[kind], Y, sample_weight=WEIGHT, **options)
    assert repr(found) == repr(expected)
    assert found.counts == expected.counts
    assert found.shares == pytest.approx(expected.shares)
    assert found._repr_html_() == expected._repr_html_()
    assert isinstance(found.status, da.Array) and type(found.counterexamples) is type(X)
    np.testing.assert_array_equal(found.status.compute(), expected.status)
    np.testing.assert_array_equal(
        found.counterexamples.compute(), np.asarray(expected.counterexamples)
    )


def test_counterexamples_of_a_model_without_a_proof_are_misclassified():
    model = KNeighborsClassifier().fit(ARRAY, Y)
    X, y = ARRAY[90:120], Y[90:120]
    parts = da.from_array(X, chunks=(15, 4))
    verdict = verify_robustness(model, parts, y, epsilon=0.3, random_state=0)
    wrong = verdict.status.compute() == "falsified"
    copies = verdict.counterexamples.compute()
    assert wrong.any() and (abs(copies - X) <= 0.3 + 1e-12).all()
    assert (model.predict(copies[wrong]) != y[wrong]).all()


def test_a_partition_is_searched_once():
    calls = []

    class Counting(KNeighborsClassifier):
        def predict(self, X):
            calls.append(len(X))
            return super().predict(X)

    parts = da.from_array(ARRAY[40:60], chunks=(20, 4))
    verdict = verify_robustness(Counting().fit(ARRAY, Y), parts, Y[40:60], epsilon=0.1)
    n = len(calls)
    verdict.status.compute()
    verdict.counterexamples.compute()
    assert n and len(calls) == n


@pytest.mark.parametrize("kind", MAKERS)
def test_radii_are_lazy_and_those_in_memory(kind):
    model = fitted(linear(), kind)
    radii = robustness_radius(model, MAKERS[kind](), labels(kind))
    np.testing.assert_array_equal(radii.compute(), robustness_radius(model, IN_MEMORY[kind], Y))


@pytest.mark.parametrize("kind", MAKERS)
def test_brackets_are_lazy_and_hold_what_those_in_memory_hold(kind):
    model = fitted(DecisionTreeClassifier(max_depth=3, random_state=0), kind)
    options = {"return_bracket": True, "random_state": 0}
    found = robustness_radius(model, MAKERS[kind](), labels(kind), **options)
    assert all(isinstance(end, da.Array) for end in found)
    in_memory = robustness_radius(model, IN_MEMORY[kind], Y, **options)
    for end, expected in zip(found, in_memory, strict=True):
        np.testing.assert_array_equal(end.compute(), expected)


def test_brackets_of_partitions_enclose_the_same_radii():
    net = MLPClassifier(4, solver="lbfgs", alpha=0.1, random_state=0).fit(ARRAY[:, 2:], Y)
    X, y = ARRAY[60:140:8, 2:], Y[60:140:8]
    options = {"return_bracket": True, "random_state": 0, "tol": 0.3, "time_limit": 0.05}
    found = robustness_radius(net, da.from_array(X, chunks=(6, 2)), y, **options)
    lower, upper = (end.compute() for end in found)
    low, high = robustness_radius(net, X, y, **options)
    assert len(lower) == len(X)
    assert (lower <= high * (1 + 1e-9)).all()
    assert (low <= upper * (1 + 1e-9)).all()
    right = net.predict(X) == y
    assert not upper[~right].any()
    assert (lower[right] > 0).all()


# Predictions of the linear models.


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [AdversarialLogisticRegression(C=1), AdversarialLogisticRegressionCV(epsilons=[0.1])],
    ids=["one", "cv"],
)
def test_predictions_are_lazy_arrays_and_those_in_memory(kind, n_classes, estimator):
    y = np.where(Y == "setosa", "setosa", "other") if n_classes == 2 else Y
    X, given = MAKERS[kind](), IN_MEMORY[kind]
    model = estimator.fit(given, y)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        lazy, expected = getattr(model, method)(X), getattr(model, method)(given)
        assert isinstance(lazy, da.Array) and lazy.dtype == expected.dtype
        assert lazy.ndim == expected.ndim and lazy.numblocks[0] == len(CHUNKS)
        if expected.dtype.kind == "U":
            np.testing.assert_array_equal(lazy.compute(), expected)
        else:
            np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)
    assert model.score(X, y, sample_weight=weights()) == pytest.approx(
        model.score(given, y, sample_weight=WEIGHT)
    )


def test_lazy_predictions_stay_those_of_the_model_that_made_them():
    model = AdversarialLogisticRegression(epsilon=0.1).fit(ARRAY, Y)
    lazy, expected = model.decision_function(as_array()), model.decision_function(ARRAY)
    model.fit(ARRAY, Y[::-1])
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)


# Bad input: one sentence each.


def late(kind):
    """A collection whose last partition is wrong, and the labels of its rows."""
    X = as_array().rechunk({1: -1})
    if kind == "NaN":
        return da.concatenate([X, np.full((5, 4), np.nan)]), np.r_[Y, Y[:5]]
    if kind == "labels":
        texts = da.from_array(Y.astype(object), chunks=(CHUNKS,))
        return da.concatenate([X, X[:5]]), da.concatenate(
            [texts, da.from_array(np.arange(5).astype(object), chunks=5)]
        )
    assert kind == "columns"
    parts = [dask.delayed(FRAME), dask.delayed(FRAME.iloc[:5, [1, 0, 2, 3]])]
    frame = dd.from_delayed(parts, meta=FRAME.iloc[:0], verify_meta=False)
    return frame, da.from_array(np.r_[Y, Y[:5]], chunks=((150, 5),))


SENTENCES = {
    "NaN": r"NaN.*\(partition 4, counted from 0, of 5\)$",
    "labels": r"labels of the type .* such as 'setosa'; got 0\. \(partition 4, .* of 5\)$",
    "columns": r"^All partitions of X must have the columns \['sepal length', .*; got "
    r"\['sepal width'.*\(partition 1, counted from 0, of 2\)\.$",
}


def compute_copies(model, X, y, **options):
    copies = perturb(model, X, y, attack="square", **options)
    copies.compute()


@pytest.mark.parametrize("wrong", SENTENCES)
@pytest.mark.parametrize(
    "call",
    [adversarial_accuracy_score, certified_accuracy_score, verify_robustness, compute_copies],
)
def test_a_wrong_partition_is_named_in_one_sentence(call, wrong):
    model = LogisticRegression(max_iter=1000).fit(FRAME if wrong == "columns" else ARRAY, Y)
    X, y = late(wrong)
    with pytest.raises(ValueError, match=SENTENCES[wrong]):
        call(model, X, y, epsilon=0.1)


def test_arrays_whose_blocks_differ_in_width_are_named():
    model = fitted(linear(), "array")
    blocks = [
        da.from_delayed(dask.delayed(part), (len(part), 4), meta=ARRAY[:0])
        for part in (ARRAY[:75], ARRAY[75:, :3])
    ]
    with pytest.raises(ValueError, match=r"samples of shape \(4,\); got \(3,\) \(partition 1"):
        adversarial_accuracy_score(model, da.concatenate(blocks), Y, epsilon=0.1)


@pytest.mark.parametrize("n", [149, 151])
def test_labels_and_weights_must_be_as_many_as_samples(n):
    model, y = fitted(linear(), "array"), np.resize(Y, n)
    for labels_ in (y, da.from_array(y, chunks=50), dd.from_pandas(pd.Series(y), npartitions=2)):
        with pytest.raises(ValueError, match=f"y must have one entry per sample of X; got {n}"):
            adversarial_accuracy_score(model, as_array(), labels_, epsilon=0.1)
    with pytest.raises(ValueError, match="sample_weight must have one entry per sample"):
        adversarial_accuracy_score(model, as_array(), Y, epsilon=0.1, sample_weight=np.ones(n))


def test_what_is_wrong_whatever_the_data_is_said_before_any_work():
    model, X, lazy_y = fitted(linear(), "frame"), as_frame(), labels("frame")
    cases = [
        ({"epsilon": -1}, ValueError, "epsilon must be finite"),
        ({"epsilon": {"petal": 1}}, ValueError, "names columns that X does not have"),
        ({"epsilon": 1, "attack": "zz"}, ValueError, "attack must be one of"),
        ({"epsilon": 1, "target": "rose"}, ValueError, "target must be one of"),
        ({"epsilon": 1, "surrogate": LogisticRegression()}, TypeError, "FrozenEstimator"),
    ]
    for options, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            perturb(model, X, lazy_y, **options)
    with pytest.raises(ValueError, match="X has 2 features, but"):
        perturb(model, X[["petal length", "petal width"]], lazy_y, epsilon=0.1)
    with pytest.raises(TypeError, match="must be a dask array or a dask dataframe"):
        perturb(model, X["petal length"], lazy_y, epsilon=0.1)
    with pytest.raises(TypeError, match="dense"):
        perturb(fitted(linear(), "array"), as_sparse(), Y, epsilon=0.1)


def test_a_frozen_surrogate_is_used_by_every_partition():
    model = KNeighborsClassifier().fit(ARRAY, Y)
    surrogate = FrozenEstimator(LogisticRegression(max_iter=1000).fit(ARRAY, Y))
    options = {"epsilon": 0.3, "attack": "fgsm", "surrogate": surrogate}
    assert adversarial_accuracy_score(
        model, as_array(), Y, **options
    ) == adversarial_accuracy_score(model, ARRAY, Y, **options)


# The bridge.


def test_partitions_keep_rows_labels_and_weights_together():
    def rows(X, y, sample_weight):
        return np.asarray(X), np.asarray(y), np.asarray(sample_weight)

    for kind in DENSE:
        for y in (Y, labels(kind), da.from_array(Y, chunks=7), pd.Series(Y, index=FRAME.index)):
            partitions = partitions_of(MAKERS[kind](), y, weights())
            found = [
                np.concatenate(parts) for parts in zip(*computed(partitions.map(rows)), strict=True)
            ]
            for part, expected in zip(found, (ARRAY, Y, WEIGHT), strict=True):
                np.testing.assert_array_equal(part, expected)
            assert partitions.lengths == list(CHUNKS)
            np.testing.assert_array_equal(partitions.labels(), np.unique(Y))


def test_labels_of_two_types_have_no_common_order():
    X = da.concatenate([as_array().rechunk({1: -1}), ARRAY[:5]])
    y = da.concatenate(
        [da.from_array(part.astype(object), chunks=50) for part in (Y, np.arange(5))]
    )
    with pytest.raises(ValueError, match="labels of one type in all partitions; got 'setosa' in"):
        partitions_of(X, y).labels()
