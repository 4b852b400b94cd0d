"""The rule for LightGBM's classifier, from the model as a dict."""

import numpy as np
from lightgbm import LGBMClassifier

from sk_adv.tree._as_trees import as_trees, no_trees
from sk_adv.tree._tree_sum import TreeSum, join

_ZERO = float(np.float32(1e-35))


@as_trees.register(LGBMClassifier)
def _(model, dtype):
    fitted = model.booster_.dump_model(num_iteration=model.best_iteration_ or -1)
    objective = fitted["objective"].partition(" ")[0]
    if objective not in ("binary", "multiclass", "multiclassova"):
        raise no_trees(model, f"objective={objective!r} is not known here")
    n_classes, n_groups = len(model.classes_), fitted["num_tree_per_iteration"]
    parts = [
        _from_dict(model, tree["tree_structure"], index % n_groups, n_classes)
        for index, tree in enumerate(fitted["tree_info"])
    ]
    return join(parts)


def _from_dict(model, root, group, n_classes):
    feature, threshold, missing_left, left, right, score = [], [], [], [], [], []
    # Nodes wait with the list and the place that shall hold their number.
    waiting = [(root, None, None)]
    while waiting:
        node, side, parent = waiting.pop()
        if side is not None:
            side[parent] = len(feature)
        is_leaf = "leaf_value" in node
        if "leaf_coeff" in node:
            raise no_trees(model, "linear_tree=True makes its leaves linear functions")
        score.append(node.get("leaf_value", 0.0))
        feature.append(node.get("split_feature", 0))
        threshold.append(0.0 if is_leaf else _threshold(model, node))
        missing_left.append(not is_leaf and _goes_left_if_missing(node))
        left.append(-1)
        right.append(-1)
        if not is_leaf:
            place = len(feature) - 1
            waiting += [(node["left_child"], left, place), (node["right_child"], right, place)]
    value = np.zeros((len(score), n_classes))
    value[:, group if n_classes > 2 else 1] = score
    return TreeSum(
        roots=np.zeros(1, dtype=int),
        feature=np.asarray(feature),
        threshold=np.asarray(threshold, dtype=np.float64),
        missing_left=np.asarray(missing_left),
        left=np.asarray(left),
        right=np.asarray(right),
        value=value,
        base=np.zeros(n_classes),
        n_columns=model.n_features_in_,
        preferred=tuple(range(n_classes)),
    )


def _threshold(model, node):
    if node["decision_type"] != "<=":
        raise no_trees(model, "it splits categories; encode them in a ColumnTransformer before it")
    if node["missing_type"] == "Zero":
        raise no_trees(model, "zero_as_missing=True leaves out a number in the middle")
    threshold = node["threshold"]
    if abs(threshold) <= _ZERO:
        # LightGBM reads numbers up to 1e-35 as 0.
        return _ZERO if threshold >= 0 else np.nextafter(-_ZERO, -np.inf)
    return threshold


def _goes_left_if_missing(node):
    # Where no value was missing in the fit, LightGBM reads a missing one as 0.
    return node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
