"""HTTP/1.1 by hand on the loopback, so that it can misbehave down to the single byte."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived; `headers` have names in lower case, `started` is monotonic."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    started: float

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Answer:
    """An answer that is known before its first byte is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self, length: int | None) -> bytes:
        """Status line and headers; without a length they announce chunks."""
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        reason = http.client.responses.get(self.status, "Unknown")
        lines = [f"HTTP/1.1 {self.status} {reason}", framing]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client's connection. It never stops reading, so it knows at once when the client left."""

    def __init__(
        self,
        number: int,
        serve: Callable[[Connection], Coroutine[Any, Any, None]],
        on_made: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.number = number
        self.close_on_next = False
        self._serve = serve
        self._on_made = on_made
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._more: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._on_made(self)
        self.task = asyncio.get_running_loop().create_task(self._serve(self))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.task.cancel()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def next_request(self) -> SeenRequest:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._read_more()
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if "transfer-encoding" in headers:
            raise NotImplementedError("the fault server reads no chunked requests")
        start = end + 4
        stop = start + int(headers.get("content-length", 0))
        while len(self._buffer) < stop:
            await self._read_more()
        body = bytes(self._buffer[start:stop])
        del self._buffer[:stop]
        return SeenRequest(method, path, headers, body, self.number, time.monotonic())

    async def _read_more(self) -> None:
        self._more = asyncio.get_running_loop().create_future()
        await self._more

    async def write(self, data: bytes) -> None:
        """Send, and wait while the client is slow to read."""
        self.transport.write(data)
        await self._writable.wait()

    async def send(self, answer: Answer) -> None:
        await self.write(answer.head(len(answer.body)) + answer.body)
        if answer.headers.get("connection") == "close":
            self.close()

    def close(self) -> None:
        """FIN, after what is written."""
        self.transport.close()

    def reset(self) -> None:
        """RST."""
        no_linger = struct.pack("ii", 1, 0)
        connected = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.transport.abort()


@dataclass(frozen=True)
class Exchange:
    """A request that waits for its answer, and how many did when it arrived, itself included."""

    request: SeenRequest
    connection: Connection
    in_flight: int


class Fault(Protocol):
    """The answer or failure that one request gets."""

    async def answer(self, exchange: Exchange) -> None: ...


async def _let_things_settle() -> None:
    # A client's last act is a few turns of the loop away from what it changes here: the socket is
    # read, the connection is told, its task is cancelled, the task ends.
    for _ in range(10):
        await asyncio.sleep(0)


class LoopbackServer:
    """Gives every request the fault that a test has chosen, in a thread of its own.

    May be read and scripted from any thread. What a test reads takes account of all that its
    clients have sent, received or closed before. A fault that fails, or a request that cannot be
    understood, costs the client its connection, and is raised where the server is left.

    Args:
        default: For requests without another fault.
        tls: To speak TLS, by its certificate.

    Attributes:
        url: Where it listens, without a slash at the end.
        default: As given.
        choose: If set, decides about every request, whatever the script and `default` say.
        record: Whether requests are kept; `received` counts them in any case.
    """

    def __init__(self, default: Fault, tls: ssl.SSLContext | None = None) -> None:
        self.default = default
        self._tls = tls
        self.choose: Callable[[SeenRequest], Fault] | None = None
        self.record = True
        self._script: deque[Fault] = deque()
        self._requests: list[SeenRequest] = []
        self._received = 0
        self._in_flight = 0
        self._most_in_flight = 0
        self._accepted = 0
        self._accepted_before_reset = 0
        self._open: set[Connection] = set()
        self._failures: list[BaseException] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        for failure in self._failures:
            if error is None:
                raise failure
            error.add_note(f"The fault server failed too: {failure!r}")

    @property
    def requests(self) -> list[SeenRequest]:
        """In order of arrival. The list itself, which grows."""
        return self._read(lambda: self._requests)

    @property
    def received(self) -> int:
        """The number of requests that arrived."""
        return self._read(lambda: self._received)

    @property
    def connections(self) -> int:
        """The number of connections that were ever accepted."""
        return self._read(lambda: self._accepted - self._accepted_before_reset)

    @property
    def open_connections(self) -> int:
        """The number of connections that are open now."""
        return self._read(lambda: len(self._open))

    @property
    def in_flight(self) -> int:
        """The number of requests that are being answered now."""
        return self._read(lambda: self._in_flight)

    @property
    def most_in_flight(self) -> int:
        """The most that were at the same time, those that are refused for it included."""
        return self._read(lambda: self._most_in_flight)

    def script(self, *faults: Fault) -> None:
        """Give the next requests these, in order; what was left of an earlier script is gone."""
        self._script = deque(faults)

    def reset(self) -> None:
        """Forget requests, counts and script. `default`, `choose` and connections stay."""

        def forget() -> None:
            self._script = deque()
            self._requests = []
            self._received = 0
            self._most_in_flight = self._in_flight
            self._accepted_before_reset = self._accepted

        self._read(forget)

    def _read(self, value: Callable[[], T]) -> T:
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return value()

        async def after_what_happened() -> T:
            await _let_things_settle()
            return value()

        return asyncio.run_coroutine_threadsafe(after_what_happened(), self._loop).result()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(
            self._accept, sock=self._socket, backlog=1024, ssl=self._tls
        )
        self._started.set()
        await self._stop.wait()
        server.close()
        await _let_things_settle()  # or a connection that is just being accepted would stay open
        open_now = list(self._open)
        for connection in open_now:
            connection.transport.abort()
        await asyncio.gather(*(connection.task for connection in open_now), return_exceptions=True)
        await server.wait_closed()

    def _accept(self) -> Connection:
        self._accepted += 1
        return Connection(self._accepted, self._serve, self._open.add, self._open.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            while not connection.transport.is_closing():
                await self._answer(await connection.next_request(), connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, __exit__ raises it
            self._failures.append(error)
            connection.reset()

    async def _answer(self, request: SeenRequest, connection: Connection) -> None:
        self._received += 1
        if self.record:
            self._requests.append(request)
        if connection.close_on_next:
            connection.close()
            return
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        try:
            exchange = Exchange(request, connection, self._in_flight)
            await self._fault_for(request).answer(exchange)
        finally:
            self._in_flight -= 1
        if request.headers.get("connection") == "close":
            connection.close()

    def _fault_for(self, request: SeenRequest) -> Fault:
        if self.choose is not None:
            return self.choose(request)
        return self._script.popleft() if self._script else self.default
