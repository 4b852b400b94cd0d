"""The perturbation set: its geometry by brute force, and radii and bounds by column name."""

import itertools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler

from sk_adv import (
    AdversarialLogisticRegression,
    AdversarialMaxoutClassifier,
    FGSMSampler,
    FGSMTransformer,
)
from sk_adv._perturbations import PerturbationSet, dual_norm
from sk_adv.attacks import perturb
from sk_adv.inspection import (
    AdversarialExamplesDisplay,
    EpsilonSweepDisplay,
    RobustnessCurveDisplay,
    TransferMatrixDisplay,
)
from sk_adv.linear_model import adversarial_logistic_path
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    adversarial_report,
    certified_accuracy_score,
    make_adversarial_scorer,
    robustness_radius,
    transfer_error_matrix,
    verify_robustness,
)

RADII = [0.5, 0.0, 2.0]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def points_of_the_set(norm, n_points=4000):
    """Points on the surface of the set of `RADII`."""
    if norm == np.inf:
        return tensor(list(itertools.product([-0.5, 0.5], [0.0], [-2.0, 2.0])))
    points = torch.randn(
        n_points, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    points[:, 1] = 0
    return tensor(RADII) * points / torch.linalg.vector_norm(points, dim=1, keepdim=True)


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_no_point_of_the_set_goes_further_along_a_gradient_than_the_step(norm):
    allowed = PerturbationSet(RADII, norm)
    gradient = tensor([[1.0, -5.0, 0.3], [-0.1, 0.0, 2.0]])
    step = allowed.step(gradient)
    gain = (gradient * step).sum(1)
    others = points_of_the_set(norm) @ gradient.T
    assert (others <= gain + 1e-12).all()
    torch.testing.assert_close(others.amax(0), gain, rtol=1e-3, atol=0)
    torch.testing.assert_close(gain, dual_norm(gradient, allowed.epsilon, norm))
    torch.testing.assert_close(allowed.norm_of(step).flatten(), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_projection_gives_the_nearest_point_in_units_of_the_radii(norm):
    allowed = PerturbationSet(RADII, norm)
    outside = tensor([[3.0, 1.0, 1.0]])
    projected = allowed.project(outside)
    scale = tensor([0.5, 1.0, 2.0])

    def distance(points):
        gap = (points - outside) / scale
        return gap[:, [0, 2]].abs().amax(1) if norm == np.inf else gap[:, [0, 2]].norm(dim=1)

    assert projected[0, 1] == 0
    assert distance(points_of_the_set(norm)).min() >= distance(projected) - 1e-12


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("draw", ["uniform_sample", "sign_sample"])
def test_random_perturbations_lie_in_the_set(norm, draw):
    allowed = PerturbationSet(RADII, norm)
    generator = torch.Generator().manual_seed(0)
    drawn = getattr(allowed, draw)((500, 3), generator=generator, dtype=torch.float64)
    assert (drawn[:, 1] == 0).all()
    largest = allowed.norm_of(drawn).max()
    assert 0.9 < largest <= 1 + 1e-12


def test_the_box_holds_the_set_within_the_bounds():
    allowed = PerturbationSet(RADII, 2, bounds=([-1, -1, 0], 1.5))
    low, high = allowed.box(tensor([[0.0, 0.5, 1.0]]))
    assert low.tolist() == [[-0.5, 0.5, 0.0]]
    assert high.tolist() == [[0.5, 0.5, 1.5]]


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_an_infinite_entry_of_a_gradient_counts_as_the_largest(norm):
    step = PerturbationSet(1.0, norm).step(tensor([[torch.inf, 1.0, 0.0]]))
    assert step[0, 0] == 1 and step.isfinite().all()


def test_a_set_cannot_be_changed():
    allowed = PerturbationSet(0.1)
    with pytest.raises(AttributeError):
        allowed.epsilon = 3
    scaled = allowed.scaled(2.0)
    assert float(scaled.epsilon) == 0.2 and float(allowed.epsilon) == 0.1


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 4, 5), (3, 4, 5), ()])
def test_radii_broadcast_to_the_shape_of_a_sample(shape):
    X = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    epsilon = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1.0
    step = PerturbationSet(epsilon, like=X).step(torch.ones_like(X))
    np.testing.assert_array_equal(step[0], np.broadcast_to(epsilon, (3, 4, 5)))


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 5), (2, 1, 1), (1, 3, 4, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"one entry per feature, shape \(3, 4, 5\)"):
        PerturbationSet(np.ones(shape), like=torch.zeros(2, 3, 4, 5))


# By column name


@pytest.fixture(scope="module")
def frame():
    """Breast cancer in raw units, whose columns have very different spreads."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y


@pytest.fixture(scope="module")
def model(frame):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*frame)


def shuffled(series):
    """A Series with the same labels in another order."""
    return series.sample(frac=1, random_state=0)


def test_a_series_of_radii_is_aligned_by_its_labels(frame, model):
    X, y = frame
    radii = 0.3 * X.std()
    expected = adversarial_accuracy_score(model, X, y, epsilon=radii.to_numpy())
    assert 0.3 < expected < 0.9
    for given in (radii, shuffled(radii), radii.to_dict(), radii.to_frame().T):
        assert adversarial_accuracy_score(model, X, y, epsilon=given) == expected


def test_polars_frames_take_radii_by_name_too(frame):
    X, y = frame
    columns = list(X.columns[:3])
    X = pl.from_pandas(X[columns])
    model = LogisticRegression(max_iter=5000).fit(X, y)
    radii = X.select(pl.all().std() * 0.3)
    expected = perturb(model, X, y, epsilon=radii.to_numpy()[0])
    backwards = radii.select(columns[::-1])
    for given in (radii, backwards, backwards.to_struct(), backwards.to_dicts()[0]):
        assert perturb(model, X, y, epsilon=given).equals(expected)


def test_a_dict_leaves_the_columns_that_it_does_not_name(frame, model):
    X, y = frame
    names = ["mean radius", "worst area"]
    copies = perturb(model, X, y, epsilon={name: float(X[name].std()) for name in names})
    changed = (copies != X).any()
    assert changed[changed].index.tolist() == names
    np.testing.assert_allclose((copies - X).abs().max()[names], X[names].std())


def test_bounds_by_name(frame, model):
    X, y = frame
    low, high = shuffled(X.quantile(0.2)), {"mean radius": 20.0}
    copies = perturb(model, X, y, epsilon=X.std(), bounds=(low, high))
    assert (copies >= low[X.columns]).all(axis=None)
    assert copies["mean radius"].max() == 20.0
    assert copies["mean texture"].max() > X["mean texture"].quantile(0.9)


def of_every_entry(X, y, model, radii):
    """Yield a call of every public function that takes a radius, with radii by column name."""
    fitted_radii = {"epsilon": radii}
    yield "perturb", lambda: perturb(model, X, y, **fitted_radii)
    for score in (adversarial_accuracy_score, adversarial_confidence, certified_accuracy_score):
        yield score.__name__, lambda score=score: score(model, X, y, **fitted_radii)
    yield "scorer", lambda: make_adversarial_scorer(**fitted_radii)(model, X, y)
    yield "report", lambda: adversarial_report(model, X, y, [0.5], ["fgsm"], scale=radii)
    yield "radius", lambda: robustness_radius(model, X, y, scale=radii)
    yield "transfer", lambda: transfer_error_matrix([model], X, y, radii)
    yield (
        "curve",
        lambda: (
            RobustnessCurveDisplay.from_estimator(model, X, y, epsilons=[1], scale=radii).errors
        ),
    )
    yield (
        "matrix",
        lambda: TransferMatrixDisplay.from_estimators({"a": model}, X, y, epsilon=radii).errors,
    )
    yield (
        "sweep",
        lambda: (
            EpsilonSweepDisplay.from_estimator(
                model, X[:1], y[:1], epsilons=[-1, 0, 1], scale=radii
            ).logits
        ),
    )
    yield (
        "examples",
        lambda: (
            AdversarialExamplesDisplay.from_estimator(
                model, X[:2], y[:2], epsilon=radii, image_shape=(5, 6)
            ).copies
        ),
    )
    yield "transformer", lambda: FGSMTransformer(model, epsilon=radii).fit_transform(X, y)
    yield "sampler", lambda: FGSMSampler(model, epsilon=radii).fit_resample(X, y)[0]
    yield "linear", lambda: AdversarialLogisticRegression(epsilon=radii).fit(X, y).coef_
    yield (
        "maxout",
        lambda: (
            AdversarialMaxoutClassifier((4,), epsilon=radii, max_iter=1, random_state=0)
            .fit(X, y)
            .predict_proba(X)
        ),
    )
    yield (
        "path",
        lambda: adversarial_logistic_path(X, y, epsilons=[0.1], scale=radii).coefs,
    )


ENTRIES = [name for name, _ in of_every_entry(None, None, None, None)]


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_takes_radii_by_name_and_names_what_is_wrong(entry, frame, model):
    X, y = frame
    radii = 0.3 * X.std()

    def call(given):
        return dict(of_every_entry(X, y, model, given))[entry]()

    expected = np.asarray(call(radii.to_numpy()), dtype=object)
    found = np.asarray(call(shuffled(radii)), dtype=object)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"names columns that X does not have, \['mean radio'\]"):
        call({"mean radio": 1.0})
    with pytest.raises(ValueError, match=r"no entry for the columns \['mean radius'\]"):
        call(radii.drop("mean radius"))


def test_names_for_data_without_names_are_refused(frame, model):
    X, y = frame
    model = LogisticRegression(max_iter=5000).fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="X has none: pass X as a frame"):
        adversarial_accuracy_score(model, X.to_numpy(), y, epsilon=X.std())
    # The default labels 0, 1, ... of a Series are no column names.
    numbered = pd.Series(X.std().to_numpy())
    scores = [
        adversarial_accuracy_score(model, X.to_numpy(), y, epsilon=given)
        for given in (numbered, numbered.to_numpy())
    ]
    assert scores[0] == scores[1]


CONTAINERS = [
    np.asarray,
    np.ndarray.tolist,
    lambda X: X.astype(object),
    pd.DataFrame,
    pl.DataFrame,
    torch.as_tensor,
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_samples_outside_of_the_bounds_are_told_of(container):
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    few = container(X[:5].copy())
    for call in (perturb, verify_robustness):
        with pytest.warns(UserWarning, match="5 of 5 samples lie outside `bounds`"):
            call(model, few, y[:5], epsilon=0.1, bounds=(0, 1))
    low, high = X.min(0), X.max(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturb(model, few, y[:5], epsilon=0.1, bounds=(low, high * (1 - 1e-9)))


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_zeros_that_are_not_stored_may_lie_outside_of_the_bounds(container):
    X, y = load_breast_cancer(return_X_y=True)
    X[:, 0] = np.arange(len(X)) % 2
    model = make_pipeline(MaxAbsScaler(), LogisticRegression()).fit(X, y)
    bounds = (np.append(0.5, np.full(29, -np.inf)), np.inf)
    for call in (certified_accuracy_score, adversarial_accuracy_score):
        with pytest.warns(UserWarning, match="285 of 569 samples lie outside `bounds`"):
            call(model, container(X), y, epsilon=0.1, bounds=bounds)


def test_numbers_beside_words_may_lie_outside_of_the_bounds():
    X = np.array([["a", 0.5], ["b", 1.5], ["a", 2.5], ["b", 3.5]], dtype=object)
    y = [0, 0, 1, 1]
    columns = make_column_transformer((OneHotEncoder(), [0]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    with pytest.warns(UserWarning, match="2 of 4 samples lie outside `bounds`"):
        adversarial_accuracy_score(model, X, y, epsilon=[0, 0.1], bounds=(0, 2))
