"""Run the tests that need no torch, in environments of their own: python scripts/light_tests.py.

For interpreters and versions beside those of the main environment: the core's tests, and those of
each plugin from its own folder. The embedded model runs in ONNX Runtime there. Environments are
kept in build/light and brought up to date.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGINS = [ROOT / "integrations" / name for name in ("llama-index", "langchain", "haystack")]
FOLDER = ROOT / "build" / "light"
CORE_TESTS = [
    "test_arrows.py",
    "test_dialect_answers.py",
    "test_errors.py",
    "test_faults.py",
    "test_import.py",
    "test_inputs.py",
    "test_lines.py",
    "test_numbers.py",
    "test_reranker.py",
    "scorers/remote",
    "scorers/sagemaker",
    "scorers/test_cache.py",
    "scorers/test_cache_store.py",
    "scorers/test_cache_use.py",
    "scorers/test_fallback.py",
]
"""The files below tests that need neither torch nor a model's weights."""


def main() -> None:
    """Read the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--python", action="append", help="an interpreter; again for more")
    parser.add_argument("--constraint", help="a file with pinned versions")
    parser.add_argument("--lowest", action="store_true", help="the lowest that all ranges allow")
    asked = parser.parse_args()
    failed = []
    for python in asked.python or [sys.executable]:
        started = time.monotonic()
        version = _version(python)
        folder = FOLDER / (f"{version}-lowest" if asked.lowest else version)
        constraint = asked.constraint and Path(asked.constraint)
        if asked.lowest:
            FOLDER.mkdir(parents=True, exist_ok=True)
            constraint = FOLDER / "lowest.txt"
            constraint.write_text("\n".join(lowest_versions()) + "\n", encoding="utf-8")
        interpreter = install(python, folder, constraint)
        if not run_tests(interpreter):
            failed.append(folder.name)
        print(f"{folder.name}: {time.monotonic() - started:.0f} s")
    if failed:
        sys.exit(f"tests failed: {', '.join(failed)}")


def install(python: str, folder: Path, constraint: Path | None) -> Path:
    """Make an environment with the core, the embedded model and the plugins; its interpreter."""
    if not folder.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    pinned = [] if constraint is None else ["--constraint", str(constraint)]
    groups = [f"--group={plugin}/pyproject.toml:test" for plugin in PLUGINS]
    groups.append(f"--group={ROOT}/pyproject.toml:light")
    ours = [str(ROOT), str(ROOT / "models" / "mini"), *map(str, PLUGINS)]
    editable = [word for path in ours for word in ("--editable", path)]
    subprocess.run([*pip, *pinned, *groups, *editable], check=True)
    return interpreter


def run_tests(interpreter: Path) -> bool:
    """Run the core's tests and each plugin's; whether all passed."""
    pytest = [str(interpreter), "-m", "pytest", "--quiet"]
    # The repository's own conftest.py runs the pages, which need everything.
    core = [*pytest, "--confcutdir=tests/scorers", *(f"tests/{name}" for name in CORE_TESTS)]
    passed = subprocess.run(core, cwd=ROOT, check=False).returncode == 0
    for plugin in PLUGINS:
        passed &= subprocess.run(pytest, cwd=plugin, check=False).returncode == 0
    return passed


def lowest_versions() -> list[str]:
    """A pin for each requirement of our packages, at the lower end of its range."""
    ours = {"jina-rerank", *(plugin.name for plugin in PLUGINS)}
    pins: dict[str, str] = {}
    for folder in (ROOT, *PLUGINS):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        for requirement in [*project["dependencies"], *(one for e in extras.values() for one in e)]:
            found = re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)", requirement)
            if found and not found[1].startswith(
                ("jina-rerank", "langchain-jina", "llama-index-p")
            ):
                pins[found[1]] = max(pins.get(found[1], "0"), found[2], key=_numbers)
    return [f"{name}=={version}" for name, version in pins.items() if name not in ours]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _version(python: str) -> str:
    script = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
