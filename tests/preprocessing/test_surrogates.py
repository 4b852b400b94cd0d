"""Attacks on models without gradients, by a surrogate fitted to their predictions."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv import FGSMSampler, FGSMTransformer
from sk_adv.attacks import perturb


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.mark.parametrize("labels", ["predicted", "true"])
def test_copies_are_the_surrogates_worst_case_away_from_the_models_labels(cancer, labels):
    X, y = cancer
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, y)
    imitation = LogisticRegression(C=0.01).fit(X, tree.predict(X))
    away_from = tree.predict(X) if labels == "predicted" else y
    # True labels and both models' predictions differ, so a mix-up would change the copies.
    assert (tree.predict(X) != y).any()
    assert (imitation.predict(X) != tree.predict(X)).any()
    attack = FGSMTransformer(
        DecisionTreeClassifier(max_depth=2, random_state=0),
        surrogate=LogisticRegression(C=0.01),
        epsilon=0.5,
        labels=labels,
    )
    expected = X - 0.5 * np.sign(imitation.coef_) * np.where(away_from == 1, 1, -1)[:, None]
    np.testing.assert_allclose(attack.fit_transform(X, y), expected)
    np.testing.assert_allclose(attack.surrogate_.coef_, imitation.coef_)
    np.testing.assert_array_equal(attack.estimator_.predict(X), tree.predict(X))


def test_fitted_surrogate_in_a_frozen_estimator_is_used_as_it_is(cancer):
    X, y = cancer
    linear = LogisticRegression(C=1e-4).fit(X, y)
    attack = FGSMTransformer(DecisionTreeClassifier(), surrogate=FrozenEstimator(linear)).fit(X, y)
    assert attack.surrogate_.estimator is linear


def test_fitting_again_without_a_surrogate_forgets_it(cancer):
    X, y = cancer
    model = FrozenEstimator(LogisticRegression(C=0.01).fit(X, y))
    attack = FGSMTransformer(model, surrogate=LogisticRegression(C=1e-6)).fit(X, y)
    attack.set_params(surrogate=None).fit(X, y)
    expected = FGSMTransformer(model).fit(X, y).transform(X)
    np.testing.assert_array_equal(attack.transform(X), expected)


@pytest.mark.parametrize("step", [FGSMTransformer, FGSMSampler])
def test_model_that_predicts_one_class_only_is_explained(cancer, step):
    constant = DummyClassifier(strategy="most_frequent")
    with pytest.raises(ValueError, match="DummyClassifier predicts class .*1.* for all"):
        step(constant, surrogate=LogisticRegression()).fit(*cancer)


def test_surrogate_without_a_rule_is_refused(cancer):
    with pytest.raises(TypeError, match="no rule for KNeighborsClassifier"):
        FGSMTransformer(LogisticRegression(), surrogate=KNeighborsClassifier()).fit(*cancer)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(50, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        KNeighborsClassifier(),
    ],
)
def test_copies_deceive_models_without_gradients_and_noise_does_not(model):
    X, y = load_digits(return_X_y=True)
    chosen = np.isin(y, [3, 8, 9])
    X, X_test, y, y_test = train_test_split(X[chosen] / 16, y[chosen], random_state=0)
    surrogate = LogisticRegression(C=1.0)
    attack = FGSMTransformer(model, surrogate=surrogate, epsilon=0.2, labels="true").fit(X, y)
    clean = attack.estimator_.score(X_test, y_test)
    deceived = attack.estimator_.score(attack.transform(X_test, y_test), y_test)
    attack.set_params(attack="sign_noise", random_state=0)
    noisy = attack.estimator_.score(attack.transform(X_test, y_test), y_test)
    assert clean > 0.9
    assert clean - deceived > 3 * (clean - noisy) + 0.2


def test_surrogate_works_as_a_step_of_a_pipeline(cancer):
    X, y = cancer
    forest = RandomForestClassifier(20, random_state=0)
    attack = FGSMTransformer(
        forest, surrogate=LogisticRegression(), epsilon=0.5, stage="test", labels="predicted"
    )
    pipeline = make_pipeline(attack, forest).fit(X, y)
    copies = attack.fit(X, y).transform(X)
    assert pipeline.score(X, y) == forest.fit(X, y).score(copies, y) < 0.9


def test_noise_needs_neither_gradient_nor_surrogate(cancer):
    X, y = cancer
    forest = RandomForestClassifier(random_state=0).fit(X, y)
    copies = perturb(forest, X, y, epsilon=0.5, attack="sign_noise", random_state=0)
    np.testing.assert_allclose(abs(copies - X), 0.5)
