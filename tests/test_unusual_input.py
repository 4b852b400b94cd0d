"""Unusual input works as in scikit-learn, or is refused in one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
    as_module,
)
from sk_adv.attacks import exact, fgsm, perturb, pgd
from sk_adv.inspection import RobustnessCurveDisplay
from sk_adv.linear_model import adversarial_logistic_path, epsilon_max
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
    certified_accuracy_score,
    make_adversarial_scorer,
    robustness_radius,
    transfer_error_matrix,
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


CLASSIFIERS = [LogisticRegression(max_iter=1000), SVC(), LINEAR]
NARROW = torch.tensor(X, dtype=torch.bfloat16)


@pytest.mark.parametrize("model", CLASSIFIERS)
@pytest.mark.parametrize("kind", [lambda X: X, lambda X: X.clone().requires_grad_()])
def test_steps_hand_tensors_to_any_classifier_as_float32_and_off_their_graph(model, kind):
    single = NARROW.float().numpy()
    steps = FGSMTransformer(model, epsilon=0.25).fit(kind(NARROW), Y)
    expected = FGSMTransformer(model, epsilon=0.25).fit(single, Y)
    np.testing.assert_array_equal(
        steps.estimator_.predict(single), expected.estimator_.predict(single)
    )
    copies = steps.transform(kind(NARROW))
    assert copies.dtype == torch.bfloat16 and not copies.requires_grad
    # Half of bfloat16's spacing, at the largest number.
    reach = 2**-8 * 8
    np.testing.assert_allclose(copies.float(), expected.transform(single), atol=reach)
    both, _ = FGSMSampler(model, epsilon=0.25).fit_resample(kind(NARROW), Y)
    assert both.dtype == torch.bfloat16 and len(both) == 300


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_scores_of_bfloat16_are_those_of_predictions_for_the_same_numbers(model):
    model = clone(model).fit(X, Y)
    copies = perturb(model, NARROW, Y, epsilon=0.5)
    expected = (model.predict(copies.float().numpy()) == Y).mean()
    score = adversarial_accuracy_score(model, NARROW, Y, epsilon=0.5, attack="fgsm")
    assert score == expected


DOORS = [
    lambda model, X: perturb(model, X, Y, epsilon=0.1),
    lambda model, X: adversarial_accuracy_score(model, X, Y, epsilon=0.1),
    lambda model, X: adversarial_confidence(model, X, Y, epsilon=0.1),
    lambda model, X: adversarial_report(model, X, Y, [0.1]),
    lambda model, X: certified_accuracy_score(model, X, Y, epsilon=0.1),
    lambda model, X: robustness_radius(model, X, Y),
    lambda model, X: robustness_radius(model, X),
    lambda model, X: transfer_error_matrix([model, model], X, Y, epsilon=0.1),
    lambda model, X: make_adversarial_scorer(epsilon=0.1)(model, X, Y),
]


@pytest.mark.parametrize("door", DOORS)
def test_attacks_and_scores_refuse_a_dict_with_what_to_pass(model, door):
    with pytest.raises(TypeError, match=r"got a dict.*pandas.DataFrame\(X\)"):
        door(model, {"a": X[:, 0], "b": X[:, 1]})


@pytest.mark.parametrize("door", DOORS)
def test_attacks_and_scores_refuse_times(model, door):
    with pytest.raises(TypeError, match="numbers; got times of dtype datetime64"):
        door(model, X.astype("datetime64[s]"))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_an_open_end_of_the_bounds_is_no_limit(norm):
    frame = pd.DataFrame(X - X.mean(0), columns=list("abcd"))
    model = LogisticRegression().fit(frame, Y)
    options = {"epsilon": 0.5, "norm": norm}
    for given, meant in (
        (({"a": 0}, None), (0, np.inf)),
        ((None, {"a": 0}), (-np.inf, 0)),
        ((None, None), (-np.inf, np.inf)),
    ):
        found = perturb(model, frame, Y, bounds=given, **options)
        low, high = (
            np.array([end, sign * np.inf, sign * np.inf, sign * np.inf])
            for end, sign in zip(meant, (-1, 1), strict=True)
        )
        expected = perturb(model, frame, Y, bounds=(low, high), **options)
        pd.testing.assert_frame_equal(found, expected)
        assert found["a"].between(*meant).all()


@pytest.mark.parametrize("given", [{0, 1}, "01", b"01", (0, {"b", "c"}), (0, 10**400), ("0", 1)])
def test_bounds_that_are_no_pair_of_numbers_are_refused(model, given):
    with pytest.raises(ValueError, match=r"a pair \(low, high\), each end a number"):
        perturb(model, X, Y, epsilon=0.1, bounds=given)


@pytest.mark.parametrize("epsilon", [10**400, "0.1", b"1", [0.1, None, 1, 1], [1j] * 4])
def test_radii_that_are_no_numbers_are_refused(model, epsilon):
    with pytest.raises(TypeError, match="must be a number or an array of numbers"):
        perturb(model, X, Y, epsilon=epsilon)


def test_a_targeted_exact_attack_leaves_the_samples_of_a_module_in_place():
    given = X.copy()
    with pytest.raises(TypeError, match="not linear"):
        exact(Module(lambda X: X.add_(1), lambda z: z[:, :2]), given, Y % 2, 0.1, targeted=True)
    np.testing.assert_array_equal(given, X)


def test_a_certificate_at_radius_0_draws_from_no_global_state(model):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    clipped = (model.predict(X.clip(0, 5)) == Y).mean()
    assert certified_accuracy_score(model, X, Y, epsilon=0, bounds=(0, 5)) == clipped
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("fit", FITS)
def test_labels_that_are_none_are_refused(fit):
    with pytest.raises((ValueError, TypeError), match="None|unknown"):
        fit(X, [None] * 150)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (lambda z: z.argmax(1), "floating-point dtype; got torch.int64"),
        (lambda z: z.to(torch.complex64), "floating-point dtype; got torch.complex64"),
        (lambda z: z[:1], "one row of logits per sample; got 1 for 150"),
    ],
)
def test_outputs_that_are_no_logits_of_the_samples_are_named(last, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fgsm(Module(lambda X: X, last), X, Y, 0.1)


@pytest.mark.parametrize("loss", ["mean", None, lambda z, y: 1.0])
def test_a_loss_that_gives_no_tensor_is_named(loss):
    with pytest.raises(TypeError, match="loss must"):
        fgsm(Module(lambda X: X, lambda z: z), X, Y, 0.1, loss=loss)


@pytest.mark.parametrize("attack", [exact, fgsm])
def test_a_class_index_without_a_logit_is_named(attack):
    module = nn.Linear(4, 2).double()
    with pytest.raises(ValueError, match="class(es| ind)"):
        attack(module, X, Y, 0.1)


@pytest.mark.parametrize("classes", [[], [None, 1], [0.5, 1.5], [[0, 1]]])
def test_classes_of_further_training_that_are_no_labels_are_refused(classes):
    with pytest.raises(ValueError, match="None|[Uu]nknown label type|1d array|got none"):
        clone(MAXOUT).partial_fit(X, Y, classes=classes)


def test_an_estimator_that_is_no_classifier_is_named():
    scaler = StandardScaler().fit(X)
    for door in DOORS:
        with pytest.raises(TypeError, match="[Cc]lassifier|predict_proba"):
            door(scaler, X)
    surrogate = make_pipeline(StandardScaler())
    with pytest.raises(TypeError, match="surrogate must be a classifier; got"):
        perturb(LINEAR.fit(X, Y), X, Y, epsilon=0.1, surrogate=surrogate)


def test_a_device_without_numbers_is_named_behind_columns_too():
    frame = pd.DataFrame(X).rename(columns=str)
    columns = ColumnTransformer([("all", StandardScaler(), list(frame))])
    model = make_pipeline(columns, LogisticRegression()).fit(frame, Y)
    with pytest.raises(ValueError, match="device='meta' can't be used"):
        perturb(model, frame, Y, epsilon=0.1, device="meta")


def test_steps_check_weights_before_the_classifier_does():
    both = [
        FGSMTransformer(SVC()).fit(X, Y, weight).transform(X) for weight in (2.0, np.full(150, 2.0))
    ]
    np.testing.assert_array_equal(*both)
    with pytest.raises(ValueError, match="sample_weight.shape"):
        FGSMTransformer(SVC()).fit(X, Y, np.ones(7))


def test_wide_floats_reach_classifiers_that_know_none():
    model, wide = GaussianProcessClassifier().fit(X[::5], Y[::5]), X.astype(np.longdouble)
    options = {"epsilon": 0.1, "surrogate": LogisticRegression(max_iter=1000)}
    expected = adversarial_accuracy_score(model, X, Y, **options)
    assert adversarial_accuracy_score(model, wide, Y, **options) == expected


def test_a_curve_of_no_classifier_with_a_surrogate_is_named():
    with pytest.raises(TypeError, match="estimator"):
        RobustnessCurveDisplay.from_estimator(
            None, X, Y, epsilons=[0.1], surrogate=LogisticRegression()
        )
