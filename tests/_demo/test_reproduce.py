"""The command that repeats the paper's experiments, on the sample of digits."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from torch.optim.lr_scheduler import CosineAnnealingLR

from sk_adv import AdversarialMaxoutClassifier, as_module
from sk_adv.__main__ import main
from sk_adv._demo.reproduce import SCRIPTS
from sk_adv.datasets import load_mnist_sample
from sk_adv.neural_network import AdversarialNet, RobustEarlyStopping

IDS = ["F1", *(f"L{i}" for i in range(1, 6)), *(f"M{i}" for i in range(1, 9))]
IDS += [f"A{i}" for i in range(1, 7)]


def test_rows_are_measured_written_down_and_set_beside_the_papers_figures(tmp_path, monkeypatch):
    command = ["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path)]
    main(command)
    record = json.loads((tmp_path / "quick" / "results" / "L1.json").read_text())
    assert record["quick"] and record["seeds"] == [0] and record["versions"]["torch"]
    assert record["settings"]["models"][0]["model"] == "LogisticRegression(max_iter=1000)"
    assert len(record["seconds of measuring"]) == 1
    # FGSM is the worst case of a linear model of two classes.
    values = {name: found[0] for name, found in record["values"].items()}
    assert values["FGSM error"] == values["worst case error"] > values["clean error"]
    page = (tmp_path / "quick" / "paper.md").read_text()
    for row_id in IDS:
        assert f"| {row_id}" in page
    assert "| L1 | logistic regression, 3 versus 7 | clean error | 1.60 % |" in page
    assert "`LogisticRegression(max_iter=1000)` on sample, 3 versus 7" in page
    # Models in the cache are not fitted again.
    monkeypatch.setattr(LogisticRegression, "fit", None)
    main(command)


def test_unknown_row_is_named_with_those_there_are(tmp_path):
    with pytest.raises(SystemExit, match="no row L9; there are F1, L1, L2"):
        main(["reproduce", "--quick", "--only", "L9", "--cache", str(tmp_path)])


@pytest.fixture
def experiments(monkeypatch):
    """The modules of benchmarks/paper, by name."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module


def test_m8_stands_for_both_of_its_rows(experiments):
    rows_named = experiments("_lab.run").rows_named
    assert [row.id for row in rows_named(["M8", "M1"])] == ["M1", "M8a", "M8b"]


def test_figures_that_were_measured_before_a_change_are_marked_on_the_page(tmp_path):
    command = ["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path)]
    main(command)
    results = tmp_path / "quick" / "results"
    record = json.loads((results / "L1.json").read_text())
    record["row"], record["values"] = "L3", {"an older figure": [0.5]}
    (results / "L3.json").write_text(json.dumps(record))
    main(command)
    assert "to be run again" in (tmp_path / "quick" / "paper.md").read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--seeds", "0"], "integer of at least 1"),
        (["--device", "nonsense"], "--device: device='nonsense' can't be used"),
    ],
)
def test_wrong_options_are_named(option, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path), *option])
    assert message in f"{exit_.value} {capsys.readouterr().err}"


def test_a_cache_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="--cache: the folder"):
        main(["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path / "file")])


def test_a_model_in_the_cache_is_found_by_all_that_makes_it_another(
    experiments, tmp_path, monkeypatch
):
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    digits, fits = lab.digits, []
    fit = LogisticRegression.fit

    def counting(self, X, y):
        fits.append(len(X))
        return fit(self, X[:100], y[:100])

    monkeypatch.setattr(LogisticRegression, "fit", counting)
    lab.fitted(LogisticRegression(), digits)
    lab.fitted(LogisticRegression(verbose=1), digits)
    assert fits == [4000]
    lab.fitted(LogisticRegression(C=2.0), digits)
    lab.fitted(LogisticRegression(), digits.trained_on(500))
    lab.fitted(LogisticRegression(), digits.of_pixels(np.arange(99, 784)))
    assert fits == [4000, 4000, 500, 4000]


def test_key_of_a_model_does_not_depend_on_the_process(experiments):
    describe = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from _lab.lab import _parameters\n"
        "from maxout import WithWeightDecay\n"
        "from sk_adv.neural_network import MaxoutNet\n"
        "print(_parameters(WithWeightDecay(MaxoutNet, weight_decay=0.1, lr=0.1)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", describe],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_localisation_of_a_point_a_line_and_an_even_image(experiments):
    maxout = experiments("maxout")
    point, line, even = np.zeros((3, 28, 28))
    point[3, 4], line[5], even[:] = -2.0, 1.0, 0.1
    images = np.stack([point, line, even]).reshape(3, 784)
    np.testing.assert_allclose(maxout.participation(images), [1, 28, 784])
    # The variance of 0, ..., 27 is (28² - 1) / 12.
    one_axis = np.sqrt((28**2 - 1) / 12)
    expected = [0, one_axis, np.sqrt(2) * one_axis]
    np.testing.assert_allclose(maxout.spread(images), expected, atol=1e-12)


def test_first_layer_tells_which_piece_acts(experiments):
    X = load_mnist_sample().data[:200]
    y = np.arange(200) % 2
    model = AdversarialMaxoutClassifier((3,), 4, max_iter=1, random_state=0).fit(X, y)
    weights, acting = experiments("maxout").first_layer(model, X)
    bias = as_module(model).layers[0].bias.numpy()
    pieces = np.einsum("nf,puf->npu", X, weights) + bias
    for piece in range(4):
        np.testing.assert_allclose(acting[piece], (pieces.argmax(1) == piece).mean(0))


def test_m1_sees_how_pixels_differ_from_grey(experiments, tmp_path):
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    lab.fitted = lambda estimator, digits, **_: estimator
    models = experiments("_lab.models")
    M1, M2 = models.plain_maxout(lab, 0), models.adversarial_maxout(lab, 0)
    pixels = np.array([[0.0, 0.5, 1.0]])
    np.testing.assert_allclose(M1[0].fit_transform(pixels), [[-0.5, 0.0, 0.5]])
    assert isinstance(M1[-1], AdversarialMaxoutClassifier) and M1[-1].input_dropout == 0.4
    assert isinstance(M2, AdversarialMaxoutClassifier)


def test_first_layer_of_a_pipeline_sees_what_its_network_sees(experiments):
    X, y = load_mnist_sample().data[:200], np.arange(200) % 2
    network = AdversarialMaxoutClassifier((3,), 4, max_iter=3, random_state=0)
    model = make_pipeline(FunctionTransformer(experiments("_lab.models").from_grey), network)
    model.fit(X, y)
    first_layer = experiments("maxout").first_layer
    pairs = zip(first_layer(model, X), first_layer(model[-1], X - 0.5), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected)


def test_pipelines_are_told_apart_in_the_cache_and_written_out(experiments, tmp_path):
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    digits = lab.digits.trained_on(200)
    models = experiments("_lab.models")

    def fitted(**params):
        network = AdversarialMaxoutClassifier(
            **{"hidden_layer_sizes": (3,), "max_iter": 1, "random_state": 5} | params
        )
        steps = FunctionTransformer(models.from_grey), network
        return weights_of(lab.fitted(make_pipeline(*steps), digits)[-1])

    first = fitted()
    found = next(iter(lab.used.values()))
    assert found["seed"] == 5
    assert found["model"] == (
        "make_pipeline(FunctionTransformer(func=from_grey), "
        "AdversarialMaxoutClassifier(hidden_layer_sizes=(3,), max_iter=1))"
    )
    torch.testing.assert_close(fitted(verbose=1), first)
    assert len(list(tmp_path.iterdir())) == 1
    fitted(n_pieces=2)
    assert not torch.equal(fitted(random_state=6), first)
    assert len(list(tmp_path.iterdir())) == 3
    # The body of a function counts, and not only its name.
    assert "return X - 0.5" in experiments("_lab.lab")._source(models.from_grey)


def weights_of(model):
    return torch.nn.utils.parameters_to_vector(as_module(model).parameters())


def test_weights_are_the_mean_of_those_after_the_last_epochs(experiments):
    X, y = load_mnist_sample().data[:200], np.arange(200) % 2
    model = AdversarialMaxoutClassifier((3,), tol=-np.inf, random_state=0)
    last = [weights_of(clone(model).set_params(max_iter=n).fit(X, y)) for n in (5, 6, 7)]
    MeanWeights = experiments("_lab.models").MeanWeights
    mean = clone(model).set_params(max_iter=7, callbacks=[MeanWeights(3)]).fit(X, y)
    torch.testing.assert_close(weights_of(mean), sum(last) / 3, rtol=0, atol=1e-6)
    # Epochs of an earlier call do not count.
    once, again = (clone(model).set_params(max_iter=4, warm_start=True).fit(X, y) for _ in "ab")
    once.set_params(max_iter=3).fit(X, y)
    again.set_params(max_iter=3, callbacks=[MeanWeights(1)]).fit(X, y)
    torch.testing.assert_close(weights_of(again), weights_of(once), rtol=0, atol=1e-6)


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


def test_interrupted_trainings_are_kept_by_nobody(experiments, tmp_path):
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    callbacks = [experiments("_lab.models").MeanWeights(3), Interrupt()]
    model = AdversarialMaxoutClassifier((3,), max_iter=9, callbacks=callbacks, random_state=0)
    with pytest.raises(ConvergenceWarning, match="interrupted in epoch 1"):
        lab.fitted(model, lab.digits.trained_on(200))
    assert not list(tmp_path.iterdir())
    # Before the last epochs no mean is taken: the weights are those of the training.
    X, y = lab.digits.X_train[:200], lab.digits.y_train[:200]
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch 1"):
        interrupted = clone(model).fit(X, y)
    one_epoch = clone(model).set_params(max_iter=1, callbacks=None).fit(X, y)
    torch.testing.assert_close(weights_of(interrupted), weights_of(one_epoch))


class Kill(Callback):
    is_armed = False

    def on_epoch_begin(self, net, **kwargs):
        if self.is_armed and len(net.history) == 3:
            raise SystemExit


def test_killed_trainings_go_on_where_they_were(experiments, tmp_path, monkeypatch):
    lab = experiments("_lab.lab").Lab(tmp_path, quick=True)
    ADAM = experiments("_lab.models").ADAM
    maxout = AdversarialMaxoutClassifier((3,), max_iter=4, callbacks=[Kill()], random_state=0)
    shape = {"module__hidden_layer_sizes": (3,), "module__n_pieces": 2, "max_epochs": 4}
    shape |= {"train_split": ValidSplit(0.5, stratified=True, random_state=0)}
    schedule = LRScheduler(CosineAnnealingLR, T_max=4, step_every="batch")
    callbacks = [Kill(), RobustEarlyStopping("clean_error"), schedule]
    module = experiments("big").NormalisedMaxout
    net = AdversarialNet(module, callbacks=callbacks, classes=range(10), **ADAM | shape)
    for model, seed in ((maxout, None), (net, 0)):
        digits = lab.digits.trained_on(200)
        monkeypatch.setattr(Kill, "is_armed", True)
        with pytest.raises(SystemExit):
            lab.fitted(model, digits, seed, resumable=True)
        assert [path.suffix for path in tmp_path.iterdir()] == [".checkpoint"]
        monkeypatch.setattr(Kill, "is_armed", False)
        resumed = lab.fitted(model, digits, seed, resumable=True)
        other = experiments("_lab.lab").Lab(tmp_path / "other", quick=True)
        whole = other.fitted(model, digits, seed)
        torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=0, atol=0)
        [path] = tmp_path.glob("*.joblib")
        path.unlink()
        shutil.rmtree(other.cache)


def test_normalised_maxout_is_its_formula(experiments):
    module = experiments("big").NormalisedMaxout((3,), 2).double().eval()
    [layer], [norm] = module.layers, module.norms
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(1, 2)
    X = np.random.default_rng(0).normal(size=(7, 784))
    with torch.no_grad():
        found = module(torch.from_numpy(X))
        pieces = X @ layer.weight.numpy().T + layer.bias.numpy()
        pieces = (pieces - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-5)
        units = np.maximum(pieces[:, :3], pieces[:, 3:])
        expected = units @ module.output.weight.numpy().T + module.output.bias.numpy()
    np.testing.assert_allclose(found, expected)


def test_rbf_network_is_its_formula(experiments):
    rbf = experiments("rbf")
    rng = np.random.default_rng(0)
    centres, X = rng.normal(size=(3, 5)), rng.normal(size=(7, 5))
    module = rbf.RBF(torch.from_numpy(centres)).double()
    beta = np.exp(rng.normal(size=(3, 5)))
    module.log_beta.data = torch.from_numpy(np.log(beta))
    p = np.exp(-(beta * (X[:, None] - centres) ** 2).sum(2))
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(X)), np.log(p / (1 - p)))


def test_agreement_counts_the_digits_that_both_get_wrong(experiments):
    first, second = np.array([0, 1, 1, 2, 2]), np.array([0, 1, 2, 2, 1])
    y = np.array([0, 0, 0, 0, 2])
    agreement = experiments("rbf").agreement
    # Both are wrong on digits 1 to 3, and agree on 1 and 3.
    assert agreement(lambda X: first, lambda X: second, None, y) == 2 / 3


def test_share_of_noise_that_is_given_a_class(experiments):
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.4, 0.2]])
    found = experiments("rubbish").sure_of_noise(probabilities)
    assert found == {"given a class": 0.5, "confidence": pytest.approx(0.8)}


def test_summary_of_the_page_counts_the_verdicts(experiments, tmp_path):
    page, rows_named = experiments("_lab.page"), experiments("_lab.run").rows_named
    rows_named(None)
    page.write_page(SCRIPTS / "results", tmp_path / "paper.md")
    text = (tmp_path / "paper.md").read_text()
    verdicts = [
        line.split(" | ")[5] for line in text.split("\n") if re.match(r"\| [FLMA]\d[ab]? \|", line)
    ]
    agree = [verdict for verdict in verdicts if "agrees" in verdict and "differs" not in verdict]
    differ = [verdict for verdict in verdicts if "differs" in verdict and "agrees" not in verdict]
    both = [verdict for verdict in verdicts if "differs" in verdict and "agrees" in verdict]
    n_compared = len(agree) + len(differ) + len(both)
    assert (
        f"**{len(agree)} of {n_compared} rows agree with the paper**, {len(both)} agree in" in text
    )
    # Only the row that is a picture has nothing to compare.
    assert len(verdicts) - n_compared == 1
