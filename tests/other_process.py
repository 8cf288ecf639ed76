"""A program in a process of its own."""

import subprocess
import sys
import textwrap


def run_python(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program's text in this interpreter's like, with its output kept."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
