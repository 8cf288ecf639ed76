"""Running the service in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from array import array
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

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

CHECK_EVERY = 10.0
"""Seconds between two checks that the models compute."""

MAX_FAILED_CHECKS = 3
"""Number of failed checks in a row after which the process ends; also Kubernetes' default for
liveness probes."""


class Server(uvicorn.Server):
    """A server that ends without losing a request.

    On SIGTERM or SIGINT it is no longer ready and asks clients to close their connections. It
    continues to accept requests for `Settings.drain`, then stops accepting and answers the
    remaining requests.

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

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end."""
        # Here, since a signal may arrive before `startup`.
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, and log the URL."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            logger.info("listening", extra={"url": self.url})

    @property
    def url(self) -> str:
        """URL of the server; see `url_of`."""
        return url_of(self.servers[0].sockets[0], "https" if self.config.is_ssl else "http")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and answer the remaining requests."""
        # Here, before requests are answered: another process may be about to listen on the file.
        if self._listener is not None:
            self._listener.remove_file()
        with _beside(self._abort_silent_connections(), self._abort_handshakes()):
            await super().shutdown(sockets)

    async def _answered(self) -> None:
        """Wait until all connections are closed and all requests are answered."""
        # ASYNC110: uvicorn has no event for it.
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def _abort_handshakes(self) -> None:
        """Abort the connections that remain at the end: those whose TLS handshake has not ended.

        asyncio waits 60 s for a handshake, and since Python 3.12 for its connection. Python 3.12
        itself cannot abort it.
        """
        await self._answered()
        for server in self.servers:
            if isinstance(server, asyncio.Server) and sys.version_info >= (3, 13):
                server.abort_clients()

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
        """Drain, then end."""
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


class _Process(Server):
    """A server that may end its process, where an orderly end would take too long.

    A thread that loads a model, computes or hangs cannot be interrupted, and Python waits for it.
    """

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end; end the process if the models no longer compute."""
        with _beside(self._watch()):
            await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down; end the process with the last response if a model is still being loaded."""
        with _beside(self._leave_loading()):
            await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal; end the process at the second."""
        if self._engine.draining:
            self._end_process(128 + sig)
        super().handle_exit(sig, frame)

    async def _watch(self) -> None:
        failed = 0
        while failed < MAX_FAILED_CHECKS:
            await asyncio.sleep(CHECK_EVERY)
            if self._engine.draining:
                return
            failed = 0 if await self._engine.pulse() == "live" else failed + 1
        logger.error("the process ends because the models do not compute")
        self._end_process(1)

    async def _leave_loading(self) -> None:
        await self._answered()
        if self._engine.loading:
            self._end_process(0)

    def _end_process(self, status: int) -> NoReturn:
        if self._listener is not None:
            self._listener.remove_file()
        os._exit(status)


@contextmanager
def _beside(*work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Run coroutines as tasks until the end of the block."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


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

    The process ends with status 1 after some failed checks of its models, so that its supervisor
    starts it again, also one that does not request `/live`.

    Raises:
        ConfigurationError: The address cannot be listened on.
        Exception: The error that prevented a model from being loaded.
    """
    # Before a thread begins to load a model: after that the process could not end cleanly.
    with listening(engine.settings) as listener:
        _Process(engine, listener).run(sockets=[listener.socket])
    if engine.failure is not None:
        raise engine.failure
