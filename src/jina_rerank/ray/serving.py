"""The service as a Ray Serve application, with the same engine and dialects in every replica."""

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
from ..server.logs import log_json
from ..server.run import GRACE
from ..server.served import find_models
from ..server.settings import PREFIX
from .metrics import ReplicaMetrics

logger = logging.getLogger(__name__)

NAME = "reranker"
"""Name of the deployment in Ray; a Serve config file changes its options under this name."""

RAYS_OWN = {
    "host": "http_options say where the proxies listen",
    "port": "http_options say where the proxies listen",
    "unix_socket": "http_options say where the proxies listen",
    "root_path": "an application's route_prefix is its prefix",
    "drain": "Ray sends no request to a replica that ends",
}
"""Settings of `jina-rerank serve` that are configured elsewhere in Ray."""

OPTIONS: dict[str, Any] = {
    # Requests that wait in a replica share batches; requests that wait at the proxy do not.
    "max_ongoing_requests": 64,
    # Requests wait at the proxy if no replica is free. More than this are refused, to be retried.
    "max_queued_requests": 1000,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1},
    "health_check_period_s": 5,
    # New replicas start before old ones end: a single replica is updated without a gap, and a full
    # cluster keeps its replicas.
    "max_surge_percent": 20,
    # Replicas write their own log; Ray's access log would quote ids that clients choose.
    "logging_config": {"enable_access_log": False},
}


def application(
    settings: Settings | None = None,
    **options: Any,  # noqa: ANN401 - as many kinds as Ray has options
) -> serve.Application:
    """Build the service for `ray.serve.run`.

    Every replica is a process that holds the models and batches concurrent requests. A replica
    becomes ready when its models are warm, and no request is lost when it ends. If a model has work
    but has computed nothing for `Settings.deadline`, the replica ends itself, so that Ray starts
    another one in its place.

    Keys never pass through Ray, which shows and logs its settings: `Settings.key_file` is a file on
    every node, and JINA_RERANK_KEYS is read from the environment of the replicas.

    Args:
        settings: Models, limits and the file of keys; None for all defaults. `host`, `port`,
            `unix_socket`, `root_path` and `drain` are not used: Ray listens, and ends replicas. A
            replica does not know where Ray listens, so without keys it starts only if
            `allow_anonymous` is true.
        options: Options of `ray.serve.deployment`: `num_replicas`, `autoscaling_config`,
            `ray_actor_options={"num_cpus": 4}`, ... The default is one replica with one CPU; a
            model computes in as many threads as its replica has CPUs. They override `OPTIONS`.

    Raises:
        ConfigurationError: `settings.keys` is set.
    """
    return deploy(Replica, Settings() if settings is None else settings, options)


def build(args: Mapping[str, Any]) -> serve.Application:
    """Build the service for a Serve config file, with `jina_rerank.ray:build` as `import_path`.

    Args:
        args: The settings by name, as in the TOML file of `jina-rerank serve`. Ray's own options
            belong under `deployments` with the name `reranker`.

    Raises:
        ConfigurationError: A setting is unknown, cannot be read, or is configured elsewhere in Ray.
    """
    known = {field.name for field in dataclasses.fields(Settings)}
    for name in args:
        # The error must not contain the value, since Ray logs it.
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
    """Build the application with another class of replica."""
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
    """One process of the service, which Ray creates, checks and ends.

    Args:
        settings: See `application`.

    Raises:
        ConfigurationError: There are no keys and anonymous clients are not allowed, or the keys
            cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        settings = dataclasses.replace(
            settings,
            host="0.0.0.0",  # noqa: S104 - where Ray listens is unknown here
            unix_socket=None,
            root_path="",
            keys=os.environ.get(f"{PREFIX}KEYS", ""),
        )
        log_json(settings.log_level)
        self._engine = Engine(settings, self.find_models(settings))
        self._engine.metrics = ReplicaMetrics(self._engine.queue, self._engine.bodies)

    def find_models(self, settings: Settings) -> list[ServedModel]:
        """Create the models to be served, which are not loaded yet."""
        return find_models(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the application that answers requests, in the event loop of this replica."""
        return create_app(self._engine)

    async def check_health(self) -> None:
        """Check that all models compute; Ray sends no request before the first success.

        Raises:
            RerankError: A model cannot be loaded, or does not compute.
        """
        if not self._engine.ready:
            await self._engine.warm_up()
        if await self._engine.hangs():
            logger.critical("a model hangs; this replica ends")
            # Not an orderly end, which would wait for the thread that hangs and keep its CPUs from
            # the next replica.
            os._exit(1)
