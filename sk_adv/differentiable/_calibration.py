"""The rule for CalibratedClassifierCV, and its calibrators."""

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.utils.validation import _check_response_method
from torch import nn

from sk_adv.differentiable._as_module import as_module, as_part, parts_of
from sk_adv.differentiable._ensembles import (
    MeanProbability,
    in_columns,
    read_by_classes,
    refuse_pairs,
    response,
)
from sk_adv.differentiable._linear import log_of


class Sigmoid(nn.Module):
    """(log(1 - p), log p) of p = σ(-(a f + b)) for one class.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to
    Regularized Likelihood Methods", Advances in Large Margin Classifiers, 1999.
    """

    def __init__(self, calibrator):
        super().__init__()
        self.register_buffer("slope", torch.as_tensor(calibrator.a_, dtype=torch.float64))
        self.register_buffer("offset", torch.as_tensor(calibrator.b_, dtype=torch.float64))

    def forward(self, f):
        """Log probabilities, (n_samples, 2), of responses f of shape (n_samples,)."""
        z = self.slope * f + self.offset
        return nn.functional.logsigmoid(torch.stack([z, -z], dim=1))


class Isotonic(nn.Module):
    """(log(1 - p), log p), where p is linear between the thresholds of an isotonic regression.

    On its steps and beyond its ends p is constant. An attack finds a gradient of 0 there; the
    estimator inside, as a surrogate, serves it better. The logarithm of a p of 0 is that of the
    smallest positive number.
    """

    def __init__(self, calibrator):
        super().__init__()
        x = torch.as_tensor(calibrator.X_thresholds_, dtype=torch.float64)
        y = torch.as_tensor(calibrator.y_thresholds_, dtype=torch.float64)
        self.register_buffer("x", x.clone())
        self.register_buffer("y", y.clone())

    def forward(self, f):
        """Log probabilities, (n_samples, 2), of responses f of shape (n_samples,)."""
        # The number of thresholds below f, as searchsorted gives, which ONNX lacks.
        right = (self.x < f.detach()[:, None]).sum(1)
        left, right = (right - 1).clamp(min=0), right.clamp(max=len(self.x) - 1)
        # Beyond the ends both are the same threshold: a rise of 0 over a width of 0.
        width = self.x[right] - self.x[left]
        width = torch.where(width > 0, width, 1)
        p = self.y[left] + (self.y[right] - self.y[left]) / width * (f - self.x[left])
        return log_of(torch.stack([1 - p, p], dim=1))


class OneVsRestCalibration(nn.Module):
    """A classifier with one calibrator for each class; for two classes, for the second only."""

    has_parts = True

    def __init__(self, member, method, curves, columns, n_classes):
        super().__init__()
        self.member = member
        self.method = method
        self.curves = nn.ModuleList(curves)
        self.register_buffer("columns", torch.as_tensor(columns[: len(curves)]))
        self.n_classes = n_classes

    def forward(self, X):
        """Logits of X; where all classes have a probability of 0, each gets the same."""
        values = one_column_of_two(response(self.member, self.method, X))
        log_p = [curve(f) for curve, f in zip(self.curves, values.T, strict=True)]
        if self.n_classes == 2:
            return log_p[0]
        return in_columns(
            torch.stack([pair[:, 1] for pair in log_p], dim=1), self.columns, self.n_classes
        )


class TemperatureScaling(nn.Module):
    """Logits β z, where z are decision values, (-d, d) for two classes, or log(p + 1e-12).

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """

    has_parts = True

    def __init__(self, member, method, calibrator):
        super().__init__()
        self.member = member
        self.method = method
        self.register_buffer("beta", torch.as_tensor(calibrator.beta_, dtype=torch.float64))

    def forward(self, X):
        """Logits of X."""
        values = response(self.member, self.method, X)
        if self.method == "predict_proba":
            return self.beta * (values + 1e-12).log()
        # (0, 2 d) are the logits (-d, d), shifted.
        return self.beta * values * (2 if values.shape[1] == 2 else 1)


def one_column_of_two(values):
    """The second column, if there are two."""
    return values[:, 1:] if values.shape[1] == 2 else values


def calibrated(calibration, pair):
    """A module of a fitted classifier and its calibrators."""
    estimator = pair.estimator
    member = read_by_classes(as_part(estimator), estimator, calibration)
    method = _check_response_method(estimator, ["decision_function", "predict_proba"]).__name__
    if method == "decision_function":
        refuse_pairs(estimator)
    if pair.method == "temperature":
        return TemperatureScaling(member, method, *pair.calibrators)
    curve = Sigmoid if pair.method == "sigmoid" else Isotonic
    # scikit-learn pairs the classes with the columns from the first on. That holds also for a
    # member that has seen two of more classes, and so has one column only.
    columns = np.searchsorted(pair.classes, estimator.classes_)
    return OneVsRestCalibration(
        member, method, list(map(curve, pair.calibrators)), columns, len(pair.classes)
    )


@as_module.register(CalibratedClassifierCV, passes_columns=True)
def _(calibration):
    return MeanProbability(
        calibrated(calibration, pair) for pair in calibration.calibrated_classifiers_
    )


@parts_of.register(CalibratedClassifierCV)
def _(calibration):
    return [] if calibration.estimator is None else [calibration.estimator]
