"""The README's first program is as short as promised, runs, and prints what the README says."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAM = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)


def test_first_program_has_at_most_15_lines():
    assert len(PROGRAM.splitlines()) <= 15


def test_first_program_prints_what_the_readme_says(capsys):
    exec(compile(PROGRAM, "README.md", "exec"), {})
    assert f"It prints `{capsys.readouterr().out.strip()}`" in README
