"""The command line from files to files, and each fault in one sentence."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from sk_adv import AdversarialMaxoutClassifier
from sk_adv.__main__ import main
from sk_adv.audit import audit
from sk_adv.audit._files import read_model
from sk_adv.neural_network import AdversarialNet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, monkeypatch, pipeline, passengers):
    """A folder with the pipeline and its data, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    skops.io.dump(pipeline, "model.skops")
    X, y = passengers
    data = X.assign(lived=y, id=np.arange(len(y)))
    data.to_csv("data.csv", index=False)
    data.to_parquet("data.parquet")
    return tmp_path


def stopped(*arguments):
    """What the command says when it refuses."""
    with pytest.raises(SystemExit) as error:
        main(["audit", *arguments])
    assert error.value.code not in (0, None)
    return str(error.value.code)


def test_a_report_from_files_has_the_numbers_of_the_function(files, pipeline, passengers, capsys):
    arguments = ["--target", "lived", "--epsilon", "age=3,fare=0.1iqr", "--out", "report.html"]
    main(["audit", "model.skops", "data.parquet", *arguments])
    found = json.loads((files / "report.json").read_text(encoding="utf-8"))
    X, y = passengers
    expected = audit(pipeline, X, y, epsilon={"age": "3", "fare": "0.1iqr"}).to_dict()
    for part in ("verdict", "radius", "curve", "attacks", "status"):
        assert found[part] == expected[part]
    for part in ("contribution", "fragile"):
        del found[part]["time_limit"], expected[part]["time_limit"]
        assert found[part] == expected[part]
    printed = capsys.readouterr().out
    assert found["verdict"]["text"] in printed
    assert "report.html" in printed
    assert "report.json" in printed
    page = (files / "report.html").read_text(encoding="utf-8")
    assert found["verdict"]["text"] in page
    assert "not fitted on these columns of the data: id." in page
    assert len(found["settings"]["data_sha256"]) == 64


def test_csv_gives_the_same_as_parquet(files):
    for kind in ("csv", "parquet"):
        main(
            ["audit", "model.skops", f"data.{kind}", "--target", "lived", "--json", f"{kind}.json"]
        )
    one, two = (json.loads(Path(f"{kind}.json").read_text()) for kind in ("csv", "parquet"))
    assert one["curve"] == two["curve"]
    assert one["radius"] == two["radius"]


def test_a_model_of_arrays_takes_the_columns_in_their_order(files, numbers):
    X, y = numbers
    skops.io.dump(LogisticRegression().fit(X, y), "arrays.skops")
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=y, id=1)
    frame.to_csv("arrays.csv", index=False)
    line = ["arrays.skops", "arrays.csv", "--target", "y", "--columns", "a", "c"]
    assert "fitted on 4 features without names, and the data has 5 columns" in stopped(*line)
    main(["audit", *line, "--drop", "id", "--norm", "2", "--epsilon", "0.5"])
    found = json.loads(Path("audit.json").read_text())
    free = [row["column"] for row in found["radius"]["columns"] if not row["why_fixed"]]
    assert free == ["a", "c"]
    expected = audit(LogisticRegression().fit(X, y), X, y, epsilon=0.5, norm=2, columns=[0, 2])
    assert found["curve"] == expected.to_dict()["curve"]


def test_networks_come_from_files(files, numbers):
    X, y = numbers
    own = AdversarialMaxoutClassifier((4,), max_iter=2, random_state=0).fit(X, y)
    skops.io.dump(own, "own.skops")
    np.testing.assert_array_equal(read_model(Path("own.skops")).predict(X), own.predict(X))
    net = AdversarialNet(torch.nn.Linear(4, 2), max_epochs=2, verbose=0, device="cpu")
    joblib.dump(net.fit(X.astype(np.float32), y), "net.joblib")
    pd.DataFrame(X).assign(y=y).to_csv("numbers.csv", index=False)
    line = ["net.joblib", "numbers.csv", "--target", "y"]
    assert "can run any code" in stopped(*line)
    main(["audit", *line, "--allow-code-in-model"])
    found = json.loads(Path("audit.json").read_text())
    right = (net.predict(X.astype(np.float32)) == y).sum()
    assert found["verdict"]["n_right"] == right


def test_types_that_skops_does_not_know_have_to_be_named(files, passengers):
    X, y = passengers
    X = X[["fare", "deck"]]
    skops.io.dump(DecisionTreeClassifier(max_depth=2).fit(X, y), "tree.skops")
    line = ["tree.skops", "data.csv", "--target", "lived", "--epsilon", "fare=1"]
    if not (types := skops.io.get_untrusted_types(file="tree.skops")):
        pytest.skip("early versions of skops trust trees")
    (needed,) = types
    message = stopped(*line)
    assert message.endswith(f"pass --trust {needed}")
    main(["audit", *line, "--trust", needed])


def test_no_code_of_a_pickle_runs_without_leave(files):
    class Evil:
        def __reduce__(self):
            return Path.touch, (Path("ran"),)

    joblib.dump(Evil(), "evil.pkl")
    assert "--allow-code-in-model if you trust" in stopped("evil.pkl", "data.csv", "--target", "y")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.skops", "data.csv", "--target", "lived"], "'no.skops' can't be read (No such file"),
        (["model.skops", "no.csv", "--target", "lived"], "'no.csv' can't be read"),
        (["model.skops", "empty.csv", "--target", "lived"], "'empty.csv' is empty"),
        (["model.skops", "header.csv", "--target", "lived"], "'header.csv' holds no rows"),
        (["model.skops", "bad.parquet", "--target", "lived"], "can't be read as Parquet"),
        (["model.skops", "data.csv", "--target", "died"], "has no column 'died'; it has age, fare"),
        (
            ["model.skops", "few.csv", "--target", "lived"],
            "that the data lacks: port, deck",
        ),
        (["model.skops", "gaps.csv", "--target", "lived"], "1 of 2 rows have no label in 'lived'"),
        (["model.skops", "labels.csv", "--target", "lived"], "holds no label that the model knows"),
        (["model.skops", "data.csv", "--target", "lived", "--epsilon", "x=1"], "epsilon names"),
        (["model.skops", "data.csv", "--target", "lived", "--epsilon", "big"], "is not a radius"),
        (["model.skops", "data.csv", "--target", "lived", "--columns", "x"], "columns names"),
        (["model.skops", "data.csv", "--target", "lived", "--out", "no/a.html"], "does not exist"),
        (["model.skops", "data.csv", "--target", "lived", "--json", "audit.html"], "name one file"),
        (["broken.skops", "data.csv", "--target", "lived"], "is no skops file"),
    ],
)
def test_each_fault_is_one_sentence(files, arguments, message):
    Path("empty.csv").touch()
    Path("header.csv").write_text("age,fare,port,deck,lived\n")
    Path("bad.parquet").write_bytes(b"PAR1 and no more")
    Path("broken.skops").write_bytes(b"PK\x03\x04 and no more")
    Path("few.csv").write_text("age,fare,lived\n1,2,yes\n")
    Path("gaps.csv").write_text("age,fare,port,deck,lived\n1,2,C,0,yes\n1,2,C,0,\n")
    Path("labels.csv").write_text("age,fare,port,deck,lived\n1,2,C,0,maybe\n1,3,C,0,maybe\n")
    found = stopped(*arguments)
    assert message in found
    assert found.startswith("sk_adv audit: ")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("option", "value"), [("--time-limit", "0"), ("--max-seconds", "soon"), ("--norm", "1")]
)
def test_wrong_options_show_the_usage(option, value, capsys):
    with pytest.raises(SystemExit) as error:
        main(["audit", "m", "d", "--target", "y", option, value])
    assert error.value.code == 2
    assert option in capsys.readouterr().err


def test_the_console_script_is_this_command(monkeypatch, capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["sk-adv"].partition(":")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sk-adv", "audit", "--help"])
    with pytest.raises(SystemExit) as error:
        getattr(import_module(module), name)()
    assert error.value.code == 0
    assert "usage: sk-adv audit" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"]])
def test_help_imports_nothing_that_takes_time(arguments):
    code = (
        "import sys\nfrom sk_adv.__main__ import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'sklearn', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "[]"
