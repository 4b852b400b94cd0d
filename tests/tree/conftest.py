"""Small random tree models of every family, and the worst case by trying every cell."""

import itertools
import os
import sys

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from xgboost import XGBClassifier, XGBRFClassifier

from sk_adv.tree import as_trees

# Each takes a seed; whether it takes missing values; and how many classes at most.
FAMILIES = {
    "tree": (lambda seed: DecisionTreeClassifier(max_depth=4, random_state=seed), True, 3),
    "extra tree": (lambda seed: ExtraTreeClassifier(max_depth=4, random_state=seed), True, 3),
    "forest": (
        lambda seed: RandomForestClassifier(5, max_depth=3, random_state=seed),
        True,
        3,
    ),
    "full forest": (lambda seed: RandomForestClassifier(4, random_state=seed), True, 3),
    "extra trees": (
        lambda seed: ExtraTreesClassifier(4, max_depth=4, random_state=seed),
        True,
        3,
    ),
    "boosting": (
        lambda seed: GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=seed),
        False,
        3,
    ),
    "boosted stumps": (
        lambda seed: GradientBoostingClassifier(n_estimators=12, max_depth=1, random_state=seed),
        False,
        3,
    ),
    "histogram boosting": (
        lambda seed: HistGradientBoostingClassifier(
            max_iter=5, max_leaf_nodes=5, min_samples_leaf=5, random_state=seed
        ),
        True,
        3,
    ),
    "adaboost": (
        lambda seed: AdaBoostClassifier(
            DecisionTreeClassifier(max_depth=2), n_estimators=5, random_state=seed
        ),
        False,
        3,
    ),
    "bagging": (
        lambda seed: BaggingClassifier(
            DecisionTreeClassifier(max_depth=3), n_estimators=4, max_features=0.7, random_state=seed
        ),
        False,
        3,
    ),
    "vote": (
        lambda seed: VotingClassifier(
            [
                ("a", RandomForestClassifier(3, max_depth=3, random_state=seed)),
                ("b", make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3))),
            ],
            voting="soft",
            weights=[2, 1],
        ),
        True,
        3,
    ),
    "calibrated forest": (
        lambda seed: CalibratedClassifierCV(
            RandomForestClassifier(4, max_depth=3, random_state=seed), ensemble=False, cv=3
        ),
        False,
        2,
    ),
    "isotonic boosting": (
        lambda seed: CalibratedClassifierCV(
            GradientBoostingClassifier(n_estimators=4, max_depth=2, random_state=seed),
            method="isotonic",
            ensemble=False,
            cv=3,
        ),
        False,
        2,
    ),
    "search": (
        lambda seed: GridSearchCV(
            DecisionTreeClassifier(random_state=seed), {"max_depth": [2, 4]}, cv=2
        ),
        True,
        3,
    ),
    "xgboost": (
        lambda seed: XGBClassifier(n_estimators=4, max_depth=3, random_state=seed, n_jobs=1),
        True,
        3,
    ),
    "xgboost forest": (
        lambda seed: XGBRFClassifier(n_estimators=4, max_depth=3, random_state=seed, n_jobs=1),
        True,
        3,
    ),
    "lightgbm": (
        lambda seed: LGBMClassifier(
            n_estimators=4, num_leaves=5, min_child_samples=5, verbose=-1, n_jobs=1
        ),
        True,
        3,
    ),
    "scaled forest": (
        lambda seed: make_pipeline(
            StandardScaler(), RandomForestClassifier(4, max_depth=3, random_state=seed)
        ),
        True,
        3,
    ),
    "imputed, scaled boosting": (
        lambda seed: make_pipeline(
            SimpleImputer(add_indicator=True),
            MinMaxScaler(clip=True),
            GradientBoostingClassifier(n_estimators=4, max_depth=2, random_state=seed),
        ),
        True,
        3,
    ),
    "quantiles and powers": (
        lambda seed: make_pipeline(
            QuantileTransformer(n_quantiles=20, output_distribution="normal"),
            PowerTransformer(),
            HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=5, min_samples_leaf=5),
        ),
        True,
        3,
    ),
    "binned tree": (
        lambda seed: make_pipeline(
            KBinsDiscretizer(6, encode="ordinal", strategy="uniform"),
            DecisionTreeClassifier(max_depth=4, random_state=seed),
        ),
        False,
        3,
    ),
    "columns apart": (
        lambda seed: make_pipeline(
            make_column_transformer(
                (RobustScaler(), [1]), (MaxAbsScaler(), [0]), remainder="passthrough"
            ),
            RandomForestClassifier(4, max_depth=3, random_state=seed),
        ),
        True,
        3,
    ),
}

# Cases of each family. SK_ADV_SEEDS=10 makes more than 200 models in all.
N_SEEDS = int(os.environ.get("SK_ADV_SEEDS", "1"))


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", FAMILIES)


@pytest.fixture
def ensembles():
    """The functions of this file."""
    return sys.modules[__name__]


def random_case(family, seed):
    """A fitted model, samples and labels, and a random set of perturbations.

    Returns
    -------
    model, X, y, epsilon, bounds
    """
    make, takes_missing, most_classes = FAMILIES[family]
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(2, 5)) if family in ("tree", "boosted stumps") else 2 + seed % 2
    n_classes = min(2 + int(rng.integers(2)), most_classes)
    X = rng.normal(size=(120, n_features)) * 10.0 ** rng.integers(-2, 3, n_features)
    size = X / X.std(axis=0)
    score = size[:, 0] + np.sin(2 * size[:, 1]) + 0.5 * rng.normal(size=len(X))
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))
    if takes_missing and seed % 3 == 0:
        X[rng.random(X.shape) < 0.1] = np.nan
    model = make(seed).fit(X[:100], y[:100])
    epsilon = np.nanstd(X, axis=0) * rng.choice([0.0, 0.2, 0.5], n_features, p=[0.2, 0.4, 0.4])
    bounds = None
    if seed % 4 == 1:
        bounds = np.nanquantile(X, 0.05, axis=0), np.nanquantile(X, 0.9, axis=0)
    return model, X[100:], y[100:], epsilon, bounds


def cells(model, x, low, high):
    """A point of each cell that the box from `low` to `high` meets, next to the sample x.

    The cells lie between the thresholds, which tests of their own hold against the estimators.
    """
    trees = as_trees(model)
    axes = []
    for j, (lowest, highest) in enumerate(zip(low, high, strict=True)):
        if np.isnan(x[j]):
            axes.append([np.nan])
            continue
        inner = ~trees.is_leaf & (trees.feature == j)
        ends = np.unique(trees.threshold[inner])
        ends = ends[np.isfinite(ends)]
        starts = np.concatenate([[-np.inf], np.nextafter(ends, np.inf)])
        ends = np.append(ends, np.inf)
        met = (starts <= highest) & (ends >= lowest)
        starts, ends = np.maximum(starts[met], lowest), np.minimum(ends[met], highest)
        axes.append(np.clip(x[j], starts, ends))
    return np.array(list(itertools.product(*axes)))


def scores(model, X):
    """The estimator's own scores, one for each class."""
    if isinstance(model, XGBClassifier):
        found = model.predict(X, output_margin=True)
    elif isinstance(model, LGBMClassifier):
        found = model.predict(X, raw_score=True)
    elif hasattr(model, "decision_function"):
        found = model.decision_function(X)
    else:
        found = model.predict_proba(X)
    return np.stack([np.zeros(len(found)), found], axis=1) if found.ndim == 1 else found


def least_margin(model, X, label):
    """The least difference of the label's score to another one, over some points."""
    found = scores(model, X)
    others = np.delete(found, label, axis=1).max(axis=1)
    return float((found[:, label] - others).min())
