"""Running the service in this process until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from ..errors import ConfigurationError
from .app import create_app
from .engine import Engine
from .settings import Settings

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds for the last bytes of answers, after the longest that a request may take."""


KEEP_ALIVE = 75
"""Seconds after which an idle connection is closed: later than clients and balancers close theirs,
mostly after a minute, since a request that crosses a close is lost."""

BACKLOG = 2048
"""Connections that wait to be accepted."""


class Server(uvicorn.Server):
    """A server that ends without losing a request.

    On SIGTERM or SIGINT it is no longer ready and asks clients to close their connections, goes on
    accepting for as long as `Settings.drain` says, then stops accepting and answers what is there.
    A second signal cuts that short.

    Args:
        engine: What to serve.
    """

    def __init__(self, engine: Engine) -> None:
        settings = engine.settings
        super().__init__(
            uvicorn.Config(
                create_app(engine),
                host=settings.host,
                port=settings.port,
                # Its limit on the size of heads is a setting; the other parser has none.
                http="h11",
                h11_max_incomplete_event_size=64 * 1024,
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(settings.deadline + GRACE),
            )
        )
        self._engine = engine

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            logger.info("listening", extra={"url": self.url})

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once at the second."""
        if self._engine.draining:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        # Now and not on the loop: a second signal may come before its turn.
        self._engine.drain()
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        logger.info("draining")
        self._loop.call_later(self._engine.settings.drain, self._end)

    def _end(self) -> None:
        self._engine.stop_accepting()
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end: a service whose models cannot be loaded is of no use."""
        return await super().on_tick(counter) or self._engine.failure is not None


def run(engine: Engine) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The address cannot be listened on.
        Exception: Whatever kept a model from being loaded.
    """
    # Before a thread begins to load a model: the process could not end cleanly then.
    listening = _listen(engine.settings)
    Server(engine).run(sockets=[listening])
    if engine.failure is not None:
        raise engine.failure


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror}"
        ) from None
