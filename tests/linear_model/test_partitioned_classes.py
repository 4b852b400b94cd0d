"""Three classes and more on Dask and on disk: the optimum is that of the same data in memory."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    _class_hessian,
    _class_solver,
    _partitioned_classes,
    _sources,
    adversarial_logistic_path,
)
from sk_adv.linear_model._fitting import make_training_set
from sk_adv.linear_model._partitioned_data import EncodedLabels, make_partitioned_set
from sk_adv.linear_model._path import walk

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


@pytest.fixture(autouse=True)
def synchronous(monkeypatch):
    """Small data is not gathered either."""
    monkeypatch.setattr(_sources, "_FEW_ENTRIES", 0)
    with dask.config.set(scheduler="synchronous"):
        yield


def chunks(n_samples, n_chunks):
    """Unequal partitions; of many, one is empty."""
    ends = (n_samples * np.linspace(0, 1, n_chunks + 1) ** 1.5).astype(int)
    if n_chunks > 5:
        ends[4] = ends[3]
    return tuple(np.diff(ends).tolist())


def on_dask(X, y, weight=None, n_chunks=3):
    rows = chunks(len(y), n_chunks)
    n_features = X.shape[1]
    if sparse.issparse(X):
        ends = np.cumsum([0, *rows])
        like = {"dtype": X.dtype, "meta": sparse.csr_matrix((0, n_features))}
        blocks = [dask.delayed(X[a:b]) for a, b in itertools.pairwise(ends)]
        X = da.concatenate(
            [
                da.from_delayed(block, shape=(n_rows, n_features), **like)
                for block, n_rows in zip(blocks, rows, strict=True)
            ]
        )
    else:
        X = da.from_array(X, chunks=(rows, -1))
    weight = None if weight is None else da.from_array(weight, chunks=(rows,))
    return X, da.from_array(y, chunks=(rows,)), weight


def on_disk(tmp_path, X):
    """X as an array or matrix that maps files."""
    if not sparse.issparse(X):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")
    parts = {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(X, name))
        parts[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    return sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=X.shape)


@pytest.fixture
def blocks(monkeypatch):
    """Lets all arrays on disk be fitted in blocks of so many bytes."""

    def cut(n_bytes):
        monkeypatch.setattr(_sources, "_FEW_BYTES", 0)
        monkeypatch.setattr(_sources, "_BLOCK_BYTES", n_bytes)

    return cut


@pytest.fixture
def few_gathered(monkeypatch):
    """As for large data, samples are drawn for rough stages and Hessians."""
    monkeypatch.setattr(_partitioned_classes, "GATHERED_ENTRIES", 10_000)
    monkeypatch.setattr(_class_solver, "_ROUGH_ENTRIES", 5_000)
    monkeypatch.setattr(_class_hessian, "_ROWS_PER_ATOM", 3)
    monkeypatch.setattr(_class_hessian, "_MORE_ROWS", 100)


def standardised(load, n_samples=None):
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:n_samples]
    return StandardScaler().fit_transform(X[order]), y[order]


def wine():
    return standardised(load_wine)


def digits():
    return standardised(load_digits, 400)


def overlapping(seed=0, n_samples=2000, n_features=8, n_classes=4):
    """Data on which all classes overlap."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features))
    coef = rng.normal(size=(n_classes, n_features)) * (rng.random(n_features) < 0.6)
    y = (X @ coef.T + 2 * rng.gumbel(size=(n_samples, n_classes))).argmax(1)
    return X, y


def sparse_problem():
    rng = np.random.default_rng(0)
    X = sparse.csr_array(sparse.random(900, 40, density=0.1, random_state=0))
    y = (X @ rng.normal(size=(40, 4)) + 0.3 * rng.gumbel(size=(900, 4))).argmax(1)
    return X, y


def weights(y):
    return np.random.default_rng(3).uniform(0.2, 2, len(y))


def assert_same(found, expected):
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    largest = np.abs(expected.coef_).max()
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=0, atol=1e-6 * largest)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.classes_, expected.classes_)


def fitted(X, y, weight=None, **parameters):
    parameters = {"tol": 1e-8, "epsilon": 0.1} | parameters
    return AdversarialLogisticRegression(**parameters).fit(X, y, weight)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize(
    ("make", "n_chunks"),
    [*itertools.product([wine, sparse_problem], [1, 3, 17]), (digits, 3)],
)
def test_on_dask_the_optimum_is_that_in_memory(make, norm, n_chunks):
    X, y = make()
    weight = weights(y)
    parameters = {"norm": norm, "C": 2.0}
    expected = fitted(X, y, weight, **parameters)
    assert_same(fitted(*on_dask(X, y, weight, n_chunks), **parameters), expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("make", [digits, sparse_problem])
def test_on_disk_the_optimum_is_that_in_memory(make, norm, blocks, tmp_path):
    X, y = make()
    parameters = {"norm": norm, "C": 2.0}
    expected = fitted(X, y, **parameters)
    blocks(20_000)
    assert_same(fitted(on_disk(tmp_path, X), y, **parameters), expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"alpha": 0.4},
        {"alpha": 1.0},
        {"fit_intercept": False, "alpha": 0.2},
        {"epsilon": np.array([0, 0.1, 0, 0.3, 0.05, 0.1, 0.02, 0.2]), "alpha": 0.1},
        {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5, 3: 2.0}},
        {"class_weight": {2: 0.0}},
        {"epsilon": 100.0},
    ],
)
def test_parameters_act_as_in_memory(parameters, norm):
    X, y = overlapping(n_samples=700)
    expected = fitted(X, y, norm=norm, **parameters)
    assert_same(fitted(*on_dask(X, y), norm=norm, **parameters), expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0, 0.3])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_of_large_data_samples_are_drawn(norm, alpha, is_sparse, few_gathered):
    X, y = overlapping(1, 3000)
    if is_sparse:
        X[np.abs(X) < 0.7] = 0
        X = sparse.csr_array(X)
    weight = weights(y)
    parameters = {"norm": norm, "alpha": alpha, "tol": 1e-9, "max_iter": 200}
    expected = fitted(X, y, weight, **parameters)
    assert_same(fitted(*on_dask(X, y, weight, 7), **parameters), expected)


def test_too_few_samples_for_a_hessian_give_way_to_all(monkeypatch):
    monkeypatch.setattr(_partitioned_classes, "GATHERED_ENTRIES", 1_000)
    X, y = standardised(load_digits, 150)
    parameters = {"norm": 2, "C": 1.0, "tol": 1e-7, "max_iter": 200}
    expected = fitted(X, y, **parameters)
    found = fitted(*on_dask(X, y), **parameters)
    assert found.violation_ <= 1e-7
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-8)


def test_rare_classes_and_odd_units_need_all_samples(few_gathered, monkeypatch):
    monkeypatch.setattr(_partitioned_classes, "GATHERED_ENTRIES", 2_000)
    X, y = overlapping(0, 2000)
    y[y > 1] = np.arange((y > 1).sum()) % 2
    y[:5], y[5:10] = 2, 3
    X *= np.geomspace(1e-6, 1e6, 8)
    parameters = {"epsilon": 1e-3 * X.std(0), "C": 1.0, "tol": 1e-6}
    expected = fitted(X, y, **parameters)
    found = fitted(*on_dask(X, y), **parameters)
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    assert found.violation_ <= found.tol


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_classes_may_be_missing_from_partitions(norm):
    X, y = overlapping(2, 600)
    order = y.argsort(kind="stable")
    X, y = X[order], y[order]
    weight = weights(y) * (y != 1)
    expected = fitted(X, y, weight, norm=norm)
    assert_same(fitted(*on_dask(X, y, weight, 6), norm=norm), expected)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_separable_classes_are_noticed(norm):
    X, y = wine()
    for data in ((X, y), on_dask(X, y)[:2]):
        with pytest.warns(ConvergenceWarning, match="robustly classified"):
            fitted(*data, epsilon=0.01, norm=norm)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_a_path_on_partitions_is_that_in_memory(norm, kept, request):
    X, y = overlapping(3, 1500)
    if kept:
        request.getfixturevalue("few_gathered")
    epsilons = np.geomspace(0.5, 0.01, 4)
    expected = adversarial_logistic_path(X, y, epsilons=epsilons, norm=norm, tol=1e-9)
    source = _sources.source_of(*on_dask(X, y))
    data = make_partitioned_set(source, None, True)
    parameters = {"alpha": 0.0, "norm": norm, "C": np.inf, "tol": 1e-9, "max_iter": 100}
    found = list(walk(data, epsilons, np.ones(8), **parameters))
    objectives = [solution.objective for solution in found]
    np.testing.assert_allclose(objectives, expected.objectives, rtol=1e-8)
    for solution, coef in zip(found, expected.coefs, strict=True):
        np.testing.assert_allclose(solution.coef, coef, atol=1e-6)


def test_statistics_of_classes_are_those_in_memory():
    X, y = overlapping(4, 500)
    weight = weights(y)
    memory = make_training_set(X, y, weight, None, True, "cpu")
    data = make_partitioned_set(_sources.source_of(*on_dask(X, y, weight)), None, True)
    np.testing.assert_allclose(data.class_means, memory.class_means)
    np.testing.assert_allclose(data.standardised.offset, memory.standardised.offset)
    np.testing.assert_allclose(data.standardised.scale, memory.standardised.scale)


def test_a_step_takes_one_pass_over_the_data(blocks, tmp_path, monkeypatch, few_gathered):
    n_read = []
    part = EncodedLabels.part
    monkeypatch.setattr(
        EncodedLabels, "part", lambda *arguments: n_read.append(1) or part(*arguments)
    )
    X, y = overlapping(5, 6000, 10, 3)
    blocks(X.nbytes // 4)
    X = on_disk(tmp_path, X)
    for norm in (np.inf, 2):
        n_read.clear()
        model = fitted(X, y, norm=norm, tol=1e-6)
        n_passes = len(n_read) / 4
        # Moments, a sample, the first point, and steps with a Hessian each.
        assert n_passes <= 4 + 2 * model.n_iter_
