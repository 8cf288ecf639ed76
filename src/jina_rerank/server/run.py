"""Running the service in this process until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from .app import create_app
from .engine import Engine
from .listening import Listener, listening, url_of

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds for the last bytes of answers, after the longest that a request may take."""


KEEP_ALIVE = 75
"""Seconds after which an idle connection is closed: later than clients and balancers close theirs,
mostly after a minute, since a request that crosses a close is lost."""


class Server(uvicorn.Server):
    """A server that ends without losing a request.

    On SIGTERM or SIGINT it is no longer ready and asks clients to close their connections, goes on
    accepting for as long as `Settings.drain` says, then stops accepting and answers what is there.
    A second signal cuts that short.

    Args:
        engine: What to serve.
        listener: Where, if `run` is given its socket; None listens on the address of the settings.
    """

    def __init__(self, engine: Engine, listener: Listener | None = None) -> None:
        settings = engine.settings
        super().__init__(
            uvicorn.Config(
                create_app(engine),
                host=settings.host,
                port=settings.port,
                # Its limit on the size of heads is a setting; the other parser has none.
                http="h11",
                h11_max_incomplete_event_size=64 * 1024,
                ssl_certfile=settings.ssl_certfile,
                ssl_keyfile=settings.ssl_keyfile,
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(settings.deadline + GRACE),
            )
        )
        self._engine = engine
        self._listener = listener

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            logger.info("listening", extra={"url": self.url})

    @property
    def url(self) -> str:
        """Where it listens; see `url_of`."""
        return url_of(self.servers[0].sockets[0], "https" if self.config.is_ssl else "http")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and let what is there be answered."""
        # Here, since a second signal ends the process without anything that comes later.
        if self._listener is not None:
            self._listener.remove_file()
        await super().shutdown(sockets)

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
        """Tell whether to end: a service whose models cannot be loaded is of no use."""
        return await super().on_tick(counter) or self._engine.failure is not None


def run(engine: Engine) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The address cannot be listened on.
        Exception: Whatever kept a model from being loaded.
    """
    # Before a thread begins to load a model: the process could not end cleanly then.
    with listening(engine.settings) as listener:
        Server(engine, listener).run(sockets=[listener.socket])
    if engine.failure is not None:
        raise engine.failure
