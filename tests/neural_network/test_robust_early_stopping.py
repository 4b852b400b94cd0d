"""Early stopping on robust figures against scores computed from outside."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import TensorDataset

from sk_adv.attacks import pgd
from sk_adv.metrics import adversarial_accuracy_score, certified_accuracy_score
from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping
from sk_adv.neural_network._maxout import AdversarialMaxoutClassifier


class Scores(Callback):
    """A score of the net after each epoch, by a function."""

    def __init__(self, function):
        self.function = function

    def on_train_begin(self, net, **kwargs):
        self.scores_, self.weights_ = [], []

    def on_epoch_end(self, net, **kwargs):
        self.scores_.append(self.function(net))
        self.weights_.append({k: v.clone() for k, v in net.module_.state_dict().items()})


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    return X, (np.abs(X).sum(1) > 4.5).astype(np.int64)


PARAMS = {"epsilon": 0.2, "bounds": (-2.0, 2.0)}
MEASURES = {
    "clean_error": lambda net, X, y: net.score(X, y),
    "pgd": lambda net, X, y: adversarial_accuracy_score(
        net,
        X,
        y,
        attack="pgd",
        attack_params={"n_steps": 10, "batch_size": len(X)},
        random_state=0,
        **PARAMS,
    ),
    "certified_error": lambda net, X, y: certified_accuracy_score(
        net, X, y, method="interval", **PARAMS
    ),
}


@pytest.mark.parametrize("monitor", MEASURES)
def test_the_best_epoch_by_a_score_from_outside_is_kept(monitor):
    X, y = data()
    train_split = ValidSplit(4, stratified=True)
    _, held_out = train_split(X, y)
    X_held, y_held = X[held_out.indices], y[held_out.indices]
    if monitor == "clean_error":
        # `bounds` also clip the clean samples of a score, but not those of a training.
        X = X.clip(-2, 2)
        X_held = X_held.clip(-2, 2)
    torch.manual_seed(0)
    scores = Scores(lambda net: MEASURES[monitor](net, X_held, y_held))
    stopping = RobustEarlyStopping(monitor, n_iter_no_change=8)
    net = AdversarialNet(
        nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 2)),
        optimizer=torch.optim.Adam,
        lr=0.02,
        train_split=train_split,
        callbacks=[("scores", scores), ("stopping", stopping)],
        max_epochs=40,
        verbose=0,
        **PARAMS,
    ).fit(X, y)
    stopping = dict(net.callbacks_)["stopping"]
    scores = dict(net.callbacks_)["scores"]
    np.testing.assert_allclose(net.history[:, "validation_score"], scores.scores_, atol=1e-6)
    best = np.max(scores.scores_)
    assert stopping.best_score_ == pytest.approx(best)
    assert scores.scores_[stopping.best_epoch_ - 1] == pytest.approx(best)
    kept = scores.weights_[stopping.best_epoch_ - 1]
    assert all(torch.equal(kept[k], v) for k, v in net.module_.state_dict().items())
    assert len(net.history) < 40


def test_the_classifier_stops_by_the_error_under_an_attack(digits, small):
    X, y = digits
    model = small(
        early_stopping=True,
        monitor="pgd",
        monitor_params={"n_steps": 3},
        attack="fgsm_rs",
        alpha=0,
        epsilon=0.1,
        max_iter=8,
    ).fit(X, y)
    errors = np.array(model.net_.history[:, "valid_pgd_error"])
    np.testing.assert_allclose(model.validation_scores_, 1 - errors)
    assert errors[model.best_iteration_ - 1] == errors.min()


def test_epochs_of_the_warm_up_do_not_count(digits, small):
    model = small(
        robust_loss="certified",
        early_stopping=True,
        monitor="clean_error",
        epsilon=0.1,
        max_iter=20,
        epsilon_warmup=0.6,
        n_iter_no_change=1,
    ).fit(*digits)
    assert model.best_iteration_ >= 12
    # Nor do they end a training by its loss, which rises with the radius.
    model = small(
        robust_loss="certified", max_iter=20, epsilon=0.3, epsilon_warmup=1.0, n_iter_no_change=1
    )
    assert model.fit(*digits).n_iter_ == 20


def test_a_function_may_be_monitored(digits, small):
    def shift(module, X, y, epsilon, *, norm, bounds):
        return X + epsilon

    def clean(module, X, y, epsilon, *, norm, bounds):
        return X + epsilon

    names = {shift: "shift", pgd: "pgd", clean: "monitored_clean"}
    for monitor, name in names.items():
        model = small(early_stopping=True, monitor=monitor, max_iter=2).fit(*digits)
        assert f"valid_{name}_error" in model.net_.history[0]


def test_auto_may_be_monitored(digits, small):
    model = small(early_stopping=True, monitor="auto", max_iter=1, validation_fraction=0.05)
    history = model.fit(*digits).net_.history
    assert history[0]["valid_auto_error"] >= history[0]["valid_clean_error"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"monitor": "zz"}, ValueError, "monitor must be one of"),
        ({"monitor": "loss", "monitor_params": {"n_steps": 3}}, TypeError, "those of an attack"),
        ({"monitor": "pgd", "monitor_params": {"zz": 3}}, TypeError, "can't take monitor_params="),
    ],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_wrong_monitors_are_named(params, error, message, early_stopping, digits, small):
    for method in ("fit", "partial_fit"):
        with pytest.raises(error, match=message):
            getattr(small(early_stopping=early_stopping, **params), method)(*digits)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"tol": np.nan}, ValueError, "tol must be a number"),
        ({"tol": "a"}, ValueError, "tol must be a number"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change"),
        ({"data": "a"}, TypeError, "data must be a torch.utils.data.Dataset"),
    ],
)
def test_wrong_parameters_are_named_before_the_first_epoch(params, error, message):
    net = AdversarialNet(nn.Linear(6, 2), callbacks=[RobustEarlyStopping(**params)], verbose=0)
    with pytest.raises(error, match=message):
        net.fit(*data())
    assert not net.history


def test_held_out_samples_may_be_a_dataset_of_its_own():
    X, y = data()
    other = TensorDataset(torch.from_numpy(X[:50]), torch.from_numpy(y[:50]))
    torch.manual_seed(0)
    net = AdversarialNet(
        nn.Linear(6, 2),
        callbacks=[RobustEarlyStopping("clean_error", data=other)],
        train_split=None,
        max_epochs=1,
        verbose=0,
    ).fit(X[50:], y[50:])
    assert net.history[0]["validation_score"] == pytest.approx(net.score(X[:50], y[:50]))


def test_held_out_samples_of_no_weight_are_refused():
    X, y = data()
    empty = TensorDataset(torch.from_numpy(X[:0]), torch.from_numpy(y[:0]))
    net = AdversarialNet(nn.Linear(6, 2), callbacks=[RobustEarlyStopping(data=empty)], verbose=0)
    with pytest.raises(ValueError, match="held-out samples of positive weight"):
        net.fit(X, y)


def test_a_net_without_held_out_samples_is_told_so():
    net = AdversarialNet(
        nn.Linear(6, 2), callbacks=[RobustEarlyStopping()], train_split=None, verbose=0
    )
    with pytest.raises(ValueError, match="needs held-out samples"):
        net.fit(*data())


def test_one_line_stops_a_net_and_keeps_its_best_weights():
    X, y = data()
    weights = Scores(lambda net: None)
    net = AdversarialNet(
        nn.Linear(6, 2),
        epsilon=0.1,
        max_epochs=100,
        verbose=0,
        callbacks=[weights, RobustEarlyStopping()],
    ).fit(X, y)
    scores = net.history[:, "validation_score"]
    assert 10 < len(scores) < 100 and max(scores[:-11]) >= max(scores[-11:]) - 1e-4
    best = weights.weights_[dict(net.callbacks_)["RobustEarlyStopping"].best_epoch_ - 1]
    assert all(torch.equal(best[k], v) for k, v in net.module_.state_dict().items())


def test_a_grid_search_sets_the_monitor():
    X, y = data()
    net = AdversarialNet(
        nn.Linear(6, 2),
        epsilon=0.1,
        callbacks=[("stopping", RobustEarlyStopping())],
        max_epochs=2,
        verbose=0,
    )
    grid = {"callbacks__stopping__monitor": ["clean_error", "pgd"]}
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    assert clone(AdversarialMaxoutClassifier(monitor="pgd")).monitor == "pgd"


def test_a_second_training_on_all_samples_has_as_long_a_warm_up(digits, small):
    class Radii(Callback):
        def on_train_begin(self, net, **kwargs):
            seen.append([])

        def on_epoch_end(self, net, **kwargs):
            seen[-1].append(float(net.mixture_now()[1].epsilon))

    seen = []
    model = small(
        robust_loss="certified",
        epsilon=0.1,
        early_stopping=True,
        monitor="loss",
        refit_full=True,
        max_iter=12,
        n_iter_no_change=3,
        learning_rate_init=0.05,
        callbacks=[Radii()],
    ).fit(*digits)
    search, refit = seen
    assert model.best_iteration_ == len(refit)
    np.testing.assert_allclose(refit, search[: len(refit)], rtol=1e-6)
