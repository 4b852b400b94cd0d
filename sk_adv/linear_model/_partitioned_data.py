"""Training data in partitions: Dask's, or parts of an array that is on disk."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sk_adv._arrays import as_read_only_tensor, check_unmasked
from sk_adv._collections import merged_labels
from sk_adv._validation import check_labels_present, joint_weight
from sk_adv.linear_model._binary_rows import BinaryRows
from sk_adv.linear_model._class_facts import ClassFacts
from sk_adv.linear_model._class_rows import ClassRows
from sk_adv.linear_model._designs import (
    DenseDesign,
    SparseDesign,
    StandardisedDesign,
    centre_and_scale,
)
from sk_adv.linear_model._fitting import TrainingSet
from sk_adv.linear_model._losses import WorstCaseLogisticLoss
from sk_adv.linear_model._partitioned_classes import PartitionedClassRows
from sk_adv.linear_model._partitioned_multiclass import PartitionedMulticlassRows
from sk_adv.linear_model._partitioned_rows import PartitionedRows, call


@dataclass
class PartitionedTrainingSet(ClassFacts):
    """Training data in partitions, with what `TrainingSet` tells of its samples.

    Attributes
    ----------
    runner : LocalRunner or DaskRunner
    parts : list
        Handles of a `Part` each.
    labels : list
        Handles of the same without X.
    shape : tuple of int
        Numbers of samples and features.
    classes, solved : ndarray
        As in `TrainingSet`.
    shares : torch.Tensor of shape (n_solved,)
        The weight of each solved class; they sum to 1.
    total : float
        The sum of the weights before they were normalised.
    fit_intercept : bool
    """

    runner: object
    parts: list
    labels: list
    shape: tuple
    classes: np.ndarray
    solved: np.ndarray
    shares: torch.Tensor
    total: float
    fit_intercept: bool

    def _sum(self, name, **shared):
        return self.runner.sum(call, self.parts, name=name, **shared)

    @cached_property
    def _moments(self):
        """Sums over the samples of each class, sums of squares and the number of entries."""
        return self._sum("moments", n_classes=len(self.solved))

    @cached_property
    def standardised(self):
        """Centre and scale of the features; the X of this design has a shape only."""
        by_class, second, _ = self._moments

        def again(centre):
            return self._sum("mean_square", centre=centre)

        statistics = centre_and_scale(by_class.sum(0), second, again, self.fit_intercept)
        return StandardisedDesign(_OnlyShape(self.shape), *statistics)

    @property
    def class_sums(self):
        """The weighted sums of the samples of the solved classes, (n_solved, n_features)."""
        by_class, _, _ = self._moments
        return by_class

    def range_of_logits(self, coef, intercept):
        """The smallest and the largest logit of all samples and rows of coef."""
        shared = {"name": "range_of_logits", "coef": coef, "intercept": intercept}
        ends = self.runner.gather(self.runner.lazily(call, self.parts, **shared))
        return min(low for low, _ in ends), max(high for _, high in ends)

    def binary_rows(self, alpha):
        """The samples of two classes, standardised."""
        X = self.standardised
        shared = {"alpha": alpha, "offset": X.offset, "scale": X.scale}
        return PartitionedRows(
            runner=self.runner,
            parts=self.runner.lazily(call, self.parts, name="binary_rows", **shared),
            labels=self.runner.lazily(call, self.labels, name="binary_rows", **shared),
            shape=self.shape,
            best_intercept=self.shares[1].log() - self.shares[0].log(),
        )

    def class_rows(self, alpha):
        """The samples of several classes, standardised."""
        X = self.standardised
        shared = {"n_classes": len(self.solved), "alpha": alpha}
        shared |= {"offset": X.offset, "scale": X.scale}
        return PartitionedClassRows(
            runner=self.runner,
            parts=self.runner.lazily(call, self.parts, name="class_rows", **shared),
            labels=self.runner.lazily(call, self.labels, name="class_rows", **shared),
            shape=self.shape,
            n_entries=self._moments[2],
            class_shares=self.shares,
            alpha=alpha,
        )

    def multiclass_rows(self, alpha):
        """The same for the Euclidean norm."""
        is_used = (self.standardised.scale > 0).to(self.shares)
        return PartitionedMulticlassRows(self.class_rows(alpha), mean_square=is_used)


@dataclass
class _OnlyShape:
    shape: tuple


@dataclass
class Part:
    """The samples with weight of one partition.

    Attributes
    ----------
    X : DenseDesign, SparseDesign or None
    index : torch.Tensor of shape (n_samples,), int64
        Indices of the solved classes.
    weight : torch.Tensor of shape (n_samples,)
    where : str
        The partition, for messages.
    """

    X: object
    index: torch.Tensor
    weight: torch.Tensor
    where: str = ""

    def checked(self):
        """The same, after a check for NaN and infinity."""
        _check_finite(self.X.X, self.where)
        return self

    def sums(self):
        """See `DenseDesign.sums`."""
        first, second = self.X.sums(self.weight)
        if not second.isfinite().all():
            _check_finite(self.X.X, self.where)
        return first, second

    def mean_square(self, centre):
        """See `DenseDesign.mean_square`."""
        return self.X.mean_square(self.weight, centre)

    def moments(self, n_classes):
        """`class_sums`, Σ_i weight_i x_ij² and the number of entries that X stores."""
        _, second = self.sums()
        n_entries = getattr(self.X.X, "nnz", math.prod(self.X.shape))
        return self.class_sums(n_classes), second, n_entries

    def class_sums(self, n_classes):
        """The weighted sum of the samples of each class."""
        membership = torch.nn.functional.one_hot(self.index, n_classes).to(self.weight)
        return self.X.transposed_product(membership * self.weight[:, None]).T

    def range_of_logits(self, coef, intercept):
        """The smallest and the largest logit of all samples and rows of coef."""
        logits = self.X.product(coef.T) + intercept
        return (logits.min(), logits.max()) if logits.numel() else (torch.inf, -torch.inf)

    def binary_rows(self, alpha, offset, scale):
        """The samples of two classes; without X, its labels and loss alone."""
        X = None if self.X is None else StandardisedDesign(self.X, offset, scale)
        y = 2.0 * self.index.to(self.weight.dtype) - 1
        return BinaryRows(X, y, WorstCaseLogisticLoss(self.weight, alpha))

    def class_rows(self, n_classes, alpha, offset, scale):
        """The samples of several classes; without X, sums of the logits alone."""
        X = None if self.X is None else StandardisedDesign(self.X, offset, scale)
        return ClassRows.of(X, self.index, n_classes, self.weight, alpha)


@dataclass
class EncodedLabels:
    """Labels and weights of the samples with weight of one partition.

    Attributes
    ----------
    index : torch.Tensor of shape (n_samples,), uint8 or int64
    weight : torch.Tensor of shape (n_samples,)
    rows : ndarray or None
        Their rows in the partition, unless all rows have weight.
    n_rows : int
        Number of rows of the partition.
    """

    index: torch.Tensor
    weight: torch.Tensor
    rows: np.ndarray | None
    n_rows: int

    @classmethod
    def of(cls, y, sample_weight, classes, solved, factors):
        """Encode the labels of a partition; `factors` are the weights of the classes."""
        y, sample_weight = _checked(y, sample_weight)
        labels = np.searchsorted(classes, y)
        kind = np.uint8 if len(classes) <= 256 else np.int64
        if sample_weight is None and (factors == factors[0]).all():
            # One number stands for all weights.
            weight = torch.tensor(factors[0]).expand(len(y))
            return cls(torch.as_tensor(labels.astype(kind)), weight, None, len(y))
        weight = factors[labels] if sample_weight is None else factors[labels] * sample_weight
        rows = np.flatnonzero(weight)
        index = torch.as_tensor(np.searchsorted(solved, labels[rows]).astype(kind))
        all_rows = None if len(rows) == len(y) else rows
        return cls(index, torch.as_tensor(weight[rows]), all_rows, len(y))

    def part(self, X, where):
        """These samples with their X, a block of rows."""
        X = check_array(
            X,
            accept_sparse=["csr", "csc"],
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=0,
            input_name="X",
        )
        if X.shape[0] != self.n_rows:
            raise ValueError(
                f"X and y must have the same number of rows; got {X.shape[0]} and {self.n_rows} "
                f"{where}: partition both alike."
            )
        if self.rows is not None:
            # Sums show what is not finite in samples with weight only.
            _check_finite(
                np.delete(X, self.rows, axis=0) if isinstance(X, np.ndarray) else X, where
            )
            X = X[self.rows]
        X = SparseDesign(X) if sparse.issparse(X) else DenseDesign(as_read_only_tensor(X))
        return Part(X, self.index.long(), self.weight, where)

    def without_X(self):
        """These samples without their X."""
        return Part(None, self.index.long(), self.weight)


@dataclass
class LabelSummary:
    """The different labels of one partition, with their weights."""

    labels: np.ndarray
    weights: np.ndarray
    n_rows: int

    @classmethod
    def of(cls, y, sample_weight):
        """Validate the labels and weights of a partition."""
        y, sample_weight = _checked(y, sample_weight)
        labels, index = np.unique(y, return_inverse=True)
        return cls(labels, np.bincount(index, sample_weight, minlength=len(labels)), len(y))


def make_partitioned_set(source, class_weight, fit_intercept):
    """Find the classes of a source, and encode its labels and weights.

    Returns
    -------
    PartitionedTrainingSet or, of a collection with few entries, TrainingSet

    Raises
    ------
    ValueError
        As `make_training_set`; a message names the partition in which something was found.
    """
    summaries = source.label_summaries()
    classes = merged_labels([summary.labels for summary in summaries if summary.n_rows])
    check_classification_targets(classes)
    if len(classes) < 2:
        raise ValueError(f"y must hold at least two classes; got one class: {classes.tolist()}.")
    totals = np.zeros(len(classes))
    for summary in summaries:
        totals[np.searchsorted(classes, summary.labels)] += summary.weights
    if not totals.any():
        raise ValueError("All samples have weight zero: give a positive weight to at least one.")
    # Weights of classes depend on the sums of the weights of their samples only.
    weighted = joint_weight(classes, totals, class_weight, classes)
    factors = np.divide(weighted, totals, out=np.zeros(len(classes)), where=totals > 0)
    total = weighted.sum()
    solved = np.flatnonzero(weighted) if fit_intercept else np.arange(len(classes))
    labels = source.encoded(classes=classes, solved=solved, factors=factors / total)
    parts, n_samples = source.parts(labels), sum(summary.n_rows for summary in summaries)
    facts = {"classes": classes, "solved": solved}
    facts |= {"total": float(total), "fit_intercept": fit_intercept}
    if source.is_small(n_samples):
        parts = source.runner.gather(source.runner.lazily(call, parts, name="checked"))
        return TrainingSet(
            X=type(parts[0].X).joined([part.X for part in parts]),
            labels=torch.cat([part.index for part in parts]),
            weight=torch.cat([part.weight for part in parts]),
            **facts,
        )
    return PartitionedTrainingSet(
        runner=source.runner,
        parts=source.kept(parts),
        labels=source.runner.lazily(call, labels, name="without_X"),
        shape=(n_samples, source.like.shape[1]),
        shares=torch.as_tensor(weighted[solved] / total),
        **facts,
    )


def _checked(y, sample_weight):
    """Labels and weights of one partition as arrays."""
    check_unmasked(y=y, sample_weight=sample_weight)
    y = np.asarray(y)
    y = column_or_1d(y, warn=True) if len(y) else y.reshape(0)
    check_labels_present(y)
    if np.ndim(sample_weight) > 1:
        raise ValueError(f"sample_weight must be 1D; got shape {np.shape(sample_weight)}.")
    if sample_weight is not None and len(sample_weight):
        sample_weight = check_array(
            sample_weight,
            dtype=np.float64,
            ensure_2d=False,
            ensure_non_negative=True,
            ensure_min_samples=0,
            input_name="sample_weight",
        )
    return y, sample_weight


def _check_finite(X, where):
    """Raise `ValueError` if a part of X holds NaN or infinity."""
    try:
        assert_all_finite(X, input_name="X")
    except ValueError as error:
        raise ValueError(f"{error} {where}") from None
