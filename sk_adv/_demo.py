"""The demo: plain and adversarial models on real digits, trained, attacked and compared.

(a) 3 versus 7: logistic regression as scikit-learn has it, with an L1 penalty, and trained
    against the worst case; the last two tuned by cross-validation under attack.
(b) Ten classes: a maxout network, trained plainly and adversarially.
"""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
import skorch
import torch
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.fixes import parse_version
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import sk_adv
from sk_adv import AdversarialLogisticRegression, AdversarialMaxoutClassifier
from sk_adv._report import Picture, Table, write_report
from sk_adv.datasets import load_mnist_sample
from sk_adv.inspection import AdversarialExamplesDisplay, FilterDisplay, RobustnessCurveDisplay
from sk_adv.metrics import (
    adversarial_accuracy_score,
    adversarial_confidence,
    make_adversarial_scorer,
)

# scikit-learn 1.8 renamed penalty="l1".
L1 = (
    {"l1_ratio": 1.0}
    if parse_version(sklearn.__version__) >= parse_version("1.8")
    else {"penalty": "l1"}
)
BLUE, ORANGE, GREEN = "tab:blue", "tab:orange", "tab:green"


@dataclass(frozen=True)
class Settings:
    """Everything the demo can be told; the defaults take about a minute on two cores."""

    seed: int = 0
    n_per_class: int = 500
    test_size: float = 0.2
    # The attack of the table, on pixels from 0 to 1.
    epsilon: float = 0.25
    pgd_steps: int = 40
    # What the linear models are tuned over.
    n_folds: int = 5
    Cs: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    epsilons: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25)
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5)
    # The networks.
    hidden_layer_sizes: tuple[int, ...] = (240, 240)
    n_pieces: int = 2
    hidden_dropout: float = 0.2
    max_iter: int = 30
    # The curves of the networks, where PGD is the dear part.
    curve_epsilons: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    n_curve_digits: int = 400


@dataclass(frozen=True)
class Digits:
    """Training and test digits of one task."""

    name: str
    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray

    def only(self, name: str, classes: tuple[int, ...]) -> "Digits":
        """The digits of some classes."""
        train, test = np.isin(self.y_train, classes), np.isin(self.y_test, classes)
        return Digits(
            name, self.X_train[train], self.X_test[test], self.y_train[train], self.y_test[test]
        )


@dataclass(frozen=True)
class Model:
    """A fitted model, the digits it is for, and what its training took."""

    name: str
    digits: Digits
    estimator: BaseEstimator
    seconds: float
    chosen: str


@dataclass(frozen=True)
class Result:
    """What the table says of a model; errors and confidence are shares from 0 to 1."""

    clean_error: float
    fgsm_error: float
    confidence: float
    pgd_error: float


def run(output: Path, settings: Settings) -> dict[str, Result]:
    """Run the demo: print the table, write figures and report into an existing folder.

    Parameters
    ----------
    output : Path
        The folder.

    settings : Settings
        Sizes, grids and seed.

    Returns
    -------
    dict of str to Result
        The results by the models' names.
    """
    started = time.perf_counter()
    n_stages = 1 + 5 + 5 + 5  # load, train, attack, draw
    bar_format = "{desc:<50} {bar:30} {elapsed}"
    with one_thread(), tqdm(total=n_stages, bar_format=bar_format, leave=False) as bar:
        with stage(bar, "Loading 5,000 digits"):
            ten = load_digits(settings)
            two = ten.only("3 versus 7", (3, 7))

        with stage(bar, "Fitting logistic regression"):
            plain_linear = fit_logistic_regression(two)
        with stage(bar, "Tuning L1 logistic regression under attack"):
            l1_linear = tune_l1(two, settings)
        with stage(bar, "Tuning adversarial logistic regression"):
            adversarial_linear = tune_adversarial(two, settings)
        with stage(bar, "Training a maxout network plainly"):
            plain_network = train_network("Maxout, plain", ten, 1.0, settings)
        with stage(bar, "Training a maxout network adversarially"):
            adversarial_network = train_network("Maxout, adversarial", ten, 0.5, settings)
        linear = [plain_linear, l1_linear, adversarial_linear]
        networks = [plain_network, adversarial_network]

        results = {}
        for model in linear + networks:
            with stage(bar, f"Attacking: {model.name}"):
                results[model.name] = measure(model, settings)

        with stage(bar, "Drawing error against ε"):
            curves = draw_curves(output / "curves.png", linear, networks, settings)
        with stage(bar, "Drawing weights"):
            draw_weights(output / "weights.png", linear)
        with stage(bar, "Drawing filters"):
            draw_filters(output / "filters.png", networks)
        with stage(bar, "Drawing adversarial digits"):
            draw_examples(output / "digits_3_7.png", [plain_linear, adversarial_linear], settings)
            draw_examples(output / "digits.png", networks, settings)
        with stage(bar, "Drawing the overview"):
            draw_overview(output / "overview.png", plain_linear, curves, settings)

    table = make_table(linear + networks, results)
    seconds = time.perf_counter() - started
    report = output / "report.html"
    write_report(
        report,
        title="Training, attacking and defending on real digits",
        lead=lead(ten, settings),
        table=table,
        notes=notes(two, settings),
        pictures=pictures(output, settings),
        settings=describe(settings, linear + networks, seconds),
    )
    print(f"Attacks at ε = {settings.epsilon:g} (max-norm, pixels from 0 to 1, not clipped)\n")
    print(table.text())
    print(f"\nThe report: {report.resolve()}")
    print(f"Done in {seconds:.0f} s. The figures lie beside the report, in {output.resolve()}")
    return results


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core.

    On matrices this small a second thread gains little, and where other programs share the cores
    the threads wait for each other: ten times as long, at worst.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def stage(bar: tqdm, description: str) -> Iterator[None]:
    """Say what is being done; move the bar when it is done."""
    bar.set_description_str(description)
    yield
    bar.update()


# Data


def load_digits(settings: Settings) -> Digits:
    """Split the sample, or the first so many digits of each class, into training and test."""
    sample = load_mnist_sample()
    rows = np.concatenate(
        [np.flatnonzero(sample.target == digit)[: settings.n_per_class] for digit in range(10)]
    )
    X_train, X_test, y_train, y_test = train_test_split(
        sample.data[rows],
        sample.target[rows],
        test_size=settings.test_size,
        stratify=sample.target[rows],
        random_state=settings.seed,
    )
    return Digits("Ten classes", X_train, X_test, y_train, y_test)


# (a) 3 versus 7


def pipeline(classifier: BaseEstimator) -> Pipeline:
    """Put a scaler before the classifier: attacks go through it, in units of raw pixels."""
    return Pipeline([("scale", MinMaxScaler()), ("classify", classifier)])


def fit_logistic_regression(digits: Digits) -> Model:
    """Fit logistic regression with scikit-learn's defaults."""
    estimator = pipeline(LogisticRegression(max_iter=1000))
    started = time.perf_counter()
    estimator.fit(digits.X_train, digits.y_train)
    seconds = time.perf_counter() - started
    return Model("Logistic regression", digits, estimator, seconds, "C=1 (L2), not tuned")


def tune_l1(digits: Digits, settings: Settings) -> Model:
    """Choose the strength of an L1 penalty by the accuracy under attack."""
    classifier = LogisticRegression(**L1, solver="liblinear", random_state=settings.seed)
    search = search_under_attack(classifier, {"classify__C": settings.Cs}, digits, settings)
    chosen = f"C={search.best_params_['classify__C']:g}"
    return Model(
        "L1 logistic regression, tuned", digits, search.best_estimator_, search.refit_time_, chosen
    )


def tune_adversarial(digits: Digits, settings: Settings) -> Model:
    """Choose the training radius and the weight of the clean loss by the accuracy under attack."""
    grid = {"classify__epsilon": settings.epsilons, "classify__alpha": settings.alphas}
    search = search_under_attack(AdversarialLogisticRegression(), grid, digits, settings)
    best = search.best_params_
    chosen = f"epsilon={best['classify__epsilon']:g}, alpha={best['classify__alpha']:g}"
    return Model(
        "Adversarial logistic regression, tuned",
        digits,
        search.best_estimator_,
        search.refit_time_,
        chosen,
    )


def search_under_attack(classifier, grid, digits, settings):
    """Search a grid by cross-validation; FGSM is exact here, so this scores robust accuracy."""
    search = GridSearchCV(
        pipeline(classifier),
        grid,
        scoring=make_adversarial_scorer(epsilon=settings.epsilon),
        cv=StratifiedKFold(settings.n_folds, shuffle=True, random_state=settings.seed),
    )
    return search.fit(digits.X_train, digits.y_train)


# (b) Ten classes


def train_network(name: str, digits: Digits, alpha: float, settings: Settings) -> Model:
    """Train a maxout network; alpha = 1 makes no adversarial copies."""
    network = AdversarialMaxoutClassifier(
        settings.hidden_layer_sizes,
        settings.n_pieces,
        epsilon=settings.epsilon,
        alpha=alpha,
        hidden_dropout=settings.hidden_dropout,
        max_iter=settings.max_iter,
        random_state=settings.seed,
    )
    started = time.perf_counter()
    network.fit(digits.X_train, digits.y_train)
    return Model(name, digits, network, time.perf_counter() - started, f"alpha={alpha:g}")


# Attacks


def measure(model: Model, settings: Settings) -> Result:
    """Errors on the test digits: clean, after FGSM, after PGD from a random start."""
    test = model.estimator, model.digits.X_test, model.digits.y_test
    fgsm = {"epsilon": settings.epsilon, "attack": "fgsm"}
    pgd = {"epsilon": settings.epsilon, "attack": "pgd", **pgd_params(settings)}
    return Result(
        clean_error=1 - model.estimator.score(*test[1:]),
        fgsm_error=1 - adversarial_accuracy_score(*test, **fgsm),
        confidence=adversarial_confidence(*test, **fgsm),
        pgd_error=1 - adversarial_accuracy_score(*test, **pgd),
    )


def pgd_params(settings: Settings) -> dict:
    """The parameters of PGD, beside the radius."""
    return {"n_steps": settings.pgd_steps, "random_state": settings.seed}


# Figures


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
            name=model.name,
            ax=left,
            curve_kwargs={"color": color, "marker": ""},
        )
        for model, color in zip(linear, (BLUE, ORANGE, GREEN), strict=True)
    ]
    for model, color in zip(networks, (BLUE, GREEN), strict=True):
        for attack, style, params in (("fgsm", "--", {}), ("pgd", "-", pgd_params(settings))):
            RobustnessCurveDisplay.from_estimator(
                model.estimator,
                model.digits.X_test[: settings.n_curve_digits],
                model.digits.y_test[: settings.n_curve_digits],
                epsilons=settings.curve_epsilons,
                attack=attack,
                name=f"{model.name}, {attack.upper()}",
                ax=right,
                curve_kwargs={"color": color, "linestyle": style},
                **params,
            )
    left.set_title("3 versus 7 (FGSM is the exact worst case)")
    right.set_title("Ten classes")
    for ax in (left, right):
        finish_curves(ax, settings)
    save(figure, path)
    return exact


def finish_curves(ax, settings):
    """Mark the radius of the table, lighten the frame, put the legend where no curve runs."""
    ax.axvline(settings.epsilon, color="0.8", linewidth=1, zorder=0)
    ax.set_xlabel("radius ε of the perturbation (pixels from 0 to 1)")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)


def draw_overview(
    path: Path, model: Model, curves: list[RobustnessCurveDisplay], settings: Settings
) -> None:
    """Draw, in one picture, digits that fool a plain linear model and what training does for it."""
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
    """The first test digits, the classes in turn: nobody picked them."""
    classes = np.unique(digits.y_test)
    each = -(-n_samples // len(classes))
    rows = [np.flatnonzero(digits.y_test == digit)[:each] for digit in classes]
    rows = np.stack(rows, axis=1).ravel()[:n_samples]
    return digits.X_test[rows], digits.y_test[rows]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150, facecolor="white")


# Words


def make_table(models: list[Model], results: dict[str, Result]) -> Table:
    """Make the one table, the models grouped by task."""
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
    """Say what was done."""
    return (
        f"Models are trained on {len(digits.y_train):,} MNIST digits, plainly and against an "
        f"adversary who may change every pixel by up to ε = {settings.epsilon:g}, and attacked on "
        f"{len(digits.y_test):,} others."
    )


def notes(two: Digits, settings: Settings) -> list[str]:
    """Say how to read the table."""
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
        f"learns to resist that step above all. PGD, {settings.pgd_steps} steps from a random "
        "start, is the number to judge a network by.",
        "The L1 and the adversarial logistic regression are tuned by GridSearchCV, in a Pipeline "
        "with a MinMaxScaler, by their accuracy under the table's own attack: an L1 penalty so "
        "chosen is much stronger than one chosen for clean accuracy, and a fair rival. The attack "
        f"is on raw pixels, through the scaler. With {n_test} test digits, an error of 30% has a "
        f"standard error of {uncertainty:.0f} points.",
    ]


def pictures(output: Path, settings: Settings) -> list[Picture]:
    """List the figures with their captions."""
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
            "Ink on a red pixel speaks for a 7, on a blue one for a 3; each model has a scale of "
            "its own. Without an adversary nearly every pixel has a say, and small changes of "
            "each add up. An adversary who may move every pixel makes each weight cost ε times "
            "its size, which leaves the few pixels on which 3s and 7s differ most.",
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
            "for ink that raises the unit, blue for ink that lowers it. After adversarial training "
            "more of them are localised: strokes and spots rather than noise.",
        ),
    ]


def describe(settings: Settings, models: list[Model], seconds: float) -> dict[str, str]:
    """List what is needed to run it again."""
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
