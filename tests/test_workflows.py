"""The workflows in .github: pinned, without permissions of their own, by make targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
)


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_permission_and_its_actions_are_pinned_by_hash(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
    named = re.findall(r"uses: \S+@\S+(.*)", path.read_text(encoding="utf-8"))
    assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", version) for version in named)


def test_every_make_target_that_a_workflow_calls_is_there() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "ci.yml")
    called: set[str] = set()
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        targets = matrix.get("target", []) + [one["target"] for one in matrix.get("include", [])]
        called |= set(targets)
    for step in steps(workflow):
        if step.get("run", "").startswith("make "):
            words = re.sub(r'"\$TARGET"', "", step["run"]).split()[1:]
            called |= {word for word in words if "=" not in word}
    assert called <= TARGETS
    assert {"lint", "types", "docs", "test", "test-light", "test-lowest", "coverage"} <= called


def test_tests_run_on_three_pythons_and_three_systems() -> None:
    matrix = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_only_a_tag_starts_a_release() -> None:
    # YAML reads the key "on" as true.
    workflow: dict[Any, Any] = read(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert "password: ${{ secrets.GITHUB_TOKEN }}" in text, "for the registry of images"
    assert not re.findall(r"secrets\.(?!GITHUB_TOKEN)", text), "PyPI is told by trusted publishing"
