"""A rerank service on the loopback that answers as well or as badly as a test asks.

    with FaultServer() as server:
        server.script(Status(503), RateLimited(retry_after="1"))  # and then right answers

A fault is what one request gets. One that is a `Whole` answer can be handed to others, which
delay, cut or pack it: `Slow(0.2, Drip(0.01, 4, Status(500)))`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import dialect_answers as dialects
from dialect_answers import LimitKind, Shape
from loopback import Answer, Exchange, Fault, LoopbackServer, SeenRequest

JSON = {"content-type": "application/json"}
MEGABYTE = b" " * 2**20


class FaultServer(LoopbackServer):
    """A rerank service that answers right until it is told otherwise; see `LoopbackServer`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(default=Right(), tls=tls)


class Whole:
    """A fault that is a complete answer, known before its first byte is sent."""

    def whole(self, request: SeenRequest) -> Answer:
        raise NotImplementedError

    async def answer(self, exchange: Exchange) -> None:
        await exchange.connection.send(self.whole(exchange.request))


def _dialect(request: SeenRequest) -> dialects.Dialect | None:
    return dialects.dialect_of(request.path, request.json)


def _encode(payload: Any) -> bytes:
    # As the services do: UTF-8 as it is, and NaN as the token that JSON does not have.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _right_payload(request: SeenRequest, shape: Shape) -> tuple[int, Any]:
    dialect = _dialect(request)
    if request.method == "GET" and request.path == "/health":
        return 200, {"status": "ok"}
    if request.method == "GET" and request.path == "/v1/models":
        return 200, {"data": [{"id": "jina-reranker-v2-base-multilingual"}]}
    if dialect is None:
        return 404, dialects.plain("Not Found")
    if request.method != "POST":
        return 405, dialects.plain("Method Not Allowed")
    return 200, dialects.right_payload(dialect, request.json, shape)


@dataclass(frozen=True)
class Right(Shape, Whole):
    """The well-formed answer, in any shape that services give it, with any headers beside."""

    headers: Mapping[str, str] = field(default_factory=dict)

    def whole(self, request: SeenRequest) -> Answer:
        status, payload = _right_payload(request, self)
        return Answer(status, _encode(payload), JSON | dict(self.headers))


@dataclass(frozen=True)
class Edited(Whole):
    """The right payload after `change`, which returns what to send in its place."""

    change: Callable[[Any], Any]

    def whole(self, request: SeenRequest) -> Answer:
        status, payload = _right_payload(request, Shape())
        return Answer(status, _encode(self.change(payload)), JSON)


@dataclass(frozen=True)
class Status(Whole):
    """Any status; the body is JSON unless it is text, bytes or None, which is empty."""

    status: int
    body: Mapping[str, Any] | list[Any] | str | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def whole(self, request: SeenRequest) -> Answer:
        if isinstance(self.body, str):
            body, kind = self.body.encode(), {"content-type": "text/plain; charset=utf-8"}
        elif isinstance(self.body, bytes | None):
            body, kind = self.body or b"", {}
        else:
            body, kind = _encode(self.body), JSON
        return Answer(self.status, body, kind | dict(self.headers))


@dataclass(frozen=True)
class RateLimited(Whole):
    """429: always, or to the first `for_requests` that get this very object, the rest `then`."""

    kind: LimitKind = "requests"
    retry_after: str | None = None
    for_requests: int | None = None
    then: Whole = Right()
    _given: list[SeenRequest] = field(default_factory=list, init=False, repr=False, compare=False)

    def whole(self, request: SeenRequest) -> Answer:
        if self.for_requests is not None:
            self._given.append(request)
            if len(self._given) > self.for_requests:
                return self.then.whole(request)
        headers = dict(JSON)
        if self.kind in {"requests", "tokens"}:
            headers[f"x-ratelimit-remaining-{self.kind}"] = "0"
        if self.retry_after is not None:
            headers["retry-after"] = self.retry_after
        body = dialects.rate_limit_body(_dialect(request), self.kind)
        return Answer(429, _encode(body), headers)


@dataclass(frozen=True)
class MaxInFlight:
    """429 to a request that finds `n` being answered, the others `then` after `delay` seconds."""

    n: int
    delay: float = 0.0
    then: Fault = Right()
    retry_after: str | None = None

    async def answer(self, exchange: Exchange) -> None:
        if exchange.in_flight > self.n:
            await RateLimited("concurrency", self.retry_after).answer(exchange)
        else:
            await Slow(self.delay, self.then).answer(exchange)


@dataclass(frozen=True)
class TooLarge(Whole):
    """`status` to a request of more documents or bytes than these, `then` to the others."""

    max_documents: int | None = None
    max_bytes: int | None = None
    status: Literal[413, 422, 504] = 413
    then: Whole = Right()

    def whole(self, request: SeenRequest) -> Answer:
        dialect = _dialect(request)
        count = len(dialects.documents_of(dialect, request.json))
        size = len(request.body)
        if self.max_bytes is not None and size > self.max_bytes:
            body = dialects.too_large_body(dialect, self.status, size, self.max_bytes, "bytes")
        elif self.max_documents is not None and count > self.max_documents:
            limit = self.max_documents
            body = dialects.too_large_body(dialect, self.status, count, limit, "documents")
        else:
            return self.then.whole(request)
        return Status(self.status, body).whole(request)


@dataclass(frozen=True)
class EchoKey(Whole):
    """401 that tells the caller the key it was sent."""

    def whole(self, request: SeenRequest) -> Answer:
        key = request.headers.get("authorization", "")
        body = dialects.flat("AUTH_INVALID_API_KEY", f"Invalid credentials: {key}")
        return Status(401, body).whole(request)


@dataclass(frozen=True)
class Html(Whole):
    """A gateway's page where JSON should be."""

    status: int = 200

    def whole(self, request: SeenRequest) -> Answer:
        body = dialects.HTML.replace("{status}", str(self.status))
        return Answer(self.status, body.encode(), {"content-type": "text/html; charset=UTF-8"})


@dataclass(frozen=True)
class HalfJson(Whole):
    """Half of the right answer, as if that were all."""

    def whole(self, request: SeenRequest) -> Answer:
        right = Right().whole(request)
        return Answer(right.status, right.body[: len(right.body) // 2], right.headers)


@dataclass(frozen=True)
class WrongEncoding(Whole):
    """The right answer in bytes that are not UTF-8."""

    encoding: Literal["latin-1", "utf-16"] = "latin-1"

    def whole(self, request: SeenRequest) -> Answer:
        status, payload = _right_payload(request, Shape(result_extra={"note": "café"}))
        text = json.dumps(payload, ensure_ascii=False)
        return Answer(status, text.encode(self.encoding, "backslashreplace"), JSON)


@dataclass(frozen=True)
class Redirect(Whole):
    """Sends the client elsewhere."""

    location: str
    status: int = 307

    def whole(self, request: SeenRequest) -> Answer:
        return Answer(self.status, b"", {"location": self.location})


@dataclass(frozen=True)
class Gzipped(Whole):
    """Compressed, whether the client takes that or not."""

    then: Whole = Right()

    def whole(self, request: SeenRequest) -> Answer:
        plain = self.then.whole(request)
        headers = dict(plain.headers) | {"content-encoding": "gzip"}
        return Answer(plain.status, gzip.compress(plain.body, mtime=0), headers)


@cache
def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(MEGABYTE) for _ in range(megabytes)) + packer.flush()


@dataclass(frozen=True)
class GzipBomb(Whole):
    """A thousandth of these megabytes on the wire: white space, which JSON allows in any amount."""

    megabytes: int

    def __post_init__(self) -> None:
        _bomb(self.megabytes)  # here, since it takes a while, and not while requests wait

    def whole(self, request: SeenRequest) -> Answer:
        return Answer(200, _bomb(self.megabytes), {**JSON, "content-encoding": "gzip"})


@dataclass(frozen=True)
class HugeBody:
    """Megabytes of white space; chunked, or `declared` by a length that a client can refuse."""

    megabytes: int
    declared: bool = False

    async def answer(self, exchange: Exchange) -> None:
        length = self.megabytes * len(MEGABYTE) if self.declared else None
        piece = MEGABYTE if self.declared else _chunk(MEGABYTE)
        await exchange.connection.write(Answer(200, b"", JSON).head(length))
        for _ in range(self.megabytes):
            await exchange.connection.write(piece)
            await asyncio.sleep(0)  # a client that reads as fast must not starve the others
        if not self.declared:
            await exchange.connection.write(_chunk(b""))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True)
class NoContentLength:
    """In chunks, so that only the last says that there is no more."""

    then: Whole = Right()

    async def answer(self, exchange: Exchange) -> None:
        whole = self.then.whole(exchange.request)
        await exchange.connection.write(whole.head(None))
        half = len(whole.body) // 2
        for piece in filter(None, (whole.body[:half], whole.body[half:])):
            await exchange.connection.write(_chunk(piece))
        await exchange.connection.write(_chunk(b""))


@dataclass(frozen=True)
class Slow:
    """Nothing for `delay` seconds."""

    delay: float
    then: Fault = Right()

    async def answer(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.delay)
        await self.then.answer(exchange)


@dataclass(frozen=True)
class Drip:
    """The headers, and then `chunk` bytes of the body every `interval` seconds."""

    interval: float
    chunk: int = 1
    then: Whole = Right()

    async def answer(self, exchange: Exchange) -> None:
        whole = self.then.whole(exchange.request)
        await exchange.connection.write(whole.head(len(whole.body)))
        for start in range(0, len(whole.body), self.chunk):
            await asyncio.sleep(self.interval)
            await exchange.connection.write(whole.body[start : start + self.chunk])


@dataclass(frozen=True)
class Hang:
    """Nothing, until the client leaves."""

    async def answer(self, exchange: Exchange) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class ResetBefore:
    """RST, once the request has been read."""

    async def answer(self, exchange: Exchange) -> None:
        exchange.connection.reset()


@dataclass(frozen=True)
class CloseMidBody:
    """Half of the body that the headers promise, and FIN."""

    then: Whole = Right()

    async def answer(self, exchange: Exchange) -> None:
        await self._send_half(exchange)
        exchange.connection.close()

    async def _send_half(self, exchange: Exchange) -> None:
        whole = self.then.whole(exchange.request)
        half = whole.body[: len(whole.body) // 2]
        await exchange.connection.write(whole.head(len(whole.body)) + half)


@dataclass(frozen=True)
class ResetMidBody(CloseMidBody):
    """Half of the body that the headers promise, and RST."""

    async def answer(self, exchange: Exchange) -> None:
        await self._send_half(exchange)
        exchange.connection.reset()


@dataclass(frozen=True)
class CloseIdle:
    """An answer, and then FIN on a connection that the client may want to use again."""

    then: Whole = Right()

    async def answer(self, exchange: Exchange) -> None:
        await self.then.answer(exchange)
        exchange.connection.close()


@dataclass(frozen=True)
class CloseOnReuse:
    """An answer, and FIN in place of one when the connection is used again.

    That second request is recorded and takes no fault from the script.
    """

    then: Whole = Right()

    async def answer(self, exchange: Exchange) -> None:
        await self.then.answer(exchange)
        exchange.connection.close_on_next = True
