"""The service as an application of Ray Serve: the same engine and dialects in every replica."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve

from ..errors import ConfigurationError
from ..server import Engine, ServedModel, Settings, create_app
from ..server.engine import find_models
from ..server.logs import log_json
from ..server.run import GRACE
from ..server.settings import PREFIX
from .metrics import ReplicaMetrics

logger = logging.getLogger(__name__)

NAME = "reranker"
"""Name of the deployment at Ray; a Serve config file changes its options under this name."""

RAYS_OWN = {
    "host": "http_options say where the proxies listen",
    "port": "http_options say where the proxies listen",
    "unix_socket": "http_options say where the proxies listen",
    "root_path": "an application's route_prefix is its prefix",
    "drain": "Ray sends no request to a replica that ends",
}
"""Settings of `jina-rerank serve` that have another place here."""

OPTIONS: dict[str, Any] = {
    # What waits in a replica shares batches; what waits before it does not.
    "max_ongoing_requests": 64,
    # What finds no replica free waits at the proxy, and beyond this is told to come again.
    "max_queued_requests": 1000,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1},
    "health_check_period_s": 5,
    # New before old: a single replica is updated without a gap, and a full cluster stays as it is.
    "max_surge_percent": 20,
    # Replicas log by themselves; Ray's access log would quote ids that clients choose.
    "logging_config": {"enable_access_log": False},
}


def application(
    settings: Settings | None = None,
    **options: Any,  # noqa: ANN401 - as many kinds as Ray has options
) -> serve.Application:
    """The service for `ray.serve.run`.

    Every replica is a process with the models in it, and joins the requests that are there at the
    same time into batches. Its end loses no request; it becomes ready when its models are warm,
    and ends itself when a model with something to do has computed nothing for as long as
    `Settings.deadline`, so that Ray starts another one in its place.

    Keys never pass through Ray, which shows and logs what it is given: `Settings.key_file` is a
    file that every node has, and JINA_RERANK_KEYS is read from the environment of the replicas.

    Args:
        settings: Models, limits and the file of keys; None is all defaults. `host`, `port`,
            `unix_socket`, `root_path` and `drain` are not used: Ray listens, and ends replicas. A
            replica cannot see where Ray listens, so without keys it starts only if
            `allow_anonymous` is true.
        options: Ray's own, of `ray.serve.deployment`: `num_replicas`, `autoscaling_config`,
            `ray_actor_options={"num_cpus": 4}`, ... One replica with one CPU is the default; a
            model computes in as many threads as its replica has CPUs. These go before `OPTIONS`.

    Raises:
        ConfigurationError: `settings.keys` is set.
    """
    return deploy(Replica, Settings() if settings is None else settings, options)


def build(args: Mapping[str, Any]) -> serve.Application:
    """The service for a Serve config file, whose `import_path` is `jina_rerank.ray:build`.

    Args:
        args: The settings by name, as in the TOML file of `jina-rerank serve`. Ray's own options
            stand under `deployments` with the name `reranker`.

    Raises:
        ConfigurationError: A setting is unknown, cannot be read, or does not belong here.
    """
    known = {field.name for field in dataclasses.fields(Settings)}
    for name in args:
        # Never the value: Ray logs this error.
        if name == "keys":
            raise _misplaced_keys()
        if name not in known:
            raise ConfigurationError(f"args: there is no setting {name!r}")
        if name in RAYS_OWN:
            raise ConfigurationError(f"args: {name} has no place here: {RAYS_OWN[name]}")
    return application(Settings.read(args, environment={}))


def deploy(
    replica: type[Replica], settings: Settings, options: Mapping[str, Any]
) -> serve.Application:
    """`application`, with a replica of another kind."""
    if settings.keys:
        raise _misplaced_keys()
    chosen = OPTIONS | {"graceful_shutdown_timeout_s": settings.deadline + GRACE} | dict(options)
    deployment = serve.deployment(name=NAME, **chosen)(serve.ingress()(replica))
    return deployment.bind(settings)


def _misplaced_keys() -> ConfigurationError:
    return ConfigurationError(
        "keys: Ray shows what it is given. Name a file that every node has in key_file, or set "
        f"{PREFIX}KEYS in the environment of Ray's nodes"
    )


class Replica:
    """One process of the service. Ray builds it, asks after its health, and ends it.

    Args:
        settings: See `application`.

    Raises:
        ConfigurationError: There are no keys and anonymous clients are not allowed, or the keys
            cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        settings = dataclasses.replace(
            settings,
            host="0.0.0.0",  # noqa: S104 - for all that is known here
            unix_socket=None,
            root_path="",
            keys=os.environ.get(f"{PREFIX}KEYS", ""),
        )
        log_json(settings.log_level)
        self._engine = Engine(settings, self.find_models(settings))
        self._engine.metrics = ReplicaMetrics(self._engine.queue)

    def find_models(self, settings: Settings) -> list[ServedModel]:
        """The models that are served here."""
        return find_models(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that answers requests, in the event loop of this replica."""
        return create_app(self._engine)

    async def check_health(self) -> None:
        """Return if all models compute; Ray sends no request before it has once.

        Raises:
            RerankError: A model cannot be loaded, or does not compute.
        """
        if not self._engine.ready:
            await self._engine.warm_up()
        if await self._engine.hangs():
            logger.critical("a model hangs; this replica ends")
            # Not in order: that would wait for the thread that hangs, with its CPUs kept from the
            # replica that takes its place.
            os._exit(1)
