"""Write a bill of materials: python scripts/sbom.py build/sbom.json.

In CycloneDX's format: our packages and whatever their dependencies and extras bring, with the
versions of the environment that runs this, which are those that the tests ran with.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = [
    "jina-rerank",
    "jina-rerank-mini",
    "llama-index-postprocessor-jina-rerank",
    "langchain-jina-rerank",
    "jina-rerank-haystack",
]


def closure() -> dict[str, set[str]]:
    """Each package that ours can bring, and the packages that it requires itself."""
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = deque((name, extra) for name in OURS for extra in ["", *_extras(name)])
    while waiting:
        name, extra = waiting.popleft()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        requires = found.setdefault(name, set())
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            wanted = canonicalize_name(requirement.name)
            if _is_installed(wanted):
                requires.add(wanted)
                waiting.extend((wanted, one) for one in ["", *requirement.extras])
    return found


def bill() -> dict[str, Any]:
    """The bill of materials, as CycloneDX 1.6 has it."""
    packages = closure()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component(distribution(OURS[0]))},
        "components": [
            _component(distribution(name)) for name in sorted(packages) if name != OURS[0]
        ],
        "dependencies": [
            {"ref": _purl(distribution(name)), "dependsOn": sorted(map(_purl_of, requires))}
            for name, requires in sorted(packages.items())
        ],
    }


def _component(package: Distribution) -> dict[str, Any]:
    metadata = package.metadata
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": canonicalize_name(metadata["Name"]),
        "version": package.version,
        "purl": _purl(package),
    }
    licence = metadata.get_all("License-Expression")
    if licence:
        component["licenses"] = [{"expression": licence[0]}]
    elif names := [
        one.split(" :: ")[-1]
        for one in metadata.get_all("Classifier", [])
        if one.startswith("License :: OSI Approved :: ")
    ]:
        component["licenses"] = [{"license": {"name": name}} for name in names]
    return component


def _purl(package: Distribution) -> str:
    # A label such as +cpu names a build of a version, which no index serves by that name.
    version = package.version.partition("+")[0]
    return f"pkg:pypi/{canonicalize_name(package.metadata['Name'])}@{version}"


def _purl_of(name: str) -> str:
    return _purl(distribution(name))


def _extras(name: str) -> list[str]:
    return distribution(name).metadata.get_all("Provides-Extra") or []


def _is_installed(name: str) -> bool:
    """A marker of another platform or a tool's own extra may name what is not here."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def main(path: Path) -> None:
    """Write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
