"""The web application: dialects over an engine, the playground, probes and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .. import __version__
from .dialect import Dialect
from .dialects.cohere import Cohere
from .dialects.jina import Jina
from .dialects.sagemaker import SageMaker
from .dialects.tei import Tei
from .dialects.vllm import Vllm
from .dialects.voyage import Voyage
from .engine import Engine
from .logs import Observed
from .paths import HeadAsGet, Located, check_root_path, cors
from .playground import playground_router

LOADING = 60.0
"""Seconds that a shutdown waits for models that are still being loaded."""

CODES = {404: "RESOURCE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def all_dialects() -> list[Dialect]:
    """Create all dialects."""
    return [Jina(), Cohere(), Voyage(), Tei(), Vllm(), SageMaker()]


def create_app(engine: Engine, dialects: Sequence[Dialect] | None = None) -> FastAPI:
    """Create the service as an ASGI application.

    Its startup begins to load the models and does not wait for them; `/ready` reports when they are
    loaded. Its shutdown closes them.

    Args:
        engine: The engine; each application needs its own.
        dialects: Dialects to serve; None for all.

    Raises:
        ConfigurationError: `Settings.root_path` makes the service's paths ambiguous.
    """
    settings = engine.settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(engine.start())
        watching = asyncio.create_task(engine.idle.watch())
        yield
        watching.cancel()
        # A thread that is inside a native library when the interpreter ends would crash it.
        await asyncio.wait({warming}, timeout=LOADING)
        warming.cancel()
        await engine.close()

    async def not_routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405 and request.method == "OPTIONS" and settings.cors_origins:
            return Response(status_code=204, headers=error.headers)
        body = {
            "detail": error.detail,
            "code": CODES.get(error.status_code, "INPUT_INVALID"),
            "request_id": request.state.request_id,
        }
        return JSONResponse(body, error.status_code, error.headers)

    app = FastAPI(
        title="jina-rerank",
        version=__version__,
        summary="Puts the documents that answer a query first",
        lifespan=lifespan,
        middleware=[
            Middleware(Located, root_path=settings.root_path),
            Middleware(Observed, engine=engine),
            *cors(settings.cors_origins),
            Middleware(HeadAsGet),
        ],
        exception_handlers={HTTPException: not_routed},
        # Redirects would name an address that clients behind a proxy cannot reach; see Located.
        redirect_slashes=False,
        # These pages would load scripts from a foreign host.
        docs_url=None,
        redoc_url=None,
        # FastAPI's spans hold paths, query strings and texts of errors as clients sent them; see
        # tracing.py for ours. Older versions have no telemetry and ignore this.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    for dialect in all_dialects() if dialects is None else dialects:
        app.include_router(dialect.router(engine))
    app.include_router(playground_router(engine))
    _add_probes(app, engine)
    if settings.root_path:
        check_root_path(settings.root_path, app.openapi()["paths"])
    return app


def _add_probes(app: FastAPI, engine: Engine) -> None:
    """Add the routes of probes and metrics."""

    @app.get(
        "/live",
        summary="Check that the models compute (liveness probe)",
        response_class=PlainTextResponse,
        responses={503: {"description": "A model hangs, or its computation fails."}},
    )
    async def live() -> Response:
        pulse = await engine.pulse()
        return PlainTextResponse(pulse, 200 if pulse == "live" else 503)

    @app.get(
        "/ready",
        summary="Check that the service accepts requests (readiness probe)",
        response_class=PlainTextResponse,
        responses={503: {"description": "The models are loading, or the process is ending."}},
    )
    async def ready() -> Response:
        return PlainTextResponse(engine.state, 200 if engine.ready else 503)

    @app.get(
        "/health",
        summary="Check readiness and liveness",
        response_class=PlainTextResponse,
        responses={503: {"description": "`/ready` or `/live` fails."}},
    )
    async def health() -> Response:
        alive = await live()
        return await ready() if alive.status_code == 200 else alive

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
    )
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type=engine.metrics.media_type)
