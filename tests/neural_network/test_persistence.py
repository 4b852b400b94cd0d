"""Pickling, copying and loading of a fitted AdversarialMaxoutClassifier."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from sk_adv import AdversarialMaxoutClassifier, attacks

X, Y = load_iris(return_X_y=True)
Y = np.array(["setosa", "versicolor", "virginica"], dtype=object)[Y]
SMALL = AdversarialMaxoutClassifier(
    (6, 5), n_pieces=2, epsilon=0.1, max_iter=4, batch_size=32, random_state=0, device="cpu"
)
OWN_CLASS = "sk_adv.neural_network._maxout.AdversarialMaxoutClassifier"


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "skops": lambda model: skops.io.loads(skops.io.dumps(model), trusted=[OWN_CLASS]),
}
TRAININGS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "cosine", "max_norm": 1.0},
    "dropout": {"input_dropout": 0.2, "hidden_dropout": 0.5},
    "double": {"precision": "float64", "learning_rate_init": np.float64(0.01)},
    "bfloat16": {"precision": "bfloat16"},
    "attack": {"attack": "pgd", "attack_params": {"n_steps": 2, "random_start": True}},
    "sigmoid": {"output_activation": "sigmoid", "bounds": (0, [9.0] * 4), "epsilon": [0.1] * 4},
}


class Recorder(Callback):
    """A callback of no library, which records the epochs."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(len(net.history))


class LossAlarm(Callback):
    """A callback that records a value that is not a number."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("logits", net.module_.output.bias.detach().clone())


def leaves(value):
    """All values in nested dicts, lists and tuples, the attributes of callbacks included."""
    if isinstance(value, dict):
        value = list(value.values())
    elif isinstance(value, Callback):
        value = list(vars(value).values())
    if not isinstance(value, list | tuple):
        return [value]
    return [leaf for item in value for leaf in leaves(item)]


def assert_same_training(model, other):
    assert model.loss_curve_ == other.loss_curve_
    for mine, its in zip(
        model.net_.module_.state_dict().values(),
        other.net_.module_.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("way", WAYS)
def test_fitted_attributes_and_predictions_survive(way):
    model = clone(SMALL).set_params(early_stopping=True, refit_full=True, class_weight="balanced")
    again = WAYS[way](model.fit(X, Y))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_params() == model.get_params()
    assert set(vars(again)) == set(vars(model))
    assert list(again.classes_) == list(model.classes_)
    assert len(again.validation_scores_) == again.n_iter_ == 4
    assert again.validation_scores_ == model.validation_scores_
    assert again.best_iteration_ == model.best_iteration_
    assert list(again.net_.history) == list(model.net_.history)


@pytest.mark.parametrize("way", ["pickle", "skops"])
@pytest.mark.parametrize("training", TRAININGS)
def test_training_goes_on_as_if_the_model_had_never_been_away(training, way):
    model = clone(SMALL).set_params(**TRAININGS[training]).fit(X, Y)
    again = WAYS[way](model)
    for part in (model, again):
        part.partial_fit(X[::2], Y[::2])
    assert_same_training(model, again)
    again = WAYS[way](model)
    for part in (model, again):
        part.set_params(warm_start=True, max_iter=2).fit(X, Y)
    assert model.n_iter_ == 7
    assert_same_training(model, again)


@pytest.mark.parametrize("way", WAYS)
def test_training_of_a_copy_leaves_the_original_alone(way):
    model = clone(SMALL).fit(X, Y)
    before, written = model.predict_proba(X), pickle.dumps(model)
    copied = WAYS[way](model)
    copied.net_.partial_fit(X.astype(np.float32), np.arange(150) // 50)
    assert abs(copied.predict_proba(X) - before).max() > 0
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert_same_training(model.partial_fit(X, Y), pickle.loads(written).partial_fit(X, Y))


def test_state_holds_no_object_of_torch_or_skorch():
    model = clone(SMALL).set_params(
        epsilon=torch.full((4,), 0.1),
        bounds=(torch.zeros(4), 9.0),
        device=torch.device("cpu"),
        early_stopping=True,
    )
    state = model.fit(X, Y).__getstate__()
    types = {type(leaf).__module__ for leaf in leaves(state)}
    assert types == {"builtins", "numpy"}
    written = pickle.dumps(model)
    assert b"torch" not in written
    assert b"skorch" not in written
    np.testing.assert_array_equal(
        pickle.loads(written).partial_fit(X, Y).predict_proba(X),
        model.partial_fit(X, Y).predict_proba(X),
    )


def test_held_out_samples_stay_at_home():
    wide = np.random.default_rng(0).normal(size=(3000, 20))
    model = clone(SMALL).set_params(early_stopping=True, validation_fraction=0.5, max_iter=1)
    model.fit(wide, wide[:, 0] > 0)
    assert len(pickle.dumps(model)) < wide[:1500].astype(np.float32).nbytes / 5


def test_skops_has_to_trust_the_class_itself_and_nothing_else():
    model = clone(SMALL).set_params(early_stopping=True, random_state=np.random.RandomState(0))
    pipeline = make_pipeline(StandardScaler(), model).fit(X, Y)
    written = skops.io.dumps(pipeline)
    assert skops.io.get_untrusted_types(data=written) == [OWN_CLASS]
    again = skops.io.loads(written, trusted=[OWN_CLASS])
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_model_of_an_absent_device_is_loaded_on_the_cpu(precision):
    model = clone(SMALL).set_params(precision=precision).fit(X, Y)
    state = model.__getstate__()
    # The state after training on CUDA: its device, and a step count on it.
    state["device"] = state["net_"]["device"] = "cuda:99"
    for group in state["net_"]["optimizer"]["param_groups"]:
        group["capturable"] = True
    there = AdversarialMaxoutClassifier.__new__(AdversarialMaxoutClassifier)
    there.__setstate__(pickle.loads(pickle.dumps(state)))
    assert torch.device(there.net_.device).type == "cpu"
    np.testing.assert_array_equal(there.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="cuda:99.*use one of"):
        there.partial_fit(X, Y)
    again = pickle.loads(pickle.dumps(there)).set_params(device="cpu").partial_fit(X, Y)
    assert_same_training(again, model.partial_fit(X, Y))


def test_loading_leaves_the_global_random_state_of_torch():
    written = pickle.dumps(clone(SMALL).fit(X, Y))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    pickle.loads(written)
    assert torch.rand(1) == expected


def test_parameters_set_after_fit_do_not_change_what_was_fitted():
    model = clone(SMALL).fit(X, Y)
    before = model.predict_proba(X)
    later = {"hidden_layer_sizes": (3,), "n_pieces": 7, "solver": "sgd", "epsilon": 0.3}
    again = pickle.loads(pickle.dumps(model.set_params(**later)))
    np.testing.assert_array_equal(again.predict_proba(X), before)
    assert again.get_params() == model.get_params()
    assert again.net_.epsilon.epsilon == 0.1
    assert again.fit(X, Y).net_.module__n_pieces == 7


def test_clone_of_a_fitted_model_and_pickle_of_an_unfitted_one_are_unfitted():
    model = clone(SMALL).fit(X, Y)
    for other in (clone(model), pickle.loads(pickle.dumps(clone(model)))):
        assert not hasattr(other, "net_")
        assert other.get_params() == model.get_params()


def test_function_as_attack_is_kept_by_name():
    model = clone(SMALL).set_params(attack=attacks.fgsm).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    assert again.net_.attack is attacks.fgsm
    assert_same_training(again.partial_fit(X, Y), model.partial_fit(X, Y))


def test_callbacks_keep_what_they_know_but_not_the_optimizer_of_a_training():
    callbacks = [
        Recorder(),
        LossAlarm(),
        LRScheduler("StepLR", step_size=2),
        EarlyStopping("train_loss", load_best=True),
    ]
    model = clone(SMALL).set_params(callbacks=callbacks).fit(X, Y)
    assert isinstance(callbacks[2].lr_scheduler_, torch.optim.lr_scheduler.StepLR)
    assert callbacks[3].best_model_weights_ is not None
    kept = [vars(callback) for callback in model.__getstate__()["callbacks"]]
    assert "lr_scheduler_" not in kept[2]
    assert kept[3].get("best_model_weights_") is None
    again = pickle.loads(pickle.dumps(model))
    assert again.callbacks[0].seen == callbacks[0].seen == [1, 2, 3, 4]
    assert isinstance(again.net_.history[-1, "logits"], np.ndarray)
    for part in (model, again):
        part.set_params(warm_start=True).fit(X, Y)
    assert_same_training(model, again)
    assert isinstance(callbacks[2].lr_scheduler_, torch.optim.lr_scheduler.StepLR)
    rates = model.net_.history[:, "event_lr"]
    assert rates == again.net_.history[:, "event_lr"]
