import re

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.utils.fixes import parse_version

from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping

pytestmark = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="scikit-learn shows parameters in HTML from 1.7 on",
)


def highlighted(estimator):
    rows = r'<tr class="user-set">.*?class="param">\s*(?:<a[^>]*>\s*)?(\w+)'
    return set(re.findall(rows, estimator._repr_html_(), re.DOTALL))


def make_net(**params):
    return AdversarialNet(torch.nn.Linear, module__in_features=3, module__out_features=2, **params)


GIVEN = {"module", "module__in_features", "module__out_features"}


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ({}, set()),
        ({"epsilon": 0.25, "verbose": 1, "lr": 0.01}, set()),
        ({"epsilon": np.array([0.1, 0.2, 0.3])}, {"epsilon"}),
        ({"optimizer": torch.optim.Adam}, {"optimizer"}),
        ({"optimizer__momentum": 0.9, "max_epochs": 1}, {"optimizer__momentum", "max_epochs"}),
        ({"train_split": None, "callbacks__print_log": None}, None),
        ({"callbacks": [RobustEarlyStopping()], "alpha": 0.1}, {"callbacks", "alpha"}),
    ],
)
def test_only_what_the_user_changed_is_highlighted(params, changed):
    net = make_net(**params)
    expected = GIVEN | (params.keys() if changed is None else changed)
    assert highlighted(net) == expected
    assert highlighted(clone(net)) == expected


def test_a_fitted_net_shows_the_same_and_changes_after_it():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    net = make_net(max_epochs=1, verbose=0).fit(X, (X[:, 0] > 0).astype(int))
    assert highlighted(net) == GIVEN | {"max_epochs", "verbose"}
    net.set_params(alpha=0.3, max_epochs=10)
    assert highlighted(net) == GIVEN | {"alpha", "verbose"}
    table = net._get_params_html(deep=False)
    assert set(table) == {k for k in net.get_params(deep=False) if not k.startswith("_")}


class WithMore(AdversarialNet):
    def __init__(self, *args, alpha=0.9, power=2, **kwargs):
        super().__init__(*args, alpha=alpha, **kwargs)
        self.power = power


def test_defaults_of_a_subclass_count_first():
    assert highlighted(WithMore(torch.nn.Linear(3, 2))) == {"module"}
    assert highlighted(WithMore(torch.nn.Linear(3, 2), alpha=0.5)) == {"module", "alpha"}


@pytest.mark.parametrize("cls", [AdversarialLogisticRegression, AdversarialMaxoutClassifier])
def test_other_estimators_highlight_what_was_changed(cls):
    assert highlighted(cls()) == set()
    assert highlighted(cls(epsilon=0.3, norm=2, alpha=0.2)) == {"epsilon", "norm", "alpha"}
