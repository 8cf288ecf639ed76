"""`scripts/check_docstrings.py`: what it finds, and that the repository has none of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_docstrings.py"


def check(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('"""What it does."""', ":1: a docstring begins with"),
        ('class A:\n    """Of a kind."""', ':2: a docstring begins with "Of"'),
        ('def f():\n    """How it goes."""', 'begins with "How"'),
        ('async def f():\n    """\n    Whether it is."""', 'begins with "Whether"'),
        ('X = 1\n"""How many."""', 'begins with "How"'),
        ('def f(a):\n    """Do.\n\n    Args:\n        a: Of it.\n    """', ":5: a is described by"),
    ],
)
def test_a_docstring_that_begins_badly_is_found_with_its_line(
    tmp_path: Path, code: str, said: str
) -> None:
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    done = check(tmp_path / "a.py")
    assert done.returncode == 1
    assert said in done.stdout


@pytest.mark.parametrize("code", ['"""Whatever it does."""', 'x = "What"', '"""Office hours."""'])
def test_other_strings_are_not(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    assert check(tmp_path / "a.py").returncode == 0


def test_the_repository_has_none() -> None:
    done = check()
    assert done.returncode == 0, done.stdout
