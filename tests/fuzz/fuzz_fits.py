"""Doors of the estimators: fits, and what a fitted one answers."""

import numpy as np
from fuzz_doors import door, radii, scale
from fuzz_models import fitted, surrogate
from fuzz_values import (
    attack,
    bounds,
    device,
    epsilon,
    labels,
    norm,
    samples,
    shift,
    weights,
)
from fuzz_watch import Call
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sk_adv import linear_model, neural_network, pipeline, preprocessing


def _training(draw, n_classes=None):
    names = draw.of((0, 1), (0, 1), (0, 1, 2), ("a", "b"), ("a", "b", "c"), (-1, 1), (True, False))
    X, n = samples(draw)
    return X, labels(draw, n, names), n


def class_weight(draw):
    """Class weights."""
    odd = [{0: -1}, {0: np.nan}, {"zz": 1}, "zz", 3, {0: "a"}, [1, 2], {0: np.inf}, {}, {0: None}]
    return draw.usual_or_odd([None, None, "balanced", {0: 2.0, 1: 1.0}, {0: 0.0}], odd)


def _params(draw, choices, share=0.3):
    return {name: value(draw) for name, value in choices.items() if draw.chance(share)}


def _one(usual, odd):
    return lambda draw: draw.usual_or_odd(usual, odd)


LINEAR = {
    "epsilon": epsilon,
    "alpha": _one([0.0, 0.5, 1, 0.9], [-0.1, 2, np.nan, "a", None, [0.5], 1j, True]),
    "norm": norm,
    "C": _one([1.0, np.inf, 1e-3], [0, -1, np.nan, "a", None, 1e-300, 1e300, [1.0], 5e-324]),
    "fit_intercept": _one([True, False], ["a", None, 2]),
    "class_weight": class_weight,
    "tol": _one([1e-6, 1e-2], [0, -1, np.nan, "a", np.inf, 1e-300, None]),
    "max_iter": _one([20, 0, 1], [-1, 2.5, "a", None, True, np.int64(3)]),
    "warm_start": _one([False, True], ["a", None]),
    "device": lambda draw: device(draw, "auto"),
}


def linear(draw):
    """Parameters of the linear models."""
    return {"C": 1.0, "max_iter": 20} | _params(draw, LINEAR)


@door("linear_model.AdversarialLogisticRegression.fit", 4)
def _(draw):
    X, y, n = _training(draw)
    model = linear_model.AdversarialLogisticRegression(**linear(draw))
    args = (weights(draw, n),) if draw.chance(0.4) else ()
    return Call(_fit_one, model, X, y, *args, changes_self=True)


def _fit_one(model, *args):
    return model.fit(*args)


@door("pipeline.RawUnitsPipeline.fit", 1)
def _(draw):
    X, y, _ = _training(draw)
    before = draw.of(
        *(StandardScaler(), MinMaxScaler(), SimpleImputer(), MinMaxScaler(clip=True), PCA(1)),
        *("passthrough", None, QuantileTransformer(n_quantiles=3)),
    )
    last = draw.usual_or_odd(
        [linear_model.AdversarialLogisticRegression(**linear(draw)), _maxout(draw)],
        [LogisticRegression(), StandardScaler(), "passthrough", None, 3, SVC],
    )

    def fit(X, y):
        return clone(pipeline.RawUnitsPipeline([("before", before), ("last", last)])).fit(X, y)

    return Call(fit, X, y, draws=("numpy",))


CV = {
    "epsilons": _one(
        [2, [0.01, 0.1], 3], [0, -1, [], "a", None, [np.nan], [[0.1]], 1.5, [-1], [0]]
    ),
    "attack_epsilon": lambda draw: draw.of(None, 0.1, epsilon(draw)),
    "cv": _one([2], [1, 0, "a", 50, None, 2.5, [], [([0], [1])]]),
    "scoring": _one([None, "accuracy"], ["zz", 3, "r2"]),
    "scale": lambda draw: scale(draw, None),
}


@door("linear_model.AdversarialLogisticRegressionCV.fit", 1)
def _(draw):
    X, y, n = _training(draw)
    known = linear_model.AdversarialLogisticRegressionCV().get_params()
    choices = {k: v for k, v in (LINEAR | CV).items() if k in known and k != "C"}
    params = {"epsilons": 2, "cv": 2, "C": 1.0} | _params(draw, choices, 0.2)
    model = linear_model.AdversarialLogisticRegressionCV(**params)
    args = (weights(draw, n),) if draw.chance(0.3) else ()
    return Call(_fit_one, model, X, y, *args, changes_self=True)


def _paths(function):
    def draw_call(draw):
        X, y, n = _training(draw)
        known = function.__wrapped__.__code__.co_varnames
        params = {k: v for k, v in linear(draw).items() if k in known}
        params.pop("epsilon", None)
        if draw.chance(0.3):
            params["sample_weight"] = weights(draw, n)
        if draw.chance(0.3):
            params["scale"] = scale(draw, X)
        if function is linear_model.adversarial_logistic_path:
            params["n_epsilons"] = draw.usual_or_odd([2, 3], [0, -1, "a", 1.5, None, 1])
            params |= {"epsilons": radii(draw)} if draw.chance(0.3) else {}
        params = {k: v for k, v in params.items() if k in known}
        # Without an adversarial loss, alpha=1, no radius is the largest.
        return Call(function, X, y, allows="inf", **params)

    return draw_call


door("linear_model.adversarial_logistic_path", 1)(_paths(linear_model.adversarial_logistic_path))
door("linear_model.epsilon_max", 1)(_paths(linear_model.epsilon_max))


def _answers(name, method, allows=""):
    def draw_call(draw):
        model = fitted(name, draw.of(2, 3), draw.of("numbers", "words"))
        X, _ = samples(draw)
        return Call(getattr(model, method), X, allows=allows)

    return draw_call


for _room, _class, _name in (
    ("linear_model", "AdversarialLogisticRegression", "linear"),
    ("linear_model", "AdversarialLogisticRegressionCV", "linear search"),
    ("neural_network", "AdversarialMaxoutClassifier", "maxout"),
):
    for _method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(fitted(_name), _method):
            _allows = "inf" if "log" in _method else ""
            door(f"{_room}.{_class}.{_method}", 0.7)(_answers(_name, _method, _allows))


def _accuracy(name):
    def draw_call(draw):
        n_classes, kind = draw.of(2, 3), draw.of("numbers", "words")
        model = fitted(name, n_classes, kind)
        X, n = samples(draw)
        kwargs = {"sample_weight": weights(draw, n)} if draw.chance(0.3) else {}
        return Call(model.score, X, labels(draw, n, model.classes_.tolist()), **kwargs)

    return draw_call


door("linear_model.AdversarialLogisticRegression.score", 0.3)(_accuracy("linear"))
door("linear_model.AdversarialLogisticRegressionCV.score", 0.3)(_accuracy("linear search"))


ROBUST = {
    "robust_loss": _one(
        ["adversarial", "trades", "trades", "certified", "certified"],
        ["zz", None, 3, ["trades"], np.array(["trades", "certified"]), b"trades"],
    ),
    "box_share": _one([1.0, 0.3, 1], [0, -1, 2, np.nan, "a", None, [0.5], 1e-300, np.ones(2)]),
    "epsilon_warmup": _one(
        ["auto", 0, 0.5, 1], [-1, 2, np.nan, "zz", None, [0.5], np.ones(2), 1e-300, True]
    ),
}
MONITOR = {
    "monitor": _one(
        ["adversarial_error", "certified_error", "clean_error", "loss", "pgd", "fgsm_rs", shift],
        ["zz", None, 3, ["pgd"], "exact", "auto", "sign_noise", np.abs, b"pgd"],
    ),
    "monitor_params": _one(
        [None, None, {}, {"n_steps": 2}],
        [{"zz": 1}, 3, [1], {"n_steps": 0}, {"loss": None}, {"n_restarts": 2, "n_steps": 1}],
    ),
}
# Any attack with a random start serves every robust loss.
RANDOM_START = {"attack": lambda draw: draw.of("fgsm_rs", "pgd")}
MAXOUT = {
    "hidden_layer_sizes": _one([(4,), [3, 2]], [(), (0,), "a", None, 4, (2.5,), (-1,)]),
    "n_pieces": _one([1, 2], [0, -1, 1.5, "a", None]),
    "epsilon": epsilon,
    "alpha": LINEAR["alpha"],
    "norm": norm,
    "bounds": bounds,
    "batch_size": _one([5, 100], [0, -1, "a", 2.5, None]),
    "max_iter": _one([1, 2], [0, -1, 1.5, "a", None]),
    "learning_rate": _one(["constant", "cosine", "exponential"], [0.1, np.nan, "a", None]),
    "learning_rate_init": _one([0.01, 0.1], [0, -1, np.nan, np.inf, "a", None, 1e300]),
    "momentum": _one([0.5], [-1, 2, np.nan, "a"]),
    "early_stopping": _one([False, True], ["a", None]),
    "validation_fraction": _one([0.3], [0, 1, -1, np.nan, "a", 0.01]),
    "input_dropout": _one([0.0, 0.2], [-1, 1, 2, np.nan, "a"]),
    "hidden_dropout": _one([0.0, 0.2], [-1, 1, 2, np.nan, "a"]),
    "max_norm": _one([None, 1.0], [0, -1, np.nan, "a", 1e-300]),
    "class_weight": class_weight,
    "precision": _one(["float32", "float64", "bfloat16"], ["float16", None, 32]),
    "attack": _one(["fgsm", "fgsm_rs", "sign_noise"], ["zz", None, 3, "exact"]),
    "random_state": lambda draw: draw.seed()[0],
    "warm_start": LINEAR["warm_start"],
    "device": lambda draw: device(draw, "auto"),
}


def _maxout(draw):
    known = neural_network.AdversarialMaxoutClassifier().get_params()
    params = {"hidden_layer_sizes": (3,), "n_pieces": 2, "max_iter": 1, "random_state": 0}
    params |= {k: v for k, v in _params(draw, MAXOUT, 0.15).items() if k in known}
    if draw.chance(0.5):
        params |= _params(draw, RANDOM_START, 0.7) | _params(draw, ROBUST, 0.6)
    if draw.chance(0.3):
        params |= {"early_stopping": True, "validation_fraction": 0.3} | _params(draw, MONITOR, 0.7)
    return neural_network.AdversarialMaxoutClassifier(**params)


@door("neural_network.AdversarialMaxoutClassifier.fit", 2)
def _(draw):
    X, y, n = _training(draw)
    args = (weights(draw, n),) if draw.chance(0.3) else ()
    return Call(_fit_one, _maxout(draw), X, y, *args, changes_self=True, draws=("numpy",))


@door("neural_network.AdversarialMaxoutClassifier.partial_fit", 1)
def _(draw):
    X, y, _n = _training(draw)
    model = _maxout(draw)
    odd = [None, [], [0], "a", 3, [0, 0], [None, 1], [np.nan, 1], [[0, 1]], ["a", 1], [0.5, 1.5]]
    classes = draw.usual_or_odd([[0, 1], [0, 1, 2], ["a", "b"], [-1, 1]], odd)

    def partial_fit(model, X, y):
        for _ in range(2):
            model.partial_fit(X, y, classes=classes)
        return model

    return Call(partial_fit, model, X, y, changes_self=True, draws=("numpy",))


ATTACKING = {
    "norm": norm,
    "bounds": bounds,
    "labels": _one(["true", "predicted"], ["zz", None, 3]),
    "surrogate": surrogate,
    "target": _one([None, 0, "a"], ["zz", [0], np.nan]),
    "batch_size": _one([None, 5], [0, -1, "a", 2.5]),
    "device": lambda draw: device(draw, "auto"),
}


def _attacking(draw, cls):
    odd = [
        None,
        "SVC",
        SVC,
        3,
        StandardScaler(),
        fitted("linear"),
        DecisionTreeClassifier(max_depth=1),
    ]
    usual = [
        LogisticRegression(),
        SVC(random_state=0),
        linear_model.AdversarialLogisticRegression(C=1.0),
    ]
    params = {"epsilon": epsilon(draw), **_params(draw, ATTACKING, 0.15)}
    params["attack"], params["attack_params"] = attack(draw)
    params["random_state"], draws = draw.seed()
    if params.get("surrogate") is not None:
        draws = ("numpy", "torch")
    if cls is preprocessing.FGSMTransformer:
        params["stage"] = draw.usual_or_odd(["both", "train", "test"], ["zz", None])
    return cls(draw.usual_or_odd(usual, odd), **params), draws


def _steps(cls, method):
    def draw_call(draw):
        model, draws = _attacking(draw, cls)
        X, y, n = _training(draw)

        def call(model, X, y, *args):
            if method != "transform":
                return getattr(model, method)(X, y, *args)
            return model.fit(X, y, *args).transform(X)

        args = (weights(draw, n),) if draw.chance(0.2) else ()
        call.__qualname__ = f"{cls.__name__}.{method}"
        return Call(call, model, X, y, *args, changes_self=True, draws=draws)

    return draw_call


for _class in (preprocessing.FGSMTransformer, preprocessing.FGSMSampler):
    for _method in ("fit", "transform", "fit_transform", "fit_resample"):
        if hasattr(_class, _method) and (
            _method != "transform" or hasattr(_class, "fit_transform")
        ):
            door(f"preprocessing.{_class.__name__}.{_method}", 1)(_steps(_class, _method))
