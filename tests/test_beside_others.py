"""The figures of the page on other libraries are those of the benchmarks' own results."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs/about/beside_others.rst").read_text(encoding="utf-8").split())
PAIRS = json.loads((ROOT / "benchmarks/robustness/results/strongest_attack.json").read_text())


def cells(table, section, *row):
    """The cells of the first row of a section that begins with the given cells."""
    text = (ROOT / "benchmarks/speed/results" / table).read_text(encoding="utf-8")
    body = re.split(rf"^#+ {re.escape(section)}$", text, flags=re.MULTILINE)[1]
    for line in body.split("\n"):
        found = [cell.strip() for cell in line.split("|")[1:-1]]
        if found[: len(row)] == list(row):
            return found
    raise AssertionError(row)


def figures(name):
    return np.array([pair[name] for pair in PAIRS.values()])


@pytest.mark.parametrize(
    ("section", "side"),
    [
        ("FGSM", "sk_adv, its default, batches of 1,309"),
        ("FGSM", "ART, batches of 1,309"),
        ("FGSM", "ART, its default, batches of 32"),
        ("FGSM", "Foolbox, `run`, batches of 1,309"),
        ("FGSM", "Foolbox, called, batches of 1,309"),
        ("FGSM without trainable weights", "sk_adv, its default, batches of 1,309"),
        ("FGSM without trainable weights", "Foolbox, `run`, batches of 1,309"),
    ],
)
def test_copies_a_second_are_those_of_the_table(section, side):
    assert f"{cells('attacks.md', section, side)[2]} " in PAGE


def test_no_pair_has_a_higher_accuracy_under_auto_than_under_auto_attack():
    gaps = 100 * (figures("square") - figures("auto"))
    assert gaps.min() >= -1e-9
    assert f"On all {len(PAIRS)} pairs".lower() in PAGE.lower()
    assert f"by up to {gaps.max():.1f} points" in PAGE


@pytest.mark.parametrize(
    ("side", "claim"),
    [
        ("ART", "on {n} of the 45, and {gap:.1f} points more on the worst"),
        ("Foolbox", "on {n} of the 45 pairs, by {gap:.1f} points on the worst"),
    ],
)
def test_other_pgd_leaves_more_digits_right(side, claim):
    gaps = 100 * (figures(side) - figures("auto"))
    assert claim.format(n=(gaps > 0.1).sum(), gap=gaps.max()) in PAGE


def test_processor_seconds_of_all_pairs():
    seconds = {name: figures(f"{name} seconds").sum() for name in ("ART", "Foolbox", "auto")}
    total = figures("square seconds").sum()
    ours = f"{seconds['auto']:.0f}"
    assert f"{seconds['ART']:.0f} processor seconds for all pairs, and {ours}" in PAGE
    assert f"All pairs take it {seconds['Foolbox']:.0f} processor seconds" in PAGE
    assert f"{seconds['auto']:.0f} processor seconds, and AutoAttack {total:,.0f}" in PAGE


def test_certificates_of_a_forest():
    row = cells("trees.md", "Breast cancer", "RandomForestClassifier", "ART, cliques")
    assert f"certifies {row[5]} of {row[2]} samples; for {row[9]} of these" in PAGE
    ours = cells("trees.md", "Breast cancer", "RandomForestClassifier", "sk_adv")
    assert ours[7].startswith("0 ") and ours[9] == "0"


def test_an_epoch_of_adversarial_training():
    art, ours = (
        cells("networks.md", "Batches of 100", side)[1]
        for side in ("ART, AdversarialTrainer", "sk_adv, alpha=0.5")
    )
    assert f"takes ART's trainer {art} s, and sk_adv {ours} s" in PAGE
