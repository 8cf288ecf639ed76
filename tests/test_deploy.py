"""The examples in deploy/: linted, and true to the service that they start."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from gotpl import Environment, TemplateError
from serving import LiveService, until

from jina_rerank import Reranker
from jina_rerank.server import Engine, ServedModel, Settings, create_app
from jina_rerank.server.run import GRACE
from jina_rerank.testing import FakeScorer

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


def test_the_container_keeps_to_what_orchestrators_demand() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert text.count("\nFROM ") == 2, "what builds is not what runs"
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert "x86" not in "".join(re.findall(r"^[A-Z].*", text, re.MULTILINE))
    (service,) = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert float(service["stop_grace_period"].removesuffix("s")) >= Settings().deadline + GRACE
    assert service["build"]["args"]["ENGINE"] in ENGINES


def instruction(name: str) -> list[str]:
    """The command of an instruction of the container file, in its JSON form."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    (found,) = re.findall(rf"^{name}\b[^\n[]*(\[.*\])$", text, re.MULTILINE)
    parts: list[str] = json.loads(found)
    return parts


def test_the_one_argument_of_sagemaker_serves() -> None:
    entrypoint = instruction("ENTRYPOINT")
    assert [*entrypoint, "serve"] == ["jina-rerank", "serve"]
    assert instruction("CMD") == ["serve"], "the command without an argument"
    # It is a command, with its options behind it.
    run(BIN / entrypoint[0], "serve", "--show-settings")


def test_the_health_check_asks_at_the_port_that_is_set() -> None:
    python, *options = instruction("HEALTHCHECK")
    assert python == "python"
    with LiveService([ServedModel("fake", Reranker(FakeScorer()))]) as service:
        until(lambda: service.engine.ready)
        port = service.url.rpartition(":")[2]
        environment = {**os.environ, "JINA_RERANK_PORT": port}
        command = [sys.executable, *options]
        healthy = subprocess.run(command, env=environment, check=False, timeout=60)
    unhealthy = subprocess.run(
        command, env=environment, check=False, timeout=60, stderr=subprocess.DEVNULL
    )
    assert (healthy.returncode, unhealthy.returncode) == (0, 1)


CHART = DEPLOY / "helm" / "jina-rerank"
ENGINES = {"onnx", "local"}


def rendered(**values: Any) -> dict[str, dict[str, Any]]:
    """The chart's manifests by kind.

    Not by Helm, which no registry had: by Go's templates in Python, with those of Helm's functions
    that the chart uses. A value that values.yaml does not have is an error.
    """

    def fail(message: str) -> str:
        raise ValueError(message)

    functions = {
        "add": lambda *numbers: sum(map(int, numbers)),
        "fail": fail,
        "join": lambda comma, parts: comma.join(parts),
        "quote": lambda value: json.dumps(str(value)),
        "toJson": json.dumps,
    }
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    known = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name, value in values.items():
        known[name] = {**known[name], **value} if isinstance(value, dict) else value
    context = {
        "Values": known,
        "Chart": {name.title(): value for name, value in chart.items()},
        "Release": {"Name": "ranker"},
    }
    environment = Environment(functions=functions, missing_key="error")
    found = {}
    for file in sorted((CHART / "templates").iterdir()):
        text = environment.from_string(file.read_text(encoding="utf-8")).render(context)
        if (manifest := yaml.safe_load(text)) is not None:
            found[manifest["kind"]] = manifest
    return found


KEYS = {"secret": "rerank-keys"}


VARIANTS: list[dict[str, Any]] = [
    {"keys": KEYS},
    {"keys": {"allowAnonymous": True}, "env": {"JINA_RERANK_MAX_DOCUMENTS": 100}},
    {"keys": KEYS, "autoscaling": {"enabled": False}, "replicas": 3},
    {"keys": KEYS, "podDisruptionBudget": {"enabled": False}, "models": ["a=mini", "b=mini"]},
    {
        "keys": KEYS,
        "models": ["turbo=/models/turbo"],
        "imagePullSecrets": [{"name": "registry"}],
        "extraEnvFrom": [{"secretRef": {"name": "jina-api-key"}}],
        "extraVolumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        "extraVolumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "reranking", "operator": "Exists", "effect": "NoSchedule"}],
    },
]


def test_what_the_chart_renders_fits_kubernetes_schemas(tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    manifests = [one for values in VARIANTS for one in rendered(**values).values()]
    file.write_text(yaml.safe_dump_all(manifests))
    run(BIN / "kubernetes-validate", "--strict", file)


@pytest.mark.parametrize("values", VARIANTS)
def test_the_charts_values_do_what_they_say(values: dict[str, Any]) -> None:
    manifests = rendered(**values)
    expected = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    for part, kind in (
        ("autoscaling", "HorizontalPodAutoscaler"),
        ("podDisruptionBudget", "PodDisruptionBudget"),
    ):
        if values.get(part) == {"enabled": False}:
            expected.remove(kind)
    assert set(manifests) == expected
    spec = manifests["Deployment"]["spec"]
    assert spec.get("replicas") == values.get("replicas")
    (container,) = spec["template"]["spec"]["containers"]
    settings = {one["name"]: one.get("value") for one in container["env"]}
    assert Settings.read({}, {k: v for k, v in settings.items() if k.startswith("JINA_")})
    assert settings["JINA_RERANK_MODELS"] == ",".join(values.get("models", ["jina-rerank-mini"]))
    mounts = {one["name"] for one in container["volumeMounts"]}
    assert mounts == {one["name"] for one in spec["template"]["spec"]["volumes"]}
    assert ("keys" in mounts) == (values["keys"] == KEYS)
    pod = spec["template"]["spec"]
    for name in ("imagePullSecrets", "nodeSelector", "tolerations"):
        assert pod.get(name) == values.get(name)
    assert container.get("envFrom") == values.get("extraEnvFrom")
    for mount in values.get("extraVolumeMounts", []):
        assert mount in container["volumeMounts"]
    for volume in values.get("extraVolumes", []):
        assert volume in pod["volumes"]


def test_the_chart_says_the_same_as_the_manifest() -> None:
    manifests = rendered(keys={"secret": "jina-rerank-keys"})
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    plain = deployment()
    (ours,), (theirs,) = pod.pop("containers"), plain.pop("containers")
    assert pod == plain
    differ = {"env", "imagePullPolicy"}
    assert {k: v for k, v in ours.items() if k not in differ} == {
        k: v for k, v in theirs.items() if k not in differ
    }


def test_a_chart_without_keys_is_refused_before_a_pod_would_crash() -> None:
    with pytest.raises((TemplateError, ValueError), match=r"keys\.secret names the secret"):
        rendered()


@pytest.mark.parametrize(
    "file",
    sorted(file for file in DEPLOY.rglob("*") if file.is_file()),
    ids=lambda file: str(file.relative_to(DEPLOY)),
)
def test_variables_and_extras_are_ours(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    known = {f"JINA_RERANK_{f.name.upper()}" for f in dataclasses.fields(Settings)}
    assert set(re.findall(r"JINA_RERANK_[A-Z_]+", text)) <= known
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"jina-rerank\[([a-z$A-Z,-]+)\]", text):
        named = extras.replace("$ENGINE", ",".join(sorted(ENGINES)))
        assert set(named.split(",")) <= set(project["optional-dependencies"])
