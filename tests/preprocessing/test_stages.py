"""Which data the steps after a FGSMTransformer receive, by the stages of a pipeline."""

import numpy as np
import pytest
import sklearn
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.fixes import parse_version
from sklearn.utils.metadata_routing import get_routing_for_object

from sk_adv import FGSMTransformer
from sk_adv.metrics import adversarial_accuracy_score


def worst_case(model, X, y, epsilon):
    """The worst perturbation of a linear model of two classes."""
    return X - epsilon * np.sign(model.coef_) * np.where(y == 1, 1, -1)[:, None]


@pytest.mark.parametrize(
    ("stage", "in_training", "at_prediction"),
    [("train", True, False), ("test", False, True), ("both", True, True)],
)
def test_stage_says_when_the_next_step_meets_copies(
    cancer, model, recorder, stage, in_training, at_prediction
):
    X, y = cancer
    copies = worst_case(model, X, model.predict(X), 0.5)
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=0.5, stage=stage)
    pipeline = make_pipeline(attack, recorder).fit(X, y)
    pipeline.predict(X)
    np.testing.assert_allclose(pipeline[-1].fitted_on_, copies if in_training else X)
    np.testing.assert_allclose(pipeline[-1].asked_, copies if at_prediction else X)


def test_training_copies_move_away_from_the_true_labels_and_later_ones_from_predictions(
    cancer, model, recorder
):
    X, y = cancer
    assert (model.predict(X) != y).any()
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=0.5, labels="true")
    pipeline = make_pipeline(attack, recorder).fit(X, y)
    pipeline.predict(X)
    np.testing.assert_allclose(pipeline[-1].fitted_on_, worst_case(model, X, y, 0.5))
    expected = worst_case(model, X, model.predict(X), 0.5)
    np.testing.assert_allclose(pipeline[-1].asked_, expected)


def test_samples_that_are_given_back_are_the_same_object_or_in_the_output_asked_for(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), stage="test")
    assert attack.fit_transform(X, y) is X
    attack.set_params(stage="train").set_output(transform="pandas")
    back = attack.fit(X, y).transform(X.to_numpy())
    assert list(back.columns) == list(X.columns)


def test_samples_that_are_given_back_are_checked_too(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), stage="train").fit(X, y)
    with pytest.raises(ValueError, match="29 features"):
        attack.transform(X.to_numpy()[:, 1:])


def test_the_transformer_is_not_asked_for_gradients_where_it_gives_samples_back(cancer, model):
    def no_attack(*args, **kwargs):
        raise AssertionError("Samples were attacked.")

    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), attack=no_attack, stage="test")
    assert attack.fit_transform(X, y) is X
    assert attack.set_params(stage="train").transform(X) is X


def test_grid_search_over_the_radius_is_the_loop_over_it(cancer):
    X, y = cancer
    tree = DecisionTreeClassifier(random_state=0)
    attack = FGSMTransformer(LogisticRegression(C=0.01), stage="test")
    folds = StratifiedKFold(3)
    grid = {"fgsmtransformer__epsilon": [0.0, 0.3, 0.6]}
    search = GridSearchCV(make_pipeline(attack, tree), grid, cv=folds, refit=False).fit(X, y)
    expected = [
        np.mean(
            [
                tree.fit(X.iloc[train], y.iloc[train]).score(
                    worst_case(model, X.iloc[test], model.predict(X.iloc[test]), epsilon),
                    y.iloc[test],
                )
                for train, test in folds.split(X, y)
                for model in [LogisticRegression(C=0.01).fit(X.iloc[train], y.iloc[train])]
            ]
        )
        for epsilon in (0.0, 0.3, 0.6)
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)


def test_hardened_pipeline_can_be_attacked_and_one_that_attacks_can_not(cancer, model):
    X, y = cancer
    attack = FGSMTransformer(FrozenEstimator(model), epsilon=0.1, stage="train")
    pipeline = make_pipeline(StandardScaler(), attack, LogisticRegression()).fit(X, y)
    copies = worst_case(pipeline[-1], X, y, 0.3)
    assert adversarial_accuracy_score(pipeline, X, y, epsilon=0.3) == pipeline.score(copies, y)
    pipeline.set_params(fgsmtransformer__stage="both")
    with pytest.raises(TypeError, match=r'stage="both".*pipeline\[-1\]'):
        adversarial_accuracy_score(pipeline, X, y, epsilon=0.3)


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def routed_pipeline(routing):
    attack = FGSMTransformer(LogisticRegression(C=0.01), epsilon=0.3, labels="true", stage="test")
    attack.set_transform_request(y="y_true")
    return make_pipeline(attack, LogisticRegression(C=0.01))


def test_routed_labels_make_the_score_the_accuracy_under_attack(cancer, routed_pipeline):
    X, y = cancer
    routed_pipeline.fit(X, y)
    under_attack = adversarial_accuracy_score(routed_pipeline[-1], X, y, epsilon=0.3)
    assert routed_pipeline.score(X, y, y_true=y) == under_attack
    # With predicted labels, a misclassified sample would move back across the boundary.
    assert routed_pipeline.score(X, y) > under_attack
    np.testing.assert_array_equal(
        routed_pipeline.predict(X, y_true=y),
        routed_pipeline[-1].predict(worst_case(routed_pipeline[-1], X, y, 0.3)),
    )


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.8"),
    reason="The default scorer passes on what a pipeline asks for from scikit-learn 1.8 on.",
)
@pytest.mark.parametrize("stage", ["train", "test", "both"])
def test_labels_are_routed_through_cross_validation_and_searches(cancer, routed_pipeline, stage):
    X, y = cancer
    routed_pipeline.set_params(fgsmtransformer__stage=stage)
    folds = StratifiedKFold(3)
    expected = []
    for train, test in folds.split(X, y):
        model = LogisticRegression(C=0.01).fit(X.iloc[train], y.iloc[train])
        parts = {
            name: (X.iloc[rows], y.iloc[rows]) for name, rows in (("train", train), ("test", test))
        }
        for name, (samples, labels) in parts.items():
            if stage in (name, "both"):
                parts[name] = worst_case(model, samples, labels, 0.3), labels
        after = LogisticRegression(C=0.01).fit(*parts["train"])
        expected.append(after.score(*parts["test"]))
    scores = cross_validate(routed_pipeline, X, y, cv=folds, params={"y_true": y})["test_score"]
    np.testing.assert_allclose(scores, expected)
    search = GridSearchCV(routed_pipeline, {"fgsmtransformer__epsilon": [0.3]}, cv=folds)
    search.fit(X, y, y_true=y)
    np.testing.assert_allclose(search.best_score_, np.mean(expected))
    assert search.score(X, y, y_true=y) == search.best_estimator_.score(X, y, y_true=y)


def test_request_survives_cloning_and_is_off_unless_asked_for(routing):
    attack = FGSMTransformer(LogisticRegression())
    assert attack.get_metadata_routing().transform.requests == {"y": None}
    attack.set_transform_request(y="y_true")
    for request in (attack.get_metadata_routing(), get_routing_for_object(attack)):
        assert request.transform.requests == {"y": "y_true"}
        assert request.fit_transform.requests == request.fit.requests == {"sample_weight": None}
