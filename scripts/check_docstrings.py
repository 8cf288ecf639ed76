"""Check how docstrings begin: python scripts/check_docstrings.py [FILE...]; all files by default.

A docstring's first line says what a thing is or does, and does not begin with "What", "Of", "How"
or "Whether"; a description of an argument or attribute does not begin with "Of". ruff has no such
rule.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST = re.compile(r"\s*(What|Of|How|Whether)\b")
ENTRY = re.compile(r"^ +(\w+)(?: \([^)]*\))?: (Of)\b", re.MULTILINE)


def problems(text: str) -> Iterator[tuple[int, str]]:
    """Lines of a module with a docstring that begins badly, with what is wrong."""
    for node in ast.walk(ast.parse(text)):
        for first, docstring in _docstrings(node):
            if found := FIRST.match(docstring):
                yield first, f'a docstring begins with "{found[1]}"'
            for entry in ENTRY.finditer(docstring):
                line = first + docstring.count("\n", 0, entry.start(1))
                yield line, f'{entry[1]} is described by "{entry[2]} …"'


def _docstrings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings on their own, with their lines: of modules, classes, functions and assignments."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for i, statement in enumerate(node.body):
        documents = i == 0 or isinstance(node.body[i - 1], ast.Assign | ast.AnnAssign)
        match statement:
            case ast.Expr(value=ast.Constant(value=str(text))) if documents:
                yield statement.lineno, text


def main(files: list[str]) -> None:
    """Print what is wrong, and end with status 1 if anything is."""
    if not files:
        command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "*.py"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        files = [str(ROOT / name) for name in listed.splitlines()]
    found = [
        f"{file}:{line}: {problem}"
        for file in files
        if Path(file).exists()
        for line, problem in problems(Path(file).read_text(encoding="utf-8"))
    ]
    print("\n".join(found))
    if found:
        sys.exit(f"{len(found)} docstrings do not say what a thing is or does")


if __name__ == "__main__":
    main(sys.argv[1:])
