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


def make_table(models: list[Model], results: dict[str, Result], settings: Settings) -> Table:
    """Make the table of results, with the models grouped by task."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for model in models:
        result = results[model.name]
        n_digits = min(len(model.digits.y_test), settings.n_measured)
        title = f"{model.digits.name}, {n_digits:,} test digits"
        groups.setdefault(title, []).append(
            (
                model.name,
                f"{result.clean_error:.1%}",
                f"{result.fgsm_error:.1%}",
                "–" if np.isnan(result.confidence) else f"{result.confidence:.1%}",
                f"{result.pgd_error:.1%}",
                f"{result.strongest_error:.1%}",
                f"{result.uncertified:.1%}",
                f"{model.seconds:.2f} s",
            )
        )
    columns = (
        "Model",
        "Clean error",
        "FGSM error",
        "Confidence on errors",
        "PGD error",
        "Strongest attack",
        "Certified error",
        "Training time",
    )
    return Table(columns, groups)


def conclude(networks: list[Model], results: dict[str, Result], settings: Settings) -> str:
    """Say in one sentence which networks hold, by the numbers of the table."""
    attacked = min(networks, key=lambda model: results[model.name].strongest_error)
    proved = min(networks, key=lambda model: results[model.name].uncertified)
    others = [model for model in networks if model not in (attacked, proved)]
    fallen = " and ".join(
        f"{results[model.name].strongest_error:.0%} of “{model.name}”" for model in others
    )
    error, uncertified = results[attacked.name].strongest_error, results[proved.name].uncertified
    radius = f"At ε = {settings.epsilon:g}"
    if error < 0.5:
        found = (
            f"{radius} the strongest attack makes {fallen} wrong, but only {error:.0%} of "
            f"“{attacked.name}”"
        )
    else:
        found = (
            f"{radius} no network holds: the strongest attack makes {error:.0%} even of "
            f"“{attacked.name}” wrong"
        )
    return f"{found}; of “{proved.name}” it is proved that no attack makes more than " + (
        f"{uncertified:.0%} wrong."
    )


def lead(digits: Digits, settings: Settings) -> str:
    """Summarise the experiment in one sentence."""
    return (
        f"Models are trained on {len(digits.y_train):,} MNIST digits, plainly and against an "
        f"adversary who may change every pixel by up to ε = {settings.epsilon:g}, and attacked on "
        "others."
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
        f"may resist that step and fall to a longer attack. PGD takes {settings.pgd_steps} steps "
        'from a random start. The strongest attack is attack="auto". Certified error is the share '
        "of digits that are wrong or of which no bound proves that they stay right: the error "
        "under any attack, known or not, lies between the last two.",
        "The last two networks begin with a clamp of each pixel to "
        f"[{settings.clamp:g}, {1 - settings.clamp:g}], so that a small change of clear ink or "
        "paper has no effect. The one is trained on copies by single steps from random starts "
        "(fgsm_rs), the other on an upper bound of the loss within small boxes around such copies.",
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
            f"on the one that is trained to resist (below), each with its own copies at {epsilon}.",
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
        "Maxout networks": f"hidden layers of {listed(settings.hidden_layer_sizes)} units with "
        f"{settings.n_pieces} pieces, hidden dropout {settings.hidden_dropout:g}, "
        f"{settings.max_iter} epochs, copies at epsilon={settings.epsilon:g}",
        "Networks that hold": f"pixels clamped to [{settings.clamp:g}, {1 - settings.clamp:g}], "
        f"two layers of {settings.n_units} rectified units, {settings.n_epochs} epochs of Adam "
        "with a cosine schedule",
        "Versions": f"Python {platform.python_version()}, {versions}",
        "Machine": f"{platform.machine()}, one thread",
        "Time in all": f"{seconds:.0f} s",
        "Run again": f"python -m sk_adv demo --seed {settings.seed}",
    }


def listed(values: tuple) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:g}" for value in values)
