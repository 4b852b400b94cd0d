"""has_rule tells beforehand which estimators as_module takes."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import RFE, SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, DotProduct, ExpSineSquared, Matern
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from torch import nn

from sk_adv import as_module
from sk_adv.attacks._estimators import check_attackable
from sk_adv.differentiable import has_rule, parts_of

LINE, TREE, SCALER = LogisticRegression(), DecisionTreeClassifier(max_depth=2), StandardScaler()
ENCODER = OneHotEncoder(handle_unknown="ignore")
NO_OPTIMIZER = {"optimizer": None}
QUIET = {"max_epochs": 1, "train_split": None, "verbose": 0}
TAKEN = [
    LINE,
    make_pipeline(SCALER, LINE),
    make_pipeline("passthrough", LINE),
    make_pipeline(RFE(TREE), LINE),
    make_pipeline(make_pipeline(SCALER, RFE(TREE)), LINE),
    make_pipeline(LinearDiscriminantAnalysis(), LINE),
    make_pipeline(make_column_transformer((SCALER, [0, 1]), (RFE(TREE), [2, 3])), LINE),
    make_column_transformer((SCALER, [0]), remainder="passthrough"),
    RFE(LINE),
    GridSearchCV(LINE, {"C": [1, 2]}, cv=2),
    VotingClassifier([("line", LINE), ("gone", "drop")]),
    StackingClassifier([("line", LINE)], cv=2),
    BaggingClassifier(LINE, n_estimators=2),
    OneVsRestClassifier(LINE),
    SVC(),
    GaussianProcessClassifier(Matern(nu=1.5) + RBF() * DotProduct() ** 2, **NO_OPTIMIZER),
    FunctionTransformer(np.exp),
    FunctionTransformer(lambda X: X[:, 2:] ** 2),
    SimpleImputer(),
    TfidfTransformer(),
    NeuralNetClassifier(nn.Linear(4, 2).double(), criterion=nn.CrossEntropyLoss, **QUIET),
]
REFUSED = [
    TREE,
    TfidfTransformer(sublinear_tf=True),
    make_pipeline(SCALER, TREE),
    make_pipeline(SelectKBest(k=2), ENCODER, LINE),
    make_pipeline(VotingClassifier([("line", LINE)], voting="soft"), LINE),
    make_pipeline(make_pipeline(SCALER, LINE), LINE),
    make_column_transformer((ENCODER, [0])),
    make_column_transformer((SCALER, [0]), remainder=ENCODER),
    make_pipeline(make_column_transformer((make_pipeline(SCALER, ENCODER), [0, 1])), LINE),
    RFE(TREE),
    make_pipeline(SCALER, RFE(TREE)),
    GridSearchCV(TREE, {"max_depth": [1, 2]}, cv=2),
    VotingClassifier([("line", LINE), ("tree", TREE)]),
    StackingClassifier([("line", LINE)], TREE, cv=2),
    BaggingClassifier(n_estimators=2),
    OneVsRestClassifier(make_pipeline(SCALER, TREE)),
    SVC(kernel=rbf_kernel),
    BaggingClassifier(SVC(kernel=rbf_kernel), n_estimators=2),
    GaussianProcessClassifier(ExpSineSquared() + RBF(), **NO_OPTIMIZER),
    GaussianProcessClassifier(2.0 * Matern(nu=1.0), **NO_OPTIMIZER),
    NeuralNetClassifier(nn.Linear(4, 2).double(), criterion=nn.MultiMarginLoss, **QUIET),
]


@pytest.fixture(scope="module")
def samples():
    X = np.random.default_rng(0).normal(size=(40, 4))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def fitted(estimator, X, y):
    # Some transformers call an estimator that predicts "final"; it needs to have methods only.
    return clone(estimator).fit(X, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", TAKEN, ids=range(len(TAKEN)))
def test_what_has_a_rule_before_the_fit_and_after_it_is_taken(estimator, samples):
    assert has_rule(estimator)
    check_attackable(estimator)
    model = fitted(estimator, *samples)
    assert has_rule(model)
    assert isinstance(as_module(model), nn.Module)
    assert has_rule(FrozenEstimator(model))


def fit_if_possible(estimator, X, y):
    # A pipeline with a classifier before its last step can't be fitted, unless that can transform.
    try:
        return fitted(estimator, X, y)
    except TypeError:
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_rule_is_refused(estimator, samples):
    assert not has_rule(estimator)
    model = fit_if_possible(estimator, *samples)
    if model is not None:
        assert not has_rule(model)
        assert not has_rule(FrozenEstimator(model))
        with pytest.raises(TypeError, match="as_module"):
            as_module(model)


def test_a_search_is_judged_by_the_best_estimator(samples):
    kernels = {"kernel": [rbf_kernel]}
    search = GridSearchCV(SVC(), kernels, cv=2).fit(*samples)
    assert has_rule(GridSearchCV(SVC(), kernels))
    assert not has_rule(search)


@pytest.mark.parametrize("function", [np.sort, lambda X: (X > 0) * 1.0], ids=["sort", "step"])
def test_functions_are_judged_once_their_number_of_features_is_known(function, samples):
    transformer = FunctionTransformer(function)
    assert has_rule(transformer)
    assert not has_rule(transformer.fit(samples[0]))


def test_imputers_of_words_have_no_rule():
    imputer = SimpleImputer(strategy="constant", fill_value="none", missing_values=None)
    assert not has_rule(imputer)
    assert not has_rule(imputer.fit(np.array([["a"], [None]], dtype=object)))


def test_one_process_for_each_pair_is_refused_once_there_are_pairs(samples):
    X = samples[0]
    model = GaussianProcessClassifier(multi_class="one_vs_one", **NO_OPTIMIZER)
    assert has_rule(model)
    assert has_rule(clone(model).fit(X, np.arange(40) % 2))
    assert not has_rule(clone(model).fit(X, np.arange(40) % 3))


def test_a_criterion_that_a_function_makes_is_judged_once_it_is_made():
    def make(**params):
        return nn.MultiMarginLoss(**params)

    net = NeuralNetClassifier(nn.Linear(4, 2), criterion=make, **QUIET)
    assert has_rule(net)
    assert not has_rule(net.initialize())
    net = NeuralNetClassifier(nn.Linear(4, 2), criterion=nn.CrossEntropyLoss(), **QUIET)
    assert has_rule(net) and has_rule(net.initialize())


def test_predictions_that_are_stacked_have_no_gradient():
    assert not has_rule(StackingClassifier([("line", LINE)], stack_method="predict"))


def test_a_class_has_no_rule():
    assert not has_rule(LogisticRegression)


def test_surrogates_may_have_columns_without_a_rule():
    # An attack leaves these columns as they are, but there is no module of all columns.
    columns = make_column_transformer((ENCODER, [0]), (SCALER, [1]))
    check_attackable(make_pipeline(columns, LINE))
    assert not has_rule(make_pipeline(columns, LINE))
    with pytest.raises(TypeError, match="DecisionTree"):
        check_attackable(make_pipeline(columns, TREE))


def test_parts_are_named_fitted_or_not(samples):
    assert parts_of(make_pipeline(SCALER, "passthrough", LINE)) == [SCALER, LINE]
    assert parts_of(LINE) == []
    search = GridSearchCV(LINE, {}, cv=2)
    assert parts_of(search) == [LINE]
    assert parts_of(search.fit(*samples)) == [search.best_estimator_]


def test_a_rule_can_refuse_some_estimators_of_its_type():
    class Positive(BaseEstimator):
        def __init__(self, slope):
            self.slope = slope

        def fit(self, X, y=None):
            self.fitted_ = True
            return self

    class Any(Positive):
        pass

    def refuse(estimator):
        return TypeError(f"slope={estimator.slope} is too steep") if estimator.slope > 1 else None

    @as_module.register(Positive, refuse=refuse)
    def _(estimator):
        return nn.Linear(2, 2)

    assert has_rule(Positive(1)) and not has_rule(Positive(2))
    assert not has_rule(make_pipeline(SCALER, Any(2)))
    with pytest.raises(TypeError, match="slope=2"):
        as_module(Any(2).fit(None))
    with pytest.raises(NotFittedError):
        as_module(Any(2))

    # A rule for the subclass replaces that of its base, with its refusals.
    @as_module.register(Any)
    def _(estimator):
        return nn.Linear(2, 2)

    assert has_rule(Any(2))
    assert as_module(Any(2).fit(None))(torch.zeros(1, 2)).shape == (1, 2)
