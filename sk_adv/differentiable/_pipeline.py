"""Rules for pipelines, and for searches, RFE and frozen estimators around an estimator."""

from functools import partial

import numpy as np
from sklearn.base import is_classifier
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv._pipelines import active_steps
from sk_adv.differentiable._as_module import (
    NoRuleError,
    as_module,
    as_part,
    has_rule,
    parts_of,
    refused_part,
)
from sk_adv.differentiable._columns_in_hand import holding, numbers_for
from sk_adv.differentiable._composition import Chain, Select
from sk_adv.differentiable._transformers import Projection


def as_transformer(step):
    """The module of a fitted estimator's `transform`; for a classifier it is not `as_module`'s.

    The step sees the columns in hand, if there are any.
    """
    if isinstance(step, Pipeline):
        return _in_turn(partial(as_transformer, inner) for inner in active_steps(step))
    if isinstance(step, RFE):
        return Chain(*numbers_for(step), Select(step.get_support(indices=True)))
    if isinstance(step, LinearDiscriminantAnalysis) and step.solver != "lsqr":
        axes = step.scalings_[:, : step._max_components]
        center = getattr(step, "xbar_", np.zeros(len(axes)))
        return Chain(*numbers_for(step), Projection(axes.T, center))
    if is_classifier(step):
        raise _no_transformer(step)
    return as_part(step)


def _in_turn(rules):
    """The chain of what some functions make; only the first step sees the columns in hand."""
    first, *others = list(rules) or [partial(as_part, nn.Identity())]
    modules = [first()]
    with holding(None):
        return Chain(*modules, *(rule() for rule in others))


def _has_own_transform(step):
    """Whether `as_transformer` takes the step without its rule."""
    is_discriminant = isinstance(step, LinearDiscriminantAnalysis) and step.solver != "lsqr"
    return is_discriminant or isinstance(step, RFE)


def _no_transformer(classifier):
    return NoRuleError(
        f"as_module has no rule for {type(classifier).__name__} as a transformer, before the last "
        "step. Pass a differentiable surrogate of the whole (the parameter `surrogate`)."
    )


def _unnested(steps):
    """The steps, with those of pipelines among them in their place."""
    for step in steps:
        if isinstance(step, Pipeline):
            yield from _unnested(active_steps(step))
        else:
            yield step


def transformers_with_rules(steps):
    """The steps, fitted or not and out of nested pipelines, that need a rule for `as_module`."""
    return [step for step in _unnested(steps) if not _has_own_transform(step)]


def refuse_classifiers(steps):
    """The error for the first classifier among some transformers, or None."""
    classifiers = filter(is_classifier, transformers_with_rules(steps))
    return next(map(_no_transformer, classifiers), None)


def has_transformer_rule(step):
    """Whether `as_transformer` takes a step once it is fitted."""
    is_refused = refuse_classifiers([step]) is not None
    return not is_refused and all(map(has_rule, transformers_with_rules([step])))


def step_without_rule(step):
    """The part of a step that `as_transformer` does not take; the last one if it takes all."""
    steps = list(_unnested([step]))
    for part in steps:
        found = None if _has_own_transform(part) else refused_part(part)
        if found is not None or (is_classifier(part) and not _has_own_transform(part)):
            return part if found is None else found
    return steps[-1] if steps else step


def refuse_classifiers_before_the_last(pipeline):
    """The error for the first classifier before a pipeline's last step, or None."""
    return refuse_classifiers(active_steps(pipeline)[:-1])


@as_module.register(Pipeline, refuse=refuse_classifiers_before_the_last, passes_columns=True)
def _(pipeline):
    *transformers, last = active_steps(pipeline) or [nn.Identity()]
    return _in_turn(
        [*(partial(as_transformer, step) for step in transformers), partial(as_part, last)]
    )


@parts_of.register(Pipeline)
def _(pipeline):
    steps = active_steps(pipeline)
    return [*transformers_with_rules(steps[:-1]), *steps[-1:]]


@as_module.register(RFE)
def _(selector):
    # RFE can also stand at the end of a pipeline, and predict there.
    last = [as_module(selector.estimator_)] if is_classifier(selector) else []
    return Chain(as_transformer(selector), *last)


@as_module.register(BaseSearchCV, passes_columns=True)
def _(search):
    check_is_fitted(search, "best_estimator_", msg="%(name)s is fitted with refit=False only.")
    return as_part(search.best_estimator_)


@as_module.register(FrozenEstimator, passes_columns=True)
def _(frozen):
    return as_part(frozen.estimator)


@parts_of.register(RFE)
def _(selector):
    return [selector.estimator] if is_classifier(selector) else []


@parts_of.register(BaseSearchCV)
def _(search):
    return [getattr(search, "best_estimator_", search.estimator)]


@parts_of.register(FrozenEstimator)
def _(frozen):
    return [frozen.estimator]
