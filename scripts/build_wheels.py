"""Build the five wheels into a folder: python scripts/build_wheels.py dist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = [
    ROOT,
    ROOT / "models" / "mini",
    ROOT / "integrations" / "llama-index",
    ROOT / "integrations" / "langchain",
    ROOT / "integrations" / "haystack",
]


def main(target: Path) -> None:
    """Build each project's wheel with hatchling, in this environment and without a network."""
    for project in PROJECTS:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
        subprocess.run([*command, str(target), str(project)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
