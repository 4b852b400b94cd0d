"""Rules for what stands around an estimator: pipelines, searches, frozen estimators."""

import copy

import numpy as np
from sklearn.base import is_classifier
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv.differentiable._core import Chain, as_module, parts_of
from sk_adv.differentiable._maps import Projection, Select


@as_module.register(nn.Module)
def _(module):
    return copy.deepcopy(module)


@as_module.register(Pipeline)
def _(pipeline):
    *transformers, last = active_steps(pipeline) or [nn.Identity()]
    return Chain(*map(as_transformer, transformers), as_module(last))


def as_transformer(step):
    """The module of an estimator's `transform`, which of a classifier is another than its own."""
    if isinstance(step, Pipeline):
        return Chain(*map(as_transformer, active_steps(step)))
    if isinstance(step, RFE):
        return Select(step.get_support(indices=True))
    if isinstance(step, LinearDiscriminantAnalysis) and step.solver != "lsqr":
        axes = step.scalings_[:, : step._max_components]
        return Projection(axes.T, getattr(step, "xbar_", np.zeros(len(axes))))
    if is_classifier(step):
        name = type(step).__name__
        raise TypeError(
            f"as_module has no rule for {name} as a transformer, before the last step. Pass a "
            "differentiable surrogate of the whole (the parameter `surrogate`)."
        )
    return as_module(step)


@parts_of.register(Pipeline)
def active_steps(pipeline):
    """The steps of a pipeline that do something when it predicts."""
    # imbalanced-learn's pipelines then leave samplers out.
    return [
        step
        for _, step in pipeline.steps
        if step is not None and step != "passthrough" and not hasattr(step, "fit_resample")
    ]


@as_module.register(RFE)
def _(selector):
    # It can stand at the end of a pipeline too, and predict there.
    last = [as_module(selector.estimator_)] if is_classifier(selector) else []
    return Chain(as_transformer(selector), *last)


@as_module.register(BaseSearchCV)
def _(search):
    check_is_fitted(search, "best_estimator_", msg="%(name)s is fitted with refit=False only.")
    return as_module(search.best_estimator_)


@as_module.register(FrozenEstimator)
def _(frozen):
    return as_module(frozen.estimator)


@parts_of.register(BaseSearchCV)
@parts_of.register(FrozenEstimator)
def _(wrapper):
    return [wrapper.estimator]
