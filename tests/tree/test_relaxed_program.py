import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier

from sk_adv.tree import as_trees
from sk_adv.tree._program import Program
from sk_adv.tree._reach import Region
from sk_adv.tree._shrunk import shrink
from sk_adv.tree._worst_case import limit_of, reach_of, rivals_of, worst_case

MODELS = {
    "extra trees": (ExtraTreesClassifier, load_breast_cancer, 0.4),
    "boosting": (GradientBoostingClassifier, load_breast_cancer, 0.6),
    "three classes": (GradientBoostingClassifier, load_iris, 0.5),
}


def around(x, radii, norm):
    return Region(x - radii, x + radii, x, radii if norm == 2 else None)


def problem(name):
    Model, load, epsilon = MODELS[name]
    X, y = load(return_X_y=True)
    trees = as_trees(Model(n_estimators=15, random_state=0).fit(X[::2], y[::2]))
    return trees, X[1::12], y[1::12], epsilon * X.std(axis=0)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("name", MODELS)
def test_signs_are_those_of_the_least_margins(name, norm):
    trees, X, y, radii = problem(name)
    for x, label in zip(X, y, strict=True):
        region = around(x, radii, norm)
        sign = worst_case(trees, region, label, time_limit=60)
        least = worst_case(trees, region, label, time_limit=60, decide=False)
        assert sign.is_proved != sign.is_misclassified
        assert sign.is_misclassified == least.is_misclassified
        assert sign.is_proved == least.is_proved
        assert sign.lower <= least.upper + 1e-9


@pytest.mark.parametrize("name", MODELS)
def test_relaxed_program_is_empty_only_where_the_program_is(name):
    trees, X, y, radii = problem(name)
    n_empty = 0
    for x, label in zip(X, y, strict=True):
        region = around(x, 0.5 * radii, np.inf)
        reached, is_possible = reach_of(trees, region)
        for _, rival, value in rivals_of(trees, reached, label, is_possible):
            program = Program(shrink(reached, value), region)
            if not len(program.shrunk.feature):
                continue
            cutoff = limit_of(trees, label, rival) - trees.base[label] + trees.base[rival]
            options = {"time_limit": 60, "cutoff": cutoff}
            relaxed = program.relaxed(**options)
            least = program.solve(time_limit=60)
            assert relaxed.lower <= least.lower + 1e-6
            if relaxed.is_empty:
                n_empty += 1
                assert least.lower > cutoff
    assert n_empty > 0
