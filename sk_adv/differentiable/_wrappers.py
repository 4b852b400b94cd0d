"""Rules for what stands around an estimator: pipelines, searches, frozen estimators."""

import copy

from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_adv.differentiable._core import Chain, as_module, parts_of


@as_module.register(nn.Module)
def _(module):
    return copy.deepcopy(module)


@as_module.register(Pipeline)
def _(pipeline):
    return Chain(*map(as_module, active_steps(pipeline)))


@parts_of.register(Pipeline)
def active_steps(pipeline):
    """The steps of a pipeline that do something."""
    return [step for _, step in pipeline.steps if step is not None and step != "passthrough"]


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
