"""Running the service in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import socket
from array import array
from types import FrameType

import uvicorn

from .app import create_app
from .engine import Engine
from .listening import Listener, listening, url_of

try:
    import fcntl
    import termios
except ImportError:  # on Windows
    termios = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds for the last bytes of responses, after the deadline of requests, and for a client's
answer to the end of an encrypted connection."""

KEEP_ALIVE = 75
"""Seconds after which an idle connection is closed. Longer than the usual minute of clients and
load balancers, since a request that is sent while the server closes is lost."""


class Server(uvicorn.Server):
    """A server that ends without losing a request.

    On SIGTERM or SIGINT it is no longer ready and asks clients to close their connections. It
    continues to accept requests for `Settings.drain`, then stops accepting and answers the
    remaining requests. A second signal ends it at once.

    Args:
        engine: The engine to serve.
        listener: Listener whose socket is passed to `run`; None to listen on the settings' address.
    """

    def __init__(self, engine: Engine, listener: Listener | None = None) -> None:
        settings = engine.settings
        super().__init__(
            uvicorn.Config(
                create_app(engine),
                host=settings.host,
                port=settings.port,
                # It can limit the size of heads; the other parser has no limit.
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
        """Listen, and log the URL."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            logger.info("listening", extra={"url": self.url})

    @property
    def url(self) -> str:
        """URL of the server; see `url_of`."""
        return url_of(self.servers[0].sockets[0], "https" if self.config.is_ssl else "http")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and answer the remaining requests."""
        # Here, since after a second signal no later code runs.
        if self._listener is not None:
            self._listener.remove_file()
        aborting = asyncio.create_task(self._abort_silent_connections())
        try:
            await super().shutdown(sockets)
        finally:
            aborting.cancel()

    async def _abort_silent_connections(self) -> None:
        """Abort connections that were closed and do not end.

        The end of an encrypted connection is complete when the client answers, for which asyncio
        waits 30 s; a client with an idle connection in its pool does not read it. A client that
        still reads its response, however slowly, is not silent.
        """
        unchanged: dict[object, tuple[int, float]] = {}
        while True:
            now = self._loop.time()
            for connection in list(self.server_state.connections):
                transport = connection.transport
                if not transport.is_closing():
                    continue
                unread = _unread(transport)
                before, since = unchanged.get(connection, (None, now))
                if unread != before:
                    unchanged[connection] = (unread, now)
                elif now - since >= GRACE:
                    transport.abort()
            await asyncio.sleep(0.1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal; end at once at the second."""
        if self._engine.draining:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        # Now and not in the event loop: a second signal may arrive before the loop runs it.
        self._engine.drain()
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        logger.info("draining")
        self._loop.call_later(self._engine.settings.drain, self._end)

    def _end(self) -> None:
        self._engine.stop_accepting()
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return True to end, which is also the case if a model cannot be loaded."""
        return await super().on_tick(counter) or self._engine.failure is not None


def _unread(transport: asyncio.Transport) -> int:
    """Count the bytes that wait for the client; a different count later means that it reads.

    An encrypted transport does not count those which it has passed on, so the operating system's
    are added where it tells them (tty_ioctl(2), TIOCOUTQ).
    """
    waiting = transport.get_write_buffer_size()
    if termios is None:
        return waiting
    number = array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, number)
    except OSError:  # closed just now, or not told for this kind of socket
        return waiting
    return waiting + number[0]


def run(engine: Engine) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The address cannot be listened on.
        Exception: The error that prevented a model from being loaded.
    """
    # Before a thread begins to load a model: after that the process could not end cleanly.
    with listening(engine.settings) as listener:
        Server(engine, listener).run(sockets=[listener.socket])
    if engine.failure is not None:
        raise engine.failure
