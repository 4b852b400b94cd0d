"""The demo and the command line, on small settings."""

import re
import subprocess
import sys
from dataclasses import astuple, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

import sk_adv.__main__ as command_line
from sk_adv._demo import run as demo_run
from sk_adv._demo.models import Digits, Model, Result, Settings, load_digits, measure
from sk_adv._demo.report import Table
from sk_adv._demo.words import conclude, make_table, notes, pictures
from sk_adv.attacks._table import ATTACKS
from sk_adv.metrics import adversarial_accuracy_score, adversarial_confidence

SMALL = Settings(
    n_per_class=60,
    pgd_steps=3,
    n_folds=2,
    Cs=(0.02, 0.1),
    epsilons=(0.25, 0.3),
    alphas=(0.0,),
    hidden_layer_sizes=(20,),
    max_iter=4,
    n_measured=40,
    n_units=20,
    n_epochs=6,
    curve_epsilons=(0.0, 0.25),
    n_curve_digits=20,
)
FIGURES = [
    "curves.png",
    "digits.png",
    "digits_3_7.png",
    "filters.png",
    "overview.png",
    "weights.png",
]
MODELS = [
    "Logistic regression",
    "L1 logistic regression, tuned",
    "Adversarial logistic regression, tuned",
    "Maxout, plain",
    "Maxout, on FGSM copies",
    "Trained to resist attacks",
    "Trained for certificates",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One small run: the folder, the results, what was printed, and the progress bar."""
    folder = tmp_path_factory.mktemp("demo")
    bars = []

    class RecordedBar(demo_run.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)

    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run, "tqdm", RecordedBar)
        patch.setattr("builtins.print", lambda text: printed.append(text))
        results = demo_run.run(folder, SMALL)
    (bar,) = bars
    return folder, results, "\n".join(printed), bar


def test_every_model_is_measured(demo):
    _, results, _, _ = demo
    assert list(results) == MODELS
    for result in results.values():
        # From the weakest to what no attack can exceed.
        errors = [result.clean_error, result.pgd_error, result.strongest_error, result.uncertified]
        assert errors[0] >= 0 and errors == sorted(errors) and errors[-1] <= 1
        assert result.fgsm_error <= result.strongest_error


def test_the_plain_linear_model_falls_and_the_adversarial_one_stands_better(demo):
    _, results, _, _ = demo
    plain, _, adversarial = (results[name] for name in MODELS[:3])
    assert plain.fgsm_error > 0.8
    assert adversarial.fgsm_error < plain.fgsm_error - 0.2


def test_one_table_is_printed_with_a_row_for_each_model(demo):
    _, results, printed, _ = demo
    titles = ["Clean error", "FGSM error", "Confidence on errors", "PGD error"]
    titles += ["Strongest attack", "Certified error", "Training time"]
    assert all(printed.count(title) == 1 for title in titles)
    for name, result in results.items():
        (row,) = re.findall(rf"^  {re.escape(name)}  .*$", printed, flags=re.MULTILINE)
        shares = [float(share) / 100 for share in re.findall(r"([\d.]+)%", row)]
        np.testing.assert_allclose(shares, astuple(result), atol=5.1e-4)


def test_the_folder_is_named_and_holds_all_figures(demo):
    folder, _, printed, _ = demo
    assert str(folder.resolve()) in printed.splitlines()[-1]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FIGURES, "report.html"])
    for name in FIGURES:
        image = imread(folder / name)
        assert image.shape[0] > 300
        assert image.shape[1] > 600
        assert image[..., :3].std() > 0.02, f"{name} is blank"


def test_the_progress_bar_ends_where_it_said(demo):
    *_, bar = demo
    assert bar.n == bar.total


class Links(HTMLParser):
    """Collects the links and sources of a page, and checks that its tags match."""

    def __init__(self):
        super().__init__()
        self.targets, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.targets += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_holds_everything_and_loads_nothing(demo):
    folder, _, _, _ = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert not links.open
    assert len(links.targets) == len(FIGURES) - 1  # the overview is for elsewhere
    assert all(target.startswith("data:image/png;base64,") for target in links.targets)
    assert "url(" not in page
    assert "@import" not in page


def test_the_report_names_models_settings_seed_and_versions(demo):
    folder, _, _, _ = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in [
        *MODELS,
        "Parameters: L1",
        "bounds=None",
        "--seed 0",
        "torch 2",
        "sklearn",
        "sk_adv",
    ]:
        assert text in page


def test_fixed_words_claim_nothing_that_a_seed_could_refute(tmp_path):
    digits = Digits("Task", *(np.zeros(1) for _ in range(4)))
    words = [picture.caption for picture in pictures(tmp_path, SMALL)] + notes(digits, SMALL)
    outcome = re.compile(r"\b(after|without|than|better|stronger|localised|leaves|learns)\b")
    for text in words:
        # These phrases name a measurement and claim no result.
        text = re.sub(r"after (the attack|FGSM)|rather than", "", text)
        assert not outcome.search(text), text


def test_the_conclusion_names_the_networks_that_hold_best():
    digits = Digits("Task", *(np.zeros(1) for _ in range(4)))
    networks = [Model(name, digits, None, 1.0, "") for name in ("A", "B", "C")]

    def results(*shares):
        rows = (Result(0.0, 0.0, 0.0, 0.0, *share) for share in shares)
        return dict(zip("ABC", rows, strict=True))

    found = conclude(networks, results((1.0, 1.0), (0.2, 0.8), (0.3, 0.4)), SMALL)
    assert found == (
        "At ε = 0.25 the strongest attack makes 100% of “A” wrong, but only 20% of “B”; of “C” it "
        "is proved that no attack makes more than 40% wrong."
    )
    found = conclude(networks, results((1.0, 1.0), (0.6, 0.9), (0.7, 0.9)), SMALL)
    assert found == (
        "At ε = 0.25 no network holds: the strongest attack makes 60% even of “B” wrong; of “B” it "
        "is proved that no attack makes more than 90% wrong."
    )


@pytest.fixture(scope="module")
def small_model():
    """A linear model that an attack of ε = 0.25 fools on some samples, but not on all."""
    X, y = make_classification(n_samples=80, n_features=6, random_state=0)
    digits = Digits("Task", X[:40], X[40:], y[:40], y[40:])
    estimator = LogisticRegression().fit(digits.X_train, digits.y_train)
    return Model("small", digits, estimator, 1.0, "")


def test_measured_numbers_are_the_librarys_scores(small_model):
    result = measure(small_model, SMALL)
    test = small_model.estimator, small_model.digits.X_test, small_model.digits.y_test
    pgd = {
        "attack": "pgd",
        "attack_params": {"n_steps": SMALL.pgd_steps},
        "random_state": SMALL.seed,
    }
    scores = [
        1 - adversarial_accuracy_score(*test, epsilon=0),
        1 - adversarial_accuracy_score(*test, epsilon=SMALL.epsilon, attack="fgsm"),
        adversarial_confidence(*test, epsilon=SMALL.epsilon, attack="fgsm"),
        1 - adversarial_accuracy_score(*test, epsilon=SMALL.epsilon, **pgd),
        # The strongest attack and the proof are exact for a linear model.
        *2 * [1 - adversarial_accuracy_score(*test, epsilon=SMALL.epsilon, attack="exact")],
    ]
    np.testing.assert_allclose(astuple(result), scores)
    assert 0 < result.clean_error < result.fgsm_error < 1


def test_each_attack_is_made_once(small_model, monkeypatch):
    made = []
    for name, attack in list(ATTACKS.items()):

        def counted(*args, name=name, attack=attack, **kwargs):
            made.append(name)
            return attack.function(*args, **kwargs)

        monkeypatch.setitem(ATTACKS, name, replace(attack, function=counted))
    measure(small_model, SMALL)
    assert sorted(made) == ["auto", "fgsm", "pgd"]


def test_without_errors_there_is_no_confidence(small_model):
    harmless = replace(SMALL, epsilon=0.0)
    digits = small_model.digits
    answers = small_model.estimator.predict(digits.X_test)
    perfect = replace(small_model, digits=replace(digits, y_test=answers))
    result = measure(perfect, harmless)
    assert result.fgsm_error == 0
    assert np.isnan(result.confidence)


def test_test_digits_are_held_out_and_classes_are_even():
    digits = load_digits(replace(SMALL, n_per_class=20))
    assert digits.X_train.shape == (160, 784)
    np.testing.assert_array_equal(np.bincount(digits.y_test), np.full(10, 4))
    train = {row.tobytes() for row in digits.X_train}
    assert not train.intersection(row.tobytes() for row in digits.X_test)


def test_3_versus_7_keeps_the_split():
    X = np.arange(12.0).reshape(6, 2)
    y = np.array([3, 7, 1, 7, 3, 0])
    two = Digits("all", X, X[::-1], y, y[::-1]).only("two", (3, 7))
    np.testing.assert_array_equal(two.y_train, [3, 7, 7, 3])
    np.testing.assert_array_equal(two.X_test[:, 0], [8, 6, 2, 0])


def test_table_aligns_its_columns_and_escapes_its_cells():
    table = Table(("Model", "Error"), {"Task <1>": [("a & b", "5.0%"), ("long name", "100.0%")]})
    assert table.text().splitlines() == [
        "  Model       Error",
        "  -----------------",
        "Task <1>",
        "  a & b        5.0%",
        "  long name  100.0%",
    ]
    assert "Task &lt;1&gt;" in table.html()
    assert "a &amp; b" in table.html()


def test_confidence_without_errors_is_shown_as_a_dash():
    digits = Digits("Task", *(np.zeros(1) for _ in range(4)))
    result = Result(0.0, 0.0, float("nan"), 0.0, 0.0, 0.0)
    table = make_table([Model("perfect", digits, None, 1.0, "")], {"perfect": result}, SMALL)
    assert "–" in table.text()
    assert "nan" not in table.text()


# The command line


def test_the_command_line_passes_folder_and_seed_on(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(demo_run, "run", lambda *arguments: calls.append(arguments))
    output = tmp_path / "new" / "folder"
    command_line.main(["demo", "--output", str(output), "--seed", "3"])
    assert calls == [(output, Settings(seed=3))]
    assert output.is_dir()


def test_python_m_sk_adv_explains_itself():
    finished = subprocess.run(
        [sys.executable, "-m", "sk_adv", "demo", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--output DIR" in finished.stdout
    assert "default: sk_adv_demo" in finished.stdout


def test_missing_packages_give_one_sentence(monkeypatch):
    monkeypatch.setattr(
        command_line, "find_spec", lambda name: None if name in ("tqdm", "mlxtend") else object()
    )
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["demo"])
    assert stopped.value.code == (
        "python -m sk_adv demo needs mlxtend and tqdm, which can't be found: "
        'run pip install -e ".[demo]" in the checkout.'
    )


def test_a_folder_that_can_not_be_made_gives_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["demo", "--output", str(tmp_path / "file")])
    assert str(stopped.value.code).startswith("--output: the folder ")


@pytest.mark.parametrize("seed", ["-1", "0.5", "many", str(2**32)])
def test_a_bad_seed_is_refused(seed, capsys):
    with pytest.raises(SystemExit):
        command_line.main(["demo", "--seed", seed])
    assert "is not an integer from 0 to 4294967295" in capsys.readouterr().err


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit):
        command_line.main([])
    assert "COMMAND" in capsys.readouterr().err
