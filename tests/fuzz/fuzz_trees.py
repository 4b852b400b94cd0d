"""Doors of tree models, verdicts and the strongest attacks."""

from fuzz_doors import _on_module, classifier, data_for, door, radii, scale, threat
from fuzz_models import FAST, fitted
from fuzz_values import samples, weights
from fuzz_watch import Call

from sk_adv import attacks, inspection, metrics, tree

TREES = [name for name in FAST if name.startswith("tree") or name == "forest"]

door("attacks.square", 1)(_on_module(attacks.square, is_random=True))
door("attacks.apgd", 1)(_on_module(attacks.apgd, is_random=True))
door("attacks.auto", 1)(_on_module(attacks.auto, is_random=True))


def tree_model(draw):
    """A tree model, or now and then any classifier."""
    if draw.is_odd():
        return classifier(draw)[0]
    return fitted(draw.of(*TREES), draw.of(2, 3))


@door("tree.as_trees", 0.5)
def _(draw):
    odd = [None, "float64", int, "a", 3]
    kwargs = {"dtype": draw.usual_or_odd([float, "float32"], odd)} if draw.chance(0.3) else {}
    return Call(tree.as_trees, tree_model(draw), **kwargs)


@door("tree.TreeSum.scores", 1)
def _(draw):
    X, _ = samples(draw)
    return Call(tree.as_trees(fitted(draw.of(*TREES), draw.of(2, 3))).scores, X)


def searching(draw):
    """Arguments of a search."""
    kwargs = {}
    if draw.chance(0.3):
        odd = [0, -1, "a", None, True, float("nan"), [1]]
        kwargs["time_limit"] = draw.usual_or_odd([1, 0.5], odd)
    if draw.chance(0.1):
        kwargs["n_jobs"] = draw.usual_or_odd([None, 1], ["a", 0, 1.5])
    return kwargs


@door("metrics.verify_robustness", 3)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, n = data_for(draw, names, has_text)
    kwargs = threat(draw, X) | searching(draw)
    kwargs["random_state"], draws = draw.seed()
    if draw.chance(0.3):
        kwargs["sample_weight"] = weights(draw, n)
    return Call(metrics.verify_robustness, model, X, y, draws=draws, **kwargs)


@door("inspection.VerdictDisplay.from_estimator", 0.5)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, _ = data_for(draw, names, has_text)
    kwargs = {"epsilons": radii(draw), "scale": scale(draw, X)} | searching(draw)
    kwargs["random_state"] = 0
    return Call(inspection.VerdictDisplay.from_estimator, model, X, y, **kwargs)
