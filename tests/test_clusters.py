"""A dask cluster of two processes on this machine: partitions and searches.

The processes listen on the loopback alone.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.attacks import perturb
from sk_adv.linear_model import AdversarialLogisticRegressionCV, _sources
from sk_adv.linear_model._partitioned_classes import PartitionedClassRows
from sk_adv.linear_model._partitioned_rows import PartitionedRows
from sk_adv.metrics import (
    adversarial_accuracy_score,
    certified_accuracy_score,
    make_adversarial_scorer,
    verify_robustness,
)

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)


@pytest.fixture(scope="module")
def client():
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs="CRITICAL",
    )
    with cluster, distributed.Client(cluster, timeout=30) as client:
        yield client


def linear():
    return LogisticRegression(max_iter=1000).fit(X, Y)


def slowly(seconds):
    """X in eight partitions, each of which takes a while to load."""

    def load(block):
        time.sleep(seconds)
        return block

    return da.from_array(X, chunks=(20, 4)).map_blocks(load, dtype=X.dtype, meta=X[:0])


def test_scores_copies_and_verdicts_of_a_cluster_are_those_in_memory(client):
    model, parts = linear(), da.from_array(X, chunks=(40, 4))
    for score in (adversarial_accuracy_score, certified_accuracy_score):
        assert score(model, parts, Y, epsilon=0.2) == score(model, X, Y, epsilon=0.2)
    copies = perturb(model, parts, Y, epsilon=0.2, attack="fgsm")
    np.testing.assert_array_equal(copies.compute(), perturb(model, X, Y, epsilon=0.2))
    found = verify_robustness(model, parts, Y, epsilon=0.2)
    expected = verify_robustness(model, X, Y, epsilon=0.2)
    assert repr(found) == repr(expected)
    np.testing.assert_array_equal(found.status.compute(), expected.status)
    np.testing.assert_array_equal(found.counterexamples.compute(), expected.counterexamples)


def test_random_copies_do_not_depend_on_the_scheduler(client):
    parts = da.from_array(X, chunks=(40, 4))
    options = {"epsilon": 0.2, "attack": "uniform_noise", "random_state": 3}
    copies = perturb(linear(), parts, Y, **options)
    np.testing.assert_array_equal(copies.compute(), copies.compute(scheduler="synchronous"))


def test_an_error_in_a_late_partition_arrives_as_it_is(client):
    bad = X.copy()
    bad[-1, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*\(partition 3, counted from 0, of 4\)"):
        adversarial_accuracy_score(linear(), da.from_array(bad, chunks=(40, 4)), Y, epsilon=0.2)


@pytest.mark.parametrize(
    ("estimator", "grid", "scorer"),
    [
        (
            AdversarialLogisticRegression(C=10),
            {"epsilon": [0.01, 0.1], "alpha": [0, 0.5]},
            make_adversarial_scorer(epsilon=0.1),
        ),
        (
            AdversarialMaxoutClassifier(hidden_layer_sizes=(8,), max_iter=8, random_state=0),
            {"epsilon": [0.01, 0.1], "learning_rate_init": [0.05, 0.2]},
            make_adversarial_scorer(
                epsilon=0.02, attack="pgd", attack_params={"n_steps": 3}, random_state=0
            ),
        ),
    ],
    ids=["linear", "network"],
)
def test_a_search_on_a_cluster_is_that_of_one_process(client, estimator, grid, scorer):
    data, labels = load_digits(n_class=4, return_X_y=True)
    data, labels = (data[:200] / 16).astype(np.float32), labels[:200]
    search = GridSearchCV(estimator, grid, scoring=scorer, cv=StratifiedKFold(2))
    alone = clone(search).set_params(n_jobs=1).fit(data, labels)
    with joblib.parallel_config(backend="dask"):
        shared = clone(search).set_params(n_jobs=-1).fit(data, labels)
    assert shared.best_params_ == alone.best_params_
    for name in ("split0_test_score", "split1_test_score"):
        scores = alone.cv_results_[name]
        assert len(np.unique(scores)) > 1
        np.testing.assert_array_equal(shared.cv_results_[name], scores)
    np.testing.assert_array_equal(shared.predict_proba(data), alone.predict_proba(data))


def test_the_paths_of_a_cross_validation_run_on_a_cluster(client):
    model = AdversarialLogisticRegressionCV(epsilons=3, alphas=(0, 0.5), cv=2)
    alone = clone(model).fit(X, Y)
    with joblib.parallel_config(backend="dask"):
        shared = clone(model).set_params(n_jobs=-1).fit(X, Y)
    np.testing.assert_array_equal(shared.scores_, alone.scores_)
    np.testing.assert_array_equal(shared.coef_, alone.coef_)


@pytest.mark.parametrize(("n_classes", "norm"), [(2, np.inf), (3, np.inf)])
def test_a_fit_is_the_same_if_a_worker_is_killed_on_the_way(client, n_classes, norm, monkeypatch):
    monkeypatch.setattr(_sources, "_FEW_ENTRIES", 0)
    data, labels = load_iris(return_X_y=True)
    data, labels = data[(3 - n_classes) * 50 :], labels[(3 - n_classes) * 50 :]
    model = AdversarialLogisticRegression(epsilon=0.05, C=10.0, norm=norm)
    expected = clone(model).fit(data, labels)
    rows, killed = PartitionedRows if n_classes == 2 else PartitionedClassRows, []
    sweep = rows._sweep

    def kill_once(*arguments):
        if not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)
        return sweep(*arguments)

    monkeypatch.setattr(rows, "_sweep", kill_once)
    chunks = (10, 1, 0, *[10] * 8, len(data) - 91)
    model.fit(da.from_array(data, chunks=(chunks, 4)), da.from_array(labels, chunks=(chunks,)))
    assert killed
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6 * abs(expected.coef_).max())
    # The killed process is another one now.
    client.wait_for_workers(2, timeout=30)


@pytest.mark.parametrize("persisted", [False, True])
def test_a_fit_on_a_cluster_is_that_in_memory(client, persisted, monkeypatch):
    monkeypatch.setattr(_sources, "_FEW_ENTRIES", 0)
    model = AdversarialLogisticRegression(epsilon=0.05, C=10.0, norm=2)
    parts = [da.from_array(part, chunks=40) for part in (X, Y)]
    if persisted:
        parts = [part.persist() for part in parts]
    expected = clone(model).fit(X, Y)
    model.fit(*parts)
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-5 * abs(expected.coef_).max())


def test_the_score_is_the_same_if_a_worker_is_killed_on_the_way(client):
    model = linear()
    expected = adversarial_accuracy_score(model, X, Y, epsilon=0.2)
    pids = client.run(os.getpid)
    with ThreadPoolExecutor(1) as pool:
        parts = slowly(0.4)
        score = pool.submit(adversarial_accuracy_score, model, parts, Y, epsilon=0.2)
        deadline = time.monotonic() + 20
        while not any(client.processing().values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not score.done()
        busy = next(address for address, tasks in client.processing().items() if tasks)
        os.kill(pids[busy], signal.SIGKILL)
        assert score.result(timeout=60) == expected
    # One of the two processes is another one now.
    client.wait_for_workers(2, timeout=30)
    assert pids[busy] not in client.run(os.getpid).values()
