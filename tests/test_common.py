"""scikit-learn's checks of every estimator."""

import copy
import functools
import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch import NeuralNet

import sk_adv
import sk_adv.linear_model
import sk_adv.neural_network
import sk_adv.pipeline
import sk_adv.preprocessing
from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
)
from sk_adv.linear_model import AdversarialLogisticRegressionCV

ESTIMATORS = [
    AdversarialLogisticRegression(),
    AdversarialLogisticRegression(norm=2, alpha=0.5, C=1.0),
    AdversarialLogisticRegressionCV(epsilons=4, cv=2),
    AdversarialMaxoutClassifier((64, 64), max_iter=30),
    FGSMTransformer(LogisticRegression()),
    FGSMTransformer(AdversarialLogisticRegression(), norm=2, labels="true"),
    FGSMTransformer(DecisionTreeClassifier(random_state=0), surrogate=LogisticRegression()),
    FGSMSampler(LogisticRegression()),
]


@parametrize_with_checks(ESTIMATORS)
def test_estimator_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    rooms = (
        sk_adv,
        sk_adv.linear_model,
        sk_adv.neural_network,
        sk_adv.pipeline,
        sk_adv.preprocessing,
    )
    public = {getattr(room, name) for room in rooms for name in room.__all__}
    estimators = {item for item in public if inspect.isclass(item)}
    # A skorch net needs a module, and a pipeline changes its steps: test_pipeline.py checks it.
    estimators = {
        item
        for item in estimators
        if issubclass(item, BaseEstimator) and not issubclass(item, NeuralNet | Pipeline)
    }
    assert estimators == {type(estimator) for estimator in ESTIMATORS}


BAD_PARAMETERS = [
    ({"epsilon": -0.1}, "epsilon"),
    ({"epsilon": np.nan}, "epsilon"),
    ({"epsilon": np.inf}, "epsilon"),
    ({"epsilon": [0.1, 0.2]}, "epsilon.*shape"),
    ({"epsilon": [0.1, 0.2, -0.3]}, "epsilon.*-0.3"),
    ({"epsilon": "large"}, "epsilon"),
    ({"norm": 1}, "norm"),
    ({"norm": "max"}, "norm"),
    ({"device": "cuda:99"}, "device.*cuda:99.*cpu"),
    ({"device": "toaster"}, "device.*toaster"),
    ({"alpha": -0.5}, "alpha"),
    ({"alpha": 1.5}, "alpha"),
    ({"bounds": (1, 0)}, "bounds.*low <= high"),
    ({"bounds": (0, [1, 1])}, "bounds.*shape"),
    ({"bounds": (0, np.nan)}, "bounds.*NaN"),
    ({"bounds": (0,)}, "bounds.*pair"),
]

BAD_DATA = [
    (lambda X, y: (np.where(X > 1, np.nan, X), y), "NaN"),
    (lambda X, y: (np.where(X > 1, np.inf, X), y), "infinity"),
    (lambda X, y: (X[:0], y[:0]), "0 sample"),
    (lambda X, y: (X[:, :0], y), "0 feature"),
    (lambda X, y: (X, np.zeros_like(y)), "class"),
    (lambda X, y: (X[:, 0], y), "2D array"),
    (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
    (lambda X, y: (X, X[:, 0]), "continuous"),
]


@pytest.mark.parametrize(
    ("estimator", "parameters", "message"),
    [
        (estimator, parameters, message)
        for estimator in ESTIMATORS
        for parameters, message in BAD_PARAMETERS
        if parameters.keys() <= estimator.get_params(deep=False).keys()
    ],
)
def test_bad_parameter_is_named_and_leaves_the_fit_as_it_was(
    estimator, parameters, message, fitted_on
):
    estimator, X, y = fitted_on(estimator)
    before = dict(vars(estimator))
    estimator.set_params(**parameters)
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        estimator.fit(X, y)
    estimator.set_params(**{name: before[name] for name in parameters})
    assert vars(estimator) == before


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("spoil", "message"), BAD_DATA)
def test_bad_data_is_explained_and_leaves_the_fit_as_it_was(estimator, spoil, message, fitted_on):
    estimator, X, y = fitted_on(estimator)
    before = dict(vars(estimator))
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(*spoil(X, y))
    assert vars(estimator) == before


# A sampler has no method that accepts another X than that of its fit.
@pytest.mark.parametrize(
    "estimator", [one for one in ESTIMATORS if not isinstance(one, FGSMSampler)]
)
def test_wrong_feature_count_is_named(estimator, fitted_on):
    estimator, X, _ = fitted_on(estimator)
    method = estimator.transform if hasattr(estimator, "transform") else estimator.predict
    with pytest.raises(ValueError, match="2 features.*expecting 3"):
        method(X[:, :2])


@pytest.fixture(scope="module")
def fitted_on():
    """A fitted copy, with the three features and two classes that it was fitted on."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = (X[:, 0] + np.sin(5 * X[:, 1]) > 0).astype(int)

    @functools.cache
    def fit(estimator):
        return clone(estimator).fit(X, y)

    return lambda estimator: (copy.deepcopy(fit(estimator)), X, y)
