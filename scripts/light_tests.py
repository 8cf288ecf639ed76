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
from collections.abc import Sequence
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
    "test_reranker.py",
    "scorers/remote",
    "scorers/sagemaker",
    "scorers/test_cache.py",
    "scorers/test_cache_store.py",
]
"""The files below tests that need neither torch nor a model's weights."""


def main() -> None:
    """Read the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--python", action="append", help="an interpreter; again for more")
    parser.add_argument("--constraint", help="a file with pinned versions")
    parser.add_argument("--lowest", action="store_true", help="the ranges' lowest versions")
    asked = parser.parse_args()
    failed = []
    for python in asked.python or [sys.executable]:
        if asked.lowest:
            # Apart: a framework may ask for more of a package than the core does.
            runs = [("lowest-core", ROOT, []), *((f"lowest-{p.name}", p, [p]) for p in PLUGINS)]
        else:
            runs = [("pinned" if asked.constraint else "newest", ROOT, PLUGINS)]
        for name, project, plugins in runs:
            started = time.monotonic()
            folder = FOLDER / f"{_version(python)}-{name}"
            constraint = Path(asked.constraint) if asked.constraint else None
            if asked.lowest:
                FOLDER.mkdir(parents=True, exist_ok=True)
                constraint = FOLDER / f"{name}.txt"
                constraint.write_text("\n".join(lowest_versions(project)) + "\n", encoding="utf-8")
            interpreter = install(python, folder, constraint, plugins)
            # Old frameworks warn about the new versions of what they need.
            options = ["-W", "default"] if asked.lowest else []
            if not run_tests(interpreter, plugins, options, core=project == ROOT):
                failed.append(folder.name)
            print(f"{folder.name}: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"tests failed: {', '.join(failed)}")


def install(python: str, folder: Path, constraint: Path | None, plugins: Sequence[Path]) -> Path:
    """Make an environment with the core, the embedded model and plugins; its interpreter."""
    if not folder.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    pinned = [] if constraint is None else ["--constraint", str(constraint)]
    groups = [f"--group={plugin}/pyproject.toml:test" for plugin in plugins]
    groups.append(f"--group={ROOT}/pyproject.toml:light")
    ours = [f"{ROOT}[onnx]", str(ROOT / "models" / "mini"), *map(str, plugins)]
    editable = [word for path in ours for word in ("--editable", path)]
    subprocess.run([*pip, *pinned, *groups, *editable], check=True)
    return interpreter


def run_tests(
    interpreter: Path, plugins: Sequence[Path], options: Sequence[str], *, core: bool
) -> bool:
    """Run the core's tests, if asked for, and each plugin's; return whether all passed."""
    pytest = [str(interpreter), "-m", "pytest", "--quiet", *options]
    passed = True
    if core:
        # The repository's own conftest.py runs the pages, which need everything.
        command = [*pytest, "--confcutdir=tests", *(f"tests/{name}" for name in CORE_TESTS)]
        passed = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    for plugin in plugins:
        passed &= subprocess.run(pytest, cwd=plugin, check=False).returncode == 0
    return passed


def lowest_versions(project: Path) -> list[str]:
    """A pin for each requirement of a project of ours, at the lower end of its range.

    Its own requirements and those of the extra onnx are pinned, which are what these tests need.
    Other extras, such as local and server, are not installed for them, and not tested so.
    """
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    fields = tomllib.loads(text)["project"]
    extra = fields.get("optional-dependencies", {}).get("onnx", [])
    pins = []
    for requirement in [*fields["dependencies"], *extra]:
        found = re.match(r"([\w.-]+)>=([\d.]+)", requirement)
        if found and not found[1].startswith("jina-rerank"):
            pins.append(f"{found[1]}=={found[2]}")
    return pins


def _version(python: str) -> str:
    script = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
