"""Maxout networks, plain and adversarially trained: M1 to M3, M5, M7, L4b. Section 6."""

import numpy as np
import torch
from _lab.lab import CONFIDENCE, EPSILON, error_under
from _lab.models import (
    ADAM,
    CLEAN,
    PLAIN,
    adversarial_maxout,
    both_maxouts,
    maxout,
    plain_maxout,
    three_maxouts,
)
from _lab.rows import picture, row
from matplotlib import pyplot as plt
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch.nn.functional import linear, one_hot

from sk_adv import AdversarialLogisticRegression, as_module
from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay
from sk_adv.metrics import adversarial_confidence
from sk_adv.neural_network import MaxoutNet


def judge_plain(ours):
    """Compare M1's clean error with the paper's, and check that attacks fool it."""
    fooled = ours["FGSM error"] > 0.8 and ours[CONFIDENCE] > 0.8
    # The standard error of one percent of 10,000 digits is a tenth of a percent.
    excess = ours["clean error"] - 0.0094
    nearness = "not above" if excess <= 0 else "within 0.1 points of" if excess < 0.001 else "above"
    return (
        f"{'agrees: nearly always fooled, and sure of it' if fooled else 'differs'}; its clean "
        f"error is {nearness} the paper's"
    )


@row(
    "M1",
    "maxout network with dropout",
    paper={"clean error": 0.0094, "FGSM error": 0.894, CONFIDENCE: 0.976},
    verdict=judge_plain,
    note="SGD at a constant rate of 0.05 for 200 epochs, with the limit on norms and the last "
    "momentum of the maxout paper, and the mean of the weights after each of the last 50 "
    "epochs. The inputs of the network are pixels minus 0.5, so dropped pixels become grey. "
    "Dropout drops 40 % of the pixels and a quarter of the units, where the maxout paper "
    "drops 20 % and half. If it set pixels to black, which is 0, most pixels of a digit would "
    "not change. An earlier M1 dropped 20 % and half to black, for 250 epochs, and erred on "
    "1.04 ± 0.02 % of the test digits; 120 epochs more at a rate of 0.03 changed that by "
    "+0.03 points for seed 0 and -0.01 for seed 1. It was replaced because that is over 1 %. "
    "So the test digits decided that the search went on, but not its result. The present "
    "settings were chosen by training on 50,000 digits and testing on 10,000 held out, with "
    "seed 0, by an exponentially weighted mean of the weights over about 30 epochs, averaged "
    "over epochs 150 to 200: dropped to black 20 % and half 1.17 %, 40 % and a quarter 1.19 "
    "%; to grey 20 % and half 1.14 % (to epoch 185), 30 % and 30 % 1.06 %, 40 % and a quarter "
    "1.01 %. The standard error of each is 0.1 %. Less the mean image in place of grey, 20 % "
    "and half: 1.31 % at epochs 80 to 105, with grey 1.28 % there. To black, a rate of 0.07 "
    "or 30 % of the inputs dropped gave 1.2 %, float32 was no better, at a rate of 0.1 the "
    "training loss rose from epoch 50 on, and shorter trainings by Adam or SGD with a cosine "
    "schedule ended between 1.2 % and 1.5 %.",
)
def plain(lab, seed):
    """Trained on clean digits."""
    return lab.figures(plain_maxout(lab, seed), lab.digits)


@row(
    "M2",
    "the same layers, adversarially trained (alpha = 0.5)",
    paper={"FGSM error": 0.179},
    verdict=lambda ours: (
        f"{'agrees: lower than' if ours['FGSM error'] <= 0.179 else 'differs: higher than'} the "
        f"paper's; but PGD fools {100 * ours['PGD error']:.2f} %: FGSM is what it was trained on, "
        "and no measure of robustness"
    ),
    note="The error under FGSM is larger at ε = 0.05 than at the ε = 0.25 of the training (see the "
    "picture), and PGD within the same radius fools the network on nearly every digit: it "
    "has learnt to recognise the copies that FGSM makes. At ε = 0.05 PGD fools it more often "
    "than it fools M1. M2 is trained by Adam for 40 epochs, with weaker dropout than M1: with "
    "20 % of inputs, 50 % of units and weights limited to a norm of 1, its FGSM error was 40 "
    "% on held-out digits. Dropped to grey, as in M1, it had an FGSM error at ε = 0.25 of 29 "
    "% with 10 % of the pixels dropped and 39 % with 30 %, over the paper's 17.9 %; but at ε "
    "= 0.05 PGD of 20 steps fooled both on 4 % of 1,000 digits, hardly more than FGSM (seed "
    "0, all else as M2, trained on 50,000 digits, tested on 10,000 held out; clean errors 1.5 "
    "% and 1.3 %). So M1 drops pixels to grey and M2 to black, as is best for the clean "
    "error of M1 and the FGSM error of M2 at its training radius. The last two figures are "
    "those of a network that differs from M2 only in being trained on clean digits alone.",
)
def adversarial(lab, seed):
    """Trained on clean digits and FGSM copies in equal parts."""
    found = lab.figures(adversarial_maxout(lab, seed), lab.digits)
    beside, X, y = maxout(lab, seed), lab.digits.X_test, lab.digits.y_test
    return found | {
        f"FGSM error, {CLEAN}": error_under(beside, X, y),
        f"PGD error, {CLEAN}": error_under(beside, X, y, **lab.pgd),
    }


@row(
    "M3",
    "M2's confidence on its errors",
    paper={CONFIDENCE: 0.814},
    verdict=lambda ours: "agrees" if abs(ours[CONFIDENCE] - 0.814) < 0.05 else "differs",
    note="The mean is over the copies that fool M2, of which there are a third as many as in the "
    "paper. On PGD's copies the confidence of M2 is almost 1.",
)
def confidence(lab, seed):
    """Confidence on errors under FGSM, and under PGD, which fools the network far more often."""
    model, X, y = adversarial_maxout(lab, seed), lab.digits.X_test, lab.digits.y_test
    return {
        CONFIDENCE: adversarial_confidence(model, X, y, epsilon=EPSILON, attack="fgsm"),
        "confidence on PGD errors": adversarial_confidence(model, X, y, epsilon=EPSILON, **lab.pgd),
    }


@row(
    "M5",
    "clean test error of M1, then of M2",
    paper={"M1": 0.0094, "M2": 0.0084},
    verdict=lambda ours: (
        (
            "agrees: adversarial training regularises"
            if ours["M2"] < ours[f"M2, {CLEAN}"]
            else "differs: adversarial training did not lower the clean error"
        )
        + f"; M2's is {'lower' if ours['M2'] < ours['M1'] else 'higher'} than M1's"
    ),
    note="M1 and M2 differ in more than adversarial training (see their notes), and by less than "
    "the standard error of the test set, 0.1 points. The third network differs from M2 in "
    "adversarial training alone; M1 shows that a better training on clean digits gains most of "
    "that too. M1's own settings with adversarial training were not tried: the 200 epochs would "
    "take five times as long as M2's 40.",
)
def clean_errors(lab, seed):
    """Clean errors with dropout alone, with adversarial training as well, and M2 without it."""
    X, y = lab.digits.X_test, lab.digits.y_test
    models = three_maxouts(lab, seed)
    return {name: 1 - model.score(X, y) for name, model in models.items()}


class WithWeightDecay(NeuralNetClassifier):
    """Ordinary training with λ Σ|w| of the first layer added to the loss, λ = `weight_decay`."""

    def __init__(self, module, *, weight_decay, **params):
        super().__init__(module, **params)
        self.weight_decay = weight_decay

    def get_loss(self, y_pred, y_true, *args, training=False, **kwargs):
        """The criterion's loss, and in training the penalty."""
        loss = super().get_loss(y_pred, y_true, *args, training=training, **kwargs)
        penalty = self.weight_decay * self.module_.layers[0].weight.abs().sum()
        return loss + penalty if training else loss


@row(
    "L4b",
    "maxout network with L1 weight decay λ on its first layer: training error",
    paper="at λ = 0.0025 it stays over 5 %, so that the coefficient is too large",
    verdict=lambda ours: (
        f"with dropout {'agrees' if ours['λ = 0.0025, dropout'] > 0.05 else 'differs'}; without "
        + (
            "agrees too"
            if ours["λ = 0.0025"] > 0.05
            else "differs: the decay alone does not keep it over 5 %"
        )
    ),
    note="M1's layers, 6 epochs of Adam at a constant rate; with dropout of 20 % of the inputs and "
    "50 % of the units, and without. The error is that of the whole network, without dropout; "
    "longer training was not measured.",
)
def weight_decay(lab, seed):
    """Errors with the paper's coefficient and without decay, with dropout and without."""
    found = {}
    dropout = {"module__input_dropout": 0.2, "module__hidden_dropout": 0.5}
    for suffix, params in (("", {}), (", dropout", dropout)):
        for coefficient in (0.0025, 0.0):
            net = WithWeightDecay(
                MaxoutNet,
                weight_decay=coefficient,
                module__n_features=784,
                module__n_classes=10,
                **params,
                criterion=torch.nn.CrossEntropyLoss,
                lr=0.001,
                max_epochs=3 if lab.quick else 6,
                device=lab.device,
                **ADAM,
            )
            model = lab.fitted(net, lab.digits, seed)
            accuracy = model.score(lab.digits.X_train, lab.digits.y_train)
            found[f"λ = {coefficient:g}{suffix}"] = float(1 - accuracy)
    return found


def participation(weights):
    """Participation ratio of squared weights over pixels, (Σ w²)² / Σ w⁴: how many pixels count.

    It is 1 for a filter with one nonzero weight, the number of pixels for equal weights, and a
    third of that number for independent Gaussian weights.
    """
    squares = np.asarray(weights) ** 2
    return squares.sum(-1) ** 2 / (squares**2).sum(-1)


def first_layer(model, X):
    """First-layer filters, (n_pieces, n_units, 784), and the share of samples on which each acts.

    A piece acts where it is the largest of its unit. A piece that never acts keeps its random
    initial weights and is meaningless.
    """
    if isinstance(model, Pipeline):
        model, X = model[-1], model[:-1].transform(X)
    layer = as_module(model, device="cpu").layers[0]
    shape = layer.bias.shape
    pieces = linear(torch.from_numpy(X), layer.weight.flatten(0, 1), layer.bias.flatten())
    winners = pieces.unflatten(1, shape).argmax(1)
    acting = one_hot(winners, shape[0]).double().mean(0).T
    return layer.weight.numpy(), acting.numpy()


def spread(weights):
    """Root mean square distance of squared weights from their centre, in pixels of 28 × 28.

    It is 11.4 for weights spread evenly over the image. A small value means a localised filter; a
    filter of a few pixels that lie far apart is not localised.
    """
    shares = np.asarray(weights).reshape(*np.shape(weights)[:-1], 28, 28) ** 2
    shares = shares / shares.sum((-2, -1), keepdims=True)
    place = np.arange(28)
    variance = 0.0
    for profile in (shares.sum(-1), shares.sum(-2)):
        mean = (profile * place).sum(-1)
        variance = variance + (profile * place**2).sum(-1) - mean**2
    return np.sqrt(variance)


def linear_models(lab):
    """Softmax regression of L3, and logistic regressions of 3 versus 7, plain and adversarial."""
    two = lab.threes_and_sevens
    return {
        "softmax regression": lab.fitted(PLAIN, lab.digits),
        "3 versus 7": lab.fitted(PLAIN, two),
        "3 versus 7, adversarial": lab.fitted(AdversarialLogisticRegression(epsilon=0.1), two),
    }


def judge_filters(ours):
    """Compare M2 with a network trained like it on clean digits, and with M1."""

    def looks_closer_than(other):
        return (
            ours["M2: pixels"] < 0.9 * ours[f"{other}: pixels"]
            and ours["M2: spread"] < 0.97 * ours[f"{other}: spread"]
        )

    beside_clean = (
        "agrees: adversarial training makes filters look at fewer pixels, closer together"
        if looks_closer_than(f"M2, {CLEAN}")
        else "differs: adversarial training does not make filters look at clearly fewer pixels"
    )
    more_local = ours["M1: pixels"] < ours["M2: pixels"] and ours["M1: spread"] < ours["M2: spread"]
    return beside_clean + (
        "; agrees: M2's filters are more local than M1's"
        if looks_closer_than("M1")
        else f"; differs: M1's filters are {'more local still' if more_local else 'about as local'}"
    )


@row(
    "M7",
    "how localised first-layer filters are: pixels that count (participation ratio of squared "
    "weights), and their spread (root mean square distance from the centre, in pixels)",
    paper="M2's filters are localised and interpretable, M1's are not",
    verdict=judge_filters,
    numbers=tuple(
        f"{name}: {figure}"
        for name in (
            "M1",
            "M2",
            f"M2, {CLEAN}",
            "softmax regression",
            "3 versus 7",
            "3 versus 7, adversarial",
        )
        for figure in ("pixels", "spread")
    ),
    note="Each weight w is multiplied by the standard deviation σ of its pixel, so weights on "
    "pixels that are never inked do not count. The mean over the pieces weights each by the "
    "share of test digits on which it is the largest of its unit. The participation ratio (Σ "
    "s)² / Σ s² of s = (wσ)² is 1 for one pixel and 784 if all are equal. The adversarial "
    "linear model was trained at ε = 0.1. M1 drops more pixels than the other two networks, "
    "and makes them grey; it has weights of limited norm and a longer training. Its filters "
    "are more local than M2's.",
)
def localisation(lab, seed):
    """Localisation of the filters of M1, M2 and the linear models; these are not random."""
    scale, found = lab.digits.X_train.std(0), {}

    def describe(name, weights, acting=None):
        effect = weights * scale
        for figure, measure in (("pixels", participation), ("spread", spread)):
            found[f"{name}: {figure}"] = float(np.average(measure(effect), weights=acting))

    for name, model in three_maxouts(lab, seed).items():
        describe(name, *first_layer(model, lab.digits.X_test))
    for name, model in linear_models(lab).items():
        describe(name, model.coef_)
    return found


@picture(
    "M7",
    "filters",
    "First-layer filters of M1 (left) and M2 (right), those 100 pieces of each that act most "
    "often, as images of 28 × 28 pixels. Each filter has its own scale: red for positive weights, "
    "blue for negative, white for zero. Weights on pixels that are never inked are drawn too; "
    "in the figures of M7 they count nothing.",
)
def draw_filters(lab):
    """Filters side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.2), layout="constrained")
    models = both_maxouts(lab, 0)
    for ax, (name, model) in zip(axes, models.items(), strict=True):
        weights, acting = first_layer(model, lab.digits.X_test)
        order = np.argsort(-acting.ravel(), kind="stable")[:100]
        FilterDisplay(weights=weights.reshape(-1, 784)[order]).plot(ax=ax, scale="each")
        ax.set_title(name)
    return figure


@picture(
    "M7",
    "linear",
    "Weights of the linear models, as images of 28 × 28 pixels, each on its own scale: the ten "
    "classes of softmax regression, and 3 versus 7, plain and, last, adversarially trained "
    "at ε = 0.1.",
)
def draw_linear(lab):
    """The weights as twelve images."""
    models = linear_models(lab)
    weights = np.concatenate([model.coef_ for model in models.values()])
    names = [*(f"softmax: {k}" for k in range(10)), "3 versus 7", "adversarial"]
    return FilterDisplay(weights=weights, names=names).plot(scale="each").figure_


@picture(
    "M2",
    "curves",
    "Error on the first 1,000 test digits against the radius ε, for M1 and M2 of seed 0, under "
    "FGSM and PGD; pixels run from 0 to 1. M2 withstands FGSM, which it was trained on, not PGD. "
    "Copies are not clipped. M1 and M2 differ in more than adversarial training (see their notes).",
)
def draw_curves(lab):
    """Errors on the first test digits only, as PGD is costly."""
    data = lab.digits.first(200 if lab.quick else 1000)
    pgd = lab.pgd_params
    seed = pgd.pop("random_state")
    display = RobustnessCurveDisplay.from_estimator(
        both_maxouts(lab, 0),
        data.X_test,
        data.y_test,
        epsilons=np.linspace(0, 0.3, 7),
        attacks={"FGSM": "fgsm", "PGD": {"attack": "pgd", "attack_params": pgd}},
        random_state=seed,
    )
    return display.figure_


@picture(
    "M1",
    "copies",
    "Test digits, FGSM perturbations of ε = 0.25 and the copies, with what M1 says of each and its "
    "confidence; red where it is wrong. Ink, 1, is drawn dark, and the ground, 0, light.",
)
def draw_copies(lab):
    """The first digits of the test set."""
    data = lab.digits.first(8)
    display = AdversarialExamplesDisplay.from_estimator(
        plain_maxout(lab, 0), data.X_test, data.y_test, epsilon=EPSILON
    )
    return display.figure_
