"""The service on Ray Serve, asked by real clients while replicas come and go."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from clustering import eventually

from jina_rerank import AuthenticationError, ConfigurationError, LocalScorer, RemoteScorer, Reranker

pytest.importorskip("ray", reason="the extra ray is not installed")

import ray
from hanging import TRAP, HangingReplica
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from jina_rerank.ray import application, build
from jina_rerank.ray.serving import deploy
from jina_rerank.server import Settings

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

QUERY = "what is the secret of coffee?"
DOCUMENTS = [
    "the giant panda is a bear",
    "coffee is brewed from roasted beans",
    "paris is the capital of france",
]
KEY = "a-key-from-the-file-1"
KEY_IN_ENVIRONMENT = "key-in-the-environment"  # of the cluster, which conftest starts
CHOSEN_ID = "an-id-that-a-client-chose"


class Service:
    """The service from a Serve config file.

    Attributes:
        url: Where it is, without a slash at the end.
        config: What the file says.
    """

    def __init__(self, folder: Path, port: int, args: dict[str, Any]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._file = folder / "serve.yaml"
        self.config: dict[str, Any] = {
            "http_options": {"host": "127.0.0.1", "port": port},
            "logging_config": {"enable_access_log": False},
            "applications": [
                {
                    "name": "rerank",
                    "import_path": "jina_rerank.ray:build",
                    "args": args,
                    "deployments": [
                        {
                            "name": "reranker",
                            "num_replicas": 2,
                            "health_check_period_s": 0.5,
                            "graceful_shutdown_wait_loop_s": 0.2,
                            # Both at a time, for the sake of those who wait for these tests.
                            "rolling_update_percentage": 1.0,
                            "max_surge_percent": 100,
                            "ray_actor_options": {"num_cpus": 1},
                        }
                    ],
                }
            ],
        }

    def run(self, cluster: str) -> None:
        """Begin, as an operator does."""
        self._file.write_text(yaml.safe_dump(self.config))
        command = [sys.executable, "-m", "ray.serve.scripts", "run", "--non-blocking"]
        subprocess.run(
            [*command, "--address", cluster, str(self._file)], check=True, capture_output=True
        )

    def update(self, **args: object) -> None:
        """Do as `serve deploy` does with a file in which settings have changed."""
        self.config["applications"][0]["args"] |= args
        _get_global_client().deploy_apps(ServeDeploySchema(**self.config))

    def pids(self, application: str = "rerank") -> set[int]:
        """The processes of replicas that run."""
        return {
            replica["pid"]
            for deployment in details_of(application)["deployments"].values()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        }

    def client(self, **settings: Any) -> Reranker:
        """One with our retries, as they are by default."""
        return Reranker(RemoteScorer("small", base_url=self.url, api_key=KEY, **settings))


def details_of(application: str) -> dict[str, Any]:
    return _get_global_client().get_serve_details()["applications"][application]


def read_logs() -> str:
    """Everything that any process of the cluster has written."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    return "".join(file.read_text(errors="replace") for file in logs.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def service(
    cluster: str, port: int, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    key_file = folder / "keys"
    key_file.write_text(f"team:{KEY}\n")
    args = {"models": [f"small={small_checkpoint}"], "key_file": str(key_file)}
    service = Service(folder, port, args)
    # As `serve deploy` does; `serve run`, which needs no dashboard, does not tell the proxies.
    settings = ServeDeploySchema(**service.config)
    serve.start(http_options=service.config["http_options"], logging_config=settings.logging_config)
    service.run(cluster)
    eventually(lambda: len(service.pids()) == 2)
    yield service
    serve.shutdown()


@contextmanager
def load(ask: Callable[[], object], clients: int = 4) -> Iterator[list[object]]:
    """Clients that ask without pause; what they got, answers and errors."""
    got: list[object] = []
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            try:
                got.append(ask())
            except Exception as error:  # noqa: BLE001 - all of them count
                got.append(error)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield got
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("dialect", ["jina", "cohere", "tei"])
def test_scores_are_those_of_the_model(
    service: Service, small_checkpoint: Path, dialect: str
) -> None:
    expected = Reranker(LocalScorer(small_checkpoint)).score(QUERY, DOCUMENTS)
    with service.client(dialect=dialect) as client:
        assert client.score(QUERY, DOCUMENTS) == pytest.approx(expected, abs=1e-6)


def test_a_replica_killed_under_load_fails_no_request(
    service: Service, small_checkpoint: Path
) -> None:
    expected = Reranker(LocalScorer(small_checkpoint)).score(QUERY, DOCUMENTS)
    before = service.pids()
    victim = min(before)
    with service.client() as client, load(lambda: client.score(QUERY, DOCUMENTS)) as got:
        eventually(lambda: len(got) > 20)
        os.kill(victim, signal.SIGKILL)
        killed = len(got)
        eventually(lambda: len(service.pids() - {victim}) == 2)
        replaced = len(got)
        eventually(lambda: len(got) > replaced + 20)
    assert replaced > killed
    assert all(scores == pytest.approx(expected, abs=1e-6) for scores in got)
    assert service.pids() - before


def test_a_rolling_update_fails_no_request(service: Service) -> None:
    before = service.pids()
    ask = {"query": QUERY, "documents": DOCUMENTS}
    with service.client(max_retries=0) as client, load(lambda: client.score(*ask.values())) as got:
        eventually(lambda: len(got) > 20)
        service.update(max_documents=3)
        eventually(lambda: len(service.pids()) == 2 and not service.pids() & before)
        updated = len(got)
        eventually(lambda: len(got) > updated + 20)
    assert [error for error in got if isinstance(error, Exception)] == []
    ask["documents"] = [*DOCUMENTS, "one too many"]
    answers = [
        httpx.post(f"{service.url}/v1/rerank", json=ask, headers={"authorization": f"Bearer {KEY}"})
        for _ in range(8)
    ]
    assert {answer.status_code for answer in answers} == {413}


def test_prometheus_gets_the_numbers_of_all_replicas_from_ray(service: Service) -> None:
    with service.client() as client:
        client.rank(QUERY, DOCUMENTS)
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = "ray_jina_rerank_request_tokens_sum{"

    def lines() -> list[str]:
        return [line for line in httpx.get(url).text.splitlines() if line.startswith(wanted)]

    eventually(lambda: bool(lines()))
    assert all('model="small"' in line and "replica=" in line for line in lines())


def test_keys_are_asked_for_and_shown_nowhere(service: Service) -> None:
    for key in (KEY, KEY_IN_ENVIRONMENT):
        scorer = RemoteScorer(
            "small", base_url=service.url, api_key=key, headers={"x-request-id": CHOSEN_ID}
        )
        with Reranker(scorer) as client:
            client.rank(QUERY, DOCUMENTS)
    with pytest.raises(AuthenticationError):
        Reranker(RemoteScorer("small", base_url=service.url, api_key="x" * 20)).rank("q", ["d"])
    shown = json.dumps(_get_global_client().get_serve_details(), default=str)
    written = read_logs()
    assert '"route": "/v1/rerank"' in written
    for secret in (KEY, KEY_IN_ENVIRONMENT, CHOSEN_ID, QUERY, DOCUMENTS[0]):
        assert secret not in shown
        assert secret not in written


def test_a_model_that_hangs_is_noticed_and_replaced(
    service: Service, small_checkpoint: Path
) -> None:
    options = {"num_replicas": 1, "health_check_period_s": 0.2}
    settings = Settings(models=(str(small_checkpoint),), allow_anonymous=True, deadline=1.5)
    serve.run(deploy(HangingReplica, settings, options), name="hanging", route_prefix="/hanging")
    (pid,) = service.pids("hanging")
    url = f"{service.url}/hanging/v1/rerank"
    headers = {"authorization": f"Bearer {KEY_IN_ENVIRONMENT}"}
    trap = {"query": "q", "documents": [TRAP]}
    lost = httpx.post(url, json=trap, headers=headers, timeout=60)
    assert lost.status_code >= 500
    eventually(lambda: bool(service.pids("hanging") - {pid}))
    assert "a model hangs" in read_logs()
    with Reranker(RemoteScorer("gated", base_url=url, api_key=KEY_IN_ENVIRONMENT)) as client:
        assert len(client.rank(QUERY, DOCUMENTS)) == 3
    serve.delete("hanging")


def test_torch_computes_in_as_many_threads_as_ray_gives_cpus(cluster: str) -> None:
    def count() -> int:
        import torch

        return torch.get_num_threads()

    # Alone in its process, torch would take all there are.
    assert ray.get(ray.remote(count).options(num_cpus=1).remote()) == 1


def test_a_replica_without_keys_does_not_start(service: Service, small_checkpoint: Path) -> None:
    alone = {"runtime_env": {"env_vars": {"JINA_RERANK_KEYS": ""}}}
    app = application(
        Settings(models=(str(small_checkpoint),)),
        num_replicas=1,
        max_constructor_retry_count=1,
        ray_actor_options=alone,
    )
    with pytest.raises(RuntimeError):
        serve.run(app, name="open", route_prefix="/open")
    assert "without keys" in json.dumps(details_of("open"), default=str)
    serve.delete("open")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"keys": "team:a-key-in-the-wrong-place"}, "keys: Ray shows what it is given"),
        ({"port": 80}, "http_options"),
        ({"model": "x"}, "no setting 'model'"),
        ({"deadline": "soon"}, "deadline: cannot be read as float"),
    ],
)
def test_what_does_not_belong_into_a_config_file_is_refused(
    args: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        build(args)
    assert "wrong-place" not in str(caught.value)
