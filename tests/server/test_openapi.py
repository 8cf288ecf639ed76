"""The service as OpenAPI describes it: what is checked in, and whether it behaves that way.

    python tests/server/test_openapi.py

writes the description anew after a change that is meant.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jina_rerank.server import Engine, Settings, create_app

if TYPE_CHECKING:  # not found when this runs as a script
    from serving import LiveService

CHECKED_IN = Path(__file__).with_name("openapi.json")
TESTS = Path(__file__).parent.parent


def describe() -> str:
    """The service's description of itself, without its version."""
    described = create_app(Engine(Settings())).openapi()
    del described["info"]["version"]
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def test_the_description_is_the_one_that_is_checked_in() -> None:
    assert json.loads(CHECKED_IN.read_text(encoding="utf-8")) == json.loads(describe()), (
        "if that is meant, run: python tests/server/test_openapi.py"
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis")
def test_the_service_does_what_its_description_says(service: LiveService, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{service.url}/openapi.json",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=30",
            "--generation-deterministic",
            "--no-shrink",
            "--checks=all",
            # A schema cannot say that texts must not be blank, nor hold a NUL.
            "--exclude-checks=positive_data_acceptance",
        ],
        cwd=tmp_path,  # where it leaves its findings
        env={**os.environ, "PYTHONPATH": str(TESTS), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Missing test data" not in done.stdout, "some requests found no model"


if __name__ == "__main__":
    CHECKED_IN.write_text(describe(), encoding="utf-8")
