"""Two classes on Dask collections and on arrays on disk: the same models as in memory."""

import itertools
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning

from sk_adv import AdversarialLogisticRegression
from sk_adv.datasets import load_mnist_sample
from sk_adv.linear_model import (
    AdversarialLogisticRegressionCV,
    _max_norm_solver,
    _sources,
    adversarial_logistic_path,
    epsilon_max,
)
from sk_adv.linear_model._partitioned_data import PartitionedTrainingSet

CUTS = {1: [569], 3: [100, 300, 169], 17: [1, 0, 40, *[37] * 14, 10]}


@pytest.fixture
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2, size=len(y))
    return X, y, weight


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Small data is not gathered either."""
    monkeypatch.setattr(_sources, "_FEW_ENTRIES", 0)
    with dask.config.set(scheduler="synchronous"):
        yield


def on_dask(cuts, *arrays):
    """Arrays in partitions of some lengths."""
    return [
        da.from_array(array, chunks=(tuple(cuts), *((-1,) * (array.ndim - 1)))) for array in arrays
    ]


def of_blocks(X, cuts):
    """A dask array with a sparse block for each partition, of unknown lengths."""
    ends = np.cumsum([0, *cuts])
    blocks = [dask.delayed(X[a:b]) for a, b in itertools.pairwise(ends)]
    shape, meta = (np.nan, X.shape[1]), np.empty((0, X.shape[1]))
    return da.concatenate(
        [da.from_delayed(block, shape, meta=meta) for block in blocks],
        allow_unknown_chunksizes=True,
    )


def assert_same(found, expected, n_features=30):
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    size = abs(expected.coef_).max()
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6 * size)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    assert found.violation_ <= found.tol
    assert found.n_features_in_ == n_features


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize(
    ("n_partitions", "parameters"),
    [
        (1, {}),
        (17, {}),
        (3, {"alpha": 0.4, "C": 10.0}),
        (3, {"fit_intercept": False}),
        (3, {"class_weight": "balanced"}),
        (3, {"class_weight": {0: 2.0}}),
    ],
    ids=str,
)
def test_dask_gives_the_model_in_memory(cancer, n_partitions, norm, parameters):
    X, y, weight = cancer
    model = AdversarialLogisticRegression(epsilon=0.1 * X.std(0), norm=norm, **parameters)
    parts = on_dask(CUTS[n_partitions], X, y, weight)
    found = model.fit(*parts)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y, weight)
    assert_same(found, expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["dense", "float32", "integers", "sparse"])
def test_arrays_on_disk_give_the_model_in_memory(cancer, tmp_path, monkeypatch, norm, kind):
    X, y, weight = cancer
    dtype = {"float32": np.float32, "integers": np.int64}.get(kind, np.float64)
    X = (X * 100 * (np.median(X, axis=0) < X)).astype(dtype)
    model = AdversarialLogisticRegression(epsilon=0.1 * X.std(0), norm=norm, alpha=0.2, C=100.0)
    expected = model.fit(X, y, weight)
    monkeypatch.setattr(_sources, "_FEW_BYTES", 0)
    monkeypatch.setattr(_sources, "_BLOCK_BYTES", 10_000)
    stored = on_disk(sparse.csr_array(X) if kind == "sparse" else X, tmp_path)
    assert _sources.is_on_disk(stored)
    found = AdversarialLogisticRegression(**model.get_params()).fit(stored, y, weight)
    assert_same(found, expected)


def on_disk(X, folder):
    """The same array or CSR matrix, mapped from files."""

    def stored(name, array):
        np.save(folder / name, array)
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    if not sparse.issparse(X):
        return stored("X", X)
    parts = (stored(name, getattr(X, name)) for name in ("data", "indices", "indptr"))
    return sparse.csr_array(tuple(parts), shape=X.shape)


def test_small_arrays_on_disk_are_fitted_as_others_are(cancer, tmp_path):
    assert not _sources.is_on_disk(on_disk(cancer[0], tmp_path))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_sparse_partitions_give_the_model_in_memory(norm):
    rng = np.random.default_rng(0)
    X = sparse.csr_array(sparse.random(400, 60, density=0.1, random_state=0))
    y = np.where(X[:, :5].sum(1) + 0.3 * rng.logistic(size=400) > 0.2, "yes", "no")
    model = AdversarialLogisticRegression(epsilon=0.01, norm=norm, C=50.0)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y)
    assert_same(model.fit(of_blocks(X, [150, 0, 250]), y), expected, n_features=60)


def test_frames_have_radii_by_column_name(cancer):
    X, y, weight = cancer
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(30)])
    frame["weight"], frame["label"] = weight, np.where(y, "benign", "malignant")
    parts = dd.from_pandas(frame, npartitions=5)
    features = list(frame.columns[:30])
    model = AdversarialLogisticRegression(epsilon={"c0": 1.0, "c3": 20.0}, C=10.0)
    expected = AdversarialLogisticRegression(**model.get_params())
    expected.fit(frame[features], frame["label"], frame["weight"])
    model.fit(parts[features], parts["label"], parts["weight"])
    assert_same(model, expected)
    assert list(model.feature_names_in_) == features
    np.testing.assert_array_equal(model.predict(frame[features]), expected.predict(frame[features]))


def test_samples_without_weight_do_not_count(cancer):
    X, y, weight = cancer
    weight = np.where(np.arange(569) < 90, 0, weight)
    X = np.where(weight[:, None] > 0, X, 1e6)
    model = AdversarialLogisticRegression(epsilon=0.1 * X[90:].std(0), C=10.0)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X[90:], y[90:], weight[90:])
    assert_same(model.fit(*on_dask(CUTS[3], X, y, weight)), expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_paths_and_largest_radii_are_those_in_memory(cancer, norm):
    X, y, weight = cancer
    X, (parts, labels) = X / X.std(0), on_dask(CUTS[3], X / X.std(0), y)
    options = {"norm": norm, "alpha": 0.2}
    expected = epsilon_max(X, y, sample_weight=weight, **options)
    found = epsilon_max(parts, labels, sample_weight=weight, **options)
    assert found == pytest.approx(expected, rel=1e-12)
    options |= {"C": 10.0, "sample_weight": weight, "n_epsilons": 6}
    found = adversarial_logistic_path(parts, labels, **options)
    expected = adversarial_logistic_path(X, y, **options)
    np.testing.assert_allclose(found.objectives, expected.objectives, rtol=1e-7)
    np.testing.assert_allclose(found.coefs, expected.coefs, atol=1e-3)
    assert found.violations.max() <= 1e-6


def test_a_warm_start_goes_on_from_the_last_solution(cancer):
    X, y = on_dask(CUTS[3], *cancer[:2])
    model = AdversarialLogisticRegression(epsilon=0.5, C=10.0, warm_start=True).fit(X, y)
    cold = model.n_iter_
    assert model.fit(X, y).n_iter_ < cold


def test_data_without_a_minimum_is_noticed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] > 0
    X[:, 0] += np.where(y, 1, -1)
    with pytest.warns(ConvergenceWarning, match="robustly classified") as record:
        AdversarialLogisticRegression(epsilon=0.5).fit(*on_dask([50, 150], X, y))
    assert record[0].filename == __file__


@pytest.fixture(scope="module")
def threes_and_sevens():
    digits = load_mnist_sample()
    rows = np.flatnonzero(np.isin(digits.target, [3, 7]))
    rows = np.random.default_rng(0).permutation(rows)
    X, y = digits.data[rows].astype(float), digits.target[rows]
    model = AdversarialLogisticRegression(epsilon=0.2, tol=1e-9)
    return X, y, model.fit(X, y)


@pytest.mark.parametrize("cuts", [[1], [300, 1, 699], [7, 0, *range(40, 110, 5), 8]], ids=len)
def test_threes_and_sevens_of_mnist(threes_and_sevens, cuts):
    X, y, expected = threes_and_sevens
    ends = np.cumsum(cuts) * len(y) // np.sum(cuts)
    model = AdversarialLogisticRegression(**expected.get_params())
    found = model.fit(*on_dask(np.diff(ends, prepend=0), X, y))
    assert_same(found, expected, n_features=784)


def test_a_fit_that_is_stopped_early_does_not_lose_what_it_has_gained(monkeypatch):
    for name, value in (("_MANY_ENTRIES", 1000), ("_FEWEST_SAMPLES", 100)):
        monkeypatch.setattr(_max_norm_solver, name, value)
    monkeypatch.setattr(_max_norm_solver, "_ROUGH_ENTRIES", 5000)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 20))
    y = X[:, :3].sum(1) + 2 * rng.logistic(size=2000) > 1
    weightless = -(y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
    for norm in (np.inf, 2):
        objectives = [weightless]
        for max_iter in range(5):
            model = AdversarialLogisticRegression(epsilon=0.05, norm=norm, max_iter=max_iter)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                objectives.append(model.fit(*on_dask([800, 1200], X, y)).objective_)
        assert (np.diff(objectives) <= 1e-12).all()


def test_few_entries_are_fitted_in_memory(cancer, monkeypatch):
    X, y, weight = cancer
    monkeypatch.setattr(_sources, "_FEW_ENTRIES", X.size)
    monkeypatch.setattr(PartitionedTrainingSet, "__init__", None)
    model = AdversarialLogisticRegression(epsilon=0.1 * X.std(0), C=10.0)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y, weight)
    assert_same(model.fit(*on_dask(CUTS[17], X, y, weight)), expected)
    X[500, 3] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN.*partition 2, counted from 0, of 3"):
        model.fit(*on_dask(CUTS[3], X, y, weight))


@pytest.mark.parametrize("kind", ["made of one array", "persisted", "rechunked"])
def test_blocks_are_read_in_the_task_that_needs_them(cancer, kind):
    X, y, weight = cancer
    parts, *others = on_dask(CUTS[17], X, y, weight)
    if kind == "made of one array":
        whole = dask.delayed(X)
        blocks = [whole[a:b] for a, b in itertools.pairwise(np.cumsum([0, *CUTS[17]]))]
        parts = da.concatenate(
            [da.from_delayed(b, (n, 30), float) for b, n in zip(blocks, CUTS[17], strict=True)]
        )
    elif kind == "persisted":
        parts = parts.persist()
    elif kind == "rechunked":
        parts = da.from_array(X, chunks=(200, 7)).rechunk((100, -1))
    source = _sources.DaskSource(parts, *others)
    assert len(source.runner.groups) == (6 if kind == "rechunked" else 8)
    model = AdversarialLogisticRegression(epsilon=0.1 * X.std(0), C=10.0)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y, weight)
    assert_same(model.fit(parts, *others), expected)


class TestBadInput:
    """One clear sentence each, and a previous fit is kept."""

    @pytest.fixture
    def model(self, cancer):
        return AdversarialLogisticRegression(epsilon=1.0).fit(*cancer)

    def refused(self, model, cuts, X, y, weight=None, match=None):
        before = dict(vars(model))
        parts = on_dask(cuts, X, y) if cuts is not None else (X, y)
        with pytest.raises(ValueError, match=match):
            model.fit(*parts, weight)
        assert vars(model) == before

    def test_one_class(self, model, cancer):
        X, y, _ = cancer
        self.refused(model, CUTS[3], X, 0 * y, match=r"at least two classes; got one class: \[0\]")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, model, cancer, value):
        X, y, _ = cancer
        X[500, 3] = value
        self.refused(
            model, CUTS[3], X, y, match=r"(?s)X contains.*partition 2, counted from 0, of 3"
        )

    def test_values_whose_squares_overflow(self, model, cancer):
        X, y, _ = cancer
        self.refused(model, CUTS[3], 1e200 * X, y, match="too large to be squared")

    def test_partitions_of_other_columns(self, model, cancer):
        X, y, _ = cancer
        blocks = [dask.delayed(X[:300]), dask.delayed(X[300:, :20])]
        X = da.concatenate(
            [da.from_delayed(b, (n, 30), float) for b, n in zip(blocks, (300, 269), strict=True)]
        )
        y = da.from_array(y, chunks=((300, 269),))
        self.refused(model, None, X, y, match=r"shape \(30,\).*\(20,\).*partition 1")

    def test_labels_of_another_type(self, model, cancer):
        X, y, _ = cancer
        blocks = [y[:300], y[300:].astype(str)]
        y = da.concatenate([da.from_delayed(dask.delayed(b), b.shape, object) for b in blocks])
        X = da.from_array(X, chunks=((300, 269), -1))
        self.refused(model, None, X, y, match="one type in all partitions; got 0 in one and '0'")

    @pytest.mark.parametrize("place", range(3), ids=["X", "y", "sample_weight"])
    def test_masked_entries(self, model, cancer, place):
        data = list(cancer)
        mask = np.zeros(data[place].shape, dtype=bool)
        mask[500] = True
        data[place] = np.ma.array(data[place], mask=mask)
        name = ["X", "y", "sample_weight"][place]
        self.refused(model, None, *data, match=f"{name} must have no masked entries")
        parts = on_dask(CUTS[3], *data)
        self.refused(model, None, *parts, match=f"(?s){name} must have no masked entries")

    def test_a_mask_without_entries_is_none(self, cancer):
        X, y, _ = cancer
        model = AdversarialLogisticRegression(epsilon=1.0, C=10.0)
        expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y)
        parts = on_dask(CUTS[3], np.ma.array(X, mask=np.zeros(X.shape, dtype=bool)), y)
        assert_same(model.fit(*parts), expected)

    def test_labels_on_dask_of_an_array_on_disk(self, model, cancer, tmp_path, monkeypatch):
        X, y, _ = cancer
        monkeypatch.setattr(_sources, "_FEW_BYTES", 0)
        with pytest.raises(TypeError, match="takes data in memory, and got a dask Array"):
            model.fit(on_disk(X, tmp_path), da.from_array(y, chunks=100))

    def test_other_numbers_of_rows(self, model, cancer):
        X, y, _ = cancer
        X = da.from_array(X, chunks=((300, 269), -1))
        self.refused(model, None, X, da.from_array(y[1:]), match="one entry per sample")

    def test_negative_weights(self, model, cancer):
        X, y, weight = cancer
        self.refused(model, CUTS[3], X, y, -weight, match="[Nn]egative")

    def test_no_weight_at_all(self, model, cancer):
        X, y, weight = cancer
        self.refused(model, CUTS[3], X, y, 0 * weight, match="All samples have weight zero")

    def test_other_devices(self, cancer):
        model = AdversarialLogisticRegression(device="meta")
        with pytest.raises(ValueError, match="device"):
            model.fit(*on_dask(CUTS[3], *cancer[:2]))


@pytest.mark.parametrize(
    ("kind", "scoring"), [("dask", None), ("frame", "roc_auc"), ("disk", None), ("disk", "roc_auc")]
)
def test_cross_validation_chooses_as_in_memory(cancer, tmp_path, monkeypatch, kind, scoring):
    X, y, weight = cancer
    X = (X / X.std(0))[:, :8]
    options = {"epsilons": [0.3, 0.1], "C": 10.0, "cv": 2, "scoring": scoring}
    model = AdversarialLogisticRegressionCV(**options)
    expected = AdversarialLogisticRegressionCV(**model.get_params()).fit(X, y, weight)
    data = X, y, weight
    if kind == "dask":
        data = on_dask(CUTS[3], *data)
    elif kind == "frame":
        frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(8)])
        data = dd.from_pandas(frame, npartitions=3), y, weight
    else:
        monkeypatch.setattr(_sources, "_FEW_BYTES", 0)
        data = on_disk(X, tmp_path), y, weight
    model.fit(*data)
    np.testing.assert_allclose(model.scores_, expected.scores_, atol=1e-3)
    assert model.epsilon_ == expected.epsilon_
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["dask", "disk"])
def test_constant_features_and_means_far_from_zero(
    cancer, tmp_path, monkeypatch, n_classes, norm, kind
):
    X, y, weight = cancer
    y = np.digitize(X[:, 0], [12, 15]) if n_classes == 3 else y
    X = np.c_[X / X.std(0) + 1000, np.ones(569), np.full(569, 0.1)]
    model = AdversarialLogisticRegression(epsilon=0.1, norm=norm, C=10.0, alpha=0.3, tol=1e-8)
    expected = AdversarialLogisticRegression(**model.get_params()).fit(X, y, weight)
    if kind == "dask":
        data = on_dask(CUTS[3], X, y, weight)
    else:
        monkeypatch.setattr(_sources, "_FEW_BYTES", 0)
        monkeypatch.setattr(_sources, "_BLOCK_BYTES", 30_000)
        data = on_disk(X, tmp_path), y, weight
    model.fit(*data)
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("without_weight", [True, False])
def test_values_that_are_not_finite_are_found_wherever_they_are(cancer, n_classes, without_weight):
    X, y, weight = cancer
    y = np.digitize(X[:, 0], [12, 15]) if n_classes == 3 else y
    X[500, 3], weight[500] = np.nan, 0 if without_weight else 1
    parts = on_dask(CUTS[3], X, y, weight)
    for call in (
        AdversarialLogisticRegression().fit,
        adversarial_logistic_path,
        epsilon_max,
    ):
        options = {} if call.__name__ == "fit" else {"sample_weight": parts[2]}
        data = parts if call.__name__ == "fit" else parts[:2]
        with pytest.raises(ValueError, match=r"(?s)X contains NaN.*partition 2"):
            call(*data, **options)
