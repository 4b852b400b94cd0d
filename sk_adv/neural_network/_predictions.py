"""Predictions of a fitted network."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, validate_data

from sk_adv._arrays import (
    floating_types,
    for_sklearn,
    in_kind_of,
    is_dispatched,
    to_numpy,
    to_tensor,
)
from sk_adv._collections import check_in_memory
from sk_adv.differentiable import as_module
from sk_adv.neural_network._batches import check_finite, read_rows

# Number of samples per batch of a prediction.
_PREDICT_BATCH = 2048


class NetworkPredictions:
    """Mixin with `predict`, `predict_proba` and `predict_log_proba`, based on `as_module`."""

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Class probabilities of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            One column per class, in the order of `classes_` and in the precision of X.
        """
        return in_kind_of(X, self._log_probabilities(X).exp())

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithms of the class probabilities of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            One column per class, in the order of `classes_` and in the precision of X.
        """
        return in_kind_of(X, self._log_probabilities(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        best = self._logits(X).argmax(1)
        labels = self.classes_[to_numpy(best)]
        if is_dispatched(X) and labels.dtype.kind in "biuf":
            return torch.as_tensor(labels, device=X.device)
        return labels

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on samples and their labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,)
            True labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the mean.

        Returns
        -------
        float
            The accuracy, in [0, 1].

        Raises
        ------
        TypeError
            If one of them is a dask collection.
        """
        check_in_memory(X, y, sample_weight)
        return super().score(X, y, sample_weight)

    def _log_probabilities(self, X):
        return self._logits(X).log_softmax(1)

    def _logits(self, X):
        check_is_fitted(self)
        is_on_disk = isinstance(X, np.memmap)
        if is_on_disk:
            validate_data(self, X, reset=False, skip_check_array=True)
        else:
            X = validate_data(self, for_sklearn(X), dtype=floating_types(X), reset=False)
        device = torch.device(self.net_.device)
        values = X.dtype.newbyteorder("=") if is_on_disk else X.dtype
        # MPS does not support float64.
        is_double = values in (np.float64, torch.float64) and device.type != "mps"
        dtype = torch.float64 if is_double else torch.float32
        module = as_module(self, dtype=dtype)
        logits = []
        with torch.no_grad():
            for start in range(0, len(X), _PREDICT_BATCH):
                rows = slice(start, start + _PREDICT_BATCH)
                if is_on_disk:
                    batch = read_rows(X, rows)
                    check_finite(batch, start)
                else:
                    batch = X[rows]
                logits.append(module(to_tensor(batch).to(device, dtype)))
        return torch.cat(logits)
