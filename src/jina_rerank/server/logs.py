"""Logs as JSON, one object per line, without any data that a client has sent."""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ServiceError
from .dialect import stack_of, summary
from .engine import Engine
from .paths import path_within
from .tracing import answering, not_traced

logger = logging.getLogger(__name__)

FIELDS = (
    "request_id",
    "route",
    "status",
    "seconds",
    "key_name",
    "model",
    "documents",
    "estimated_tokens",
    "tokens",
    "degraded",
    "url",
    "settings",
    "error",
    "message_of_error",
    "stack",
)
"""Fields that a line may have in addition to its message."""


PROBES = frozenset({"/live", "/ready", "/health", "/metrics", "/ping"})
"""Paths that are requested every few seconds: logged at level debug only, and not traced."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format time, level, logger, message, and the record's fields of `FIELDS`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        line |= {
            name: getattr(record, name)
            for name in FIELDS
            if getattr(record, name, None) is not None
        }
        if record.exc_info and record.exc_info[1] is not None:
            # Without the error's text, which may quote what a client has sent.
            line["error"] = type(record.exc_info[1]).__name__
            line["stack"] = stack_of(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _message_of(record: logging.LogRecord) -> str:
    """Return the message, with another service's errors by type and status only.

    Their texts may quote a client's request, and scorers log them.
    """
    if not record.args or not isinstance(record.args, tuple):
        return record.getMessage()
    return str(record.msg) % tuple(
        f"{type(arg).__name__} ({summary(arg)})" if isinstance(arg, ServiceError) else arg
        for arg in record.args
    )


def log_json(level: str) -> None:
    """Have this process log JSON to standard error.

    Args:
        level: Level as in `Settings.log_level`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Uvicorn repeats the line "listening" at every start, and would log every path.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Observed:
    """Gives every request an id, which is sent back, a line in the log, a span, and metrics.

    The id is created here, since a client's id could hold anything.

    Args:
        app: The application.
        engine: The engine, with its metrics. While it drains, responses ask clients to close their
            connections.
    """

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = state["request_id"]
                if state.get("degraded"):
                    # In a header, since most dialects have no field for it.
                    headers["x-degraded"] = "true"
                if self._engine.draining:
                    headers["connection"] = "close"
            await send(message)

        tracing = answering(scope["method"], Headers(scope=scope), state["request_id"])
        with not_traced() if path_within(scope) in PROBES else tracing as answered:
            try:
                await self._app(scope, receive, observed)
            finally:
                # The route's pattern, never the requested path.
                route = getattr(scope.get("route"), "path", "other")
                answered(route, status)
                self._note(route, status, time.perf_counter() - started, state)

    def _note(self, route: str, status: int, seconds: float, state: dict[str, object]) -> None:
        self._engine.metrics.answered(route, status, seconds)
        logger.log(
            logging.DEBUG if route in PROBES else logging.INFO,
            "answered",
            extra={
                **{name: state[name] for name in FIELDS if name in state},
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
            },
        )
