"""Rules for single trees, forests, bagging, votes and calibrated trees."""

from dataclasses import replace

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, VotingClassifier
from sklearn.ensemble._forest import ForestClassifier
from sklearn.tree import BaseDecisionTree, DecisionTreeClassifier

from sk_adv.tree._as_trees import (
    as_trees,
    is_made_of_trees,
    no_trees,
    parts_of_trees,
)
from sk_adv.tree._preprocessing import carried_back, selection
from sk_adv.tree._thresholds import as_compared_in_float32, last_true
from sk_adv.tree._tree_sum import TreeSum, join


def from_sklearn_tree(tree, value: np.ndarray, n_columns: int) -> TreeSum:
    """One fitted `sklearn.tree._tree.Tree`, with a value of its own for each node and class.

    scikit-learn casts X to float32 before it compares with a threshold in float64.
    """
    return TreeSum(
        roots=np.zeros(1, dtype=int),
        feature=np.where(tree.children_left < 0, 0, tree.feature),
        threshold=as_compared_in_float32(tree.threshold),
        missing_left=tree.missing_go_to_left.astype(bool),
        left=tree.children_left.astype(int),
        right=tree.children_right.astype(int),
        value=np.ascontiguousarray(value, dtype=np.float64),
        base=np.zeros(value.shape[1]),
        n_columns=n_columns,
        preferred=tuple(range(value.shape[1])),
    )


@as_trees.register(DecisionTreeClassifier)
def _(model, dtype):
    return from_sklearn_tree(model.tree_, model.tree_.value[:, 0, :], model.n_features_in_)


@as_trees.register(ForestClassifier)
def _(forest, dtype):
    # The mean of the trees' probabilities, as a sum, is exact where all leaves are pure.
    trees = [as_trees(tree) for tree in forest.estimators_]
    return join(trees, divisor=float(len(trees)))


def _voting(trees: TreeSum, vote) -> TreeSum:
    """A tree whose leaves hold votes for the class of the largest value."""
    return replace(trees, value=np.apply_along_axis(vote, 1, trees.value))


def _one_hot(row):
    return np.arange(len(row)) == row.argmax()


@as_trees.register(AdaBoostClassifier)
def _(model, dtype):
    if getattr(model, "algorithm", None) == "SAMME.R":
        raise no_trees(model, "algorithm='SAMME.R' adds up logarithms; refit with 'SAMME'")
    _check_members(model, model.estimators_)
    n_classes = model.n_classes_
    weights = model.estimator_weights_[: len(model.estimators_)]
    members = []
    for weight, member in zip(weights, model.estimators_, strict=True):
        position = np.searchsorted(model.classes_, member.classes_)
        trees = _with_all_classes(as_trees(member, dtype=dtype), position, n_classes)
        votes = trees.value.argmax(1)[:, None] == np.arange(n_classes)
        members.append(replace(trees, value=weight * np.where(votes, 1.0, -1 / (n_classes - 1))))
    joined = join(members, divisor=float(model.estimator_weights_.sum()))
    if n_classes > 2:
        return joined
    # The decision is the score of the second class less that of the first, which becomes 0.
    return replace(joined, value=_against_the_first(joined.value))


def _against_the_first(value):
    return np.stack([np.zeros(len(value)), value[:, 1] - value[:, 0]], axis=1)


@as_trees.register(BaggingClassifier)
def _(model, dtype):
    _check_members(model, model.estimators_)
    members = []
    for member, columns in zip(model.estimators_, model.estimators_features_, strict=True):
        # Members of a bag see the positions of the classes, and not their labels.
        position = np.asarray(member.classes_, dtype=int)
        trees = _with_all_classes(_as_probabilities(member, dtype), position, model.n_classes_)
        seen = selection(columns, model.n_features_in_)
        members.append(carried_back(trees, seen, dtype))
    return join(members, divisor=float(len(members)), preferred=tuple(range(model.n_classes_)))


@as_trees.register(VotingClassifier)
def _(model, dtype):
    if model.voting != "soft":
        raise no_trees(model, "a hard vote of several trees is no sum; use voting='soft'")
    _check_members(model, model.estimators_)
    weights = model._weights_not_none or np.ones(len(model.estimators_))
    members = []
    for weight, member in zip(weights, model.estimators_, strict=True):
        trees = _as_probabilities(member, dtype)
        members.append(replace(trees, value=trees.value * weight, base=trees.base * weight))
    order = tuple(range(len(model.classes_)))
    return join(members, divisor=float(np.sum(weights)), preferred=order)


def _as_probabilities(member, dtype):
    """The probabilities of a member as a sum of trees, its divisor worked into the leaves."""
    trees = as_trees(member, dtype=dtype)
    if not _sums_probabilities(member):
        raise no_trees(
            member, "its probabilities are no sum of its trees, so that a mean over models is none"
        )
    by = trees.divisor
    return replace(trees, value=trees.value / by, base=trees.base / by, divisor=1.0)


def _sums_probabilities(model):
    """Whether the scores of a tree model are its probabilities."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps"):
            model = model[-1]
        elif type(model).__name__ == "FrozenEstimator":
            model = model.estimator
        else:
            break
    return isinstance(model, BaseDecisionTree | ForestClassifier | BaggingClassifier) or (
        isinstance(model, VotingClassifier) and model.voting == "soft"
    )


def _with_all_classes(trees, position, n_classes):
    """The trees with a score for each class of the whole; a member may have seen fewer.

    `position` holds the places of the member's classes among those of the whole.
    """
    if trees.n_classes == n_classes:
        return trees
    value, base = np.zeros((len(trees.value), n_classes)), np.zeros(n_classes)
    value[:, position], base[position] = trees.value, trees.base
    return replace(trees, value=value, base=base, preferred=tuple(range(n_classes)))


def _check_members(model, members):
    for member in members:
        if not is_made_of_trees(member):
            raise no_trees(model, f"it has a {type(member).__name__} in it")


@parts_of_trees.register(AdaBoostClassifier)
@parts_of_trees.register(BaggingClassifier)
def _(model):
    if hasattr(model, "estimators_"):
        return list(model.estimators_[:1])
    return [model.estimator or DecisionTreeClassifier()]


@parts_of_trees.register(VotingClassifier)
def _(model):
    if hasattr(model, "estimators_"):
        return list(model.estimators_)
    return [member for _, member in model.estimators if is_classifier(member)]


@parts_of_trees.register(CalibratedClassifierCV)
def _(model):
    if hasattr(model, "calibrated_classifiers_"):
        return [part.estimator for part in model.calibrated_classifiers_]
    return [model.estimator]


@as_trees.register(CalibratedClassifierCV)
def _(model, dtype):
    if len(model.calibrated_classifiers_) != 1:
        raise no_trees(
            model,
            "it is a mean of several calibrated models, and that is no sum of trees; use "
            "ensemble=False, or FrozenEstimator around a fitted model",
        )
    if len(model.classes_) != 2:
        raise no_trees(model, "calibration one class against the rest is monotone for two only")
    if model.method not in ("sigmoid", "isotonic"):
        raise no_trees(model, f"its method {model.method!r} is not known here")
    (calibrated,) = model.calibrated_classifiers_
    scores_are_calibrated = hasattr(calibrated.estimator, "decision_function")
    if not scores_are_calibrated and not _sums_probabilities(calibrated.estimator):
        raise no_trees(
            model, "it calibrates probabilities that are no sum of the trees but a function of it"
        )
    trees = as_trees(calibrated.estimator, dtype=dtype)
    (calibrator,) = calibrated.calibrators
    limit = _turning_point(calibrator)
    if limit is None:
        raise no_trees(model, "its calibrator does not keep the order of the scores")
    if trees.divisor != 1:
        trees = replace(
            trees, value=trees.value / trees.divisor, base=trees.base / trees.divisor, divisor=1.0
        )
    value = trees.value.copy()
    if _sums_probabilities(calibrated.estimator):
        # Only the probability of the second class is calibrated.
        value[:, 0] = 0
        base = np.array([limit, trees.base[1]])
    else:
        base = trees.base + np.array([limit, 0.0])
    return replace(trees, value=value, base=base, preferred=(0, 1))


def _turning_point(calibrator):
    """The largest score whose calibrated probability of the second class is at most 1/2."""
    # At the ends of the floating-point numbers a sigmoid's argument overflows, as it may.
    with np.errstate(over="ignore"):
        return _last_below_half(calibrator)


def _last_below_half(calibrator):
    ends = calibrator.predict(np.array([-1e300, 1e300]))
    if ends[0] > ends[1]:
        return None
    limit = last_true(lambda score: calibrator.predict(score) <= 0.5, (1,))[0]
    return float(np.clip(limit, -1e300, 1e300))
