import re

import numpy as np
import pytest

from sk_adv import AdversarialLogisticRegression
from sk_adv.linear_model import (
    AdversarialLogisticRegressionCV,
    adversarial_logistic_path,
    epsilon_max,
)

WORDS = "All weights are zero"


@pytest.fixture(scope="module", params=[2, 3])
def data(request):
    rng = np.random.default_rng(request.param)
    y = np.arange(90) % request.param
    return rng.normal(size=(90, 3)) * [1, 4, 0.2] + y[:, None] * [0.5, 1, 0.1], y


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_radius_that_is_named_is_the_largest_useful_one(data, norm, alpha):
    X, y = data
    largest = epsilon_max(X, y, norm=norm, alpha=alpha)
    model = AdversarialLogisticRegression(epsilon=1.5 * largest, norm=norm, alpha=alpha)
    with pytest.warns(UserWarning, match=WORDS) as caught:
        model.fit(X, y)
    assert len(caught) == 1 and caught[0].filename == __file__
    named = float(re.search(r"epsilon below (\S+)", str(caught[0].message))[1])
    assert named == pytest.approx(largest, rel=1e-2)
    radii = 2 * epsilon_max(X, y, norm=norm, alpha=alpha, scale=X.std(axis=0)) * X.std(axis=0)
    with pytest.warns(UserWarning, match=r"radii below 0\.5 times.*0 for columns"):
        model.set_params(epsilon=radii).fit(X, y)


@pytest.mark.filterwarnings("error")
def test_useful_radii_are_not_warned_of(data):
    X, y = data
    largest = epsilon_max(X, y)
    AdversarialLogisticRegression(epsilon=0.5 * largest).fit(X, y)
    # Two classes of equal means have no weights at any radius, and no epsilon helps.
    mirrored = np.vstack([X, -X, X, -X]), np.repeat([0, 1], 2 * len(X))
    AdversarialLogisticRegression(epsilon=0.1).fit(*mirrored)
    # A path begins at zero, and a search may try what it does not choose.
    adversarial_logistic_path(X, y, n_epsilons=3)
    AdversarialLogisticRegressionCV(epsilons=[0.01 * largest, 2 * largest], cv=3).fit(X, y)
