"""`scripts/release.py`: five wheels' versions in one place, and what stops a release."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DAY = "2026-12-01"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


release = load("release")


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of this repository that tell a version, with 9.0.0 in the changelogs."""
    for place in (*release.PLACES, *release.MODEL_PLACES):
        (tmp_path / place.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place.path, tmp_path / place.path)
    for path in release.CHANGELOGS:
        (tmp_path / path).write_text(f"# Changes\n\n## 9.0.0, {DAY}\n\n- Better.\n", "utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    for name, value in {"NAME": "A", "EMAIL": "a@example.org"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    return tmp_path


def read(folder: Path, path: str) -> str:
    return (folder / path).read_text(encoding="utf-8")


def test_all_wheels_get_the_version_and_ask_for_each_other_in_its_range(repository: Path) -> None:
    release.cut(repository, "9.0.0")
    stated = [path for path in repository.rglob("__init__.py") if ".git" not in path.parts]
    assert len(stated) == 4
    for path in stated:
        assert '__version__ = "9.0.0"' in path.read_text(encoding="utf-8")
    core = tomllib.loads(read(repository, "pyproject.toml"))["project"]
    extras = core["optional-dependencies"]
    assert extras["llama-index"] == ["llama-index-postprocessor-jina-rerank>=9.0,<10"]
    assert extras["langchain"] == ["langchain-jina-rerank>=9.0,<10"]
    assert extras["haystack"] == ["jina-rerank-haystack>=9.0,<10"]
    for name in release.PLUGINS:
        plugin = tomllib.loads(read(repository, f"integrations/{name}/pyproject.toml"))
        assert "jina-rerank>=9.0,<10" in plugin["project"]["dependencies"]
    assert "version: 9.0.0" in read(repository, "CITATION.cff")
    chart = read(repository, "deploy/helm/jina-rerank/Chart.yaml")
    assert 'version: 9.0.0\nappVersion: "9.0.0"' in chart
    assert 'tag: "9.0"' in read(repository, "deploy/helm/jina-rerank/values.yaml")
    assert json.loads(read(repository, "tests/server/openapi.json"))
    deployed = read(repository, "deploy/Dockerfile") + read(repository, "deploy/rayservice.yaml")
    assert set(re.findall(r"==(\d\S+)\"", deployed)) - {"2.13.0"} == {"9.0.*"}
    assert git(repository, "tag", "--list") == "v9.0.0"
    assert git(repository, "status", "--porcelain") == ""


def test_the_embedded_model_has_a_version_of_its_own(repository: Path) -> None:
    before = read(repository, release.MODEL)
    release.cut(repository, "9.0.0")
    assert read(repository, release.MODEL) == before


def test_new_weights_get_a_new_version_in_both_places(repository: Path) -> None:
    release.cut(repository, "9.0.0", model="0.7.0")
    assert 'version = "0.7.0"' in read(repository, release.MODEL)
    assert read(repository, "pyproject.toml").count("jina-rerank-mini>=0.7,<0.8") == 2


def undated(folder: Path) -> None:
    path = folder / "CHANGELOG.md"
    path.write_text("# Changes\n\n## 9.0.0, unreleased\n\n- Better.\n", encoding="utf-8")
    git(folder, "commit", "--quiet", "--all", "--message", "undated")


def unreleased(folder: Path) -> None:
    path = folder / release.CHANGELOGS[2]
    text = path.read_text(encoding="utf-8").replace(
        "# Changes\n", "# Changes\n\n## Unreleased\n\n- x\n"
    )
    path.write_text(text, encoding="utf-8")
    git(folder, "commit", "--quiet", "--all", "--message", "unreleased")


def tagged(folder: Path) -> None:
    git(folder, "tag", "v9.0.0")


def dirty(folder: Path) -> None:
    (folder / "new.txt").write_text("x", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (undated, r"CHANGELOG\.md needs a section .*## 9\.0\.0, YYYY-MM-DD"),
        (unreleased, r"integrations/langchain/CHANGELOG\.md: move what is under ## Unreleased"),
        (tagged, "the tag v9.0.0 is there already"),
        (dirty, "not committed"),
    ],
)
def test_what_is_not_ready_is_said_and_nothing_is_changed(
    repository: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(repository)
    before = git(repository, "rev-parse", "HEAD")
    with pytest.raises(release.ReleaseError, match=problem):
        release.cut(repository, "9.0.0")
    assert git(repository, "rev-parse", "HEAD") == before
    assert 'version__ = "9.0.0"' not in read(repository, release.CORE)


@pytest.mark.parametrize("version", ["9.0", "v9.0.0", "0.0.1"])
def test_a_version_that_is_none_or_goes_back_is_refused(repository: Path, version: str) -> None:
    with pytest.raises(release.ReleaseError, match="VERSION"):
        release.cut(repository, version)


def test_the_notes_of_a_release_are_its_part_of_the_changelog(repository: Path) -> None:
    assert release.notes(repository, "9.0.0") == "- Better."


def test_the_notes_are_not_those_of_a_later_version_that_begins_alike(repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text(
        f"# Changes\n\n## 9.0.10, {DAY}\n\n- Later.\n\n## 9.0.1, {DAY}\n\n- Better.\n", "utf-8"
    )
    assert release.notes(repository, "9.0.1") == "- Better."


def test_the_bill_of_materials_has_what_extras_bring_and_nothing_else(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "sbom.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "sbom.json")], check=True)
    bill = json.loads(read(tmp_path, "sbom.json"))
    names = {component["name"] for component in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "jina-rerank"
    assert {"httpx", "torch", "tokenizers", "haystack-ai", "langchain-core"} <= names
    assert not {"pytest", "ruff", "mypy", "litellm"} & names
    known = {component["bom-ref"] for component in bill["components"]}
    for entry in bill["dependencies"]:
        assert set(entry["dependsOn"]) <= known | {bill["metadata"]["component"]["bom-ref"]}
