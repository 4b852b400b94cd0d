"""Rules for scikit-learn's gradient boosting."""

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

from sk_adv.tree._as_trees import as_trees, no_trees, preferring_the_last
from sk_adv.tree._ensembles import from_sklearn_tree
from sk_adv.tree._preprocessing import carried_back, column_map
from sk_adv.tree._tree_sum import Held, TreeSum, join


def _of_class(values, index, n_classes):
    """Values of nodes as scores of one class; of two classes, the second has the score."""
    scores = np.zeros((len(values), n_classes))
    scores[:, index if n_classes > 2 else 1] = values
    return scores


def _base(start, n_classes):
    return start.ravel() if n_classes > 2 else np.array([0.0, start.ravel()[0]])


@as_trees.register(GradientBoostingClassifier)
def _(model, dtype):
    n_classes, n_columns = model.n_classes_, model.n_features_in_
    if not (isinstance(model.init_, str) or hasattr(model.init_, "class_prior_")):
        raise no_trees(model, f"its scores start from a {type(model.init_).__name__}")
    start = model._raw_predict_init(np.zeros((1, n_columns), dtype=np.float32))
    parts = [
        from_sklearn_tree(
            member.tree_,
            _of_class(model.learning_rate * member.tree_.value[:, 0, 0], index, n_classes),
            n_columns,
        )
        for stage in model.estimators_
        for index, member in enumerate(stage)
    ]
    trees = join(parts, base=_base(start, n_classes))
    # The second of two classes is predicted from a score of 0 on.
    return preferring_the_last(trees) if n_classes == 2 else trees


@as_trees.register(HistGradientBoostingClassifier)
def _(model, dtype):
    n_classes = len(model.classes_)
    preprocessor = getattr(model, "_preprocessor", None)
    found = None if preprocessor is None else column_map(preprocessor)
    n_columns = model.n_features_in_ if found is None else len(found.sources)
    encodes = model._bin_mapper.make_known_categories_bitsets()
    parts = [
        _from_predictor(predictor, index, n_classes, n_columns, encodes)
        for stage in model._predictors
        for index, predictor in enumerate(stage)
    ]
    trees = join(parts, base=_base(np.asarray(model._baseline_prediction), n_classes))
    return trees if found is None else carried_back(trees, found, dtype)


def _from_predictor(predictor, index, n_classes, n_columns, encodes):
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    feature = np.where(is_leaf, 0, nodes["feature_idx"]).astype(int)
    threshold = nodes["num_threshold"].astype(np.float64)
    missing_left = nodes["missing_go_to_left"].astype(bool)
    held = ()
    is_categorical = nodes["is_categorical"].astype(bool) & ~is_leaf
    if is_categorical.any():
        # Each such node asks its own question of a category, and its answer is a coordinate.
        which = np.flatnonzero(is_categorical)
        sets = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][which].astype(int)]
        known, place = encodes
        columns = feature[which]
        held = (
            Held(
                _answers(columns, sets, missing_left[which], known, place),
                len(which),
                dict.fromkeys(columns.tolist(), "HistGradientBoostingClassifier"),
            ),
        )
        feature[which] = n_columns + np.arange(len(which))
        threshold[which] = 0.5
    return TreeSum(
        roots=np.zeros(1, dtype=int),
        feature=feature,
        threshold=threshold,
        missing_left=missing_left,
        left=np.where(is_leaf, -1, nodes["left"].astype(int)),
        right=np.where(is_leaf, -1, nodes["right"].astype(int)),
        value=_of_class(nodes["value"], index, n_classes),
        base=np.zeros(n_classes),
        n_columns=n_columns,
        preferred=tuple(range(n_classes)),
        held=held,
    )


def _answers(columns, sets, missing_left, known, place):
    """0 where a category goes left at a node, 1 where it goes right."""

    def compute(X):
        categories = np.asarray(X, dtype=np.float64)[:, columns]
        is_number = ~np.isnan(categories) & (categories >= 0)
        codes = np.where(is_number, categories, 0).astype(int)
        is_known = is_number & _contains(known[place[columns]], codes)
        goes_left = np.where(is_known, _contains(sets, codes), missing_left)
        return np.where(goes_left, 0.0, 1.0)

    return compute


def _contains(bitsets, codes):
    """Whether sets of codes below 256, as 8 words of 32 bits each, contain a code each."""
    word = np.clip(codes >> 5, 0, 7)
    bits = bitsets[np.arange(len(bitsets)), word] >> (codes & 31).astype(np.uint32)
    return (codes < 256) & (bits & 1).astype(bool)
