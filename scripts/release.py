"""Make a release: python scripts/release.py cut 0.2.0, or print its notes: ... notes 0.2.0.

`cut` writes the version into every file of `PLACES`, commits them and tags the commit. It pushes
nothing. The embedded model has a version of its own, which changes with its weights: `--model`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
PLUGINS = {
    "llama-index": "llama_index/postprocessor/jina_rerank",
    "langchain": "langchain_jina_rerank",
    "haystack": "haystack_integrations/components/rankers/jina_rerank",
}
CORE = "src/jina_rerank/__init__.py"
MODEL = "models/mini/pyproject.toml"
CHANGELOGS = ["CHANGELOG.md", *(f"integrations/{name}/CHANGELOG.md" for name in PLUGINS)]


class ReleaseError(Exception):
    """The release cannot be made as things stand; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """A place that states the version.

    Attributes:
        path: The file, relative to the repository.
        pattern: Matches the text around the version, in two groups.
        form: The version as it is written there: `{version}`, `{minor}` (0.2), `{range}`
            (>=0.2,<0.3) or `{date}`.
        count: How often it stands there.
    """

    path: str
    pattern: str
    form: str = "{version}"
    count: int = 1


def dunder(path: str) -> Place:
    """The `__version__` of a module."""
    return Place(path, r'(^__version__ = ")[^"]+(")')


PLACES = [
    dunder(CORE),
    *(dunder(f"integrations/{name}/src/{path}/__init__.py") for name, path in PLUGINS.items()),
    Place(
        "pyproject.toml",
        r'(= \["(?:llama-index-postprocessor-jina-rerank|langchain-jina-rerank|'
        r'jina-rerank-haystack))[^"]+("\])',
        "{range}",
        3,
    ),
    *(
        Place(f"integrations/{name}/pyproject.toml", r'("jina-rerank)>[^"]+(")', "{range}")
        for name in PLUGINS
    ),
    Place("CITATION.cff", r"(^version: )\S+($)"),
    Place("CITATION.cff", r"(^date-released: )\S+($)", "{date}"),
    Place("deploy/Dockerfile", r'(ARG VERSION="==)[^"]+(")', "{minor}.*"),
    Place("deploy/helm/jina-rerank/Chart.yaml", r"(^version: )\S+($)"),
    Place("deploy/helm/jina-rerank/Chart.yaml", r'(^appVersion: ")[^"]+(")'),
    Place("deploy/helm/jina-rerank/values.yaml", r'(^  tag: ")[^"]+(")', "{minor}"),
    Place("deploy/kubernetes.yaml", r"(image: jina-rerank:)\S+($)", "{minor}"),
    Place("deploy/rayservice.yaml", r'("jina-rerank\[ray\]==)[^"]+(")', "{minor}.*"),
    Place("deploy/rayservice.yaml", r"(image: jina-rerank-ray:)\S+($)", "{minor}", 2),
    # The service's /info tells its version.
    Place("tests/server/openapi.json", r'("title": "Version",\s+"default": ")\d+\.\d+\.\d+(")'),
]
MODEL_PLACES = [
    Place(MODEL, r'(^version = ")[^"]+(")'),
    Place("pyproject.toml", r'("jina-rerank-mini)>[^"]+(")', "{range}", 2),
]


def cut(root: Path, version: str, model: str | None = None) -> None:
    """Set all versions, commit and tag.

    Args:
        root: The repository.
        version: The version of the core and of the plugins.
        model: The embedded model's, if its weights changed.

    Raises:
        ReleaseError: Something is not ready; nothing was changed.
    """
    _check_newer(version, _stated(root, PLACES[0]), "VERSION")
    if model is not None:
        _check_newer(model, _stated(root, MODEL_PLACES[0]), "MODEL")
    if git(root, "status", "--porcelain"):
        raise ReleaseError("there are changes that are not committed: commit or stash them")
    tag = f"v{version}"
    if git(root, "tag", "--list", tag):
        raise ReleaseError(f"the tag {tag} is there already")
    for path in CHANGELOGS:
        notes(root, version, path)
    written: dict[str, str] = {}
    for place in PLACES:
        _set(root, place, version, written)
    for place in MODEL_PLACES if model is not None else []:
        _set(root, place, model or "", written)
    for path, text in written.items():
        (root / path).write_text(text, encoding="utf-8")
    git(root, "add", *written)
    git(root, "commit", "--quiet", "--message", f"Version {version}")
    git(root, "tag", "--annotate", tag, "--message", f"jina-rerank {version}")
    print(f"{tag} is tagged. To publish it: git push --follow-tags")


def notes(root: Path, version: str, path: str = CHANGELOGS[0]) -> str:
    """The changelog's text about a version.

    Raises:
        ReleaseError: It has none, no date, or other changes that belong to no version.
    """
    sections = dict(_sections((root / path).read_text(encoding="utf-8")))
    heading = next((one for one in sections if one.startswith(f"{version},")), "")
    text = sections.get(heading)
    if not re.fullmatch(rf"{re.escape(version)}, \d{{4}}-\d\d-\d\d", heading) or not text:
        raise ReleaseError(
            f"{path} needs a section with the heading ## {version}, YYYY-MM-DD and its changes"
        )
    if sections.get("Unreleased"):
        raise ReleaseError(f"{path}: move what is under ## Unreleased to ## {version}")
    return text


def git(root: Path, *command: str) -> str:
    """The output of a git command.

    Raises:
        ReleaseError: It failed.
    """
    done = subprocess.run(
        ["git", "-C", str(root), *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(f"git {command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _sections(changelog: str) -> Iterator[tuple[str, str]]:
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        yield heading.strip(), text.strip()


def _stated(root: Path, place: Place) -> str:
    text = (root / place.path).read_text(encoding="utf-8")
    found = re.search(place.pattern.replace('[^"]+', '([^"]+)'), text, re.MULTILINE)
    if found is None:
        raise ReleaseError(f"{place.path} states no version")
    return found[2]


def _check_newer(version: str, stated: str, name: str) -> None:
    new, old = VERSION.fullmatch(version), VERSION.fullmatch(stated)
    if new is None:
        raise ReleaseError(f"{name} must be like 0.2.0, not {version!r}")
    if old is not None and tuple(map(int, new.groups())) < tuple(map(int, old.groups())):
        raise ReleaseError(f"{name} {version} is older than {stated}, which is there")


def _set(root: Path, place: Place, version: str, written: dict[str, str]) -> None:
    path = root / place.path
    text = written.get(place.path) or path.read_text(encoding="utf-8")
    major, minor, _ = map(int, version.split("."))
    after = f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"
    value = place.form.format(
        version=version,
        minor=f"{major}.{minor}",
        range=f">={major}.{minor},<{after}",
        date=datetime.now(UTC).date().isoformat(),
    )
    text, count = re.subn(
        place.pattern, lambda found: f"{found[1]}{value}{found[2]}", text, flags=re.MULTILINE
    )
    if count != place.count:
        raise ReleaseError(
            f"{place.path}: {place.pattern} matches {count} times, not {place.count}"
        )
    written[place.path] = text


def main() -> None:
    """Read the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("action", choices=["cut", "notes"])
    parser.add_argument("version")
    parser.add_argument("--model", help="the embedded model's version, if its weights changed")
    asked = parser.parse_args()
    try:
        if asked.action == "cut":
            cut(ROOT, asked.version, asked.model)
        else:
            print(notes(ROOT, asked.version))
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
