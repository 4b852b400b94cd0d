"""A sum of decision trees over raw inputs, and its own predictions."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from sk_adv._arrays import numeric_columns, to_numpy


@dataclass(frozen=True)
class Held:
    """Coordinates beside the raw columns, computed from columns that no perturbation may change.

    Attributes
    ----------
    compute : callable
        From X, as the estimator takes it, to an array of shape (n_samples, n_coordinates).
    n_coordinates : int
    columns : dict of int to str
        The raw columns that it reads, and the types of the transformers that read them.
    """

    compute: Callable
    n_coordinates: int
    columns: dict


@dataclass(frozen=True, eq=False)
class TreeSum:
    """A sum of decision trees in raw input units, with one score for each class.

    Nodes of all trees stand in the same arrays. At an inner node a sample goes left iff
    `x[feature] <= threshold`; a missing value goes left iff `missing_left`. A sample's scores are
    `(base + sum over trees of the values of its leaves) / divisor`.

    Parameters
    ----------
    roots : ndarray of shape (n_trees,), int
        The root of each tree.
    feature : ndarray of shape (n_nodes,), int
        The coordinate that an inner node looks at: a raw column if it is less than `n_columns`,
        else one of the coordinates of `held`.
    threshold : ndarray of shape (n_nodes,), float64
        The largest number that goes left.
    missing_left : ndarray of shape (n_nodes,), bool
        Whether a missing value goes left.
    left, right : ndarray of shape (n_nodes,), int
        The children; -1 at a leaf.
    value : ndarray of shape (n_nodes, n_classes), float64
        The numbers that a leaf adds to the scores.
    base : ndarray of shape (n_classes,), float64
        The number that each score starts from.
    n_columns : int
        Number of raw columns.
    divisor : float, default=1.0
        The divisor of the sums, such as the number of trees of a forest.
    preferred : tuple of int, default=()
        The classes in the order in which the estimator predicts them where scores are equal.
    spacing : float, default=2.220446049250313e-16
        The distance from 1 to the next number in which the estimator adds up leaves.
    held : tuple of Held, default=()
        The coordinates of columns that stay as they are, such as encoded categories.

    See Also
    --------
    as_trees : Makes a sum of trees from a fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sk_adv.tree import as_trees
    >>> X, y = load_iris(return_X_y=True)
    >>> trees = as_trees(DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, y))
    >>> trees
    TreeSum(n_trees=1, n_leaves=3, n_columns=4, n_classes=3)
    >>> trees.scores(X[:2])
    array([[1., 0., 0.],
           [1., 0., 0.]])
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    base: np.ndarray
    n_columns: int
    divisor: float = 1.0
    preferred: tuple = ()
    spacing: float = float(np.finfo(np.float64).eps)
    held: tuple = field(default=(), repr=False)

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.roots)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.value.shape[1]

    @property
    def held_columns(self) -> dict:
        """The raw columns that must not change, and the transformers that read them."""
        return {column: name for part in self.held for column, name in part.columns.items()}

    @functools.cached_property
    def is_leaf(self) -> np.ndarray:
        """Whether each node is a leaf."""
        return self.left < 0

    def coordinates(self, X) -> np.ndarray:
        """The raw columns of X, NaN where one holds no numbers, and the coordinates of `held`.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Samples as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_coordinates), float64
            The coordinates, of which `feature` holds the indices.
        """
        X = X.toarray() if sparse.issparse(X) else to_numpy(X)
        raw = numeric_columns(X)
        if raw.shape[1] != self.n_columns:
            raise ValueError(
                f"X must have {self.n_columns} columns, as the trees have; got {raw.shape[1]}."
            )
        return np.hstack([raw, *(part.compute(X) for part in self.held)])

    def leaves(self, coordinates: np.ndarray) -> np.ndarray:
        """The leaf of each tree that each sample reaches.

        Parameters
        ----------
        coordinates : ndarray of shape (n_samples, n_coordinates)
            The result of the method `coordinates`.

        Returns
        -------
        ndarray of shape (n_samples, n_trees)
            Indices of nodes.
        """
        node = np.broadcast_to(self.roots, (len(coordinates), self.n_trees)).copy()
        rows = np.arange(len(coordinates))[:, None]
        while not self.is_leaf[node].all():
            x = coordinates[rows, self.feature[node]]
            goes_left = np.where(np.isnan(x), self.missing_left[node], x <= self.threshold[node])
            after = np.where(goes_left, self.left[node], self.right[node])
            node = np.where(self.is_leaf[node], node, after)
        return node

    def scores(self, X) -> np.ndarray:
        """The estimator's raw scores or probabilities, one for each class.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Samples as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The scores.
        """
        return self.scores_at(self.coordinates(X))

    def scores_at(self, coordinates: np.ndarray) -> np.ndarray:
        """The scores from coordinates.

        Parameters
        ----------
        coordinates : ndarray of shape (n_samples, n_coordinates)
            The result of the method `coordinates`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The scores.
        """
        return (self.base + self.value[self.leaves(coordinates)].sum(1)) / self.divisor

    @functools.cached_property
    def rounding(self) -> float:
        """Bound on the error of a difference of two scores, before division, as estimators sum.

        The sum of n numbers, one after another, is within (n - 1) u of the sum of their absolute
        values, with u half the spacing. Source: Higham, "Accuracy and Stability of Numerical
        Algorithms", SIAM 2002, section 4.2. 0 if the sums are exact.
        """
        if self.unit or (self.n_trees == 1 and not self.base.any()):
            return 0.0
        size = np.zeros((self.n_trees, self.n_classes))
        leaf = np.flatnonzero(self.is_leaf)
        np.maximum.at(size, self.tree_of_node[leaf], np.abs(self.value[leaf]))
        n_numbers = (size > 0).sum(0) + 2
        errors = n_numbers * self.spacing / 2 * (size.sum(0) + np.abs(self.base))
        # Of two classes; and a sigmoid or softmax may round what is next to a tie.
        return float(np.sort(errors)[-2:].sum() + 2 * self.spacing)

    @functools.cached_property
    def unit(self) -> float:
        """A power of 2 of which all leaves are multiples, so that their sums are exact; else 0."""
        numbers = np.concatenate([self.value[self.is_leaf], self.base[None]])
        largest = np.abs(numbers).max(initial=0.0) * (self.n_trees + 1)
        for unit in 2.0 ** -np.arange(17):
            parts = numbers / unit
            if (parts == np.rint(parts)).all():
                return float(unit) if largest / unit < 1 / self.spacing else 0.0
        return 0.0

    @functools.cached_property
    def tree_of_node(self) -> np.ndarray:
        """The number of the tree that each node belongs to."""
        found = np.zeros(len(self.left), dtype=int)
        node, tree = self.roots, np.arange(self.n_trees)
        while len(node):
            found[node] = tree
            is_inner = ~self.is_leaf[node]
            node, tree = node[is_inner], tree[is_inner]
            node = np.concatenate([self.left[node], self.right[node]])
            tree = np.concatenate([tree, tree])
        return found

    def __len__(self) -> int:
        return self.n_trees

    def __repr__(self) -> str:
        return (
            f"TreeSum(n_trees={self.n_trees}, n_leaves={int(self.is_leaf.sum())}, "
            f"n_columns={self.n_columns}, n_classes={self.n_classes})"
        )


def join(parts: list, **changes) -> TreeSum:
    """One sum of the trees of several sums over the same raw columns; bases add up.

    Parameters
    ----------
    parts : list of TreeSum
    **changes : dict
        Fields of the result that are not those of the first part.
    """
    first = parts[0]
    offsets = np.cumsum([0, *(len(part.left) for part in parts[:-1])])
    features, n_coordinates = [], first.n_columns
    for part in parts:
        shift = n_coordinates - first.n_columns
        features.append(np.where(part.feature < first.n_columns, 0, shift) + part.feature)
        n_coordinates += sum(held.n_coordinates for held in part.held)

    def moved(name):
        return np.concatenate(
            [
                np.where(getattr(part, name) < 0, -1, getattr(part, name) + offset)
                for part, offset in zip(parts, offsets, strict=True)
            ]
        )

    fields = {
        "roots": moved("roots"),
        "left": moved("left"),
        "right": moved("right"),
        "feature": np.concatenate(features),
        "base": sum(part.base for part in parts),
        "held": tuple(held for part in parts for held in part.held),
        "spacing": max(part.spacing for part in parts),
    }
    for name in ("threshold", "missing_left", "value"):
        fields[name] = np.concatenate([getattr(part, name) for part in parts])
    return replace(first, **fields | changes)
