"""The command's help: its commands, its version, and completion for a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import jina_rerank


def command(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jina_rerank.cli", *arguments],
        env={**os.environ, "COLUMNS": "100", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_rank_first() -> None:
    names = re.findall(r"^│ ([a-z]+) ", command("--help"), flags=re.MULTILINE)
    assert names[0] == "rank"
    assert set(names) == {"rank", "models", "export", "eval", "distill", "serve", "mcp"}


def test_the_version_is_the_packages() -> None:
    assert command("--version") == f"jina-rerank {jina_rerank.__version__}\n"


def test_a_shell_is_told_the_commands_it_can_complete() -> None:
    # As bash asks: what stands before the cursor, in variables.
    said = command(
        "--show-completion",
        "bash",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "complete" in said
    assert "jina" in said
