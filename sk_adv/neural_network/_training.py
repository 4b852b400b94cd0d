"""From a classifier's parameters and data to a net that is ready to train."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sk_adv._devices import to_numpy, to_tensor
from sk_adv._validation import joint_weight
from sk_adv.differentiable._networks import plain_module
from sk_adv.neural_network._batches import WeightedData, check_finite
from sk_adv.neural_network._checkpoint import Checkpoint, refit_path
from sk_adv.neural_network._early_stopping import Plateau, Validation
from sk_adv.neural_network._layers import MaxoutNet
from sk_adv.neural_network._losses import (
    LogOddsCrossEntropy,
    SigmoidCrossEntropy,
    scaled_sigmoids,
)
from sk_adv.neural_network._net import AdversarialNet
from sk_adv.neural_network._schedules import Progress, Schedule

# Rows of a memory map that are looked at together.
_BLOCK = 10_000


@dataclass
class TrainingData:
    """Validated data, labels as class indices, weights or None.

    Attributes
    ----------
    X : ndarray or numpy.memmap of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int64
    weight : ndarray of shape (n_samples,) or None
    classes : ndarray of shape (n_classes,)
    rows : ndarray of int or None
        The rows of a memory map that are meant; None means all of them.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    classes: np.ndarray
    rows: np.ndarray | None = None

    def split(self, fraction, seed):
        """A training part and a held-out part, stratified by class."""
        try:
            parts = train_test_split(
                np.arange(len(self.y)), test_size=fraction, stratify=self.y, random_state=seed
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping=True can't hold out validation_fraction={fraction:g} of "
                f"{len(self.y)} samples with some of each class in both parts: pass more samples, "
                f"choose another fraction, or turn early_stopping off. ({error})"
            ) from error
        return tuple(self.take(np.sort(rows)) for rows in parts)

    def on(self, device, dtype):
        """The data as tensors, on the device if they fit there; a memory map stays on disk."""
        weight = self.weight
        if weight is not None:
            weight = torch.as_tensor(weight, dtype=dtype, device=device)
        y = torch.as_tensor(self.y, device=device)
        if isinstance(self.X, np.memmap):
            return WeightedData(self.X, y, weight, self.rows, dtype)
        X = to_tensor(self.X).to(dtype)
        if device.type == "cuda" and X.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            return WeightedData(X.pin_memory(), y.cpu(), None if weight is None else weight.cpu())
        return WeightedData(X.to(device), y, weight)

    def take(self, rows):
        """Some of the samples."""
        weight = None if self.weight is None else self.weight[rows]
        if isinstance(self.X, np.memmap):
            kept = rows if self.rows is None else self.rows[rows]
            return TrainingData(self.X, self.y[rows], weight, self.classes, kept)
        return TrainingData(self.X[rows], self.y[rows], weight, self.classes)


def check_training_data(model, X, y, sample_weight, classes=None, reset=True):
    """Validate data for a classifier, and encode labels and weights.

    Raises
    ------
    ValueError
        If the data is invalid, has fewer than two classes, or labels that are not in `classes`.
    """
    if isinstance(X, np.memmap):
        X, y = _check_memory_map(model, X, y, reset)
    else:
        X, y = validate_data(
            model, to_numpy(X), to_numpy(y), dtype=[np.float64, np.float32], reset=reset
        )
    check_classification_targets(y)
    weight = joint_weight(y, sample_weight, model.class_weight, classes)
    rows = None
    if weight is not None and not weight.all():
        rows = np.flatnonzero(weight)
        y, weight = y[rows], weight[rows]
    known = np.unique(y if classes is None else classes)
    if not np.isin(y, known).all():
        raise ValueError(
            f"y holds labels that are not in classes={known.tolist()}: "
            f"{np.setdiff1d(y, known).tolist()}."
        )
    if len(known) < 2 or not len(y):
        raise ValueError(
            f"y must hold at least two classes with positive weight; got {len(known)} class: "
            f"{known.tolist()}."
        )
    if rows is not None and not isinstance(X, np.memmap):
        X, rows = X[rows], None
    return TrainingData(X, np.searchsorted(known, y), weight, known, rows)


def _check_memory_map(model, X, y, reset):
    """The checks of `validate_data`, block by block."""
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            "A memory map must hold numbers in shape (n_samples, n_features); "
            f"got {X.dtype} in shape {X.shape}."
        )
    validate_data(model, X, reset=reset, skip_check_array=True)
    y = column_or_1d(to_numpy(y), warn=True)
    check_consistent_length(X, y)
    for start in range(0, len(X), _BLOCK):
        check_finite(X[start : start + _BLOCK], start)
    return X, y


def choose_precision(model, data, device, previous=None):
    """The number format that "auto" stands for: that of an earlier net that is trained further."""
    if model.precision != "auto":
        return model.precision
    if previous is not None:
        return previous.precision
    is_small = len(data.y) <= model.batch_size and data.X.dtype == np.float64
    return "float64" if is_small and device.type != "mps" else "float32"


def make_net(
    model,
    n_features,
    device,
    precision,
    *,
    perturbations,
    n_epochs,
    callbacks=(),
    learning_rate=None,
):
    """An initialised net with the parameters of a classifier and its `classes_`."""
    optimizer = {"optimizer": torch.optim.Adam}
    if model.solver == "sgd":
        optimizer = {
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": model.momentum,
            "optimizer__nesterov": model.momentum > 0,
        }
    is_softmax = model.output_activation == "softmax"
    schedule = Schedule(learning_rate or model.learning_rate)
    return AdversarialNet(
        MaxoutNet,
        module__n_features=n_features,
        module__n_classes=len(model.classes_),
        module__hidden_layer_sizes=tuple(model.hidden_layer_sizes),
        module__n_pieces=model.n_pieces,
        module__input_dropout=model.input_dropout,
        module__hidden_dropout=model.hidden_dropout,
        module__max_norm=model.max_norm,
        module__output_activation=model.output_activation,
        criterion=LogOddsCrossEntropy if is_softmax else SigmoidCrossEntropy,
        predict_nonlinearity="auto" if is_softmax else scaled_sigmoids,
        epsilon=perturbations,
        alpha=model.alpha,
        attack=model.attack,
        attack_params=model.attack_params,
        precision=precision,
        **optimizer,
        # One pass over the memory of weights and moments in place of a dozen.
        optimizer__fused=True,
        lr=model.learning_rate_init,
        max_epochs=n_epochs,
        batch_size=model.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        classes=np.arange(len(model.classes_)),
        callbacks=[("schedule", schedule), *callbacks],
        callbacks__valid_acc=None,
        callbacks__valid_loss=None,
        **({} if model.verbose > 1 else {"callbacks__print_log": None}),
        compile=model.compile,
        device=device,
        verbose=max(model.verbose - 1, 0),
    ).initialize()


def make_callbacks(model, held_out, is_refit):
    """The callbacks of one training, in the order in which they are called."""
    stop = {"tol": model.tol, "n_iter_no_change": model.n_iter_no_change}
    callbacks = []
    if held_out is not None:
        callbacks.append(("validation", Validation(held_out, model.monitor, **stop)))
    elif not is_refit:
        callbacks.append(("plateau", Plateau(**stop)))
    for k, callback in enumerate(model.callbacks or ()):
        if is_refit and isinstance(callback, Checkpoint):
            callback = copy.copy(callback)
            callback.path = refit_path(callback.path)
        callbacks.append((f"user{k}", callback))
    if model.verbose == 1:
        callbacks.append(("progress", Progress()))
    return callbacks


def take_over(net, previous):
    """Give a new net the weights, the optimizer's state and the history of an earlier one.

    The settings of the optimizer are the new ones; another optimizer begins without a state.
    """
    plain_module(net).load_state_dict(plain_module(previous).state_dict())
    old, new = previous.optimizer_.state_dict(), net.optimizer_.state_dict()
    settings = previous.optimizer_.defaults.keys()
    new["param_groups"] = [
        # What schedulers have added to a group, they want to find there.
        {key: group[key] for key in group.keys() - settings} | new_group
        for group, new_group in zip(old["param_groups"], new["param_groups"], strict=True)
    ]
    if net.optimizer is previous.optimizer:
        new["state"] = old["state"]
    net.optimizer_.load_state_dict(new)
    net.history.extend(previous.history)
