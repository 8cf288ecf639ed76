"""Reading a request's body within limits of size, time, depth and number of values."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from .refusals import (
    ClientGone,
    InvalidRequest,
    SlowRequest,
    TooLarge,
    TooManyRequests,
    Unreadable,
    UnsupportedEncoding,
    WrongField,
)
from .settings import Settings

SURROGATE = (
    "lone leading surrogate",
    "unexpected end of hex escape",
    "invalid unicode code point",
)
"""Beginnings of pydantic_core's errors about lone surrogates: the second half of a pair, the first
half of a pair, and either of them as bytes instead of an escape."""

_ESCAPES = re.compile(
    rb"(?P<surrogate>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\xed[\xa0-\xbf][\x80-\xbf])|\\.", re.DOTALL
)
"""Surrogates as escapes and as bytes; an escaped backslash before a `u` is not an escape."""


UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Content types of clients that do not declare a type."""

_JSON_SUFFIX = re.compile(r"application/[^/\s]+\+json")

SMALL_BODY = 128 * 1024
"""Bytes of a body that is always read, since it costs little more than its connection."""

BODIES_AT_ONCE = 4
"""Number of bodies of the maximum size that may be in memory at the same time."""

LEAST_MAX_VALUES = 100_000
VALUES_PER_DOCUMENT = 100
"""The maximum number of JSON values in a body: so many for each document that a request may have,
and at least `LEAST_MAX_VALUES`. A value of three bytes takes 72 bytes of memory when parsed."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
"""A string of JSON. One that does not end reaches to the end of the body: otherwise each escaped
quote in it would be tried as a beginning, which takes hours."""

AddBytes = Callable[[int], None]
"""Function that counts more bytes of a body."""


class Bodies:
    """The bodies of all requests that are being read or answered, counted by their bytes.

    The queue of the model counts a request only when its body has been read and checked.

    Args:
        limit: Maximum number of bytes.

    Attributes:
        bytes: Present number of bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    @contextmanager
    def body(self) -> Iterator[AddBytes]:
        """Count the bytes of a body until the end of the block.

        Yields:
            Function that counts more bytes. It raises `TooManyRequests` if the other bodies leave
            no memory for this one and it is larger than `SMALL_BODY`.
        """
        size = 0

        def add(count: int) -> None:
            nonlocal size
            if size + count > SMALL_BODY and self.bytes + count > self._limit:
                raise TooManyRequests(
                    "the service holds too many large requests; send it again later",
                    retry_after=1.0,
                )
            size += count
            self.bytes += count

        try:
            yield add
        finally:
            self.bytes -= size


async def read_json(request: Request, settings: Settings, add: AddBytes) -> object:
    """Read the JSON value of a body within the limits.

    Args:
        request: The request, whose body has not been read yet.
        settings: Settings, of which `max_body_bytes`, `max_documents` and `deadline` apply.
        add: Function of `Bodies.body`.

    Raises:
        InvalidRequest: The Content-Type is not JSON.
        UnsupportedEncoding: The body is compressed: a few kilobytes could become gigabytes.
        TooLarge: The body has too many bytes, by its Content-Length or when read, or too many
            values.
        TooManyRequests: The bodies of other requests leave no memory for this one.
        SlowRequest: The body did not arrive in time.
        ClientGone: The client closed its connection before the body was complete.
        Unreadable: The body is not JSON, or is nested too deeply; the message names the place.
    """
    _check_media_type(request.headers)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding("the body is compressed; send it as it is")
    body = await _read(request, settings, add)
    most = max(LEAST_MAX_VALUES, VALUES_PER_DOCUMENT * settings.max_documents)
    # Each value has two bytes or more, with the comma.
    if len(body) > 2 * most:
        await asyncio.to_thread(_check_values, body, most)
    return parse_json(body)


def _check_media_type(headers: Headers) -> None:
    named = headers.get("content-type", "").partition(";")[0].strip().lower()
    if named == "application/json" or _JSON_SUFFIX.fullmatch(named):
        return
    # Any web page can have a browser send texts, forms and bodies without a type to any address,
    # including the loopback. Only browsers send Origin, so untyped bodies with it are refused.
    if named in UNTYPED and (named or "origin" not in headers):
        return
    problem = "must be application/json, with a body that is JSON"
    raise InvalidRequest([WrongField(("header", "content-type"), problem, "content_type")])


def parse_json(body: bytes) -> object:
    """Parse a body's JSON; a byte order mark at its beginning is ignored.

    A lone surrogate, which JavaScript sends for an emoji that was cut in two, is kept in its text:
    a later check of that text refuses it and names the field.

    Raises:
        Unreadable: The body is not JSON, or is nested too deeply; the message names the place.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise Unreadable("the body is empty; send a JSON object")
    try:
        return _parse(body)
    except ValueError as error:
        problem = str(error)
        if problem.startswith(SURROGATE):
            try:
                # The rest must be valid too: parsed with surrogates masked, at the same places.
                _parse(_ESCAPES.sub(_mask, body))
                return json.loads(body.decode("utf-8", "surrogatepass"))
            except ValueError as other:
                problem = str(other)
    # pydantic_core's message names a place, and quotes nothing of the body.
    raise Unreadable(f"the body is not JSON, or is nested too deeply: {problem}")


def _parse(body: bytes) -> object:
    # from_json limits nesting to about 200; Python's parser would recurse until its stack ends.
    value: object = from_json(body, allow_inf_nan=False)
    return value


def _mask(escape: re.Match[bytes]) -> bytes:
    """Replace a surrogate by as many letters; keep other escapes."""
    return b"x" * len(escape[0]) if escape["surrogate"] else escape[0]


def _check_values(body: bytes, most: int) -> None:
    """Check the number of values in a body before they are parsed.

    Raises:
        TooLarge: There are too many.
    """
    # A comma in a text begins no value, so a body that seems too large is counted without texts.
    if _count_values(body) > most and _count_values(_STRING.sub(b"", body)) > most:
        raise TooLarge(
            f"the body has more than {most:,} JSON values; send fewer documents at a time, or "
            "leave out fields that are not ranked"
        )


def _count_values(body: bytes) -> int:
    """Count the places where a value may begin: after a comma, or first in a list or an object."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


async def _read(request: Request, settings: Settings, add: AddBytes) -> bytes:
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    # Checked before and while the body is read, since a chunked body has no Content-Length.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.deadline):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise _too_large(limit)
                add(len(chunk))
                body += chunk
    except TimeoutError:
        raise SlowRequest("the body did not arrive in time") from None
    except ClientDisconnect:
        raise ClientGone("the client closed its connection while it was sending") from None
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit:,} bytes; send fewer documents at a time")
