"""The only module that knows httpx."""

from __future__ import annotations

import zlib

import httpx

from ...errors import (
    ConfigurationError,
    ConnectionFailedError,
    RequestTimeoutError,
    ResponseError,
    ServiceError,
)
from .secrets import Secrets
from .wire import Reply, largest_answer

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept. Load balancers close theirs after 60 and more; one
that the other side has closed is noticed before it is used again."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib's own sign for "look at the header"


class HttpTransport:
    """A pool of connections to one address.

    Redirects are not followed: they would carry the key to another host.

    Args:
        url: Where requests go.
        secrets: The headers that nobody may see.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the service, in seconds.
        connections: How many at most.
        http2: Whether to offer HTTP/2, which needs the package h2.

    Raises:
        ConfigurationError: h2 is wanted and not installed.
    """

    def __init__(
        self,
        url: str,
        secrets: Secrets,
        *,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
        http2: bool,
    ) -> None:
        try:
            self._client = httpx.AsyncClient(
                headers={
                    "Accept": "application/json",
                    # Scores are small, and what comes compressed can be a bomb.
                    "Accept-Encoding": "identity",
                    "Content-Type": "application/json",
                    "User-Agent": "jina-rerank",
                    **secrets.headers(),
                },
                timeout=httpx.Timeout(read_timeout, connect=connect_timeout, pool=None),
                limits=httpx.Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections,
                    keepalive_expiry=KEEP_ALIVE,
                ),
                http2=http2,
                follow_redirects=False,
            )
        except ImportError as error:
            raise ConfigurationError(
                "http2=True needs h2, which is not installed: pip install 'httpx[http2]'"
            ) from error
        self._url = url
        self._secrets = secrets
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout

    async def send(self, body: bytes) -> Reply:
        """Send a JSON body; see `Transport.send`.

        Services have been seen to send keys back, so the reply comes without them.
        """
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                return Reply(
                    response.status_code,
                    self._secrets.hide_bytes(await _read(response, largest_answer(body))),
                    {
                        name.lower(): self._secrets.hide(value)
                        for name, value in response.headers.items()
                    },
                )
        except _UnreadableError as error:
            failure: ServiceError = ResponseError(
                f"the answer of {self._url} {error}", error.status
            )
        except httpx.HTTPError as error:
            failure = self._failure(error)
        # Raised out here, so that the error behind it is not attached: the locals in its
        # traceback, which error trackers collect, hold the request's headers.
        raise failure

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _failure(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.ConnectTimeout):
            return ConnectionFailedError(
                f"no connection to {self._url} within {self._connect_timeout:g} s"
            )
        if isinstance(error, httpx.TimeoutException):
            return RequestTimeoutError(f"{self._url} was silent for {self._read_timeout:g} s")
        # Broken connections reach us without a word.
        reason = self._secrets.hide(str(error)) or "it broke before the answer was whole"
        return ConnectionFailedError(f"the connection to {self._url} failed: {reason}")


class _UnreadableError(Exception):
    """The body cannot be read; the message goes on after "the answer of ..."."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def _read(response: httpx.Response, most: int) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    status = response.status_code
    if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise _UnreadableError("is encoded in a way that was not asked for", status)
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding != "identity" else None
    content = bytearray()
    try:
        async for chunk in response.aiter_raw():
            # One more byte than allowed, never all that a bomb unfolds to.
            content += inflate.decompress(chunk, most + 1 - len(content)) if inflate else chunk
            if len(content) > most:
                raise _UnreadableError(
                    f"is larger than {most:,} bytes, and the scores of what was sent never are",
                    status,
                )
    except zlib.error as error:
        raise _UnreadableError(f"cannot be decompressed: {error}", status) from None
    return bytes(content)
