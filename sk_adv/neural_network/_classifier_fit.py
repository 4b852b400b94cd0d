"""The fit of `AdversarialMaxoutClassifier`: validation, training, and fitted attributes."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state

from sk_adv._devices import resolve_device
from sk_adv._indicators import warn_of_indicators
from sk_adv._perturbations import PerturbationSet, column_names
from sk_adv._randomness import Generators, drawing_from
from sk_adv.neural_network._checkpoint import NotSavedError
from sk_adv.neural_network._classifier_data import check_training_data
from sk_adv.neural_network._classifier_net import (
    choose_precision,
    continue_from,
    make_callbacks,
    make_net,
)
from sk_adv.neural_network._early_stopping import resolve_monitor
from sk_adv.neural_network._epochs import explaining_out_of_memory


def fit_network(model, X, y, sample_weight):
    """Fit a classifier, with early stopping and a second training on all data if requested.

    Returns
    -------
    FloatingPointError, KeyboardInterrupt, OSError or None
        The error that ended the training early, if any. The classifier is fitted nevertheless.
    """
    _check_sizes(model.hidden_layer_sizes)
    resolve_monitor(model.monitor, model.monitor_params)
    if model.refit_full and not model.early_stopping:
        raise ValueError(
            "refit_full=True needs the number of epochs that early stopping finds best: set "
            "early_stopping=True as well, or refit_full=False."
        )
    device = resolve_device(model.device, X, prefer_accelerator=True)
    old = vars(model).copy()
    data = check_training_data(model, X, y, sample_weight)
    perturbations = PerturbationSet(model.epsilon, model.norm, model.bounds, like=X)
    if model.alpha < 1:
        warn_of_indicators(model.epsilon, data.X, column_names(X))
    if data.weight is not None:
        data.weight = data.weight / data.weight.mean()
    model.classes_ = data.classes
    previous = None
    if model.warm_start and "net_" in old and _has_same_layers(model, old):
        previous = old["net_"]
    else:
        model._seed = _draw_seed(model)
    train, held_out = data, None
    if model.early_stopping:
        train, held_out = data.split(model.validation_fraction, model._seed)
    how = {"device": device, "perturbations": perturbations, "previous": previous}
    net, failure = _train(model, train, held_out, n_epochs=model.max_iter, **how)
    _store_training(model, net)
    if held_out is not None:
        validation = dict(net.callbacks_)["validation"]
        validation.restore_best(net)
        # Scores are missing if Ctrl-C interrupted the scoring, or early stopping was off before.
        scores = (row.get("validation_score", np.nan) for row in net.history)
        model.validation_scores_ = [float(score) for score in scores]
        model.best_iteration_ = validation.best_epoch_ or None
        is_whole = model.best_iteration_ and failure is None and not net.interrupt_.requested
        if model.refit_full and is_whole:
            n_epochs = model.best_iteration_ - (len(previous.history) if previous else 0)
            # As many epochs of warm-up as before.
            warmup = min(net.warmup_ * net.max_epochs / n_epochs, 1)
            refitted, failure = _train(
                model, data, n_epochs=n_epochs, is_refit=True, epsilon_warmup=warmup, **how
            )
            # If the second training was interrupted, the first network is kept.
            if failure is None and not refitted.interrupt_.requested:
                model.net_ = refitted
    return failure


def fit_further(model, X, y, classes, sample_weight):
    """Train a classifier for one more epoch; the return value is that of `fit_network`."""
    _check_sizes(model.hidden_layer_sizes)
    resolve_monitor(model.monitor, model.monitor_params)
    if model.class_weight == "balanced":
        raise ValueError(
            'partial_fit can\'t use class_weight="balanced", since the class frequencies of a '
            "chunk may differ from those of all data. Pass the weights as a dict, such as "
            "sklearn.utils.compute_class_weight gives for all labels or a large sample of them."
        )
    device = resolve_device(model.device, X, prefer_accelerator=True)
    previous = getattr(model, "net_", None)
    if previous is not None:
        if classes is not None and not np.array_equal(np.unique(classes), model.classes_):
            raise ValueError(
                f"classes={classes!r} differ from those of the first call, "
                f"{model.classes_.tolist()}."
            )
        classes = model.classes_
    else:
        model._seed = _draw_seed(model)
    data = check_training_data(model, X, y, sample_weight, classes=classes, reset=previous is None)
    model.classes_ = data.classes
    if previous is not None and not _has_same_layers(model, vars(model)):
        raise ValueError(
            "partial_fit continues with the layers of the first call, "
            f"hidden_layer_sizes={previous.module__hidden_layer_sizes} and "
            f"n_pieces={previous.module__n_pieces}. Call fit to change them."
        )
    net, failure = _train(
        model,
        data,
        device=device,
        perturbations=PerturbationSet(model.epsilon, model.norm, model.bounds, like=X),
        previous=previous,
        n_epochs=1,
        learning_rate="constant",
        epsilon_warmup=0,
    )
    _store_training(model, net)
    return failure


def _has_same_layers(model, old):
    """Whether the attributes `old` of a previous fit have the same features, classes and layers."""
    return (
        old["n_features_in_"] == model.n_features_in_
        and np.array_equal(old["classes_"], model.classes_)
        and old["net_"].module__hidden_layer_sizes == tuple(model.hidden_layer_sizes)
        and old["net_"].module__n_pieces == model.n_pieces
    )


@torch.inference_mode(False)
def _train(
    model,
    data,
    held_out=None,
    *,
    device,
    perturbations,
    previous,
    n_epochs,
    is_refit=False,
    **options,
):
    """Train a new net, or continue the training of a previous one.

    Returns
    -------
    net : AdversarialNet
    failure : FloatingPointError, KeyboardInterrupt, OSError or None
        The error that ended the training early, if any.
    """
    precision = choose_precision(model, data, device, previous)
    dtype = torch.float64 if precision == "float64" else torch.float32
    failure = None
    generators = Generators(model._seed + (len(previous.history) if previous else 0))
    with drawing_from(generators), explaining_out_of_memory(model.batch_size):
        callbacks = make_callbacks(model, held_out and held_out.on(device, dtype), is_refit)
        net = make_net(
            model,
            model.n_features_in_,
            device,
            precision,
            perturbations=perturbations,
            n_epochs=n_epochs,
            callbacks=callbacks,
            **options,
        )
        net.identity_ = {
            "the class labels": model.classes_.tolist(),
            # With random_state=None the seed differs in each run, so it can't identify a training.
            "the seed of random_state": None if model.random_state is None else model._seed,
        }
        if previous is not None:
            continue_from(net, previous)
        try:
            net.partial_fit(data.on(device, dtype), None)
        except (FloatingPointError, KeyboardInterrupt, NotSavedError) as error:
            failure = error
        finally:
            # After an error skorch does not call `on_train_end`.
            if "progress" in dict(net.callbacks_):
                dict(net.callbacks_)["progress"].on_train_end(net)
    return net, failure


def _store_training(model, net):
    """Set the fitted attributes from a trained net."""
    model.net_ = net
    # The history is empty if the first epoch failed.
    losses = (row.get("train_loss") for row in net.history)
    model.loss_curve_ = [float(loss) for loss in losses if loss is not None]
    model.n_iter_ = len(model.loss_curve_)
    model.validation_scores_ = model.best_iteration_ = None


def _draw_seed(model):
    return int(check_random_state(model.random_state).randint(np.iinfo(np.int32).max))


def _check_sizes(hidden_layer_sizes):
    sizes = tuple(hidden_layer_sizes)
    if not sizes or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be a tuple of positive integers, one per hidden layer; "
            f"got {hidden_layer_sizes!r}."
        )
    return sizes
