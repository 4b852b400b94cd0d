"""Unusual input works as in scikit-learn, or is refused in one sentence."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
    as_module,
)
from sk_adv.attacks import fgsm, perturb, pgd
from sk_adv.linear_model import adversarial_logistic_path, epsilon_max
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_report,
    certified_accuracy_score,
    robustness_radius,
)

X, Y = load_iris(return_X_y=True)
LINEAR = AdversarialLogisticRegression(epsilon=0.1, C=1.0)
MAXOUT = AdversarialMaxoutClassifier((8,), max_iter=3, random_state=0)
FITS = [
    LINEAR.fit,
    MAXOUT.fit,
    FGSMTransformer(LogisticRegression()).fit,
    FGSMSampler(LogisticRegression()).fit_resample,
    lambda X, y: adversarial_logistic_path(X, y, n_epsilons=2),
    epsilon_max,
]


@pytest.fixture(scope="module")
def model():
    return AdversarialLogisticRegression(epsilon=0.1, C=1.0).fit(X, Y)


ANSWERS = [
    lambda model, X: perturb(model, X, Y, epsilon=0.1),
    lambda model, X: perturb(model, X, Y, epsilon=0.1, attack="exact"),
    lambda model, X: fgsm(as_module(model), X, Y, 0.1),
    lambda model, X: pgd(as_module(model), X, Y, 0.1, random_state=0),
    lambda model, X: certified_accuracy_score(model, X, Y, epsilon=0.1),
    lambda model, X: robustness_radius(model, X, Y),
    lambda model, X: adversarial_accuracy_score(model, X, Y, epsilon=0.1),
    lambda model, X: model.predict_proba(X),
    lambda model, X: MAXOUT.fit(X, Y).predict_proba(X),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_inference_mode_changes_nothing(model, answer):
    expected = answer(model, X)
    with torch.inference_mode():
        found, of_tensor = answer(model, X), answer(model, torch.tensor(X))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(of_tensor, expected)


@pytest.mark.parametrize("answer", ANSWERS)
def test_wide_floats_count_as_float64(model, answer):
    np.testing.assert_allclose(answer(model, X.astype(np.longdouble)), answer(model, X), rtol=1e-12)


def test_bfloat16_counts_as_float32(model):
    narrow = torch.tensor(X, dtype=torch.bfloat16)
    for answer in (
        lambda X: model.predict_proba(X),
        lambda X: LINEAR.fit(X, Y).coef_,
        lambda X: MAXOUT.fit(X, Y).predict_proba(X),
    ):
        np.testing.assert_array_equal(answer(narrow), answer(narrow.float()))
    # Certificates take the spacing of bfloat16 into account.
    score = adversarial_accuracy_score(model, narrow, Y, epsilon=0.1)
    assert certified_accuracy_score(model, narrow, Y, epsilon=0.1) <= score


@pytest.mark.parametrize("fit", FITS)
def test_a_dict_is_refused_with_what_to_pass(fit):
    with pytest.raises(TypeError, match=r"got a dict.*pandas.DataFrame\(X\)"):
        fit({"a": X[:, 0], "b": X[:, 1]}, Y)


@pytest.mark.parametrize("fit", FITS)
def test_labels_that_are_missing_times_are_counted(fit):
    times = np.where(Y == 0, np.datetime64("NaT"), np.datetime64("2020-01-01"))
    with pytest.raises(ValueError, match="NaT.* in 50 of 150 samples"):
        fit(X, times)


@pytest.mark.parametrize("score", [certified_accuracy_score, adversarial_accuracy_score])
def test_scores_refuse_labels_that_are_missing_times(model, score):
    times = np.full(150, np.datetime64("NaT"))
    with pytest.raises(ValueError, match="NaT.* in 150 of 150 samples"):
        score(model, X, times, epsilon=0.1)
    with pytest.raises(ValueError, match="NaT"):
        adversarial_report(model, X, times, [0.1])


class Module(nn.Module):
    def __init__(self, first, last):
        super().__init__()
        self.layer, self.first, self.last = nn.Linear(4, 3).double(), first, last

    def forward(self, X):
        return self.last(self.layer(self.first(X)))


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_a_first_operation_in_place_attacks_as_one_that_is_not(attack):
    given, options = torch.tensor(X), {} if attack is fgsm else {"random_state": 0}
    module = Module(lambda X: X.clamp_(5, 6), lambda logits: logits)
    found = attack(module, given, Y, 0.1, **options)
    module.first = lambda X: X.clamp(5, 6)
    np.testing.assert_array_equal(found, attack(module, torch.tensor(X), Y, 0.1, **options))
    np.testing.assert_array_equal(given, X)


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize(
    ("last", "kind"), [(lambda z: [z], "list"), (lambda z: {"logits": z}, "dict")]
)
def test_outputs_that_are_no_tensor_are_named(attack, last, kind):
    with pytest.raises(TypeError, match=f"tensor of logits.*got a {kind}"):
        attack(Module(lambda X: X, last), X, Y, 0.1)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("estimator", [LINEAR, MAXOUT])
def test_no_rows_are_refused_as_scikit_learn_does(estimator, method):
    with pytest.raises(ValueError, match="0 sample"):
        getattr(estimator.fit(X, Y), method)(X[:0])


@pytest.mark.parametrize("estimator", [LINEAR, MAXOUT])
def test_text_is_refused_as_scikit_learn_does(estimator):
    with pytest.raises(ValueError, match="could not convert string to float: 'a b'"):
        estimator.fit(["a b", "c d"], [0, 1])
