"""Linear models: L1 to L5. Sections 4 and 5 of the paper.

For a linear model the worst case is computed, so that no stronger attack has to stand beside FGSM.
"""

import numpy as np
import sklearn
from _lab.lab import EPSILON
from _lab.rows import picture, row
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version

from sk_adv import AdversarialLogisticRegression
from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay
from sk_adv.metrics import make_adversarial_scorer

# scikit-learn 1.8 renamed penalty="l1".
RENAMED = parse_version(sklearn.__version__) >= parse_version("1.8")
L1 = {"l1_ratio": 1.0} if RENAMED else {"penalty": "l1"}
PLAIN = LogisticRegression(C=1.0, max_iter=1000)
CONFIDENCE = "confidence on FGSM errors"


def plain(lab):
    """Logistic regression on 3 versus 7."""
    return lab.fitted(PLAIN, lab.threes_and_sevens)


@row(
    "L1",
    "logistic regression, 3 versus 7",
    paper={"clean error": 0.016, "FGSM error": 0.99},
    verdict=lambda ours: (
        "agrees"
        if abs(ours["clean error"] - 0.016) <= 0.005 and ours["FGSM error"] >= 0.98
        else "differs"
    ),
    n_seeds=1,
)
def logistic_regression(lab, seed):
    """There is nothing random in it."""
    return lab.figures(plain(lab), lab.threes_and_sevens, exact=True)


@row(
    "L2",
    "figure: weights, their signs, digits and their copies",
    paper="picture",
    verdict=lambda ours: "the pictures below",
    n_seeds=1,
)
def share_of_signs(lab, seed):
    """Every step is ε sign(w), or its negative: the share of pixels it changes."""
    return {"pixels that move": float((plain(lab).coef_ != 0).mean())}


@picture(
    "L2",
    "weights",
    "Weights of the logistic regression of L1 (left; red for positive, blue for negative) and "
    "their signs (right), which are the direction of every FGSM step on it.",
)
def draw_weights(lab):
    """Left the weights, right their signs."""
    weights = plain(lab).coef_
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    shown = {"weights": weights, "signs of the weights": np.sign(weights)}
    for ax, (title, values) in zip(axes, shown.items(), strict=True):
        FilterDisplay(weights=values).plot(ax=ax, colorbar=True)
        ax.set_title(title)
    return figure


@picture(
    "L2",
    "copies",
    "Test digits, their FGSM perturbations at ε = 0.25 and the copies, with what the logistic "
    "regression says of each and its confidence.",
)
def draw_copies(lab):
    """The first threes and sevens of the test set."""
    data = lab.threes_and_sevens.first(8)
    display = AdversarialExamplesDisplay.from_estimator(
        plain(lab), data.X_test, data.y_test, epsilon=EPSILON
    )
    return display.figure_


def judge_softmax(ours):
    """Error and confidence, each by itself."""
    error = "the error agrees" if ours["FGSM error"] > 0.98 else "the error differs"
    if abs(ours[CONFIDENCE] - 0.793) < 0.1:
        return f"{error}, and so does the confidence"
    return f"{error}; the confidence is set by the size of the weights, so by their penalty"


@row(
    "L3",
    "shallow softmax, ten classes",
    paper={"FGSM error": 0.999, CONFIDENCE: 0.793},
    verdict=judge_softmax,
    n_seeds=1,
)
def softmax(lab, seed):
    """Logistic regression on all digits; there is nothing random in it."""
    return lab.figures(lab.fitted(PLAIN, lab.digits), lab.digits, exact=True)


def tuned(lab, data):
    """Four linear models, each chosen by cross-validation under the attack of ε = 0.25."""
    Cs = np.logspace(-4, 0, 5 if lab.quick else 9)
    epsilons = [0.1, 0.2, 0.25] if lab.quick else [0.05, 0.1, 0.15, 0.2, 0.25]
    grids = {
        "L2 weight decay": (LogisticRegression(max_iter=1000), {"C": Cs}),
        "L1 weight decay": (
            # liblinear knows two classes only.
            LogisticRegression(**L1, solver="liblinear")
            if len(np.unique(data.y_train)) == 2
            else LogisticRegression(**L1, solver="saga", tol=1e-2),
            {"C": Cs},
        ),
        "adversarial": (
            AdversarialLogisticRegression(),
            {"epsilon": epsilons, "alpha": [0.0, 0.5]},
        ),
    }
    scoring = make_adversarial_scorer(epsilon=EPSILON, attack="exact")
    models = {"plain": lab.fitted(PLAIN, data)}
    for name, (estimator, grid) in grids.items():
        models[name] = lab.fitted(GridSearchCV(estimator, grid, scoring=scoring, cv=3), data)
    return models


@row(
    "L4",
    "adversarial training against weight decay on 3 versus 7: error at the worst case",
    paper="the adversarial penalty fades as margins grow confident, that of L1 does not",
    verdict=lambda ours: (
        "agrees: tuned for the same attack, adversarial training beats L1"
        if ours["adversarial"] < ours["L1 weight decay"]
        else "differs"
    ),
    n_seeds=1,
)
def penalties(lab, seed):
    """Models tuned for the same attack; and how much of its penalty each still pays.

    The pull of ε‖w‖₁ on the weights is the mean of σ(ε‖w‖₁ - m): 1/2 at w = 0, and 0 for margins
    m that are confident in the worst case. That of L1 is a constant.
    """
    data = lab.threes_and_sevens
    models = tuned(lab, data)
    found = {
        name: lab.figures(model, data, exact=True)["worst case error"]
        for name, model in models.items()
    }
    for factor in (1, 2, 4):
        # Margins grow as the weights do: what is left of the pull?
        chosen = models["adversarial"].best_estimator_
        margins = (
            factor * np.where(data.y_train == 7, 1, -1) * chosen.decision_function(data.X_train)
        )
        slack = chosen.epsilon * factor * np.abs(chosen.coef_).sum() - margins
        found[f"pull with weights × {factor}"] = float(np.mean(1 / (1 + np.exp(-slack))))
    return found


@picture(
    "L4",
    "curves",
    "Error at the worst perturbation of radius ε, exactly, on 3 versus 7: logistic regression "
    "plain, and with each penalty tuned by cross-validation under attack at ε = 0.25.",
)
def draw_curves(lab):
    """The figure that the paper does not have."""
    data = lab.threes_and_sevens
    display = RobustnessCurveDisplay.from_estimator(
        tuned(lab, data),
        data.X_test,
        data.y_test,
        epsilons=np.linspace(0, 0.35, 15),
        attack="exact",
    )
    return display.figure_


@picture(
    "L4",
    "curves-ten",
    "The same on ten classes, each model trained on the first 10,000 training digits. The curve of "
    "the adversarial model is that of a convex upper bound, which is exact for two classes only.",
)
def draw_curves_of_ten(lab):
    """All ten classes."""
    data = lab.digits.trained_on(1000 if lab.quick else 10_000)
    display = RobustnessCurveDisplay.from_estimator(
        tuned(lab, data),
        data.X_test,
        data.y_test,
        epsilons=np.linspace(0, 0.25, 11),
        attack="exact",
    )
    return display.figure_


@row(
    "L5",
    "change of the activation under η = ε sign(w), as more pixels are seen",
    paper="ε·m·n: it grows with the number of features n",
    verdict=lambda ours: (
        "agrees in direction; it grows more slowly than n, as the weights shrink where there are "
        "more of them"
        if list(ours.values()) == sorted(ours.values())
        else "differs"
    ),
)
def growth(lab, seed):
    """ε‖w‖₁ of logistic regressions on n pixels drawn at random, over the spread of wᵀx."""
    data, order = lab.threes_and_sevens, np.random.default_rng(seed).permutation(784)
    found = {}
    for n_pixels in (49, 98, 196, 392, 784):
        pixels = order[:n_pixels]
        model = LogisticRegression(C=1.0, max_iter=1000)
        model.fit(data.X_train[:, pixels], data.y_train)
        spread = model.decision_function(data.X_test[:, pixels]).std()
        found[f"{n_pixels} pixels"] = float(EPSILON * np.abs(model.coef_).sum() / spread)
    return found
