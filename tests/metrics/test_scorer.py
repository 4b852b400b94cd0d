"""Scorers under attack inside scikit-learn's tools."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_adv import AdversarialLogisticRegression
from sk_adv.metrics import (
    adversarial_accuracy_score,
    certified_accuracy_score,
    make_adversarial_scorer,
)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scorer_works_by_name_beside_a_clean_one(cancer, n_jobs, margins):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression())
    epsilon = 0.3 * X.std().to_numpy()
    scoring = {"clean": "accuracy", "attacked": make_adversarial_scorer(epsilon=epsilon)}
    found = cross_validate(
        model, X, y, scoring=scoring, n_jobs=n_jobs, return_estimator=True, return_indices=True
    )
    for i, fold in enumerate(found["indices"]["test"]):
        held_out = X.iloc[fold], y.iloc[fold]
        fitted = found["estimator"][i]
        assert found["test_clean"][i] == fitted.score(*held_out)
        assert found["test_attacked"][i] == (margins(fitted, *held_out, epsilon) > 0).mean()


def test_scorer_chooses_epsilon_in_a_grid_search(cancer):
    X, y = cancer
    grid = {"adversarial__epsilon": [0.0, 0.3], "adversarial__alpha": [0.0, 0.5]}
    search = GridSearchCV(
        Pipeline(
            [("scale", StandardScaler()), ("adversarial", AdversarialLogisticRegression(C=100))]
        ),
        grid,
        scoring=make_adversarial_scorer(epsilon=0.3 * X.std().to_numpy()),
    ).fit(X, y)
    assert search.best_params_["adversarial__epsilon"] == 0.3
    assert search.score(X, y) > 0.8


def test_scorer_wraps_any_other(cancer, model, margins):
    X, y = cancer
    epsilon = 0.3 * X.std().to_numpy()
    margin = margins(model, X, y, epsilon) * np.where(y == model.classes_[1], 1, -1)
    scorer = make_adversarial_scorer("roc_auc", epsilon=epsilon)
    assert scorer(model, X, y) == pytest.approx(roc_auc_score(y == model.classes_[1], margin))


def test_scorer_forwards_sample_weight(cancer, model, margins):
    X, y = cancer
    weight = (y == "benign").to_numpy().astype(float)
    epsilon = 0.3 * X.std().to_numpy()
    expected = (margins(model, X, y, epsilon) > 0)[y == "benign"].mean()
    scorer = make_adversarial_scorer(epsilon=epsilon)
    assert scorer(model, X, y, sample_weight=weight) == pytest.approx(expected)


def test_scorer_requests_sample_weight_by_metadata_routing(cancer):
    X, y = cancer
    X = StandardScaler().fit_transform(X)
    benign = (y == "benign").to_numpy()
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=False)
        scorer = make_adversarial_scorer(epsilon=0.3).set_score_request(sample_weight=True)
        found = cross_val_score(
            model, X, benign, scoring=scorer, params={"sample_weight": benign.astype(float)}
        )
    # Accuracy with positive weights for one class only is the recall of this class.
    recall = make_adversarial_scorer("recall", epsilon=0.3)
    expected = cross_val_score(LogisticRegression(), X, benign, scoring=recall)
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def test_scorer_wraps_a_plain_function(cancer, model):
    X, y = cancer
    epsilon = 0.3 * X.std().to_numpy()
    scorer = make_adversarial_scorer(lambda model, X, y: model.score(X, y), epsilon=epsilon)
    assert scorer(model, X, y) == adversarial_accuracy_score(model, X, y, epsilon=epsilon)
    bounds = np.array([X.min(), X.max()])
    make_adversarial_scorer(epsilon=epsilon, bounds=bounds)(model, X, y)


def test_scorer_says_what_it_does():
    text = repr(
        make_adversarial_scorer(
            "accuracy", epsilon=0.25, attack="pgd", attack_params={"n_steps": 5}
        )
    )
    assert "accuracy" in text and "epsilon=0.25" in text and "'n_steps': 5" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -1}, "epsilon"),
        ({"norm": 3}, "norm"),
        ({"bounds": (1, 0)}, "bounds"),
        ({"attack": "fgms"}, "attack"),
        ({"scoring": "accurate"}, "accurate"),
        ({"scoring": None}, "scoring.*None"),
        ({"epsilon": [[1], [1, 2]]}, "epsilon"),
        ({"bounds": 1}, "bounds.*pair"),
        ({"attack_params": {"n_step": 3}}, "auto.*n_step"),
        ({"attack": "sign_noise", "target": 1}, "sign_noise.*no direction"),
        ({"attack": lambda X: X}, "attack is called as.*but takes"),
        ({"bounds": ([0, 0], [1, 1, 1])}, r"bounds.*\(2,\) and \(3,\)"),
    ],
)
def test_scorer_refuses_bad_parameters_when_it_is_made(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_adversarial_scorer(**{"epsilon": 0.1, **change})


def test_several_scorers_choose_by_the_name_of_one(cancer):
    X, y = cancer
    epsilon = 0.3 * X.std().to_numpy()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()),
        {"logisticregression__C": [1e-3, 1e3]},
        scoring={
            "clean": "accuracy",
            "fgsm": make_adversarial_scorer(epsilon=epsilon, attack="fgsm"),
            "exact": make_adversarial_scorer(epsilon=epsilon, attack="exact"),
            "recall": make_adversarial_scorer("recall_macro", epsilon=epsilon, attack="exact"),
        },
        refit="exact",
        cv=3,
    ).fit(X, y)
    results = search.cv_results_
    # Large weights are better on clean samples, small weights are better under attack.
    assert search.best_params_ == {"logisticregression__C": 1e-3}
    assert results["mean_test_clean"].argmax() == 1
    np.testing.assert_array_equal(results["mean_test_fgsm"], results["mean_test_exact"])
    assert (results["mean_test_recall"] != results["mean_test_exact"]).all()
    certified = certified_accuracy_score(search, X, y, epsilon=epsilon)
    assert search.score(X, y) == certified


def test_random_attacks_that_are_seeded_score_the_same_twice_in_any_process(cancer):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression())

    def scores(seed, n_jobs):
        scorer = make_adversarial_scorer(
            epsilon=0.4 * X.std().to_numpy(), attack="uniform_noise", random_state=seed
        )
        return cross_val_score(model, X, y, scoring=scorer, n_jobs=n_jobs)

    np.testing.assert_array_equal(scores(0, 1), scores(0, 2))
    assert (scores(0, 1) != scores(1, 1)).any()


def test_scorer_survives_pickling(cancer, model):
    X, y = cancer
    scorer = make_adversarial_scorer(
        "balanced_accuracy", epsilon=0.3 * X.std().to_numpy(), attack="exact", bounds=(0, np.inf)
    )
    again = pickle.loads(pickle.dumps(scorer))
    assert repr(again) == repr(scorer)
    assert again(model, X, y) == scorer(model, X, y)


def test_scorer_attacks_models_without_gradients_through_a_surrogate(cancer):
    X, y = cancer
    options = {
        "epsilon": 0.3 * X.std().to_numpy(),
        "surrogate": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    scoring = {"clean": "accuracy", "attacked": make_adversarial_scorer(**options)}
    forest = RandomForestClassifier(10, random_state=0)
    found = cross_validate(
        forest, X, y, cv=2, scoring=scoring, return_estimator=True, return_indices=True
    )
    for i, fold in enumerate(found["indices"]["test"]):
        expected = adversarial_accuracy_score(
            found["estimator"][i], X.iloc[fold], y.iloc[fold], **options
        )
        assert found["test_attacked"][i] == expected < found["test_clean"][i]
