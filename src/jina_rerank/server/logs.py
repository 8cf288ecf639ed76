"""Logs as JSON, one object a line, with nothing in them that a client has sent."""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .dialect import stack_of
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
"""Fields that a line may have beside its message."""


PROBES = frozenset({"/live", "/ready", "/health", "/metrics", "/ping"})
"""Asked every few seconds by machines: hardly worth a line in the log, and no trace."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and those of `FIELDS` that there are."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: getattr(record, name)
            for name in FIELDS
            if getattr(record, name, None) is not None
        }
        if record.exc_info and record.exc_info[1] is not None:
            # Its text may quote what a client has sent; where it happened does not.
            line["error"] = type(record.exc_info[1]).__name__
            line["stack"] = stack_of(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def log_json(level: str) -> None:
    """Have this process log JSON to standard error.

    Args:
        level: As in `Settings.log_level`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It says at every start what the line "listening" says, and would log every path.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Observed:
    """Gives every request an id, which its answer carries, a line in the log, a span, and numbers.

    The id is made here: one that came from outside could hold anything.

    Args:
        app: What answers.
        engine: Whose metrics count; while it drains, answers ask clients to close.
    """

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see the ASGI specification."""
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
                    # Most dialects have no field for it.
                    headers["x-degraded"] = "true"
                if self._engine.draining:
                    headers["connection"] = "close"
            await send(message)

        tracing = answering(scope["method"], Headers(scope=scope), state["request_id"])
        with not_traced() if path_within(scope) in PROBES else tracing as answered:
            try:
                await self._app(scope, receive, observed)
            finally:
                # The pattern that matched, never the path that was asked for.
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
