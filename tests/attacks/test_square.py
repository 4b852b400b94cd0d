"""The Square attack against grids of the model's own predictions and the closed form."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sk_adv.attacks import exact, perturb, square
from sk_adv.metrics import adversarial_accuracy_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2))
Y = ((X**2).sum(1) > 1.3).astype(int)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_it_finds_what_a_grid_finds_on_neighbours(norm):
    model = KNeighborsClassifier(5).fit(X[:200], Y[:200])
    A, b = X[200:], Y[200:]
    found = model.predict(
        perturb(model, A, b, epsilon=0.3, norm=norm, attack="square", random_state=0)
    )
    side = np.linspace(-0.3, 0.3, 25)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, ord=norm, axis=1) <= 0.3]
    broken = np.array(
        [(model.predict(x + grid) != label).any() for x, label in zip(A, b, strict=True)]
    )
    # The grid may find a little less than there is, and random search too.
    assert ((found != b) != broken).mean() <= 0.03


def test_it_reaches_the_worst_case_of_a_linear_model():
    model = LogisticRegression().fit(X, X[:, 0] > 0.3)
    y = X[:, 0] > 0.3
    for norm in (np.inf, 2):
        options = {"epsilon": 0.4, "norm": norm}
        exact = adversarial_accuracy_score(model, X, y, attack="exact", **options)
        score = adversarial_accuracy_score(model, X, y, attack="square", random_state=0, **options)
        assert exact <= score <= exact + 0.01


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("shape", [(12,), (3, 6, 6), (1, 5, 8)])
def test_copies_stay_inside_the_set_and_the_bounds(shape, norm):
    torch.manual_seed(0)
    n = int(np.prod(shape))
    module = nn.Sequential(nn.Flatten(), nn.Linear(n, 3))
    clean = torch.rand(20, *shape)
    labels = module(clean).argmax(1)
    radii = torch.rand(shape) * (torch.rand(shape) > 0.3)
    copies = square(
        module,
        clean,
        labels,
        epsilon=radii,
        norm=norm,
        bounds=(0, 1),
        n_queries=200,
        random_state=0,
    )
    step = (copies - clean).flatten(1)
    free = (radii > 0).flatten()
    assert (step[:, ~free] == 0).all()
    lengths = torch.linalg.vector_norm(step[:, free] / radii.flatten()[free], ord=norm, dim=1)
    assert lengths.max() <= 1 + 1e-5
    assert copies.min() >= 0
    assert copies.max() <= 1
    # A linear module has a worst case, of which random search finds most.
    worst = exact(module, clean, labels, epsilon=radii, norm=norm, bounds=(0, 1))
    broken = [(module(found).argmax(1) != labels).sum() for found in (copies, worst)]
    assert 0.4 * broken[1] <= broken[0] <= broken[1]


def test_more_queries_break_no_less_and_a_seed_repeats_them():
    model = KNeighborsClassifier(5).fit(X[:200], Y[:200])
    options = {"epsilon": 0.25, "attack": "square", "random_state": 3}
    scores = [
        adversarial_accuracy_score(
            model, X[200:], Y[200:], attack_params={"n_queries": n}, **options
        )
        for n in (1, 20, 400, 400)
    ]
    assert scores[0] == model.score(X[200:], Y[200:])
    assert scores[0] > scores[1] >= scores[2] == scores[3]


def test_a_copy_counts_only_if_predict_confirms_it():
    # The probabilities of libsvm can disagree with its predictions.
    model = SVC(probability=True, random_state=0).fit(X[:40], Y[:40])
    copies = perturb(model, X, Y, epsilon=0.2, attack="square", random_state=0)
    right = model.predict(X) == Y
    moved = (copies != X).any(axis=1)
    assert (model.predict(copies)[right & moved] != Y[right & moved]).any()


def test_a_target_is_approached():
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    model = KNeighborsClassifier(5).fit(X, y)
    before = (model.predict(X) == 2).mean()
    copies = perturb(model, X, y, epsilon=0.4, attack="square", target=2, random_state=0)
    assert (model.predict(copies) == 2).mean() > before + 0.1


def test_missing_values_stay_missing():
    holes = X.copy()
    holes[::5, 1] = np.nan
    model = DecisionTreeClassifier(random_state=0).fit(holes, Y)
    copies = perturb(model, holes, Y, epsilon=0.3, attack="square", random_state=0)
    np.testing.assert_array_equal(np.isnan(copies), np.isnan(holes))
    assert model.score(copies, Y) < model.score(holes, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_queries": 0}, "n_queries must be an integer of at least 1"),
        ({"share": 0}, r"share must be in \(0, 1\]"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(params, message):
    with pytest.raises(ValueError, match=message):
        square(nn.Linear(2, 2), X, Y, 0.1, **params)
