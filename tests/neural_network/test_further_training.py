"""Continued training: warm starts and `partial_fit`."""

import numpy as np
import pytest
import torch


def test_classes_may_arrive_in_pieces(digits, small):
    X, y = digits
    names = np.array([f"digit {label}" for label in range(10)])
    model = small(learning_rate_init=0.01)
    for _ in range(30):
        for part in (y < 3, (y >= 3) & (y < 6), y >= 6, y >= 0):
            model.partial_fit(X[part], names[y[part]], classes=names)
    assert list(model.classes_) == sorted(names)
    assert model.score(X, names[y]) > 0.9
    assert model.n_iter_ == 120
    with pytest.raises(ValueError, match="not in classes"):
        model.partial_fit(X[:2], ["digit 1", "letter"])
    with pytest.raises(ValueError, match="differ from those of the first call"):
        model.partial_fit(X, names[y], classes=names[:9])


def test_partial_fit_is_deterministic_and_its_first_call_is_an_epoch_of_fit(
    digits, small, weights, are_equal
):
    one, other = small(), small()
    for _ in range(3):
        one.partial_fit(*digits)
        other.partial_fit(*digits)
    assert are_equal(weights(one), weights(other))
    assert are_equal(weights(small().partial_fit(*digits)), weights(small(max_iter=1).fit(*digits)))


def test_warm_start_goes_on_with_new_orders_of_the_samples(digits, small, weights, are_equal):
    model = small(warm_start=True, max_iter=3).fit(*digits)
    first = weights(model)
    assert are_equal(first, weights(small(max_iter=3).fit(*digits)))
    model.fit(*digits)
    assert model.n_iter_ == len(model.loss_curve_) == 6
    assert not are_equal(first, weights(model))
    assert model.loss_curve_[3] < model.loss_curve_[2] * 1.05
    assert model.set_params(hidden_layer_sizes=(8,)).fit(*digits).n_iter_ == 3


def test_each_warm_fit_with_a_second_training_adds_the_epochs_that_it_chose(digits, small):
    params = {"early_stopping": True, "refit_full": True, "monitor": "loss", "tol": -np.inf}
    model = small(warm_start=True, **params)
    n_trained = 0
    for _ in range(3):
        model.fit(*digits)
        assert model.n_iter_ == n_trained + 5
        assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_
        # The earlier epochs are from a second training, which has no held-out part.
        assert np.isnan(model.validation_scores_[:n_trained]).all()
        assert model.best_iteration_ == 1 + np.nanargmax(model.validation_scores_)
        n_trained = model.best_iteration_
        assert len(model.net_.history) == n_trained


@pytest.mark.parametrize("further", ["fit", "partial_fit"])
def test_training_further_heeds_new_settings_of_the_optimizer(
    further, digits, small, weights, are_equal
):
    def train(**changes):
        model = small(solver="sgd", warm_start=True, max_iter=1).fit(*digits)
        getattr(model.set_params(**changes), further)(*digits)
        return model

    plain = train(momentum=0.0)
    assert [group["momentum"] for group in plain.net_.optimizer_.param_groups] == [0.0]
    assert not are_equal(weights(plain), weights(train()))
    to_adam = train(solver="adam")
    assert isinstance(to_adam.net_.optimizer_, torch.optim.Adam)
    assert to_adam.loss_curve_[1] < to_adam.loss_curve_[0]
    back = getattr(to_adam.set_params(solver="sgd"), further)(*digits)
    assert back.n_iter_ == 3


def test_weights_count_across_the_chunks_of_partial_fit(digits, small, weights):
    X, y = digits[0][digits[1] < 2], digits[1][digits[1] < 2]
    chunks = [(X[y == label], y[y == label]) for label in (0, 1, 0, 1)]
    params = {"solver": "sgd", "momentum": 0.0, "batch_size": 10**4, "precision": "float64"}

    def train(rate=0.1, sample_weight=None, **changes):
        model = small(**params, learning_rate_init=rate, **changes)
        for chunk in chunks:
            chunk_weight = None if sample_weight is None else sample_weight[chunk[1]]
            model.partial_fit(*chunk, classes=[0, 1], sample_weight=chunk_weight)
        return weights(model)

    by_class = train(class_weight={1: 0.1})
    torch.testing.assert_close(by_class, train(sample_weight=np.array([1.0, 0.1])))
    # In a step of plain gradient descent, equal sample weights scale the learning rate.
    stepwise = small(**params)
    for chunk in chunks:
        stepwise.set_params(learning_rate_init=0.01 if chunk[1][0] else 0.1)
        stepwise.partial_fit(*chunk, classes=[0, 1])
    torch.testing.assert_close(by_class, weights(stepwise))


def test_partial_fit_refuses_class_weights_that_a_chunk_can_not_tell(digits, small):
    with pytest.raises(ValueError, match="compute_class_weight gives for all labels"):
        small(class_weight="balanced").partial_fit(*digits)
    with pytest.raises(ValueError, match=r"not in classes=\[0, 1, 2\]"):
        small(class_weight={0: 5.0}).partial_fit(*digits, classes=range(3))
    with pytest.raises(ValueError, match="not in class_weight"):
        small(class_weight={"zero": 5.0}).partial_fit(*digits, classes=range(10))
