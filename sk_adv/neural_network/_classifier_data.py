"""Validation of a classifier's training data, with labels encoded as class indices."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sk_adv._arrays import to_numpy, to_tensor
from sk_adv._collections import check_in_memory
from sk_adv._validation import check_labels_present, joint_weight
from sk_adv.neural_network._batches import WeightedData, check_finite

# Rows of a memory map that are checked at once.
_BLOCK = 10_000


@dataclass
class TrainingData:
    """Validated data, with labels as class indices.

    Attributes
    ----------
    X : ndarray or numpy.memmap of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int64
    weight : ndarray of shape (n_samples,) or None
    classes : ndarray of shape (n_classes,)
    rows : ndarray of int or None
        The rows of a memory map that are used. None means all rows.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    classes: np.ndarray
    rows: np.ndarray | None = None

    def split(self, fraction, seed):
        """Split into a training part and a held-out part, stratified by class."""
        try:
            parts = train_test_split(
                np.arange(len(self.y)), test_size=fraction, stratify=self.y, random_state=seed
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping=True can't hold out validation_fraction={fraction:g} of "
                f"{len(self.y)} samples with every class in both parts: pass more samples, "
                f"choose another fraction, or turn early_stopping off. ({error})"
            ) from error
        return tuple(self.take(np.sort(rows)) for rows in parts)

    def on(self, device, dtype):
        """The data as tensors on the device, or on the host if they take over half its memory.

        A memory map stays on disk.
        """
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
        """The data of some rows."""
        weight = None if self.weight is None else self.weight[rows]
        if isinstance(self.X, np.memmap):
            kept = rows if self.rows is None else self.rows[rows]
            return TrainingData(self.X, self.y[rows], weight, self.classes, kept)
        return TrainingData(self.X[rows], self.y[rows], weight, self.classes)


def check_training_data(model, X, y, sample_weight, classes=None, reset=True):
    """Validate the training data of a classifier, encode the labels and join the weights.

    Samples of weight 0 are dropped.

    Raises
    ------
    ValueError
        If the data is invalid, has fewer than two classes, or labels that are not in `classes`.
    """
    check_in_memory(X, y, for_training=True)
    if isinstance(X, np.memmap):
        X, y = _check_memory_map(model, X, y, reset)
    else:
        X, y = validate_data(
            model, to_numpy(X), to_numpy(y), dtype=[np.float64, np.float32], reset=reset
        )
    check_classification_targets(y)
    check_labels_present(y)
    # A class whose samples all have weight 0 stays a class.
    known = np.unique(y) if classes is None else _check_classes(classes)
    if isinstance(y[0], str) != isinstance(known[0], str):
        raise ValueError(
            f"y must hold labels of the type of classes={known.tolist()}; got {y[0]!r}."
        )
    weight = joint_weight(y, sample_weight, model.class_weight, known)
    rows = None
    if weight is not None and not weight.all():
        rows = np.flatnonzero(weight)
        y, weight = y[rows], weight[rows]
    if not np.isin(y, known).all():
        raise ValueError(
            f"y holds labels that are not in classes={known.tolist()}: "
            f"{np.setdiff1d(y, known).tolist()}. Add them to classes in the first call."
        )
    if len(known) < 2:
        raise ValueError(f"y must hold at least two classes; got one class: {known.tolist()}.")
    if not len(y):
        raise ValueError("All samples have weight zero: give a positive weight to at least one.")
    if rows is not None and not isinstance(X, np.memmap):
        X, rows = X[rows], None
    return TrainingData(X, np.searchsorted(known, y), weight, known, rows)


def _check_classes(classes):
    """The classes that `partial_fit` is given, each once; `ValueError` if they are no labels."""
    classes = column_or_1d(to_numpy(classes))
    check_classification_targets(classes)
    check_labels_present(classes)
    if not len(classes):
        raise ValueError("classes must hold the labels of all calls; got none.")
    return np.unique(classes)


def _check_memory_map(model, X, y, reset):
    """Run the checks of `validate_data` on a memory map, block by block."""
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
