"""Killed and resumed trainings against uninterrupted ones."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit

from sk_adv.neural_network import AdversarialNet, Checkpoint

SGD = {
    "solver": "sgd",
    "learning_rate": "cosine",
    "learning_rate_init": 0.05,
    "hidden_dropout": 0.5,
    "max_iter": 20,
}

# This process forks a child per training, so that the imports run only once.
NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from sklearn.datasets import load_digits
from sk_adv import AdversarialMaxoutClassifier
from sk_adv.neural_network import Checkpoint

# The first optimizer of a process imports half of torch.
torch.optim.Adam([torch.zeros(1)])
folder = Path(sys.argv[1])
X, y = load_digits(return_X_y=True)
X, y = X[:600] / 16, y[:600]
clock = random.Random(0)

def train(target, path, prepare=lambda: None, **options):
    prepare()
    model = AdversarialMaxoutClassifier(
        (16,),
        n_pieces=2,
        random_state=0,
        callbacks=[Checkpoint(path, resume=True)],
        **params | options,
    ).fit(X, y)
    state = model.net_.module_.state_dict()
    torch.save([state, model.loss_curve_, model.validation_scores_, model.best_iteration_], target)

def start(*args, **options):
    child = os.fork()
    if not child:
        try:
            train(*args, **options)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def die_in(module, name, before):
    # The signal comes within the writing of a checkpoint, after some bytes or before the renaming.
    def prepare():
        true, calls = getattr(module, name), []
        def deadly(*args):
            calls.append(None)
            if len(calls) == 3:
                before(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return true(*args)
        setattr(module, name, deadly)
    return prepare

counts = {}
for name, params in json.loads(sys.argv[2]).items():
    began = time.monotonic()
    assert end(start(folder / f"{name}.whole", folder / "whole.pt")) == 0
    duration = time.monotonic() - began
    n_kills = n_resumed = 0
    path, target = folder / "killed.pt", folder / f"{name}.killed"
    for prepare in (
        die_in(torch, "save", lambda state, file: file.write(b"half of a file")),
        die_in(os, "replace", lambda *paths: None),
    ):
        assert end(start(target, path, prepare)) == -signal.SIGKILL
    while n_kills < 10 or not target.exists():
        if target.exists():
            target.unlink()
            for old in folder.glob("killed.pt*"):
                old.unlink()
        n_resumed += path.exists()
        child = start(target, path)
        if n_kills < 10:
            time.sleep(clock.uniform(0, 0.2 * duration))
            os.kill(child, signal.SIGKILL)
        status = end(child)
        assert status in (0, -signal.SIGKILL), status
        n_kills += status == -signal.SIGKILL
    for old in folder.glob("*.pt*"):
        old.unlink()
    counts[name] = [n_kills, n_resumed]

params = {}
path = folder / "interrupted.pt"
child = start(folder / "interrupted", path, max_iter=10**6, tol=-float("inf"))
while not path.exists():
    time.sleep(0.01)
os.kill(child, signal.SIGINT)
counts["interrupted"] = end(child)
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory, early):
    """The results of the trainings above, and the folder that holds them."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    folder = tmp_path_factory.mktemp("nursery")
    run = subprocess.run(
        [sys.executable, "-c", NURSERY, str(folder), json.dumps({"early": early, "sgd": SGD})],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]), folder, run.stderr


@pytest.mark.parametrize("name", ["early", "sgd"])
def test_training_killed_at_any_moment_and_resumed_gives_the_same_weights(name, nursery, are_equal):
    counts, folder, _ = nursery
    n_kills, n_resumed = counts[name]
    assert n_kills == 10
    # Some are killed before the first epoch ends.
    assert n_resumed >= 3
    whole, killed = (torch.load(folder / f"{name}.{kind}") for kind in ("whole", "killed"))
    assert killed[1:] == whole[1:]
    assert are_equal(killed[0], whole[0])


def test_a_signal_from_outside_ends_training_and_leaves_a_fitted_estimator(nursery):
    counts, folder, errors = nursery
    assert counts["interrupted"] == 0, errors
    assert "ConvergenceWarning: Training was interrupted" in errors
    state, losses, *_ = torch.load(folder / "interrupted")
    assert 1 <= len(losses) < 10**6
    assert all(part.isfinite().all() for part in state.values())


def test_finished_training_goes_on_when_a_checkpoint_allows_more_epochs(
    digits, tmp_path, small, weights, are_equal
):
    X, y = digits
    expected = small(max_iter=6).fit(X, y)
    model = small(max_iter=4, callbacks=[Checkpoint(tmp_path / "a", every=3, resume=True)])
    model.fit(X, y)
    resumed = model.set_params(max_iter=6).fit(X, y)
    assert resumed.n_iter_ == 6
    assert are_equal(weights(resumed), weights(expected))


def test_further_calls_train_further_where_a_checkpoint_may_be_resumed(digits, tmp_path, small):
    X, y = digits
    model = small(callbacks=[Checkpoint(tmp_path / "a", resume=True)])
    assert [model.partial_fit(X, y).n_iter_ for _ in range(3)] == [1, 2, 3]
    warm = small(callbacks=[Checkpoint(tmp_path / "b", resume=True)], warm_start=True)
    assert [warm.fit(X, y).n_iter_ for _ in range(3)] == [5, 10, 15]


OTHERS = {
    "alpha": {"alpha": 1},
    "attack": {"attack": "sign_noise"},
    "hidden_layer_sizes": {"hidden_layer_sizes": (8,)},
    "optimizer": {"solver": "sgd"},
    "max_norm": {"max_norm": 1.0},
    "seed of random_state": {"random_state": 1},
    "tol": {"tol": 1e-3},
    "n_iter_no_change": {"n_iter_no_change": 11},
    "learning_rate": {"learning_rate": "cosine"},
    "monitor": {"monitor": "clean_error"},
    "number of samples": {"validation_fraction": 0.2},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_other_parameters_is_refused_by_name(name, digits, tmp_path, small):
    X, y = digits
    is_early = name in ("monitor", "number of samples")
    params = {"callbacks": [Checkpoint(tmp_path / "a", resume=True)], "early_stopping": is_early}
    small(**params, max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match=rf"delete it, or pass the data.*\(.*{name}[\w ]*: "):
        small(**params, **OTHERS[name]).fit(X, y)


def test_a_checkpoint_of_other_settings_of_a_net_is_refused_by_name(digits, tmp_path):
    X, y = digits[0].astype(np.float32), digits[1]

    def train(step_size=2, cv=5, activation=torch.nn.ReLU):
        AdversarialNet(
            torch.nn.Sequential(torch.nn.Linear(64, 10), activation()),
            train_split=ValidSplit(cv),
            max_epochs=1,
            callbacks=[
                LRScheduler("StepLR", step_size=step_size),
                Checkpoint(tmp_path / "a", resume=True),
            ],
            verbose=0,
        ).fit(X, y)

    train()
    train()
    for name, params in {
        "step_size of the callback LRScheduler": {"step_size": 3},
        "train_split": {"cv": 4},
        "module": {"activation": torch.nn.Tanh},
    }.items():
        with pytest.raises(ValueError, match=f"{name}: "):
            train(**params)


def test_training_without_a_seed_can_be_resumed(digits, tmp_path, small):
    params = {"random_state": None, "callbacks": [Checkpoint(tmp_path / "a", resume=True)]}
    first = small(**params, max_iter=2).fit(*digits)
    assert small(**params, max_iter=3).fit(*digits).loss_curve_[:2] == first.loss_curve_


def test_a_checkpoint_of_other_data_is_refused(digits, tmp_path, small):
    X, y = digits
    callbacks = [Checkpoint(tmp_path / "a", resume=True)]
    small(callbacks=callbacks, max_iter=1).fit(X, y)
    for row in (0, 17, 599):
        X_other, y_other = X.copy(), y.copy()
        X_other[row, 20] += 0.01
        y_other[row] = (y[row] + 1) % 10
        for data in ((X_other, y), (X, y_other), (X, y, 1 + y)):
            with pytest.raises(ValueError, match="the data: "):
                small(callbacks=callbacks).fit(*data)
    with pytest.raises(ValueError, match="the class labels: "):
        small(callbacks=callbacks).fit(X, 2 * y)
    # The folds of a search share a path, but must not use each other's weights.
    search = GridSearchCV(small(callbacks=callbacks), {"alpha": [0.5]}, error_score="raise")
    with pytest.raises(ValueError, match="not a checkpoint of this training"):
        search.fit(X, y)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused(content, digits, tmp_path, small):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint of this training: delete it"):
        small(callbacks=[Checkpoint(path, resume=True)]).fit(*digits)
    assert path.read_bytes() == content


@pytest.mark.parametrize("policy", [{"policy": "StepLR", "step_size": 2}, {"policy": "CyclicLR"}])
@pytest.mark.parametrize("is_last", [True, False])
def test_a_learning_rate_scheduler_resumes_wherever_the_checkpoint_stands(
    policy, is_last, digits, tmp_path, are_equal
):
    X, y = digits
    if policy["policy"] == "CyclicLR":
        policy = {**policy, "base_lr": 0.01, "max_lr": 0.1, "step_every": "batch"}

    def train(n_epochs, name):
        torch.manual_seed(0)
        callbacks = [LRScheduler(**policy), Checkpoint(tmp_path / name, resume=True)]
        return AdversarialNet(
            torch.nn.Linear(64, 10),
            lr=0.1,
            max_epochs=n_epochs,
            callbacks=callbacks if is_last else callbacks[::-1],
            iterator_train__shuffle=True,
            verbose=0,
        ).fit(X.astype(np.float32), y)

    expected = train(5, "whole")
    train(2, "parts")
    assert are_equal(train(5, "parts").module_.state_dict(), expected.module_.state_dict())


def test_a_file_with_a_single_wrong_bit_is_refused(digits, tmp_path, small):
    path = tmp_path / "a"
    model = small(callbacks=[Checkpoint(path, resume=True)], max_iter=1).fit(*digits)
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 20):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="the file is damaged"):
            model.fit(*digits)
    path.write_bytes(content)
    model.fit(*digits)


def test_trainings_that_save_to_one_path_do_not_disturb_each_other(digits, tmp_path, small):
    search = GridSearchCV(
        small(callbacks=[Checkpoint(tmp_path / "a")]), {"alpha": [0.2, 0.5]}, error_score="raise"
    )
    with parallel_config("threading", n_jobs=2):
        search.fit(*digits)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    digits, tmp_path, small, monkeypatch
):
    path = tmp_path / "a"
    model = small(callbacks=[Checkpoint(path)], max_iter=1).fit(*digits)
    before = path.read_bytes()

    def save_to_a_full_disk(state, file):
        file.write(b"half of a file")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", save_to_a_full_disk)
    with pytest.raises(OSError, match="no space left"):
        model.fit(*digits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Figures(Callback):
    """Record a value that is not a Python number."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("flag", np.bool_(True))
        net.history.record("count", np.int64(3))
        net.history.record("recalls", {"a": np.array([0.5, 1.0])})
        net.history.record("norms", torch.ones(2))
        net.history.record("kind", Figures)


def test_figures_of_any_type_in_the_history_can_be_saved(digits, tmp_path, small):
    callbacks = [Figures(), Checkpoint(tmp_path / "a", resume=True)]
    small(callbacks=callbacks, max_iter=1).fit(*digits)
    row = small(callbacks=callbacks, max_iter=2).fit(*digits).net_.history[0]
    assert row["flag"] is True
    assert type(row["count"]) is int and row["count"] == 3
    assert row["recalls"] == {"a": [0.5, 1.0]}
    assert row["norms"] == [1.0, 1.0]
    assert row["kind"] == repr(Figures)


def test_a_second_training_never_takes_up_a_longer_one(
    digits, tmp_path, small, early, weights, are_equal
):
    X, y = digits
    path, params = tmp_path / "a", {**early, "monitor": "loss", "tol": -np.inf}
    params["callbacks"] = [Checkpoint(path, resume=True)]
    assert small(**params | {"max_iter": 9}).fit(X, y).best_iteration_ > 4
    path.unlink()
    shorter = params | {"max_iter": 4}
    text = re.escape(f"{path}.refit is not a checkpoint of this training: delete it and {path},")
    with pytest.raises(ValueError, match=rf"{text}.*9 epochs in the file, at most 4 now"):
        small(**shorter).fit(X, y)
    path.unlink()
    (tmp_path / "a.refit").unlink()
    model = small(**shorter).fit(X, y)
    # A checkpoint of fewer epochs is from the same training, which continues.
    model.set_params(max_iter=9).fit(X, y)
    expected = small(**params | {"max_iter": 9, "callbacks": None}).fit(X, y)
    assert model.best_iteration_ == expected.best_iteration_ == len(model.net_.history)
    assert are_equal(weights(model), weights(expected))


def test_a_file_of_more_epochs_than_max_iter_is_refused(digits, tmp_path, small):
    model = small(callbacks=[Checkpoint(tmp_path / "a", resume=True)]).fit(*digits)
    with pytest.raises(ValueError, match="5 epochs in the file, at most 3 now"):
        model.set_params(max_iter=3).fit(*digits)


def test_only_one_checkpoint_of_a_training_may_be_resumed(digits, tmp_path, small):
    callbacks = [Checkpoint(tmp_path / name, resume=True) for name in "ab"]
    with pytest.raises(ValueError, match=r"can resume from only one file; got \[.*a', .*b'\]"):
        small(callbacks=callbacks).fit(*digits)
    callbacks[1].resume = False
    small(callbacks=callbacks).fit(*digits)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_a_verbose_training_says_where_it_is_resumed(verbose, digits, tmp_path, small, capsys):
    path = tmp_path / "a"
    model = small(max_iter=2, callbacks=[Checkpoint(path, resume=True)], verbose=verbose)

    def told():
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if str(path) in line]

    model.fit(*digits)
    assert told() == []
    model.set_params(max_iter=3).fit(*digits)
    assert told() == ([f"Resumed at epoch 3 from {path}."] if verbose else [])
    model.fit(*digits)
    assert told() == ([f"The training in {path} had ended after epoch 3."] if verbose else [])


def test_a_verbose_net_says_where_it_is_resumed(tmp_path, capsys):
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    for max_epochs in (2, 4):
        AdversarialNet(
            torch.nn.Linear(3, 2),
            max_epochs=max_epochs,
            train_split=None,
            callbacks=[Checkpoint(tmp_path / "a", resume=True)],
        ).fit(X, y)
    assert capsys.readouterr().out.count("Resumed at epoch 3 from") == 1
