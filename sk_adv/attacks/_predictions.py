"""Any fitted classifier as a module whose outputs are its own predictions, without a gradient."""

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from torch import nn

from sk_adv._arrays import in_container_of, predicted_by
from sk_adv._warnings import about_names_once


class Predictions(nn.Module):
    """The log-probabilities, decision function or predictions of a fitted classifier.

    Parameters
    ----------
    estimator : object
    classes : ndarray of shape (n_classes,)
    X : array-like, frame or torch.Tensor of shape (n_samples, ...)
        The samples whose container the estimator takes.
    free : ndarray of bool of shape (n_features,), default=None
        The columns that may change; the first other column then holds indices of rows of X.
    """

    # Read by `auto`, which would otherwise have to try.
    has_gradient = False

    def __init__(self, estimator, classes, X, free=None):
        super().__init__()
        self.estimator, self.classes, self.X = estimator, classes, X
        self.free = None if free is None or free.all() else free

    def forward(self, values):
        """Logits of shape (n_samples, n_classes) for rows of numbers."""
        samples = self._samples(values)
        with about_names_once(self.estimator, samples):
            return self._logits(samples)

    def _logits(self, samples):
        if hasattr(self.estimator, "decision_function"):
            scores = np.asarray(self.estimator.decision_function(samples), dtype=np.float64)
            if scores.ndim == 1:
                scores = np.stack([np.zeros(len(scores)), scores], axis=1)
            if scores.shape[1] == len(self.classes):
                return torch.from_numpy(scores)
        if hasattr(self.estimator, "predict_proba"):
            shares = np.asarray(self.estimator.predict_proba(samples), dtype=np.float64)
            return torch.from_numpy(np.log(np.maximum(shares, 1e-300)))
        return torch.from_numpy(1.0 * (self._predicted(samples)[:, None] == self.classes))

    def predicted(self, values):
        """The indices of the classes that `predict` gives to rows of numbers."""
        return torch.from_numpy(
            np.searchsorted(self.classes, self._predicted(self._samples(values)))
        )

    def _predicted(self, samples):
        return predicted_by(self.estimator, samples)

    def _samples(self, values):
        if isinstance(self.X, torch.Tensor):
            return values.to(self.X.device)
        values = values.numpy()
        if self.free is None and not hasattr(self.X, "columns"):
            return values
        rows = np.zeros(len(values), dtype=int)
        if self.free is not None:
            rows = values[:, np.flatnonzero(~self.free)[0]].astype(int)
        return in_container_of(_safe_indexing(self.X, rows), values, free=self.free)
