"""as_trees and the registry of its rules."""

import functools
from dataclasses import replace
from importlib import import_module

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sk_adv._pipelines import active_steps
from sk_adv.tree._preprocessing import carried_back, column_map_of_steps
from sk_adv.tree._tree_sum import TreeSum

# Packages whose estimators have rules of their own, imported once an estimator comes from there.
_RULES_OF_PACKAGES = {"xgboost": "sk_adv.tree._xgboost", "lightgbm": "sk_adv.tree._lightgbm"}


def as_trees(estimator: object, *, dtype: type = np.float64) -> TreeSum:
    """Turn a fitted tree model into a sum of decision trees over raw inputs.

    The sum gives the estimator's own raw scores or probabilities, and its thresholds are exact to
    the last bit: they account for the cast to float32 that scikit-learn and XGBoost do, and for
    the scalers in front. So the smallest change of an input that changes the prediction can be
    read from it.

    Parameters
    ----------
    estimator : object
        A fitted classifier, one of

        - `DecisionTreeClassifier`, `ExtraTreeClassifier`, `RandomForestClassifier`,
          `ExtraTreesClassifier`, `GradientBoostingClassifier`, `HistGradientBoostingClassifier`,
          `AdaBoostClassifier` over trees;
        - `XGBClassifier`, `XGBRFClassifier` and `LGBMClassifier`;
        - `BaggingClassifier` and soft `VotingClassifier` over trees and forests;
        - `CalibratedClassifierCV` with one calibrator, for two classes;
        - around these: a search such as `GridSearchCV`, a `FrozenEstimator`, or a `Pipeline` of
          transformers that act on one column each and keep its order: `StandardScaler`,
          `MinMaxScaler`, `MaxAbsScaler`, `RobustScaler`, `QuantileTransformer`,
          `PowerTransformer`, ordinal `KBinsDiscretizer`, `SimpleImputer`, selectors of features,
          and a `ColumnTransformer` of these. In a `ColumnTransformer`, the columns of any other
          transformer, such as an encoder of categories, stay as they are.

        or an estimator of any type for which a rule is registered by `as_trees.register(Type)`.

    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        The floating type of the X that the estimator will see. Transformers compute in it.

    Returns
    -------
    TreeSum
        Its `scores(X)` are the estimator's `decision_function`, or `predict_proba` for trees,
        forests, `BaggingClassifier` and `VotingClassifier`; for two classes in boosting, the score
        of the first class is 0. A sum over a `CalibratedClassifierCV` has the scores before the
        calibration, less that at which the prediction changes.

    Raises
    ------
    TypeError
        If there is no rule for the estimator or for a transformer in front of it, or it is a
        regressor.
    ValueError
        If the estimator was fitted to several labels per sample.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    sk_adv.differentiable.as_module : A differentiable estimator as a torch module.
    sk_adv.metrics.verify_robustness : Uses the trees.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sk_adv.tree import as_trees
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(random_state=0).fit(X, y)
    >>> trees = as_trees(forest)
    >>> trees
    TreeSum(n_trees=100, n_leaves=882, n_columns=4, n_classes=3)
    >>> bool(abs(trees.scores(X) - forest.predict_proba(X)).max() < 1e-12)
    True
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float64, np.float32):
        raise TypeError(f"dtype must be numpy.float64 or numpy.float32; got {dtype}.")
    return rule_of(estimator)(estimator, dtype)


def rule_of(estimator):
    """The rule for an estimator."""
    for base in type(estimator).__mro__:
        package = base.__module__.partition(".")[0]
        if package in _RULES_OF_PACKAGES:
            import_module(_RULES_OF_PACKAGES[package])
    return _rule.dispatch(type(estimator))


@functools.singledispatch
def _rule(estimator, dtype):
    raise no_trees(estimator)


def no_trees(estimator, why: str = "") -> TypeError:
    """The error for an estimator that is no sum of trees."""
    if isinstance(estimator, type):
        return TypeError(
            f"as_trees takes a fitted classifier; got the class {estimator.__name__} itself."
        )
    name = type(estimator).__name__
    if hasattr(estimator, "fit") and is_regressor(estimator):
        why = why or "it is a regressor, and robustness is a matter of predicted classes"
    why = f": {why}" if why else ""
    return TypeError(
        f"{name} is no sum of decision trees that as_trees knows{why}. Other ways to attack it: "
        "attack='square', which needs its predictions alone, or a differentiable `surrogate`; "
        "a rule of your own is registered by as_trees.register."
    )


def _register(estimator_type):
    """Register a rule, a function from a fitted estimator and a dtype to a `TreeSum`."""

    def decorator(rule):
        @functools.wraps(rule)
        def checked(estimator, dtype):
            check_is_fitted(estimator)
            if isinstance(getattr(estimator, "classes_", None), list):
                raise ValueError(
                    f"as_trees needs one label per sample; got a {type(estimator).__name__} fitted "
                    "to several."
                )
            return rule(estimator, dtype)

        _rule.register(estimator_type, checked)
        return rule

    return decorator


as_trees.register = _register


def is_made_of_trees(estimator) -> bool:
    """Whether `as_trees` has a rule for an estimator and for the last step of a pipeline.

    A fitted estimator can still be refused, for what stands in front of the trees.
    """
    if isinstance(estimator, Pipeline):
        steps = active_steps(estimator)
        return bool(steps) and is_made_of_trees(steps[-1])
    if isinstance(estimator, BaseSearchCV):
        return is_made_of_trees(getattr(estimator, "best_estimator_", estimator.estimator))
    if isinstance(estimator, FrozenEstimator):
        return is_made_of_trees(estimator.estimator)
    found = rule_of(estimator) is not _rule.dispatch(object)
    return found and all(map(is_made_of_trees, parts_of_trees(estimator)))


@functools.singledispatch
def parts_of_trees(estimator) -> list:
    """The estimators inside a composite one that need rules of their own."""
    return []


@as_trees.register(BaseSearchCV)
def _(search, dtype):
    check_is_fitted(search, "best_estimator_", msg="%(name)s is fitted with refit=False only.")
    return as_trees(search.best_estimator_, dtype=dtype)


@as_trees.register(FrozenEstimator)
def _(frozen, dtype):
    return as_trees(frozen.estimator, dtype=dtype)


@as_trees.register(Pipeline)
def _(pipeline, dtype):
    *transformers, last = active_steps(pipeline) or [None]
    if not is_classifier(last):
        raise no_trees(pipeline, "its last step is no classifier")
    trees = as_trees(last, dtype=dtype)
    if not transformers:
        return trees
    return carried_back(trees, column_map_of_steps(transformers), dtype)


def preferring_the_last(trees: TreeSum) -> TreeSum:
    """The same trees, for an estimator that predicts the last class where scores are equal."""
    return replace(trees, preferred=tuple(range(trees.n_classes))[::-1])
