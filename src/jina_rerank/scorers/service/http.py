"""Requests with httpx, which only this module uses."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from ..._installed import is_installed, missing_package
from ...errors import (
    ConfigurationError,
    ConnectionFailedError,
    RejectedSettingError,
    RequestTimeoutError,
    ResponseError,
    ServiceError,
)
from .environment import Proxy, create_tls_context, find_proxy
from .secrets import Secrets
from .wire import Reply, largest_answer

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept. Load balancers close idle ones after 60 s and more; a
connection that the other side has closed is noticed before it is used again."""

PROXY_WANTS_CREDENTIALS = 407

# The beginnings of httpcore's messages, for HTTP and for SOCKS.
_REFUSED_CREDENTIALS = (f"{PROXY_WANTS_CREDENTIALS}", "Requested", "Invalid username")

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib then detects the format from the header


class HttpTransport:
    """A pool of connections to one address, with the environment's proxy and certificates.

    Redirects are not followed: they would carry the key to another host.

    Args:
        url: The address of all requests.
        secrets: The secret headers.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the service, in seconds.
        connections: Largest number of connections.
        http2: Whether to offer HTTP/2, which needs the package h2.
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
        self._url = url
        self._secrets = secrets
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._connections = connections
        self._http2 = http2
        self._opening = asyncio.Lock()
        self._proxy: Proxy | None = None
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    async def open(self) -> None:
        """Make the client; see `Transport.open`.

        Raises:
            ConfigurationError: A package is missing for HTTP/2 or a SOCKS proxy, or a variable of
                the environment names a proxy or certificates that cannot be used.
        """
        await self._open()

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._closed:
                raise RuntimeError("the transport is closed")
            if self._client is None:
                self._proxy = find_proxy(self._url)
                # Reading certificates takes some 50 ms, in which this loop serves other requests.
                self._client = await asyncio.to_thread(self._new_client)
            return self._client

    def _new_client(self) -> httpx.AsyncClient:
        certificates = _new_tls_context(needed=urlsplit(self._url).scheme == "https")
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"base_url {self._url!r} cannot be used: {error}") from None
        if self._http2:
            _keep_headers_out_of_logs()
        try:
            return httpx.AsyncClient(
                headers={
                    "Accept": "application/json",
                    # Scores are small, and a compressed answer can be a decompression bomb.
                    "Accept-Encoding": "identity",
                    "Content-Type": "application/json",
                    "User-Agent": "jina-rerank",
                    **self._secrets.headers(),
                },
                verify=certificates,
                proxy=None if self._proxy is None else _for_httpx(self._proxy),
                timeout=httpx.Timeout(self._read_timeout, connect=self._connect_timeout, pool=None),
                limits=httpx.Limits(
                    max_connections=self._connections,
                    max_keepalive_connections=self._connections,
                    keepalive_expiry=KEEP_ALIVE,
                ),
                http2=self._http2,
                follow_redirects=False,
                trust_env=False,  # environment.py has read it
            )
        except ImportError:
            problem = self._missing_package()
        except httpx.InvalidURL:
            assert self._proxy is not None
            problem = ConfigurationError(f"{self._proxy.variable} is not the address of a proxy")
        # Raised outside of the handlers for the reason given in `send`.
        raise problem

    def _missing_package(self) -> ConfigurationError:
        if self._http2 and not is_installed("h2"):
            return missing_package("h2", "http2=True", 'pip install "httpx[http2]"')
        assert self._proxy is not None
        return missing_package(
            "socksio",
            f"{self._proxy.variable} names a SOCKS proxy and",
            'pip install "httpx[socks]", or name the host in NO_PROXY',
        )

    async def send(self, body: bytes) -> Reply:
        """Send a JSON body; see `Transport.send`.

        Some services send keys back, so keys are removed from the reply.
        """
        client = self._client or await self._open()
        progress = _Progress()
        exchange = asyncio.ensure_future(self._exchange(client, body, progress))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            await progress.cancel(exchange)
            raise
        except _UnreadableError as error:
            failure: ServiceError = ResponseError(
                f"the answer of {self._url} {error}", error.status
            )
        except httpx.HTTPError as error:
            failure = self._failure(error)
        except Exception:
            # httpx lets any exception through when a SOCKS proxy breaks the protocol.
            if self._proxy is None or not self._proxy.is_socks:
                raise
            failure = ConnectionFailedError(
                f"the connection to {self._url} failed: {self._way()} does not speak SOCKS 5"
            )
        # Raised outside of the handlers, so that the original error is not attached: the locals in
        # its traceback, which error trackers collect, hold the request's headers.
        del exchange  # it refers to that error too
        raise failure

    async def _exchange(self, client: httpx.AsyncClient, body: bytes, progress: _Progress) -> Reply:
        extensions = {"trace": progress}
        async with client.stream("POST", self._url, content=body, extensions=extensions) as answer:
            content = await _read(answer, largest_answer(body))
            if self._proxy is not None and answer.status_code == PROXY_WANTS_CREDENTIALS:
                raise httpx.ProxyError(f"{PROXY_WANTS_CREDENTIALS} {answer.reason_phrase}")
            content = self._secrets.hide_bytes(content)
            if self._proxy is not None and not answer.is_success:
                # A failure may come from the proxy and echo its password.
                content = self._proxy.hide_bytes(content)
            return Reply(
                answer.status_code,
                content,
                {name.lower(): self._secrets.hide(value) for name, value in answer.headers.items()},
            )

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        async with self._opening:  # a client that is being made is closed too
            if self._client is not None:
                await self._client.aclose()

    def _failure(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.ConnectTimeout):
            return ConnectionFailedError(
                f"no connection to {self._url} within {self._connect_timeout:g} s"
            )
        if isinstance(error, httpx.TimeoutException):
            return RequestTimeoutError(f"{self._url} was silent for {self._read_timeout:g} s")
        said = self._secrets.hide(str(error))
        if self._proxy is not None:
            said = self._proxy.hide(said)
        is_refusal = isinstance(error, httpx.ProxyError) and said.startswith(_REFUSED_CREDENTIALS)
        if self._proxy is not None and is_refusal:
            return RejectedSettingError(
                f"{self._way()} does not accept the user and the password ({said}): write "
                f"{self._proxy.scheme}://USER:PASSWORD@HOST:PORT",
                None if self._proxy.is_socks else PROXY_WANTS_CREDENTIALS,
            )
        # The errors of broken connections have no message.
        reason = said or "it broke before the answer was whole"
        way = "" if self._proxy is None else f", by {self._way()},"
        return ConnectionFailedError(f"the connection to {self._url}{way} failed: {reason}")

    def _way(self) -> str:
        assert self._proxy is not None
        return f"the proxy of {self._proxy.variable} ({self._proxy.address})"


class _Progress:
    """Progress of httpcore with a request, so that it is cancelled only where that is safe.

    There are places where httpcore 1.0 has assigned a connection and not yet recorded that it is
    in use, or no longer needs it and has not recorded that. If it is cancelled there, it never uses
    the connection again and counts it for ever: the pool fills up. httpcore waits for nothing in
    these places, so it leaves them at once.
    """

    _TURNS = 100  # of the event loop; two or three are enough
    _FRAGILE_FROM = (
        ".connect_tcp.complete",
        ".setup_socks5_connection.complete",
        ".start_tls.complete",
        ".receive_response_body.complete",
        ".response_closed.started",
    )

    def __init__(self) -> None:
        self._is_fragile = True
        self._to_proxy: AsyncNetworkStream | None = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Record an event; httpcore calls this as its trace extension."""
        if event.endswith(".setup_socks5_connection.started"):
            self._to_proxy = info["stream"]
        elif event.endswith(".setup_socks5_connection.failed") and self._to_proxy is not None:
            await self._to_proxy.aclose()  # httpcore 1.0 leaves it open
        if event.endswith(self._FRAGILE_FROM):
            self._is_fragile = True
        elif event.endswith(".started"):
            self._is_fragile = False

    async def cancel(self, exchange: asyncio.Future[Reply]) -> None:
        """Cancel the request as soon as that is safe, and wait until it has ended."""
        exchange.add_done_callback(_retrieve)
        try:
            for _ in range(self._TURNS):
                if exchange.done() or not self._is_fragile:
                    break
                await asyncio.sleep(0)
        finally:
            exchange.cancel()
        await asyncio.wait([exchange])


def _retrieve(exchange: asyncio.Future[Reply]) -> None:
    """Retrieve the error of an abandoned request; otherwise asyncio would report it."""
    if not exchange.cancelled():
        exchange.exception()


class _UnreadableError(Exception):
    """The body cannot be read; the message continues a sentence: "the answer of ..."."""

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
            # At most one byte more than allowed, however much a bomb would unpack to.
            content += inflate.decompress(chunk, most + 1 - len(content)) if inflate else chunk
            if len(content) > most:
                raise _UnreadableError(
                    f"is larger than {most:,} bytes, and the scores of what was sent never are",
                    status,
                )
    except zlib.error as error:
        raise _UnreadableError(f"cannot be decompressed: {error}", status) from None
    return bytes(content)


def _keep_headers_out_of_logs() -> None:
    """Turn off the debug log of hpack, HTTP/2's compression, which quotes the headers' values."""
    logger = logging.getLogger("hpack")
    logger.setLevel(max(logger.level, logging.INFO))


def _new_tls_context(*, needed: bool) -> ssl.SSLContext:
    if not needed:
        # A context without certificates, so none have to be read.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return create_tls_context(lambda: httpx.create_ssl_context(trust_env=False))


def _for_httpx(proxy: Proxy) -> httpx.Proxy:
    # A separate context: httpcore sets the protocols to offer on it.
    context = _new_tls_context(needed=True) if proxy.scheme == "https" else None
    return httpx.Proxy(proxy.address, auth=proxy.credentials(), ssl_context=context)
