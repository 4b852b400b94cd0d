"""The command that repeats the paper's experiments, on the sample of digits."""

import json

import pytest
from sklearn.linear_model import LogisticRegression

from sk_adv.__main__ import main

IDS = [*(f"L{i}" for i in range(1, 6)), *(f"M{i}" for i in range(1, 9))]
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
    # What is in the cache is not fitted again.
    monkeypatch.setattr(LogisticRegression, "fit", None)
    main(command)


def test_unknown_row_is_named_with_those_there_are(tmp_path):
    with pytest.raises(SystemExit, match="no row L9; there are L1, L2"):
        main(["reproduce", "--quick", "--only", "L9", "--cache", str(tmp_path)])


def test_m8_stands_for_both_of_its_rows_and_l4_for_itself(tmp_path):
    main(["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path)])
    from _lab.run import rows_named

    assert [row.id for row in rows_named(["M8", "L4"])] == ["L4", "M8a", "M8b"]


def test_figures_that_were_measured_before_a_change_are_marked_on_the_page(tmp_path):
    command = ["reproduce", "--quick", "--only", "L1", "--cache", str(tmp_path)]
    main(command)
    results = tmp_path / "quick" / "results"
    record = json.loads((results / "L1.json").read_text())
    record["row"], record["values"] = "L3", {"an older figure": [0.5]}
    (results / "L3.json").write_text(json.dumps(record))
    main(command)
    assert "to be run again" in (tmp_path / "quick" / "paper.md").read_text()
