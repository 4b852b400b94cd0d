"""The fit of the classifier: sample weights, early stopping, schedules, precisions."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch.callbacks import Callback
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.metrics import adversarial_accuracy_score
from sk_adv.neural_network import AdversarialNet
from sk_adv.neural_network._losses import SigmoidCrossEntropy


class Recorder(Callback):
    """Keep the weights of each epoch."""

    def __init__(self, kept):
        self.kept = kept

    def on_epoch_end(self, net, **kwargs):
        self.kept.append(copy.deepcopy(net.module_.state_dict()))


def memory_map(path, X, dtype):
    mapped = np.memmap(path, dtype=dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    return np.memmap(path, dtype=dtype, mode="r", shape=X.shape)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_memory_map_gives_the_weights_of_the_array(
    precision, digits, tmp_path, small, weights, are_equal
):
    X, y = digits
    X = X.astype(precision)
    mapped = memory_map(tmp_path / "X", X, precision)
    for params in ({}, {"early_stopping": True, "refit_full": True}):
        models = [small(precision=precision, **params).fit(Z, y) for Z in (X, mapped)]
        assert are_equal(*map(weights, models))
        np.testing.assert_array_equal(models[0].predict(X), models[1].predict(mapped))


def test_weights_of_samples_and_classes_hold_for_a_memory_map(
    digits, tmp_path, small, weights, are_equal
):
    X, y = digits[0].astype(np.float32), digits[1]
    mapped = memory_map(tmp_path / "X", X, np.float32)
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    models = [small(class_weight="balanced").fit(Z, y, weight) for Z in (X, mapped)]
    assert are_equal(*map(weights, models))


def test_integer_weights_are_repetitions_and_zero_weights_removals(digits, small, weights):
    X, y = digits
    times = np.random.default_rng(0).integers(0, 3, len(y))
    single_batch = {"batch_size": 10**4, "precision": "float64", "solver": "sgd"}
    models = [
        small(**single_batch, learning_rate_init=0.1).fit(*data)
        for data in ((X, y, times), (X.repeat(times, 0), y.repeat(times)), (X, y, 3.0 * times))
    ]
    for other in models[1:]:
        torch.testing.assert_close(weights(models[0]), weights(other), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_samples_without_weight_leave_no_trace(early_stopping, digits, small, weights):
    X, y = digits
    weight = np.random.default_rng(0).integers(0, 2, len(y))
    X_spoilt = np.where(weight[:, None] > 0, X, 1e6)
    model = small(early_stopping=early_stopping)
    kept = weight > 0
    with_zeros, without = clone(model).fit(X_spoilt, y, weight), clone(model).fit(X[kept], y[kept])
    torch.testing.assert_close(weights(with_zeros), weights(without))


def test_class_weights_are_sample_weights(digits, small, weights):
    X, y = digits
    by_class = {label: 1.0 + label for label in range(10)}
    models = [
        small(class_weight=by_class).fit(X, y),
        small().fit(X, y, sample_weight=1.0 + y),
        small(class_weight=dict.fromkeys(range(10), 1.0)).fit(X, y, sample_weight=1.0 + y),
    ]
    for other in models[1:]:
        torch.testing.assert_close(weights(models[0]), weights(other))


@pytest.mark.parametrize("monitor", ["adversarial_error", "clean_error", "loss"])
def test_early_stopping_keeps_the_weights_of_the_best_epoch(
    monitor, digits, small, weights, are_equal
):
    X, y = digits
    kept = Recorder([])
    model = small(
        early_stopping=True,
        monitor=monitor,
        n_iter_no_change=3,
        max_iter=60,
        learning_rate_init=0.03,
        epsilon=0.1,
        callbacks=[kept],
    ).fit(X, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == len(kept.kept) < 60
    assert model.best_iteration_ == 1 + int(np.argmax(scores))
    assert are_equal(weights(model), kept.kept[model.best_iteration_ - 1])
    assert not are_equal(weights(model), kept.kept[-1])


def test_validation_scores_are_those_of_the_public_metrics_on_the_held_out_part(digits, small):
    X, y = digits
    held_out = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            data = dict(net.callbacks_)["validation"].data
            held_out[:] = [data.X.numpy(), data.y.numpy()]

    params = {"early_stopping": True, "epsilon": 0.1, "max_iter": 8, "callbacks": [Look()]}
    for monitor in ("adversarial_error", "clean_error"):
        model = small(monitor=monitor, **params).fit(X, y)
        epsilon = 0.1 if monitor == "adversarial_error" else 0.0
        score = adversarial_accuracy_score(model, *held_out, epsilon=epsilon, attack="fgsm")
        assert len(held_out[1]) == 60
        np.testing.assert_allclose(max(model.validation_scores_), score, atol=1e-6)


@pytest.mark.parametrize("learning_rate", ["constant", "cosine"])
def test_refitting_is_a_fit_on_all_data_for_the_best_number_of_epochs(
    learning_rate, digits, small, weights, are_equal
):
    params = {"hidden_dropout": 0.3, "learning_rate": learning_rate}
    model = small(early_stopping=True, refit_full=True, max_iter=9, **params).fit(*digits)
    expected = small(max_iter=model.best_iteration_, tol=-np.inf, **params).fit(*digits)
    assert are_equal(weights(model), weights(expected))
    assert len(model.validation_scores_) == model.n_iter_


def test_weights_stay_within_max_norm_and_reach_it(digits, small):
    model = small(max_norm=0.7, max_iter=10, learning_rate_init=0.02).fit(*digits)
    free = small(max_iter=10, learning_rate_init=0.02).fit(*digits)

    def norms(model):
        module = model.net_.module_
        hidden = [layer.weight.flatten(0, 1).norm(dim=1) for layer in module.layers]
        return torch.cat([*hidden, module.output.weight.norm(dim=1)])

    assert norms(free).max() > 1
    torch.testing.assert_close(norms(model).max(), torch.tensor(0.7))
    assert norms(model).min() < 0.699
    assert model.score(*digits) > 0.8


def test_the_sigmoid_loss_is_the_sum_of_binary_cross_entropies(digits, small):
    torch.manual_seed(0)
    logits = 30 * torch.randn(50, 4, dtype=torch.float64)
    labels = torch.randint(0, 4, (50,))
    targets = nn.functional.one_hot(labels, 4).double()
    expected = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    torch.testing.assert_close(SigmoidCrossEntropy(reduction="none")(logits, labels), expected)
    torch.testing.assert_close(SigmoidCrossEntropy()(logits, labels), expected.mean())
    model = small(output_activation="sigmoid", learning_rate_init=0.01, max_iter=20).fit(*digits)
    probability = model.predict_proba(digits[0])
    np.testing.assert_allclose(probability.sum(1), 1)
    assert model.score(*digits) > 0.8


SCHEDULES = {
    "constant": lambda epoch: 1,
    "cosine": lambda epoch: (1 + np.cos(np.pi * epoch / 8)) / 2,
    "exponential": lambda epoch: 0.01 ** (epoch / 8),
}


@pytest.mark.parametrize("learning_rate", SCHEDULES)
def test_schedules_give_the_documented_learning_rates(learning_rate, digits, small):
    rates = []

    class Rates(Callback):
        def on_epoch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    small(learning_rate=learning_rate, max_iter=8, callbacks=[Rates()]).fit(*digits)
    np.testing.assert_allclose(rates, [0.001 * SCHEDULES[learning_rate](k) for k in range(8)])


def test_bfloat16_trains_much_like_float32(digits, small, weights, are_equal):
    models = [
        small(precision=precision, max_iter=15, learning_rate_init=0.005, epsilon=0.1).fit(*digits)
        for precision in ("float32", "bfloat16")
    ]
    one, half = map(weights, models)
    assert all(value.dtype == torch.float32 for value in half.values())
    assert not are_equal(one, half)
    assert models[1].score(*digits) > 0.9
    assert abs(models[0].score(*digits) - models[1].score(*digits)) < 0.05
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=0.1)


def test_a_search_gives_the_same_in_one_process_and_in_two(small, weights, are_equal):
    X, y = load_iris(return_X_y=True)
    model = small(hidden_dropout=0.3, attack="sign_noise")
    searches = [
        GridSearchCV(
            model, {"alpha": [0.3, 1.0], "epsilon": [0.1]}, cv=StratifiedKFold(3), n_jobs=n_jobs
        ).fit(X, y)
        for n_jobs in (1, 2)
    ]
    for name in ("mean_test_score", "std_test_score", "split2_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[name] for search in searches))
    assert are_equal(*(weights(search.best_estimator_) for search in searches))


def test_the_progress_bar_counts_epochs_and_shows_the_loss(digits, capsys, small):
    model = small(verbose=1, max_iter=3).fit(*digits)
    shown = capsys.readouterr().err
    assert "3/3" in shown and f"train_loss={model.loss_curve_[-1]:.4g}" in shown
    model.set_params(warm_start=True, max_iter=2).fit(*digits)
    assert "| 2/2 " in capsys.readouterr().err


def test_compiled_training_gives_the_same_weights(digits, monkeypatch, small):
    # Without code generation, which takes a minute: only the wrapper around the module is tested.
    X, y = digits
    compiler, names = torch.compile, []

    def trace(module, **options):
        names.append(type(module).__name__)
        return compiler(module, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", trace)
    params = {"early_stopping": True, "refit_full": True, "max_norm": 1.0, "warm_start": True}
    compiled, plain = (small(compile=on, max_iter=2, **params) for on in (True, False))
    for _ in range(2):
        compiled.fit(X, y)
        plain.fit(X, y)
        np.testing.assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), atol=1e-4)
    assert "MaxoutNet" in names
    assert compiled.best_iteration_ == plain.best_iteration_


def test_a_class_without_weight_stays_a_class_also_where_classes_are_balanced():
    X, y = load_iris(return_X_y=True)
    model = AdversarialMaxoutClassifier((8,), class_weight="balanced", max_iter=2, random_state=0)
    assert list(model.fit(X, y, sample_weight=(y != 0) * 1.0).classes_) == [0, 1, 2]


def test_a_second_training_that_fails_leaves_the_network_that_was_chosen():
    class Spoil(Callback):
        n_trainings = 0

        def on_train_begin(self, net, **kwargs):
            self.n_trainings += 1

        def on_epoch_begin(self, net, **kwargs):
            if self.n_trainings == 2:
                next(net.module_.parameters()).data.fill_(np.nan)

    X, y = load_iris(return_X_y=True)
    model = AdversarialMaxoutClassifier(
        (8,), max_iter=5, early_stopping=True, monitor="loss", random_state=0
    )
    expected = clone(model).fit(X, y).predict_proba(X)
    model.set_params(refit_full=True, callbacks=[Spoil()])
    with pytest.raises(FloatingPointError):
        model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_memory_map_may_have_either_byte_order(kind, digits, tmp_path, small, weights, are_equal):
    X, y = digits
    native, swapped = (memory_map(tmp_path / order, X, order + kind) for order in "<>")
    models = [small(max_iter=1).fit(mapped, y) for mapped in (native, swapped)]
    assert are_equal(*map(weights, models))
    for predict in (models[0].predict_proba, models[0].predict):
        np.testing.assert_array_equal(predict(native), predict(swapped))
    nets = [
        AdversarialNet(nn.Linear(64, 10), max_epochs=1, lr=0, verbose=0).fit(mapped, y)
        for mapped in (native, swapped)
    ]
    assert len(nets[0].predict(native)) == len(nets[1].predict(swapped)) == len(y)


def test_predictions_refuse_nan_in_a_memory_map_as_in_an_array(digits, tmp_path, small):
    X, y = digits
    model = small(max_iter=1).fit(X, y)
    X = X.copy()
    X[77, 3] = np.nan
    for spoilt in (X, memory_map(tmp_path / "X", X, np.float64)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            model.predict(spoilt)


def test_names_of_features_are_those_of_the_last_fit(digits, tmp_path, small):
    X, y = digits
    mapped = memory_map(tmp_path / "X", X, np.float64)
    names = [f"pixel{k}" for k in range(64)]
    model = small(max_iter=1).fit(pd.DataFrame(X, columns=names), y)
    assert list(model.feature_names_in_) == names
    assert not hasattr(model.fit(mapped, y), "feature_names_in_")
