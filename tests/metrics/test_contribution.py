"""adversarial_contribution against closed forms, and verdicts with each column fixed anew."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sk_adv.metrics import adversarial_contribution, verify_robustness
from sk_adv.neural_network import AdversarialNet

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_two_classes_share_by_weight_and_radius_in_raw_units(norm):
    A, b = load_breast_cancer(return_X_y=True)
    A, radii = A[:, :5], np.array([0.3, 0.0, 2.0, 5.0, 0.01])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(A, b)
    found = adversarial_contribution(model, A, b, radii, norm=norm)
    part = radii * np.abs(model[-1].coef_[0] / model[0].scale_)
    part = part if norm == np.inf else part**2
    np.testing.assert_allclose(found.contribution, part / part.sum())
    assert found.contribution is found.lower is found.upper
    assert found.kind == "share"
    verdict = verify_robustness(model, A, b, epsilon=radii, norm=norm)
    assert found.baseline == pytest.approx((verdict.lower, verdict.upper))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_several_classes_share_by_the_strongest_rival_of_each_sample(norm):
    weight = np.random.default_rng(0).uniform(size=len(X))
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    found = adversarial_contribution(model, X, Y, 0.3, norm=norm, sample_weight=weight)
    expected = np.zeros((len(X), 4))
    for i, (x, y) in enumerate(zip(X, Y, strict=True)):
        difference = model.coef_ - model.coef_[y]
        score = model.decision_function(x[None])[0]
        size = np.linalg.norm(difference, ord=1 if norm == np.inf else 2, axis=1)
        worst = score - score[y] + 0.3 * size
        worst[y] = -np.inf
        part = np.abs(difference[worst.argmax()]) ** (1 if norm == np.inf else 2)
        expected[i] = part / part.sum()
    np.testing.assert_allclose(found.contribution, np.average(expected, axis=0, weights=weight))


def test_bounds_hold_the_parts_of_columns_back():
    model = LogisticRegression().fit([[-1.0, -1.0], [1.0, 1.0]], [0, 1])
    model.coef_[:] = [[1.0, 1.0]]
    found = adversarial_contribution(model, [[0.5, 0.1]], [1], 0.4, bounds=(0, 1))
    np.testing.assert_allclose(found.contribution, [0.8, 0.2])


def test_a_sparse_matrix_is_taken_for_linear_models():
    sparse = pytest.importorskip("scipy.sparse")
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    dense = adversarial_contribution(model, X, Y, 0.3)
    found = adversarial_contribution(model, sparse.csr_array(X), Y, 0.3)
    np.testing.assert_allclose(found.contribution, dense.contribution)
    assert found.baseline == pytest.approx(dense.baseline)
    tree = DecisionTreeClassifier(random_state=0).fit(X, Y)
    with pytest.raises(TypeError, match="dense"):
        adversarial_contribution(tree, sparse.csr_array(X), Y, 0.3)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["tree", "net"])
def test_what_comes_back_is_what_verdicts_with_a_fixed_column_say(kind, norm):
    model = {
        "tree": DecisionTreeClassifier(random_state=0),
        "net": MLPClassifier(6, max_iter=400, random_state=0, tol=1e-2),
    }[kind].fit(X[::2], Y[::2])
    A, b = X[51:150:6], Y[51:150:6]
    radii = np.array([0.3, 0.3, 0.0, 0.3])
    weight = np.linspace(0, 1, len(b))
    options = {"norm": norm, "random_state": 0, "sample_weight": weight}
    found = adversarial_contribution(model, A, b, radii, **options)
    free = verify_robustness(model, A, b, epsilon=radii, **options)
    assert found.kind == "accuracy"
    assert found.baseline == pytest.approx((free.lower, free.upper))
    broken = free.status == "falsified"
    for j in range(4):
        fixed = verify_robustness(model, A, b, epsilon=radii * (np.arange(4) != j), **options)
        back = np.average(broken & (fixed.status == "verified"), weights=weight)
        holds = np.average(broken & (fixed.status != "falsified"), weights=weight)
        assert found.lower[j] == pytest.approx(back)
        assert found.upper[j] == pytest.approx(holds)
    assert found.lower[2] == found.upper[2] == 0


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_without_proofs_the_upper_end_is_what_a_dense_line_does_not_break(norm):
    A, b = X[101:140:8, 2:], Y[101:140:8]
    model = KNeighborsClassifier(3).fit(X[::2, 2:], Y[::2])
    found = adversarial_contribution(model, A, b, [0.3, 0.2], norm=norm, random_state=0)
    free = verify_robustness(model, A, b, epsilon=[0.3, 0.2], norm=norm, random_state=0)
    line = np.linspace(-1, 1, 501)[:, None]
    for fixed, radius in ((0, [0.0, 0.2]), (1, [0.3, 0.0])):
        copies = A[:, None] + line * radius
        wrong = model.predict(copies.reshape(-1, 2)).reshape(len(A), -1) != b[:, None]
        holds = (free.status == "falsified") & ~wrong.any(axis=1)
        assert found.upper[fixed] == pytest.approx(holds.mean())
    assert not found.lower.any()
    assert found.upper.any()


def test_only_what_needs_the_column_is_searched_again(monkeypatch):
    calls = []
    from sk_adv.metrics import _contribution as module

    real = module.decide

    def counting(estimator, A, *args, **kwargs):
        calls.append(len(A))
        return real(estimator, A, *args, **kwargs)

    monkeypatch.setattr(module, "decide", counting)
    # The tree looks at one column, so that no counterexample needs another.
    tree = DecisionTreeClassifier(max_depth=1).fit(X, Y > 1)
    found = adversarial_contribution(tree, X, Y > 1, 0.3)
    (j,) = np.flatnonzero(tree.feature_importances_)
    broken = verify_robustness(tree, X, Y > 1, epsilon=0.3).status == "falsified"
    right = tree.predict(X) == (Y > 1)
    assert calls == [len(X), (broken & right).sum()]
    expected = np.zeros(4)
    expected[j] = (broken & right).mean()
    np.testing.assert_allclose(found.contribution, expected)


def test_categories_stay_fixed_by_a_dict_and_frames_keep_their_names():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(X[50:, 2:], columns=["length", "width"])
    frame["place"] = rng.choice(["north", "south"], size=len(frame))
    y = Y[50:]
    encode = make_column_transformer(
        (OneHotEncoder(), ["place"]), (StandardScaler(), ["length", "width"])
    )
    linear = make_pipeline(encode, LogisticRegression()).fit(frame, y)
    found = adversarial_contribution(linear, frame, y, {"length": 0.2, "width": 0.1})
    part = np.array([0.2, 0.1]) * np.abs(linear[-1].coef_[0, 2:])
    part /= linear[0].named_transformers_["standardscaler"].scale_
    np.testing.assert_allclose(found.contribution, [*(part / part.sum()), 0.0])
    table = found.to_frame()
    assert sorted(table.index) == ["length", "place", "width"]
    assert table["contribution"].is_monotonic_decreasing
    tree = make_pipeline(encode, DecisionTreeClassifier(random_state=0)).fit(frame, y)
    found = adversarial_contribution(tree, frame, y, {"length": 0.2, "width": 0.1})
    assert found.contribution[2] == 0 < found.contribution[:2].max()


def test_each_position_of_an_image_contributes():
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(8, 1, 2, 3)).astype(np.float32)
    y = (images[:, 0, 0, 1] > images[:, 0, 1, 2]).astype(int)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2))
    net = AdversarialNet(module, max_epochs=30, lr=0.5, epsilon=0.0, train_split=None, verbose=0)
    net.fit(images, y)
    found = adversarial_contribution(net, images, y, 0.1)
    weight = net.module_[1].weight.detach().numpy()
    part = np.abs(weight[1] - weight[0])
    np.testing.assert_allclose(found.contribution, part / part.sum(), rtol=1e-5)
    assert found.columns[4] == (0, 1, 1)
    deep = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )
    net = AdversarialNet(deep, max_epochs=60, lr=0.5, epsilon=0.0, train_split=None, verbose=0)
    net.fit(images, y)
    found = adversarial_contribution(net, images, y, 0.4, random_state=0)
    radii = np.full((1, 2, 3), 0.4)
    radii[0, 0, 1] = 0
    free = verify_robustness(net, images, y, epsilon=0.4, random_state=0)
    fixed = verify_robustness(net, images, y, epsilon=radii, random_state=0)
    back = (free.status == "falsified") & (fixed.status == "verified")
    assert found.lower[1] == pytest.approx(back.mean())


def test_the_result_shows_itself():
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    frame = pd.DataFrame(X, columns=["<a>", "b", "c", "d"])
    found = adversarial_contribution(model.fit(frame, Y), frame, Y, 0.3)
    first = found.to_frame().index[0]
    assert f"{first!r}" in repr(found)
    assert "&lt;a&gt;" in found._repr_html_()
    assert "<a>" not in found._repr_html_()


def test_without_a_radius_nothing_contributes():
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    assert not adversarial_contribution(model, X, Y, 0).contribution.any()
    tree = DecisionTreeClassifier(max_depth=2).fit(X, Y)
    assert not adversarial_contribution(tree, X, Y, 0).upper.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -1}, "epsilon must be"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"n_jobs": 0}, "n_jobs must be"),
        ({"y": [0, 1]}, "one label per sample"),
    ],
)
def test_bad_input_is_explained(change, message):
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    arguments = {"X": X, "y": Y, "epsilon": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        adversarial_contribution(model, **arguments)
