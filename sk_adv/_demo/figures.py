"""The demo's figures: weights and filters, digits and their copies, error against ε."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sk_adv._demo.models import Digits, Model, Settings, pgd_params
from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay

BLUE, ORANGE, GREEN, PURPLE = "tab:blue", "tab:orange", "tab:green", "tab:purple"


def draw_weights(path: Path, models: list[Model]) -> None:
    """Draw the weights of the linear models as images."""
    figure = Figure(figsize=(4.2 * len(models), 3.7), layout="constrained")
    for ax, model in zip(figure.subplots(1, len(models)), models, strict=True):
        FilterDisplay.from_estimator(model.estimator, ax=ax, colorbar=True)
        ax.set_title(model.name, fontsize=11)
    save(figure, path)


def draw_filters(path: Path, models: list[Model]) -> None:
    """Draw first-layer filters of the networks."""
    figure = Figure(figsize=(6.2 * len(models), 6.8), layout="constrained")
    for ax, model in zip(figure.subplots(1, len(models)), models, strict=True):
        FilterDisplay.from_estimator(model.estimator, max_filters=100, scale="each", ax=ax)
        ax.set_title(model.name, fontsize=13)
    save(figure, path)


def draw_examples(path: Path, models: list[Model], settings: Settings) -> None:
    """Draw test digits and their FGSM copies against each model."""
    X, y = first_of_each_class(models[0].digits, n_samples=10)
    figure = Figure(figsize=(11, 3.9 * len(models)), layout="constrained")
    for ax, model in zip(figure.subplots(len(models), 1), models, strict=True):
        AdversarialExamplesDisplay.from_estimator(
            model.estimator, X, y, epsilon=settings.epsilon, ax=ax
        )
        ax.set_title(model.name, fontsize=13)
    save(figure, path)


def draw_curves(
    path: Path, linear: list[Model], networks: list[Model], settings: Settings
) -> list[RobustnessCurveDisplay]:
    """Draw error against ε for all models; return the curves of the linear ones."""
    figure = Figure(figsize=(11, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    exact = [
        RobustnessCurveDisplay.from_estimator(
            model.estimator,
            model.digits.X_test,
            model.digits.y_test,
            epsilons=np.linspace(0, max(settings.curve_epsilons), 31),
            attacks="fgsm",
            name=model.name,
            ax=left,
            curve_kwargs={"color": color, "marker": ""},
        )
        for model, color in zip(linear, (BLUE, ORANGE, GREEN), strict=True)
    ]
    for model, color in zip(networks, (BLUE, ORANGE, GREEN, PURPLE), strict=True):
        for attack, style, params in (("fgsm", "--", None), ("pgd", "-", pgd_params(settings))):
            RobustnessCurveDisplay.from_estimator(
                model.estimator,
                model.digits.X_test[: settings.n_curve_digits],
                model.digits.y_test[: settings.n_curve_digits],
                epsilons=settings.curve_epsilons,
                attacks=attack,
                attack_params=params,
                random_state=settings.seed,
                name=f"{model.name}, {attack.upper()}",
                ax=right,
                curve_kwargs={"color": color, "linestyle": style},
            )
    left.set_title("3 versus 7 (FGSM is the exact worst case)")
    right.set_title("Ten classes")
    for ax in (left, right):
        finish_curves(ax, settings)
    save(figure, path)
    return exact


def finish_curves(ax: Axes, settings: Settings) -> None:
    """Mark the radius of the table, lighten the frame, put the legend below the curves."""
    ax.axvline(settings.epsilon, color="0.8", linewidth=1, zorder=0)
    ax.set_xlabel("radius ε of the perturbation (pixels from 0 to 1)")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)


def draw_overview(
    path: Path, model: Model, curves: list[RobustnessCurveDisplay], settings: Settings
) -> None:
    """Draw one picture of a linear model's digits under attack and several models' curves."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, right = (part.subplots() for part in figure.subfigures(1, 2, width_ratios=(1.25, 1)))
    X, y = first_of_each_class(model.digits, n_samples=6)
    AdversarialExamplesDisplay.from_estimator(
        model.estimator, X, y, epsilon=settings.epsilon, ax=left
    )
    left.set_title(f"{model.name}, attacked at ε = {settings.epsilon:g}")
    for curve in curves:
        style = {"color": curve.line_.get_color(), "marker": ""}
        curve.plot(ax=right, curve_kwargs=style)
    right.set_title("3 versus 7: error under the exact worst case")
    finish_curves(right, settings)
    save(figure, path)


def first_of_each_class(digits: Digits, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test digits of each class, in turn; none is picked by hand."""
    classes = np.unique(digits.y_test)
    each = -(-n_samples // len(classes))
    rows = [np.flatnonzero(digits.y_test == digit)[:each] for digit in classes]
    rows = np.stack(rows, axis=1).ravel()[:n_samples]
    return digits.X_test[rows], digits.y_test[rows]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150, facecolor="white")
