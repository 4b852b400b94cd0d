"""How the arguments of each public function are drawn: `DOORS` maps its name to a function.

The name is that of the module, a dot, and that of the function, or of the class and the method. The
function gets a `Draw` and returns the `Call`; how often a door is taken is its share. This file has
the attacks and the scores.
"""

import numpy as np
import pandas as pd
import torch
from fuzz_models import classifier, fitted, module, surrogate, with_text
from fuzz_values import (
    NORMAL,
    attack,
    bounds,
    device,
    epsilon,
    indices,
    labels,
    norm,
    samples,
    shift,
    weights,
)
from fuzz_watch import Call

from sk_adv import attacks, metrics

DOORS, SHARES = {}, {}

# One line each: the name, and why no call is made.
NOT_FUZZED = {
    "metrics.RobustnessVerdict": "the result of metrics.verify_robustness",
    **{
        f"metrics.AdversarialContribution{method}": (
            "the result of metrics.adversarial_contribution, and what it holds"
        )
        for method in ("", ".order", ".to_frame")
    },
    **{
        f"inspection.AdversarialContributionDisplay{method}": (
            "its numbers are those of metrics.adversarial_contribution"
        )
        for method in ("", ".from_estimator")
    },
    "neural_network.AdversarialMaxoutClassifier.score": "that of scikit-learn, of predict",
    "audit.audit": "a report takes seconds, and its parts have doors of their own",
    **{
        f"audit.AuditReport{method}": "a report, of which audit.audit is the only maker"
        for method in ("", ".to_dict", ".to_html", ".to_json")
    },
    "datasets.fetch_mnist": "it downloads; tests/test_datasets.py has files cut short and others",
}
_INNER = {
    "called by the door of the class itself": {
        "neural_network.Maxout": ("constrain_weights", "forward", "extra_repr"),
        "neural_network.MaxoutNet": ("constrain_weights", "forward", "probabilities"),
        "neural_network.Checkpoint": ("on_epoch_end", "on_train_begin", "restore"),
        "neural_network.OverfittingGuard": ("on_epoch_end", "on_train_begin"),
        "neural_network.RobustEarlyStopping": (
            *("load_state_dict", "on_epoch_end", "on_resume", "on_train_begin", "on_train_end"),
            *("restore_best", "state_dict"),
        ),
        "differentiable.Chain": ("forward",),
        "differentiable.Enclosure": ("affine", "around", "limits"),
    },
    "called by the door of its method scores": {
        "tree.TreeSum": ("coordinates", "leaves", "scores_at"),
    },
    "called by the door of differentiable.enclose": {
        "differentiable.Enclosure": (
            *("between", "in_shape", "is_led_by", "of", "rivals", "values"),
        ),
    },
    "of a batch on the net's device, called by fit and by RobustEarlyStopping": {
        "neural_network.AdversarialNet": ("mixed_loss", "mixture_now"),
    },
    "a hook of skorch, called by fit or predict": {
        "neural_network.AdversarialNet": (
            *("as_one_module", "as_samples", "counted", "evaluation_step", "fit_loop", "notify"),
            *("forward_iter", "get_iterator", "get_loss", "get_params_for", "initialize"),
            *("get_params_for_optimizer", "get_split_datasets", "initialize_module"),
            *("on_epoch_begin", "prepare", "refresh", "run_single_epoch", "set_params"),
            *("train_step", "train_step_single", "training_steps", "validation_step"),
        ),
    },
    "drawn by from_estimator, from_estimators or from_predictions": {
        "inspection.AdversarialContributionDisplay": ("plot", "to_frame"),
        "inspection.AdversarialExamplesDisplay": ("plot",),
        "inspection.EpsilonSweepDisplay": ("plot", "to_frame"),
        "inspection.RobustnessCurveDisplay": ("plot", "to_frame"),
        "inspection.TransferMatrixDisplay": ("plot", "to_frame"),
        "inspection.VerdictDisplay": ("plot", "to_frame"),
    },
    "routing of metadata, by scikit-learn": {
        "preprocessing.FGSMTransformer": ("get_metadata_routing",),
    },
}
NOT_FUZZED |= {
    f"{owner}.{method}": reason
    for reason, owners in _INNER.items()
    for owner, methods in owners.items()
    for method in methods
}


def door(name, share=1.0):
    """Register how the arguments of a public name are drawn."""

    def register(function):
        DOORS[name], SHARES[name] = function, share
        return function

    return register


def data_for(draw, names, has_text):
    """X and y for a classifier of these classes."""
    X, n = samples(draw)
    if has_text and draw.chance(0.85):
        n = 12
        X = with_text(NORMAL[:n])
    return X, labels(draw, n, names), n


def threat(draw, X):
    """Arguments that say what an adversary may do."""
    kwargs = {"epsilon": epsilon(draw, X)}
    for name, value in (("norm", norm), ("bounds", lambda draw: bounds(draw, X))):
        if draw.chance(0.4):
            kwargs[name] = value(draw)
    return kwargs


def attacking(draw, X, names):
    """The arguments of `perturb` and of the scores, and the generators that they may move."""
    kwargs = threat(draw, X)
    kwargs["attack"], kwargs["attack_params"] = attack(draw)
    kwargs["random_state"], draws = draw.seed()
    if draw.chance(0.2):
        kwargs["surrogate"] = surrogate(draw)
        # A net has no seed of its own: torch's global state seeds it, as in skorch.
        draws = (*draws, "numpy", "torch") if kwargs["surrogate"] is not None else draws
    if draw.chance(0.2):
        kwargs["target"] = draw.usual_or_odd([None, names[0], names[-1]], ["zz", 9, [0], np.nan])
    if draw.chance(0.1):
        kwargs["device"] = device(draw)
    return kwargs, draws


@door("attacks.perturb", 4)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, _ = data_for(draw, names, has_text)
    kwargs, draws = attacking(draw, X, names)
    return Call(attacks.perturb, model, X, y, draws=draws, **kwargs)


def _score(function, allows=""):
    def draw_call(draw):
        model, names, has_text = classifier(draw)
        X, y, n = data_for(draw, names, has_text)
        kwargs, draws = attacking(draw, X, names)
        if draw.chance(0.3):
            kwargs["sample_weight"] = weights(draw, n)
        return Call(function, model, X, y, draws=draws, allows=allows, **kwargs)

    return draw_call


door("metrics.adversarial_accuracy_score", 3)(_score(metrics.adversarial_accuracy_score))
door("metrics.adversarial_confidence", 2)(_score(metrics.adversarial_confidence))


@door("metrics.certified_accuracy_score", 3)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, n = data_for(draw, names, has_text)
    kwargs = threat(draw, X)
    if draw.chance(0.3):
        kwargs["sample_weight"] = weights(draw, n)
    return Call(metrics.certified_accuracy_score, model, X, y, **kwargs)


def scale(draw, X):
    """A scale of radii."""
    return epsilon(draw, X) if draw.chance(0.5) else None


@door("metrics.robustness_radius", 2)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, _ = data_for(draw, names, has_text)
    y = draw.of(y, None)
    kwargs = {"norm": norm(draw), "scale": scale(draw, X), "random_state": draw.seed()[0]}
    # A sample that nothing moves has an infinite radius.
    return Call(metrics.robustness_radius, model, X, y, allows="inf", **kwargs)


@door("metrics.fragile_samples", 0.5)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, _ = data_for(draw, names, has_text)
    kwargs = {"norm": norm(draw), "scale": scale(draw, X), "time_limit": 0.1}
    kwargs |= {"random_state": draw.seed()[0], "n_samples": draw.usual_or_odd([1, 3], [0, None])}
    return Call(metrics.fragile_samples, model, X, draw.of(y, None), allows="inf", **kwargs)


@door("metrics.adversarial_contribution", 0.5)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, n = data_for(draw, names, has_text)
    kwargs = threat(draw, X) | {"time_limit": 0.1, "random_state": draw.seed()[0]}
    if draw.chance(0.3):
        kwargs["sample_weight"] = weights(draw, n)
    return Call(metrics.adversarial_contribution, model, X, y, **kwargs)


def radii(draw):
    """Several radii."""
    odd = [[-1, 0], [np.nan], [], 0.1, "a", None, [[0, 1]], [np.inf], ["a"], [0.1, 0.1], [None], 1j]
    odd += [{"a": 0.1}, pd.Series([0, 0.1]), torch.tensor([0, 0.1]), [1e300], range(2), {0.1}]
    return draw.usual_or_odd([[0, 0.1], [0.2], np.array([0.0, 0.5]), (0.1, 1)], odd)


def several_attacks(draw):
    """One attack or several."""
    usual = ["fgsm", ["fgsm", "sign_noise"], {"one": "fgsm"}, ("uniform_noise",), shift]
    odd = [[], {}, None, 3, ["fgsm", "fgsm"], {"a": {"attack": "pgd", "zz": 1}}, [None], {"a": 3}]
    odd += [
        {"a": {"attack": "pgd", "attack_params": {"n_steps": 2}}},
        {1: "fgsm"},
        "exact",
        {"fgsm"},
    ]
    odd += [{"a": {"attack": "fgsm", "attack_params": 3}}, iter(["fgsm"]), b"fgsm", ["fgsm", 1]]
    return draw.usual_or_odd(usual, odd)


def over_radii(draw, X, n):
    """Arguments that reports and curves share."""
    kwargs = {"random_state": draw.seed()[0], "scale": scale(draw, X)}
    choices = (("norm", norm), ("bounds", lambda draw: bounds(draw, X)), ("device", device))
    choices += (("sample_weight", lambda draw: weights(draw, n)), ("surrogate", surrogate))
    choices += (("attack_params", lambda draw: draw.of(None, {}, {"n_steps": 1}, 3, {"zz": 1})),)
    for name, value in choices:
        if draw.chance(0.2):
            kwargs[name] = value(draw)
    return kwargs


@door("metrics.adversarial_report", 1)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, n = data_for(draw, names, has_text)
    args = model, X, y, radii(draw), several_attacks(draw)
    # The confidence on errors is NaN where there is no error, as is an unknown certificate.
    options = {"draws": ("numpy", "torch"), "allows": "nan", **over_radii(draw, X, n)}
    return Call(metrics.adversarial_report, *args, **options)


def several_models(draw):
    """Classifiers by name, and the names of their classes."""
    first, names, _ = classifier(draw)
    kind = {0: "numbers", "no": "words", "a": "words", -1: "odd numbers", 5: "odd numbers"}[
        names[0]
    ]
    second = fitted("linear", len(names), kind)
    odd = [[], {}, None, first, [None], [first, first], "models", {1: first}, [("a", first), 3]]
    usual = [[first, second], {"one": first, "two": second}, [("a", first), ("b", second)]]
    return draw.usual_or_odd(usual, odd), names


@door("metrics.transfer_error_matrix", 1)
def _(draw):
    models, names = several_models(draw)
    X, y, _ = data_for(draw, names, False)
    kwargs, draws = attacking(draw, X, names)
    # Errors are NaN where there is none to transfer.
    return Call(metrics.transfer_error_matrix, models, X, y, draws=draws, allows="nan", **kwargs)


@door("metrics.make_adversarial_scorer", 1)
def _(draw):
    model, names, has_text = classifier(draw)
    X, y, _ = data_for(draw, names, has_text)
    kwargs, draws = attacking(draw, X, names)
    names = ["accuracy", "neg_log_loss", "roc_auc", "balanced_accuracy", "f1_macro"]
    scoring = draw.usual_or_odd([*names, lambda model, X, y: 1.0], ["zz", 3, None, [], "r2"])

    def score(model, X, y):
        return metrics.make_adversarial_scorer(scoring, **kwargs)(model, X, y)

    # The areas under curves are NaN for one class, with a warning of scikit-learn.
    return Call(score, model, X, y, draws=draws, allows="nan")


# Attacks on modules.


def _on_module(function, is_random=False, has_direction=True):
    def draw_call(draw):
        given, n_classes = module(draw)
        X, n = samples(draw)
        kwargs, draws = threat(draw, X), ()
        args = given, X, indices(draw, n, n_classes), kwargs.pop("epsilon")
        if is_random:
            kwargs["random_state"], draws = draw.seed()
        if draw.chance(0.2):
            kwargs["batch_size"] = draw.usual_or_odd([None, 5], [0, -1, 2.5, "a", True])
        if has_direction and draw.chance(0.2):
            kwargs["targeted"] = draw.of(True, False)
        if function is attacks.pgd:
            kwargs["n_steps"] = draw.usual_or_odd([1, 3], [0, 1.5, "a", None])
        if function is attacks.fgsm_rs and draw.chance(0.3):
            odd = [0, -1, np.nan, np.inf, "a", None, [1.0], 1e300, 1e-300, True, np.array([1, 2])]
            kwargs["step"] = draw.usual_or_odd([1.25, 1, np.float32(0.5)], odd)
        return Call(function, *args, draws=draws, **kwargs)

    return draw_call


door("attacks.fgsm", 2)(_on_module(attacks.fgsm))
door("attacks.fgsm_rs", 1)(_on_module(attacks.fgsm_rs, is_random=True))
door("attacks.pgd", 2)(_on_module(attacks.pgd, is_random=True))
door("attacks.exact", 1.5)(_on_module(attacks.exact))
door("attacks.rotate_towards_gradient", 1)(_on_module(attacks.rotate_towards_gradient))
door("attacks.sign_noise", 1)(_on_module(attacks.sign_noise, True, False))
door("attacks.uniform_noise", 1)(_on_module(attacks.uniform_noise, True, False))


@door("attacks.log_odds_against", 0.3)
def _(draw):
    logits = torch.tensor(draw.numbers.normal(size=(5, draw.of(2, 3))) * draw.of(1, 1e30, 0))
    y = torch.tensor([0, 1, 0, 1, 0])
    logits = draw.of(logits, logits.float(), logits.half(), logits.bfloat16())
    return Call(attacks.log_odds_against, logits, y, allows="inf")


@door("attacks.register_attack", 0.3)
def _(draw):
    odd = [(3, shift), ("a", 3), (None, None), (["a"], shift), ("a", None), (b"a", shift)]
    args = draw.usual_or_odd([("fgsm", attacks.fgsm)], odd)
    kwargs = {"needs": draw.usual_or_odd(["module"], ["zz", None, 3, ["module"]])}
    # Registered as it is, so that the table stays the same.
    kwargs |= {"needs": "module"} if args[0] == "fgsm" else {}
    return Call(_register_again, *args, **kwargs)


def _register_again(name, function, **kwargs):
    from sk_adv.attacks._table import ATTACKS

    before = dict(ATTACKS)
    try:
        attacks.register_attack(name, function, **kwargs)
    finally:
        ATTACKS.update(before)
