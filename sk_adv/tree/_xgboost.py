"""The rule for XGBoost's classifiers, from the model as JSON."""

import json

import numpy as np
from xgboost import XGBClassifier

from sk_adv.tree._as_trees import as_trees, no_trees
from sk_adv.tree._thresholds import as_compared_in_float32
from sk_adv.tree._tree_sum import TreeSum, join


@as_trees.register(XGBClassifier)
def _(model, dtype):
    learner = json.loads(model.get_booster().save_raw("json"))["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] not in ("gbtree", "dart"):
        raise no_trees(model, f"booster={booster['name']!r} has no trees")
    objective = learner["objective"]["name"]
    if objective not in ("binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax"):
        raise no_trees(model, f"objective={objective!r} is not known here")
    if not np.isnan(model.missing):
        raise no_trees(model, f"missing={model.missing!r} leaves out a number in the middle")
    weights = booster.get("weight_drop")
    fitted = booster.get("gbtree", booster)["model"]
    n_classes = len(model.classes_)
    end = len(fitted["trees"])
    best = learner["attributes"].get("best_iteration")
    if best is not None:
        # After early stopping, by parameter or by callback, the best iterations predict.
        end = fitted["iteration_indptr"][int(best) + 1]
    parts = []
    for index in range(end):
        tree, group = fitted["trees"][index], fitted["tree_info"][index]
        weight = 1.0 if weights is None else weights[index]
        parts.append(_from_json(model, tree, group, n_classes, weight))
    base = _numbers(learner["learner_model_param"]["base_score"])
    if objective == "binary:logistic":
        base = np.log(base / (1 - base))
    base = np.broadcast_to(base, n_classes) if n_classes > 2 else np.array([0.0, base[0]])
    return join(parts, base=base.astype(np.float64))


def _numbers(text):
    return np.atleast_1d(np.asarray(json.loads(text), dtype=np.float64))


def _from_json(model, tree, group, n_classes, weight):
    if tree["tree_param"]["size_leaf_vector"] not in ("0", "1"):
        raise no_trees(model, "its leaves hold vectors")
    if tree["categories"]:
        raise no_trees(model, "it splits categories; encode them in a ColumnTransformer before it")
    left = np.asarray(tree["left_children"])
    # XGBoost computes in float32, and goes left where x < t.
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    value = np.zeros((len(left), n_classes))
    value[:, group if n_classes > 2 else 1] = np.float32(weight) * conditions
    return TreeSum(
        roots=np.zeros(1, dtype=int),
        feature=np.where(left < 0, 0, tree["split_indices"]),
        threshold=as_compared_in_float32(conditions.astype(np.float64), strictly=True),
        missing_left=np.asarray(tree["default_left"], dtype=bool),
        left=left,
        right=np.asarray(tree["right_children"]),
        value=value,
        base=np.zeros(n_classes),
        n_columns=model.n_features_in_,
        preferred=tuple(range(n_classes)),
        spacing=float(np.finfo(np.float32).eps),
    )
