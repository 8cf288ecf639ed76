"""Reading a request's body without being hurt by it."""

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
"""Beginnings of pydantic_core's errors about half a character: the second half alone, the
first half alone, and either of them as bytes instead of an escape."""

_ESCAPES = re.compile(
    rb"(?P<surrogate>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\xed[\xa0-\xbf][\x80-\xbf])|\\.", re.DOTALL
)
"""Surrogates as escapes and as bytes; an escaped backslash before a `u` begins none."""


UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Content types of clients that do not say what they send."""

_JSON_SUFFIX = re.compile(r"application/[^/\s]+\+json")


async def read_json(request: Request, settings: Settings) -> object:
    """The body as what its JSON says, within the limits of bytes, time and depth.

    Args:
        request: Its body has not been read yet.
        settings: `max_body_bytes` and `deadline` apply.

    Raises:
        InvalidRequest: The Content-Type names something else.
        UnsupportedEncoding: The body is compressed: a few kilobytes could become gigabytes.
        TooLarge: It has too many bytes, announced or not.
        SlowRequest: It did not arrive in time.
        ClientGone: It never will.
        Unreadable: It is no JSON, or is nested too deeply; it says where.
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
    # On behalf of any page a browser sends texts, forms and bodies without a type to any address,
    # the loopback included. It names the page as origin, and nobody else does.
    if named in UNTYPED and (named or "origin" not in headers):
        return
    problem = "must be application/json, with a body that is JSON"
    raise InvalidRequest([WrongField(("header", "content-type"), problem, "content_type")])


def parse_json(body: bytes) -> object:
    """The value of a body's JSON; a byte order mark before it is left out.

    A lone surrogate, which JavaScript sends for an emoji that was cut in two, stays in its text:
    whoever uses that text refuses it by its name.

    Raises:
        Unreadable: It is no JSON, or is nested too deeply; it says where.
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
                # All else is held to the same rules, in a body of equal length without them.
                _parse(_ESCAPES.sub(_mask, body))
                return json.loads(body.decode("utf-8", "surrogatepass"))
            except ValueError as other:
                problem = str(other)
    # It names a place, and quotes nothing of the body.
    raise Unreadable(f"the body is not JSON, or is nested too deeply: {problem}")


def _parse(body: bytes) -> object:
    # Nesting is limited there, to some 200: Python's own parser would go on until its stack ends.
    value: object = from_json(body, allow_inf_nan=False)
    return value


def _mask(escape: re.Match[bytes]) -> bytes:
    """The same number of letters for a surrogate; other escapes stay."""
    return b"x" * len(escape[0]) if escape["surrogate"] else escape[0]


async def _read(request: Request, settings: Settings) -> bytes:
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    # Refused before it is read, and again while it is: a chunked body announces nothing.
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
