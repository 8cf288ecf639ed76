"""Imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jina_rerank

ROOT = Path(jina_rerank.__file__).parent
MODULES = {
    ".".join(["jina_rerank", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(
        ".__init__"
    ): path
    for path in ROOT.rglob("*.py")
}

ALLOWED: set[tuple[str, str]] = set()
"""Underscore modules of a sub-package that another one imports: who, and which. None is left."""


def imported(name: str, *, anywhere: bool) -> Iterator[str]:
    """The modules of the package that a module imports.

    Args:
        name: The module.
        anywhere: Those in functions and for type checkers, too.
    """
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if anywhere else at_module_level(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif base in MODULES:
                    yield base


def at_module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported; those for type checkers do not."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from at_module_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [one for handler in node.handlers for one in handler.body]
            yield from at_module_level([*node.body, *handlers, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from at_module_level(node.body)


def test_the_package_is_read_whole() -> None:
    assert len(MODULES) > 150
    assert "jina_rerank.spec" in set(imported("jina_rerank.reranker", anywhere=False))
    assert "jina_rerank.encoders" in set(imported("jina_rerank.scorers.local", anywhere=True))
    assert "jina_rerank.encoders" not in set(imported("jina_rerank.scorers.local", anywhere=False))


def test_imports_form_no_circle() -> None:
    graph = {name: set(imported(name, anywhere=False)) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_underscore_module_is_imported_from_another_package() -> None:
    wrong = set()
    for name, path in MODULES.items():
        own = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for other in imported(name, anywhere=True):
            *package, module = other.split(".")
            private = module.startswith("_") and len(package) > 1
            if private and not f"{own}.".startswith(f"{'.'.join(package)}."):
                wrong.add((name, other))
    assert wrong == ALLOWED


@pytest.mark.parametrize("room", ["encoders", "scorers"])
def test_what_scores_knows_nothing_of_what_uses_it(room: str) -> None:
    users = ("cli", "server", "ray", "evaluation", "distillation", "plugin", "reranker", "spec")
    for name in MODULES:
        if name.startswith(f"jina_rerank.{room}"):
            found = {other.split(".")[1] for other in imported(name, anywhere=True) if "." in other}
            assert not found & set(users), name
