"""The texts of the demo: the table, notes on it, captions, and the settings."""

import platform
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
import skorch
import torch

import sk_adv
from sk_adv._demo.models import Digits, Model, Result, Settings
from sk_adv._demo.report import Picture, Table


def make_table(models: list[Model], results: dict[str, Result]) -> Table:
    """Make the table of results, with the models grouped by task."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for model in models:
        result = results[model.name]
        title = f"{model.digits.name}, {len(model.digits.y_test):,} test digits"
        groups.setdefault(title, []).append(
            (
                model.name,
                f"{result.clean_error:.1%}",
                f"{result.fgsm_error:.1%}",
                "–" if np.isnan(result.confidence) else f"{result.confidence:.1%}",
                f"{result.pgd_error:.1%}",
                f"{model.seconds:.2f} s",
            )
        )
    columns = (
        "Model",
        "Clean error",
        "FGSM error",
        "Confidence on errors",
        "PGD error",
        "Training time",
    )
    return Table(columns, groups)


def lead(digits: Digits, settings: Settings) -> str:
    """Summarise the experiment in one sentence."""
    return (
        f"Models are trained on {len(digits.y_train):,} MNIST digits, plainly and against an "
        f"adversary who may change every pixel by up to ε = {settings.epsilon:g}, and attacked on "
        f"{len(digits.y_test):,} others."
    )


def notes(two: Digits, settings: Settings) -> list[str]:
    """Explain how to read the table."""
    n_test = len(two.y_test)
    uncertainty = 100 * np.sqrt(0.3 * 0.7 / n_test)
    return [
        f"All errors are shares of the test digits that are misclassified, those wrong before the "
        f"attack included. The attacks see the true labels and change each pixel by up to "
        f"ε = {settings.epsilon:g}; the copies are not clipped to [0, 1] (bounds=None). Confidence "
        "on errors is the mean probability that the model gives its wrong answer after FGSM. "
        "Training time is that of one fit with the chosen parameters.",
        "For the linear models FGSM is the exact worst case and PGD can find nothing worse. For "
        "the networks it is not: FGSM takes a single step, and a network trained on FGSM copies "
        f"may resist that step and fall to a longer attack. PGD, {settings.pgd_steps} steps from "
        "a random start, is the number to judge a network by.",
        "The L1 and the adversarial logistic regression are tuned by GridSearchCV, in a Pipeline "
        "with a MinMaxScaler, by their accuracy under the table's own attack, so that the L1 "
        "penalty is a fair rival. The attack is on raw pixels, through the scaler. With "
        f"{n_test} test digits, an error of 30% has a standard error of {uncertainty:.0f} points.",
    ]


def pictures(output: Path, settings: Settings) -> list[Picture]:
    """List the figures with their captions.

    A caption says what is drawn and how to read it, and so holds for any result.
    """
    epsilon = f"ε = {settings.epsilon:g}"
    return [
        Picture(
            output / "curves.png",
            "Error against ε",
            "Share of test digits misclassified as the radius of the attack grows; the grey line "
            f"marks {epsilon}. Left: the linear models under their exact worst case. Right: the "
            f"networks on {settings.n_curve_digits} test digits, under FGSM (dashed) and PGD "
            "(solid). Where the two part, FGSM flatters the model.",
        ),
        Picture(
            output / "weights.png",
            "The weights of the linear models",
            "Ink on a red pixel speaks for a 7, on a blue one for a 3; a white pixel has no say. "
            "Each model has a scale of its own, beside it. An adversary who may move every pixel "
            "gains from each in proportion to the size of its weight, so compare how many pixels "
            "have a say, and how loud a one.",
        ),
        Picture(
            output / "digits_3_7.png",
            "3s and 7s and their adversarial copies",
            "The first test digits of each class. Each column: the input, the perturbation that "
            f"FGSM makes against the model named above at {epsilon}, and the copy, their sum. "
            "Below stands the model's answer and its probability, red where it is wrong.",
        ),
        Picture(
            output / "digits.png",
            "Ten classes: digits and their adversarial copies",
            "The first test digit of each class, attacked by FGSM on the plain network (above) and "
            f"on the adversarially trained one (below), each with copies of its own at {epsilon}.",
        ),
        Picture(
            output / "filters.png",
            "What the first layers look for",
            "The pieces of the first units of the first layer, each on a scale of its own: red "
            "for ink that raises the unit, blue for ink that lowers it. Compare how "
            "many show strokes and spots, and how many show noise.",
        ),
    ]


def describe(settings: Settings, models: list[Model], seconds: float) -> dict[str, str]:
    """List the settings and versions with which the run can be repeated."""
    chosen = {f"Parameters: {model.name}": model.chosen for model in models}
    packages = (sk_adv, sklearn, torch, skorch, np, matplotlib)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    grid = (
        f"L1: C in {{{listed(settings.Cs)}}}; adversarial: epsilon in "
        f"{{{listed(settings.epsilons)}}}, alpha in {{{listed(settings.alphas)}}}; "
        f"{settings.n_folds} stratified folds"
    )
    return {
        "Seed": str(settings.seed),
        "Attack": f"max-norm, epsilon={settings.epsilon:g}, bounds=None; PGD: one random start, "
        f"{settings.pgd_steps} steps of {2.5 * settings.epsilon / settings.pgd_steps:.3g}",
        "Grid search": grid,
        **chosen,
        "Networks": f"maxout, hidden layers of {listed(settings.hidden_layer_sizes)} units with "
        f"{settings.n_pieces} pieces, hidden dropout {settings.hidden_dropout:g}, "
        f"{settings.max_iter} epochs, copies at epsilon={settings.epsilon:g}",
        "Versions": f"Python {platform.python_version()}, {versions}",
        "Machine": f"{platform.machine()}, one thread",
        "Time in all": f"{seconds:.0f} s",
        "Run again": f"python -m sk_adv demo --seed {settings.seed}",
    }


def listed(values: tuple) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:g}" for value in values)
