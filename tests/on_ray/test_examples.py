"""The page "Scale" and deploy/rayservice.yaml: true to Ray and to the service."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="the extra ray is not installed")

from ray.serve.schema import ServeDeploySchema

from jina_rerank.ray import build
from jina_rerank.ray.serving import GRACE, NAME
from jina_rerank.server import Settings

ROOT = Path(__file__).parents[2]
MANIFEST = yaml.safe_load((ROOT / "deploy" / "rayservice.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
CLUSTER = MANIFEST["spec"]["rayClusterConfig"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


@pytest.mark.parametrize(
    "config",
    [MANIFEST["spec"]["serveConfigV2"], PAGE.split("```yaml\n")[1].split("```")[0]],
    ids=["manifest", "page"],
)
def test_configurations_are_what_ray_and_the_service_take(config: str) -> None:
    schema = ServeDeploySchema(**yaml.safe_load(config))
    (application,) = schema.applications
    assert application.import_path == f"{build.__module__.rpartition('.')[0]}:{build.__name__}"
    build(application.args)
    (deployment,) = application.deployments
    assert deployment.name == NAME
    # Ray ignores words that it does not know.
    written = yaml.safe_load(config)["applications"][0]["deployments"][0]
    understood = deployment.model_dump(exclude_unset=True)
    for name, options in written.items():
        assert name == "name" or set(options) <= set(understood[name])


@pytest.mark.parametrize("group", GROUPS, ids=["head", "workers"])
def test_pods_fit_kubernetes_schemas(group: dict[str, Any], tmp_path: Path) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(pod))
    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", file]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_worker_has_room_for_replicas_and_time_for_the_longest_request() -> None:
    (workers,) = CLUSTER["workerGroupSpecs"]
    pod = workers["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= Settings().deadline + GRACE
    (container,) = pod["containers"]
    config = yaml.safe_load(MANIFEST["spec"]["serveConfigV2"])
    options = config["applications"][0]["deployments"][0]
    per_replica = options["ray_actor_options"]["num_cpus"]
    cpus = int(container["resources"]["limits"]["cpu"])
    assert cpus % per_replica == 0
    most = workers["maxReplicas"] * cpus
    assert options["autoscaling_config"]["max_replicas"] * per_replica <= most
