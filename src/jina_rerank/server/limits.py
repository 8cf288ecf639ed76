"""Reading a request's body within limits of size, time and depth."""

from __future__ import annotations

import asyncio
import codecs
import json
import re

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from .refusals import (
    ClientGone,
    InvalidRequest,
    SlowRequest,
    TooLarge,
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


async def read_json(request: Request, settings: Settings) -> object:
    """Read the JSON value of a body within the limits of bytes, time and depth.

    Args:
        request: The request, whose body has not been read yet.
        settings: Settings, of which `max_body_bytes` and `deadline` apply.

    Raises:
        InvalidRequest: The Content-Type is not JSON.
        UnsupportedEncoding: The body is compressed: a few kilobytes could become gigabytes.
        TooLarge: The body has too many bytes, by its Content-Length or when read.
        SlowRequest: The body did not arrive in time.
        ClientGone: The client closed its connection before the body was complete.
        Unreadable: The body is not JSON, or is nested too deeply; the message names the place.
    """
    _check_media_type(request.headers)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding("the body is compressed; send it as it is")
    return parse_json(await _read(request, settings))


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


async def _read(request: Request, settings: Settings) -> bytes:
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    # Checked before and while the body is read, since a chunked body has no Content-Length.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.deadline):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise SlowRequest("the body did not arrive in time") from None
    except ClientDisconnect:
        raise ClientGone("the client closed its connection while it was sending") from None
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit:,} bytes; send fewer documents at a time")
