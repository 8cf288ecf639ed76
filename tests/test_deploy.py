"""The examples in deploy/: linted, and true to the service that they start."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jina_rerank.server import Engine, Settings, create_app
from jina_rerank.server.run import GRACE

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_container_file_is_linted() -> None:
    run(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_the_unit_is_verified(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze, of the package systemd")
    # It looks whether the command is there; here it is somewhere else.
    text = (DEPLOY / "jina-rerank.service").read_text(encoding="utf-8")
    assert "/opt/jina-rerank/bin/jina-rerank" in text
    unit = tmp_path / "jina-rerank.service"
    unit.write_text(text.replace("/opt/jina-rerank/bin/jina-rerank", str(BIN / "jina-rerank")))
    run(analyze, "verify", unit)


def test_the_manifest_fits_kubernetes_schemas() -> None:
    run(BIN / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml")


def deployment() -> dict[str, Any]:
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    (found,) = (one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment")
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def test_the_probes_are_routes() -> None:
    paths = {
        route.path for route in create_app(Engine(Settings())).routes if hasattr(route, "path")
    }
    (container,) = deployment()["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths


def test_kubernetes_sets_none_of_our_variables() -> None:
    # For a service named jina-rerank it sets JINA_RERANK_PORT=tcp://..., which is a setting.
    assert deployment()["enableServiceLinks"] is False


def test_the_ends_are_long_enough_for_the_longest_request() -> None:
    (container,) = deployment()["containers"]
    (drain,) = (one["value"] for one in container["env"] if one["name"] == "JINA_RERANK_DRAIN")
    longest = Settings().deadline + GRACE
    assert deployment()["terminationGracePeriodSeconds"] >= longest + float(drain)
    unit = (DEPLOY / "jina-rerank.service").read_text(encoding="utf-8")
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop) >= longest


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_variables_and_extras_are_ours(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    known = {f"JINA_RERANK_{f.name.upper()}" for f in dataclasses.fields(Settings)}
    assert set(re.findall(r"JINA_RERANK_[A-Z_]+", text)) <= known
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"jina-rerank\[([a-z,]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
