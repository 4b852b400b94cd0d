"""adversarial_contribution against closed forms, and verdicts with each column fixed anew."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
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
    broken, unknown = (free.status == name for name in ("falsified", "unknown"))
    assert broken.any()
    for j in range(4):
        fixed = verify_robustness(model, A, b, epsilon=radii * (np.arange(4) != j), **options)
        holds = fixed.status != "falsified"
        for value, mask in (
            (found.lower, broken & (fixed.status == "verified")),
            (found.contribution, broken & holds),
            (found.upper, (broken | (unknown if radii[j] else False)) & holds),
        ):
            assert value[j] == pytest.approx(np.average(mask, weights=weight))
    assert found.lower[2] == found.upper[2] == 0


# Three words for each sample while all may change, and three once the column is fixed.
_TABLE = {
    ("verified", "verified"): (0, 0, 0),
    ("falsified", "verified"): (1, 1, 1),
    ("falsified", "unknown"): (0, 1, 1),
    ("falsified", "falsified"): (0, 0, 0),
    ("unknown", "verified"): (0, 0, 1),
    ("unknown", "unknown"): (0, 0, 1),
    ("unknown", "falsified"): (0, 0, 0),
}


@pytest.mark.parametrize("order", [1, -1])
def test_each_pair_of_verdicts_has_its_two_ends(monkeypatch, order):
    from sk_adv.metrics import _contribution as module

    pairs = list(_TABLE)[::order]
    A = np.column_stack([np.arange(len(pairs)), np.zeros(len(pairs))]).astype(float)
    b = np.zeros(len(pairs), dtype=int)
    model = DecisionTreeClassifier().fit([[-5.0, 0], [50.0, 0]], [0, 1])

    def scripted(estimator, given, y, classes, perturbations, **options):
        is_fixed = not perturbations.largest_radii((2,))[1]
        status = np.array([pairs[int(row)][int(is_fixed)] for row in given[:, 0]])
        # All counterexamples change column 1, and `predict` calls them right without it.
        copies = given + np.where(status == "falsified", 1.0, 0.0)[:, None] * [0.0, 1.0]
        return status, copies

    monkeypatch.setattr(module, "decide", scripted)
    weight = np.arange(1.0, len(pairs) + 1)
    found = adversarial_contribution(model, A, b, [0.0, 1.0], sample_weight=weight)
    expected = np.average([_TABLE[pair] for pair in pairs], axis=0, weights=weight)
    ends = [found.lower[1], found.contribution[1], found.upper[1]]
    np.testing.assert_allclose(ends, expected)
    assert not found.upper[0]


def test_time_that_is_up_leaves_samples_unknown_that_were(monkeypatch):
    from sk_adv.metrics import _contribution as module

    calls = []
    model = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])

    def unknown(estimator, given, y, classes, perturbations, *, time_limit, **options):
        calls.append(time_limit)
        return np.full(len(y), "unknown"), given.copy()

    monkeypatch.setattr(module, "decide", unknown)
    arguments = model, np.array([[0.0], [1.0]]), [0, 1], 0.1
    found = adversarial_contribution(*arguments, time_limit=1e-9)
    assert len(calls) == 1
    assert found.upper == 1
    assert found.lower == found.contribution == 0
    adversarial_contribution(*arguments, time_limit=7.0)
    assert calls[1:] == pytest.approx([7.0, 7.0], rel=0.1)


def plane():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(60, 2))
    # The first column decides more.
    return points, (2 * points[:, 0] + points[:, 1] + 0.3 * rng.normal(size=60) > 0).astype(int)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("kind", ["neighbors", "kernel"])
@pytest.mark.usefixtures("few_steps")
def test_the_ends_enclose_the_gain_on_a_dense_grid(kind, norm):
    points, y = plane()
    model = {"neighbors": KNeighborsClassifier(3), "kernel": SVC(gamma=1.0)}[kind]
    model.fit(points[:30], y[:30])
    A, b, radii = points[30:], y[30:], np.array([0.3, 0.2])
    found = adversarial_contribution(model, A, b, radii, norm=norm, random_state=0)

    def holds(radii):
        line = np.linspace(-1, 1, 41)
        steps = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        steps = steps[np.linalg.norm(steps, ord=norm, axis=1) <= 1] * radii
        labels = model.predict((A[:, None] + steps).reshape(-1, 2)).reshape(len(A), -1)
        return (labels == b[:, None]).all(axis=1)

    baseline = holds(radii)
    assert found.baseline[0] <= baseline.mean() <= found.baseline[1] + 1e-9
    for j in range(2):
        back = holds(radii * (np.arange(2) != j)) & ~baseline
        assert found.lower[j] <= back.mean() <= found.upper[j] + 1e-9
        # The attack breaks what the grid breaks.
        assert found.contribution[j] == pytest.approx(back.mean(), abs=0.04)
        assert found.lower[j] <= found.contribution[j] <= found.upper[j]
    assert found.contribution[0] > found.contribution[1]
    if kind == "neighbors":
        assert not found.lower.any()


def test_neighbors_of_a_frame_with_categories_and_gaps(few_steps):
    few_steps["n_queries"] = 20
    points, y = plane()
    frame = pd.DataFrame(points, columns=["a", "b"])
    frame["place"] = np.where(np.arange(60) % 3, "north", "south")
    frame.loc[::7, "b"] = np.nan
    encode = make_column_transformer(
        (OneHotEncoder(), ["place"]), (SimpleImputer(), ["a"]), (SimpleImputer(), ["b"])
    )
    model = make_pipeline(encode, KNeighborsClassifier(3)).fit(frame[:30], y[:30])
    A, b = frame[30:], y[30:]
    found = adversarial_contribution(model, A, b, {"a": 0.3, "b": 0.2}, random_state=0)
    assert found.columns == ["a", "b", "place"]
    assert found.upper[2] == 0 == found.contribution[2]
    assert found.contribution[0] > 0
    # Without "a", only "b" moves: a dense line tells what breaks.
    line = np.linspace(-0.2, 0.2, 81)
    holds = np.array([(model.predict(A.assign(b=A["b"] + t)) == b) for t in line]).all(axis=0)
    free = verify_robustness(model, A, b, epsilon={"a": 0.3, "b": 0.2}, random_state=0)
    back = (free.status == "falsified") & holds
    assert found.contribution[0] == pytest.approx(back.mean())


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


@pytest.mark.usefixtures("few_steps")
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
